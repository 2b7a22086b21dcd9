"""Office: PDF, DOCX and EPUB -> text with the signs of Markdown. The packages for it are the extra `files`."""

from __future__ import annotations

import io
import logging
import posixpath
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote
from xml.etree import ElementTree

from edgeret.errors import InvalidDocumentError
from edgeret.sources import folder, markup
from edgeret.sources.encodings import EXTRA, PAGE

_DAMAGE: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    ElementTree.ParseError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
"""What the packages raise for files that are not what they should be: they do not say so, one by one."""

Text = tuple[str, dict[str, Any]]


def of_pdf(place: str, octets: bytes) -> Text:
    """The text of a PDF, `PAGE` between pages; its title and author as metadata. place: what an error would name."""
    try:
        import pypdf
        from pypdf.errors import PyPdfError
    except ImportError:
        raise _missing(place, "pypdf") from None
    # It names every small fault of a file, on standard error.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)

    def read() -> Text:
        reader = pypdf.PdfReader(io.BytesIO(octets))
        if reader.is_encrypted and not reader.decrypt(""):
            raise ValueError("it has a password")
        pages = [page.extract_text().replace(PAGE, "\n") for page in reader.pages]
        told: Mapping[str, object] = reader.metadata or {}
        named = {"title": told.get("/Title"), "author": told.get("/Author")}
        return PAGE.join(pages), {key: str(value) for key, value in named.items() if value}

    text, metadata = _sound(place, "a PDF", read, (*_DAMAGE, PyPdfError))
    # Fonts that say of a letter that it is half of one.
    return text.encode(errors="replace").decode().replace("\0", " "), metadata


def of_docx(place: str, octets: bytes) -> Text:
    """The text of a document of Word. place: what an error would name."""
    try:
        import mammoth
    except ImportError:
        raise _missing(place, "mammoth") from None

    def read() -> Text:
        _opened(place, octets).close()
        without_images = mammoth.images.img_element(lambda image: {})
        return markup.plain(
            mammoth.convert_to_html(io.BytesIO(octets), convert_image=without_images).value, {}
        )

    return _sound(place, "a DOCX", read, _DAMAGE)


def of_epub(place: str, octets: bytes) -> Text:
    """The text of a book, in the order of its spine; its title and author as metadata. place: what an error names."""

    def read() -> Text:
        with _opened(place, octets) as book:
            container = _tree(book.read("META-INF/container.xml"))
            package = next(
                one.attrib["full-path"] for one in container.iter() if one.tag.endswith("}rootfile")
            )
            contents = _tree(book.read(package))
            places = {
                one.attrib["id"]: posixpath.join(posixpath.dirname(package), unquote(one.attrib["href"]))
                for one in contents.iterfind(".//{*}manifest/{*}item")
            }
            chapters = [places[one.attrib["idref"]] for one in contents.iterfind(".//{*}spine/{*}itemref")]
            text = "\n".join(markup.of_html(place, book.read(chapter))[0] for chapter in chapters)
            told = {"title": contents.findtext(".//{*}title"), "author": contents.findtext(".//{*}creator")}
        return text, {key: value.strip() for key, value in told.items() if value}

    return _sound(place, "an EPUB", read, _DAMAGE)


def _sound(place: str, kind: str, read: Callable[[], Text], damage: tuple[type[Exception], ...]) -> Text:
    try:
        return read()
    except InvalidDocumentError:
        raise
    except damage as error:
        raise InvalidDocumentError(
            f"{place}: expected {kind}, it cannot be read ({type(error).__name__}: {str(error)[:200]}): "
            "save it anew, or leave it out"
        ) from None


def _tree(octets: bytes) -> ElementTree.Element:
    if b"<!ENTITY" in octets:
        raise ValueError("it declares entities, which may be without end")
    return ElementTree.fromstring(octets)  # noqa: S314 - without entities nothing grows


def _opened(place: str, octets: bytes) -> zipfile.ZipFile:
    """An archive whose parts are together not too large."""
    archive = zipfile.ZipFile(io.BytesIO(octets))
    if sum(part.file_size for part in archive.infolist()) > folder.LARGEST_BYTES:
        raise folder.too_large(f"{place}, unpacked")
    return archive


def _missing(place: str, package: str) -> InvalidDocumentError:
    return InvalidDocumentError(f"{place}: the package {package} reads such files, and is missing: {EXTRA}")
