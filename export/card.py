"""The card of a bundle: licence, origin, sizes and what was measured, in Markdown."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from edgeret.encode.bundle import CENTROIDS
from export import weights
from export.sources import SOURCES
from export.text import source

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgeret.encode.bundle import Bundle
    from export.reranker import CrossEncoder
    from export.table import Table
    from export.teacher import Teacher

_LICENSES = {"apache-2.0": "Apache-2.0", "mit": "MIT"}


def describe(
    bundle: Bundle, teacher: Teacher | Table, text: Sequence[Path], passages: int, figures: dict[str, float]
) -> str:
    """Return the card's text. `figures` are those of export.verify."""
    license_name = _LICENSES.get(teacher.license, teacher.license)
    pooling = " and ".join(teacher.head.poolings)
    languages = _languages(teacher.languages)
    described = f"""# {bundle.name}

{teacher.name}, quantized to INT8: {bundle.dim} dims, at most {bundle.max_tokens} tokens,
{pooling} pooling, {teacher.kind}. {languages}

- License: {license_name}, as the teacher's.
- Teacher: {_named(teacher.name, teacher.origin)}, SHA-256 of its weights `{teacher.digest}`.
{_sides(bundle)}{_changes(bundle)}.
- Geometry `{bundle.geometry}`, codec `{bundle.codec_id}`, space `{bundle.space}`.

{_sizes(bundle)}

| measured against the fp32 teacher | |
|---|---|
| cosine, {figures["teacher_texts"]:.0f} passages kept apart from the fit: mean | {figures["teacher_cosine_mean"]:.4f} |
| worst | {figures["teacher_cosine_worst"]:.4f} |
| cosine, {figures["golden_texts"]:.0f} golden texts: mean | {figures["golden_teacher_cosine_mean"]:.4f} |
| worst | {figures["golden_teacher_cosine_worst"]:.4f} |

Golden texts include single punctuation marks and many scripts, which are the hard cases of INT8.
`python -m export verify FOLDER --teacher DIR --text FILE...` measures on a sample of its own.
"""
    # The files of one source in several languages differ by what is behind the hyphen.
    return with_section(described, "Codec", codec(passages, list(dict.fromkeys(map(source, text)))))


def codec(texts: int, sources: Sequence[str], whose: str = "the teacher's", how: str = "") -> str:
    """What a codec was fitted to: vectors of so many texts. whose: vectors. how: they were changed before."""
    return textwrap.fill(f"Fitted to {whose} vectors of {texts:,} texts{how}: {', '.join(sources)}.", 100)


def describe_student(
    bundle: Bundle,
    sources: Sequence[str],
    share_alike: bool,
    removed: int,
    run: str,
    figures: dict[str, float],
) -> str:
    """Return the card's text of a student. `figures` are those of export.verify.

    sources: names of sources.SOURCES. run: what a passage that was left out shares with a collection.
    """
    about, teacher = bundle.manifest.about, bundle.manifest.about["teacher"]
    license_name = _LICENSES.get(about["license"], about["license"])
    known = "\n".join(
        f"| {name} | {SOURCES[name].license} | {SOURCES[name].attribution} |"
        if name in SOURCES
        else f"| {name} | | |"
        for name in sources
    )
    shape = (
        "a sum of token embeddings and one hidden layer"
        if bundle.manifest.kind == "static"
        else "transformer"
    )
    kept = "with" if share_alike else "without"
    codes = bundle.manifest.tensors["tokens"].shape[1]
    table = f"product codes, {codes} bytes a token" if CENTROIDS in bundle.manifest.tensors else "4 bits"
    return f"""# {bundle.name}

A student of {teacher["name"]}, in its space: {bundle.dim} dims, at most {bundle.max_tokens} tokens, {shape},
token table of {table}. {_languages(about.get("languages", ()))}

- License: {license_name}, as the teacher's.
- Teacher: {_named(teacher["name"], teacher.get("origin", ""))}, SHA-256 of its weights `{teacher["weights_sha256"]}`.
{_sides(bundle)}- Learned from the teacher's vectors of the texts below, {kept} those whose license
  asks to share alike; {removed} passages that share a run of {run} with a test collection were left out.
- Geometry `{bundle.geometry}`, codec `{bundle.codec_id}`, space `{bundle.space}`.

| text | license | by |
|---|---|---|
{known}

{_sizes(bundle)}

| measured against the fp32 teacher | |
|---|---|
| cosine, {figures["teacher_texts"]:.0f} texts kept apart: mean | {figures["teacher_cosine_mean"]:.4f} |
| worst | {figures["teacher_cosine_worst"]:.4f} |
| cosine, {figures["golden_texts"]:.0f} golden texts: mean | {figures["golden_teacher_cosine_mean"]:.4f} |
"""


