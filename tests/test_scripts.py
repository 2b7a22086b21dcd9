"""Ids, metadata keys and values in every script, through an index and through the shell."""
# ruff: noqa: RUF001 - the letters are meant

import json
import unicodedata

import pytest
from fake import FakeEncoder

from edgeret import Document, Index
from edgeret.encode.encoder import Encoder
from edgeret.shell.cli import main

WRITTEN = {
    "arabic": "مكتبة المدينة",
    "persian": "می\u200cخواهم",
    "hebrew": "סִפְרִיָּה",
    "thai": "ห้องน้ำ",
    "chinese": "图书馆",
    "japanese": "ガイド",
    "hindi": "क्षेत्र की चाबी",
    "tamil": "நூலகம்",
    "khmer": "បណ្ណាល័យ",
    "greek": "ΒΙΒΛΙΟΘΗΚΗ",
    "turkish": "İstanbul",
    "composed": unicodedata.normalize("NFC", "Café Zürich"),
    "decomposed": unicodedata.normalize("NFD", "Café Zürich"),
    "hangul": unicodedata.normalize("NFC", "도서관"),
    "jamo": unicodedata.normalize("NFD", "도서관"),
    "wide": "Ｃａｆｅ",
    "emoji": "👩\u200d🚒🏽",
    "beyond the first plane": "𞤀𞤁 𠀀",
}


@pytest.fixture(params=[False, True], ids=["read", "indexed"])
def scripts(tmp_path, request):
    """A document for each script, whose id, text, value and key are written in it; with and without an SQL index."""
    filters = ["name"] if request.param else []
    with Index.create(tmp_path / "x.edgeret", model=FakeEncoder(), filters=filters) as index:
        index.add(
            Document(name, f"text {name}", {"name": name, "tags": ["x", name], name: 1, "in": {name: True}})
            for name in WRITTEN.values()
        )
        yield index


@pytest.mark.parametrize("script", WRITTEN)
def test_a_value_equals_itself_and_no_other(scripts, script):
    name = WRITTEN[script]
    others = set(WRITTEN.values()) - {name}
    for where in (
        {"name": name},
        {"name": {"$in": [name]}},
        {"tags": name},
        {"tags": {"$contains": name}},
        {"name": {"$startswith": name}},
        {"name": {"$contains": name[1:]}, "$id": {"$startswith": name[0]}},
        {"$id": name},
        {"$id": {"$gte": name, "$lte": name}},
        {name: 1},
        {name: {"$exists": True}},
        {f"in.{name}": True},
    ):
        assert list(scripts.ids(where)) == [name], where
        assert [hit.id for hit in scripts.search("text", k=50, where=where)] == [name], where
    assert set(scripts.ids({"name": {"$ne": name}})) == others
    assert set(scripts.ids({"name": {"$nin": [name]}})) == others


@pytest.mark.parametrize("script", WRITTEN)
def test_an_id_is_what_it_was_given(scripts, script):
    name = WRITTEN[script]
    assert name in scripts
    assert scripts.get(name).metadata["name"] == name
    assert scripts.update(name, {"seen": name})
    assert scripts.facets("seen") == [(name, 1)]
    assert name not in [hit.id for hit in scripts.similar(name, k=50)]
    assert scripts.delete([name]) == 1
    assert name not in scripts
    assert len(scripts) == len(WRITTEN) - 1


def test_ids_are_in_the_order_of_code_points(scripts):
    in_order = sorted(WRITTEN.values())
    assert list(scripts.ids()) == in_order
    assert list(scripts.ids(after=in_order[3], limit=2)) == in_order[4:6]
    middle = in_order[len(in_order) // 2]
    assert list(scripts.ids({"name": {"$gt": middle}})) == [name for name in in_order if name > middle]


def test_two_spellings_that_look_the_same_are_two_strings(scripts):
    """Composed or not, wide or not, in capitals or not: words find both spellings, a filter and an id one."""
    composed, decomposed = WRITTEN["composed"], WRITTEN["decomposed"]
    assert composed != decomposed
    assert list(scripts.ids({"name": composed})) == [composed]
    assert list(scripts.ids({"name": decomposed})) == [decomposed]
    assert not list(scripts.ids({"name": composed.casefold()}))
    assert not list(scripts.ids({"name": "Cafe Zurich"}))
    found = {hit.id for hit in scripts.search("cafe", mode="lexical", k=50)}
    assert found == {composed, decomposed, WRITTEN["wide"]}
    assert {hit.id for hit in scripts.search(WRITTEN["hangul"], mode="lexical")} == {
        WRITTEN["hangul"], WRITTEN["jamo"]
    }  # fmt: skip


@pytest.mark.parametrize("script", WRITTEN)
def test_the_shell_takes_and_gives_them(tmp_path, monkeypatch, capsys, script):
    monkeypatch.setattr(Encoder, "load", staticmethod(lambda *_: FakeEncoder()))
    monkeypatch.chdir(tmp_path)
    name = WRITTEN[script]
    lines = [{"id": written, "text": f"text {written}", written: written} for written in WRITTEN.values()]
    (tmp_path / "some.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8"
    )

    def said(*argv: str) -> str:
        assert main(argv) == 0
        return capsys.readouterr().out

    said("index", "x.edgeret", "some.jsonl", "--bits", "64", "--filter", name)
    where = json.dumps({name: name}, ensure_ascii=False)
    assert said("list", "x.edgeret", "--where", where) == f"{name}\n"
    assert json.loads(said("list", "x.edgeret", "--where", json.dumps({name: name}), "--json")) == [name]
    assert [
        hit["id"] for hit in json.loads(said("search", "x.edgeret", "text", "--where", where, "--json"))
    ] == [name]
    assert f"  {name}  text {name}\n" in said("search", "x.edgeret", "text", "--where", where)
    assert json.loads(said("get", "x.edgeret", name, "--json"))["metadata"] == {name: name}
    assert said("count", "x.edgeret", "--by", name) == f'        1  "{name}"\n'
    assert json.loads(said("export", "x.edgeret", "--where", where))["id"] == name
    assert said("delete", "x.edgeret", name).startswith("deleted: 1\n")
    assert main(["get", "x.edgeret", name]) == 1
    assert repr(name) in capsys.readouterr().err
