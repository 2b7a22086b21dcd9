"""`python -m export COMMAND`: the workstation side.

A command imports what it needs, so that `verify` runs beside a runtime alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.encode.bundle import Bundle
from edgeret.encode.encoder import Encoder
from edgeret.encode.reranker import KIND, Reranker
from edgeret.errors import BundleError, EdgeretError
from edgeret.shell.arguments import language_of
from export import handover, verify
from export.arguments import parser

if TYPE_CHECKING:
    from pathlib import Path

    from edgeret.codec import Codec
    from export import students
    from export.teacher import Teacher

_RATES: Final = {"nano": 1e-3, "small": 3e-4}
_FITTED: Final = 100_000
_CODEC_QUERIES: Final = 200
_MAPPED_APART: Final = 4400
"""Texts that a map is measured on; the first _MAPPED_QUERIES of them ask for the others."""

_MAPPED_QUERIES: Final = 400


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns 0, 1 for an error or a missed gate; argparse exits with 2."""
    arguments = parser().parse_args(argv)
    try:
        return _COMMANDS[arguments.command](arguments)
    except EdgeretError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1


def _prompts(arguments: argparse.Namespace) -> dict[str, str]:
    """The prompts that were given in the place of the teacher's own."""
    if arguments.no_prompt:
        return {"document": "", "query": ""}
    given = {"document": arguments.document_prompt, "query": arguments.query_prompt}
    return {side: prompt for side, prompt in given.items() if prompt is not None}


def _asked(bundle: Bundle) -> dict[str, str] | None:
    """The prompts with which a bundle's teacher is read; None for its own, which a student's roles stand for."""
    return None if bundle.manifest.roles else bundle.manifest.prompts._asdict()


def _gather(arguments: argparse.Namespace, teacher: Teacher) -> students.Material:
    from export import students

    material = students.gather(
        teacher, arguments.text, arguments.collections, not arguments.no_share_alike, arguments.tokens,
        arguments.seed, arguments.cache, arguments.device,
    )  # fmt: skip
    return _told(arguments, material)


def _licensed(arguments: argparse.Namespace) -> list[Path]:
    """The files of text, without those that are to be shared alike if so was said."""
    from export import text

    return [file for file in arguments.text if not (arguments.no_share_alike and text.shared_alike(file))]


def _told(arguments: argparse.Namespace, material: students.Material) -> students.Material:
    """Material with what `clean` left out of it."""
    material = replace(material, removed=material.removed + arguments.removed)
    print(
        f"{len(material.texts):,} texts, {len(material.tokens.flat):,} tokens, {material.removed} passages removed"
    )
    return material


def _clean(arguments: argparse.Namespace) -> int:
    from export import text

    others = text.collection_texts(arguments.collections)
    kept, removed = text.without_runs(text.read(arguments.text), others)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, passages in kept.items():
        packed = gzip.compress("\n".join(passages).encode(), mtime=0)
        (arguments.out / f"{name}.txt.gz").write_bytes(packed)
    print(f"{removed} passages removed")
    return 0


