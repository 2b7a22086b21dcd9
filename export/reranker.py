"""Makes the bundle of a reranker: a cross-encoder with one output, quantized."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.encode import bundle, tables
from edgeret.encode.bundle import Bundle, fingerprint
from edgeret.encode.manifest import NO_PROMPTS, Graph, Prompts
from edgeret.encode.reranker import KIND, PAIRS, Reranker
from edgeret.errors import BundleError
from export import architectures, card, convert, folder, golden, pieces, verify, vocabulary, weights
from export.base import made_with
from export.block import POSITIONS, TABLE, TYPES, Architecture, Head, Weighted
from export.rows import Rows

if TYPE_CHECKING:
    from onnx import ModelProto
    from tokenizers import Tokenizer

Float32 = NDArray[np.float32]
Pair = tuple[str, str]

_GRAPH: Final = "model.int8.onnx"
_MOST_TOKENS: Final = 512
# Each golden text with those that stand so far behind it: itself, which answers best, neighbors, and strangers.
_STEPS: Final = (0, 1, 7)
# What stands behind the first token's vector: a dense layer, its activation, and the layer of one output.
_HEADS: Final = {
    **dict.fromkeys(("bert", "albert"), (("pooler.dense", "pooler"), "tanh", "classifier")),
    **dict.fromkeys(
        ("roberta", "xlm-roberta", "camembert", "mpnet"),
        (("classifier.dense",), "tanh", "classifier.out_proj"),
    ),
    "distilbert": (("pre_classifier",), "relu", "classifier"),
}


@dataclass(frozen=True)
class CrossEncoder(Weighted):
    """A cross-encoder in fp32, as `export.convert` takes a teacher.

    second: what is added to the tokens of the second text, float32 [width]. between: tokens between the two.
    """

    name: str
    license: str
    languages: tuple[str, ...]
    weights: dict[str, Float32]
    shape: Architecture
    head: Head
    max_tokens: int
    tokenizer_json: str
    second: Float32
    between: int
    prompts: Prompts = NO_PROMPTS

    @classmethod
    def read(cls, path: Path) -> CrossEncoder:
        """Read the folder of a model, as transformers or sentence-transformers saves it. Raises BundleError."""
        config, about = folder.load_object(path / "config.json"), folder.card(path)
        if config.get("model_type") not in _HEADS:
            raise BundleError(
                f"expected a reranker of type {', '.join(_HEADS)}, {path} is of type {config.get('model_type')!r:.80}: "
                "choose one of these, or run this model yourself, in a function of a query and texts, and pass that as "
                "rerank="
            )
        found = weights.read(path)
        shape, tensors, _ = architectures.understood(path, config, found)
        tensors |= _head(path, config, found)
        types = tensors.get(f"{TYPES}.weight", np.zeros((1, 1), np.float32))
        width = tensors[f"{TABLE}.weight"].shape[1]
        second = types[1] - types[0] if len(types) > 1 else np.zeros(width, np.float32)
        tokenizer = vocabulary.read(path, len(tensors[f"{TABLE}.weight"]))
        between = _between(path, tokenizer, bool(second.any()))
        positions = len(tensors[f"{POSITIONS}.weight"]) if shape.positions else _MOST_TOKENS
        longest = min(folder.longest(path, positions), _MOST_TOKENS)
        # As the runtime does: beside special tokens more than one of each text.
        folder.check_longest(path, longest, 2 + between + 2)
        return cls(
            name=about.title,
            license=about.license,
            languages=about.languages,
            weights=tensors,
            shape=shape,
            head=Head(("cls",), (_HEADS[config["model_type"]][1], "identity"), 1),
            max_tokens=longest,
            tokenizer_json=tokenizer,
            second=second,
            between=between,
        )

    @property
    def dim(self) -> int:
        """One score."""
        return 1

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer without padding and truncation."""
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.tokenizer_json)

    @cached_property
    def geometry(self) -> str:
        """Fingerprint of the map from pairs to scores."""
        return fingerprint(
            {
                "weights": weights.digest(self.weights),
                "shape": asdict(self.shape),
                "tokenizer": folder.said(json.loads(self.tokenizer_json)),
                "head": asdict(self.head),
                "max_tokens": self.max_tokens,
                "between": self.between,
            }
        )

    def embedded(self, pair: Pair, table: Float32 | None = None) -> Float32:
        """The embeddings of a pair's tokens, float32 [1, n, width], cut as a device cuts them.

        table: in the place of the model's.
        """
        table = self.table if table is None else table
        ends = self.tokenizer.encode("").ids
        asked, told = (self.tokenizer.encode(text, add_special_tokens=False).ids for text in pair)
        room = self.max_tokens - 2 - self.between
        asked = asked[: max(room // 2, room - len(told))]
        told = told[: room - len(asked)]
        tokens = table[[ends[0], *asked, *[ends[1]] * self.between, *told, ends[1]]]
        tokens[len(asked) + 1 + self.between :] += self.second
        return tokens[None]

    def scores(
        self, pairs: Sequence[Pair], graph: ModelProto | None = None, table: Float32 | None = None
    ) -> Float32:
        """The model's scores, float32 [n]: in fp32, or of another graph and table of it."""
        session = convert.session((graph or convert.graph(self)).SerializeToString())
        inputs = (self.embedded(pair, table) for pair in pairs)
        return np.array(
            [session.run(None, {convert.INPUT: tokens})[0][0, 0] for tokens in inputs], np.float32
        )


def make(model: CrossEncoder, out: Path) -> tuple[Bundle, dict[str, float]]:
    """Quantize the model, write its bundle to `out`, and measure it against fp32 on the golden pairs."""
    pairs = golden_pairs()
    graph = convert.graph(model, convert.peaks_of(model, (model.embedded(pair) for pair in pairs)))
    known = model.scores(pairs)
    rows = Rows.of(model)
    words = pieces.files(model.tokenizer_json.encode())

    def write(own: Float32, described: str) -> Bundle:
        return bundle.write(
            out,
            bundle.Content(
                name=out.name,
                max_tokens=model.max_tokens,
                geometry=model.geometry,
                codec=None,
                kind=KIND,
                graphs={"onnx": Graph(_GRAPH, convert.INPUT, convert.OUTPUT)},
                tensors={
                    "tokens.bin": {
                        **rows.tensors(),
                        "second": model.second,
                        "between": np.array([model.between], np.int8),
                    },
                    "golden.bin": {"golden.teacher": known, "golden.own": own},
                },
                files={
                    _GRAPH: graph.SerializeToString(deterministic=True),
                    **words,
                    PAIRS: (json.dumps({"pairs": pairs}, ensure_ascii=False, indent=1) + "\n").encode(),
                    "card.md": described.encode(),
                },
                about={
                    "license": model.license,
                    "languages": list(model.languages),
                    "teacher": {"name": model.name, "weights_sha256": weights.digest(model.weights)},
                    "made_with": made_with(),
                },
                optional={tables.SOURCE} if tables.FILE in words else (),
            ),
        )

    # As for an encoder: a first bundle has scores that are its own but for rounding.
    first = Reranker(write(model.scores(pairs, graph, rows.floats()), ""), "onnx")
    own = verify.scores(first)
    figures = verify.scored(known, own)
    return write(own, card.describe_reranker(first.bundle, model, figures)), figures


def golden_pairs() -> list[Pair]:
    """Golden texts in pairs."""
    texts = [text for text in golden.texts() if text.strip()]
    return [(text, texts[(row + step) % len(texts)]) for row, text in enumerate(texts) for step in _STEPS]


def _head(path: Path, config: dict[str, Any], found: dict[str, Float32]) -> dict[str, Float32]:
    """The tensors behind the encoder, as `head.0` and `head.1`."""
    inner, _, outer = _HEADS[config["model_type"]]
    made = {}
    for number, names in enumerate((inner, (outer,))):
        for part in ("weight", "bias"):
            endings = tuple(f".{name}.{part}" for name in names)
            fitting = [name for name in found if f".{name}".endswith(endings)]
            if len(fitting) != 1:
                raise BundleError(
                    f"expected a model for pairs, {path} has no {endings[0][1:]} or several: give a cross-encoder, or "
                    "'python -m export base' for an encoder"
                )
            made[f"head.{number}.{part}"] = found[fitting[0]]
    if (outputs := len(made["head.1.weight"])) != 1:
        raise BundleError(
            f"expected a cross-encoder with one output, {path} has {outputs}: choose a model for ranking"
        )
    return made


def _between(path: Path, tokenizer_json: str, typed: bool) -> int:
    """How many tokens stand between two texts. Raises BundleError where pairs are joined in another way."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    first, last = tokenizer.encode("").ids
    found = tokenizer.encode("a", "b")
    one, other = (tokenizer.encode(text, add_special_tokens=False).ids for text in "ab")
    for between in (1, 2):
        ids = [first, *one, *[last] * between, *other, last]
        types = [0] * (1 + len(one) + between) + [1] * (len(other) + 1)
        if found.ids == ids and (not typed or found.type_ids == types):
            return between
    raise BundleError(
        f"expected a tokenizer that puts the last token once or twice between two texts, {path} makes "
        f"{found.tokens!r:.200} of 'a' and 'b': choose another model"
    )
