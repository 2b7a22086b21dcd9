"""The encoder in torch: the teacher for many texts at once, and the student while it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from export import block
from export.codes import Coded, decoded

if TYPE_CHECKING:
    from export.teacher import Teacher

TABLE: Final = f"{block.TABLE}.weight"
_ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": functional.gelu,
    "relu": functional.relu,
    "silu": functional.silu,
    "tanh": torch.tanh,
}
_BATCH_TOKENS: Final = {"cpu": 8192, "cuda": 262_144}
_MASKED: Final = -1e4


class Network(nn.Module):
    """The encoder with the weights of a `Teacher`, by their names.

    table_bits, weight_bits: 0 trains in full precision; else the forward pass sees what so many bits leave
    of the token table and of the dense layers, and the gradient passes by (straight-through: Bengio et al., 2013).
    coded: the token table, where it learns as product codes. watch: is told the inputs of each dense layer by its name,
    [tokens, entries].
    """

    mixed = True
    watch: Callable[[str, Tensor], None] | None = None

    def __init__(
        self, teacher: Teacher, table_bits: int = 0, weight_bits: int = 0, coded: Coded | None = None
    ) -> None:
        super().__init__()
        self.shape, self.head, self.max_tokens = teacher.shape, teacher.head, teacher.max_tokens
        self.table_bits, self.weight_bits, self.coded = table_bits, weight_bits, coded
        self.named = nn.ParameterDict(
            {
                key(name): nn.Parameter(torch.tensor(array))
                for name, array in teacher.weights.items()
                if name != TABLE or not coded
            }
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
            *(self.coded.optimizers(rate) if self.coded else ()),
        ]

    def weights(self) -> dict[str, np.ndarray]:
        """The weights by the teacher's names, float32."""
        found = {
            name.replace("/", "."): value.detach().float().cpu().numpy() for name, value in self.named.items()
        }
        if self.coded:
            self.coded.settle()
            found[TABLE] = decoded(self.coded.codes, self.coded.centroids).detach().cpu().numpy()
        return found

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids [n, tokens] and which of them count, bool [n, tokens] -> unit vectors [n, dim]."""
        if self.coded:
            ids, table = used_rows(ids, self.coded)
        else:
            table = self.named[key(TABLE)]
            if self.table_bits:
                ids, rows = used_rows(ids, table)
                table = fake_quantize(rows, self.table_bits)
        worker = _Worker(self, mask)
        x = block.run(worker, functional.embedding(ids, table), self.shape)
        return block.pool(worker, x.float(), self.head)


class _Worker:
    """Carries out the steps of `export.block` on a batch of padded texts."""

    def __init__(self, network: Network, mask: Tensor) -> None:
        self.network, self.shape, self.mask = network, network.shape, mask
        self.length = mask.shape[1]

    def placed(self, x: Tensor) -> Tensor:
        if self.shape.positions:
            x = x + self._weight(f"{block.POSITIONS}.weight")[: self.length]
        return x + self._weight(f"{block.TYPES}.weight")[0] if self.shape.types else x

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight = self._found(f"{name}.weight")
        if weight is None:
            return x
        return functional.layer_norm(x, x.shape[-1:], weight, self._found(f"{name}.bias"), self.shape.epsilon)

    def dense(self, x: Tensor, name: str) -> Tensor:
        if self.network.watch:
            self.network.watch(name, x[self.mask])
        weight = self._weight(f"{name}.weight")
        if self.network.weight_bits:
            weight = fake_quantize(weight, self.network.weight_bits)
        return functional.linear(x, weight, self._found(f"{name}.bias"))

    def dense_pair(self, x: Tensor, names: tuple[str, str]) -> tuple[Tensor, Tensor]:
        return self.dense(x, names[0]), self.dense(x, names[1])

    def attention(self, x: Tensor, layer: int) -> Tensor:
        prefix = f"{block.layer_name(layer)}attention."
        query, key, value = (
            self.dense(x, f"{prefix}self.{part}").unflatten(2, (self.shape.heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        if self.shape.rotary:
            query, key = (self._turned(part, self.shape.rotary[layer]) for part in (query, key))
        # Not torch's fused attention: on a CPU the gradient of that takes twice as long as all else together.
        scores = (query / query.shape[-1] ** 0.5) @ key.transpose(2, 3)
        attended = self.mask[:, None, None, :]
        places = torch.arange(self.length, device=x.device)
        if self.shape.relative:
            rows = block.buckets((places[None] - places[:, None]).cpu().numpy())
            bias = functional.embedding(
                torch.from_numpy(rows).to(x.device), self._weight(f"{block.RELATIVE}.weight")
            )
            scores = scores + bias.permute(2, 0, 1)
        if self.shape.reach and self.shape.reach[layer]:
            attended = attended & ((places[None] - places[:, None]).abs() <= self.shape.reach[layer])
        context = scores.masked_fill(~attended, _MASKED).softmax(3).to(value.dtype) @ value
        return self.dense(context.transpose(1, 2).flatten(2), prefix + "output.dense")

    def _turned(self, x: Tensor, base: float) -> Tensor:
        cosines, sines = (
            torch.from_numpy(table).to(x.device) for table in block.angles(base, x.shape[-1], self.length)
        )
        one, other = x.chunk(2, dim=-1)
        return x * cosines + torch.cat([-other, one], dim=-1) * sines

    def activate(self, x: Tensor, activation: str) -> Tensor:
        return activated(x, activation)

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        return x + other

    def multiply(self, x: Tensor, other: Tensor) -> Tensor:
        return x * other

    def pooled(self, x: Tensor, poolings: Sequence[str]) -> Tensor:
        return torch.cat([self._pooled(x, pooling) for pooling in poolings], dim=-1)

    def _pooled(self, x: Tensor, pooling: str) -> Tensor:
        counts = self.mask.sum(1, keepdim=True)
        if pooling == "cls":
            return x[:, 0]
        if pooling == "last":
            return x[torch.arange(len(x), device=x.device), counts[:, 0] - 1]
        if pooling == "max":
            return x.masked_fill(~self.mask[..., None], -torch.inf).amax(1)
        shares = self.mask.float()
        if pooling == "weighted":
            shares = shares * torch.arange(1, self.length + 1, device=x.device)
        divisor = counts**0.5 if pooling == "sqrt" else shares.sum(1, keepdim=True)
        return (x * shares[..., None]).sum(1) / divisor

    def cut(self, x: Tensor, dim: int) -> Tensor:
        return x[:, :dim]

    def unit(self, x: Tensor) -> Tensor:
        return functional.normalize(x, dim=1)

    def _weight(self, name: str) -> Tensor:
        return self.network.named[key(name)]

    def _found(self, name: str) -> Tensor | None:
        return self.network.named.get(key(name), None)


def activated(x: Tensor, activation: str) -> Tensor:
    """X behind an activation of `export.block`."""
    if activation == "gelu_new":
        return functional.gelu(x, approximate="tanh")
    return x if activation == "identity" else _ACTIVATIONS[activation](x)


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
    vectors = np.empty((len(ids), network.head.dim), dtype=np.float32)
    order = sorted(range(len(ids)), key=lambda row: -len(ids[row]))
    start = 0
    while start < len(order):
        stop = start + max(1, _BATCH_TOKENS[device.type] // len(ids[order[start]]))
        part = order[start:stop]
        with torch.autocast(device.type, torch.bfloat16):
            vectors[part] = network(*pad([ids[row] for row in part], device)).float().cpu().numpy()
        start = stop
    return vectors


def named(weights: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """Weights by the teacher's names as the state of a `Network` has them."""
    return {f"named.{key(name)}": torch.tensor(array) for name, array in weights.items()}


def used_rows(ids: Tensor, table: Tensor | Coded) -> tuple[Tensor, Tensor]:
    """The rows that a batch uses, so that no others are quantized, and the ids among them."""
    used, inverse = torch.unique(ids, return_inverse=True)
    return inverse, table(used) if isinstance(table, Coded) else functional.embedding(used, table)


def key(name: str) -> str:
    """A weight's name as a `Network` has it: torch's lists of parameters have no dots in their names."""
    return name.replace(".", "/")
