"""A corpus is the same index whoever encodes it, however often it is interrupted, from whatever files."""

import json
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from counts import long
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret import Document, Encoder, Index
from edgeret.documents import Record
from edgeret.errors import (
    BackendError,
    BundleError,
    EdgeretError,
    IndexExistsError,
    InvalidDocumentError,
    StorageError,
)
from edgeret.shell.cli import main as shell
from edgeret.storage.store import Store
from export import corpus, workers
from export.__main__ import main
from export.shards import Shards

ROOT = Path(__file__).parent.parent
MODEL, BITS, ROWS = "nano", 128, 8
WORDS = ["clock", "lamp", "router", "battery", "kitchen", "garden", "reset", "button", "water", "light"]


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "ROWS", ROWS)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load(MODEL)


def rows(count: int) -> list[dict[str, object]]:
    """Some without an id, one of several passages, some under an id that comes again, changed or not."""
    drawn = random.Random(0)
    found: list[dict[str, object]] = []
    for number in range(count):
        text = f"{' '.join(drawn.choices(WORDS, k=6))} {number}"
        found.append({"id": f"d{number}", "text": text, "year": 2000 + number, "tags": ["a", text[:3]]})
    del found[3]["id"], found[4]["year"]
    found[5]["text"] = " ".join(f"Sentence {number} of a long text." for number in range(120))
    found[ROWS - 1]["text"] = "a\u2028line\r\nand another \U0001f50b"
    return [*found, {**found[2], "text": "changed"}, found[6], {**found[2]}]


def write_lines(path: Path, objects: list[dict[str, object]]) -> str:
    path.write_text("".join(json.dumps(fields) + "\n" for fields in objects), encoding="utf-8")
    return str(path)


def build(
    tmp_path: Path,
    files: list[str],
    encoder: Encoder,
    name: str = "out",
    engine: workers.Engine | None = None,
) -> Path:
    out = tmp_path / f"{name}.edgeret"
    corpus.build(files, out, encoder, BITS, ["year"], tmp_path / name, engine or here)
    return out


def here(shards: Shards, names: list[str]) -> Iterator[str]:
    """An engine of this process."""
    for name in names:
        shards.encode(name)
        yield name


def never(shards: Shards, names: list[str]) -> Iterator[str]:
    """An engine that has nothing to do."""
    assert names == []
    yield from names


def content(path: Path) -> dict[str, list[tuple]]:
    """All that an index holds of documents: rows, spans, vectors and codes included."""
    tables = {
        "documents": "SELECT doc, id, text, metadata, digest, own_vector FROM documents ORDER BY doc",
        "passages": "SELECT row, doc, start, stop, vector FROM passages ORDER BY row",
        "codes": "SELECT row, code FROM tail ORDER BY row",
        "meta": "SELECT key, value FROM meta ORDER BY key",
    }
    with closing(Store(path, readonly=True)) as store:
        return {name: store.connection.execute(query).fetchall() for name, query in tables.items()}


def added(path: Path, objects: list[dict[str, object]], encoder: Encoder, every: int = ROWS) -> Path:
    """The same documents through `Index.add`."""
    with Index.create(path, encoder, BITS, ["year"]) as index:
        index.add((document(fields) for fields in objects), commit_every=every)
        index.check()
    return path


def document(fields: dict[str, object]) -> Document:
    rest = dict(fields)
    return Document(rest.pop("id", None), rest.pop("text"), rest)


