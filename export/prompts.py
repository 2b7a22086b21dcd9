"""Prompts: what a model wants to read before a document and before a query, from its folder or from who exports it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from edgeret.encode.manifest import Prompts
from edgeret.errors import BundleError

if TYPE_CHECKING:
    from pathlib import Path

# The names that sentence-transformers looks for, in its order.
_NAMES: Final = {"document": ("document", "passage", "corpus"), "query": ("query",)}

_SEARCHING: Final = "Represent this sentence for searching relevant passages: "
# By what their names have in them, the more special first; as their makers' cards say.
_FAMILIES: Final = {
    r"e5-.*instruct|gte-qwen": Prompts(
        "",
        "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: ",
    ),
    r"(?<![a-z])e5-(small|base|large)": Prompts("passage: ", "query: "),
    r"bge-(small|base|large)-zh": Prompts("", "为这个句子生成表示以用于检索相关文章："),  # noqa: RUF001
    r"bge-(small|base|large)-en|bge-(small|base|large)(?!-)": Prompts("", _SEARCHING),
    r"arctic-embed.*-v2": Prompts("", "query: "),
    r"arctic-embed|mxbai-embed|uae-(small|base|large)": Prompts("", _SEARCHING),
    r"nomic-embed|modernbert-embed": Prompts("search_document: ", "search_query: "),
    r"embeddinggemma|embedding-?gemma": Prompts("title: none | text: ", "task: search result | query: "),
}


def read(folder: Path, config: Mapping[str, Any], names: str, given: Mapping[str, str]) -> Prompts:
    """The prompts of the model in `folder`.

    config: of sentence-transformers. names: by which the model is known. given: "document" and "query", or one of
    them: prompts that count in the place of the folder's. Raises BundleError for a model of a family that wants prompts
    and has none, and for one whose prompts are for something else.
    """
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise BundleError(
            f"expected prompts by name, {folder} has {prompts!r:.200}: give --document-prompt TEXT and --query-prompt "
            "TEXT, and take them out of config_sentence_transformers.json"
        )
    declared = {name: text for name, text in prompts.items() if text}
    default = config.get("default_prompt_name")
    # A prompt that is for one side is not the other's, even if it is the default.
    others = () if default in {name for known in _NAMES.values() for name in known} else (default,)
    found = {
        side: next((declared[name] for name in (*known, *others) if name in declared), "")
        for side, known in _NAMES.items()
    }
    wanted = next(
        (kind for pattern, kind in _FAMILIES.items() if re.search(pattern, names.lower())), Prompts()
    )
    if not given and not any(found.values()):
        if declared:
            raise BundleError(
                f"expected prompts for 'document' or 'query', {folder} has {sorted(declared)!r:.200}: give "
                "--document-prompt TEXT and --query-prompt TEXT, or --no-prompt to do without"
            )
        if any(wanted):
            flags = [f"--{side}-prompt {text!r}" for side, text in wanted._asdict().items() if text]
            raise BundleError(
                f"expected prompts, which models of this family want, {folder} declares none: give "
                f"{' '.join(flags)}, or --no-prompt to do without"
            )
    return Prompts(**(found | dict(given)))
