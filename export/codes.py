"""Product codes: a table whose rows are kept as one byte for every few entries (Jégou et al., TPAMI 2011).

A student learns through its codes: they follow the rows that they stand for, and the centroids learn beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

CENTROIDS: Final = 256
_FITTED: Final = 40_000
_ROUNDS: Final = 12
_AT_ONCE: Final = 4096
# A row moves little in a step: its codes are looked for again after so many.
_EVERY: Final = 4


class Coded(nn.Module):
    """A table that learns as its product codes are.

    rows: float32 [vocabulary, dim]. parts: the bytes of a row; they divide dim. frequencies: of each row, what the
    first centroids go by. own: rows that are in every text and have centroids of their own.
    """

    codes: Tensor

    def __init__(
        self,
        rows: Tensor,
        parts: int,
        frequencies: NDArray[np.floating],
        own: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        super().__init__()
        centroids = fit(rows, parts, frequencies, seed)
        for number, row in enumerate(own):
            centroids[:, number] = rows[row].view(parts, -1)
        self._own = own
        self.rows = nn.Parameter(rows)
        self.centroids = nn.Parameter(centroids)
        self.register_buffer("codes", torch.empty(len(rows), parts, dtype=torch.uint8, device=rows.device))
        self._look(torch.arange(len(rows)))
        self._turn = 0

    def forward(self, used: Tensor) -> Tensor:
        """What the codes leave of the rows with these numbers [n], [n, dim]; the gradient passes by the codes."""
        if not self.training:
            return decoded(self.codes[used], self.centroids)
        if self._turn % _EVERY == 0:
            self._look(used)
        self._turn += 1
        latent = functional.embedding(used, self.rows, sparse=True)
        return decoded(self.codes[used], self.centroids) + (latent - latent.detach())

    @torch.no_grad()
    def _look(self, used: Tensor) -> None:
        """Find the codes of rows."""
        self.codes[used] = nearest(self.rows[used], self.centroids)
        for number, row in enumerate(self._own):
            self.codes[row] = number

    @torch.no_grad()
    def settle(self) -> None:
        """Round the centroids as a bundle has them, and find the codes of all rows."""
        self.centroids.copy_(self.centroids.half())
        self._look(torch.arange(len(self.rows)))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """The tensors of a bundle's tokens.bin."""
        self.settle()
        return {
            "tokens": self.codes.cpu().numpy(),
            "token_centroids": self.centroids.detach().half().cpu().numpy(),
        }

    def optimizers(self, rate: float) -> list[torch.optim.Optimizer]:
        """Adam, for the rows that a batch has alone."""
        return [
            torch.optim.SparseAdam([self.rows], lr=rate),
            torch.optim.AdamW([self.centroids], lr=rate, weight_decay=0.0),
        ]


@torch.no_grad()
def fit(rows: Tensor, parts: int, frequencies: NDArray[np.floating], seed: int) -> Tensor:
    """Centroids [parts, 256, dim / parts]: k-means of each part by itself (Lloyd, 1982), of rows drawn by frequency."""
    rng = np.random.default_rng(seed)
    count = min(_FITTED, len(rows))
    drawn = rng.choice(len(rows), count, replace=False, p=frequencies / frequencies.sum())
    points = rows[torch.from_numpy(drawn)].view(count, parts, -1)
    found = (
        points[torch.from_numpy(rng.choice(count, CENTROIDS, replace=count < CENTROIDS))]
        .transpose(0, 1)
        .clone()
    )
    for _ in range(_ROUNDS):
        codes = nearest(points.flatten(1), found).long()
        places = (codes + torch.arange(parts) * CENTROIDS).flatten()
        sums = torch.zeros(parts * CENTROIDS, points.shape[2]).index_add_(0, places, points.flatten(0, 1))
        counts = torch.bincount(places, minlength=parts * CENTROIDS)[:, None]
        found = torch.where(counts > 0, sums / counts.clamp_min(1), found.flatten(0, 1)).view_as(found)
    return found


@torch.no_grad()
def nearest(rows: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each part of rows [n, dim]: uint8 [n, parts]."""
    halves = centroids.square().sum(2)[:, None] / 2
    found = []
    for some in rows.split(_AT_ONCE):
        points = some.view(len(some), len(centroids), -1).transpose(0, 1)
        # In bfloat16, as a network learns, near ones would be the same.
        with torch.autocast(rows.device.type, enabled=False):
            found.append(torch.baddbmm(halves, points, centroids.transpose(1, 2), alpha=-1).argmin(2).T)
    return torch.cat(found).to(torch.uint8)


def decoded(codes: Tensor, centroids: Tensor) -> Tensor:
    """The rows that codes [n, parts] stand for, [n, dim]."""
    parts, size, width = centroids.shape
    places = codes.long() + torch.arange(parts, device=codes.device) * size
    return functional.embedding(places, centroids.reshape(-1, width)).flatten(1)
