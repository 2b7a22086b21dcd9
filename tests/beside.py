"""A build of a tokenizer over its file, beside the package whose tokens it must have."""

import os
from itertools import pairwise
from pathlib import Path

from edgeret.encode.bundle import Source


class Own:
    """A build over a file, which stays open. read: that of its kind."""

    def __init__(self, make, path: Path, read) -> None:
        self.source = Source(os.open(path, os.O_RDONLY), "tokenizer.bin")
        _, head, arrays = read(self.source, path.stat().st_size)
        self.run = make(head, arrays, self.source)


def assert_equal(run, known, text: str) -> None:
    """run: a text, and whether special tokens are wanted -> ids, spans and words."""
    for special in (True, False):
        ids, spans, words = run(text, special)
        expected = known.encode(text, add_special_tokens=special)
        assert (ids, spans) == (expected.ids, expected.offsets), ascii(text)
        assert [one == other for one, other in pairwise(words)] == [
            one == other for one, other in pairwise(expected.word_ids)
        ], ascii(text)
