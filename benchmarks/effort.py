"""Effort: how much code a stack takes, as a stand-in for what a user writes."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

from benchmarks import systems


def statements(stack: str) -> int:
    """Statements of a stack's adapter, with what it inherits and the table of texts where it needs that."""
    kind = systems.STORES[systems.store_of(stack)]
    module, _, place = kind.place.partition(":")
    path = Path(inspect.getfile(systems)).parent
    trees = {file: ast.parse((path / f"{file}.py").read_text()) for file in (module, "texts")}
    classes = {node.name: node for node in trees[module].body if isinstance(node, ast.ClassDef)}
    counted, waiting = 0, [place]
    while waiting:
        node = classes.get(waiting.pop())
        if node is not None:
            counted += _statements(node)
            waiting += [base.id for base in node.bases if isinstance(base, ast.Name)]
    functions = [node for node in trees[module].body if isinstance(node, ast.FunctionDef)]
    return (
        counted + sum(map(_statements, functions)) + (0 if kind.holds_text else _statements(trees["texts"]))
    )


def _statements(tree: ast.AST) -> int:
    def is_docstring(node: ast.AST) -> bool:
        return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)

    return sum(isinstance(node, ast.stmt) and not is_docstring(node) for node in ast.walk(tree))