def _distill(arguments: argparse.Namespace) -> int:
    import torch

    from export import narrow, start, students
    from export.network import Network
    from export.teacher import Teacher
    from export.training import Settings, train

    origin = Bundle.open(arguments.space_of)
    teacher = Teacher.read(arguments.teacher, _asked(origin), origin.dim)
    students.check_teacher(teacher, origin)
    layers = arguments.layers or students.spaced(teacher.shape.layers)
    students.check_shape(
        teacher, arguments.student, layers, arguments.codes, arguments.max_tokens, arguments.inner
    )
    plan = start.Plan(
        origin, students.with_layers(teacher, layers, arguments.max_tokens), arguments.student, arguments.codes,
        students.roles_of(teacher) if arguments.each is not None and origin.manifest.sided else None,
    )  # fmt: skip
    start.check(arguments.start, plan)
    if arguments.each is None:
        if arguments.more:
            raise BundleError("expected --each beside --more, found none: give it, or leave --more out")
        material = _gather(arguments, teacher)
    else:
        kept = _licensed(arguments)
        encoder = Encoder.load(origin.path, threads=torch.get_num_threads())
        material = students.gather_languages(
            teacher, encoder, kept, arguments.collections, arguments.each, arguments.seed, arguments.cache,
            dict(arguments.more),
        )  # fmt: skip
        material = _told(arguments, material)
    torch.manual_seed(arguments.seed)
    given = start.mean_of([start.weights(path, plan) for path in arguments.start])
    student: students.Static | students.Network
    if arguments.student == "nano":
        table = given.get("table", given.get("coded.rows"))
        student = students.static(teacher, material, arguments.device, arguments.codes, table)
    else:
        student = students.layered(
            teacher, layers, arguments.device, material, arguments.codes, arguments.max_tokens
        )
    if given:
        start.load(student, given)
    checkpoint = arguments.cache / f"{arguments.out.name}.pt"
    if arguments.inner and isinstance(student, Network):
        if checkpoint.exists():
            # Which entries are left was chosen before it was written.
            narrow.cut(student, arguments.inner)
        else:
            narrow.narrow(student, material.tokens, arguments.inner, arguments.seed)
    rate = arguments.rate or _RATES[arguments.student]
    settings = Settings(
        arguments.steps, arguments.batch, rate, arguments.kl, seed=arguments.seed, minutes=arguments.minutes,
        temperature=arguments.temperature, topic=arguments.topic, length_power=arguments.length_power,
    )  # fmt: skip
    finished = train(
        student,
        material.tokens,
        material.vectors,
        settings,
        checkpoint,
        arguments.run_minutes,
        material.kinds,
    )
    made = students.write(
        student.eval(), teacher, material, origin, arguments.out,
        not arguments.no_share_alike,
    )  # fmt: skip
    print(f"{made.path}: {sum(f.nbytes for f in made.manifest.files.values()):,} bytes")
    if not finished:
        print(f"not finished: run again to go on from {checkpoint}")
    return 0


def _codec(arguments: argparse.Namespace) -> int:
    from edgeret.codec import Codec
    from export import card, hash_head, hash_training, recall
    from export.teacher import Teacher

    if arguments.each is not None:
        return _codec_of_languages(arguments)
    if arguments.teacher is None:
        raise BundleError(
            "expected --teacher, whose vectors the codec is fitted to, or --each: give one of them"
        )
    bundles = [Bundle.open(name) for name in arguments.bundle]
    teacher = Teacher.read(arguments.teacher, _asked(bundles[0]), bundles[0].dim)
    material = _gather(arguments, teacher)
    held_out = teacher.encode(material.held_out)
    fitted = material.documents[:_FITTED].astype(np.float32)
    start = Codec.fit(fitted, arguments.seed)
    learned = start
    if arguments.steps:
        learned = hash_training.learn(
            start, material.documents, arguments.steps, arguments.seed, arguments.device
        )
    made = {
        "decoded": hash_head.fit_decoded(fitted, arguments.seed),
        "nested": hash_head.fit_nested(fitted, arguments.seed),
        "start": start,
        "learned": learned,
    }
    queries, documents = held_out[:_CODEC_QUERIES], held_out[_CODEC_QUERIES:]
    for name, codec in made.items():
        recalls = recall.recalls(codec, queries, documents, (10, 40, 100))
        print(json.dumps({"codec": name, **{key: round(value, 4) for key, value in recalls.items()}}))
    _with_codec(bundles, arguments.out, made[arguments.write], card.codec(len(fitted), material.sources))
    return 0


