"""Every error that edgeret raises on purpose: one shallow tree, one class per condition.

A message shows what was expected and what was found, and ends with the remedy.
"""

from __future__ import annotations


class EdgeretError(Exception):
    """Base of all errors raised by edgeret."""


class ArgumentError(EdgeretError, ValueError):
    """A call was given what it cannot take: another type, a number out of its range, a path that can be none."""


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


class NotAnIndexError(EdgeretError):
    """The path holds something that is not an edgeret index."""


class IndexExistsError(EdgeretError, FileExistsError):
    """`create` found an index where none should be."""


class IndexMissingError(EdgeretError, FileNotFoundError):
    """`open` found no index at the path."""


class FormatVersionError(EdgeretError):
    """The index or bundle was written by a newer edgeret."""


class SpaceMismatchError(EdgeretError):
    """Index and encoder belong to different spaces."""


class CorruptIndexError(EdgeretError):
    """The index file is damaged."""


class PartitionsError(EdgeretError):
    """The partitions beside an index are missing, damaged or another index's."""


class UpdateMismatchError(EdgeretError):
    """An update fits other contents than those of the index."""


class CorruptUpdateError(EdgeretError):
    """An update file is damaged, or no update."""


class LockedError(EdgeretError):
    """Another process or connection holds the write lock."""


class ReentrantError(EdgeretError, RuntimeError):
    """A call from within another one, of the same thread, that it would have to wait for."""


class ReadOnlyError(EdgeretError):
    """A write was asked of an index opened read-only."""


class NeedsRecoveryError(EdgeretError):
    """A read-only medium holds an index whose write-ahead log was not merged."""


class StorageError(EdgeretError, OSError):
    """The medium refused: disk full, input/output error, no permission."""


class EngineError(EdgeretError):
    """SQLite refused for a reason that says nothing about the file: interrupted, out of a limit of its own, misused."""


class ReplacedError(EdgeretError):
    """The file that was opened does not lie at its path any more: replaced, renamed or deleted."""


class ClosedError(EdgeretError):
    """The index was used after `close`."""


class ForkedError(EdgeretError):
    """The index was opened before a fork and used in the child."""


class SignatureError(EdgeretError):
    """An index, an update or a bundle is not signed, not by the owner of this key, or cannot be signed."""


class BudgetError(EdgeretError, MemoryError):
    """The memory budget cannot be met."""
