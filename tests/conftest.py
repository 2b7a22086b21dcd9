from collections.abc import Iterator
from pathlib import Path

import pytest
from fake import FakeEncoder

import edgeret


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.edgeret"


@pytest.fixture
def index(path: Path, encoder: FakeEncoder) -> Iterator[edgeret.Index]:
    with edgeret.Index.create(path, model=encoder, bits=96, filters=["year"]) as opened:
        yield opened
