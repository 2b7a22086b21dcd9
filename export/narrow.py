"""Inner layers with fewer entries: those are left out for which the others can stand in.

Optimal brain surgeon (Hassibi and Stork, NeurIPS 1992) for whole entries: of a layer the one goes first whose loss
changes least what the layer gives on texts, when the weights of all others make up for it; then the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from torch import Tensor, nn

from export import training
from export.network import key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from export.network import Network
    from export.training import Tokens

_TEXTS: Final = 6000
_DAMPING: Final = 1e-3
_WIDE, _GATE, _OUT = "intermediate.dense", "intermediate.gate", "output.dense"


def inner_of(state: Mapping[str, Tensor]) -> int:
    """Entries of the inner layers of a layered student's state."""
    return len(state[f"named.{key(f'encoder.layer.0.{_WIDE}.weight')}"])


def is_inner(name: str) -> bool:
    """Whether a weight has as many rows or columns as an inner layer has entries, by its name."""
    return "attention" not in name and any(part in name for part in (_WIDE, _GATE, _OUT))


def cut(student: Network, inner: int) -> None:
    """Leave `inner` entries in each inner layer, whichever, for the state of a narrow student to be loaded."""
    ending = key(f"{_WIDE}.weight")
    for name in [name for name in student.named if name.endswith(ending)]:
        _keep(student, name.removesuffix(ending), torch.arange(len(student.named[name]))[:inner])


@torch.no_grad()
def narrow(student: Network, tokens: Tokens, inner: int, seed: int) -> None:
    """Leave `inner` entries in each inner layer: those that change least what it gives on some of the texts."""
    rows = np.random.default_rng(seed).permutation(len(tokens))[:_TEXTS]
    for name, moment in _moments(student, tokens.chosen(rows)).items():
        weight, bias = student.named[key(f"{name}.weight")], student.named.get(key(f"{name}.bias"))
        rows_of = torch.cat([weight.T, *([] if bias is None else [bias[None]])]).double()
        used, entries = len(rows_of), weight.shape[1]
        kept, made = _left(moment[:used, :used], rows_of, entries, inner)
        weight.copy_(made[:entries].T)
        if bias is not None:
            bias.copy_(made[-1])
        _keep(student, key(name.removesuffix(_OUT)), kept)


def _moments(student: Network, tokens: Tokens) -> dict[str, Tensor]:
    """Of each inner layer, by the name of the one behind it, the second moments of its entries and of a one."""
    found: dict[str, Tensor] = {}

    def watch(name: str, x: Tensor) -> None:
        if name.endswith(_OUT) and is_inner(name):
            # In double precision: the network's own products may be in bfloat16.
            entries = torch.cat([x, x.new_ones(len(x), 1)], dim=1).double()
            found[name] = found.get(name, 0) + entries.T @ entries

    student.watch = watch
    training.encode(student, tokens)
    student.watch = None
    return found


def _left(moment: Tensor, weights: Tensor, entries: int, count: int) -> tuple[Tensor, Tensor]:
    """`count` of the first `entries` rows of `weights`, by their places, and all as they make up for the others."""
    weights, alive = weights.clone(), torch.ones(len(moment), dtype=torch.bool, device=moment.device)
    alive[entries:] = False
    # Entries differ a thousandfold in size: each is damped by its own.
    inverse = torch.linalg.inv(moment + _DAMPING * torch.diag(moment.diagonal()))
    for _ in range(entries - count):
        harm = weights.square().sum(1) / inverse.diagonal()
        gone = int(torch.where(alive, harm, torch.inf).argmin())
        column = inverse[:, gone].clone()
        weights -= column[:, None] * (weights[gone] / column[gone])
        inverse -= torch.outer(column, column) / column[gone]
        alive[gone] = False
        weights[gone], inverse[gone], inverse[:, gone], inverse[gone, gone] = 0, 0, 0, 1
    return torch.nonzero(alive)[:, 0], weights


def _keep(student: Network, prefix: str, kept: Tensor) -> None:
    parts = (f"{_WIDE}.weight", f"{_WIDE}.bias", f"{_GATE}.weight", f"{_GATE}.bias", f"{_OUT}.weight")
    for name in (prefix + key(part) for part in parts):
        if (found := student.named.get(name)) is not None:
            axis = int(name.endswith(key(f"{_OUT}.weight")))
            student.named[name] = nn.Parameter(found.detach().index_select(axis, kept.to(found.device)))
