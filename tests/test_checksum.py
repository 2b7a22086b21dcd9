"""Lines are what was written, or nothing from the first on that is not; both builds agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret.codec import cosines
from edgeret.storage import checksum
from edgeret.storage.checksum import score_lines, sound_lines

numbers = st.integers(-(2**63), 2**63 - 1)
heads = st.lists(st.tuples(numbers, numbers, numbers, numbers), max_size=6)


@pytest.fixture(params=["native", "python"])
def build(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setenv("EDGERET_NO_NATIVE", "1")
    elif checksum._checksum is None:
        pytest.skip("this edgeret is built without its native checksums")


def written(heads, width):
    rng = np.random.default_rng(len(heads) + width)
    contents = [rng.integers(0, 256, width, dtype=np.uint8).tobytes() for _ in heads]
    return [
        (*head, content, checksum.checksum(*head, content=content))
        for head, content in zip(heads, contents, strict=True)
    ]


@pytest.mark.usefixtures("build")
class TestBuild:
    """What holds for both builds."""

    @given(heads, st.integers(1, 40))
    def test_what_was_written_is_sound(self, heads, width):
        lines = written(heads, width)
        found, contents = sound_lines(lines, width)
        assert [tuple(head) for head in found.tolist()] == heads
        assert [content.tobytes() for content in contents] == [line[4] for line in lines]
        assert (found.dtype, contents.dtype, contents.shape[1]) == (np.int64, np.int8, width)

    @given(heads.filter(bool), st.integers(1, 40), st.data())
    def test_nothing_is_taken_from_the_first_damage_on(self, heads, width, data):
        lines = written(heads, width)
        place, part = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, 5))
        line = list(lines[place])
        if part == 4:
            octets = bytearray(line[4])
            octets[data.draw(st.integers(0, width - 1))] ^= 1 << data.draw(st.integers(0, 7))
            line[4] = bytes(octets)
        else:
            line[part] ^= 1 << data.draw(st.integers(0, 31))
        lines[place] = tuple(line)
        found, contents = sound_lines(lines, width)
        assert len(found) == len(contents) == place

    @pytest.mark.parametrize("odd", [None, 1.0, "1", b"1", 2**63, -(2**63) - 1])
    @pytest.mark.parametrize("part", range(6))
    def test_what_sqlite_may_hold_elsewhere_is_damage(self, odd, part):
        lines = written([(1, 2, 3, 4)] * 2, 8)
        lines[1] = tuple(odd if place == part else value for place, value in enumerate(lines[1]))
        assert len(sound_lines(lines, 8)[0]) == 1

    @given(st.integers(0, 5), st.integers(1, 40), st.integers(1, 3))
    def test_scores_are_cosines_bit_by_bit(self, count, width, queries):
        lines = written([(row, 2, 3, 4) for row in range(count)], width)
        vectors = np.random.default_rng(width).normal(size=(queries, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        heads, scores = score_lines(lines, vectors)
        stored = sound_lines(lines, width)[1]
        assert heads[:, 0].tolist() == list(range(count))
        assert scores.tobytes() == np.max([cosines(stored, vector) for vector in vectors], axis=0).tobytes()

    @pytest.mark.parametrize("span", [(-1, 4), (5, 4)])
    def test_scores_end_before_a_span_that_is_none(self, span):
        lines = written([(1, 2, 3, 4), (2, 2, *span)], 8)
        assert [len(found) for found in score_lines(lines, np.eye(1, 8, dtype=np.float32))] == [1, 1]

    @pytest.mark.parametrize("width", [7, 9])
    def test_a_content_of_another_size_is_damage(self, width):
        assert len(sound_lines(written([(1, 2, 3, 4)], 8), width)[0]) == 0
