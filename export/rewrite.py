"""A bundle written again, with some of its parts replaced or added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeret.encode import bundle

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from edgeret.codec import Codec
    from edgeret.encode.bundle import Bundle
    from edgeret.encode.manifest import Graph

_CODEC_FILE, _CARD = "codec.bin", "card.md"


def rewrite(
    origin: Bundle,
    out: Path,
    *,
    geometry: str | None = None,
    codec: Codec | None = None,
    tensors: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    graphs: Mapping[str, Graph] | None = None,
    files: Mapping[str, bytes] | None = None,
    optional: Collection[str] = (),
    spread: float | None = None,
) -> Bundle:
    """Write `origin` to `out`, which may be its own folder.

    geometry, codec, graphs: instead of its own. tensors: by file, instead of all in that file. files: new ones, or
    others of the same name. optional: those of them that an installation may leave out. spread: instead of its own.
    What the manifest says of an optional file that is not there stays: whoever has it may put it beside the others.
    """
    manifest = origin.manifest
    arrays = {file: dict(named) for file, named in (tensors or {}).items()}
    for name, entry in manifest.tensors.items():
        if entry.file != _CODEC_FILE and entry.file not in (tensors or {}):
            arrays.setdefault(entry.file, {})[name] = origin.tensor(name)
    served = manifest.graphs if graphs is None else graphs
    gone = {graph.file for graph in manifest.graphs.values()} - {graph.file for graph in served.values()}
    others = {
        name: entry for name, entry in manifest.files.items() if name not in {*arrays, _CODEC_FILE, *gone}
    }
    kept = [name for name in others if (origin.path / name).is_file()]
    contents = {name: origin.file(name).read_bytes() for name in kept} | dict(files or {})

    def made() -> Bundle:
        return bundle.write(
            out,
            bundle.Content(
                name=out.name,
                max_tokens=manifest.max_tokens,
                geometry=geometry or manifest.geometry,
                codec=codec or (origin.codec() if _CODEC_FILE in manifest.files else None),
                kind=manifest.kind,
                graphs=served,
                tensors=arrays,
                files=contents,
                about=manifest.about,
                optional={*optional, *(name for name in kept if manifest.files[name].optional)},
                absent={name: entry for name, entry in others.items() if name not in contents},
                spread=manifest.spread if spread is None else spread,
                prompts=manifest.prompts,
                roles=manifest.roles,
            ),
        )

    fresh = made()
    if _CARD in contents and fresh.space != origin.space:
        # The card names both fingerprints, which are known once the codec is written.
        described = contents[_CARD].decode()
        for old, new in ((origin.codec_id, fresh.codec_id), (origin.space, fresh.space)):
            described = described.replace(old, new)
        contents[_CARD] = described.encode()
        fresh = made()
    return fresh
