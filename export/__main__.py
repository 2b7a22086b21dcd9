"""The workstation side: `python -m export base | clean | distill | codec | adapt | convert | tflite | verify`.

A command imports what it needs, so that `verify` runs beside a runtime alone.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgeret.bundle import Bundle
from edgeret.encoder import Encoder
from edgeret.errors import EdgeretError
from export import verify

if TYPE_CHECKING:
    from export import students
    from export.teacher import Teacher

_RATES: Final = {"nano": 1e-3, "small": 3e-4}
_FITTED: Final = 100_000
_CODEC_QUERIES: Final = 200


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns 0, 1 for an error or a missed gate; argparse exits with 2."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except EdgeretError as error:
        print(f"export: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m export", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    make = commands.add_parser("base", help="quantize a teacher, fit its codec, write the bundle")
    make.add_argument(
        "--teacher", type=Path, required=True, help="Hugging Face folder of a BERT-like encoder"
    )
    make.add_argument("--text", type=Path, required=True, nargs="+", help="plain or .gz, a passage a line")
    make.add_argument(
        "--out", type=Path, required=True, help="folder of the bundle; its last part is its name"
    )
    make.add_argument("--passages", type=int, default=72_000, help="passages that the codec is fitted on")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument(
        "--cache", type=Path, default=Path(".cache/codec"), help="folder of the teacher's vectors"
    )
    make.set_defaults(run=_base)

    clean = commands.add_parser("clean", help="copy text without the passages that test collections repeat")
    clean.add_argument("--text", type=Path, required=True, nargs="+", help="plain or .gz, a passage a line")
    clean.add_argument("--collections", type=Path, required=True, nargs="+", help="test collections")
    clean.add_argument("--out", type=Path, required=True, help="folder of the copies")
    clean.set_defaults(run=_clean)

    learn = commands.add_parser("distill", help="train a student in the teacher's space, write its bundle")
    learn.add_argument("--student", choices=("nano", "small"), required=True)
    learn.add_argument(
        "--layers", type=int, nargs="+", default=[0, 2, 5], help="of the teacher, that small starts from"
    )
    _add_material(learn)
    learn.add_argument(
        "--space-of", required=True, help="bundle whose space the student joins: name or folder"
    )
    learn.add_argument(
        "--out", type=Path, required=True, help="folder of the bundle; its last part is its name"
    )
    learn.add_argument("--steps", type=int, default=20_000)
    learn.add_argument("--batch", type=int, default=512, help="texts of a step")
    learn.add_argument("--rate", type=float, help="learning rate (default: 1e-3 for nano, 3e-4 for small)")
    learn.add_argument("--kl", type=float, default=0.3, help="weight of the loss on in-batch similarities")
    learn.add_argument(
        "--topic", type=int, default=1, help="similar texts that go into a batch together; 1 draws at random"
    )
    learn.add_argument("--minutes", type=float, default=float("inf"), help="of training, all runs together")
    learn.add_argument(
        "--run-minutes", type=float, default=float("inf"), help="stop this run; run again to go on"
    )
    learn.set_defaults(run=_distill)

    code = commands.add_parser("codec", help="learn a codec from a teacher's vectors; write a bundle with it")
    _add_material(code)
    code.add_argument("--bundle", required=True, help="bundle that gets the codec: name or folder")
    code.add_argument("--out", type=Path, required=True, help="folder of the new bundle")
    code.add_argument("--steps", type=int, default=0, help="of training from the closed form on")
    code.set_defaults(run=_codec)

    fitted = commands.add_parser("adapt", help="fit a codec to your own documents; write bundles with it")
    fitted.add_argument(
        "--text", type=Path, required=True, nargs="+", help="your documents, plain or .gz, a passage a line"
    )
    fitted.add_argument(
        "--general",
        type=Path,
        required=True,
        nargs="+",
        help="other text, as much or more, for what they lack",
    )
    fitted.add_argument(
        "--bundle", nargs="+", default=["base"], help="bundles that get the codec; the first one encodes"
    )
    fitted.add_argument("--out", type=Path, required=True, help="folder of the new bundles' folders")
    fitted.add_argument("--queries", type=int, default=400, help="made up from held-out documents")
    fitted.add_argument("--seed", type=int, default=0)
    fitted.add_argument("--cache", type=Path, default=Path(".cache/adapt"), help="vectors of the texts")
    fitted.set_defaults(run=_adapt)

    try_all = commands.add_parser("convert", help="measure every way to quantize a teacher for onnxruntime")
    try_all.add_argument(
        "--teacher", type=Path, required=True, help="Hugging Face folder of a BERT-like encoder"
    )
    try_all.add_argument(
        "--text",
        type=Path,
        required=True,
        nargs="+",
        help="plain or .gz, a passage a line: to calibrate with",
    )
    _add_collections(try_all, required=True)
    try_all.add_argument(
        "--python", type=Path, nargs="*", default=[], help="interpreters with other releases of onnxruntime"
    )
    try_all.add_argument("--rounds", type=int, default=100, help="of timing")
    try_all.add_argument("--bundle", type=Path, help="bundle whose card gets the table")
    try_all.set_defaults(run=_convert)

    lite = commands.add_parser("tflite", help="add TFLite graphs to a bundle, made from its ONNX graph")
    lite.add_argument("bundle", help="name or folder")
    lite.add_argument("--out", type=Path, help="folder of the new bundle (default: the bundle's own)")
    lite.set_defaults(run=_tflite)

    check = commands.add_parser("verify", help="measure a bundle's parity; exit code 1 if a gate is missed")
    check.add_argument("bundle", help="name or folder")
    check.add_argument(
        "--backend", choices=("onnx", "tflite", "static"), help="(default: the first installed)"
    )
    check.add_argument("--other", choices=("onnx", "tflite"), help="a second backend to compare it with")
    check.add_argument("--teacher", type=Path, help="compare with the fp32 teacher too")
    check.add_argument(
        "--student", action="store_true", help="report how near the teacher is, do not judge it"
    )
    check.add_argument(
        "--text", type=Path, nargs="+", default=[], help="texts for that; else the golden texts"
    )
    check.add_argument("--count", type=int, default=verify.TEXTS)
    _add_collections(check, required=False)
    check.add_argument("--card", action="store_true", help="write the figures into the bundle's card")
    check.set_defaults(run=_verify)
    return parser


def _add_collections(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--collections", type=Path, nargs="+", default=[], required=required, help="test collections"
    )
    parser.add_argument("--queries", type=int, default=300, help="drawn from each collection")
    parser.add_argument("--documents", type=int, default=1000, help="drawn beside those that are judged")
    parser.add_argument("--seed", type=int, default=1)


def _add_material(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--teacher", type=Path, required=True, help="Hugging Face folder of a BERT-like encoder"
    )
    parser.add_argument("--text", type=Path, required=True, nargs="+", help="plain or .gz, a passage a line")
    parser.add_argument(
        "--collections", type=Path, nargs="*", default=[], help="test collections that no text may repeat"
    )
    parser.add_argument("--removed", type=int, default=0, help="passages that `clean` left out, for the card")
    parser.add_argument("--no-share-alike", action="store_true", help="leave out text under CC BY-SA")
    parser.add_argument("--tokens", type=int, default=20_000_000, help="of the texts drawn, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--cache", type=Path, default=Path(".cache/distill"), help="teacher's vectors, checkpoints"
    )


def _gather(arguments: argparse.Namespace, teacher: Teacher) -> students.Material:
    from export import students

    material = students.gather(
        teacher, arguments.text, arguments.collections, not arguments.no_share_alike, arguments.tokens,
        arguments.seed, arguments.cache, arguments.device,
    )  # fmt: skip
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

    from export import students
    from export.teacher import Teacher
    from export.training import Settings, train

    teacher = Teacher.read(arguments.teacher)
    origin = Bundle.open(arguments.space_of)
    students.check_teacher(teacher, origin)
    material = _gather(arguments, teacher)
    torch.manual_seed(arguments.seed)
    student: students.Static | students.Network
    if arguments.student == "nano":
        student = students.static(teacher, material, arguments.device)
    else:
        student = students.layered(teacher, arguments.layers, arguments.device)
    rate = arguments.rate or _RATES[arguments.student]
    settings = Settings(
        arguments.steps, arguments.batch, rate, arguments.kl, seed=arguments.seed, minutes=arguments.minutes,
        topic=arguments.topic,
    )  # fmt: skip
    checkpoint = arguments.cache / f"{arguments.out.name}.pt"
    finished = train(student, material.tokens, material.vectors, settings, checkpoint, arguments.run_minutes)
    made = students.write(
        student.eval(), teacher, material, origin, arguments.out,
        not arguments.no_share_alike,
    )  # fmt: skip
    print(f"{made.path}: {sum(f.nbytes for f in made.manifest.files.values()):,} bytes")
    if not finished:
        print(f"not finished: run again to go on from {checkpoint}")
    return 0


def _codec(arguments: argparse.Namespace) -> int:
    from export import hash_head, hash_training, rewrite
    from export.teacher import Teacher

    teacher = Teacher.read(arguments.teacher)
    material = _gather(arguments, teacher)
    held_out = teacher.encode(material.held_out)
    start = hash_head.fit(material.vectors[:_FITTED].astype(np.float32), arguments.seed)
    learned = start
    if arguments.steps:
        learned = hash_training.learn(
            start, material.vectors, arguments.steps, arguments.seed, arguments.device
        )
    nested = hash_head.fit_nested(material.vectors[:_FITTED].astype(np.float32), arguments.seed)
    made = rewrite.rewrite(Bundle.open(arguments.bundle), arguments.out, codec=learned)
    queries, documents = held_out[:_CODEC_QUERIES], held_out[_CODEC_QUERIES:]
    for name, codec in (("nested", nested), ("start", start), ("learned", learned)):
        recalls = hash_training.recalls(codec, queries, documents, (10, 40, 100))
        print(json.dumps({"codec": name, **{key: round(value, 4) for key, value in recalls.items()}}))
    print(f"{made.path}: codec {made.codec_id}, space {made.space}")
    return 0


def _adapt(arguments: argparse.Namespace) -> int:
    from export import domain, hash_head, rewrite, text

    bundles = [Bundle.open(bundle) for bundle in arguments.bundle]
    encoder = Encoder.load(bundles[0].path)
    own = [line for file in arguments.text for line in text.lines(file) if line.strip()]
    apart = max(1, len(own) // 5)
    general = hash_head.sample(arguments.general, len(own) - apart, arguments.seed)

    def encode(texts: list[str]) -> NDArray[np.float32]:
        key = f"{encoder.geometry} {encoder.bundle.name} {encoder.backend}"
        return hash_head.encode(texts, encoder.encode, key, arguments.cache)

    rows = np.random.default_rng(arguments.seed).permutation(len(own))
    held_out = [own[row] for row in rows[:apart]]
    codec = domain.fit(encode([own[row] for row in rows[apart:]]), encode(general), arguments.seed)
    asked, answers = zip(*domain.pseudo_queries(held_out, arguments.queries, arguments.seed), strict=True)
    for row in domain.compare(
        encoder.codec, codec, encode(list(asked)), answers, encode(held_out), arguments.seed
    ):
        print(json.dumps(row._asdict()))
    for bundle in bundles:
        made = rewrite.rewrite(bundle, arguments.out / bundle.path.name, codec=codec)
        print(f"{made.path}: codec {made.codec_id}, space {made.space}")
    return 0


def _base(arguments: argparse.Namespace) -> int:
    from export import base
    from export.teacher import Teacher

    teacher = Teacher.read(arguments.teacher)
    made = base.make(
        teacher, arguments.text, arguments.out, arguments.passages, arguments.seed, arguments.cache
    )
    print(f"{made.path}: space {made.space}, {sum(f.nbytes for f in made.manifest.files.values()):,} bytes")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    from export import base, card, hash_head, ranking, rewrite, variants
    from export.teacher import Teacher

    teacher = Teacher.read(arguments.teacher)
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
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    encoder = Encoder.load(arguments.bundle, arguments.backend)
    other = Encoder.load(arguments.bundle, arguments.other) if arguments.other else None
    teacher = None
    if arguments.teacher:
        from export.teacher import Teacher

        teacher = Teacher.read(arguments.teacher)
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


if __name__ == "__main__":
    sys.exit(main())
