import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from counts import long
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import datasets, imports, latency, metrics, quality
from benchmarks.__main__ import main
from benchmarks.vectors import CachedEncoder, load_encoder
from edgeret.codec import quantize, unpack
from edgeret.documents import Document
from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.index import Index
from tests.fake import FakeEncoder, random_codec

DOCUMENTS = [
    {"_id": "d1", "title": "Bread", "text": "flour, water and salt"},
    {"_id": "d2", "title": "", "text": "a river runs to the sea"},
    {"_id": "d3", "text": "the engine makes a loud noise"},
    {"_id": "d4", "title": "", "text": ""},
]
QUERIES = [
    {"_id": "q1", "text": "how to bake"},
    {"_id": "q2", "text": "broken motor"},
    {"_id": "q3", "text": "judged by nobody"},
]
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\nq2\td3\t1\n"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    (path / "corpus.jsonl").write_text("".join(json.dumps(document) + "\n" for document in DOCUMENTS))
    (path / "queries.jsonl").write_text("".join(json.dumps(query) + "\n" for query in QUERIES))
    (path / "qrels.tsv").write_text(QRELS)
    return path


def test_collection_is_read(folder):
    collection = datasets.read(folder)
    assert collection.name == "tiny"
    assert collection.documents == {
        "d1": "Bread flour, water and salt",
        "d2": "a river runs to the sea",
        "d3": "the engine makes a loud noise",
        "d4": "",
    }
    assert collection.queries == {"q1": "how to bake", "q2": "broken motor"}
    assert collection.qrels == {"q1": {"d1": 2, "d2": 1}, "q2": {"d3": 1}}


def test_packed_collection_reads_the_same(folder):
    plain = datasets.read(folder)
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes()))
        (folder / name).unlink()
    assert datasets.read(folder) == plain


def test_questions_in_another_language_and_a_draw_of_documents(folder):
    (folder / "queries_de.jsonl").write_text('{"_id": "q2", "text": "Motor kaputt"}\n')
    found = datasets.read(folder, "queries_de")
    assert (found.queries, found.qrels) == ({"q2": "Motor kaputt"}, {"q2": {"d3": 1}})
    drawn = datasets.draw(found, 1, 2, 0)
    assert (len(drawn.documents), "d3" in drawn.documents) == (2, True)
    assert datasets.draw(found, 1, 9, 0) == found


def test_broken_line_is_named(folder):
    with (folder / "corpus.jsonl").open("a") as file:
        file.write('{"_id": "d5"}\n')
    with pytest.raises(ValueError, match=r"corpus\.jsonl:5: .*_id and text"):
        datasets.read(folder)


def test_broken_judgment_is_named(folder):
    with (folder / "qrels.tsv").open("a") as file:
        file.write("q2\td1\n")
    with pytest.raises(ValueError, match=r"qrels\.tsv:5: "):
        datasets.read(folder)


def test_collection_without_relevant_documents_is_refused(folder):
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t0\n")
    with pytest.raises(ValueError, match="relevant document"):
        datasets.read(folder)


def test_sample_repeats_and_keeps_the_order():
    ids = [f"q{number}" for number in range(100)]
    whole = datasets.Collection(
        "many", {}, {query: query.upper() for query in ids}, {query: {"d": 1} for query in ids}
    )
    part = datasets.sample(whole, 10, seed=0)
    assert len(part.queries) == 10
    assert part == datasets.sample(whole, 10, seed=0)
    assert part != datasets.sample(whole, 10, seed=1)
    assert list(part.queries) == [query for query in ids if query in part.queries]
    assert list(part.qrels) == list(part.queries)
    assert datasets.sample(whole, 100, seed=0) is whole


def test_ndcg_by_hand():
    qrels = {"a": {"x": 2, "y": 1}, "b": {"x": 1}, "c": {"x": 1}}
    ranking = {"a": ["y", "z", "x"], "b": ["x"]}
    ideal = 2 + 1 / np.log2(3)
    values = metrics.ndcg10(qrels, ranking)
    np.testing.assert_allclose(values, [(1 + 2 / np.log2(4)) / ideal, 1, 0])


def test_ndcg_stops_at_ten_and_keeps_the_ranking_of_ties():
    others = [f"n{number}" for number in range(10)]
    assert metrics.ndcg10({"a": {"x": 1}}, {"a": [*others, "x"]}).tolist() == [0]
    tenth = metrics.ndcg10({"a": {"x": 1}}, {"a": [*others[:9], "x"]})
    np.testing.assert_allclose(tenth, [1 / np.log2(11)])


