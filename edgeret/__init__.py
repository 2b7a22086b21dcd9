"""Semantic search on hardware with no server behind it.

import edgeret

with edgeret.Index.create("notes.edgeret", exist_ok=True) as index:
    index.add([edgeret.Document(id="pi", text="Hold the button for five seconds to reset the Wi-Fi.",
                                metadata={"lang": "en", "year": 2024})])
    for hit in index.search("my wireless is broken", k=10, where={"lang": "en"}):
        print(hit.id, round(hit.score, 3), hit.text)
"""

from edgeret.clustering import optimize
from edgeret.codec import Codec
from edgeret.documents import Document, Hit
from edgeret.encoder import Encoder
from edgeret.errors import EdgeretError
from edgeret.index import Index
from edgeret.plan import Plan
from edgeret.shipping import apply, diff

__all__ = [
    "Codec",
    "Document",
    "EdgeretError",
    "Encoder",
    "Hit",
    "Index",
    "Plan",
    "apply",
    "diff",
    "optimize",
]
