"""How often a test tries: a few times at a desk, more in CI, and the long counts of `make test-full`."""

import os

import pytest

FULL = os.environ.get("EDGERET_TEST_FULL") == "1"
CI = FULL or os.environ.get("CI") == "true"

long = pytest.mark.skipif(not CI, reason="takes seconds: set CI=true")
"""Of a test that others stand beside, for the time at a desk."""


def tries(usual: int, full: int | None = None) -> int:
    """`usual` times in CI, a quarter of that at a desk, `full` in the long run."""
    if FULL and full is not None:
        return full
    return usual if CI else -(-usual // 4)
