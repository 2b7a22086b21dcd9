"""Haystack 2: an index as a document store, and its retriever. Needs the package haystack-ai, the extra `haystack`."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Self

from edgeret.documents import Document
from edgeret.encode.records import TextEncoder
from edgeret.errors import ArgumentError, ExtraMissingError, InvalidDocumentError
from edgeret.index import Index

try:
    import haystack
    from haystack import component
    from haystack.core.serialization import default_from_dict, default_to_dict
    from haystack.document_stores.errors import DuplicateDocumentError
    from haystack.document_stores.types import DuplicatePolicy
    from haystack.errors import FilterError
except ImportError as error:
    raise ExtraMissingError(
        "expected the package haystack-ai, it cannot be imported: pip install 'edgeret[haystack]'"
    ) from error

_OPERATORS: Final = {
    "==": "$eq",
    "!=": "$ne",
    ">": "$gt",
    ">=": "$gte",
    "<": "$lt",
    "<=": "$lte",
    "in": "$in",
    "not in": "$nin",
}
_JOINTS: Final = {"AND": "$and", "OR": "$or", "NOT": "$and"}
_NOT_STORED: Final = ("content", "blob", "score", "embedding", "sparse_embedding")


class EdgeretDocumentStore:
    """An index file as a document store.

    The index encodes with its own model, and an embedding of a document is not stored.
    """

    def __init__(
        self, path: str, model: str | TextEncoder | None = None, memory_budget: str | int | None = None
    ) -> None:
        """Open an index, or make it.

        Args:
            path: The file.
            model: As in `Index.create`.
            memory_budget: As in `Index.create`.
        """
        self._given = {"path": str(path), "model": model, "memory_budget": memory_budget}
        self.index = Index.create(path, model, memory_budget=memory_budget, exist_ok=True)

    def to_dict(self) -> dict[str, Any]:
        """The arguments, as a pipeline is saved with them."""
        if not isinstance(self._given["model"], str | None):
            raise ArgumentError(
                "expected a model by its name or folder, an encoder cannot be saved: pass its bundle's"
            )
        return dict(default_to_dict(self, **self._given))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """A store with the arguments that `to_dict` returned."""
        store: Self = default_from_dict(cls, data)
        return store

    def count_documents(self) -> int:
        """How many documents there are."""
        return len(self.index)

    def count_documents_by_filter(self, filters: dict[str, Any]) -> int:
        """How many documents meet the filters."""
        return self.index.count(where_of(filters))

    def filter_documents(self, filters: dict[str, Any] | None = None) -> list[haystack.Document]:
        """The documents that meet the filters, by their ids; all of them without filters."""
        found = self.index.documents(where_of(filters))
        return [haystack.Document(id=one.id, content=one.text, meta=dict(one.metadata)) for one in found]

    def write_documents(
        self, documents: list[haystack.Document], policy: DuplicatePolicy = DuplicatePolicy.NONE
    ) -> int:
        """Add documents, in one transaction.

        Args:
            documents: With a text each.
            policy: What happens to one whose id is there. NONE overwrites it, which costs nothing if it is unchanged.

        Returns:
            How many were written.

        Raises:
            DuplicateDocumentError: An id is there, and the policy is FAIL.
            InvalidDocumentError: A document has no text, or something else than a text.
        """
        if not isinstance(documents, Iterable) or isinstance(documents, str):
            raise InvalidDocumentError(
                f"expected a list of documents, got {type(documents).__name__}: put it in one"
            )
        given = [_document(one) for one in documents]
        if policy in (DuplicatePolicy.SKIP, DuplicatePolicy.FAIL):
            fresh = {one.id: one for one in reversed(given) if str(one.id) not in self.index}
            if policy == DuplicatePolicy.FAIL and len(fresh) < len(given):
                raise DuplicateDocumentError(
                    "expected documents with new ids, one is there already: write with DuplicatePolicy.OVERWRITE"
                )
            given = list(fresh.values())[::-1]
        return len(self.index.add(given))

    def delete_documents(self, document_ids: list[str]) -> None:
        """Remove documents by their ids; unknown ones are no error."""
        self.index.delete(document_ids)

    def delete_all_documents(self) -> None:
        """Remove all documents."""
        self.index.delete(self.index.ids())

    def delete_by_filter(self, filters: dict[str, Any]) -> int:
        """Remove the documents that meet the filters; how many these were."""
        return self.index.delete(where=where_of(filters))

    def update_by_filter(self, filters: dict[str, Any], meta: dict[str, Any]) -> int:
        """Give the documents that meet the filters these metadata beside their others; how many these were."""
        return self.index.update_many((one, meta) for one in self.index.ids(where_of(filters)))


@component
class EdgeretRetriever:
    """Finds documents of an `EdgeretDocumentStore` for the text of a query."""

    def __init__(
        self,
        document_store: EdgeretDocumentStore,
        top_k: int = 10,
        filters: dict[str, Any] | None = None,
        mode: str | None = None,
        passages: bool = False,
    ) -> None:
        """Take a store.

        Args:
            document_store: Where to search.
            top_k: Documents to find.
            filters: Conditions that all of them meet. None lets every document pass.
            mode: As in `Index.search`.
            passages: Whether to return the best passage of each document. False returns the whole text.
        """
        self._store = document_store
        self._given: dict[str, Any] = {"top_k": top_k, "filters": filters, "mode": mode, "passages": passages}

    def to_dict(self) -> dict[str, Any]:
        """The arguments, as a pipeline is saved with them."""
        return dict(default_to_dict(self, document_store=self._store.to_dict(), **self._given))

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """A retriever with the arguments that `to_dict` returned."""
        given = dict(data["init_parameters"])
        given["document_store"] = EdgeretDocumentStore.from_dict(given["document_store"])
        retriever: Self = default_from_dict(cls, {**data, "init_parameters": given})
        return retriever

    @component.output_types(documents=list[haystack.Document])
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, list[haystack.Document]]:
        """Search.

        Args:
            query: The text.
            filters: Conditions that documents meet beside those of the retriever.
            top_k: Documents to find. None takes the number of the retriever.

        Returns:
            `documents`, best first, with their scores, of which higher is better.
        """
        index = self._store.index
        where = {"$and": [where_of(self._given["filters"]), where_of(filters)]}
        hits = index.search(query, top_k or self._given["top_k"], where, self._given["mode"])
        wholes = [None if self._given["passages"] else index.get(hit.id) for hit in hits]
        return {
            "documents": [
                # Of what was deleted meanwhile there is the passage.
                haystack.Document(
                    id=hit.id,
                    content=hit.text if whole is None else whole.text,
                    meta=hit.metadata,
                    score=hit.score,
                )
                for hit, whole in zip(hits, wholes, strict=True)
            ]
        }


def where_of(filters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Filters of Haystack as a `where`, empty if there are none. Raises Haystack's FilterError for what is none."""
    if not filters:
        return {}
    if "field" in filters:
        return _comparison(filters)
    if "operator" not in filters or "conditions" not in filters:
        raise FilterError(
            "expected 'field', or 'operator' and 'conditions', in a filter, one is missing: add it"
        )
    if filters["operator"] not in _JOINTS:
        raise FilterError(f"expected AND, OR or NOT, got {filters['operator']!r}: use one of these")
    joined = {_JOINTS[filters["operator"]]: [where_of(one) for one in filters["conditions"]]}
    return {"$not": joined} if filters["operator"] == "NOT" else joined


