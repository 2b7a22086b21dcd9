"""LlamaIndex: an index as its `BasePydanticVectorStore`. Needs the package llama-index-core, the extra `llamaindex`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from edgeret.documents import Document
from edgeret.errors import ArgumentError, ExtraMissingError, FilterError
from edgeret.index import Index

try:
    from llama_index.core import schema
    from llama_index.core.vector_stores import types, utils
except ImportError as error:
    raise ExtraMissingError(
        "expected the package llama-index-core, it cannot be imported: pip install 'edgeret[llamaindex]'"
    ) from error

_NODE: Final = ("_node_content", "_node_type", "ref_doc_id")
"""What a node is beside its id, text and metadata: keys of the metadata in the index."""

_OPERATORS: Final = {
    types.FilterOperator.EQ: "$eq",
    types.FilterOperator.NE: "$ne",
    types.FilterOperator.GT: "$gt",
    types.FilterOperator.GTE: "$gte",
    types.FilterOperator.LT: "$lt",
    types.FilterOperator.LTE: "$lte",
    types.FilterOperator.IN: "$in",
    types.FilterOperator.NIN: "$nin",
    types.FilterOperator.ANY: "$in",
    types.FilterOperator.CONTAINS: "$contains",
    types.FilterOperator.TEXT_MATCH: "$contains",
}

_MODES: Final = {
    types.VectorStoreQueryMode.DEFAULT: None,
    types.VectorStoreQueryMode.SPARSE: "lexical",
    types.VectorStoreQueryMode.TEXT_SEARCH: "lexical",
    types.VectorStoreQueryMode.HYBRID: "hybrid",
    types.VectorStoreQueryMode.SEMANTIC_HYBRID: "hybrid",
    types.VectorStoreQueryMode.MMR: None,
}

_THRESHOLD: Final = 0.5
"""Of maximal marginal relevance: what being near counts, as LlamaIndex has it."""


class EdgeretVectorStore(types.BasePydanticVectorStore):
    """An open index as a vector store. The index encodes with its own model, and a node's embedding is not stored.

    LlamaIndex wants some embedding all the same: give it `MockEmbedding(embed_dim=1)`, which costs nothing.
    """

    stores_text: bool = True
    is_embedding_query: bool = False

    def __init__(self, index: Index) -> None:
        """Wrap an index.

        Args:
            index: The index, which stays open until you close it. The filter key "ref_doc_id" speeds `delete` up.
        """
        super().__init__(stores_text=True, is_embedding_query=False)
        self._index = index

    @classmethod
    def class_name(cls) -> str:
        """The name by which LlamaIndex knows the class."""
        return "EdgeretVectorStore"

    @property
    def client(self) -> Index:
        """The index."""
        return self._index

    def add(self, nodes: Sequence[schema.BaseNode], **kwargs: Any) -> list[str]:
        """Add nodes, as `Index.add` does; `kwargs` are its own. Returns their ids."""
        return self._index.add(map(_document, nodes), **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove the nodes of one document; `delete_kwargs` are those of `Index.delete`."""
        self._index.delete(where={"ref_doc_id": ref_doc_id}, **delete_kwargs)

    def delete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: types.MetadataFilters | None = None,
        **delete_kwargs: Any,
    ) -> None:
        """Remove the nodes that have one of the ids and meet the filters, as far as either is given."""
        self._index.delete(where=_where(filters, node_ids), **delete_kwargs)

    def clear(self) -> None:
        """Remove all nodes."""
        self._index.delete(self._index.ids())

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: types.MetadataFilters | None = None
    ) -> list[schema.BaseNode]:
        """Return the nodes that have one of the ids and meet the filters, as far as either is given, by their ids."""
        found = self._index.documents(_where(filters, node_ids))
        return [_node(one.metadata, one.text) for one in found]

    def query(self, query: types.VectorStoreQuery, **kwargs: Any) -> types.VectorStoreQueryResult:
        """Search.

        Args:
            query: Its text, or its vector where there is none, its number of nodes, mode and filters. The default mode
                is that of `Index.search`; "mmr" is its `diversity`.
            kwargs: What else `Index.search` takes; and `mmr_threshold`, where the query has none.

        Returns:
            Nodes, best first, and their scores, of which higher is better.

        Raises:
            ArgumentError: The index has no such mode.
            EdgeretError: What `Index.search` raises.
        """
        if query.mode not in _MODES:
            raise ArgumentError(
                f"expected a mode that the index has, got {query.mode.value!r}: use default, hybrid or text_search"
            )
        asked = query.query_embedding if query.query_str is None else query.query_str
        # A retriever's empty list means all.
        where = _where(query.filters, query.node_ids or None, query.doc_ids or None)
        options: dict[str, Any] = {"mode": _MODES[query.mode]}
        threshold = kwargs.pop("mmr_threshold", query.mmr_threshold)
        if query.mode == types.VectorStoreQueryMode.MMR:
            options["diversity"] = 1 - (_THRESHOLD if threshold is None else threshold)
        hits = self._index.search(
            asked,
            query.hybrid_top_k or query.similarity_top_k,
            where,
            **{**options, **kwargs},
        )
        wholes = [self._index.get(hit.id) for hit in hits]
        # Of what was deleted meanwhile there is the passage.
        texts = [hit.text if one is None else one.text for hit, one in zip(hits, wholes, strict=True)]
        return types.VectorStoreQueryResult(
            nodes=[_node(hit.metadata, text) for hit, text in zip(hits, texts, strict=True)],
            similarities=[hit.score for hit in hits],
            ids=[hit.id for hit in hits],
        )


