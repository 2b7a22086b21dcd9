"""Functions as an encoder: whatever makes vectors of texts, or of what texts name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeret.codec import Codec, Float32, normalize
from edgeret.documents import Span
from edgeret.door import checked, numbers
from edgeret.encode.bundle import codec_id, fingerprint, space
from edgeret.errors import InvalidVectorError

_WORD = re.compile(r"\S+")


class FunctionEncoder:
    """An encoder (`TextEncoder`) of a function of yours: a model in any framework, an image tower, a remote service.

    An index made with it opens with one of the same name, dim and codec alone. The memory that the functions take is
    theirs: no budget plans it. They are called in the thread that adds or asks.

    Args:
        encode: Takes a list of texts, as documents have them, and returns their vectors, an array [n, dim]. A text's
            vector must depend on that text alone. A text may be a caption, or the path of a picture.
        dim: Entries of a vector, 32 or more.
        name: Of the model, with its version: vectors of one name must be of one space.
        encode_query: The same for queries, if the model reads them in another way. None takes `encode`.
        codec: What makes codes of the vectors, such as `Codec.fit` of a sample of them. None takes `Codec.random`.
        passage_words: Words of the longest text that is encoded whole; longer ones are cut at the end of a sentence.
            None never cuts.
    """

    @checked
    def __init__(
        self,
        encode: Callable[[list[str]], Any],
        dim: int,
        name: str,
        encode_query: Callable[[list[str]], Any] | None = None,
        codec: Codec | None = None,
        passage_words: int | None = None,
    ) -> None:
        self.name = name
        self.dim = dim
        self.codec = Codec.random(dim) if codec is None else codec
        if self.codec.dim != dim:
            raise InvalidVectorError(
                f"expected a codec of dim {dim}, got one of dim {self.codec.dim}: fit it to vectors of this model"
            )
        self.geometry = fingerprint({"function": name, "dim": dim})
        self.space = space(self.geometry, codec_id(self.codec))
        self._encode, self._encode_query = encode, encode_query or encode
        self._words = passage_words

    def __repr__(self) -> str:
        return f"<edgeret.FunctionEncoder {self.name!r}, dim {self.dim}, space {self.space[:8]}>"

    @property
    def passage_tokens(self) -> int:
        """Words of the longest text that is encoded whole."""
        return self._words or 1

    @property
    def planned_bytes(self) -> Mapping[str, int]:
        """What the codec takes in memory, in bytes: nothing is known of the functions."""
        return {"codec": self.codec.planned_bytes(self.codec.widths[-1], 1)}

    @checked
    def encode(self, texts: Iterable[str]) -> Float32:
        """Encode texts as documents.

        Args:
            texts: An iterable of strings.

        Returns:
            float32 [n, dim], rows of unit length.

        Raises:
            InvalidVectorError: The function returns something else than a vector for each text.
        """
        return self._vectors(self._encode, list(texts))

    @checked
    def encode_query(self, text: str) -> Float32:
        """Encode a query.

        Args:
            text: The query.

        Returns:
            float32 [dim], of unit length.

        Raises:
            InvalidVectorError: The function returns something else than a vector.
        """
        vector: Float32 = self._vectors(self._encode_query, [text])[0]
        return vector

    @checked
    def token_spans(self, text: str) -> list[Span]:
        """Return where the text's words stand; nothing if it is never cut.

        Args:
            text: The text.

        Returns:
            (start, stop) in characters, a pair for each word.
        """
        return [] if self._words is None else [word.span() for word in _WORD.finditer(text)]

    def _vectors(self, function: Callable[[list[str]], Any], texts: list[str]) -> Float32:
        if not texts:
            return np.empty((0, self.dim), dtype=np.float32)
        found: NDArray[Any] = numbers(function(texts))
        if found.shape != (len(texts), self.dim):
            raise InvalidVectorError(
                f"expected {len(texts)} vectors of dim {self.dim} of the functions of {self.name!r:.80}, got an array "
                f"of shape {found.shape}: return one for each text"
            )
        return normalize(found, self.dim)
