"""Roles: the token at the start of a text that tells a student whether it is a document or a query."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from copies import copied
from fake import random_codec
from test_static import TOKENIZER, embeddings, tensors

import edgeret
from benchmarks.vectors import CachedEncoder
from edgeret.encode.bundle import Bundle, Content, Golden, write
from edgeret.encode.encoder import Encoder
from edgeret.encode.manifest import NO_PROMPTS, Prompts, Roles, read
from edgeret.encode.records import deviation
from edgeret.errors import BackendError, BundleError
from export import spread
from export.rewrite import rewrite

# Tokens that no text of these bundles has.
ROLES = Roles(document=1, query=2)
TEXTS = ["my wireless is broken", "", "a fox 🦊 crossed the river"]
LONG = "Café 漢字 unbelievably " * 400


@pytest.fixture(scope="module", params=["small", "nano"])
def bare(request) -> Encoder:
    return Encoder.load(request.param)


@pytest.fixture(scope="module")
def made(bare, tmp_path_factory) -> Bundle:
    return with_roles(bare, tmp_path_factory.mktemp("models") / "played")


@pytest.fixture(scope="module")
def played(made) -> Encoder:
    return Encoder.load(made.path)


def behind(bare: Encoder, role: int, texts: list[str]) -> np.ndarray:
    """The model's vectors of texts whose first token is another one."""
    pipeline, found = bare._pipeline(), []
    for text in texts:
        ids = pipeline.tokenizer.tokenize(text).ids
        ids = ids if len(ids) <= bare.max_tokens else [*ids[: bare.max_tokens - 1], ids[-1]]
        found.append(pipeline.backend.run([role, *ids[1:]]))
    return np.stack(found)


def with_roles(bare: Encoder, folder: Path, golden: Golden | None = None, **changes: object) -> Bundle:
    """A copy of a bundle whose model has roles."""
    own, asked = (behind(bare, role, TEXTS) for role in ROLES)
    return copied(
        bare.bundle, folder, golden or Golden(TEXTS, own, own, asked, asked), **{"roles": ROLES, **changes}
    )


def test_each_side_is_the_model_with_another_first_token(bare, played):
    texts = [*TEXTS, LONG]
    assert played.encode(texts).tobytes() == behind(bare, ROLES.document, texts).tobytes()
    assert played.encode_queries(texts).tobytes() == behind(bare, ROLES.query, texts).tobytes()
    assert played.encode_passages(TEXTS[:1]).tobytes() == behind(bare, ROLES.document, TEXTS[:1]).tobytes()
    asked = played.encode_query(TEXTS[0])
    assert (asked.windows, asked.known) == (1, True)
    assert asked.vectors.tobytes() == behind(bare, ROLES.query, TEXTS[:1]).tobytes()


def test_the_two_sides_differ_and_no_prompt_stands_before_them(bare, played):
    assert (played.prompts, played.sided, bare.sided) == (NO_PROMPTS, True, False)
    documents, queries, without = (
        encode(TEXTS[:1])[0] for encode in (played.encode, played.encode_queries, bare.encode)
    )
    assert documents @ queries < 0.9999
    assert documents @ without < 0.9999


def test_a_role_takes_no_room(bare, played):
    assert played.passage_tokens == bare.passage_tokens
    assert played.token_spans(LONG) == bare.token_spans(LONG)
    whole, cut = played.encode(["word " * n for n in (played.passage_tokens, 5000)])
    assert whole.tobytes() == cut.tobytes()


def test_the_space_is_that_of_the_model_without_roles(bare, played):
    assert (played.geometry, played.space) == (bare.geometry, bare.space)


def test_what_no_model_knows_is_what_it_was(bare, played):
    for text in ("🦊🦊", "", " ", "🙂", "?", "a"):
        assert played.encode_query(text).known == bare.encode_query(text).known
    for text in ("🦊🦊", "🙂", "🦊" * 5000):
        stand_in = bare.encode_passages([text]).tobytes()
        assert played.encode_passages([text]).tobytes() == stand_in
        assert (
            played.encode_query(text).vectors[:1].tobytes() == bare.encode_query(text).vectors[:1].tobytes()
        )
    assert not np.array_equal(played.encode_passages(TEXTS[2:]), played.encode(TEXTS[2:]))


