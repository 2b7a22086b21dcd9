import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake import FakeEncoder
from hypothesis import HealthCheck, settings

import edgeret

# A busy machine is no failure: neither one slow example nor slow generation.
settings.register_profile("edgeret", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("edgeret")


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
