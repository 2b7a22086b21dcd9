"""The workstation side: `python -m export base | verify`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from edgeret.encoder import Encoder
from edgeret.errors import EdgeretError
from export import base, hash_head, verify
from export.teacher import Teacher


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
