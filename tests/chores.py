"""What a process of its own is asked to do: its memory is measured."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import numpy as np

import edgeret

QUERIES = ["red cat", "dog runs fast", "bird today never", "the blue house"]


def _model(name):
    if name != "fake":
        return name
    from fake import FakeEncoder

    return FakeEncoder()


def search(path, model, budget, mode="dense", where=None):
    with edgeret.Index.open(path, model=_model(model), memory_budget=budget, readonly=True) as index:
        for query in [*QUERIES[:2], *vocabulary(model)]:
            index.search(query, mode=mode, where=where)
        return {"planned": index.info().planned_bytes, "resident": index.info().codes_resident}


def list_all(path, model, budget):
    """Go through all documents, and change some meanwhile."""
    with edgeret.Index.open(path, model=_model(model), memory_budget=budget) as index:
        ids = sum(1 for _ in index.ids())
        some = sum(1 for _ in index.ids({"shelf": {"$lt": 3}}))
        for number, document in enumerate(index.documents()):
            if number % 5000 == 0:
                index.update(document.id, {"seen": number})
        changed = index.update_many((id, {"shelf": 9}) for id in index.ids({"shelf": 1}))
        facets = index.facets("shelf")
        return {"ids": ids, "some": some, "documents": number + 1, "changed": changed, "facets": len(facets)}


def search_many(path, model, budget):
    with edgeret.Index.open(path, model=_model(model), memory_budget=budget, readonly=True) as index:
        return {"hits": sum(map(len, index.search_many(QUERIES * 25)))}


def check(path, model, budget):
    with edgeret.Index.open(path, model=_model(model), memory_budget=budget) as index:
        return {"blocks": index.check().blocks}


def compact(path, model, budget):
    with edgeret.Index.open(path, model=_model(model), memory_budget=budget) as index:
        index.search(QUERIES[0])
        index.delete(str(row) for row in range(0, 33_000, 6))
        index.compact()
        index.search(QUERIES[0])
        return {"documents": len(index)}


def add(path, model, budget, count=4000, commit_every=None):
    index = edgeret.Index.create(path, model=_model(model), memory_budget=budget, exist_ok=True)
    with index:
        texts = vocabulary(model) or [f"{query} and more of it" for query in QUERIES]
        documents = (
            edgeret.Document(str(number), f"{texts[number % len(texts)]} {number}") for number in range(count)
        )
        index.add(documents, commit_every)
        return {"planned": index.info().planned_bytes, "documents": len(index)}


def add_copies(path, model, budget):
    with edgeret.Index.open(path, model=_model(model), memory_budget=budget) as index:
        texts = (f"{QUERIES[number % 4]} {number // 2 % 500}" for number in range(4000))
        documents = (edgeret.Document(f"new {number}", text) for number, text in enumerate(texts))
        added = index.add(documents, duplicates="report")
        return {"copies": added.copies_found}


def add_long(path, model, budget, piece, characters):
    """One text of so many characters, made of a piece over and over."""
    text = (piece * -(-characters // len(piece)))[:characters]
    with edgeret.Index.create(path, model=_model(model), memory_budget=budget) as index:
        index.add([edgeret.Document("long", text)])
        return {"planned": index.info().planned_bytes, "passages": index.info().passages}


def ask_long(path, model, budget, piece, characters):
    """One query of so many characters."""
    with edgeret.Index.create(path, model=_model(model), memory_budget=budget) as index:
        index.add(["a cat", "a dog"])
        explained = index.explain((piece * -(-characters // len(piece)))[:characters])
        return {"planned": index.info().planned_bytes, "windows": explained.query_windows}


def ask_words(path, model, budget, count):
    """Texts of so many different words, and one query of them all."""
    words = [f"{chr(0x430 + number % 32)}{number}" for number in range(count)]
    with edgeret.Index.create(path, model=_model(model), memory_budget=budget) as index:
        index.add((" ".join(words[first : first + 100]) for first in range(0, count, 100)), commit_every=10)
        explained = index.explain(" ".join(words))
        return {"planned": index.info().planned_bytes, "runs": explained.words_runs}


def ask_many(path, model, budget, count):
    """So many queries at once."""
    with edgeret.Index.create(path, model=_model(model), memory_budget=budget) as index:
        index.add(f"ship {number}" for number in range(500))
        found = index.search_many([f"ship {number % 700}" for number in range(count)], k=1)
        return {"planned": index.info().planned_bytes, "hits": sum(map(len, found))}


def get_by_threads(path, model, budget, threads):
    """So many threads read, and ask what it is."""
    with edgeret.Index.create(path, model=_model(model), memory_budget=budget) as index:
        index.add(edgeret.Document(f"d{number}", f"text {number} " * 60) for number in range(3000))
        barrier = threading.Barrier(threads)

        def read(thread):
            barrier.wait()
            for number in range(60):
                index.get(f"d{(number * 499 + thread * 37) % 3000}")
            assert len(index) == index.info().documents == 3000

        running = [threading.Thread(target=read, args=(thread,)) for thread in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        return {"planned": index.info().planned_bytes, "idle": len(index._connections._idle)}


def refuse(path, model, budget, kind):
    """A document that is too large for the budget; its own bytes are the caller's. Then one that is not."""
    size = 6_000_000
    document = {
        "text": lambda: edgeret.Document("large", "🍕" * (size // 4)),
        "metadata": lambda: edgeret.Document("large", "ships", {"x": [0] * size}),
        "one string": lambda: edgeret.Document("large", "ships", {"x": "y" * size}),
    }[kind]()
    with edgeret.Index.create(path, model=_model(model), memory_budget=budget) as index:
        try:
            index.add([document])
        except edgeret.EdgeretError as error:
            index.add(["another"])
            return {"refused": str(error), "documents": len(index)}
    return {"refused": ""}


def recode(path, model, budget, bits):
    return {"passages": edgeret.Index.recode(path, model, bits, budget).passages}


def reencode(path, model, budget):
    from fake import NarrowEncoder, direction

    class Forgetful(NarrowEncoder):
        """Keeps neither texts nor words."""

        def encode(self, texts):
            vectors = np.stack([direction(text)[: self.dim] for text in texts])
            return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return {"encoded": edgeret.Index.reencode(path, Forgetful(), 64, budget).encoded}


def diff(old, new, update):
    with Path(update).with_suffix(".again").open("wb") as file:
        edgeret.diff(old, new, file)


def apply(old, new, update):
    from fake import FakeEncoder

    return {"added": edgeret.apply(old, update, FakeEncoder()).added}


def add_for_ever(path, model, budget):
    """Add until killed."""
    rng = np.random.default_rng(0)
    with edgeret.Index.open(path, model=_model(model), memory_budget=budget) as index:

        def documents():
            number = 0
            while True:
                yield edgeret.Document(f"new {number}", "some words", {}, rng.normal(size=index.info().dim))
                number += 1
                if number % 6000 == 0:
                    Path(path + ".log-is-large").touch()

        index.add(documents(), commit_every=2500)
    time.sleep(60)


def vocabulary(model):
    """Long texts that touch all of a real model's token table."""
    if model == "fake":
        return []
    import json

    from edgeret.encode.bundle import Bundle

    text = Bundle.open(model).file("tokenizer.json").read_text(encoding="utf-8")
    words = [word for word in json.loads(text)["model"]["vocab"] if word.isalpha()]
    del text
    random.Random(0).shuffle(words)
    return [" ".join(words[first : first + 240]) for first in range(0, 9600, 240)]
