"""Write what a release makes of a few texts, and what it answers.

    PYTHONPATH=CHECKOUT python -P tests/formats/release.py OUT

CHECKOUT is that release, OUT a new folder beside this file, release-VERSION. Only what every release has is used. Once
a release is out its files are never made again.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from edgeret import Document, Encoder, Index

MODEL = "nano"
SENTENCES = """
Hold the button for five seconds to reset the Wi-Fi.
The lamp turns red when its battery is low.
Preheat the oven to 200 degrees before baking bread.
Error E42 means that the drain is blocked: clean the filter behind the front panel.
Water the tomatoes in the evening, never at noon.
The train to the coast leaves every hour from platform nine.
A spare key hangs in the shed, behind the lawn mower.
Backups run at night and are kept for thirty days.
The museum is closed on Mondays and on public holidays.
Rinse the paint brush with turpentine, then with soap.
Our cat sleeps on the windowsill when the sun shines.
The contract ends in March unless both parties renew it.
Café Müller serves breakfast until eleven; naïve guests come at noon.
The bridge was built in 1904 and widened in 1967.
Press and hold both keys to lock the keyboard.
Store medicine in a dry place, out of the reach of children.
""".strip().splitlines()
QUESTIONS = (
    "my wireless is broken",
    "power is running out",
    "how do I bake",
    "E42",
    "cafe muller",
    "the key",
)
MODES = ("dense", "lexical", "hybrid")


def documents() -> list[Document]:
    """Short ones, and one of several passages."""
    made = [
        Document(f"note-{number}", text, {"year": 2020 + number % 4, "tags": ["house", f"t{number}"]})
        for number, text in enumerate(SENTENCES)
    ]
    return [*made, Document("all", "\n\n".join(SENTENCES * 3), {"deep": {"er": [1.5, True, None]}})]


def main() -> None:
    """Write the bundle's manifest and card, an index, and what it answers."""
    out = Path(sys.argv[1])
    out.mkdir()
    bundle = Encoder.load(MODEL).bundle.path
    (out / MODEL).mkdir()
    for name in ("manifest.json", "card.md"):
        (out / MODEL / name).write_bytes((bundle / name).read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "index.edgeret")
        with Index.create(path, model=MODEL, filters=["year"]) as index:
            index.add(documents())
            index.delete(["note-11"])
        with Index.open(path, readonly=True) as index:
            asked: list[dict[str, Any]] = [
                {"query": question, "k": 4, "mode": mode} for question in QUESTIONS for mode in MODES
            ]
            asked += [
                {"query": QUESTIONS[0], "k": 3, "mode": mode, "where": {"year": {"$gte": 2022}}}
                for mode in MODES
            ]
            answers = [{"query": query, "hits": list(map(asdict, index.search(**query)))} for query in asked]
            expected = {"documents": len(index), "passages": index.info().passages, "answers": answers}
        (out / "index.edgeret.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    text = json.dumps(expected, ensure_ascii=False, indent=1)
    (out / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
