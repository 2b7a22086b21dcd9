"""Token tables of product codes: what docs/format.md says of them, computed once more."""

import numpy as np
import pytest
from counts import tries
from fake import DIM, random_codec
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeret.encode import tokens
from edgeret.encode.backend import unit
from edgeret.encode.bundle import Bundle, Content, write
from edgeret.encode.onnx import OnnxBackend
from edgeret.encode.tokens import TokenTable, planned_bytes
from edgeret.errors import BundleError

WORDS = 7


def bundle_of(folder, kind: str, origin: Bundle | None = None, **tensors: np.ndarray) -> Bundle:
    """A bundle of nothing but a token table and the graph of `origin`; beside a graph, rows may have any width."""
    graphs = {} if origin is None else {"onnx": origin.manifest.graphs["onnx"]}
    content = Content(
        name="table",
        max_tokens=16,
        geometry="ab" * 16,
        codec=random_codec() if origin is None else origin.codec(),
        kind=kind,
        graphs=graphs,
        tensors={"tokens.bin": tensors},
        files={graph.file: origin.read(graph.file) for graph in graphs.values()},
        about={},
    )
    return write(folder, content)


def coded(parts: int, width: int, words: int = WORDS, seed: int = 0) -> dict[str, np.ndarray]:
    """Codes of `words` words, and centroids of `parts` parts of `width` entries."""
    rng = np.random.default_rng(seed)
    return {
        "tokens": rng.integers(0, 256, (words, parts), np.uint8),
        "token_centroids": rng.normal(size=(parts, 256, width)).astype(np.float16),
    }


def joined(table: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """What the ids' rows stand for, part by part."""
    rows = [
        np.concatenate(
            [table["token_centroids"][part, code] for part, code in enumerate(table["tokens"][id])]
        )
        for id in ids
    ]
    return (
        np.stack(rows).astype(np.float32)
        if rows
        else np.empty((0, table["token_centroids"][:, 0].size), np.float32)
    )


@given(
    shape=st.one_of(
        st.tuples(st.just("transformer"), st.integers(1, 40), st.integers(1, 9)),
        st.sampled_from([("static", parts, DIM // parts) for parts in range(1, DIM + 1) if DIM % parts == 0]),
    ),
    words=st.integers(1, 300),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=tries(40), deadline=None)
def test_rows_are_their_parts_centroids_joined(tmp_path_factory, shape, words, data, seed):
    kind, parts, width = shape
    table = coded(parts, width, words, seed)
    ids = data.draw(st.lists(st.integers(0, words - 1), max_size=40))
    opened = bundle_of(tmp_path_factory.mktemp("made") / "table", kind, **table)
    assert opened.token_width == parts * width
    read = TokenTable(opened)
    for _ in range(2):
        found = read.take(ids)
        assert (found.dtype, found.shape) == (np.float32, (len(ids), parts * width))
        assert found.tobytes() == joined(table, ids).tobytes()
    with pytest.raises(BundleError, match=f"expected token ids below {words}, got {words}: install"):
        read.take([*ids, words])


def test_a_graph_is_given_what_codes_stand_for(tmp_path):
    table = coded(96, 4)
    backend = OnnxBackend(bundle_of(tmp_path / "table", "transformer", Bundle.open("small"), **table))
    for ids in ([0], [3, 1, 1, 6, 0]):
        expected = backend._evaluate(joined(table, ids))
        assert backend.run(ids).tobytes() == unit(expected, 384).tobytes()
        added = backend.evaluate(ids, np.ones(384, np.float32), len(ids))
        assert np.asarray(added).tobytes() == expected.tobytes()


def test_what_is_planned_is_the_codes_and_their_centroids(tmp_path, monkeypatch):
    made = bundle_of(tmp_path / "table", "static", **coded(24, 4))
    assert planned_bytes(made) == WORDS * (24 + tokens._KEPT_BYTES) + 4 * 256 * DIM
    monkeypatch.setattr(tokens, "_KEPT", 3)
    assert planned_bytes(made) == 3 * (24 + tokens._KEPT_BYTES) + 4 * 256 * DIM


def without(name: str):
    return lambda table: {key: array for key, array in table.items() if key != name}


def changed(name: str, change):
    return lambda table: table | {name: change(table[name])}


@pytest.mark.parametrize("kind", ["static", "transformer"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            changed("tokens", lambda codes: codes[:, :-1].copy()),
            "('tokens' of codes|token_centroids as float16)",
        ),
        (changed("tokens", lambda codes: codes.view(np.int8)), "tokens as uint8"),
        (changed("tokens", lambda codes: codes.astype(np.int16)), "tokens as uint8"),
        (changed("tokens", lambda codes: codes.ravel()), "'tokens' of codes"),
        (changed("token_centroids", lambda numbers: numbers[:-1]), "token_centroids as float16"),
        (changed("token_centroids", lambda numbers: numbers[:, :255].copy()), "token_centroids as float16"),
        (
            changed("token_centroids", lambda numbers: numbers.astype(np.float64)),
            "token_centroids as float16",
        ),
        (
            changed("token_centroids", lambda numbers: numbers.astype(np.float32)),
            "token_centroids as float16",
        ),
        (changed("token_centroids", lambda numbers: numbers[..., 0].copy()), "token_centroids as float16"),
        (without("token_centroids"), "one of the tensors 'token_scales' and 'token_centroids', found none"),
        (without("tokens"), "a tensor 'tokens'"),
        (
            lambda table: table | {"token_scales": np.ones(WORDS, np.float32)},
            "one of the tensors 'token_scales' and 'token_centroids', found both",
        ),
    ],
)
def test_tensors_that_do_not_fit_together_are_named(tmp_path, kind, change, expected):
    made = bundle_of(tmp_path / "table", kind, **change(coded(24, 4)))
    with pytest.raises(BundleError, match=f"expected {expected}.*: install or export"):
        TokenTable(made)


def test_parts_that_do_not_divide_a_vector_are_refused(tmp_path):
    made = bundle_of(tmp_path / "table", "static", **coded(23, 4))
    with pytest.raises(BundleError, match=rf"as many in a row as divide {DIM}, found \({WORDS}, 23\)"):
        TokenTable(made)


def test_a_file_that_is_cut_is_an_error(tmp_path):
    made = bundle_of(tmp_path / "table", "transformer", **coded(24, 4))
    read = TokenTable(made)
    first = read.take([0])
    (made.path / "tokens.bin").write_bytes(b"")
    assert read.take([0]).tobytes() == first.tobytes()
    with pytest.raises(BundleError, match=r"tokens\.bin as long as it was, found less: install"):
        read.take([1])
