"""A codec that is learned: ranking by code is drawn to ranking by float vector.

It starts from `Codec.fit` and learns both projections and their thresholds. For every width, the KL divergence
of the scores by code from the teacher's cosines, over a batch of queries and documents, is made small; signs are
tanh made steeper step by step (HashNet: Cao et al., ICCV 2017), and each bit is asked to be one for half of the
documents.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edgeret.codec import Codec

_QUERIES, _DOCUMENTS = 256, 2048
_TOPIC: Final = 6000
_TEMPERATURE: Final = 0.05
_RATE: Final = 1e-3
_SLOPES: Final = (1.0, 12.0)
_BALANCE: Final = 0.1
_SHOWN_EVERY: Final = 50


class _Learned(nn.Module):
    """The four arrays of a codec, and for each width the factor from scores by code to scaled cosines."""

    def __init__(self, codec: Codec, vectors: Tensor) -> None:
        super().__init__()
        self.widths = codec.widths
        unit = float(np.abs(codec.projection).max() / np.abs(codec.query_projection).max())
        self.projection = nn.Parameter(torch.tensor(codec.projection / unit, dtype=torch.float32))
        self.thresholds = nn.Parameter(torch.tensor(codec.thresholds / unit, dtype=torch.float32))
        self.query_projection = nn.Parameter(torch.tensor(codec.query_projection))
        self.query_thresholds = nn.Parameter(torch.tensor(codec.query_thresholds))
        with torch.no_grad():
            projected = vectors @ self.projection - self.thresholds
            self.register_buffer("spread", projected.std(0))
            cosines = (vectors @ vectors.T).std() / _TEMPERATURE
            weights = vectors @ self.query_projection - self.query_thresholds
            spans = [(weights[:, :bits] @ projected[:, :bits].sign().T).std() for bits in self.widths]
            self.factors = nn.Parameter(torch.log(cosines / torch.stack(spans)))

    def loss(self, queries: Tensor, documents: Tensor, slope: float) -> Tensor:
        wanted = (queries @ documents.T / _TEMPERATURE).softmax(1)
        projected = (documents @ self.projection - self.thresholds) / self.spread
        signs = torch.tanh(slope * projected)
        weights = queries @ self.query_projection - self.query_thresholds
        total = _BALANCE * (signs.mean(0) ** 2).sum()
        for number, bits in enumerate(self.widths):
            scores = weights[:, :bits] @ signs[:, :bits].T * self.factors[number].exp()
            total = total + functional.kl_div(scores.log_softmax(1), wanted, reduction="batchmean")
        return total

    def codec(self) -> Codec:
        """The codec as bundles store it."""
        projection = self.projection.detach().double().cpu().numpy()
        scale = np.iinfo(np.int16).max / np.abs(projection).max()
        queries = self.query_projection.detach().cpu().numpy().astype(np.float16).astype(np.float32)
        return Codec(
            projection=np.rint(projection * scale).astype(np.int16),
            thresholds=self.thresholds.detach().double().cpu().numpy() * scale,
            query_projection=queries,
            query_thresholds=self.query_thresholds.detach().cpu().numpy(),
            widths=self.widths,
        )


def learn(start: Codec, vectors: NDArray[np.floating], steps: int, seed: int, device: str = "cpu") -> Codec:
    """Return `start` after so many steps of training on unit vectors [n, dim]."""
    rng = np.random.default_rng(seed)
    units = functional.normalize(torch.from_numpy(vectors.astype(np.float32)), dim=1).to(device)

    def drawn(count: int, among: Tensor) -> Tensor:
        return among[torch.from_numpy(rng.integers(len(among), size=count)).to(device)]

    learned = _Learned(start, drawn(_DOCUMENTS, units).cpu()).to(device)
    optimizer = torch.optim.Adam(learned.parameters(), lr=_RATE)
    low, high = _SLOPES
    for step in range(steps):
        progress = step / steps
        for group in optimizer.param_groups:
            group["lr"] = _RATE * (1 - progress)
        # Texts of one topic are the hard cases: TAS-B, Hofstätter et al. (SIGIR 2021).
        nearest = torch.topk(units @ drawn(1, units)[0], min(_TOPIC, len(units))).indices
        among = units[nearest]
        found = learned.loss(drawn(_QUERIES, among), drawn(_DOCUMENTS, among), low * (high / low) ** progress)
        optimizer.zero_grad(set_to_none=True)
        found.backward()
        optimizer.step()
        if (step + 1) % _SHOWN_EVERY == 0:
            print(f"step {step + 1} of {steps}, loss {found.item():.4f}", flush=True)
    return learned.codec()
