"""What comes behind the encoder: poolings, dense layers and lengths, as the modules of a folder say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import BundleError
from export import weights
from export.block import NORM, Head
from export.folder import Module

Float32 = NDArray[np.float32]

# Of sentence-transformers, in the order in which it puts several side by side: the old key, the new name, ours.
_POOLINGS: Final = (
    ("pooling_mode_cls_token", "cls", "cls"),
    ("pooling_mode_max_tokens", "max", "max"),
    ("pooling_mode_mean_tokens", "mean", "mean"),
    ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", "sqrt"),
    ("pooling_mode_weightedmean_tokens", "weightedmean", "weighted"),
    ("pooling_mode_lasttoken", "lasttoken", "last"),
)
# By their names: models that are to be normalized before a cut, as their cards say and their folders do not.
_NORMED_IF_CUT: Final = re.compile(r"nomic-embed-text-v1\.5")
_ACTIVATIONS: Final = {"Tanh": "tanh", "Identity": "identity", "GELU": "gelu", "ReLU": "relu", "SiLU": "silu"}


def read(
    folder: Path, modules: Sequence[Module], width: int, cut: int | None, prompted: bool, names: str
) -> tuple[Head, dict[str, Float32]]:
    """The head and its tensors, `head.N.weight` and `head.N.bias`.

    modules: those behind the encoder. width: entries of its vectors. cut: entries to keep, of a model trained for it.
    prompted: whether there are prompts. names: by which the model is known. Raises BundleError for what is not known.
    """
    if not modules or modules[0].kind != "Pooling":
        kinds = [module.kind for module in modules]
        raise _refusal(folder, "a Pooling behind the encoder", f"{kinds!r:.200}")
    poolings = _poolings(folder, modules[0].config(), prompted)
    size, steps, tensors = width * len(poolings), list[str](), dict[str, Float32]()
    for module in modules[1:]:
        if module.kind == "Dropout":
            continue
        step, found = _step(folder, module)
        if (inputs := found["weight"].shape[-1] if found else size) != size:
            raise _refusal(folder, f"a {module.kind} of {size} inputs", str(inputs))
        size = len(found["weight"]) if found else size
        tensors |= _named(f"head.{len(steps)}", found)
        steps.append(step)
    while steps and steps[-1] == "normalize":
        # The last length is always 1.
        steps.pop()
    if cut is not None and not (isinstance(cut, int) and 0 < cut <= size):
        raise _refusal(folder, f"--dim of at most {size}", repr(cut), "give another")
    is_cut = cut is not None and cut < size
    if is_cut and NORM not in steps and _NORMED_IF_CUT.search(names.lower()):
        plain = {"weight": np.ones(size, np.float32), "bias": np.zeros(size, np.float32)}
        tensors |= _named(f"head.{len(steps)}", plain)
        steps.append(NORM)
    return Head(poolings, tuple(steps), cut or size, is_cut), tensors


def _step(folder: Path, module: Module) -> tuple[str, dict[str, Float32]]:
    match module.kind:
        case "Normalize":
            return "normalize", {}
        case "LayerNorm":
            return NORM, _tensors(module, "norm.", {"weight", "bias"})
        case "Dense":
            return _activation(folder, module.config()), _tensors(module, "linear.", {"weight"})
    raise _refusal(
        folder, "the modules Transformer, Pooling, Dense, LayerNorm and Normalize", f"{module.kind!r:.80}"
    )


def _poolings(folder: Path, config: Mapping[str, Any], prompted: bool) -> tuple[str, ...]:
    named = config.get("pooling_mode")
    if named is None:
        found = tuple(ours for old, _, ours in _POOLINGS if config.get(old))
    else:
        known = {new: ours for _, new, ours in _POOLINGS}
        asked = [named] if isinstance(named, str) else list(named)
        found = tuple(known.get(name, "") for name in asked)
    if not found or "" in found:
        names = ", ".join(new for _, new, _ in _POOLINGS)
        raise _refusal(folder, f"a pooling of {names}", f"{config!r:.200}")
    if prompted and config.get("include_prompt") is False and found != ("cls",):
        raise _refusal(
            folder,
            "a pooling of all tokens",
            "one that leaves the prompt's out",
            "pass --no-prompt, or choose another",
        )
    return found


def _named(name: str, found: Mapping[str, Float32]) -> dict[str, Float32]:
    return {f"{name}.{kind}": tensor for kind, tensor in found.items()}


def _tensors(module: Module, prefix: str, needed: set[str]) -> dict[str, Float32]:
    found = {name.removeprefix(prefix): tensor for name, tensor in weights.read(module.path).items()}
    if needed - found.keys() or found.keys() - {"weight", "bias"}:
        raise _refusal(module.path, f"the tensors {prefix}weight and {prefix}bias", f"{sorted(found)!r:.200}")
    return found


def _activation(folder: Path, config: Mapping[str, Any]) -> str:
    name = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    if name not in _ACTIVATIONS or config.get("use_residual"):
        raise _refusal(
            folder, f"a Dense with one of {', '.join(_ACTIVATIONS)} and no more", f"{config!r:.200}"
        )
    return _ACTIVATIONS[name]


def _refusal(folder: Path, expected: str, found: str, remedy: str = "choose another model") -> BundleError:
    return BundleError(f"expected {expected}, {folder} has {found}: {remedy}")
