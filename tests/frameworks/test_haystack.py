"""Haystack's own suites for document stores, and a pipeline over the retriever."""

import pytest

pytest.importorskip("haystack", reason="make frameworks brings what this needs")
from dataclasses import replace

from haystack import Document, Pipeline
from haystack.dataclasses import ByteStream
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.testing.document_store import CountDocumentsByFilterTest, DocumentStoreBaseExtendedTests

from edgeret.adapters.haystack import EdgeretDocumentStore, EdgeretRetriever
from edgeret.errors import ArgumentError, InvalidDocumentError


@pytest.fixture
def document_store(path, encoder):
    store = EdgeretDocumentStore(path, encoder)
    yield store
    store.index.close()


class TestStandard(DocumentStoreBaseExtendedTests, CountDocumentsByFilterTest):
    @pytest.fixture
    def document_store(self, path, encoder):
        store = EdgeretDocumentStore(path, encoder)
        yield store
        store.index.close()

    @staticmethod
    def assert_documents_are_equal(received, expected):
        """In any order; embeddings are not stored."""
        plain = [replace(one, embedding=None) for one in expected]
        assert sorted(received, key=lambda one: one.id) == sorted(plain, key=lambda one: one.id)

    def test_write_documents(self, document_store):
        """Without a policy a document is overwritten."""
        for content in ("red cat", "blue dog"):
            assert document_store.write_documents([Document(id="one", content=content)]) == 1
        assert document_store.filter_documents() == [Document(id="one", content="blue dog")]


@pytest.fixture
def filled(document_store):
    document_store.write_documents(
        [
            Document(id="cat", content="red cat", meta={"year": 2020}),
            Document(id="dog", content="blue dog", meta={"year": 2024}),
        ]
    )
    return document_store


def test_a_pipeline_retrieves(filled):
    pipeline = Pipeline()
    pipeline.add_component("retriever", EdgeretRetriever(filled, top_k=1))
    (best,) = pipeline.run({"retriever": {"query": "red cat"}})["retriever"]["documents"]
    assert (best.id, best.content, best.meta) == ("cat", "red cat", {"year": 2020})
    assert best.score == filled.index.search("red cat")[0].score


def test_filters_of_the_retriever_and_of_the_call_both_hold(filled):
    old, new = ({"field": "meta.year", "operator": op, "value": 2022} for op in ("<", ">"))
    retriever = EdgeretRetriever(filled, filters=old)
    assert [one.id for one in retriever.run("blue dog")["documents"]] == ["cat"]
    assert retriever.run("blue dog", filters=new)["documents"] == []
    assert [one.id for one in EdgeretRetriever(filled, mode="lexical").run("dog")["documents"]] == ["dog"]
    by_id = {"field": "id", "operator": "==", "value": "dog"}
    assert [one.id for one in filled.filter_documents(by_id)] == ["dog"]


def test_a_retriever_is_saved_and_loaded(tmp_path):
    retriever = EdgeretRetriever(
        EdgeretDocumentStore(str(tmp_path / "x.edgeret"), "nano"), top_k=3, passages=True
    )
    again = EdgeretRetriever.from_dict(retriever.to_dict())
    assert again.to_dict() == retriever.to_dict()
    assert again.to_dict()["init_parameters"]["document_store"]["init_parameters"]["model"] == "nano"
    for one in (retriever, again):
        one._store.index.close()


def test_what_cannot_be_is_refused_by_name(filled):
    with pytest.raises(InvalidDocumentError, match="blob"):
        filled.write_documents([Document(blob=ByteStream(b"red cat"))])
    with pytest.raises(FilterError, match="'content'"):
        filled.filter_documents({"field": "content", "operator": "==", "value": "red cat"})
    with pytest.raises(FilterError, match="'like'"):
        filled.filter_documents({"field": "meta.year", "operator": "like", "value": "2"})
    with pytest.raises(FilterError, match="'XOR'"):
        filled.filter_documents({"operator": "XOR", "conditions": []})
    with pytest.raises(ArgumentError, match="encoder"):
        filled.to_dict()
    two = [Document(id="new", content="red cat")] * 2
    assert filled.write_documents(two, DuplicatePolicy.SKIP) == 1
