"""Workers: who encodes shards, processes of this machine or actors of a Ray cluster; the shards are the same."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from edgeret.encode.encoder import Encoder
from edgeret.errors import BackendError, EdgeretError, InvalidQueryError
from export.shards import Shards

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ENGINES: Final = ("local", "ray")

Engine = Callable[[Shards, Sequence[str]], Generator[str, None, None]]
"""Encodes staged shards; yields their names in order, each when it is finished. Raises what encoding raises."""


class _Job(NamedTuple):
    """What a worker needs to open the shards."""

    folder: str
    bundle: str
    backend: str
    bits: int


def engine(name: str, workers: int | None = None, address: str | None = None) -> Engine:
    """One of ENGINES. workers: None is one for each core. address: of a running Ray cluster; None starts one here.

    Raises BackendError if Ray is not installed, InvalidQueryError for fewer workers than one, or an address that nobody
    would call.
    """
    if workers is not None and workers < 1:
        raise InvalidQueryError(
            f"expected at least 1 worker, got {workers}: leave --workers out for one a core"
        )
    if name == "ray":
        if find_spec("ray") is None:
            raise BackendError("expected ray, found no such package: pip install 'edgeret[cluster]'")
        return partial(_on_ray, workers, address)
    if address is not None:
        raise InvalidQueryError(
            f"expected an address for the engine 'ray' only, got {address!r}: add --engine ray"
        )
    return partial(_local, workers)


def _local(workers: int | None, shards: Shards, names: Sequence[str]) -> Generator[str, None, None]:
    # A core for each: NumPy's BLAS would take all of them in every worker.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Not forked: the runtimes have threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), context, _begin) as pool:
        try:
            yield from pool.map(_encode, [_job(shards)] * len(names), names)
        except BrokenProcessPool:
            raise BackendError(
                "a worker was killed, perhaps for want of memory: run it again with fewer --workers; finished shards "
                "are kept"
            ) from None


def _on_ray(
    workers: int | None, address: str | None, shards: Shards, names: Sequence[str]
) -> Generator[str, None, None]:
    # Else it sends reports of its use to its makers.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.data import ActorPoolStrategy, DataContext, from_items

    try:
        if address is None:
            ray.init("local", num_cpus=workers, include_dashboard=False, logging_level="warning")
        else:
            ray.init(address, logging_level="warning")
    except ConnectionError as error:
        raise BackendError(
            f"no Ray cluster answers at {address!r} ({error}): start it with 'ray start'"
        ) from None
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    try:
        context = DataContext.get_current()
        context.execution_options.preserve_order = True
        context.enable_progress_bars = False
        context.raise_original_map_exception = True
        pool = ActorPoolStrategy(size=workers or int(ray.cluster_resources()["CPU"]))
        # A block is one shard, so that its name arrives when it is finished.
        staged = from_items([{"name": name} for name in names], override_num_blocks=len(names))
        encoded = staged.map_batches(
            _Actor, fn_constructor_args=(_job(shards),), batch_size=1, compute=pool, num_cpus=1
        )
        for row in encoded.iter_rows():
            yield row["name"]
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, EdgeretError):
            # Ray adds lines on retrying.
            raise type(cause)(str(cause).partition("\n")[0]) from None
        raise BackendError(
            f"Ray gave up ({type(error).__name__}): run it again; finished shards are kept"
        ) from error
    finally:
        ray.shutdown()


class _Actor:
    """One process of a cluster, which loads its encoder once."""

    def __init__(self, job: _Job) -> None:
        self._shards = _opened(job)

    def __call__(self, batch: dict[str, NDArray[np.str_]]) -> dict[str, NDArray[np.str_]]:
        for name in batch["name"]:
            self._shards.encode(str(name))
        return batch


def _begin() -> None:
    # An interrupt is for the process that was asked; the others end with it, however it ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode(job: _Job, name: str) -> str:
    _opened(job).encode(name)
    return name


@cache
def _opened(job: _Job) -> Shards:
    return Shards(Path(job.folder), Encoder.load(Path(job.bundle), job.backend), job.bits)


def _job(shards: Shards) -> _Job:
    encoder = shards.encoder
    return _Job(
        str(shards.folder.resolve()), str(encoder.bundle.path.resolve()), encoder.backend, shards.bits
    )
