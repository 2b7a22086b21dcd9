"""A Ray cluster of two nodes on this machine, a build there, one of its workers killed; in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from ray.cluster_utils import Cluster

from edgeret import Encoder
from edgeret.errors import BundleError
from export import corpus, workers
from export.shards import Shards

BYTES = 100_000_000
AFTER = 3
NODES = 2
SECONDS = 1200


def main(lines: str, out: str, folder: str, model: str, bits: int, rows: int) -> dict[str, object]:
    killed: dict[str, object] = {}

    def killing(shards: Shards, names: list[str]) -> Iterator[str]:
        for number, name in enumerate(on_ray(shards, names), start=1):
            if number >= AFTER and not killed:
                actors = {
                    pid: node for node in children(os.getpid()) for pid in children(node) if is_actor(pid)
                }
                # On a busy machine one node begins much later than the other.
                if len(set(actors.values())) == NODES:
                    killed["nodes"] = NODES
                    killed["finished"] = sum(shards.has(name) for name in names)
                    os.kill(min(actors), signal.SIGKILL)
            yield name

    corpus.ROWS = rows
    cluster = Cluster()
    signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(SECONDS)
    try:
        cluster.add_node(num_cpus=1, object_store_memory=BYTES, include_dashboard=False)
        cluster.add_node(num_cpus=1, object_store_memory=BYTES)
        on_ray = workers.engine("ray", 2, cluster.address)
        refused = refusal(on_ray, Shards(Path(folder), Encoder.load(model), bits))
        built = corpus.build([lines], Path(out), Encoder.load(model), bits, ["year"], Path(folder), killing)
    finally:
        cluster.shutdown()
    return {"refused": refused, **killed, **built._asdict()}


def interrupt(*_: object) -> None:
    """So that the cluster ends too."""
    raise TimeoutError(f"the cluster took more than {SECONDS} seconds")


def refusal(engine: workers.Engine, shards: Shards) -> str:
    """What a worker's error is to whoever asked."""
    try:
        return f"encoded {list(engine(shards, ['nothing']))}"
    except BundleError as error:
        return str(error)


def children(pid: int) -> list[int]:
    return [
        int(child)
        for file in Path(f"/proc/{pid}/task").glob("*/children")
        for child in file.read_text().split()
    ]


def is_actor(pid: int) -> bool:
    return b"MapWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:5], *map(int, sys.argv[5:]))))
