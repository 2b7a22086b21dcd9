"""Signing: whether an index, an update or a bundle is, byte for byte, what the owner of a key has signed.

Ed25519 (RFC 8032), detached. What is signed is a line of text with the SHA-256 of a sealed index, of an update, or of a
bundle's manifest, which has the hashes of all its files. Needs the package `cryptography`, the extra `sign`.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from edgeret import files
from edgeret.door import checked
from edgeret.encode.bundle import Bundle
from edgeret.encode.manifest import MANIFEST
from edgeret.errors import NotAnIndexError, SignatureError, StorageError
from edgeret.fleet.update import MAGIC
from edgeret.storage import sides
from edgeret.storage.file import check_path
from edgeret.storage.schema import APPLICATION_ID

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SUFFIX: Final = ".sig"
"""A signature's name ends so, its beginning is that of the index, the update or the bundle's manifest beside it."""

_SIGNATURE_BYTES: Final = 64
_LARGEST_KEY_BYTES: Final = 1 << 16


@checked
def sign(path: str | os.PathLike[str], private_key: str | os.PathLike[str]) -> Path:
    """Sign a sealed index, an update or a bundle's folder, by Ed25519 (RFC 8032).

    Partitions beside an index are signed too, in `INDEX-partitions.sig`. An older signature is replaced, in one step. A
    link in its place is replaced too, and never written through.

    Args:
        path: What to sign: a sealed index, an update, or the folder of a bundle.
        private_key: A PEM file with an Ed25519 key, not encrypted.

    Returns:
        The signature's path: that of the index, the update or the bundle's manifest, and `.sig`.

    Raises:
        SignatureError: The index is not sealed, the key is of another kind, or `cryptography` is not installed.
        IndexMissingError: There is no file.
        NotAnIndexError: The file is something else.
        BundleError: The bundle is damaged.
        StorageError: The medium refused.
    """
    key = _private(Path(private_key))
    if Path(path).is_dir():
        Bundle.open(Path(path))
    signed, message = _message(Path(path))
    target = _signature(signed)
    _replace(target, key.sign(message))
    partitions = sides.partitions_of(signed)
    if _has_partitions(message, partitions):
        _replace(_signature(partitions), key.sign(_covered(partitions, message)))
    return target


@checked
def verify(path: str | os.PathLike[str], public_key: str | os.PathLike[str]) -> None:
    """Raise SignatureError unless the owner of the key has signed this sealed index, update or bundle.

    Every byte of it is read, and of partitions beside it, which must be signed too. Call this before you open it:
    reading a file that this process has open drops SQLite's locks on it.

    Args:
        path: A sealed index, an update, or the folder of a bundle; its signature lies beside it or in it.
        public_key: A PEM file with the signer's Ed25519 key.

    Raises:
        SignatureError: It is not signed, was changed, or was signed by another key.
        IndexMissingError: There is no file.
        NotAnIndexError: The file is something else.
        BundleError: The bundle is damaged.
        StorageError: The medium refused.
    """
    key = _public(Path(public_key))
    from cryptography.exceptions import InvalidSignature

    signed, message = _message(Path(path))
    parts = [(signed, message)]
    partitions = sides.partitions_of(signed)
    if _has_partitions(message, partitions):
        parts.append((partitions, _covered(partitions, message)))
    for file, expected in parts:
        signature = _signature(file)
        if not signature.exists():
            remedy = "do not use it" if file == signed else "delete it, or do not use the index"
            raise SignatureError(f"expected a signature of '{file}' in '{signature}', found none: {remedy}")
        try:
            key.verify(_read(signature, _SIGNATURE_BYTES + 1), expected)
        except InvalidSignature:
            raise SignatureError(
                f"expected '{file}' as the owner of '{public_key}' signed it, found it changed, or signed by somebody "
                "else: do not use it"
            ) from None
    if Path(path).is_dir():
        Bundle.open(Path(path))


def _signature(file: Path) -> Path:
    return file.with_name(file.name + SUFFIX)


def _has_partitions(message: bytes, partitions: Path) -> bool:
    return message.startswith(b"edgeret index ") and os.path.lexists(partitions)


def _covered(partitions: Path, message: bytes) -> bytes:
    """What is signed of the partitions beside an index of which `message` is signed."""
    return f"edgeret partitions sha256 {_digest(partitions)} of ".encode() + message


def _message(path: Path) -> tuple[Path, bytes]:
    """The file whose bytes count, and what is signed of it."""
    kind, file = ("bundle", path / MANIFEST) if path.is_dir() else (_kind(path), path)
    return file, f"edgeret {kind} sha256 {_digest(file)}\n".encode()


def _digest(file: Path) -> str:
    with files.open_regular(file) as stream:
        try:
            return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise files.unreadable(file, error) from None


def _kind(path: Path) -> str:
    """What a file is, "index" or "update". Raises SignatureError for an index that is not sealed."""
    check_path(path)
    header = _read(path, 100)
    if header.startswith(MAGIC):
        return "update"
    _check_sealed(path, header)
    return "index"


def _check_sealed(path: Path, header: bytes) -> None:
    """Refuse a file to which SQLite would add what lies beside it: that has no signature."""
    if header[:16] != b"SQLite format 3\0" or header[68:72] != APPLICATION_ID.to_bytes(4, "big"):
        raise NotAnIndexError(
            f"expected an edgeret index, '{path}' is another kind of file: choose another path"
        )
    # Bytes 18 and 19: 1 for a rollback journal, 2 for a write-ahead log.
    beside = sides.unsigned(path)
    if header[18:20] == b"\1\1" and beside == [sides.drafts_of(path)]:
        raise SignatureError(
            f"expected a sealed index alone, found '{beside[0]}': delete it, or write a new index with 'edgeret seal'"
        )
    if header[18:20] != b"\1\1" or beside:
        raise SignatureError(
            f"expected a sealed index, '{path}' was opened for changes since: write a new one with 'edgeret seal'"
        )


def _private(path: Path) -> Ed25519PrivateKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_read(path, _LARGEST_KEY_BYTES), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        _refuse_key("private", path, error)
    return key if isinstance(key, Ed25519PrivateKey) else _refuse_key("private", path, type(key).__name__)


def _public(path: Path) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_read(path, _LARGEST_KEY_BYTES))
    except (ValueError, UnsupportedAlgorithm) as error:
        _refuse_key("public", path, error)
    return key if isinstance(key, Ed25519PublicKey) else _refuse_key("public", path, type(key).__name__)


def _refuse_key(kind: str, path: Path, found: Any) -> NoReturn:
    raise SignatureError(
        f"expected an Ed25519 {kind} key in PEM, not encrypted, in '{path}', found {found}: "
        "make one with 'openssl genpkey -algorithm ed25519'"
    )


def _require_cryptography() -> None:
    if find_spec("cryptography") is None:
        raise SignatureError("expected cryptography, found no such package: pip install 'edgeret[sign]'")


def _read(path: Path, limit: int) -> bytes:
    with files.open_regular(path) as stream:
        try:
            return stream.read(limit)
        except OSError as error:
            raise files.unreadable(path, error) from None


def _replace(target: Path, content: bytes) -> None:
    """Put a new file in the place of whatever lies at `target`, never through a link."""
    draft = target.with_name(f"{target.name}-{secrets.token_hex(8)}")
    try:
        try:
            # Exclusively: nobody can have laid a link here.
            with draft.open("xb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write '{target}': {error.strerror}") from None
