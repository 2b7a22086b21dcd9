"""The tokenizer of a folder: tokenizer.json, or BERT's made of vocab.txt, judged by what it encodes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeret.encode.foreign import is_refusal
from edgeret.errors import BundleError
from export import bytelevel, folder

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def read(path: Path, rows: int) -> str:
    """The tokenizer in one canonical spelling of JSON, with padding and truncation cleared.

    rows: of the token table. Raises BundleError for one that is missing, for one that puts something else around a text
    than one token at each end, and for one with tokens that the table does not have.
    """
    plain, tokenizer = _read(path, rows, bare=False)
    around, framed = tokenizer.encode("").ids, tokenizer.encode("a").ids
    if len(around) != 2 or (framed[0], framed[-1]) != (around[0], around[1]):
        raise BundleError(
            f"expected a tokenizer that puts one token at each end of a text, {path} puts {len(around)} around it: "
            "choose another model"
        )
    return plain


def most_around(tokenizer_json: str, prompts: Iterable[str]) -> int:
    """The most tokens that stand around a text: special ones and those of one of the prompts, which may be empty."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(tokenizer_json)
    return max(len(tokenizer.encode(prompt).ids) for prompt in prompts)


def read_bare(path: Path, rows: int) -> tuple[str, int | None]:
    """The tokenizer as `read` gives it, but with nothing around a text; and the id of its unknown token, if any."""
    plain, tokenizer = _read(path, rows, bare=True)
    unknown = getattr(tokenizer.model, "unk_token", None)
    return plain, None if unknown is None else tokenizer.token_to_id(unknown)


def unended(tokenizer_json: str) -> str:
    """The tokenizer with what it puts before a text, one token, and with nothing behind it."""
    from tokenizers import Tokenizer

    table, frame = json.loads(tokenizer_json), Tokenizer.from_str(tokenizer_json).encode("")
    first, id = frame.tokens[0], frame.ids[0]
    before, one, other = (
        {kind: {"id": said, "type_id": number}}
        for kind, said, number in (("SpecialToken", first, 0), ("Sequence", "A", 0), ("Sequence", "B", 1))
    )
    # What byte-level ones do to the places of tokens stays.
    steps = [
        {
            "type": "ByteLevel",
            "use_regex": True,
            **{key: step[key] for key in ("add_prefix_space", "trim_offsets")},
        }
        for step in bytelevel.processors(table["post_processor"])
        if "trim_offsets" in step
    ]
    steps.append(
        {
            "type": "TemplateProcessing",
            "single": [before, one],
            "pair": [before, one, other],
            "special_tokens": {first: {"id": first, "ids": [id], "tokens": [first]}},
        }
    )
    table["post_processor"] = {"type": "Sequence", "processors": steps} if len(steps) > 1 else steps[0]
    return _said(table)


def _read(path: Path, rows: int, *, bare: bool) -> tuple[str, Tokenizer]:
    from tokenizers import Tokenizer

    if (path / "tokenizer.json").exists():
        text = folder.load_bytes(path / "tokenizer.json").decode(errors="replace")
    elif (path / "vocab.txt").exists():
        text = _of_words(path).to_str()
    else:
        raise BundleError(
            f"expected tokenizer.json or vocab.txt in {path}, found neither: load its tokenizer with transformers, "
            "which makes tokenizer.json of other files when it saves"
        )
    try:
        table = json.loads(text)
        table["padding"] = table["truncation"] = None
        if bare:
            table["post_processor"] = None
        _lower(path, table)
        plain = _said(table)
        tokenizer = Tokenizer.from_str(plain)
    except BaseException as error:
        if not is_refusal(error) and not isinstance(error, ValueError):
            raise
        raise BundleError(
            f"expected a tokenizer in {path / 'tokenizer.json'}, found {error!s:.200}: fetch the model again"
        ) from error
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values())
    if highest >= rows:
        raise BundleError(
            f"expected tokens below {rows}, the rows of the table in {path}, its tokenizer has one of {highest}: fetch "
            "tokenizer and weights of one release"
        )
    return plain, tokenizer


def _said(table: dict[str, Any]) -> str:
    return json.dumps(table, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _of_words(path: Path) -> Tokenizer:
    """BERT's tokenizer, which once was a list of words and some settings."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = (path / "vocab.txt").read_text(encoding="utf-8").splitlines()
    settings = folder.settings(path / "tokenizer_config.json")
    ids = {word: number for number, word in enumerate(words)}
    unknown, start, stop = (
        _content(settings.get(key, token))
        for key, token in (("unk_token", "[UNK]"), ("cls_token", "[CLS]"), ("sep_token", "[SEP]"))
    )
    if missing := [token for token in (unknown, start, stop) if token not in ids]:
        raise BundleError(
            f"expected {missing} in {path / 'vocab.txt'}, found no such words: fetch the model again"
        )
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=settings.get("tokenize_chinese_chars", True),
        strip_accents=settings.get("strip_accents"),
        lowercase=settings.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {stop}", special_tokens=[(start, ids[start]), (stop, ids[stop])]
    )
    tokenizer.add_special_tokens(
        [token for token in ("[PAD]", unknown, start, stop, "[MASK]") if token in ids]
    )
    return tokenizer


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _lower(path: Path, table: dict[str, Any]) -> None:
    """Small letters, where the model's settings ask for them and the tokenizer leaves large ones."""
    if not folder.settings(path / "sentence_bert_config.json").get("do_lower_case"):
        return
    normalizer = table.get("normalizer")
    if normalizer is not None and normalizer.get("type") == "BertNormalizer" and normalizer.get("lowercase"):
        return
    steps = [{"type": "Lowercase"}, *([normalizer] if normalizer else [])]
    table["normalizer"] = {"type": "Sequence", "normalizers": steps}
