"""LangChain's own standard tests of a vector store, and what they leave out."""

import pytest

pytest.importorskip("langchain_core", reason="make frameworks brings what this needs")
pytest.importorskip("langchain_tests", reason="make frameworks brings what this needs")
from langchain_core.documents import Document
from langchain_tests.integration_tests.vectorstores import VectorStoreIntegrationTests

from edgeret.adapters.langchain import EdgeretVectorStore
from edgeret.errors import ArgumentError, InvalidDocumentError


@pytest.fixture
def store(index):
    return EdgeretVectorStore(index)


class TestStandard(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, store):
        return store


def test_documents_without_ids_are_kept_apart_by_their_metadata_and_added_once(store):
    cats = [Document("red cat", metadata={"page": page}) for page in (1, 2)]
    assert store.add_documents(cats) == store.add_documents(cats)
    assert len(store.index) == 2


def test_filters_modes_and_scores_reach_the_index(store):
    store.add_texts(["red cat", "blue dog"], [{"year": 2020}, {"year": 2024}], ids=["cat", "dog"])
    assert [one.id for one in store.similarity_search("red cat", filter={"year": 2024})] == ["dog"]
    assert [one.id for one in store.similarity_search("dog", mode="lexical")] == ["dog"]
    ((found, score),) = store.similarity_search_with_score("red cat", k=1)
    assert (found.id, score) == ("cat", store.index.search("red cat")[0].score)
    ((found, share),) = store.similarity_search_with_relevance_scores("red cat", k=1, mode="dense")
    assert found.id == "cat"
    assert share == pytest.approx(1, abs=0.02)
    retriever = store.as_retriever(search_kwargs={"k": 1, "filter": {"year": {"$lt": 2022}}})
    assert [one.id for one in retriever.invoke("blue dog")] == ["cat"]


def test_a_vector_of_the_space_is_asked(store, encoder):
    store.add_texts(["red cat", "blue dog"])
    (found,) = store.similarity_search_by_vector(encoder.encode(["blue dog"])[0].tolist(), k=1)
    assert found.page_content == "blue dog"


def test_marginal_relevance_leaves_twins_out(store):
    store.add_texts(["red cat", "red cat", "red dog"], ids=["one", "twin", "dog"])
    for lambda_mult, expected in ((1.0, ["one", "twin"]), (0.3, ["one", "dog"])):
        found = store.max_marginal_relevance_search("red cat", k=2, lambda_mult=lambda_mult)
        assert [one.id for one in found] == expected
    assert store.max_marginal_relevance_search("red cat", k=9, filter={"year": 1}) == []


def test_a_long_text_comes_whole_or_by_its_best_passage(index):
    text = " ".join(f"word{number}." for number in range(60)) + " red cat"
    EdgeretVectorStore(index).add_texts([text], ids=["long"])
    (whole,) = EdgeretVectorStore(index).similarity_search("red cat")
    (passage,) = EdgeretVectorStore(index, passages=True).similarity_search("red cat")
    assert whole.page_content == text
    assert passage.page_content in text
    assert len(passage.page_content) < len(text)


def test_without_ids_all_are_deleted(store):
    store.add_texts(["red cat", "blue dog"], [{"year": 2020}, {"year": 2024}])
    assert store.delete(where={"year": 2020})
    assert len(store.index) == 1
    assert store.delete()
    assert len(store.index) == 0


def test_from_documents_makes_an_index_and_refuses_embeddings(path, encoder):
    store = EdgeretVectorStore.from_documents([Document("red cat", id="cat")], None, path=path, model=encoder)
    assert store.get_by_ids(["cat"])[0].page_content == "red cat"
    store.index.close()
    with pytest.raises(ArgumentError, match="embedding to be None"):
        EdgeretVectorStore.from_texts(["red cat"], VectorStoreIntegrationTests.get_embeddings(), path=path)
    with pytest.raises(ArgumentError, match="path"):
        EdgeretVectorStore.from_texts(["red cat"], None)


def test_what_cannot_be_added_is_named(store):
    with pytest.raises(InvalidDocumentError, match="got 1 ids"):
        store.add_texts(["red cat", "blue dog"], ids=["cat"])
    with pytest.raises(InvalidDocumentError, match="JSON"):
        store.add_texts(["red cat"], [{"when": object()}])
