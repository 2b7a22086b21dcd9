"""The workstation side: `python -m export base | clean | distill | codec | verify`."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import torch

from edgeret.bundle import Bundle
from edgeret.encoder import Encoder
from edgeret.errors import EdgeretError
from export import base, hash_head, hash_training, students, text, verify
from export.teacher import Teacher
from export.training import Settings, train

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
    learn.add_argument("--minutes", type=float, default=float("inf"), help="of training, all runs together")
    learn.add_argument(
        "--run-minutes", type=float, default=float("inf"), help="stop this run; run again to go on"
    )
    learn.set_defaults(run=_distill)

    code = commands.add_parser("codec", help="learn a codec from a teacher's vectors; write a bundle with it")
    _add_material(code)
    code.add_argument("--bundle", required=True, help="bundle that gets the codec: name or folder")
    code.add_argument("--out", type=Path, required=True, help="folder of the new bundle")
    code.add_argument("--steps", type=int, default=2000)
    code.set_defaults(run=_codec)

    check = commands.add_parser("verify", help="measure a bundle's parity; exit code 1 if a gate is missed")
    check.add_argument("bundle", help="name or folder")
    check.add_argument("--teacher", type=Path, help="compare with the fp32 teacher too")
    check.add_argument(
        "--text", type=Path, nargs="+", default=[], help="texts for that; else the golden texts"
    )
    check.add_argument("--count", type=int, default=base.PARITY_TEXTS)
    check.add_argument("--seed", type=int, default=1)
    check.set_defaults(run=_verify)
    return parser


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
    others = text.collection_texts(arguments.collections)
    kept, removed = text.without_runs(text.read(arguments.text), others)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, passages in kept.items():
        packed = gzip.compress("\n".join(passages).encode(), mtime=0)
        (arguments.out / f"{name}.txt.gz").write_bytes(packed)
    print(f"{removed} passages removed")
    return 0


def _distill(arguments: argparse.Namespace) -> int:
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
        arguments.steps, arguments.batch, rate, arguments.kl, seed=arguments.seed, minutes=arguments.minutes
    )
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
    teacher = Teacher.read(arguments.teacher)
    material = _gather(arguments, teacher)
    held_out = teacher.encode(material.held_out)
    start = hash_head.fit(material.vectors[:_FITTED].astype(np.float32), arguments.seed)
    learned = hash_training.learn(start, material.vectors, arguments.steps, arguments.seed, arguments.device)
    made = students.with_codec(Bundle.open(arguments.bundle), learned, arguments.out)
    queries, documents = held_out[:_CODEC_QUERIES], held_out[_CODEC_QUERIES:]
    for name, codec in (("start", start), ("learned", learned)):
        recalls = hash_training.recalls(codec, queries, documents, (10, 40, 100))
        print(json.dumps({"codec": name, **{key: round(value, 4) for key, value in recalls.items()}}))
    print(f"{made.path}: codec {made.codec_id}, space {made.space}")
    return 0


def _base(arguments: argparse.Namespace) -> int:
    teacher = Teacher.read(arguments.teacher)
    made = base.make(
        teacher, arguments.text, arguments.out, arguments.passages, arguments.seed, arguments.cache
    )
    print(f"{made.path}: space {made.space}, {sum(f.nbytes for f in made.manifest.files.values()):,} bytes")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    encoder = Encoder.load(arguments.bundle)
    figures = verify.golden(encoder)
    if arguments.teacher:
        teacher = Teacher.read(arguments.teacher)
        texts = encoder.bundle.golden().texts
        if arguments.text:
            texts = hash_head.sample(arguments.text, arguments.count, arguments.seed)
        figures |= verify.parity(encoder, teacher, texts)
    missed = verify.failures(figures)
    print(json.dumps({"bundle": encoder.name, **figures, "missed": missed}))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