def _codec_of_languages(arguments: argparse.Namespace) -> int:
    import torch

    from edgeret.codec import Codec
    from export import card, hash_head, hash_languages, text

    if arguments.each < 1:
        raise BundleError(f"expected --each of 1 or more, found {arguments.each}: give a larger one")
    if arguments.teacher or arguments.steps or arguments.write != "learned":
        raise BundleError(
            "expected --each alone, found --teacher, --steps or --write beside it: leave one side out"
        )
    bundles = [Bundle.open(name) for name in arguments.bundle]
    if len({bundle.geometry for bundle in bundles}) > 1:
        raise BundleError("expected bundles of one geometry, found several: name those of one space")
    files = _licensed(arguments)
    encoder = Encoder.load(bundles[0].path, threads=torch.get_num_threads())
    sample, apart, removed = hash_languages.gather(
        encoder, files, arguments.collections, arguments.each, arguments.seed, arguments.cache
    )
    removed += arguments.removed
    print(f"{len(sample.vectors):,} texts, {len(sample.pairs):,} pairs, {removed} passages removed")
    made = {
        "Codec.fit": hash_head.ask_around(Codec.fit(sample.vectors, arguments.seed), sample.queries),
        "languages": hash_languages.fit(sample, arguments.seed),
    }
    for name, codec in made.items():
        print(json.dumps({"codec": name} | hash_languages.measure(codec, apart, (10, 40, 100))))
    sources = sorted({text.source(file) for file in files})
    said = card.codec(
        len(sample.vectors), sources, f"{encoder.bundle.name}'s", ", less the mean of their language"
    )
    _with_codec(bundles, arguments.out, made["languages"], said)
    return 0


def _with_codec(bundles: Sequence[Bundle], out: Path, codec: Codec, said: str = "") -> None:
    """Write bundles with a codec, and in their cards what is said of it, if anything is."""
    from export import card, rewrite

    for origin in bundles:
        files = {}
        if said:
            files["card.md"] = card.with_section(origin.file("card.md").read_text(), "Codec", said).encode()
        made = rewrite.rewrite(origin, out / origin.path.name, codec=codec, files=files)
        print(f"{made.path}: codec {made.codec_id}, space {made.space}")


