"""Files of each kind become documents: their text, their metadata, their records."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest

from edgeret import Document, EdgeretError, InvalidDocumentError
from edgeret.sources import formats, markup
from edgeret.sources.folder import File
from edgeret.sources.formats import Keys, LeftOutError

PAGE = """<!doctype html><html><head><meta charset="latin-1"><title>The
 pump</title><style>p {}</style><script>if (a < b) "</p>"</script></head><body>
<h1>Pumps &amp; <em>filters</em></h1><p>Clean the   filter
monthly.<br>Always.</p><ul><li>one</li><li>two</li></ul>
<pre>a  = 1
b</pre><table><tr><th>part</th><th>price</th></tr><tr><td>seal</td><td>3</td></tr></table><p>größer</body></html>"""


def read(path: Path, content: str | bytes) -> Document:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return formats.document(File(path.name, str(path)))


def records(path: Path, content: str, keys: Keys = formats.NO_KEYS) -> list[Document | str]:
    path.write_bytes(content.encode())
    found = [entry.found for entry in formats.entries(File(path.name, str(path)), keys)]
    return [str(one) if isinstance(one, EdgeretError) else one for one in found]


def test_a_page_is_what_it_shows(tmp_path: Path) -> None:
    found = read(tmp_path / "a.html", PAGE.encode("latin-1"))
    assert found.metadata == {"title": "The pump", "encoding": "latin-1"}
    assert found.text == (
        "# Pumps & filters\n\nClean the filter monthly.\nAlways.\n\n- one\n- two\n\n```\na  = 1\nb\n```\n\n"
        "| part | price |\n| seal | 3 |\n\ngrößer\n"
    )


@pytest.mark.parametrize(
    "odd", ["<![foo[bar]]>", "<![>", "<![if !lists]>", "<![CDATA[x]]>", "<!ELEMENT br EMPTY>", "<?x?>"]
)
def test_odd_signs_in_a_page_are_passed_over(tmp_path: Path, odd: str) -> None:
    assert read(tmp_path / "a.html", f"<p>red {odd}cat").text == "red cat\n"


@pytest.mark.parametrize(
    ("declared", "encoding", "text"),
    [
        ("iso-8859-1", "cp1252", "œuvre, 5 €"),
        ("US-ASCII", "cp1252", "œuvre, 5 €"),
        ("gb2312", "gbk", "朱镕基"),
        ("Shift_JIS", "cp932", "第①章"),
        ("utf-16", "utf-8", "größer"),
        ("UTF-16LE", "utf-8", "größer."),
        ("undefined", "utf-8", "größer"),
        ("utf8", "utf-8", "größer"),
    ],
)
def test_a_page_is_read_as_browsers_read_it(tmp_path: Path, declared: str, encoding: str, text: str) -> None:
    page = f'<meta http-equiv=x content="text/html; charset={declared}"><p>{text}</p>'.encode(encoding)
    for octets in (page, page + b" "):
        found = read(tmp_path / "a.html", octets)
        assert found.text.strip() == text
        assert found.metadata == ({} if encoding == "utf-8" else {"encoding": declared.lower()})


@pytest.mark.parametrize(
    ("front", "metadata"),
    [
        ("---\ntitle: The pump\nyear: 2024\ntags: [a, 'b c']\ndraft: false\n---\n",
         {"title": "The pump", "year": 2024, "tags": ["a", "b c"], "draft": False}),
        ("---\r\ntags:\r\n  - a\r\n  - 1.5\r\nnote: |\r\n  one\r\n  two\r\n---\r\n",
         {"tags": ["a", 1.5], "note": "one\ntwo"}),
        ('+++\ntitle = "The pump"\ndate = 2024-05-01\n+++\n', {"title": "The pump", "date": "2024-05-01"}),
        ("---\nempty:\nquoted: \"3\"\nzip: 01234\n---\n", {"empty": None, "quoted": "3", "zip": "01234"}),
    ],
)  # fmt: skip
def test_front_matter_is_metadata(tmp_path: Path, front: str, metadata: dict[str, object]) -> None:
    found = read(tmp_path / "a.md", f"{front}Body.\n")
    assert found.text.strip() == "Body."
    assert found.metadata == metadata


def test_what_only_looks_like_front_matter_stays() -> None:
    for text in (
        "---\nJust a line between rules.\n---\nBody",
        "---\nkey: open",
        "+++\nnot toml\n+++\nBody",
        "a: b\n---\n",
    ):
        assert markup.front(text) == (text, {})


def test_rows_are_documents(tmp_path: Path) -> None:
    table = 'id,text,year\nx,"one, two",2024\n,three,\n\n,,\n'
    assert records(tmp_path / "a.csv", table) == [
        Document("x", "one, two", {"year": 2024}),
        Document(None, "three"),
    ]
    table = "name\tsize\nred pump\t3.5\nblue\t007\n"
    assert records(tmp_path / "a.tsv", table) == [
        Document(None, "name: red pump\nsize: 3.5", {"name": "red pump", "size": 3.5}),
        Document(None, "name: blue\nsize: 007", {"name": "blue", "size": "007"}),
    ]
    assert records(tmp_path / "a.csv", "a;b\n1;text\n", Keys("b", "a")) == [Document("1", "text")]
    with pytest.raises(InvalidDocumentError, match="expected a column 'c', got a, b"):
        records(tmp_path / "a.csv", "a;b\n1;text\n", Keys("c"))
    with pytest.raises(InvalidDocumentError, match="expected the names of columns, got field larger"):
        records(tmp_path / "a.csv", '"' + "never closed\n" * 20_000)
    refused = records(tmp_path / "a.csv", f"text\n{'x' * 200_000}\nfine\n")
    assert "row 1: expected a row of a table" in str(refused[0])


def test_json_is_records_or_one_document(tmp_path: Path) -> None:
    listed = json.dumps([{"id": "x", "text": "one", "n": 1}, {"text": "two"}, 5])
    assert records(tmp_path / "a.json", listed)[:2] == [Document("x", "one", {"n": 1}), Document(None, "two")]
    assert "entry 3: expected a JSON object" in str(records(tmp_path / "a.json", listed)[2])
    assert records(tmp_path / "a.json", '{"rooms": 3}') == [Document("a.json", '{"rooms": 3}')]
    keys = Keys("body", "number")
    assert records(tmp_path / "a.json", '[{"body": "b", "number": 7}]', keys) == [Document("7", "b")]
    assert records(tmp_path / "a.jsonl", '{"body": "b", "number": "7", "text": "t"}', keys) == [
        Document("7", "b", {"text": "t"})
    ]
    with pytest.raises(InvalidDocumentError, match="expected JSON"):
        records(tmp_path / "a.json", "{")


def pdf(*pages: str) -> bytes:
    """A PDF of pages of one line each."""
    kids = " ".join(f"{3 + 2 * number} 0 R" for number in range(len(pages)))
    parts = [
        "<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Count {len(pages)}/Kids[{kids}]>>",
    ]
    for number, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET"
        font = "<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>"
        parts.append(f"<</Type/Page/Parent 2 0 R/Contents {4 + 2 * number} 0 R/Resources<</Font{font}>>>>")
        parts.append(f"<</Length {len(drawn)}>>stream\n{drawn}\nendstream")
    made, places = b"%PDF-1.4\n", []
    for number, part in enumerate(parts, start=1):
        places.append(len(made))
        made += f"{number} 0 obj{part}endobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    return (
        made
        + (
            f"xref\n0 {len(parts) + 1}\n0000000000 65535 f \n{table}trailer<</Size {len(parts) + 1}/Root 1 0 R>>\n"
            f"startxref\n{len(made)}\n%%EOF"
        ).encode()
    )


def test_a_pdf_is_its_pages(tmp_path: Path) -> None:
    pytest.importorskip("pypdf")
    assert (
        read(tmp_path / "a.pdf", pdf("Clean the filter.", "Call us.")).text == "Clean the filter.\fCall us."
    )
    with pytest.raises(LeftOutError, match="its pages may be pictures"):
        read(tmp_path / "a.pdf", pdf(""))


def test_a_word_document_keeps_its_headings_and_tables(tmp_path: Path) -> None:
    pytest.importorskip("mammoth")
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'

    def paragraph(text: str, style: str = "") -> str:
        told = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
        return f"<w:p>{told}<w:r><w:t>{text}</w:t></w:r></w:p>"

    cells = "".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in ("seal", "3"))
    body = paragraph("Pumps", "Heading1") + paragraph("Clean it.") + f"<w:tbl><w:tr>{cells}</w:tr></w:tbl>"
    path = tmp_path / "a.docx"
    with zipfile.ZipFile(path, "w") as archive:
        types = "http://schemas.openxmlformats.org/package/2006/content-types"
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{types}"></Types>')
        archive.writestr("word/document.xml", f"<w:document {word}><w:body>{body}</w:body></w:document>")
        archive.writestr(
            "word/styles.xml",
            f'<w:styles {word}><w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
            "</w:styles>",
        )
    text = formats.document(File("a.docx", str(path))).text
    assert text.split() == ["#", "Pumps", "Clean", "it.", "|", "seal", "|", "3", "|"]


def book(path: Path, container: str = "") -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "META-INF/container.xml",
            container or '<c xmlns="urn:c"><rootfiles><rootfile full-path="in/book.opf"/></rootfiles></c>',
        )
        items = "".join(f'<item id="c{number}" href="c%20{number}.xhtml"/>' for number in (1, 2))
        archive.writestr(
            "in/book.opf",
            '<package xmlns="urn:p" xmlns:dc="urn:dc"><metadata><dc:title>Tides</dc:title></metadata>'
            f'<manifest>{items}</manifest><spine><itemref idref="c2"/><itemref idref="c1"/></spine></package>',
        )
        for number in (1, 2):
            archive.writestr(f"in/c {number}.xhtml", f"<html><body><h1>Part {number}</h1></body></html>")
    return path


def test_a_book_is_read_in_its_order(tmp_path: Path) -> None:
    found = formats.document(File("a.epub", str(book(tmp_path / "a.epub"))))
    assert found.metadata == {"title": "Tides"}
    assert found.text.split() == ["#", "Part", "2", "#", "Part", "1"]


@pytest.mark.parametrize("ending", ["pdf", "docx", "epub"])
def test_what_is_damaged_is_refused_by_name(tmp_path: Path, ending: str) -> None:
    pytest.importorskip("pypdf")
    pytest.importorskip("mammoth")
    whole = {"pdf": pdf("text"), "epub": book(tmp_path / "b.epub").read_bytes(), "docx": b"PK\3\4"}[ending]
    for content in (b"", b"\0", b"no such file", whole[: len(whole) // 2], whole[::-1]):
        try:
            read(tmp_path / f"a.{ending}", content or b"x")
        except InvalidDocumentError as error:
            assert f"a.{ending}: " in str(error)  # noqa: PT017 - a cut PDF may still be read
    if ending == "epub":
        path = book(tmp_path / "c.epub", '<!DOCTYPE c [<!ENTITY a "b">]><c/>')
        with pytest.raises(InvalidDocumentError, match="it declares entities"):
            formats.document(File("c.epub", str(path)))


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package, ending in (("pypdf", "pdf"), ("mammoth", "docx")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(InvalidDocumentError, match=rf"{package} reads such files.*edgeret\[files\]"):
            read(tmp_path / f"a.{ending}", b"x")


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<html><head><title>T</title><h1>Hello</h1><p>text", "# Hello\n\ntext\n"),
        ("<head><style>p {}</style><script>x</script><meta a><p>text", "text\n"),
        ("<table><tr><td>lamp<td>red<tr><td>door<td>blue</table>", "| lamp | red |\n| door | blue |\n"),
        ("<select><option>one<option>two</select>", "one\n\ntwo\n"),
    ],
)
def test_a_page_may_leave_out_what_html_lets_it(tmp_path: Path, page: str, text: str) -> None:
    assert read(tmp_path / "a.html", page).text == text


def test_columns_of_one_name_keep_their_cells(tmp_path: Path) -> None:
    (found,) = records(tmp_path / "a.csv", "name,note,note\nAnna,red lamp,blue sea\n")
    assert found == Document(
        None,
        "name: Anna\nnote: red lamp\nnote (column 3): blue sea",
        {"name": "Anna", "note": "red lamp", "note (column 3)": "blue sea"},
    )


@pytest.mark.parametrize(
    "text", ["le café est fermé, dès le début", "Prüfung für Größen: schön", "насос стоит"]
)
@pytest.mark.parametrize("stray", [b"\xff", b"\xe9", b"\xd0"])
def test_a_text_in_utf8_with_a_stray_octet_is_one(tmp_path: Path, text: str, stray: bytes) -> None:
    for place in (0, len(text)):
        octets = text[:place].encode() + stray + b" " + text[place:].encode()
        found = read(tmp_path / "a.log", octets)
        assert found.text == f"{text[:place]}\ufffd {text[place:]}"
        assert found.metadata == {"encoding": "utf-8, damaged"}


@pytest.mark.parametrize(
    ("encoding", "line"),
    [
        ("shift_jis", "これはポンプの説明書です。ふぃるたを毎月きれいにします。\n"),
        ("euc_kr", "펌프가 서 있습니다. 매달 필터를 청소하십시오.\n"),
        ("gb18030", "水泵停了。请每个月清洁一次过滤器。\n"),
    ],
)
@pytest.mark.parametrize("ahead", ["", "a", "ab", "abc"])
def test_a_long_file_is_in_the_encoding_that_a_short_one_is_in(
    tmp_path: Path, encoding: str, line: str, ahead: str
) -> None:
    pytest.importorskip("charset_normalizer", reason="the extra 'files' is missing")
    text = ahead + "\n" + line * 4000
    assert read(tmp_path / "a.txt", text.encode(encoding)).text == text