@pytest.fixture(scope="module")
def corpus_lines(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_lines(tmp_path_factory.mktemp("lines") / "corpus.jsonl", rows(40))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> dict[str, list[tuple]]:
    return content(added(tmp_path_factory.mktemp("added") / "added.edgeret", rows(40), encoder))


def test_it_is_what_add_stores(tmp_path, corpus_lines, encoder, expected):
    out = build(tmp_path, [corpus_lines], encoder)
    assert content(out) == expected
    assert len(expected["documents"]) == 40
    assert len(expected["passages"]) > 40
    with Index.open(out) as index:
        assert index.check().documents == 40
        assert index.get("d2").text == rows(40)[2]["text"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.edgeret"]


def test_any_number_of_workers_makes_the_same_bytes(tmp_path, corpus_lines, encoder):
    alone = build(tmp_path, [corpus_lines], encoder, "alone")
    for count in (1, 2, 3):
        out = build(tmp_path, [corpus_lines], encoder, f"w{count}", workers.engine("local", count))
        assert out.read_bytes() == alone.read_bytes()
        shards = {path.name: path.read_bytes() for path in (tmp_path / f"w{count}").iterdir()}
        assert shards == {path.name: path.read_bytes() for path in (tmp_path / "alone").iterdir()}
        assert len(shards) == 6


def test_shards_may_be_finished_in_any_order(tmp_path, corpus_lines, encoder, expected):
    def backwards(shards: Shards, names: list[str]) -> Iterator[str]:
        return here(shards, names[::-1])

    assert content(build(tmp_path, [corpus_lines], encoder, engine=backwards)) == expected


def test_parquet_is_json_lines(tmp_path, corpus_lines, encoder, expected):
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is missing: pip install 'edgeret[export]'"
    )
    arrow = pytest.importorskip("pyarrow")
    table = arrow.Table.from_pylist(rows(40))
    assert table.column("id").null_count == 1
    parquet.write_table(table, tmp_path / "corpus.parquet", row_group_size=ROWS + 3)
    out = build(tmp_path, [str(tmp_path / "corpus.parquet")], encoder)
    assert content(out) == expected
    build(tmp_path, [corpus_lines], encoder, "lines")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        path.name for path in (tmp_path / "lines").iterdir()
    }
    parquet.write_table(table.slice(0, 13), tmp_path / "first.parquet")
    write_lines(tmp_path / "rest.jsonl", rows(40)[13:])
    both = [str(tmp_path / "first.parquet"), str(tmp_path / "rest.jsonl")]
    assert content(build(tmp_path, both, encoder, "both")) == expected


def test_bad_rows_of_parquet_are_named(tmp_path, encoder):
    parquet = pytest.importorskip(
        "pyarrow.parquet", reason="pyarrow is missing: pip install 'edgeret[export]'"
    )
    arrow = pytest.importorskip("pyarrow")
    file = tmp_path / "bad.parquet"

    def refused(table: dict[str, list[object]], error: type[EdgeretError], match: str) -> None:
        parquet.write_table(arrow.table(table), file)
        with pytest.raises(error, match=match):
            build(tmp_path, [str(file)], encoder)

    texts = [f"text {number}" for number in range(20)]
    refused({"text": [*texts, None]}, InvalidDocumentError, r"bad\.parquet, row 21: .* got NoneType")
    refused({"text": [*texts, " "]}, InvalidDocumentError, r"bad\.parquet, row 21: .* empty")
    refused({"text": ["a", "b"], "id": [1, 2]}, InvalidDocumentError, "row 1: expected the id .* got int")
    refused({"text": ["a", "b"], "x": [1.0, float("nan")]}, InvalidDocumentError, "row 2: .* JSON can hold")
    refused({"text": ["a"], "x": [b"bytes"]}, InvalidDocumentError, "row 1: .* JSON can hold")
    refused({"body": ["a"]}, InvalidDocumentError, "expected a column 'text' in .* found body: rename one")
    file.write_bytes(b"no Parquet")
    with pytest.raises(StorageError, match="check that it is Parquet"):
        build(tmp_path, [str(file)], encoder)