def test_share_is_the_unweighted_mean_over_collections():
    column = [np.array([1.0, 0.0]), np.array([0.5])]
    reference = [np.array([1.0, 1.0]), np.array([1.0])]
    assert metrics.share(column, reference) == pytest.approx(0.5)
    column.append(np.full(50, 0.8))
    reference.append(np.full(50, 1.0))
    assert metrics.share(column, reference) == pytest.approx((0.5 + 0.5 + 0.8) / 3)


@given(st.floats(0.1, 2), st.integers(0, 2**32 - 1))
def test_interval_keeps_the_pairs(factor, seed):
    base = [np.random.default_rng(seed).uniform(0.1, 1, 20) for _ in range(2)]
    interval = metrics.share_interval([values * factor for values in base], base, rounds=50)
    assert interval == pytest.approx((factor, factor))


def test_interval_has_the_width_of_the_normal_approximation():
    random = np.random.default_rng(3)
    base = np.ones(400)
    values = random.normal(0.9, 0.2, 400)
    low, high = metrics.share_interval([values], [base], rounds=4000)
    margin = 1.96 * values.std() / np.sqrt(400)
    assert (low, high) == pytest.approx((values.mean() - margin, values.mean() + margin), abs=0.003)
    assert metrics.share_interval([values], [base], rounds=4000) == (low, high)


class Counting:
    """Encodes a text as its length, and notes what it was asked."""

    name = "counting"

    def __init__(self):
        self.asked = []

    def encode(self, texts):
        self.asked += texts
        return np.array([[len(text), 1] for text in texts], dtype=np.float32)


def test_cached_vectors_are_computed_once(tmp_path):
    encoder = Counting()
    first = CachedEncoder(encoder, "key", tmp_path).encode(["a", "bb", "a"])
    again = CachedEncoder(encoder, "key", tmp_path).encode(["bb", "ccc", "a"])
    assert sorted(encoder.asked) == ["a", "bb", "ccc"]
    assert first.dtype == again.dtype == np.float32
    assert first.tolist() == [[1, 1], [2, 1], [1, 1]]
    assert again.tolist() == [[2, 1], [3, 1], [1, 1]]


def test_cached_vectors_of_another_key_are_not_used(tmp_path):
    encoder = Counting()
    CachedEncoder(encoder, "one", tmp_path).encode(["a"])
    CachedEncoder(encoder, "two", tmp_path).encode(["a"])
    assert encoder.asked == ["a", "a"]


def test_cached_encoder_passes_the_rest_on(tmp_path):
    assert CachedEncoder(Counting(), "key", tmp_path).name == "counting"


def test_a_cached_encoder_weighs_words_as_the_encoder_itself(tmp_path):
    encoder = Encoder.load("nano")
    with Index.create(tmp_path / "a.edgeret", model=encoder) as index:
        index.add(["Hold the button to reset the router.", "The choir sings on Thursdays."])
        own = index.explain("reset the router").words_weight
    with Index.open(tmp_path / "a.edgeret", model=CachedEncoder(encoder, "key", tmp_path)) as index:
        assert index.explain("reset the router").words_weight == own


@pytest.mark.parametrize(("argv", "code"), [([], 2), (["nothing"], 2), (["--help"], 0)])
def test_usage(argv, code, capsys):
    assert main(argv) == code
    assert "quality" in capsys.readouterr().err


