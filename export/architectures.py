"""Kinds of encoders, a page of differences each: how the settings say it, and what the tensors are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import BundleError
from export.block import EMBEDDED, POSITIONS, TABLE, Architecture, layer_name, names

Float32 = NDArray[np.float32]
Config = Mapping[str, Any]
Tensors = dict[str, Float32]

ACTIVATIONS: Final = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_new",
    "gelu_fast": "gelu_new",
    "gelu_pytorch_tanh": "gelu_new",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}
# What training and other uses leave in a file, and no vector needs.
_LEFT: Final = re.compile(
    r"(^|\.)(pooler|cls|lm_head|classifier|predictions|vocab_\w+|qa_outputs|position_ids)\.|position_ids$|^rotary"
)


class Page(NamedTuple):
    """One kind of encoder.

    table: the name of its token table, before which all its names have the same prefix. describe: its settings, read.
    renamed: its names to BERT's, patterns in order. shaped: what else its tensors need, or nothing.
    """

    table: str
    describe: Callable[[Config], Architecture]
    renamed: tuple[tuple[str, str], ...] = ()
    shaped: Callable[[Tensors, Config], Tensors] | None = None


def _bert(config: Config) -> Architecture:
    return Architecture(
        name=str(config["model_type"]),
        layers=int(config["num_hidden_layers"]),
        heads=int(config["num_attention_heads"]),
        epsilon=float(config.get("layer_norm_eps", 1e-12)),
        activation=_activation(config.get("hidden_act", "gelu")),
        types=bool(config.get("type_vocab_size", 2)),
    )


# RoBERTa, XLM-RoBERTa and CamemBERT are BERT, their positions counted from behind the padding's.
def _behind_padding(tensors: Tensors, config: Config) -> Tensors:
    padding = config.get("pad_token_id")
    first = (1 if padding is None else int(padding)) + 1
    name = f"{POSITIONS}.weight"
    return tensors | ({name: tensors[name][first:]} if name in tensors else {})


# DistilBERT is BERT without types.
def _distilbert(config: Config) -> Architecture:
    return Architecture(
        name="distilbert",
        layers=int(config["n_layers"]),
        heads=int(config["n_heads"]),
        epsilon=1e-12,
        activation=_activation(config.get("activation", "gelu")),
        types=False,
    )


# MPNet is RoBERTa without types, with a bias of the attention by distance.
def _mpnet(config: Config) -> Architecture:
    return replace(_bert(config), types=False, relative=True)


# ALBERT is BERT with narrow tokens and few sets of weights for its layers.
def _albert(config: Config) -> Architecture:
    if int(config.get("inner_group_num", 1)) != 1:
        raise _unknown("inner_group_num", config["inner_group_num"])
    return replace(
        _bert(dict(config) | {"hidden_act": config.get("hidden_act", "gelu_new")}), widened=True, shared=True
    )


def _repeated(tensors: Tensors, config: Config) -> Tensors:
    layers, groups = int(config["num_hidden_layers"]), int(config.get("num_hidden_groups", 1))
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith("group.")}
    for layer in range(layers):
        group = f"group.{layer * groups // layers}."
        found |= {
            f"encoder.layer.{layer}.{name.removeprefix(group)}": tensor
            for name, tensor in tensors.items()
            if name.startswith(group)
        }
    return found


# ModernBERT turns by position, looks around in most layers and at all in some, gates, and normalizes first.
def _modernbert(config: Config) -> Architecture:
    layers = int(config["num_hidden_layers"])
    every = int(config.get("global_attn_every_n_layers", 3))
    kinds = config.get("layer_types") or [
        "sliding_attention" if layer % every else "full_attention" for layer in range(layers)
    ]
    bases = {
        "full_attention": float(config.get("global_rope_theta", 160_000.0)),
        "sliding_attention": float(config.get("local_rope_theta") or 10_000.0),
    }
    for kind, found in (config.get("rope_parameters") or {}).items():
        if kind in bases and found is not None:
            bases[kind] = _base(found, bases[kind])
    reach = int(config.get("local_attention", 128)) // 2
    if config.get("attention_bias") or config.get("mlp_bias"):
        raise _unknown("attention_bias or mlp_bias", True)
    return Architecture(
        name="modernbert",
        layers=layers,
        heads=int(config["num_attention_heads"]),
        epsilon=float(config.get("norm_eps", 1e-5)),
        activation=_activation(config.get("hidden_activation", "gelu")),
        positions=False,
        types=False,
        gated=True,
        norm_first=True,
        rotary=tuple(bases[kind] for kind in kinds),
        reach=tuple(reach if kind == "sliding_attention" else 0 for kind in kinds),
        dense_bias=False,
        norm_bias=bool(config.get("norm_bias", False)),
    )


def _split(tensors: Tensors, config: Config) -> Tensors:
    """Layers that are side by side in one matrix, by their names."""
    found = dict(tensors)
    for parts in (
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        ("intermediate.dense", "intermediate.gate"),
    ):
        joined = "+".join(part.rpartition(".")[2] for part in parts)
        for name in [name for name in found if name.endswith((f"{joined}.weight", f"{joined}.bias"))]:
            layer, _, kind = name.rpartition(f"{joined}.")
            rows = np.split(found.pop(name), len(parts))
            found |= {f"{layer}{part}.{kind}": row for part, row in zip(parts, rows, strict=True)}
    return found


# NomicBERT turns by position and gates; its types stay.
def _nomic(config: Config) -> Architecture:
    layers = int(config.get("num_hidden_layers") or config["n_layer"])
    base = _base(config.get("rope_parameters") or {}, float(config.get("rotary_emb_base", 1000.0)))
    return Architecture(
        name="nomic_bert",
        layers=layers,
        heads=int(config.get("num_attention_heads") or config["n_head"]),
        epsilon=float(config.get("layer_norm_eps") or config.get("layer_norm_epsilon") or 1e-12),
        activation=_activation(
            {"swiglu": "silu"}.get(config.get("activation_function"), config.get("hidden_act", "silu"))
        ),
        positions=False,
        types=bool(config.get("type_vocab_size", 2)),
        gated=True,
        rotary=(base,) * layers,
        dense_bias=False,
    )


_ROBERTA: Final = Page(f"{TABLE}.weight", _bert, (), _behind_padding)

PAGES: Final[dict[str, Page]] = {
    "bert": Page(f"{TABLE}.weight", _bert),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "distilbert": Page(
        f"{TABLE}.weight",
        _distilbert,
        (
            (r"^transformer\.layer\.", "encoder.layer."),
            (r"\.attention\.q_lin\.", ".attention.self.query."),
            (r"\.attention\.k_lin\.", ".attention.self.key."),
            (r"\.attention\.v_lin\.", ".attention.self.value."),
            (r"\.attention\.out_lin\.", ".attention.output.dense."),
            (r"\.sa_layer_norm\.", ".attention.output.LayerNorm."),
            (r"\.ffn\.lin1\.", ".intermediate.dense."),
            (r"\.ffn\.lin2\.", ".output.dense."),
            (r"\.output_layer_norm\.", ".output.LayerNorm."),
        ),
    ),
    "mpnet": Page(
        f"{TABLE}.weight",
        _mpnet,
        (
            (r"\.attention\.attn\.q\.", ".attention.self.query."),
            (r"\.attention\.attn\.k\.", ".attention.self.key."),
            (r"\.attention\.attn\.v\.", ".attention.self.value."),
            (r"\.attention\.attn\.o\.", ".attention.output.dense."),
            (r"\.attention\.LayerNorm\.", ".attention.output.LayerNorm."),
        ),
        _behind_padding,
    ),
    "albert": Page(
        f"{TABLE}.weight",
        _albert,
        (
            (r"^encoder\.albert_layer_groups\.(\d+)\.albert_layers\.0\.", r"group.\1."),
            (r"\.attention\.(query|key|value)\.", r".attention.self.\1."),
            (r"\.attention\.dense\.", ".attention.output.dense."),
            (r"\.attention\.LayerNorm\.", ".attention.output.LayerNorm."),
            (r"\.ffn\.", ".intermediate.dense."),
            (r"\.ffn_output\.", ".output.dense."),
            (r"\.full_layer_layer_norm\.", ".output.LayerNorm."),
        ),
        _repeated,
    ),
    "modernbert": Page(
        "embeddings.tok_embeddings.weight",
        _modernbert,
        (
            (r"^embeddings\.tok_embeddings\.", f"{TABLE}."),
            (r"^embeddings\.norm\.", "embeddings.LayerNorm."),
            (r"^layers\.", "encoder.layer."),
            (r"\.attn_norm\.", ".attention.output.LayerNorm."),
            (r"\.attn\.Wqkv\.", ".query+key+value."),
            (r"\.attn\.Wo\.", ".attention.output.dense."),
            (r"\.mlp_norm\.", ".output.LayerNorm."),
            (r"\.mlp\.Wi\.", ".dense+gate."),
            (r"\.mlp\.Wo\.", ".output.dense."),
            (r"^final_norm\.", "encoder.LayerNorm."),
        ),
        _split,
    ),
    "nomic_bert": Page(
        f"{TABLE}.weight",
        _nomic,
        (
            (r"^emb_ln\.", "embeddings.LayerNorm."),
            (r"^(encoder\.)?layers\.", "encoder.layer."),
            (r"\.(attn)\.Wqkv\.", ".query+key+value."),
            (r"\.attn\.out_proj\.", ".attention.output.dense."),
            (r"\.norm1\.", ".attention.output.LayerNorm."),
            (r"\.norm2\.", ".output.LayerNorm."),
            # It is the second that is activated.
            (r"\.mlp\.fc11\.", ".intermediate.gate."),
            (r"\.mlp\.fc12\.", ".intermediate.dense."),
            (r"\.mlp\.fc2\.", ".output.dense."),
            (r"\.self_attn\.q_proj\.", ".attention.self.query."),
            (r"\.self_attn\.k_proj\.", ".attention.self.key."),
            (r"\.self_attn\.v_proj\.", ".attention.self.value."),
            (r"\.self_attn\.o_proj\.", ".attention.output.dense."),
            (r"\.post_attention_layernorm\.", ".attention.output.LayerNorm."),
            (r"\.post_mlp_layernorm\.", ".output.LayerNorm."),
            (r"\.mlp\.gate_proj\.", ".intermediate.dense."),
            (r"\.mlp\.up_proj\.", ".intermediate.gate."),
            (r"\.mlp\.down_proj\.", ".output.dense."),
        ),
        _split,
    ),
}


def understood(folder: Path, config: Config, found: Tensors) -> tuple[Architecture, Tensors, list[str]]:
    """The shape of an encoder, its tensors by BERT's names, and what is left over.

    Raises BundleError for a kind that is not among `PAGES`, for settings that are not known, and for tensors that lack.
    """
    page, shape = _described(folder, config)
    inner, left = _inside(folder, page, found)
    renamed = {}
    for name, tensor in inner.items():
        for pattern, new in page.renamed:
            name = re.sub(pattern, new, name)
        renamed[name] = tensor
    tensors = renamed if page.shaped is None else page.shaped(renamed, config)
    wanted = names(shape)
    if missing := sorted(wanted - tensors.keys()):
        raise _refusal(
            folder, f"a tensor {missing[0]}", f"none, and {len(missing)} missing", "fetch the model again"
        )
    kept = {name: tensor for name, tensor in tensors.items() if name in wanted}
    _check_shapes(folder, shape, kept)
    left += sorted(tensors.keys() - wanted)
    return shape, kept, [name for name in left if not _LEFT.search(name)]


def _described(folder: Path, config: Config) -> tuple[Page, Architecture]:
    kind = config.get("model_type")
    if kind not in PAGES:
        raise BundleError(
            f"expected an encoder of type {', '.join(PAGES)}, {folder} has {kind!r:.80}: choose a model of these"
        )
    for key, plain in (("position_embedding_type", "absolute"), ("is_decoder", False)):
        if config.get(key) not in (None, plain):
            raise _refusal(folder, f"{key} {plain!r}", f"{config[key]!r:.80}")
    try:
        shape = PAGES[kind].describe(config)
        if min(shape.layers, shape.heads) < 1:
            raise _unknown("layers and heads", (shape.layers, shape.heads))
        return PAGES[kind], shape
    except KeyError as error:
        raise _refusal(folder, f"{error} in config.json", "none", "fetch the model again") from error
    except (TypeError, ValueError) as error:
        raise _refusal(folder, "settings that are known", str(error)) from error


def _inside(folder: Path, page: Page, found: Tensors) -> tuple[Tensors, list[str]]:
    """The encoder's tensors without what their names begin with, and the names of the others."""
    if adapters := sorted(name for name in found if ".lora_" in name):
        raise _refusal(
            folder, "whole weights", repr(adapters[0]), "merge the adapter into the model, and save it"
        )
    tables = [name for name in found if name.endswith(page.table)]
    if len(tables) != 1:
        raise _refusal(folder, f"one tensor {page.table}", f"{tables or 'none'}", "fetch the model again")
    prefix = tables[0].removesuffix(page.table)
    inside = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    return inside, [name for name in found if not name.startswith(prefix)]


