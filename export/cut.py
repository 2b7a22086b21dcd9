"""A teacher with fewer tokens: those that texts need, and every character, so that nothing becomes unknown.

For tokenizers of type Unigram: a text whose best pieces are all kept gets the same pieces as before, and so the same
vector; any other gets shorter ones. Which pieces are needed is counted in each language by itself, and a piece is
worth its share of the language that has most of it: a rare word of a language with much text leaves before a common
one of a language with little.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import BundleError
from export import folder, text, weights
from export.block import TABLE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tokenizers import Tokenizer

Int64 = NDArray[np.int64]

# Of each language; where there are no blanks, a word is a sentence.
_WORDS: Final = 100_000
_AT_ONCE: Final = 20_000
_COPIED: Final = ("*.json", "*.md", "*_Pooling/*", "*_Normalize/*")


def counted(tokenizer: Tokenizer, files: Sequence[Path]) -> dict[str, Int64]:
    """How often each token occurs, int64 [vocabulary], by language.

    files: plain or .gz, a passage a line. Their names have their languages; all without one are of one more.
    """
    words: dict[str, Counter[str]] = {}
    for file in files:
        found = words.setdefault(text.language(file), Counter())
        for line in text.lines(file):
            found.update(line.split())
    return {language: _tokens(tokenizer, found) for language, found in words.items()}


def _tokens(tokenizer: Tokenizer, words: Counter[str]) -> Int64:
    """Each word is cut once, as no piece reaches over a blank, and of words met once no more than fill the number."""
    size = tokenizer.get_vocab_size()
    counts = np.zeros(size, np.int64)
    common = words.most_common(_WORDS)
    spelled, times = [word for word, _ in common], np.array([count for _, count in common], np.int64)
    for start in range(0, len(spelled), _AT_ONCE):
        part = tokenizer.encode_batch_fast(spelled[start : start + _AT_ONCE], add_special_tokens=False)
        weight = np.repeat(times[start : start + _AT_ONCE], [len(found.ids) for found in part])
        ids = np.fromiter((token for found in part for token in found.ids), np.int64, len(weight))
        counts += np.bincount(ids, weight, size).astype(np.int64)
    return counts


def kept(
    table: Mapping[str, Any], counts: Mapping[str, Int64], pieces: int, needed: Collection[int]
) -> list[int]:
    """The old ids of the tokens that are kept, ascending, at most `pieces`.

    table: the tokenizer.json. counts: as `counted` gives them. needed: ids that are kept whatever their count. Raises
    BundleError if what must be kept is more than `pieces`, and for a tokenizer of another type.
    """
    if table["model"]["type"] != "Unigram":
        raise BundleError(
            f"expected a tokenizer of type Unigram, found {table['model']['type']!r}: export the model as it is"
        )
    spelled = [piece for piece, _ in table["model"]["vocab"]]
    alone = {piece for piece in spelled if len(piece) == 1}
    must = {table["model"]["unk_id"], *needed, *(token["id"] for token in table["added_tokens"])}
    # A character that is no piece of its own is known as long as all that have it stay.
    must |= {id for id, piece in enumerate(spelled) if len(piece) == 1 or not alone.issuperset(piece)}
    if len(must) > pieces:
        raise BundleError(f"expected --pieces of at least {len(must)}, got {pieces}: every character is one")
    worth = np.max([found / max(found.sum(), 1) for found in counts.values()], axis=0)
    worth[list(must)] = np.inf
    order = np.argsort(-worth[: len(spelled)], kind="stable")[:pieces]
    return sorted(order[worth[order] > 0].tolist())


def write(teacher: Path, ids: Sequence[int], out: Path) -> None:
    """Write the folder of a teacher again, with these tokens alone, which keep their order."""
    from safetensors.numpy import save_file

    for pattern in _COPIED:
        for file in teacher.glob(pattern):
            (out / file.relative_to(teacher)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, out / file.relative_to(teacher))
    tensors = weights.read(teacher)
    name = next(name for name in tensors if name.endswith(f"{TABLE}.weight"))
    tensors[name] = np.ascontiguousarray(tensors[name][list(ids)])
    save_file(tensors, out / "model.safetensors")
    table = folder.load_json(teacher / "tokenizer.json")
    (out / "tokenizer.json").write_text(
        json.dumps(_renumbered(table, ids), ensure_ascii=False), encoding="utf-8"
    )
    config = folder.load_json(out / "config.json") | {"vocab_size": len(ids)}
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def _renumbered(table: dict[str, Any], ids: Sequence[int]) -> dict[str, Any]:
    """A tokenizer.json with these tokens alone."""
    numbers = {old: new for new, old in enumerate(ids)}
    model = table["model"]
    model["vocab"] = [model["vocab"][id] for id in ids]
    model["unk_id"] = numbers[model["unk_id"]]
    for token in table["added_tokens"]:
        token["id"] = numbers[token["id"]]
    for token in (table["post_processor"] or {}).get("special_tokens", {}).values():
        token["ids"] = [numbers[id] for id in token["ids"]]
    return table