def test_a_bad_row_is_named_before_anything_is_encoded(tmp_path, encoder):
    file = tmp_path / "bad.jsonl"
    for line, match in [
        (b'{"text": "a"', r"bad\.jsonl, line 21: expected a JSON object, got"),
        (b'{"body": "a"}', r"bad\.jsonl, line 21: .* key 'text'"),
        (b'{"text": " "}', r"bad\.jsonl, line 21: .* empty"),
        (b'{"text": "a", "id": 3}', r"bad\.jsonl, line 21: expected the id to be a string, got int"),
        (b'{"text": "\xff"}', r"bad\.jsonl, line 21: expected UTF-8"),
    ]:
        good = b"".join(b'{"text": "text %d"}\n' % number for number in range(20))
        file.write_bytes(good + line + b"\n")
        with pytest.raises(InvalidDocumentError, match=match):
            build(tmp_path, [str(file)], encoder, engine=never)
        assert not list(tmp_path.glob("*.edgeret")) + list(tmp_path.glob(".*"))


def test_what_cannot_be_built_is_refused(tmp_path, corpus_lines, encoder, monkeypatch, capsys):
    out = tmp_path / "out.edgeret"
    arguments = ["corpus", corpus_lines, "--model", MODEL, "--out", str(out)]
    for extra, message in [
        (["--bits", "100"], "expected bits to be one of"),
        (["--workers", "0"], "expected at least 1 worker, got 0"),
        (["--address", "127.0.0.1:1"], "expected an address for the engine 'ray' only"),
        (["notes.txt"], r"expected .parquet, .jsonl or -, got 'notes.txt'"),
        (["missing.jsonl"], "no file or folder at 'missing.jsonl'"),
        (["--shards", corpus_lines], "cannot read or write"),
        (["--filter", 'a"b'], "cannot index the metadata key"),
    ]:
        assert main([*arguments[:2], *extra, *arguments[2:]]) == 1
        assert message in capsys.readouterr().err
    out.write_text("mine")
    with pytest.raises(IndexExistsError, match="choose another name"):
        build(tmp_path, [corpus_lines], encoder)
    assert out.read_text() == "mine"
    monkeypatch.setattr(workers, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"expected ray, .*pip install 'edgeret\[cluster\]'"):
        workers.engine("ray")
    monkeypatch.setattr(corpus, "find_spec", lambda _: None)
    with pytest.raises(BackendError, match=r"expected pyarrow, .*pip install 'edgeret\[export\]'"):
        corpus.documents(["a.parquet"])


def test_finished_shards_are_used_again_and_stale_ones_never(tmp_path, encoder):
    first = [write_lines(tmp_path / "first.jsonl", rows(40)[:32])]
    folder = tmp_path / "shards"

    def built(name: str, files: list[str], bits: int = BITS, model: Encoder = encoder) -> corpus.Built:
        return corpus.build(files, tmp_path / name, model, bits, [], folder, here)

    assert built("1", first)[2:] == (4, 0)
    assert built("2", first)[2:] == (4, 4)
    more = [*first, write_lines(tmp_path / "more.jsonl", rows(40)[32:])]
    assert built("3", more)[2:] == (6, 4)
    assert built("4", first, bits=64)[2:] == (4, 0)
    assert built("5", first, model=Encoder.load("small"))[2:] == (4, 0)
    changed = rows(40)[:32]
    changed[9]["year"] = 1
    assert built("6", [write_lines(tmp_path / "changed.jsonl", changed)])[2:] == (4, 3)
    assert not list(folder.glob("*.jsonl"))


def test_a_corpus_that_repeats_itself_is_encoded_once(tmp_path, encoder):
    lines = write_lines(tmp_path / "lines.jsonl", rows(40)[: 2 * ROWS])
    encoded = []

    def noting(shards: Shards, names: list[str]) -> Iterator[str]:
        encoded.extend(names)
        yield from here(shards, names)

    build(tmp_path, [lines, lines, lines], encoder, engine=noting)
    assert len(encoded) == 2


def test_an_empty_corpus_is_an_empty_index(tmp_path, encoder):
    (tmp_path / "none.jsonl").write_text("\n")
    with Index.open(build(tmp_path, [str(tmp_path / "none.jsonl")], encoder)) as index:
        assert len(index) == 0