def _check_shapes(folder: Path, shape: Architecture, tensors: Tensors) -> None:
    width = len(tensors["encoder.layer.0.attention.self.query.weight"])
    if width % shape.heads:
        raise _refusal(folder, f"a width that {shape.heads} heads divide", str(width))
    inner = len(tensors["encoder.layer.0.intermediate.dense.weight"])
    table = tensors[f"{TABLE}.weight"]
    narrow = table.shape[-1] if shape.widened else width
    parts: dict[str, tuple[int, ...]] = {
        "attention.self.query.weight": (width, width),
        "attention.self.key.weight": (width, width),
        "attention.self.value.weight": (width, width),
        "attention.output.dense.weight": (width, width),
        "intermediate.dense.weight": (inner, width),
        "output.dense.weight": (width, inner),
    }
    expected = {
        f"{layer_name(layer)}{part}": size for layer in range(shape.layers) for part, size in parts.items()
    }
    for name, tensor in tensors.items():
        if name.startswith(EMBEDDED):
            expected[name] = (narrow,)
        elif name.startswith("embeddings."):
            expected[name] = (len(tensor), narrow)
        elif ".LayerNorm." in name:
            expected[name] = (width,)
        elif name.endswith(".bias"):
            expected[name] = (len(tensors[f"{name.removesuffix('bias')}weight"]),)
    for name, size in expected.items():
        if tensors[name].shape != size:
            raise _refusal(folder, f"{name} of {size}", str(tensors[name].shape))


def _activation(name: Any) -> str:
    if name not in ACTIVATIONS:
        raise _unknown("an activation", name)
    return ACTIVATIONS[name]


def _base(rope: Mapping[str, Any], otherwise: float) -> float:
    if rope.get("rope_type", "default") != "default":
        raise _unknown("rope_type", rope["rope_type"])
    return float(rope.get("rope_theta", otherwise))


def _unknown(what: str, found: Any) -> ValueError:
    return ValueError(f"{what} {found!r:.80}")


def _refusal(folder: Path, expected: str, found: str, remedy: str = "choose another model") -> BundleError:
    return BundleError(f"expected {expected}, {folder} has {found}: {remedy}")