def describe_reranker(bundle: Bundle, model: CrossEncoder, figures: dict[str, float]) -> str:
    """Return the card's text of a reranker. `figures` are those of export.reranker."""
    license_name = _LICENSES.get(model.license, model.license)
    return f"""# {bundle.name}

{model.name}, quantized to INT8: a score for a query and a text, at most {bundle.max_tokens} tokens together,
{model.kind}. {_languages(model.languages)}

- License: {license_name}, as the model's.
- Model: {model.name}, SHA-256 of its weights `{weights.digest(model.weights)}`.
{_changes(bundle)}; the two layers behind them in float32.

{_sizes(bundle)}

| measured against the fp32 model on {figures["pairs"]} pairs of golden texts | |
|---|---|
| correlation of the scores | {figures["score_correlation"]:.4f} |
| largest difference, in standard deviations | {figures["score_worst"]:.4f} |
"""


def with_section(card: str, title: str, body: str) -> str:
    """The card with this section at its end, or in the place of an older one of the same title."""
    first, *others = card.split("\n## ")
    parts = {part.partition("\n")[0]: part for part in others}
    parts[title] = f"{title}\n\n{body.strip()}\n"
    return "\n## ".join([first.rstrip("\n") + "\n", *(part.rstrip("\n") + "\n" for part in parts.values())])


def table(figures: dict[str, float]) -> str:
    """Figures by their names, as a table."""
    rows = "\n".join(
        f"| {name.replace('_', ' ')} | {value:,} |"
        if isinstance(value, int)
        else f"| {name.replace('_', ' ')} | {value:.4f} |"
        for name, value in figures.items()
    )
    return f"| measured | |\n|---|---|\n{rows}"


def _named(name: str, origin: str) -> str:
    return f"{name}, made of {origin}" if origin else name


def _changes(bundle: Bundle) -> str:
    if bundle.manifest.kind == "static":
        return "- Changes: the table as int8 rows, its tokens' weights in it"
    table = "rows of 4 bits" if bundle.placed("tokens").dtype == "uint8" else "int8 rows"
    return f"""- Changes: token table as {table} outside the graph; weights of the dense layers as 7 bits in int8,
  a scale for each output, their large inputs evened out first; activations quantized as the graph runs; the
  products inside the attention in float32"""


def _languages(languages: Sequence[str]) -> str:
    if not languages:
        return "Its card names no language."
    return f"Language{'s' if len(languages) > 1 else ''}: {', '.join(languages)}."


def _sides(bundle: Bundle) -> str:
    """The line about prompts or roles, or nothing."""
    if roles := bundle.manifest.roles:
        said = [f"{side} {id}" for side, id in roles._asdict().items()]
        return f"- First token, which says a text's side: {', '.join(said)}.\n"
    said = [f"{side} `{prompt}`" for side, prompt in bundle.manifest.prompts._asdict().items() if prompt]
    return f"- Prompts: {', '.join(said)}.\n" if said else ""


def _sizes(bundle: Bundle) -> str:
    """The table of the bundle's files, those that an installation may leave out behind the sum of the others."""
    files = {name: file for name, file in sorted(bundle.manifest.files.items()) if name != "card.md"}
    whole = {name: file.nbytes for name, file in files.items() if not file.optional}
    rows = [*whole.items(), ("sum", sum(whole.values()))]
    rows += [(f"{name}, optional", file.nbytes) for name, file in files.items() if file.optional]
    return "\n".join(["| file | bytes |", "|---|---|", *(f"| {name} | {size:,} |" for name, size in rows)])
