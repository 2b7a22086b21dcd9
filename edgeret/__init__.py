"""Semantic search on hardware with no server behind it.

import edgeret

with edgeret.Index.create("notes.edgeret", exist_ok=True) as index:
    index.add([edgeret.Document(id="pi", text="Hold the button for five seconds to reset the Wi-Fi.",
                                metadata={"lang": "en", "year": 2024})])
    for hit in index.search("my wireless is broken", k=10, where={"lang": "en"}):
        print(hit.id, round(hit.score, 3), hit.text)
"""

from edgeret.codec import Codec
from edgeret.documents import Document, Hit, Section
from edgeret.encode.encoder import Encoder
from edgeret.encode.function import FunctionEncoder
from edgeret.encode.records import TextEncoder
from edgeret.encode.reranker import Reranker
from edgeret.errors import (
    ArgumentError,
    BackendError,
    BudgetError,
    BundleError,
    ClosedError,
    CorruptIndexError,
    CorruptUpdateError,
    EdgeretError,
    EngineError,
    ExtraMissingError,
    FilterError,
    ForkedError,
    FormatVersionError,
    IndexExistsError,
    IndexMissingError,
    InvalidDocumentError,
    InvalidQueryError,
    InvalidVectorError,
    LockedError,
    NeedsRecoveryError,
    NeedsUpgradeError,
    NotAnIndexError,
    PartitionsError,
    ReadOnlyError,
    ReentrantError,
    ReplacedError,
    SignatureError,
    SpaceMismatchError,
    StemmerError,
    StorageError,
    UpdateMismatchError,
)
from edgeret.fleet.shipping import apply, diff
from edgeret.index import Index, search_indexes
from edgeret.plan import Plan
from edgeret.upkeep.optimize import optimize
from edgeret.upkeep.recode import recode
from edgeret.upkeep.reencode import reencode
from edgeret.upkeep.repair import repair
from edgeret.upkeep.upgrade import upgrade

__version__ = "0.2.0"

__all__ = [
    "ArgumentError",
    "BackendError",
    "BudgetError",
    "BundleError",
    "ClosedError",
    "Codec",
    "CorruptIndexError",
    "CorruptUpdateError",
    "Document",
    "EdgeretError",
    "Encoder",
    "EngineError",
    "ExtraMissingError",
    "FilterError",
    "ForkedError",
    "FormatVersionError",
    "FunctionEncoder",
    "Hit",
    "Index",
    "IndexExistsError",
    "IndexMissingError",
    "InvalidDocumentError",
    "InvalidQueryError",
    "InvalidVectorError",
    "LockedError",
    "NeedsRecoveryError",
    "NeedsUpgradeError",
    "NotAnIndexError",
    "PartitionsError",
    "Plan",
    "ReadOnlyError",
    "ReentrantError",
    "ReplacedError",
    "Reranker",
    "Section",
    "SignatureError",
    "SpaceMismatchError",
    "StemmerError",
    "StorageError",
    "TextEncoder",
    "UpdateMismatchError",
    "apply",
    "diff",
    "optimize",
    "recode",
    "reencode",
    "repair",
    "search_indexes",
    "upgrade",
]
