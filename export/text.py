"""Training text: whose it is, what must stay out of it, and the mix that students learn from.

A file is one source, a passage a line, consecutive lines from one document: so windows can be joined.
"""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.errors import BundleError
from export.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tokenizers import Tokenizer

RUN_WORDS: Final = 13
"""A passage that shares so many consecutive words with a collection is not trained on."""

RUN_LETTERS: Final = 30
"""Nor one in many languages that shares so many consecutive letters and digits: some languages have no blanks."""

_TEXTS_OF_WORDS: Final = 20_000
_WORDS_OF_A_TEXT: Final = (2, 24)

_WORD: Final = re.compile(r"[a-z0-9]+")
_NO_LETTER: Final = re.compile(r"[\W_]+")
_RUN_FACTOR: Final = np.uint64(0x9E3779B97F4A7C15)


def source(file: Path) -> str:
    """The name of a file's source: without a language, which is behind a hyphen."""
    return re.split("[-.]", file.name)[0]


def shared_alike(file: Path) -> bool:
    """Whether the license of a file's source, if it is known, asks to share alike."""
    found = SOURCES.get(source(file))
    return found is not None and found.share_alike


def read(files: Sequence[Path], share_alike: bool = True) -> dict[str, list[str]]:
    """The passages of each file, plain or .gz, by the name of its source; blank lines are left out.

    share_alike: False leaves out the sources whose license asks to share alike. Raises BundleError for a
    file that cannot be read.
    """
    found = {}
    for file in files:
        name = file.name.split(".")[0]
        if not share_alike and shared_alike(file):
            continue
        found[name] = [line for line in lines(file) if line.strip()]
    return found


def lines(path: Path) -> list[str]:
    """The lines of a text file, plain or .gz. Raises BundleError if it cannot be read."""
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise BundleError(f"expected a text file at {path}, found {error.strerror}: check --text") from error
    text = gzip.decompress(blob) if path.suffix == ".gz" else blob
    return text.decode().split("\n")


def language(file: Path) -> str:
    """What is behind the last hyphen of a file's name, before its first dot; "" of a name without one."""
    stem = file.name.partition(".")[0]
    return stem.rpartition("-")[2] if "-" in stem else ""


def of_vocabulary(tokenizer: Tokenizer, folder: Path) -> Path:
    """Write texts of words of a tokenizer's vocabulary to a file in `folder`: for a codec where there is no text.

    They are in all the languages that the model knows.
    """
    rng = np.random.default_rng(0)
    found = (
        word.strip() for word in tokenizer.decode_batch([[id] for id in range(tokenizer.get_vocab_size())])
    )
    words = sorted({word for word in found if word.isalpha() and len(word) > 1})
    if not words:
        raise BundleError("expected words in the model's vocabulary, found none: give --text")
    lengths = rng.integers(*_WORDS_OF_A_TEXT, _TEXTS_OF_WORDS)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocabulary.txt"
    texts = (" ".join(words[pick] for pick in rng.integers(len(words), size=length)) for length in lengths)
    path.write_text("\n".join(dict.fromkeys(texts)), encoding="utf-8")
    return path


def without_runs(
    passages: Mapping[str, list[str]], others: Iterable[str], run: int = RUN_WORDS
) -> tuple[dict[str, list[str]], int]:
    """Leave out the passages that share `run` consecutive words with any of `others`.

    Returns what is left and how many passages were left out. Words are compared in lower case.
    """
    numbers: dict[str, int] = {}

    def numbered(text: str) -> list[int]:
        return [numbers.setdefault(word, len(numbers) + 1) for word in _WORD.findall(text.lower())]

    known = np.sort(_runs(map(numbered, others), run)[0])
    kept, removed = {}, 0
    for name, texts in passages.items():
        hit = _having(known, *_runs(map(numbered, texts), run))
        kept[name] = [text for row, text in enumerate(texts) if row not in hit]
        removed += len(hit)
    return kept, removed


def sharing(texts: Iterable[str], others: Iterable[str], run: int = RUN_LETTERS) -> set[int]:
    """The rows of `texts` that share `run` consecutive letters and digits with any of `others`.

    They are compared in lower case and compatibility form; what stands between them does not count.
    """
    known = np.sort(_runs(map(_letters, others), run)[0])
    return _having(known, *_runs(map(_letters, texts), run))


def _having(known: NDArray[np.uint64], hashes: NDArray[np.uint64], owners: NDArray[np.int64]) -> set[int]:
    """The owners of hashes that are among known ones, which are sorted."""
    if not len(known):
        return set()
    # Far fewer than the known ones: each is looked up.
    found = known[np.minimum(np.searchsorted(known, hashes), len(known) - 1)] == hashes
    return set(owners[found].tolist())


def _letters(text: str) -> NDArray[np.uint32]:
    plain = _NO_LETTER.sub("", unicodedata.normalize("NFKC", text).casefold())
    return np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), np.uint32)


def split(
    passages: Mapping[str, list[str]], share: float
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Set the last `share` of each source's lines apart: neighbors stay together, on one side."""
    ends = {name: len(texts) - int(len(texts) * share) for name, texts in passages.items()}
    return (
        {name: texts[: ends[name]] for name, texts in passages.items()},
        {name: texts[ends[name] :] for name, texts in passages.items()},
    )


def _runs(
    texts: Iterable[Sequence[int] | NDArray[np.uint32]], run: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of all runs of so many numbers, and the row of the text of each."""
    parts = [np.asarray(text, np.uint32) for text in texts]
    lengths = [len(part) for part in parts]
    owners = np.repeat(np.arange(len(lengths)), lengths)
    count = max(len(owners) - run + 1, 0)
    column = np.concatenate([np.empty(0, np.uint32), *parts]).astype(np.uint64) * _RUN_FACTOR
    hashes = np.zeros(count, dtype=np.uint64)
    for offset in range(run):
        hashes = (hashes ^ (hashes >> np.uint64(29))) * _RUN_FACTOR + column[offset : offset + count]
    # A run ends in the text in which it began.
    whole = owners[:count] == owners[run - 1 :][:count]
    return hashes[whole], owners[:count][whole]


def collection_texts(folders: Iterable[Path]) -> Iterator[str]:
    """The documents, queries and sentence pairs of test collections in BEIR layout, or with an sts.tsv."""
    for folder in folders:
        for file in sorted(folder.glob("*.jsonl*")):
            for line in filter(None, lines(file)):
                record = json.loads(line)
                yield f"{record.get('title', '')} {record['text']}"
        for file in sorted(folder.glob("sts.tsv")):
            for line in lines(file)[1:]:
                yield from line.split("\t")[1:]
