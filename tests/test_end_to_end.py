"""The whole path with the real bundle: text in, text out."""

import json
import subprocess
import sys
import time
from statistics import median

import numpy as np
import pytest
from counts import long

import edgeret
from edgeret import Document, Index

HELP = [
    Document("wifi", "Hold the button for five seconds to reset the Wi-Fi.", {"room": "hall", "year": 2024}),
    Document("lamp", "The lamp turns red when its battery is low.", {"room": "hall", "year": 2021}),
    Document("oven", "Preheat the oven to 200 degrees before baking.", {"room": "kitchen", "year": 2019}),
    Document(
        "tap", "Close the valve under the sink before you change the tap.", {"room": "kitchen", "year": 2024}
    ),
    Document("heat", "Bleed the radiator when its upper half stays cold.", {"room": "hall", "year": 2020}),
]
ANSWERS = {
    "my wireless is broken": "wifi",
    "how do I connect to the internet again": "wifi",
    "the light needs charging": "lamp",
    "how hot for a cake": "oven",
    "water is dripping from the faucet": "tap",
    "it is chilly in my room": "heat",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    with Index.create(tmp_path_factory.mktemp("house") / "house.edgeret", filters=["room"]) as index:
        index.add(HELP)
        yield index


@pytest.mark.parametrize("query", ANSWERS)
def test_meaning_finds_what_shares_no_word(house, query):
    assert house.search(query, k=1)[0].id == ANSWERS[query]
    assert house.search(query, k=1, mode="hybrid")[0].id == ANSWERS[query]


def test_words_filters_and_vectors(house):
    assert house.search("radiator", k=1, mode="lexical")[0].id == "heat"
    assert {hit.id for hit in house.search("water", where={"room": "kitchen"})} == {"oven", "tap"}
    vector = edgeret.Encoder.load("small").encode(["my wireless is broken"])[0]
    assert house.search(vector) == house.search("my wireless is broken", mode="dense")


def test_scores_are_the_cosines_of_the_encoder(house):
    encoder = edgeret.Encoder.load("small")
    query = encoder.encode(["my wireless is broken"])[0]
    exact = {document.id: float(encoder.encode([document.text])[0] @ query) for document in HELP}
    for hit in house.search("my wireless is broken"):
        assert hit.cosine == pytest.approx(exact[hit.id], abs=0.005)


def test_a_long_text_is_found_by_its_passage(path):
    chapters = [" ".join([document.text] * 25) for document in HELP]
    text = "\n\n".join(chapters)
    with Index.create(path) as index:
        index.add(
            [Document("manual", text), Document("other", "The parliament votes on the budget in spring.")]
        )
        assert index.info().passages > len(chapters)
        for query, answer in ANSWERS.items():
            hit = index.search(query, k=1)[0]
            assert hit.id == "manual"
            assert hit.text == text[hit.start : hit.end]
            assert next(document.text for document in HELP if document.id == answer) in hit.text


def test_what_one_process_writes_another_reads(path):
    with Index.create(path) as index:
        index.add(HELP)
        expected = index.search("my wireless is broken", k=2)
    done = subprocess.run(
        [sys.executable, "-m", "edgeret", "search", str(path), "my wireless is broken", "-k", "2", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [(hit["id"], hit["score"]) for hit in json.loads(done.stdout)] == [
        (hit.id, hit.score) for hit in expected
    ]


@long
def test_search_costs_less_than_twice_its_encoding(path):
    """With `base`, over 10,000 documents, in processor time; `python -m benchmarks latency` takes the clock."""
    vectors = np.random.default_rng(0).normal(size=(10_000, 384))
    query = "how do I compress a folder into an archive on the command line"
    with Index.create(path, model="base") as index:
        index.add(Document(str(i), f"text {i}", {}, vector) for i, vector in enumerate(vectors))
        encoder = edgeret.Encoder.load("base")
        ratios = []
        for _ in range(40):
            begun = time.process_time()
            encoder.encode([query])
            encoded = time.process_time()
            index.search(query)
            ratios.append((time.process_time() - encoded) / (encoded - begun))
    assert median(ratios) < 2
