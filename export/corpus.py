"""Corpus: Parquet and JSON Lines to one finished index, encoded by many workers, merged by one staging."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from tqdm import tqdm

from edgeret import stems
from edgeret.documents import Document, Record
from edgeret.encode.encoder import Encoder
from edgeret.errors import (
    BackendError,
    IndexExistsError,
    InvalidDocumentError,
    StorageError,
)
from edgeret.index import Index
from edgeret.shell import inputs
from edgeret.storage import log
from edgeret.storage.staging import Staging
from edgeret.storage.store import Counters, Store
from export.shards import Shards, translated
from export.workers import Engine

_LINES_SUFFIX: Final = ".jsonl"
PARQUET_SUFFIX: Final = ".parquet"
ROWS: Final = 1024
"""Documents of a shard, all but the last one."""

_CACHE_BYTES: Final = 64_000_000
"""Of the index's pages, while it is written."""


class Built(NamedTuple):
    """What was made: documents and passages of the index, shards of the corpus, and how many of them were there."""

    documents: int
    passages: int
    shards: int
    reused: int


def build(
    files: Sequence[str],
    out: Path,
    encoder: Encoder,
    bits: int,
    filters: Sequence[str],
    folder: Path,
    engine: Engine,
    language: str | None = stems.ENGLISH,
) -> Built:
    """Write the index of all documents of `files` to the new file `out`.

    It holds what `Index.add` would have stored of the same documents, committed every ROWS of them. folder: of the
    shards, which stay there; where it has one already, nothing is encoded. Every row is checked before the first is
    encoded. Memory is taken for one shard at a time, here and in each worker. language: by whose stems words are found;
    None: as they are.

    Raises IndexExistsError if `out` is there, InvalidDocumentError naming file and row, InvalidQueryError for bits
    that the codec lacks, FilterError, BackendError, BundleError, StorageError.
    """
    encoder.codec.check_bits(bits)
    if out.exists():
        raise IndexExistsError(f"'{out}' exists: choose another name")
    found = documents(files)
    shards = Shards(folder, encoder, bits)
    # A name of its own, so that the next run removes what a killed one leaves.
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with translated(partial):
        partial.mkdir()
    try:
        Index.create(partial / out.name, encoder, bits, filters, language=language).close()
        names, missing = _stage(shards, found)
        reused = len(set(names)) - len(missing)
        with (
            closing(engine(shards, list(missing))) as encoded,
            tqdm(names, desc="encode", unit="shard", disable=None) as shown,
        ):
            state = _merge(shards, _finished(shown, missing, encoded), partial / out.name)
        with translated(out):
            (partial / out.name).replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Built(state.documents, state.passages, len(names), reused)


def documents(files: Sequence[str]) -> Iterator[Record]:
    """The documents of Parquet files and of JSON Lines, as `edgeret index` reads these; `-` is standard input.

    A row of Parquet is an object whose keys are the columns, without those that are null.
    Raises InvalidDocumentError: at once for another kind of input, while reading for a document that cannot be indexed,
    naming its file and line or row. Raises BackendError without pyarrow, StorageError for what cannot be read.
    """
    return chain.from_iterable([_source(name) for name in files])


def _source(name: str) -> Iterator[Record]:
    suffix = Path(name).suffix.lower()
    if suffix == PARQUET_SUFFIX:
        if find_spec("pyarrow") is None:
            raise BackendError("expected pyarrow, found no such package: pip install 'edgeret[export]'")
        if not Path(name).is_file():
            raise InvalidDocumentError(f"no file at '{name}': check the path")
        return _rows(name)
    if suffix == _LINES_SUFFIX or name == inputs.STDIN:
        return map(Record.of, inputs.read([name]))
    raise InvalidDocumentError(
        f"expected {PARQUET_SUFFIX}, {_LINES_SUFFIX} or {inputs.STDIN}, got '{name}': convert it"
    )


def _rows(name: str) -> Iterator[Record]:
    for number, fields in enumerate(_objects(name), start=1):
        text, identity = fields.pop("text"), fields.pop("id", None)
        metadata = {key: value for key, value in fields.items() if value is not None}
        try:
            yield Record.of(Document(identity, text, metadata))
        except InvalidDocumentError as error:
            raise InvalidDocumentError(f"{name}, row {number}: {error}") from None


def _objects(name: str) -> Iterator[dict[str, Any]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(name) as file:
            columns = file.schema_arrow.names
            if "text" not in columns:
                raise InvalidDocumentError(
                    f"expected a column 'text' in '{name}', found {', '.join(columns) or 'none'}: rename one"
                )
            for batch in file.iter_batches(batch_size=ROWS):
                yield from batch.to_pylist()
    except (ArrowException, OSError) as error:
        raise StorageError(
            f"cannot read '{name}' ({error}): check that it is Parquet and permitted"
        ) from None


def _stage(shards: Shards, found: Iterator[Record]) -> tuple[list[str], dict[str, None]]:
    """Cut the corpus; returns the names of all its shards, and those that are staged because they are not there yet."""
    names, missing = list[str](), dict[str, None]()
    with tqdm(found, desc="read", unit="doc", disable=None) as shown:
        remaining = iter(shown)
        while records := list(islice(remaining, ROWS)):
            name = shards.name(records)
            names.append(name)
            if not shards.has(name):
                shards.stage(name, records)
                missing[name] = None
    return names, missing


def _finished(names: Iterable[str], missing: dict[str, None], encoded: Iterator[str]) -> Iterator[str]:
    """All names in order, each once its shard is there."""
    for name in names:
        while name in missing:
            del missing[next(encoded)]
        yield name


def _merge(shards: Shards, names: Iterable[str], path: Path) -> Counters:
    """Add finished shards to an index, as `Index.add` adds documents."""
    with closing(Store(path, readonly=False, cache_bytes=_CACHE_BYTES)) as store:
        staging, seed = Staging(store), hashlib.blake2b(digest_size=16)
        for name in names:
            seed.update(name.encode())
            for encoded in shards.read(name):
                if not staging.holds(encoded.record, None):
                    staging.stage(encoded)
            staging.publish()
        with store.writing() as state:
            # By what is in it: the same documents make the same bytes.
            log.name(store.connection, seed.digest())
            return state