def test_a_damaged_shard_is_refused_and_named(tmp_path, corpus_lines, encoder):
    build(tmp_path, [corpus_lines], encoder).unlink()
    shard = max((tmp_path / "out").iterdir())
    sound = shard.read_bytes()
    for damaged in (sound[:-40], sound[:2000] + bytes([sound[2000] ^ 1]) + sound[2001:], b""):
        shard.write_bytes(damaged)
        with pytest.raises(StorageError, match=r"is damaged: delete it and run the build again"):
            build(tmp_path, [corpus_lines], encoder, engine=never)
    shard.unlink()
    build(tmp_path, [corpus_lines], encoder)
    assert shard.read_bytes() == sound


def test_a_worker_with_another_bundle_refuses(tmp_path, encoder):
    record = Record.of("text")
    here, there = (Shards(tmp_path, Encoder.load(name), BITS) for name in ("nano", "small"))
    name = here.name([record])
    here.stage(name, [record])
    with pytest.raises(BundleError, match="give every machine the same one"):
        there.encode(name)


documents = st.builds(
    Document,
    st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip),
    st.dictionaries(st.sampled_from("abc"), st.none() | st.booleans() | st.integers(-9, 9) | st.just("\n")),
)


@settings(max_examples=25)
@given(st.lists(documents, min_size=1, max_size=4))
def test_a_shard_returns_what_was_encoded(tmp_path_factory, encoder, drawn):
    shards = Shards(tmp_path_factory.mktemp("shards"), encoder, BITS)
    records = [Record.of(document) for document in drawn]
    name = shards.name(records)
    shards.stage(name, records)
    shards.encode(name)
    encoded = list(shards.read(name))
    assert [one.record for one in encoded] == records
    for one in encoded:
        texts = [one.record.text[start:stop] for start, stop in one.spans]
        assert (encoder.codec.encode(one.vectors, BITS) == one.codes).all()
        assert len(texts) == len(one.vectors)


def test_merging_takes_the_memory_of_one_shard(tmp_path, encoder):
    shards = Shards(tmp_path, encoder, BITS)

    def peak(count: int) -> int:
        records = [Record.of(f"{'word ' * 20_000}{number}") for number in range(count)]
        names = [shards.name([record]) for record in records]
        for name, record in zip(names, records, strict=True):
            shards.stage(name, [record])
            shards.encode(name)
        del records, record
        path = tmp_path / f"{count}.edgeret"
        Index.create(path, encoder, BITS).close()
        tracemalloc.start()
        corpus._merge(shards, names, path)
        _, found = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return found

    # What is loaded when it is first needed does not count.
    peak(2)
    assert peak(24) < 1.2 * peak(12)


COMMAND = """
import sys
from export import corpus
from export.__main__ import main
corpus.ROWS = 4
sys.exit(main(sys.argv[1:]))
"""


def command(*arguments: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "corpus", *arguments], env=environment, stdout=subprocess.PIPE
    )


def finished(folder: Path) -> dict[str, tuple[int, int]]:
    """What would change if a shard were written again."""
    found = {path.name: path.stat() for path in folder.glob("*.shard")}
    return {name: (status.st_ino, status.st_mtime_ns) for name, status in found.items()}