def test_a_role_may_be_the_token_of_what_is_unknown(bare, tmp_path):
    unknown = bare._pipeline().tokenizer.unknown
    roles = Roles(unknown, unknown)
    own = behind(bare, unknown, TEXTS)
    made = with_roles(bare, tmp_path / "made", Golden(TEXTS, own, own, own, own), roles=roles)
    encoder = Encoder.load(made.path)
    for text in ("wireless", "🦊🦊"):
        assert encoder.encode_query(text).known == bare.encode_query(text).known
    assert encoder.encode_passages(TEXTS[:1]).tobytes() == own[:1].tobytes()


def test_a_long_query_has_the_role_before_each_part(bare, played):
    text = "the button resets the wireless " * 200
    asked = played.encode_query(text)
    assert 10 < asked.windows == bare.encode_query(text).windows
    spans = edgeret.encode.passages.split(text, bare.token_spans(text), 32)
    assert len(spans) == asked.windows <= 64
    parts = behind(bare, ROLES.query, [text[slice(*span)] for span in spans])
    assert ((asked.vectors * parts).sum(axis=1) > 0.9999).all()


def test_an_index_is_asked_and_filled_by_roles(bare, played, path):
    text = "the fox crossed the river"
    with edgeret.Index.create(path, model=played) as index:
        index.add([edgeret.Document("a", text), edgeret.Document("b", "sort the list first"), LONG])
        for mode in ("dense", "hybrid"):
            hit = index.search("where is the fox", mode=mode)[0]
            assert (hit.id, hit.text) == ("a", text)
        hit = index.search(text, mode="dense")[0]
        own = played.encode([text]) @ played.encode_queries([text]).T
        assert hit.score == pytest.approx(own.item(), abs=0.01)
        index.check()
    # Of one space: any bundle of it may ask.
    with edgeret.Index.open(path, model=bare) as index:
        assert index.search("where is the fox", mode="dense")[0].id == "a"


def test_the_spread_is_of_queries_by_their_role(played):
    texts = ["the sea", "a tax form", "red bicycles", "two choirs"]
    expected = deviation(played.encode_queries(texts), played.encode(texts))
    assert spread.measure(played, [texts]) == round(expected, 4)


def test_roles_stand_under_the_checksum(made, tmp_path):
    assert read(made.path).roles == ROLES
    manifest = json.loads((made.path / "manifest.json").read_text())
    assert manifest["roles"] == {"document": 1, "query": 2}
    assert "prompts" not in manifest
    assert replace(made.manifest, roles=Roles(2, 1)).checksum != made.manifest.checksum
    again = rewrite(made, tmp_path / "again")
    assert (again.manifest.roles, again.golden().asked_own is None) == (ROLES, False)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"prompts": Prompts("", "query: ")}, "'prompts' or 'roles', found both"),
        ({"roles": Roles(0, 30522)}, r"'roles' that are ids below the 30522 .*, found \[0, 30522\]"),
        ({"roles": Roles(-1, 0)}, "found"),
    ],
)
def test_roles_that_cannot_be_are_refused_by_name(bare, tmp_path, changes, expected):
    with pytest.raises(BundleError, match=f"expected .*{expected}.*: install or export"):
        with_roles(bare, tmp_path / "made", **changes)


@pytest.mark.parametrize("side", ["own", "asked_own"])
def test_a_side_that_is_not_repeated_is_refused(bare, tmp_path, side):
    own, asked = (behind(bare, role, TEXTS) for role in ROLES)
    wrong = Golden(TEXTS, own, own, asked, asked)._replace(**{side: np.roll(own, 1, axis=0)})
    made = with_roles(bare, tmp_path / "made", wrong)
    with pytest.raises(BackendError, match="likeness of at least"):
        Encoder.load(made.path).encode(["x"])


def test_golden_vectors_of_queries_are_wanted(bare, tmp_path):
    own = behind(bare, ROLES.document, TEXTS)
    made = with_roles(bare, tmp_path / "made", Golden(TEXTS, own, own))
    with pytest.raises(BundleError, match=r"a tensor 'golden\.asked_teacher'"):
        made.golden()


