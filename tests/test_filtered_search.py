"""What a `where` costs and refuses, in every way of searching."""

import time

import numpy as np
import pytest
from fake import DIM, FakeEncoder

import edgeret
from edgeret import Document
from edgeret.errors import FilterError, InvalidDocumentError
from edgeret.storage.rows import Rows

MODES = ("dense", "lexical", "hybrid")
DOCUMENTS = 5000
MANY = list(range(50_000))


@pytest.fixture(scope="module")
def crowd(tmp_path_factory):
    rng = np.random.default_rng(4)
    with edgeret.Index.create(
        tmp_path_factory.mktemp("crowd") / "a.edgeret", model=FakeEncoder(), bits=96, filters=["year"]
    ) as index:
        index.add(
            Document(
                f"d{number}",
                f"text {number} of ships and cats {number % 7}",
                {"year": number, "part": number % 5, "tags": [number % 3, "x"]},
                rng.normal(size=DIM),
            )
            for number in range(DOCUMENTS)
        )
        yield index


def seconds(call) -> float:
    begun = time.process_time()
    call()
    return time.process_time() - begun


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", ["year", "part", "tags"])
def test_a_list_of_many_values_is_read_a_few_times_and_not_for_each_hit(crowd, mode, key):
    where = {key: {"$in": MANY}}
    few, many = (seconds(lambda k=k: crowd.search("ships", k=k, mode=mode, where=where)) for k in (10, 1000))
    plain = seconds(lambda: crowd.search("ships", k=1000, mode=mode))
    # Read for each hit they would take 5 s.
    assert many < few + plain + 2
    assert crowd.search("ships", mode=mode, where={key: {"$nin": MANY}}) == []


def test_a_where_is_evaluated_once_for_all_queries(crowd, monkeypatch):
    calls = []
    matching = Rows.matching
    monkeypatch.setattr(Rows, "matching", lambda *arguments: calls.append(1) or matching(*arguments))
    for mode in MODES:
        answers = crowd.search_many(["ships", "cats", "text"] * 5, mode=mode, where={"part": 3})
        assert {hit.metadata["part"] for hits in answers for hit in hits} == {3}
    assert len(calls) == len(MODES)


def test_words_with_a_filter_take_linear_time(crowd):
    plain = seconds(lambda: crowd.search("ships cats text", mode="lexical"))
    filtered = seconds(lambda: crowd.search("ships cats text", mode="lexical", where={"part": {"$gte": 0}}))
    # Each row by itself took 5 s.
    assert filtered < 5 * plain + 1


@pytest.mark.parametrize("mode", MODES)
def test_words_are_found_among_the_rows_that_pass_alone(crowd, mode):
    for part in range(5):
        hits = crowd.search("ships", k=2000, mode=mode, where={"part": part})
        assert {hit.id for hit in hits} == {f"d{number}" for number in range(part, DOCUMENTS, 5)}
    assert [hit.id for hit in crowd.search("ships", mode=mode, where={"year": 4321})] == ["d4321"]
    assert crowd.search("ships", mode=mode, where={"year": -1}) == []


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", [{}, {"$and": [{}]}, {"$or": [{}, {"part": 1}]}])
def test_a_where_without_conditions_costs_nothing(crowd, monkeypatch, mode, where):
    plain = crowd.search("ships", mode=mode)
    monkeypatch.setattr(Rows, "matching", None)
    monkeypatch.setattr(Rows, "meeting", None)
    assert crowd.search("ships", mode=mode, where=where) == plain


def test_too_many_conditions_are_refused_by_name(crowd):
    for where in (
        {f"key{number}": 1 for number in range(2100)},
        {"$or": [{"year": number} for number in range(2100)]},
        {"year": {"$in": [2**64]}},
        {"year": 2**63},
        {"year": {"$contains": -(2**63) - 1}},
    ):
        with pytest.raises(FilterError, match="expected"):
            crowd.search("ships", where=where)


@pytest.mark.parametrize("large", [2**63, -(2**63) - 1, 2**64, 10**5000], ids=["+64", "-64", "65", "long"])
@pytest.mark.parametrize("place", [lambda n: n, lambda n: [1, n], lambda n: {"inner": [{"n": n}]}])
def test_integers_that_no_filter_could_find_are_refused_where_they_are_stored(index, large, place):
    with pytest.raises(InvalidDocumentError, match=r"expected integers of 64 bits, .* as a string"):
        index.add([Document("d", "text", {"n": place(large)})])
    assert len(index) == 0


def test_integers_of_64_bits_are_found_exactly(index):
    numbers = [2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1, 2**53, 2**53 + 1]
    index.add([Document(f"d{n}", "red cat", {"year": n, "other": [n]}) for n in numbers])
    for number in numbers:
        for where in ({"year": number}, {"other": number}, {"year": {"$gte": number, "$lte": number}}):
            assert [hit.id for hit in index.search("cat", where=where)] == [f"d{number}"]
        assert index.search("cat", where={"year": np.int64(number)})[0].metadata["year"] == number
