"""Encodings: the octets of a file -> its text."""

from __future__ import annotations

import codecs
from typing import Final

from edgeret.errors import InvalidDocumentError

EXTRA: Final = "pip install 'edgeret[files]'"

PAGE: Final = "\f"
"""Between two pages of a text."""

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    # Before UTF-16, whose mark it begins with.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
DAMAGED: Final = "utf-8, damaged"
"""What is told of a text in UTF-8 with some octets that are none, such as a log that was cut."""

_REPLACED: Final = "\ufffd"
_FEW: Final = 4
"""Characters of several octets for each octet that is none, in UTF-8: in another encoding far fewer look like some."""

_SAMPLE: Final = 1 << 16
"""Octets that are looked at to tell an encoding, from the first that is not ASCII on."""

_WIDE: Final = ["utf_16_le", "utf_16_be"]
_WESTERN: Final = ["cp1252"]
"""What most files that are not UTF-8 have; of a short text anything else might be guessed."""


def decode(place: str, octets: bytes) -> tuple[str, str]:
    """The text of a file and its encoding.

    A mark at its beginning decides, then UTF-8 if it is that, or all but a few octets, then what charset-normalizer
    tells. place: what an error would name. Raises InvalidDocumentError for what is no text, and where the package is
    needed and missing.
    """
    for mark, encoding in _MARKS:
        if octets.startswith(mark):
            try:
                return octets.removeprefix(codecs.BOM_UTF8).decode(encoding), encoding
            except UnicodeDecodeError as error:
                raise _undecoded(place, octets, error, f"{encoding.upper()}, as its mark says") from None
    try:
        text = octets.decode()
    except UnicodeDecodeError as error:
        text = octets.decode(errors="replace")
        if _is_nearly_utf8(text):
            return text, DAMAGED
        encoding = _told(place, octets, error)
    else:
        if "\0" not in text:
            return text, "utf-8"
        # Letters and NULs by turns are UTF-16; a NUL elsewhere is for whoever refuses it by name.
        encoding = _guessed(octets[:_SAMPLE], _WIDE) or "utf-8"
    return octets.decode(encoding, errors="replace"), encoding


def _is_nearly_utf8(text: str) -> bool:
    """Whether a text, with the octets that are no UTF-8 replaced, was in UTF-8 nonetheless."""
    replaced, others = text.count(_REPLACED), len(text) - len(text.encode("ascii", "ignore"))
    return "\0" not in text and others - replaced >= _FEW * replaced


def _told(place: str, octets: bytes, error: UnicodeDecodeError) -> str:
    try:
        import charset_normalizer  # noqa: F401
    except ImportError:
        raise _undecoded(
            place, octets, error, "UTF-8", f", or {EXTRA}, which tells other encodings"
        ) from None
    first = max(0, error.start - _SAMPLE // 2) & ~1
    sample = octets[first : first + _SAMPLE]
    wide = b"\0" in sample
    if not wide:
        sample = _lines(sample, first > 0, first + _SAMPLE < len(octets))
    found = _guessed(sample, _WIDE if wide else _WESTERN) or (None if wide else _guessed(sample, []))
    if found is None:
        raise _undecoded(place, octets, error, "text in UTF-8 or another encoding")
    return found


def _lines(sample: bytes, is_cut: bool, goes_on: bool) -> bytes:
    """The whole lines of a sample, if it has such: elsewhere it may begin or end within a character."""
    start = sample.find(b"\n") + 1 if is_cut else 0
    stop = sample.rfind(b"\n") + 1 if goes_on else len(sample)
    return sample[start:stop] if start < stop else sample


def _guessed(sample: bytes, among: list[str]) -> str | None:
    """The encoding of a sample, one of those that are named, if any are; None if it is none, or nobody can tell."""
    try:
        from charset_normalizer import from_bytes
    except ImportError:
        return None
    best = from_bytes(sample, cp_isolation=among or None).best()
    return None if best is None else best.encoding


def _undecoded(
    place: str, octets: bytes, error: UnicodeDecodeError, expected: str, remedy: str = ""
) -> InvalidDocumentError:
    return InvalidDocumentError(
        f"{place}: expected {expected}, got byte 0x{octets[error.start]:02x} at {error.start}: convert it{remedy}"
    )
