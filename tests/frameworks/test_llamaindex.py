"""LlamaIndex has no suite for vector stores: its own index, retriever and filters go over the adapter."""

import pytest

pytest.importorskip("llama_index.core", reason="make frameworks brings what this needs")
from llama_index.core import MockEmbedding, VectorStoreIndex
from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import types

from edgeret.adapters.llamaindex import EdgeretVectorStore
from edgeret.errors import ArgumentError, FilterError, InvalidQueryError

NODES = [
    TextNode(
        id_=name,
        text=text,
        metadata={"year": year, "tags": tags},
        relationships={NodeRelationship.SOURCE: RelatedNodeInfo(node_id=source)},
    )
    for name, text, year, tags, source in (
        ("cat", "red cat", 2020, ["pet", "red"], "animals"),
        ("dog", "blue dog", 2022, ["pet"], "animals"),
        ("car", "red car", 2024, [], "things"),
    )
]


@pytest.fixture
def store(index):
    found = EdgeretVectorStore(index)
    assert found.add(NODES) == ["cat", "dog", "car"]
    return found


def ids(nodes):
    return [node.node_id for node in nodes]


def test_an_index_of_llamaindex_adds_retrieves_and_deletes(index):
    store = EdgeretVectorStore(index)
    over = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=1))
    over.insert_nodes(NODES)
    best, *_ = over.as_retriever(similarity_top_k=2).retrieve("red cat")
    assert (best.node.node_id, best.node.text, best.score) == (
        "cat",
        "red cat",
        index.search("red cat")[0].score,
    )
    over.delete_ref_doc("animals")
    assert list(index.ids()) == ["car"]


def test_a_node_comes_back_as_it_was(store):
    assert store.get_nodes(["cat"]) == NODES[:1]
    assert store.get_nodes(["cat"])[0].ref_doc_id == "animals"
    # A change in the index is a change of the node.
    store.client.update("cat", {"year": 1999})
    assert store.get_nodes(["cat"])[0].metadata == {"year": 1999, "tags": ["pet", "red"]}


@pytest.mark.parametrize(
    ("operator", "key", "value", "expected"),
    [
        ("==", "year", 2020, "cat"),
        ("!=", "year", 2020, "car dog"),
        (">", "year", 2022, "car"),
        (">=", "year", 2022, "car dog"),
        ("<", "year", 2022, "cat"),
        ("<=", "year", 2022, "cat dog"),
        ("in", "year", [2020, 2024], "car cat"),
        ("nin", "year", [2020, 2024], "dog"),
        ("any", "tags", ["red", "green"], "cat"),
        ("all", "tags", ["red", "pet"], "cat"),
        ("contains", "tags", "pet", "cat dog"),
        ("text_match", "ref_doc_id", "thing", "car"),
    ],
)
def test_filters(store, operator, key, value, expected):
    one = types.MetadataFilter(key=key, value=value, operator=operator)
    assert ids(store.get_nodes(filters=types.MetadataFilters(filters=[one]))) == expected.split()
    none = types.MetadataFilters(filters=[types.MetadataFilters(filters=[one])], condition="not")
    assert {*ids(store.get_nodes(filters=none)), *expected.split()} == {"cat", "dog", "car"}


def test_modes_vectors_and_limits_of_a_query(store, encoder):
    mode = types.VectorStoreQueryMode
    words = types.VectorStoreQuery(query_str="dog", similarity_top_k=9, mode=mode.TEXT_SEARCH)
    assert store.query(words).ids == ["dog"]
    vector = encoder.encode(["blue dog"])[0].tolist()
    assert store.query(types.VectorStoreQuery(query_embedding=vector, similarity_top_k=1)).ids == ["dog"]
    within = types.VectorStoreQuery(
        query_str="red", similarity_top_k=9, doc_ids=["animals"], node_ids=["cat", "car"]
    )
    assert store.query(within).ids == ["cat"]
    assert store.query(within, min_score=9.0).ids == []


def test_mmr_is_diversity(store):
    query = types.VectorStoreQuery(query_str="red", similarity_top_k=3, mode="mmr", mmr_threshold=0.2)
    found = [hit.id for hit in store.client.search("red", 3, diversity=0.8)]
    assert store.query(query).ids == found
    over = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=1))
    told = {"mmr_threshold": 0.2}
    retriever = over.as_retriever(vector_store_query_mode="mmr", similarity_top_k=3, vector_store_kwargs=told)
    assert ids(entry.node for entry in retriever.retrieve("red")) == found


def test_what_there_is_not_is_refused_by_name(store):
    with pytest.raises(ArgumentError, match="'svm'"):
        store.query(types.VectorStoreQuery(query_str="red", mode=types.VectorStoreQueryMode.SVM))
    empty = types.MetadataFilter(key="tags", value=None, operator="is_empty")
    with pytest.raises(FilterError, match="'is_empty'"):
        store.get_nodes(filters=types.MetadataFilters(filters=[empty]))
    with pytest.raises(InvalidQueryError):
        store.delete_nodes()
    store.client.add(["a text"])
    with pytest.raises(ArgumentError, match="LlamaIndex has added"):
        store.get_nodes()


def test_nodes_are_deleted_by_ids_by_filters_and_all(store):
    store.delete_nodes(["cat", "nobody"])
    assert list(store.client.ids()) == ["car", "dog"]
    store.delete_nodes(filters=types.MetadataFilters(filters=[types.MetadataFilter(key="year", value=2024)]))
    assert list(store.client.ids()) == ["dog"]
    store.clear()
    assert len(store.client) == 0