def _adapt(arguments: argparse.Namespace) -> int:
    from export import domain, hash_head, text

    bundles = [Bundle.open(bundle) for bundle in arguments.bundle]
    encoder = Encoder.load(bundles[0].path)
    own = [line for file in arguments.text for line in text.lines(file) if line.strip()]
    apart = max(1, len(own) // 5)
    general = hash_head.sample(arguments.general, len(own) - apart, arguments.seed)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        return hash_head.encode(texts, encoder.encode, hash_head.key(encoder), arguments.cache)

    rows = np.random.default_rng(arguments.seed).permutation(len(own))
    held_out = [own[row] for row in rows[:apart]]
    codec = domain.fit(encode([own[row] for row in rows[apart:]]), encode(general), arguments.seed)
    asked, answers = zip(*domain.pseudo_queries(held_out, arguments.queries, arguments.seed), strict=True)
    queries = encoder.encode_queries(asked)
    for row in domain.compare(encoder.codec, codec, queries, answers, encode(held_out), arguments.seed):
        print(json.dumps(row._asdict()))
    _with_codec(bundles, arguments.out, codec)
    return 0


def _base(arguments: argparse.Namespace) -> int:
    from export import base, hash_head, outlook, ranking, text
    from export.teacher import read

    teacher = read(arguments.teacher, _prompts(arguments), arguments.dim)
    files = arguments.text or [text.of_vocabulary(teacher.tokenizer, arguments.cache)]
    passages = arguments.passages or base.most_passages(files, teacher.dim)
    if arguments.dry_run:
        print(outlook.told(teacher, passages, files))
        return 0
    if not arguments.text:
        print(
            f"export: no --text, so the codec is fitted to {passages:,} texts of words of the model's own vocabulary",
            file=sys.stderr,
        )
    made = base.make(
        teacher, files, arguments.out, passages, arguments.seed, arguments.cache, arguments.center_queries
    )
    seen = set(hash_head.sample(files, passages, arguments.seed))
    apart = hash_head.sample(files, base.PARITY_TEXTS, arguments.seed + base.PARITY_SEED, seen)
    drawn = [ranking.draw(folder, 300, 1000, 1) for folder in arguments.collections]
    figures = outlook.measured(Encoder.load(made.path), teacher, apart, drawn)
    print(f"{made.path}: space {made.space}")
    for name, value in figures.items():
        print(f"  {name:<44}{value}")
    return 0


def _e5(arguments: argparse.Namespace) -> int:
    from export import e5

    weights, tokenizer = e5.packaged()
    e5.write(weights, tokenizer, arguments.out)
    print(f"{arguments.out}: {e5.NAME}")
    return 0


def _cut(arguments: argparse.Namespace) -> int:
    from export import cut
    from export.teacher import Teacher

    teacher = Teacher.read(arguments.teacher)
    counts = cut.counted(teacher.tokenizer, arguments.text)
    needed = [id for prompt in teacher.prompts for id in teacher.tokenizer.encode(prompt).ids]
    ids = cut.kept(json.loads(teacher.tokenizer_json), counts, arguments.pieces, needed)
    cut.write(arguments.teacher, ids, arguments.out)
    used = sum(counts.values())
    share = used[ids].sum() / used.sum()
    print(f"{arguments.out}: {len(ids):,} of {len(teacher.table):,} tokens, {share:.3%} of all in the texts")
    return 0


def _reranker(arguments: argparse.Namespace) -> int:
    from export import reranker

    made, figures = reranker.make(reranker.CrossEncoder.read(arguments.folder), arguments.out)
    return _judged(made, "onnx", figures)


def _scored(bundle: Bundle, backend: str | None) -> int:
    """Measure a reranker on the pairs of its bundle."""
    judge = Reranker.load(bundle.path, backend)
    return _judged(bundle, judge.backend, verify.scored(judge.proof().teacher, verify.scores(judge)))


def _judged(bundle: Bundle, backend: str, figures: dict[str, float]) -> int:
    """Print what was measured of a reranker; 1 if it misses its gate."""
    missed = verify.failures(figures)
    print(json.dumps({"bundle": str(bundle.path), "backend": backend, **figures, "missed": missed}))
    if missed:
        print(f"export: {missed[0]}: INT8 costs this model too much, choose another", file=sys.stderr)
    return 1 if missed else 0


def _convert(arguments: argparse.Namespace) -> int:
    from export import base, card, hash_head, ranking, rewrite, variants
    from export.teacher import Teacher

    teacher = Teacher.read(arguments.teacher, _prompts(arguments), arguments.dim)
    collections = [
        ranking.draw(folder, arguments.queries, arguments.documents, arguments.seed)
        for folder in arguments.collections
    ]
    made = variants.variants(teacher, hash_head.sample(arguments.text, base.PEAK_TEXTS, arguments.seed))
    rows = variants.measure(teacher, made, collections, arguments.rounds, arguments.python)
    print(variants.as_json(rows))
    table = variants.as_markdown(rows, collections)
    print(table)
    if arguments.bundle:
        bundle = Bundle.open(arguments.bundle)
        described = card.with_section(bundle.file("card.md").read_text(), "Ways to quantize", table)
        rewrite.rewrite(bundle, bundle.path, files={"card.md": described.encode()})
    return 0 if variants.choose(rows) else 1


def _tflite(arguments: argparse.Namespace) -> int:
    from export import tflite

    bundle = Bundle.open(arguments.bundle)
    made = tflite.add(bundle, arguments.out or bundle.path)
    sizes = {graph.file: made.manifest.files[graph.file].nbytes for graph in tflite.GRAPHS.values()}
    print(f"{made.path}: {', '.join(f'{name} {size:,} bytes' for name, size in sizes.items())}")
    return _scored(made, "tflite") if made.manifest.kind == KIND else 0


def _tokenizer(arguments: argparse.Namespace) -> int:
    from edgeret.encode import tables
    from export import pieces

    bundle = Bundle.open(arguments.bundle)
    made = pieces.add(bundle, arguments.out or bundle.path)
    print(f"{made.path}: {tables.FILE} {made.manifest.files[tables.FILE].nbytes:,} bytes")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    bundle = Bundle.open(arguments.bundle)
    if bundle.manifest.kind == KIND:
        return max([_scored(bundle, name) for name in [arguments.backend, *filter(None, [arguments.other])]])
    encoder = Encoder.load(arguments.bundle, arguments.backend)
    other = Encoder.load(arguments.bundle, arguments.other) if arguments.other else None
    teacher = None
    if arguments.teacher:
        from export.teacher import read

        teacher = read(arguments.teacher, _asked(encoder.bundle), encoder.dim)
    figures = verify.golden(encoder)
    texts = encoder.bundle.golden().texts
    if arguments.text:
        from export import hash_head

        texts = hash_head.sample(arguments.text, arguments.count, arguments.seed)
    if teacher:
        figures |= verify.parity(encoder, teacher, texts)
    if other:
        figures |= verify.backends(encoder, other, texts)
    if arguments.collections:
        from export import ranking

        drawn = [
            ranking.draw(folder, arguments.queries, arguments.documents, arguments.seed)
            for folder in arguments.collections
        ]
        figures |= verify.ranked(encoder, other, teacher, drawn)
    missed = verify.failures(figures, arguments.student)
    print(
        json.dumps({"bundle": encoder.bundle.name, "backend": encoder.backend, **figures, "missed": missed})
    )
    if arguments.card:
        from export import card, rewrite

        title = f"Parity, {encoder.backend}" + (f" and {other.backend}" if other else "")
        described = card.with_section(encoder.bundle.file("card.md").read_text(), title, card.table(figures))
        rewrite.rewrite(encoder.bundle, encoder.bundle.path, files={"card.md": described.encode()})
    return 1 if missed else 0


def _map(arguments: argparse.Namespace) -> int:
    from export import hash_head, upgrade

    old, new = Bundle.open(arguments.old), Bundle.open(arguments.new)
    texts = hash_head.sample(arguments.text, arguments.passages + _MAPPED_APART, arguments.seed)
    before, after = (Encoder.load(bundle.path).encode(texts) for bundle in (old, new))
    apart = slice(None, _MAPPED_APART)
    turn = upgrade.learn(after[_MAPPED_APART:], before[_MAPPED_APART:])
    loss = upgrade.measure(turn, after[apart], before[apart], _MAPPED_QUERIES)
    print(json.dumps(loss._asdict()))
    if loss.recall10 < arguments.least:
        print(
            f"expected recall10 of at least {arguments.least}: encode the index anew with `edgeret reencode`, "
            "or pass a lower --least",
            file=sys.stderr,
        )
        return 1
    made = upgrade.write(new, old, turn, loss, arguments.out)
    print(f"{made.path}: space {made.space}")
    return 0


def _spread(arguments: argparse.Namespace) -> int:
    from export import hash_head, spread

    languages = hash_head.sample_languages(arguments.text, arguments.count, arguments.seed)
    for name in arguments.bundle:
        encoder = Encoder.load(name)
        measured = spread.measure(encoder, languages.values())
        spread.write(encoder.bundle, measured)
        print(f"{encoder.bundle.path}: spread {measured}")
    return 0


def _handover(arguments: argparse.Namespace) -> int:
    print(json.dumps(handover.handover(arguments.index, arguments.to, arguments.out)))
    return 0


def _corpus(arguments: argparse.Namespace) -> int:
    from export import corpus, workers

    begun = time.perf_counter()
    engine = workers.engine(arguments.engine, arguments.workers, arguments.address)
    folder = arguments.shards or arguments.out.with_name(f"{arguments.out.name}.shards")
    encoder = Encoder.load(arguments.model)
    bits = encoder.codec.usual_bits if arguments.bits is None else arguments.bits
    built = corpus.build(
        arguments.inputs, arguments.out, encoder, bits, arguments.filter, folder, engine,
        language_of(arguments.language),
    )  # fmt: skip
    if arguments.shards is None:
        shutil.rmtree(folder)
    print(json.dumps({**built._asdict(), "seconds": round(time.perf_counter() - begun, 2)}))
    return 0


_COMMANDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "base": _base,
    "e5": _e5,
    "cut": _cut,
    "reranker": _reranker,
    "clean": _clean,
    "distill": _distill,
    "codec": _codec,
    "adapt": _adapt,
    "convert": _convert,
    "tflite": _tflite,
    "tokenizer": _tokenizer,
    "verify": _verify,
    "map": _map,
    "spread": _spread,
    "handover": _handover,
    "corpus": _corpus,
}

if __name__ == "__main__":
    sys.exit(main())