def children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(met: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def expected_of_small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple]]:
    path = tmp_path_factory.mktemp("small") / "small.edgeret"
    return content(added(path, rows(160), Encoder.load("small"), 4))


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to find a process's children in")
@long
@pytest.mark.parametrize("victim", ["all", "worker"])
def test_a_killed_build_goes_on_where_it_was(tmp_path, expected_of_small, victim):
    lines = write_lines(tmp_path / "lines.jsonl", rows(160))
    folder, out = tmp_path / "shards", tmp_path / "out.edgeret"
    arguments = [lines, "--model", "small", "--bits", str(BITS), "--filter", "year", "--workers", "1"]
    arguments += ["--shards", str(folder), "--out", str(out)]
    with command(*arguments) as process:
        wait_for(lambda: len(finished(folder)) >= 3)
        workers = children(process.pid)
        os.kill(process.pid if victim == "all" else workers[-1], signal.SIGKILL)
        assert process.wait(60) == (-signal.SIGKILL if victim == "all" else 1)
    wait_for(lambda: not any(alive(pid) for pid in workers))
    before = finished(folder)
    assert 3 <= len(before) < 41
    assert not out.exists()
    with command(*arguments) as again:
        answer = json.loads(again.stdout.read())
    assert (answer["shards"], answer["reused"]) == (41, len(before))
    assert before.items() <= finished(folder).items()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.jsonl", "out.edgeret", "shards"]
    assert content(out) == expected_of_small


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="no /proc to find a worker in")
def test_a_cluster_of_two_nodes_makes_the_same_though_a_worker_is_killed(tmp_path, expected_of_small):
    pytest.importorskip("ray", reason="ray is missing: pip install 'edgeret[cluster]'")
    lines = write_lines(tmp_path / "lines.jsonl", rows(160))
    out, folder = tmp_path / "out.edgeret", tmp_path / "shards"
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "cluster.py", lines, out, folder, "small", str(BITS), "4"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}, stdout=subprocess.PIPE,
        check=True, timeout=1300,
    )  # fmt: skip
    # Ray says things of its own before.
    answer = json.loads(done.stdout.splitlines()[-1])
    assert (answer["nodes"], answer["shards"], answer["reused"]) == (2, 41, 0)
    assert answer["finished"] < 41
    assert answer["refused"].startswith("expected the bundle of shard 'nothing'")
    assert answer["refused"].endswith("give every machine the same one")
    assert content(out) == expected_of_small


def test_the_command_answers_and_leaves_the_index_alone(tmp_path, capsys):
    lines = write_lines(tmp_path / "lines.jsonl", rows(40))
    out = tmp_path / "out.edgeret"
    arguments = ["corpus", lines, "--model", MODEL, "--filter", "year", "--workers", "1", "--out", str(out)]
    assert main([*arguments, "--language", "none"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["documents"], answer["shards"], answer["reused"]) == (40, 6, 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lines.jsonl", "out.edgeret"]
    with Index.open(out) as index:
        assert (index.info().model, index.info().language) == (MODEL, None)
        assert [hit.id for hit in index.search("changed", where={"year": 2007}, k=1)] == ["d7"]


def test_the_page_works_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    ed25519 = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        reason="cryptography is missing: pip install 'edgeret[sign]'",
    )
    serialization = pytest.importorskip("cryptography.hazmat.primitives.serialization")
    monkeypatch.chdir(tmp_path)
    write_lines(Path("articles.jsonl"), rows(10))
    write_lines(Path("more.jsonl"), [{"text": "Hold the button to reset the clock.", "lang": "en"}])
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    Path("private.pem").write_bytes(ed25519.Ed25519PrivateKey.generate().private_bytes(*plain))
    page = (ROOT / "docs" / "corpus.md").read_text()
    for block in re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            command = shlex.split(line)
            run, arguments = (shell, command[1:]) if command[0] == "edgeret" else (main, command[3:])
            assert run(arguments) == 0, capsys.readouterr().err
    assert Path("v1.edgeret.sig").exists()
    with Index.open("v1.edgeret", readonly=True) as index:
        assert index.search("clock", where={"lang": "en"}, k=1)[0].metadata == {"lang": "en"}


def test_neither_torch_nor_ray_is_imported(tmp_path):
    lines = write_lines(tmp_path / "lines.jsonl", rows(10))
    script = (
        "import sys; from export.__main__ import main; code = main(sys.argv[1:]);"
        " sys.exit(code or bool({'torch', 'ray', 'pyarrow'} & set(sys.modules)))"
    )
    subprocess.run(
        [sys.executable, "-c", script, "corpus", lines, "--model", MODEL, "--out", str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True,
    )  # fmt: skip