def _document(node: schema.BaseNode) -> Document:
    # Its metadata are stored once, as those of the document.
    bare = node.model_copy(update={"metadata": {}, "embedding": None})
    told = utils.node_to_metadata_dict(bare, remove_text=True)
    return Document(
        node.node_id,
        node.get_content(metadata_mode=schema.MetadataMode.NONE),
        {**node.metadata, **{key: told[key] for key in _NODE}},
    )


def _node(metadata: Mapping[str, Any], text: str) -> schema.BaseNode:
    if "_node_content" not in metadata:
        raise ArgumentError(
            "expected documents that LlamaIndex has added, the index holds others: use a file of its own"
        )
    node = utils.metadata_dict_to_node(dict(metadata), text)
    node.metadata = {key: value for key, value in metadata.items() if key not in _NODE}
    return node


def _where(
    filters: types.MetadataFilters | None,
    node_ids: Sequence[str] | None = None,
    doc_ids: Sequence[str] | None = None,
) -> dict[str, Any]:
    parts = [_group(filters)] if filters else []
    parts += [{"$id": {"$in": list(node_ids)}}] if node_ids is not None else []
    parts += [{"ref_doc_id": {"$in": list(doc_ids)}}] if doc_ids is not None else []
    return {"$and": parts} if parts else {}


def _group(filters: types.MetadataFilters) -> dict[str, Any]:
    parts = list(_conditions(filters))
    condition = filters.condition or types.FilterCondition.AND
    if condition == types.FilterCondition.NOT:
        return {"$not": {"$or": parts}}
    return {f"${condition.value}": parts}


def _conditions(filters: types.MetadataFilters) -> Iterator[dict[str, Any]]:
    for one in filters.filters:
        if isinstance(one, types.MetadataFilters):
            yield _group(one)
        elif one.operator == types.FilterOperator.ALL:
            yield {"$and": [{one.key: value} for value in one.value or ()]}
        elif one.operator in _OPERATORS:
            yield {one.key: {_OPERATORS[one.operator]: one.value}}
        else:
            raise FilterError(
                f"expected an operator that the index has, got {one.operator.value!r}: use another"
            )
