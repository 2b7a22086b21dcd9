"""Every error that edgeret raises on purpose: one shallow tree, one class per condition.

A message shows what was expected and what was found, and ends with the remedy.
"""

from __future__ import annotations


class EdgeretError(Exception):
    """Base of all errors raised by edgeret."""


class ArgumentError(EdgeretError, ValueError):
    """A call was given what it cannot take: another type, a number out of range, a malformed path."""


class InvalidDocumentError(ArgumentError):
    """A document cannot be indexed: empty text, a NUL, unserializable metadata, a broken JSON line."""


class InvalidQueryError(ArgumentError):
    """A query cannot be answered: empty text, k below 1, an unknown mode."""


class InvalidVectorError(ArgumentError):
    """A vector has the wrong dim, a NaN or an infinity, or no length."""


class FilterError(ArgumentError):
    """A `where` uses an unknown operator or an operand of the wrong type."""


class BundleError(EdgeretError):
    """A model bundle is missing, incomplete, damaged or of an unknown format."""


class BackendError(EdgeretError):
    """No installed backend can run the bundle, or the backend answers wrongly."""


class ExtraMissingError(EdgeretError, ImportError):
    """A package is missing that an extra brings: an adapter's framework, or what a service is made of."""


class StemmerError(EdgeretError):
    """The package that stems the words of an index's language is missing."""


class NotAnIndexError(EdgeretError):
    """The path holds something that is not an edgeret index."""


class IndexExistsError(EdgeretError, FileExistsError):
    """There is a file already where a new one should go."""


class IndexMissingError(EdgeretError, FileNotFoundError):
    """There is no index at the path."""


class FormatVersionError(EdgeretError):
    """Another edgeret wrote the index, the update or the bundle, mostly a newer one."""


class NeedsUpgradeError(FormatVersionError):
    """An older edgeret wrote the index, and what is asked needs its words anew: `edgeret upgrade`."""


class SpaceMismatchError(EdgeretError):
    """Index and encoder belong to different spaces."""


class CorruptIndexError(EdgeretError):
    """The index file is damaged."""


class PartitionsError(EdgeretError):
    """The partitions beside an index are missing, damaged or another index's."""


class UpdateMismatchError(EdgeretError):
    """An update was made for another version of the index, or for an index with other filters."""


class CorruptUpdateError(EdgeretError):
    """An update file is damaged, or no update."""


class LockedError(EdgeretError):
    """Another process or connection holds the write lock."""


class ReentrantError(EdgeretError, RuntimeError):
    """A call, within another one of the same thread, that would have to wait for it."""


class ReadOnlyError(EdgeretError):
    """A write was asked of an index opened read-only."""


class NeedsRecoveryError(EdgeretError):
    """A read-only medium holds an index whose write-ahead log was not merged."""


class StorageError(EdgeretError, OSError):
    """The medium refused: disk full, input/output error, no permission."""


class EngineError(EdgeretError):
    """SQLite refused for a reason that says nothing about the file: interrupted, at a limit of its own, or misused."""


class ReplacedError(EdgeretError):
    """The file that was opened is no longer at its path: replaced, renamed or deleted."""


class ClosedError(EdgeretError):
    """The index was used after `close`."""


class ForkedError(EdgeretError):
    """The index was opened before a fork and used in the child."""


class SignatureError(EdgeretError):
    """An index, an update or a bundle is not signed, is not signed by this key, or cannot be signed."""


class BudgetError(EdgeretError, MemoryError):
    """The memory budget cannot be met."""
