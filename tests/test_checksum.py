"""Lines are what was written, or nothing from the first on that is not; both builds agree."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeret.codec import cosines
from edgeret.documents import digest_of
from edgeret.storage import checksum
from edgeret.storage.checksum import are_sound, document_check, score, sound_lines

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

    @given(st.lists(st.binary(min_size=5, max_size=5), max_size=6), st.data())
    def test_contents_are_sound_with_their_checksums_alone(self, contents, data):
        whole, told = b"".join(contents), ",".join(str(zlib.crc32(content)) for content in contents).encode()
        assert are_sound(whole, told, 5, len(contents))
        for other in (
            told + b",",
            told + b"0",
            b"0" + told,
            told[1:],
            told[:-1],
            told.replace(b",", b";"),
            None,
        ):
            assert other == told or not are_sound(whole, other, 5, len(contents))
        assert not are_sound(whole, told, 5, len(contents) + 1)
        assert not are_sound(whole.decode("latin-1"), told, 5, len(contents))
        if contents:
            octets = bytearray(whole)
            octets[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
            assert not are_sound(bytes(octets), told, 5, len(contents))

    @given(st.integers(0, 5), st.integers(1, 600), st.integers(1, 3))
    def test_scores_are_cosines_bit_by_bit(self, count, width, queries):
        rng = np.random.default_rng(width)
        stored = rng.integers(-128, 128, (count, width), dtype=np.int8)
        vectors = rng.normal(size=(queries, width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        expected = np.max([cosines(stored, vector) for vector in vectors], axis=0)
        assert score(stored, vectors).tobytes() == expected.tobytes()

    @given(*[st.text(max_size=200)] * 3, numbers, st.booleans(), st.data())
    def test_a_document_is_what_was_written_or_it_is_not(
        self, identity, text, metadata, doc, own_vector, data
    ):
        digest = digest_of(identity, text, metadata)
        line = (doc, identity, text, metadata, digest, int(own_vector), 0)
        line = (*line[:6], checksum.checksum(doc, int(own_vector), content=digest))
        is_sound = document_check()
        assert is_sound(line)
        assert not is_sound((doc ^ 1, *line[1:]))
        part = data.draw(st.integers(1, 6))
        kind = type(line[part])
        for other in [kind(), b"x", None] if kind is not int else [line[part] ^ 1, None, "1"]:
            assert other == line[part] or not is_sound((*line[:part], other, *line[part + 1 :]))

    @pytest.mark.parametrize("width", [7, 9])
    def test_a_content_of_another_size_is_damage(self, width):
        assert len(sound_lines(written([(1, 2, 3, 4)], 8), width)[0]) == 0
