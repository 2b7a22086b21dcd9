"""The static student: a sum of token embeddings and a small network that corrects its direction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from export.codes import Coded
from export.convert import quantize_rows
from export.network import fake_quantize, used_rows
from export.rows import packed

if TYPE_CHECKING:
    Float32 = NDArray[np.float32]

HIDDEN: Final = 512
BITS: Final = 4
_TOP: Final = 2 ** (BITS - 1) - 1
# A table's step is a share of its entries: those of frequent tokens are small.
_TABLE_RATE: Final = 20.0
_LEAST_APART: Final = 0.1


class Static(nn.Module):
    """The student in torch; `tensors` are what edgeret's StaticBackend reads.

    table: float32 [vocabulary, dim], each row with its token's weight; or one that learns as product codes. center:
    float32 [dim], the mean of the teacher's vectors; then the table is of what they have beside it.
    """

    mixed = False

    def __init__(self, table: Float32 | Coded, center: Float32 | None = None, hidden: int = HIDDEN) -> None:
        super().__init__()
        self.coded = table if isinstance(table, Coded) else None
        if not isinstance(table, Coded):
            self.table = nn.Parameter(torch.from_numpy(table / table.std()))
        dim = table.rows.shape[1] if isinstance(table, Coded) else table.shape[1]
        self.scale = dim**0.5
        self.inner, self.outer = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        nn.init.zeros_(self.outer.weight)
        if center is not None:
            # As much of it beside a unit vector as brings the sum as near to it as the teacher's vectors are.
            apart = max(1 - float(center @ center), _LEAST_APART) ** 0.5
            self.outer.bias = nn.Parameter(torch.from_numpy(center * np.float32(self.scale / apart)))

    def optimizers(self, rate: float) -> list[torch.optim.Optimizer]:
        """AdamW, with a rate of its own for the table."""
        head = [*self.inner.parameters(), *self.outer.parameters()]
        if self.coded:
            own = torch.optim.AdamW(head, lr=rate, weight_decay=0.0, fused=True)
            return [own, *self.coded.optimizers(rate * _TABLE_RATE)]
        groups = [{"params": [self.table], "lr": rate * _TABLE_RATE}, {"params": head, "lr": rate}]
        return [torch.optim.AdamW(groups, weight_decay=0.0, fused=True)]

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [n, tokens] and which of them count, bool [n, tokens] -> unit vectors [n, dim]."""
        ids, rows = used_rows(ids, self.coded or self.table)
        if not self.coded:
            rows = fake_quantize(rows, BITS)
        total = functional.embedding_bag(ids, rows, mode="sum", per_sample_weights=mask.to(rows.dtype))
        total = functional.normalize(total, dim=1)
        return functional.normalize(
            total + self.outer(functional.relu(self.inner(total * self.scale))) / self.scale, dim=1
        )

    def tensors(self) -> dict[str, dict[str, NDArray[Any]]]:
        """The bundle's tensors, by file."""
        if self.coded:
            tokens = self.coded.tensors()
        else:
            rows, scales = quantize_rows(self.table.detach().cpu().numpy(), _TOP)
            tokens = {"tokens": packed(rows), "token_scales": scales}
        head: dict[str, NDArray[Any]] = {}
        for name, layer, factor in (("inner", self.inner, self.scale), ("outer", self.outer, 1 / self.scale)):
            weights = layer.weight.detach().cpu().numpy() * np.float32(factor)
            head[name], head[name + "_scales"] = quantize_rows(weights)
            # Only the outer layer's answer is scaled back; the inner one's bias is as it is.
            bias = layer.bias.detach().cpu().numpy()
            head[name + "_bias"] = bias / np.float32(self.scale) if name == "outer" else bias
        return {"tokens.bin": tokens, "head.bin": head}
