"""An ONNX graph, read as far as must be known before a runtime sees it: protocol buffers, by hand.

A bundle's graph is whole in its file and runs straight through. What onnxruntime would read from elsewhere, or run as
often as a number says, is found here, at any depth.
"""

from __future__ import annotations

from typing import BinaryIO, Final

# Of onnx.proto3: in which fields of a message its messages are, by name.
_CHILDREN: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor"},
    "tensor": {},
}
_REFUSED: Final[dict[tuple[str, int], str]] = {
    ("model", 20): "a graph for training",
    ("model", 25): "functions of its own",
    ("graph", 15): "a sparse tensor",
    ("attribute", 6): "a graph inside of the graph",
    ("attribute", 11): "graphs inside of the graph",
    ("attribute", 22): "a sparse tensor",
    ("attribute", 23): "sparse tensors",
    ("tensor", 13): "data outside of its file",
    ("tensor", 14): "data outside of its file",
}
_VARINT, _OCTETS = 0, 2
_SIZES: Final = {1: 8, 5: 4}


def check_graph(stream: BinaryIO, end: int, kind: str = "model", at: int = 0) -> None:
    """Raise ValueError for a model, up to `end`, that is not well formed or has what a bundle's graph must not have.

    at: where the stream stands. What decides nothing, the weights above all, is passed over, not read.
    """
    children = _CHILDREN[kind]
    while at < end:
        tag, at = _varint(stream, at)
        number, wire = tag >> 3, tag & 7
        refused, child = _REFUSED.get((kind, number)), children.get(number)
        if wire == _VARINT:
            # Tensors say so too if their data are where they belong.
            said, at = _varint(stream, at)
            if said and refused:
                raise ValueError(refused)
            if child:
                raise ValueError(f"a number in place of a {child}")
        elif wire == _OCTETS and refused:
            raise ValueError(refused)
        elif wire in _SIZES or wire == _OCTETS:
            size, at = (_SIZES[wire], at) if wire in _SIZES else _varint(stream, at)
            stop = at + size
            if stop > end:
                raise ValueError("a graph that is cut off")
            if wire == _OCTETS and child:
                check_graph(stream, stop, child, at)
            else:
                stream.seek(stop)
            at = stop
        else:
            raise ValueError("no ONNX graph")
    if at > end:
        raise ValueError("a graph that is cut off")


def _varint(stream: BinaryIO, at: int) -> tuple[int, int]:
    """A number, and where the stream stands behind it."""
    value = 0
    for count in range(10):
        octet = stream.read(1)
        if not octet:
            break
        value |= (octet[0] & 127) << 7 * count
        if octet[0] < 128:
            return value, at + count + 1
    raise ValueError("a graph that is cut off")
