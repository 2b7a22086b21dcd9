import errno
import hashlib
import os
import stat
import subprocess
from pathlib import Path

import numpy as np
import pytest
from counts import tries
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from fake import FakeEncoder
from hypothesis import given, settings
from hypothesis import strategies as st
from oddities import alarm, laid
from test_bundle import make

import edgeret
from edgeret import Document, Index, blocks, signing
from edgeret.errors import BundleError, IndexMissingError, NotAnIndexError, SignatureError, StorageError
from edgeret.shell.cli import main
from edgeret.signing import sign, verify


def write_keys(folder: Path, name: str, key) -> tuple[Path, Path]:
    private, public = folder / f"{name}.pem", folder / f"{name}-public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


@pytest.fixture
def keys(tmp_path) -> tuple[Path, Path]:
    return write_keys(tmp_path, "maker", Ed25519PrivateKey.generate())


@pytest.fixture
def sealed(sound, encoder, tmp_path) -> Path:
    with Index.open(sound, model=encoder) as index:
        index.seal(tmp_path / "sealed.edgeret")
    return tmp_path / "sealed.edgeret"


@pytest.fixture
def bundle(tmp_path) -> Path:
    return make(tmp_path / "tiny").path


def test_what_was_signed_verifies(sealed, bundle, keys, encoder):
    private, public = keys
    assert sign(sealed, private) == sealed.with_name("sealed.edgeret.sig")
    assert sign(bundle, private) == bundle / "manifest.json.sig"
    verify(sealed, public)
    verify(bundle, public)
    with Index.open(sealed, model=encoder, readonly=True) as index:
        index.search("red cat")
    verify(sealed, public)


