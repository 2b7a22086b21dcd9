"""Highlights: what a person looks at first in a passage: the query's words, and the sentence nearest to it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgeret import words
from edgeret.documents import Highlights, Span

_MOST_SENTENCES: Final = 64
"""Of a passage that an encoder of ours made there are fewer; one that came with its own vector may be a book."""

Similarity = Callable[[Sequence[str]], NDArray[np.floating]]
"""Texts -> how near each is to the query, [n]."""


def highlights(
    text: str,
    sentences: Sequence[Span],
    asked: Sequence[words.Wanted],
    language: words.Language,
    similarity: Similarity | None,
) -> Highlights:
    """Where the words that were asked stand in a passage, and its best sentence.

    similarity: None if only words were asked: then the sentence with the most of them, each once, is the best.
    """
    said = list(words.among(text, asked, language))
    some = sentences[:_MOST_SENTENCES] or [(0, len(text))]
    if len(some) == 1:
        # Nothing is encoded for that: to an encoder that is not ours the text may be the name of a picture.
        near = [0]
    elif similarity is None:
        near = [len({word.term for word in said if start <= word.start < stop}) for start, stop in some]
    else:
        near = similarity([text[start:stop] for start, stop in some]).tolist()
    return Highlights(some[near.index(max(near))], _joined([(word.start, word.stop) for word in said]))


def _joined(spans: Sequence[Span]) -> list[Span]:
    """Spans in order, those that overlap as one: a compound is followed by its parts."""
    found: list[Span] = []
    for start, stop in sorted(spans):
        if found and start < found[-1][1]:
            start, stop = found[-1][0], max(stop, found.pop()[1])
        found.append((start, stop))
    return found
