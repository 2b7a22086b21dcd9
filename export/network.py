"""The encoder in torch: the teacher for many texts at once, and the student while it learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from export.teacher import Teacher

TABLE: Final = "embeddings.word_embeddings.weight"
_BATCH_TOKENS: Final = {"cpu": 8192, "cuda": 262_144}
_MASKED: Final = -1e4


class Network(nn.Module):
    """A BERT-like encoder with the weights of a `Teacher`, by their names.

    table_bits, weight_bits: 0 trains in full precision; else the forward pass sees what so many bits leave
    of the token table and of the dense layers, and the gradient passes by (straight-through: Bengio et al., 2013).
    """

    mixed = True

    def __init__(self, teacher: Teacher, table_bits: int = 0, weight_bits: int = 0) -> None:
        super().__init__()
        self.heads, self.layers, self.pooling = teacher.heads, teacher.layers, teacher.pooling
        self.epsilon = teacher.epsilon
        self.table_bits, self.weight_bits = table_bits, weight_bits
        self.named = nn.ParameterDict(
            {_key(name): nn.Parameter(torch.tensor(array)) for name, array in teacher.weights.items()}
        )

    def optimizers(self, rate: float) -> list[torch.optim.Optimizer]:
        """Muon (Jordan et al., 2024) for the layers' matrices, with steps as large as AdamW's; AdamW for the rest."""
        matrices = {
            name for name, value in self.named.items() if name.startswith("encoder/") and value.ndim == 2
        }
        inner = [value for name, value in self.named.items() if name in matrices]
        rest = [value for name, value in self.named.items() if name not in matrices]
        return [
            torch.optim.Muon(inner, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=rate, weight_decay=0.0, fused=True),
        ]

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by the teacher's names, float32."""
        return {
            name.replace("/", "."): value.detach().float().cpu().numpy() for name, value in self.named.items()
        }

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [n, tokens] and which of them count, bool [n, tokens] -> unit vectors [n, dim]."""
        table = self._weight(TABLE)
        if self.table_bits:
            ids, rows = used_rows(ids, table)
            table = fake_quantize(rows, self.table_bits)
        positions = self._weight("embeddings.position_embeddings.weight")[: ids.shape[1]]
        types = self._weight("embeddings.token_type_embeddings.weight")[0]
        x = self._norm(functional.embedding(ids, table) + positions + types, "embeddings.LayerNorm")
        attended = mask[:, None, None, :]
        for layer in range(self.layers):
            prefix = f"encoder.layer.{layer}."
            attention = self._attention(x, attended, prefix + "attention.")
            x = self._norm(x + attention, prefix + "attention.output.LayerNorm")
            inner = functional.gelu(self._dense(x, prefix + "intermediate.dense"))
            x = self._norm(x + self._dense(inner, prefix + "output.dense"), prefix + "output.LayerNorm")
        x = x.float()
        pooled = (
            x[:, 0] if self.pooling == "cls" else (x * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        )
        return functional.normalize(pooled, dim=1)

    def _attention(self, x: Tensor, attended: Tensor, prefix: str) -> Tensor:
        query, key, value = (
            self._dense(x, f"{prefix}self.{part}").unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        # Not torch's fused attention: on a CPU the gradient of that takes twice as long as all else together.
        scores = (query / query.shape[-1] ** 0.5) @ key.transpose(2, 3)
        context = scores.masked_fill(~attended, _MASKED).softmax(3).to(value.dtype) @ value
        return self._dense(context.transpose(1, 2).flatten(2), prefix + "output.dense")

    def _dense(self, x: Tensor, name: str) -> Tensor:
        weight = self._weight(name + ".weight")
        if self.weight_bits:
            weight = fake_quantize(weight, self.weight_bits)
        return functional.linear(x, weight, self._weight(name + ".bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self._weight(name + ".weight"), self._weight(name + ".bias")
        return functional.layer_norm(x, x.shape[-1:], weight, bias, self.epsilon)

    def _weight(self, name: str) -> Tensor:
        return self.named[_key(name)]


def fake_quantize(rows: Tensor, bits: int) -> Tensor:
    """Rows [n, dim] as symmetric integers of `bits` bits leave them, one scale for each row."""
    top = 2 ** (bits - 1) - 1
    scale = rows.detach().abs().amax(1, keepdim=True).clamp_min(1e-12) / top
    return rows + (torch.round(rows.detach() / scale) * scale - rows.detach())


def pad(ids: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids of several lengths -> int64 [n, longest] and bool [n, longest]."""
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.zeros(mask.shape, dtype=np.int64)
    padded[mask] = np.concatenate([np.asarray(row) for row in ids])
    return torch.from_numpy(padded).to(device), torch.from_numpy(mask).to(device)


@torch.no_grad()
def encode(network: Network, ids: Sequence[Sequence[int]]) -> np.ndarray:
    """Token ids of many texts -> float32 unit vectors [n, dim], in bfloat16 inside; long texts first."""
    device = next(network.parameters()).device
    vectors = np.empty((len(ids), network.named[_key(TABLE)].shape[1]), dtype=np.float32)
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    start = 0
    while start < len(order):
        stop = start + max(1, _BATCH_TOKENS[device.type] // len(ids[order[start]]))
        part = order[start:stop]
        with torch.autocast(device.type, torch.bfloat16):
            vectors[part] = network(*pad([ids[row] for row in part], device)).float().cpu().numpy()
        start = stop
    return vectors


def used_rows(ids: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """The rows that a batch uses, so that no others are quantized, and the ids among them."""
    used, inverse = torch.unique(ids, return_inverse=True)
    return inverse, functional.embedding(used, table)


def _key(name: str) -> str:
    return name.replace(".", "/")