def _comparison(condition: Mapping[str, Any]) -> dict[str, Any]:
    if "operator" not in condition or "value" not in condition:
        raise FilterError("expected 'operator' and 'value' beside 'field', one is missing: add it")
    field, operator, value = condition["field"], condition["operator"], condition["value"]
    if operator not in _OPERATORS:
        raise FilterError(f"expected one of {', '.join(_OPERATORS)}, got {operator!r}: use one of these")
    if field in _NOT_STORED:
        raise FilterError(
            f"expected a field of the metadata, or id, got {field!r}: filter by 'meta.' and a key"
        )
    key = "$id" if field == "id" else field.removeprefix("meta.")
    if operator in ("in", "not in") and not isinstance(value, list):
        raise FilterError(f"expected a list for {operator!r}, got {type(value).__name__}: put it in one")
    if operator in (">", ">=", "<", "<="):
        return _order(key, operator, value)
    if value is None and key != "$id":
        # To Haystack a key that is missing is None.
        there = {"$and": [{key: {"$exists": True}}, {key: {"$ne": None}}]}
        return {"$not": there} if operator == "==" else there
    return {key: {_OPERATORS[operator]: value}}


def _order(key: str, operator: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {"$id": {"$in": []}}
    if isinstance(value, list) or (isinstance(value, str) and not _is_date(value)):
        raise FilterError(f"expected a number or an ISO date for {operator!r}, got {value!r:.60}: convert it")
    return {key: {_OPERATORS[operator]: value}}


def _is_date(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _document(given: haystack.Document) -> Document:
    if not isinstance(given, haystack.Document):
        raise InvalidDocumentError(f"expected a Document of Haystack, got {type(given).__name__}: wrap it")
    if given.content is None or given.blob is not None:
        raise InvalidDocumentError(
            f"expected a document with a text and no blob, {given.id!r:.60} is another: convert it to text first"
        )
    return Document(given.id, given.content, given.meta)
