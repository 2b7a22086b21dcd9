import re
import subprocess
import sys
from pathlib import Path

import pytest
from counts import CI, FULL, tries
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

from targets import TARGETS

SECONDS = 600 if FULL else 10
RUN = Path(__file__).parent / "fuzz" / "run.py"


@pytest.mark.parametrize("name", TARGETS)
def test_arbitrary_bytes(name):
    """The fuzzers' targets without a fuzzer: always run, and a find is shrunk."""

    @settings(max_examples=tries(150), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=600))
    def feed(content: bytes) -> None:
        TARGETS[name](content)

    feed()


@pytest.mark.skipif(not CI, reason="guided fuzzing takes 10 s a target: set CI=true, or EDGERET_TEST_FULL=1")
@pytest.mark.parametrize("name", TARGETS)
def test_guided_by_coverage(name, tmp_path, trust):
    command = [sys.executable, str(RUN), name, "--seconds", str(SECONDS)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=SECONDS * 2 + 120)
    output = ran.stdout + ran.stderr
    assert ran.returncode == 0, output[-3000:]
    executions = int(re.search(r"Done (\d+) runs", output)[1])
    trust(target=name, executions=executions)
    assert executions > 100


def test_a_find_ends_in_an_error(tmp_path):
    """The runner itself can fail."""
    script = (
        f"import sys; sys.path.insert(0, {str(RUN.parent)!r}); import targets, run\n"
        "def bad(content):\n    raise ZeroDivisionError(len(content))\n"
        "targets.TARGETS['bad'] = bad\nsys.argv = ['run.py', 'bad', '--seconds', '1', '--plain']\nrun.main()"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ran.returncode != 0
    assert "found by" in ran.stdout
    assert "ZeroDivisionError" in ran.stderr
