import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from counts import tries

from edgeret.encode.bundle import Bundle, Content, Golden, available, write
from edgeret.encode.encoder import BACKENDS, Encoder
from edgeret.errors import BackendError, BundleError, InvalidDocumentError

TEXTS = tries(200, 1000)

WORDS = [
    "the",
    "boiler",
    "shows",
    "error",
    "when",
    "café",
    "Zürich",
    "漢字",
    "🙂",
    "naïve",
    "file",
    "42",
    "!",
    "(",
    "Ω",
]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder.load("base")


def test_its_repr_says_what_it_is(encoder):
    assert repr(encoder) == (
        f"<edgeret.Encoder 'base', dim 384, at most 256 tokens, onnx, space {encoder.space[:8]}>"
    )


def made_texts(count: int) -> list[str]:
    rng = random.Random(0)
    return ["", " ", *(" ".join(rng.choices(WORDS, k=rng.randint(1, 20))) for _ in range(count - 2))]


def present() -> list[tuple[str, str]]:
    """Each installed bundle with each backend that it serves and that is installed."""
    found = []
    for name in available():
        bundle = Bundle.open(name)
        found += [(name, key) for key, kind in BACKENDS.items() if kind.serves(bundle) and kind.installed()]
    return found


def copy(
    tmp_path, golden: Golden | None = None, graph: bytes | None = None, graphs=None, files=None
) -> Bundle:
    """A copy of `base` with other golden vectors, another ONNX graph or more graphs, its hashes in order."""
    base = Bundle.open("base")
    files = files or {}
    known = golden or base.golden()
    return write(
        tmp_path / "copy",
        Content(
            name="copy",
            max_tokens=base.max_tokens,
            geometry=base.geometry,
            codec=base.codec(),
            kind=base.manifest.kind,
            graphs={"onnx": base.manifest.graphs["onnx"]} | (graphs or {}),
            tensors={
                "tokens.bin": {name: base.tensor(name) for name in ("tokens", "token_scales")},
                "golden.bin": {"golden.teacher": known.teacher, "golden.own": known.own},
            },
            files={
                name: base.file(name).read_bytes()
                for name in ("tokenizer.json", "golden.json", "model.int8.onnx")
            }
            | ({"model.int8.onnx": graph} if graph is not None else {})
            | files,
            about={},
            optional=files.keys(),
        ),
    )


def test_vectors_are_unit_rows_and_the_golden_ones(encoder):
    golden = encoder.bundle.golden()
    vectors = encoder.encode(golden.texts)
    assert vectors.shape == (len(golden.texts), encoder.dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert ((vectors * golden.own).sum(axis=1) > 0.995).all()
    assert ((vectors * golden.teacher).sum(axis=1).mean()) > 0.99


def test_near_in_meaning_is_near_in_space(encoder):
    wireless, wifi, fox = encoder.encode(
        ["my wireless is broken", "the Wi-Fi does not work any more", "a fox crossed the river"]
    )
    assert wireless @ wifi > wireless @ fox + 0.3


@pytest.mark.parametrize(("name", "backend"), present())
def test_a_vector_depends_on_its_text_alone(name, backend):
    """On every backend that is here; where a package is missing, its backend is not."""
    encoder, texts = Encoder.load(name, backend), made_texts(TEXTS)
    together = encoder.encode(texts)
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    beside_long = np.stack([encoder.encode(["long " * 300, text])[1] for text in texts[:10]])
    threaded = Encoder.load(name, backend, threads=2).encode(texts[::-1])[::-1]
    assert together.tobytes() == alone.tobytes() == threaded.tobytes()
    assert beside_long.tobytes() == together[:10].tobytes()


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_a_long_text_is_cut_at_the_end(encoder):
    assert encoder.passage_tokens == encoder.bundle.max_tokens - 2
    whole, cut, shorter = encoder.encode([f"{'word ' * n}" for n in (5000, encoder.passage_tokens, 100)])
    assert whole.tobytes() == cut.tobytes() != shorter.tobytes()


def test_token_spans_cover_the_words_and_are_never_cut(encoder):
    text = "Café 漢字 🙂 unbelievably " * 200
    spans = encoder.token_spans(text)
    assert len(spans) > encoder.bundle.max_tokens
    assert spans[0] == (0, 4)
    covered = {i for start, end in spans for i in range(start, end)}
    assert covered == {i for i, character in enumerate(text) if not character.isspace()}
    assert encoder.token_spans("") == encoder.token_spans(" \n") == []


def test_a_lone_surrogate_is_refused(encoder):
    for call in (lambda: encoder.encode(["fine", "a\ud800"]), lambda: encoder.token_spans("a\ud800")):
        with pytest.raises(InvalidDocumentError, match="surrogate at 1: decode"):
            call()


def test_loading_starts_nothing():
    code = "import sys; from edgeret.encode.encoder import Encoder; e = Encoder.load('base'); e.codec, e.planned_bytes"
    code += "; print([m for m in ('onnxruntime', 'tokenizers', 'torch', 'onnx') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_threads_that_arrive_together_share_one_start():
    fresh = Encoder.load("base")
    with ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(lambda _: fresh.encode(["my wireless is broken"]).tobytes(), range(8)))
    assert len(set(vectors)) == 1


def test_identity_is_the_bundles_own(encoder):
    opened = Bundle.open("base")
    assert (encoder.name, encoder.dim) == ("base", 384)
    assert (encoder.space, encoder.geometry, encoder.codec_id) == (
        opened.space,
        opened.geometry,
        opened.codec_id,
    )
    assert encoder.codec.widths == (64, 128, 256, 384)


@pytest.mark.parametrize("backend", ["tflite", "static", "cuda"])
def test_a_backend_that_the_bundle_lacks_is_refused(backend):
    with pytest.raises(BackendError, match=f"'{backend}': choose 'onnx'"):
        Encoder.load("base", backend=backend)


@pytest.mark.parametrize(
    ("package", "more"), [("onnxruntime", ", or choose a model .*'nano'"), ("tokenizers", "")]
)
def test_a_missing_runtime_says_how_to_get_it_or_do_without(tmp_path, monkeypatch, package, more):
    without_tables = copy(tmp_path).path
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BackendError, match=f"pip install {package}{more}"):
        Encoder.load(without_tables).encode(["x"])


def test_a_missing_model_is_refused():
    with pytest.raises(BundleError, match="base"):
        Encoder.load("bass")


def test_an_encoder_from_a_folder_is_found_again_by_its_name(tmp_path, monkeypatch):
    made = copy(tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = Encoder.load("copy")
    assert loaded.space == Encoder.load("base").space
    monkeypatch.chdir("/")
    assert Encoder.load(loaded.name).bundle.manifest == made.manifest


def test_a_backend_that_answers_wrongly_is_refused(tmp_path):
    golden = Bundle.open("base").golden()
    wrong = golden._replace(own=np.roll(golden.own, 1, axis=1))
    with pytest.raises(BackendError, match="golden"):
        Encoder.load(copy(tmp_path, wrong).path).encode(["x"])


@pytest.mark.parametrize("graph", [b"not a graph", b""])
def test_a_graph_that_the_runtime_cannot_read_is_refused(tmp_path, graph):
    with pytest.raises(BackendError, match="onnxruntime"):
        Encoder.load(copy(tmp_path, graph=graph).path).encode(["x"])