@settings(max_examples=tries(60), deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_of_an_index_is_refused(signed, place, bit):
    path, content, public = signed
    changed = bytearray(content)
    changed[int(place * len(changed))] ^= 1 << bit
    path.write_bytes(changed)
    with pytest.raises((SignatureError, NotAnIndexError)):
        verify(path, public)
    path.write_bytes(content)
    verify(path, public)


@pytest.fixture(scope="module")
def signed(tmp_path_factory) -> tuple[Path, bytes, Path]:
    """A signed index, its bytes, and the public key."""
    from fake import FakeEncoder

    folder = tmp_path_factory.mktemp("signed")
    private, public = write_keys(folder, "maker", Ed25519PrivateKey.generate())
    with Index.create(folder / "x.edgeret", model=FakeEncoder(), bits=64) as index:
        index.add([Document("a", "red cat")])
        index.seal(folder / "sealed.edgeret")
    sign(folder / "sealed.edgeret", private)
    return folder / "sealed.edgeret", (folder / "sealed.edgeret").read_bytes(), public


@pytest.mark.parametrize("name", ["manifest.json", "tokens.bin", "codec.bin", "card.md"])
def test_a_changed_file_of_a_bundle_is_refused(bundle, keys, name):
    sign(bundle, keys[0])
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises((SignatureError, BundleError)):
        verify(bundle, keys[1])


def test_a_bundle_with_sound_hashes_of_somebody_else_is_refused(bundle, keys, tmp_path):
    sign(bundle, keys[0])
    forged = make(tmp_path / "forged", seed=1).path
    (forged / "manifest.json.sig").write_bytes((bundle / "manifest.json.sig").read_bytes())
    with pytest.raises(SignatureError, match="changed, or signed by somebody else"):
        verify(forged, keys[1])


def test_another_key_no_signature_and_a_broken_one_are_refused(sealed, bundle, keys, tmp_path):
    for path in (sealed, bundle):
        with pytest.raises(SignatureError, match="found none: do not use it"):
            verify(path, keys[1])
        signature = sign(path, keys[0])
        stranger = write_keys(tmp_path, "stranger", Ed25519PrivateKey.generate())
        with pytest.raises(SignatureError, match="somebody else"):
            verify(path, stranger[1])
        for content in (b"", signature.read_bytes()[:-1], signature.read_bytes() + b"\0", b"x" * 64):
            signature.write_bytes(content)
            with pytest.raises(SignatureError, match="somebody else"):
                verify(path, keys[1])
        sign(path, keys[0])
        verify(path, keys[1])


def test_what_is_signed_is_for_ever(sealed, bundle):
    """A line of text; what stands for a bundle cannot pass for an index."""
    for path, kind, file in ((bundle, "bundle", bundle / "manifest.json"), (sealed, "index", sealed)):
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert signing._message(path) == (file, f"edgeret {kind} sha256 {digest}\n".encode())


def test_an_update_is_signed_and_verified(sound, sealed, keys, encoder, tmp_path):
    with Index.open(sound, model=encoder) as index:
        index.add(["a blue dog"])
    path = tmp_path / "update"
    with path.open("wb") as file:
        edgeret.diff(sealed, sound, file)
    private, public = keys
    assert sign(path, private) == tmp_path / "update.sig"
    verify(path, public)
    content = bytearray(path.read_bytes())
    digest = hashlib.sha256(content).hexdigest()
    assert signing._message(path) == (path, f"edgeret update sha256 {digest}\n".encode())
    for place in (3, 200, len(content) // 2, len(content) - 1):
        content[place] ^= 1
        path.write_bytes(content)
        with pytest.raises((SignatureError, NotAnIndexError)):
            verify(path, public)
        content[place] ^= 1
    path.write_bytes(content)
    verify(path, public)


@pytest.mark.parametrize("suffix", ["-wal", "-journal"])
def test_what_sqlite_would_merge_is_refused(sealed, keys, suffix):
    """Signed bytes with a stranger's journal beside them are not what was signed."""
    sign(sealed, keys[0])
    sealed.with_name(sealed.name + suffix).write_bytes(b"anything")
    for check in (lambda: sign(sealed, keys[0]), lambda: verify(sealed, keys[1])):
        with pytest.raises(SignatureError, match="edgeret seal"):
            check()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", "-reencode"])
def test_what_a_later_call_would_believe_is_refused_through_a_link_too(sealed, keys, suffix):
    sign(sealed, keys[0])
    link = sealed.with_name("link")
    link.symlink_to(sealed.name)
    link.with_name("link.sig").symlink_to(f"{sealed.name}.sig")
    verify(link, keys[1])
    sealed.with_name(sealed.name + suffix).symlink_to("nowhere")
    for path in (sealed, link):
        with pytest.raises(SignatureError, match="edgeret seal"):
            verify(path, keys[1])


def test_partitions_beside_a_signed_index_are_signed_or_refused(tmp_path, keys, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 1024)
    private, public = keys
    sealed = tmp_path / "sealed.edgeret"
    rows = np.random.default_rng(0).normal(size=(1024, 96)).astype(np.float32)
    with Index.create(tmp_path / "x.edgeret", model=FakeEncoder(), bits=64) as index:
        index.add(Document(f"d{n}", f"text {n}", vector=row) for n, row in enumerate(rows))
        index.seal(sealed)
    sign(sealed, private)
    edgeret.optimize(sealed)
    beside, signature = tmp_path / "sealed.edgeret-partitions", tmp_path / "sealed.edgeret-partitions.sig"
    assert not signature.exists()
    with pytest.raises(SignatureError, match=r"-partitions' in .*delete it"):
        verify(sealed, public)
    sign(sealed, private)
    verify(sealed, public)
    content = beside.read_bytes()
    for place in (0, 60, len(content) // 2, len(content) - 1):
        beside.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SignatureError, match="changed, or signed by somebody else"):
            verify(sealed, public)
    beside.write_bytes(content)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (beside, sealed)]
    message = f"edgeret partitions sha256 {digests[0]} of edgeret index sha256 {digests[1]}\n".encode()
    assert Ed25519PrivateKey.from_private_bytes(raw(private)).sign(message) == signature.read_bytes()
    # An index's signature is not that of partitions, nor those of another index.
    signature.write_bytes((tmp_path / "sealed.edgeret.sig").read_bytes())
    with pytest.raises(SignatureError, match="somebody else"):
        verify(sealed, public)
    beside.unlink()
    verify(sealed, public)


def raw(private: Path) -> bytes:
    key = load_pem_private_key(private.read_bytes(), None)
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def test_only_sealed_indexes_are_signed(sound, sealed, keys, encoder, tmp_path):
    with pytest.raises(SignatureError, match="edgeret seal"):
        sign(sound, keys[0])
    sign(sealed, keys[0])
    Index.open(sealed, model=encoder).close()
    with pytest.raises(SignatureError, match="opened for changes"):
        verify(sealed, keys[1])
    (tmp_path / "text").write_text("x" * 1000)
    with pytest.raises(NotAnIndexError):
        sign(tmp_path / "text", keys[0])
    with pytest.raises(IndexMissingError):
        verify(tmp_path / "missing", keys[1])
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError):
        sign(tmp_path / "folder", keys[0])


