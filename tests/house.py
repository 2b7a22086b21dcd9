"""The house: its rooms, what they import of each other, and every rule of the layout that is broken.

Run as `python -m tests.house`. docs/architecture.md says why the rules are what they are.
"""

from __future__ import annotations

import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "edgeret"

FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "native"),
    ("blocks", "bm25", "documents", "door", "files", "rotation", "stems", "turns"),
    ("codec", "postings", "reports", "scan", "words"),
    ("phrases", "plan"),
    ("encode", "sources", "storage"),
    ("space",),
    ("search",),
    ("upkeep", "fleet"),
    ("index", "signing"),
    ("__init__", "smoke", "adapters", "service"),
    ("shell",),
    ("__main__",),
)
"""Rooms, bottom to top: a folder, or a module beside them. A room imports those on floors below its own."""

_SQL = re.compile(
    r"\s*((SELECT|INSERT|UPDATE|DELETE|CREATE|PRAGMA|DROP|ALTER|WITH) \S|(BEGIN|COMMIT|ROLLBACK|VACUUM)\b)"
)
_RUNTIMES = {"onnxruntime", "ai_edge_litert", "tflite_runtime", "tokenizers"}
_FRAMEWORKS = {"langchain_core", "llama_index", "haystack"}
_SERVERS = {"mcp", "starlette", "uvicorn"}
_THREADS = {"threading", "_thread", "concurrent", "multiprocessing", "queue"}


class Import(NamedTuple):
    """One module of the package imports another, both by dotted name without `edgeret.`"""

    importer: str
    imported: str
    line: int


class Rule(NamedTuple):
    """What a node of the code may not be, but in the modules and folders that are its place.

    place: None where no module may.
    """

    text: str
    broken: Callable[[ast.AST], bool]
    place: frozenset[str]


class Fault(NamedTuple):
    """Code that breaks a rule, for the test that it is seen. module: in which it would stand."""

    rule: str
    module: str
    source: str


