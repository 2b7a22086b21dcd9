import fcntl
import gzip
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from counts import tries
from fake import FakeEncoder
from formats.make import HERE, Reader
from hypothesis import HealthCheck, settings

import edgeret

# A busy machine is no failure: neither one slow example nor slow generation.
settings.register_profile(
    "edgeret", max_examples=tries(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("edgeret")

# A job in the background of a shell inherits a signal that is ignored, and so would what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


FEW = [
    (0, 0x400), (0x600, 0x610), (0x900, 0x980), (0x1100, 0x1110), (0x2000, 0x2100), (0x2580, 0x2590),
    (0x3000, 0x3100), (0xAC00, 0xAC20), (0xFB00, 0xFB10), (0xFF00, 0xFF60), (0x1F600, 0x1F610),
]  # fmt: skip
"""Code points of many kinds."""

MAY_BE_SKIPPED = (
    "make test-arm64 lays out",  # which runs these
    "make fresh builds",  # and runs these
    "built without its native",  # as EDGERET_NO_NATIVE=1 asks
    "make frameworks brings",  # and runs these
    "has no recreate_index",  # of Haystack's suite: what is optional
    "which the extra `bench` brings",  # gigabytes of rivals
    "'export-tflite'",  # `make runtimes` runs these in an environment of their own
    "cgroup",  # not every machine lets one be made
    "which hold e5",  # 90 MB for one test of the long run
    "../shared",  # texts and collections are no part of the repository
)
"""Reasons for which a test may be skipped where all others must run."""


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With EDGERET_REQUIRE_TESTS=1 a test that is skipped for another reason is a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("EDGERET_REQUIRE_TESTS") != "1" or reporter is None:
        return
    reasons = [str(report.longrepr[2]) for report in reporter.stats.get("skipped", [])]
    found = sorted({reason for reason in reasons if not any(allowed in reason for allowed in MAY_BE_SKIPPED)})
    for reason in found:
        reporter.write_line(f"must not be skipped here: {reason}", red=True)
    if found:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """A folder whose files many tests read and none changes, by its name: filled once for all processes of a run."""
    base = tmp_path_factory.getbasetemp()
    root = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base

    def get(name: str, fill: Callable[[Path], object]) -> Path:
        folder = root / name
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.exists():
                filled = root / f"filling-{name}"
                filled.mkdir()
                fill(filled)
                filled.rename(folder)
        return folder

    return get


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.edgeret"


@pytest.fixture
def index(path: Path, encoder: FakeEncoder) -> Iterator[edgeret.Index]:
    with edgeret.Index.create(path, model=encoder, bits=96, filters=["year"], wait=0) as opened:
        yield opened


@pytest.fixture
def sound(path, encoder) -> Path:
    """A file of twenty documents."""
    with edgeret.Index.create(path, model=encoder, bits=96, filters=["year"]) as index:
        index.add([edgeret.Document(f"d{i}", f"red cat number{i}", {"year": i}) for i in range(20)])
    return path


@pytest.fixture(scope="module")
def few_characters() -> Iterator[None]:
    """Export asks a tokenizer about the first characters only: about all of them it takes half a minute."""
    pytest.importorskip(
        "tokenizers", reason="export needs the packages of the extra 'export': tokenizers is missing"
    )
    characters, pieces = (pytest.importorskip(f"export.{name}") for name in ("characters", "pieces"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(characters, "CODE_POINTS", [code for first, stop in FEW for code in range(first, stop)])
        patch.setattr(pieces, "_TRIED", 0)
        yield


@pytest.fixture
def first_format(tmp_path) -> tuple[Path, Reader]:
    """A file as the first edgeret wrote it, of 45 documents in one full block and a tail; and its encoder."""
    path = tmp_path / "first.edgeret"
    path.write_bytes(gzip.decompress((HERE / "index-1" / "index.edgeret.gz").read_bytes()))
    return path, Reader(HERE / "bundle-1")


@pytest.fixture
def ctrl_c() -> Iterator[Callable[[float], None]]:
    """Press Ctrl-C after so many seconds. Who runs the tests in the background may have had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda seconds: threading.Timer(seconds, lambda: signal.raise_signal(signal.SIGINT)).start()
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def trust(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Note counts in the file that EDGERET_TRUST_LOG names, one JSON object a line."""
    start = time.monotonic()

    def note(**counts: object) -> None:
        log = os.environ.get("EDGERET_TRUST_LOG")
        if log:
            line = {"test": request.node.name, **counts, "seconds": round(time.monotonic() - start, 1)}
            with Path(log).open("a") as file:
                file.write(json.dumps(line) + "\n")

    return note
