"""What tests have a child of `benchmarks.fresh` do."""

import sys
import time


def repeat(number):
    """Say back each line until an empty one."""
    print("what libraries print is no answer")
    yield {"ready": number}
    said = 0
    for line in sys.stdin:
        if not line.strip():
            break
        said += 1
        yield {"heard": line.strip()}
    return {"said": said}


def fall():
    raise ValueError("over a stone")


def sleep():
    time.sleep(60)