# -- tokenizers that put their tokens elsewhere: a sum of token embeddings says which ones it read

AROUND = {
    "both": ["[CLS]", "$A", "[SEP]"],
    "before": ["[CLS]", "$A"],
    "two before": ["[CLS]", "[SEP]", "$A", "[SEP]"],
    "behind": ["$A", "[SEP]"],
    "none": None,
}


def small(folder: Path, around: list[str] | None) -> Bundle:
    """A bundle without a head, which sums rows of codes; its roles are "red" and "cat"."""
    table = {name: array for name, array in tensors("codes").items() if name.startswith("token")}
    table["tokens"] = table["tokens"].copy()
    pieces = [
        {"Sequence" if piece == "$A" else "SpecialToken": {"id": piece.strip("$"), "type_id": 0}}
        for piece in around or []
    ]
    special = {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in (("[CLS]", 4), ("[SEP]", 5))}
    template = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": special}
    tokenizer = TOKENIZER | {"post_processor": template if around else None}
    ids = [{"[CLS]": 4, "$A": 2, "[SEP]": 5}[piece] for piece in around or ["$A"]]
    own, asked = (total(table, [role, *ids[1:]]) for role in ROLES)
    return write(
        folder,
        Content(
            name="small", max_tokens=16, geometry="ab" * 16, codec=random_codec(), kind="static", graphs={},
            tensors={"tokens.bin": table, "golden.bin": Golden(["cat"], own, own, asked, asked).tensors()},
            files={
                "tokenizer.json": json.dumps(tokenizer).encode(),
                "golden.json": json.dumps({"texts": ["cat"]}).encode(),
            },
            about={}, roles=ROLES,
        ),
    )  # fmt: skip


def total(table: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    summed = embeddings(table)[ids].sum(axis=0, keepdims=True)
    return (summed / np.linalg.norm(summed)).astype(np.float32)


@pytest.mark.parametrize("around", ["both", "before", "two before"])
def test_the_first_of_the_special_tokens_is_replaced(tmp_path, around):
    made = small(tmp_path / "made", AROUND[around])
    encoder = Encoder.load(made.path)
    table = {name: made.tensor(name) for name in ("tokens", "token_centroids")}
    first, last = {"both": ([], [5]), "before": ([], []), "two before": ([5], [5])}[around]
    for encode, role in zip((encoder.encode, encoder.encode_queries), ROLES, strict=True):
        read = [role, *first, 1, 2, 3, *last]
        np.testing.assert_allclose(encode(["red cat sleeps"]), total(table, read), atol=1e-6)
        # Longer than what is tokenized at once.
        read = [role, *first, *[2] * (15 - len(first + last)), *last]
        np.testing.assert_allclose(encode(["cat " * 5000]), total(table, read), atol=1e-6)


@pytest.mark.parametrize("around", ["both", "before", "two before"])
def test_what_is_read_of_a_long_text_is_its_beginning(tmp_path, around):
    encoder = Encoder.load(small(tmp_path / "made", AROUND[around]).path)
    text = "cat " * encoder.passage_tokens
    for encode in (encoder.encode, encoder.encode_queries):
        whole, *longer = encode([text, text + "sleeps", text + "red " * 5000])
        assert [vector.tobytes() for vector in longer] == [whole.tobytes()] * 2


@pytest.mark.parametrize("around", ["behind", "none"])
def test_a_tokenizer_that_puts_nothing_before_a_text_is_refused(tmp_path, around):
    encoder = Encoder.load(small(tmp_path / "made", AROUND[around]).path)
    with pytest.raises(
        BundleError, match="a tokenizer that begins texts with a token, for 'roles', found none"
    ):
        encoder.encode(["cat"])


def test_what_is_kept_of_benchmarks_tells_sides_apart(played, tmp_path):
    kept = CachedEncoder(played, "key", tmp_path)
    for _ in range(2):
        assert kept.encode(TEXTS).tobytes() == played.encode(TEXTS).tobytes()
        assert kept.encode_queries(TEXTS).tobytes() == played.encode_queries(TEXTS).tobytes()
