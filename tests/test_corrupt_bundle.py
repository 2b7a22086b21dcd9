import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake import DIM, random_codec

from edgeret import bundle
from edgeret.errors import BundleError, FormatVersionError
from edgeret.manifest import Graph

FULL = os.environ.get("EDGERET_TEST_FULL") == "1"
ROOT = Path(__file__).parent.parent


def make_bundle(folder: Path, **files: bytes) -> Path:
    """A small bundle with sound hashes over whatever `files` are."""
    texts = {"texts": ["hello"]}
    contents = {"tokenizer.json": b"{}", "model.onnx": b"", "golden.json": json.dumps(texts).encode()} | {
        name.replace("_", "."): content for name, content in files.items()
    }
    own = np.full((1, DIM), DIM**-0.5, np.float32)
    return bundle.write(
        folder, name="tiny", max_tokens=16, geometry="ab" * 16, codec=random_codec(), kind="transformer",
        graphs={"onnx": Graph("model.onnx", "tokens", "vector")}, files=contents, about={},
        tensors={
            "tokens.bin": {"tokens": np.ones((5, DIM), np.int8), "token_scales": np.ones(5, np.float32)},
            "golden.bin": {"golden.teacher": own, "golden.own": own},
        },
    ).path  # fmt: skip


GARBAGE = {
    "nothing": b"",
    "zeros": bytes(1000),
    "text": b"not a graph" * 50,
    "noise": np.random.default_rng(0).bytes(5000),
    "a length past the end": b"\x08\x07\x3a\xff\xff\xff\xff\x0f",
    "nested": b"\x3a\x7e" * 5000,
    "json": b"[" * 50_000,
    "an empty object": b"{}",
    "another model": b'{"version": "1.0", "model": {"type": "What"}}',
}


READERS = {
    "model_onnx": "edgeret.Encoder.load(folder).encode(['hello'])",
    "tokenizer_json": "encoder._load_tokenizer(encoder.Bundle.open(folder))",
    "golden_json": "encoder.Bundle.open(folder).golden()",
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=list(GARBAGE))
def test_garbage_with_a_sound_hash_is_refused_by_name(tmp_path, name, garbage):
    """In a child: a runtime that crashes must not take the suite along."""
    folder = make_bundle(tmp_path / "tiny", **{name: garbage})
    script = (
        f"import sys, edgeret\nfrom edgeret import encoder\nfolder = sys.argv[1]\ntry:\n    {READERS[name]}\n"
        "except edgeret.EdgeretError as error:\n    print(type(error).__name__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert (ran.returncode, ran.stdout.strip()) in [(0, "BackendError"), (0, "BundleError")], ran.stderr[
        -2000:
    ]


def test_no_damaged_bundle_opens(tmp_path, trust):
    """Every file cut, zeroed, emptied, flipped or missing, at hundreds of places."""
    folder = make_bundle(tmp_path / "tiny")
    sound = bundle.Bundle.open(folder).manifest
    rng = np.random.default_rng(0)
    names = sorted(file.name for file in folder.iterdir())
    damaged, harmless = 0, 0
    for name in names:
        path = folder / name
        image = path.read_bytes()
        for step in range(400 if FULL else 60):
            place = int(rng.integers(0, max(len(image), 1)))
            path.write_bytes(break_bytes(image, step, place, rng))
            if path.read_bytes() == image:
                continue
            damaged += 1
            try:
                opened = bundle.Bundle.open(folder)
            except (BundleError, FormatVersionError):
                continue
            # White space is no damage.
            assert opened.manifest == sound, f"{name} damaged at {place} goes unseen"
            assert name == "manifest.json"
            harmless += 1
        path.unlink()
        with pytest.raises(BundleError):
            bundle.Bundle.open(folder)
        path.write_bytes(image)
    bundle.Bundle.open(folder)
    trust(damaged_bundles=damaged, refused=damaged - harmless, harmless=harmless)


def break_bytes(image: bytes, step: int, place: int, rng: np.random.Generator) -> bytes:
    match step % 4:
        case 0:
            return image[:place]
        case 1:
            return image[:place] + bytes(min(64, len(image) - place)) + image[place + 64 :]
        case 2:
            return image + b"\0"
    flipped = bytearray(image or b"\0")
    flipped[place] ^= int(rng.integers(1, 256))
    return bytes(flipped)