def test_other_keys_are_refused_by_name(sealed, keys, tmp_path):
    private, public = keys
    curve_private, curve_public = write_keys(tmp_path, "curve", generate_private_key(SECP256R1()))
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        Ed25519PrivateKey.generate().private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
    )
    for wrong in (public, curve_private, encrypted, sealed):
        with pytest.raises(SignatureError, match=r"private key in PEM, not encrypted.*openssl genpkey"):
            sign(sealed, wrong)
    for wrong in (private, curve_public, sealed):
        with pytest.raises(SignatureError, match="public key in PEM"):
            verify(sealed, wrong)
    with pytest.raises(StorageError, match="No such file"):
        verify(sealed, tmp_path / "missing.pem")


def test_without_the_package_it_says_what_to_install(sealed, keys, monkeypatch):
    monkeypatch.setattr(signing, "find_spec", lambda _: None)
    for call, key in ((sign, keys[0]), (verify, keys[1])):
        with pytest.raises(SignatureError, match=r"pip install 'edgeret\[sign\]'"):
            call(sealed, key)


def test_a_medium_that_refuses_is_named(sealed, bundle, keys):
    sealed.with_name(f"{sealed.name}.sig").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        sign(sealed, keys[0])
    (bundle / "manifest.json").unlink()
    with pytest.raises(StorageError, match="cannot read"):
        verify(bundle, keys[1])


def test_no_link_is_written_through(sealed, keys, tmp_path):
    """Whoever lays a link in the place of a signature overwrites no file of the signer's."""
    precious = tmp_path / "precious"
    precious.write_text("not to be overwritten")
    for target in (precious, tmp_path / "nowhere"):
        sealed.with_name(f"{sealed.name}.sig").symlink_to(target)
        signature = sign(sealed, keys[0])
        assert signature.is_file()
        assert not signature.is_symlink()
        verify(sealed, keys[1])
        signature.unlink()
    assert precious.read_text() == "not to be overwritten"
    assert not (tmp_path / "nowhere").exists()


def test_a_signature_is_replaced_in_one_step(sealed, keys, monkeypatch):
    signature = sign(sealed, keys[0])
    before = signature.read_bytes()

    def refused(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(f"edgeret.signing.{'os' if name == 'fsync' else 'Path'}.{name}", refused)
            with pytest.raises(StorageError, match=r"cannot write .*No space left"):
                sign(sealed, keys[0])
        assert signature.read_bytes() == before
        assert list(sealed.parent.glob("*.sig*")) == [signature]


def test_a_signature_is_readable_as_the_umask_allows(sealed, keys):
    before = os.umask(0o027)
    try:
        assert stat.S_IMODE(sign(sealed, keys[0]).stat().st_mode) == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_file_is_refused_at_once(sealed, bundle, keys, tmp_path, kind):
    odd = tmp_path / "odd"
    with laid(odd, kind), alarm():
        for call in (
            lambda: sign(odd, keys[0]),
            lambda: sign(sealed, odd),
            lambda: verify(odd, keys[1]),
            lambda: verify(sealed, odd),
        ):
            with pytest.raises((StorageError, NotAnIndexError), match=f"odd' is a {kind}"):
                call()
    for path in (sealed, bundle):
        signature = sign(path, keys[0])
        signature.unlink()
        with laid(signature, kind), alarm(), pytest.raises(StorageError, match=f"sig' is a {kind}"):
            verify(path, keys[1])


def test_the_command_signs_and_verifies(sealed, keys, capsys):
    assert main(["sign", str(sealed), "--key", str(keys[0]), "--json"]) == 0
    assert main(["verify", str(sealed), "--public-key", str(keys[1])]) == 0
    assert f"verified: {sealed}" in capsys.readouterr().out
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"\1")
    assert main(["verify", str(sealed), "--public-key", str(keys[1])]) == 1
    assert "do not use it" in capsys.readouterr().err


def test_openssl_makes_such_keys_and_verifies_such_signatures(sealed, tmp_path):
    """The commands of the documentation, and that a signature is an ordinary one."""
    if subprocess.run(["openssl", "version"], capture_output=True, check=False).returncode:
        pytest.skip("the openssl command is missing")
    for command in (
        "openssl genpkey -algorithm ed25519 -out private.pem",
        "openssl pkey -in private.pem -pubout -out public.pem",
    ):
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    signature = sign(sealed, tmp_path / "private.pem")
    verify(sealed, tmp_path / "public.pem")
    (tmp_path / "message").write_bytes(signing._message(sealed)[1])
    command = "openssl pkeyutl -verify -pubin -inkey public.pem -rawin -in message -sigfile"
    subprocess.run([*command.split(), signature], cwd=tmp_path, check=True, capture_output=True)