def test_codes_are_ranked_by_distance_then_row():
    codec = random_codec()
    vectors = np.random.default_rng(0).standard_normal((200, codec.dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[150] = vectors[20]
    query, codes = codec.encode_symmetric(vectors[20], 64), codec.encode(quantize(vectors), 64)
    [ranked] = quality.rank_codes(codes, [query])
    distances = unpack(codes ^ query, 64).sum(axis=1)
    assert ranked.tolist() == sorted(range(200), key=lambda row: (distances[row], row))
    assert ranked[:2].tolist() == [20, 150]


def test_documents_rank_by_their_best_passage():
    cut = quality.Passages(texts=[""] * 4, owners=["a", "b", "a", "c"])
    assert cut.documents(np.array([2, 0, 3, 1])) == ["a", "c", "b"]


def test_recall_counts_the_first_forty():
    exact = np.arange(100)
    assert quality.recall(exact, exact) == 1
    assert quality.recall(exact, exact[::-1]) == 0
    assert quality.recall(exact, np.arange(100) + 5) == 0.5


def test_mean_row_gives_shares_and_leaves_out_what_needs_a_teacher():
    columns = dict.fromkeys(quality.COLUMNS, np.array([0.5, 0.25]))
    line = quality.mean_row([columns | {quality.SEARCH: np.array([0.25, 0.125])}])
    assert line["ndcg10_teacher"] == line["ndcg10_float"] == 1
    assert line["ndcg10"] == line["ndcg10_of_float"] == 0.5
    assert line["ndcg10_interval"] == [0.5, 0.5]
    assert line["recall10_at_40"] == 0.375
    del columns[quality.TEACHER]
    without = quality.mean_row([columns])
    assert without["ndcg10"] is None
    assert without["ndcg10_interval"] is None
    assert without["ndcg10_of_float"] == 1
    assert without["recall10_at_40"] == 0.375


def test_every_column_finds_what_shares_a_word(folder):
    (folder / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "salt bread flour water"}\n{"_id": "q2", "text": "engine noise"}\n'
    )
    encoder = FakeEncoder()
    columns = quality.measure(datasets.read(folder), encoder, encoder, encoder, bits=64, rescore=40)
    assert list(quality.row(columns)) == list(quality.COLUMNS)
    for column, values in columns.items():
        assert values.shape == (2,)
        assert values[1] == 1, column
    assert (
        columns["ndcg10_float"].tolist() == columns["ndcg10_teacher"].tolist() == columns["ndcg10"].tolist()
    )
    without = quality.measure(datasets.read(folder), encoder, encoder, None, bits=64, rescore=40)
    assert quality.row(without)["ndcg10_teacher"] is None
    assert quality.row(without)["ndcg10"] == quality.row(columns)["ndcg10"]


def test_quality_prints_a_line_for_each_collection_and_the_mean(folder, monkeypatch, capsys):
    monkeypatch.setattr(quality, "load_encoder", lambda model: FakeEncoder())
    monkeypatch.setattr(quality, "read_teacher", lambda folder: None)
    argv = ["quality", "--model", "fake", "--bits", "64", "--rescore", "20", str(folder)]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    first, mean = map(json.loads, out.splitlines())
    settings = {"model": "fake-0", "query_model": "fake-0", "bits": 64, "rescore": 20}
    assert list(first) == ["collection", *settings, *quality.COLUMNS]
    assert first.items() >= ({"collection": "tiny", "ndcg10_teacher": None} | settings).items()
    assert mean.items() >= ({"collection": "mean", "ndcg10_float": None} | settings).items()
    assert "ndcg10_float" in err
    assert "--teacher" in err


def test_quality_refuses_in_one_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(quality, "load_encoder", lambda model: FakeEncoder())
    monkeypatch.setattr(quality, "read_teacher", lambda folder: None)
    assert main(["quality", "--model", "fake", str(folder / "absent")]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit, match="2"):
        main(["quality", "--model", "fake", "--rescore", "15", str(folder)])
    assert "multiple of 10" in capsys.readouterr().err


def test_runs_are_interleaved_and_the_first_round_does_not_count():
    calls = []
    runs = {"a": lambda query: calls.append(("a", query)), "b": lambda query: calls.append(("b", query))}
    times = latency.interleave(runs, rounds=3)
    assert [len(values) for values in times.values()] == [3, 3]
    assert "".join(name for name, _ in calls) == "abbaabba"
    assert all(first[1] == second[1] for first, second in zip(calls[::2], calls[1::2], strict=True))


def test_a_bundle_is_cached_under_what_makes_its_vectors(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder("base")
    vectors = encoder.encode(["a river runs to the sea"])
    assert len(list((tmp_path / ".cache" / "vectors").iterdir())) == 1
    again = load_encoder(str(encoder.bundle.path))
    monkeypatch.setattr(again._encoder, "encode", None)
    assert again.encode(["a river runs to the sea"]).tobytes() == vectors.tobytes()


def test_latency_prints_one_line(monkeypatch, capsys):
    monkeypatch.setattr(latency, "read_teacher", lambda folder: None)
    assert main(["latency", "--model", "base", "--rows", "50", "--rounds", "3"]) == 0
    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    assert line.items() >= {"model": "base", "rows": 50, "rounds": 3, "tokens": 15, "fp32_ms": None}.items()
    assert min(line["search_ms"], line["encode_ms"], line["ratio"]) > 0


def test_latency_of_several_bundles_is_compared_with_the_first(capsys):
    other = str(Bundle.open("base").path)
    assert main(["latency", "--model", "base", other, "--rounds", "3"]) == 0
    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["first"], line["rounds"], line["tokens"]) == ("base", 3, 15)
    [compared] = line["others"]
    assert 0 < compared["least_us"] <= compared["encode_us"]
    assert 0 < compared["first_least_us"] <= compared["first_us"]
    assert compared["least_us"] <= compared["after_pause_us"]
    assert min(compared["ratio"], compared["after_pause_ratio"], compared["alone_ratio"]) > 0
    assert min(compared["alone_us"], compared["first_alone_us"]) > 0


def test_the_time_of_an_import_is_divided_among_its_modules(capsys):
    report = (
        "import time: self [us] | cumulative | imported package\n"
        "import time:      2000 |      30000 |     numpy\n"
        "import time:      4000 |      34500 |   edgeret.codec\n"
        "import time:       500 |        500 |     json\n"
        "import time:      1500 |      36500 | edgeret\n"
    )
    assert imports.summarize(imports.read(report)) == {
        "import_ms": 36.5,
        "numpy_ms": 30.0,
        "edgeret_ms": 5.5,
        "others_ms": 1.0,
        "slowest": {"edgeret.codec": 4.0, "edgeret": 1.5},
        "python": sys.version.split()[0],
    }
    assert imports.main(["--runs", "1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["import_ms"] > found["numpy_ms"] > 0
    assert found["edgeret_ms"] > 0
    assert found["process_cpu_ms"]["edgeret"] > found["process_cpu_ms"]["python"] > 0


def test_encoders_of_languages_are_measured_beside_each_other(folder, tmp_path, capsys):
    graded = tmp_path / "graded"
    graded.mkdir()
    lines = [
        "score\ts1\ts2",
        "5.0\ta red lamp\ta red lamp",
        "3\ta red lamp\ta lamp",
        "0\ta red lamp\tsix dogs run",
    ]
    (graded / "sts.tsv").write_text("\n".join(lines) + "\n")
    both = [str(folder), str(graded)]
    assert main(["languages", *both, "--max-queries", "3", "--encoders", "nano", "model2vec", "teacher"]) == 0
    # What model2vec distills was not said.
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert line["encoder"] == "nano"
    assert 0 < line["ndcg10"][folder.name] <= 1
    assert line["spearman"] == {"graded": 1.0}
    assert line["query_us"] > 0
    assert line["rss_over_import_mb"] > 1
    assert line["files_bytes"] == Encoder.load("nano").bundle.file_bytes
    (graded / "sts.tsv").write_text("score\ts1\ts2\n5.0\tone alone\n")
    assert main(["languages", *both, "--encoders", "nano"]) == 1
    assert "sts.tsv:2: expected a score and two sentences" in capsys.readouterr().err
    assert main(["languages", str(folder), "--encoders", "nobody"]) == 1
    assert "expected the name of a bundle" in capsys.readouterr().err


def test_backends_print_a_line_for_each_that_is_installed(capsys):
    assert main(["backends", "--model", "base"]) == 0
    lines = list(map(json.loads, capsys.readouterr().out.splitlines()))
    assert lines[0]["backend"] == "onnx"
    for line in lines:
        assert 10 < line["short_mb"] <= line["every_mb"] * 1.05
        assert line["every_mb"] < line["planned_mb"] * 1.15
        assert line["short_ms"] > 0


def test_words_are_measured_beside_fts5(monkeypatch, capsys):
    from benchmarks import words

    texts = [
        f"the {color} {thing} number {number} {'again and ' * 6}again"
        for number in range(40)
        for color in ("red", "blue")
        for thing in ("lamp", "door")
    ]
    monkeypatch.setattr(words, "distinct", lambda count: texts[:count])
    monkeypatch.setattr(words.os, "sched_setaffinity", lambda process, cores: None)
    assert main(["words", "--rows", "120", "--queries", "5", "--k", "7", "--compact"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["system"] for line in lines][:2] == ["edgeret", "fts5"]
    assert lines[0]["segments"] == 1
    assert all(line["bytes_per_row"] > 0 and line["p50_ms"] > 0 for line in lines)


@long
def test_modes_are_measured_in_one_index(monkeypatch, capsys):
    from benchmarks import modes, words

    end = "again and " * 6 + "again"
    texts = [f"the {color} lamp number {number} {end}" for number in range(60) for color in ("red", "blue")]
    monkeypatch.setattr(words, "distinct", lambda count: texts[:count])
    monkeypatch.setattr(modes, "_STARTS", 1)
    monkeypatch.setattr(modes.os, "sched_setaffinity", lambda process, cores: None)
    assert (
        main(["modes", "--rows", "80", "--queries", "4", "--model", "nano", "--commits", "3", "--each", "9"])
        == 0
    )
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["mode"] for line in lines] == ["dense", "lexical", "hybrid"]
    assert all(
        line["p50_ms"] > 0 and line["start_ms"] > 0 and line["rss_over_import_mb"] > 0 for line in lines
    )


def test_identifiers_and_words_of_two_characters_are_found():
    from benchmarks import exact

    parts = exact.identifiers("part")
    assert len(parts) == len(set(parts.values())) == exact.ASKED
    chinese = exact.two_characters(["东京塔很高", "我在东京", "北京塔", "北京"])
    assert chinese.keys() <= {"东京", "北京", "京塔"}
    texts = [*parts.values(), "东京塔很高", "我在东京", "北京塔", "北京"]
    lines = list(exact.measure(texts, {"part": parts, "chinese": chinese}, FakeEncoder(), ["lexical"]))
    assert (lines[0]["kind"], lines[0]["first"]) == ("part", exact.ASKED)
    assert lines[1]["among_ten"] == len(chinese) >= 2


def test_passages_of_other_languages_follow_where_there_are_too_few(monkeypatch, tmp_path):
    from benchmarks import words

    for folder, letter in (("text", "a"), ("text_multi", "b")):
        (tmp_path / folder).mkdir()
        with gzip.open(tmp_path / folder / "some.txt.gz", "wt") as file:
            file.writelines(f"{letter}{number % 5}\n" for number in range(10))
    monkeypatch.setattr(words, "TEXTS", tmp_path / "text")
    assert {text[0] for text in words.distinct(5)} == {"a"}
    assert sorted(text[0] for text in words.distinct(7)) == ["a"] * 5 + ["b"] * 2
    with pytest.raises(ValueError, match="found 10: ask for fewer rows"):
        words.distinct(11)


def test_queries_have_fifteen_words_and_are_no_rows(monkeypatch):
    from benchmarks import words

    texts = [f"{number} " + "word " * (number % 30) for number in range(60)]
    monkeypatch.setattr(words, "distinct", lambda count: texts[:count])
    rows, queries = words.drawn(40, 2)
    assert len(rows) == 40
    assert len(queries) == 2
    assert {len(query.split()) for query in queries} == {words.QUERY_WORDS}
    assert not any(row.startswith(query) for row in rows for query in queries)
    monkeypatch.setattr(words, "distinct", lambda count: ["too short"] * count)
    with pytest.raises(ValueError, match="found 0: ask fewer"):
        words.drawn(10, 1)


def test_a_search_is_timed_beside_a_graph_with_texts(monkeypatch, capsys):
    from benchmarks import beside

    texts = [f"lamp number {number}" for number in range(60)]
    monkeypatch.setattr(beside, "drawn", lambda rows, queries: (texts[:rows], texts[rows : rows + queries]))
    monkeypatch.setattr(beside, "graph", lambda vectors: lambda vector: list(range(10)))
    monkeypatch.setattr(beside.os, "sched_setaffinity", lambda process, cores: None)
    assert main(["beside", "--rows", "40", "--queries", "4", "--rounds", "2", "--modes", "dense"]) == 0
    (line,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["rows"], line["mode"], line["k"], line["threads"]) == (40, "dense", 10, 1)
    assert min(line[name] for name in line if name.endswith("_us") or name.startswith("ratio")) > 0
    file = beside.texts_of(Path(":memory:"), texts)
    rows = [7, 3, 59, 0, 1, 2, 4, 5, 6, 8]
    assert beside.one_by_one(file, rows) == beside.at_once(file, rows) == [(row, texts[row]) for row in rows]


def test_bytes_are_told_by_table(tmp_path):
    from benchmarks import memory

    with Index.create(tmp_path / "x.edgeret", FakeEncoder()) as index:
        index.add([Document("a", "red cat")])
    tables = memory.by_table(tmp_path / "x.edgeret", 1)
    assert sum(tables.values()) <= (tmp_path / "x.edgeret").stat().st_size
    assert {"documents", "passages", "lexicon_tail"} <= tables.keys()