def imported(nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names that the code below these nodes imports."""
    names = set()
    for node in (inner for outer in nodes for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _imports(packages: set[str]) -> Callable[[ast.AST], bool]:
    def broken(node: ast.AST) -> bool:
        if not isinstance(node, ast.Import | ast.ImportFrom):
            return False
        return bool({name.split(".")[0] for name in imported([node])} & packages)

    return broken


def _is_sql(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and bool(_SQL.match(node.value))


def _takes(*attributes: str) -> Callable[[ast.AST], bool]:
    return lambda node: isinstance(node, ast.Attribute) and node.attr in attributes


def _asks_for(kind: str) -> Callable[[ast.AST], bool]:
    def broken(node: ast.AST) -> bool:
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "isinstance":
            return False
        return any(getattr(inner, "id", "") == kind for inner in ast.walk(node.args[1]))

    return broken


def _keeps_statement(node: ast.AST) -> bool:
    kept = node.iter if isinstance(node, ast.comprehension) else getattr(node, "value", None)
    if not isinstance(node, ast.comprehension | ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.Return):
        return False
    return isinstance(kept, ast.Call) and "execute" in (
        getattr(kept.func, "attr", ""),
        getattr(kept.func, "id", ""),
    )


def _takes_many(node: ast.AST) -> bool:
    if not isinstance(node, ast.FunctionDef):
        return False
    found = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return len([one for one in found if one.arg not in ("self", "cls")]) >= 7


RULES = (
    Rule("takes a connection", _takes("connection"), frozenset({"storage"})),
    Rule("has SQL", _is_sql, frozenset({"storage", "blocks"})),
    Rule("imports sqlite3", _imports({"sqlite3"}), frozenset({"storage", "smoke"})),
    Rule("imports a runtime", _imports(_RUNTIMES), frozenset({"encode", "smoke"})),
    Rule("imports a framework", _imports(_FRAMEWORKS), frozenset({"adapters"})),
    Rule("imports what serves", _imports(_SERVERS), frozenset({"service"})),
    Rule("asks whether an encoder is ours", _asks_for("Encoder"), frozenset({"encode.records"})),
    Rule("packs bits", _takes("packbits", "unpackbits"), frozenset({"blocks"})),
    # A traceback that somebody keeps would keep its read lock: a loop has it, and lets go, or it is fetched.
    Rule("keeps a statement", _keeps_statement, frozenset()),
    # `Index.create` and `Plan.of`, which users call with keywords.
    Rule("takes seven things, which want a noun", _takes_many, frozenset({"index", "plan"})),
    Rule(
        # `turns` has the locks; the encoder and the backend take several texts at once, an index that is served several
        # questions, the other two measure in a process of its own.
        "makes threads or locks",
        _imports(_THREADS),
        frozenset({"turns", "encode.encoder", "encode.tflite", "service.served", "smoke", "shell.bench"}),
    ),
    Rule(
        "takes turns",
        lambda node: isinstance(node, ast.ImportFrom) and node.module == "edgeret.turns",
        frozenset({"index", "search.searcher", "encode.encoder", "encode.reranker"}),
    ),
)

EXAMPLES = (
    Fault("takes a connection", "search.stages", "store.connection.execute(statement)"),
    Fault("has SQL", "upkeep.check", "run('SELECT row FROM passages')"),
    Fault("imports sqlite3", "index", "from sqlite3 import connect"),
    Fault("imports a runtime", "search.searcher", "def late():\n    import onnxruntime"),
    Fault("imports a framework", "index", "from langchain_core.documents import Document"),
    Fault("imports what serves", "shell.cli", "import uvicorn"),
    Fault("asks whether an encoder is ours", "index", "isinstance(encoder, Encoder)"),
    Fault("packs bits", "codec", "np.packbits(signs)"),
    Fault("keeps a statement", "storage.store", "found = connection.execute(statement)"),
    Fault("keeps a statement", "storage.store", "[row for row in connection.execute(statement)]"),
    Fault(
        "takes seven things, which want a noun", "search.stages", "def f(a, b, c, d, e, f, *, g=1):\n    pass"
    ),
    Fault("makes threads or locks", "storage.store", "from threading import Lock"),
    Fault("takes turns", "storage.readers", "from edgeret.turns import Turn"),
)


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of the package, parsed, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if len(parts) > 1 and parts[-1] == "__init__":
            parts = parts[:-1]
        found[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def room(module: str) -> str:
    """The folder that a module is in, or the module itself."""
    return module.split(".")[0]


def floor(name: str) -> int:
    """The floor of a room, counted from the ground."""
    return next(number for number, rooms in enumerate(FLOORS) if name in rooms)


def imports(trees: dict[str, ast.Module]) -> Iterator[Import]:
    """What the modules of the package import of each other."""
    for importer, tree in trees.items():
        for node in ast.walk(tree):
            for name in imported([node]) if isinstance(node, ast.Import | ast.ImportFrom) else ():
                if name.split(".")[0] == "edgeret":
                    yield Import(importer, _module(name.partition(".")[2], trees), node.lineno)


def _module(name: str, trees: dict[str, ast.Module]) -> str:
    """The module that an imported name is, or is a part of; what was built of C belongs to the module of its name."""
    head, _, tail = name.rpartition(".")
    if tail.startswith("_") and f"{head}.{tail[1:]}".lstrip(".") in trees:
        return f"{head}.{tail[1:]}".lstrip(".")
    while name and name not in trees:
        name = name.rpartition(".")[0]
    return name or "__init__"


def broken() -> list[str]:
    """Every rule that is broken, a line each."""
    trees = modules()
    found = [fault for module, tree in trees.items() for fault in faults(module, tree)]
    for importer, name, line in imports(trees):
        above, below = room(importer), room(name)
        if above != below and floor(below) >= floor(above):
            found.append(f"{importer}:{line} imports {name}, which is not below it")
    return sorted(found)


def faults(module: str, tree: ast.AST) -> list[str]:
    """The rules that the code of one module breaks, a line each."""
    return [
        f"{module}:{getattr(node, 'lineno', 0)} {rule.text}: only {', '.join(sorted(rule.place)) or 'none'} may"
        for node in ast.walk(tree)
        for rule in RULES
        if not {module, room(module)} & rule.place and rule.broken(node)
    ]


def main() -> int:
    """Print the rooms, the imports of each pair of them, and what is broken."""
    trees = modules()
    print("rooms, from the top down:")
    for names in reversed(FLOORS):
        print("   ", " | ".join(_shown(name, trees) for name in names))
    pairs = Counter((room(importer), room(name)) for importer, name, _ in imports(trees))
    arrows = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    print(f"\n{len(trees)} modules, {len(arrows)} pairs of rooms, and how often one imports the other:")
    for (above, below), count in sorted(arrows.items(), key=lambda item: (-floor(item[0][0]), item[0])):
        print(f"    {above} -> {below}: {count}")
    found = broken()
    print(f"\nrules broken: {len(found) or 'none'}")
    for fault in found:
        print("   ", fault)
    return bool(found)


def _shown(name: str, trees: dict[str, ast.Module]) -> str:
    inside = [module.partition(".")[2] for module in trees if module.startswith(f"{name}.")]
    return f"{name}/ ({', '.join(inside)})" if inside else name


if __name__ == "__main__":
    sys.exit(main())
