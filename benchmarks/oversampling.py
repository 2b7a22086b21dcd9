"""Oversampling: how many candidates by code a collection of a size needs, that none of the ten nearest is lost.

    python -m benchmarks oversampling

One JSON line for each length of a code and number of rows: recall of the exact ten among so many candidates.
Passages of shared/text encoded with `base`; the queries are other passages.
`edgeret.plan.oversampling` is fitted to it.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from benchmarks.collection import MODEL, Collection
from benchmarks.scan import REAL_ROWS, SEED
from benchmarks.scan_systems import blocks_of
from edgeret import scan
from edgeret.codec import quantize
from edgeret.encode.encoder import Encoder

QUERIES = 128
ROWS = (100, 300, 1_000, 3_000, 12_500, 50_000, REAL_ROWS)
CANDIDATES = (10, 20, 40, 60, 80, 120, 160, 320, 640, 1280, 2560)


def main(argv: list[str]) -> int:
    """Print the lines."""
    argparse.ArgumentParser("python -m benchmarks oversampling", description=__doc__).parse_args(argv)
    collection, codec = Collection.load(REAL_ROWS), Encoder.load(MODEL).codec
    vectors = collection.vectors[np.random.default_rng(SEED).permutation(REAL_ROWS)]
    queries = collection.query_vectors[:QUERIES]
    for bits in codec.widths:
        chunks = [vectors[first : first + 10_000] for first in range(0, REAL_ROWS, 10_000)]
        codes = np.concatenate([codec.encode(quantize(chunk), bits) for chunk in chunks])
        planes = np.stack([codec.encode_query(query, bits) for query in queries])
        for rows in ROWS:
            nearest = np.argsort(-(queries @ vectors[:rows].T), axis=1)[:, :10]
            found, _ = scan.top_k(blocks_of(codes[:rows]), planes, max(CANDIDATES))
            recall = {}
            for count in CANDIDATES:
                kept = [np.isin(n, f[:count]).mean() for n, f in zip(nearest, found, strict=True)]
                recall[count] = round(float(np.mean(kept)), 4)
            print(
                json.dumps({"bits": bits, "rows": rows, "queries": QUERIES, "recall10": recall}), flush=True
            )
    return 0
