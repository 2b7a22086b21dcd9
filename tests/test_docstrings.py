"""Everything public is documented: each parameter and each field by its name, and nothing that there is not."""

import dataclasses
import inspect
import re

import pytest

import edgeret
from edgeret import errors, reports, signing

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")
ENTRY = re.compile(r"^    (\w+): ")
EXPORTED = [getattr(edgeret, name) for name in edgeret.__all__]
CLASSES = [
    *(thing for thing in EXPORTED if isinstance(thing, type)),
    *(thing for thing in vars(reports).values() if dataclasses.is_dataclass(thing)),
    *(thing for thing in vars(errors).values() if isinstance(thing, type)),
]
OPENED = ("path", "encoder", "memory_budget", "readonly", "wait")
"""Parameters of Index itself, which only `create` and `open` call."""


def callables() -> dict[str, object]:
    found = {
        f"{thing.__module__}.{thing.__name__}": thing
        for thing in [*EXPORTED, signing.sign, signing.verify]
        if inspect.isfunction(thing)
    }
    for kind in CLASSES:
        for name, member in vars(kind).items():
            function = getattr(member, "__func__", member)
            if not name.startswith("_") and inspect.isfunction(function):
                found[f"{kind.__name__}.{name}"] = function
    return found


CALLABLES = callables()


def sections(docstring: str | None) -> dict[str, list[str]]:
    """The names that each section of a docstring lists."""
    found: dict[str, list[str]] = {}
    current = ""
    for line in inspect.cleandoc(docstring or "").splitlines():
        if line and not line.startswith(" "):
            head = SECTION.match(line)
            current = head[1] if head else ""
            if head:
                found[current] = []
        elif current and (entry := ENTRY.match(line)):
            found[current].append(entry[1])
    return found


@pytest.mark.parametrize("name", CALLABLES)
def test_each_parameter_is_documented_and_nothing_else(name):
    function = CALLABLES[name]
    assert function.__doc__
    documented = sections(function.__doc__)
    shown, written = inspect.signature(function), inspect.signature(inspect.unwrap(function))
    taken = [
        [name for name in signature.parameters if name not in ("self", "cls")]
        for signature in (shown, written)
    ]
    # The options of a search are documented once, one by one, by `Index.search`.
    assert documented.get("Args", []) == taken[0 if name == "Index.search" else 1]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_each_field_is_documented_and_nothing_else(kind):
    # A dataclass without a docstring has one that lists its fields.
    assert kind.__doc__
    assert not kind.__doc__.startswith(f"{kind.__name__}(")
    documented = sections(kind.__doc__)
    fields = list(getattr(kind, "_fields", ()))
    if dataclasses.is_dataclass(kind):
        fields = [field.name for field in dataclasses.fields(kind)]
    assert documented.get("Attributes", []) == fields
    if not fields and "__init__" in vars(kind):
        taken = tuple(inspect.signature(kind).parameters)
        if kind is edgeret.Index:
            assert taken == OPENED
        elif kind is not edgeret.TextEncoder:
            assert tuple(documented.get("Args", [])) == taken
    for name, member in vars(kind).items():
        if not name.startswith("_") and isinstance(member, property):
            assert member.__doc__, name


@pytest.mark.parametrize("name", [*CALLABLES, *(kind.__name__ for kind in CLASSES)])
def test_each_error_that_is_named_exists(name):
    thing = CALLABLES.get(name) or next(kind for kind in CLASSES if kind.__name__ == name)
    named = sections(thing.__doc__).get("Raises", [])
    assert all(issubclass(getattr(errors, error), errors.EdgeretError) for error in named)


def test_every_error_is_exported():
    found = {name for name, thing in vars(errors).items() if isinstance(thing, type)}
    assert found <= set(edgeret.__all__)


def test_there_are_callables():
    assert {"Index.search", "Encoder.load", "TextEncoder.encode", "edgeret.signing.sign"} <= set(CALLABLES)
