"""`find_dense`: integers that lie close together to ids, by an array with a place for each; see reference_dense.py."""

import numpy as np

from catembed.kernels.dense import NONE, Dense
from catembed.kernels.spans import Spans
from catembed.kernels.threads import parallel, shares

from .compile import jit
from .hash64 import MISSING, locate
from .memory import load64

__all__ = ["find_dense"]

_AT_LEAST = 32_768  # values that are worth a thread


@jit
def _find_dense(values, low, places, start, stop, base, absent, missing, ids):
    """Fill ``ids`` from ``start`` to ``stop``; how many were found."""
    hits, size = 0, np.uint64(len(places))
    for i in range(start, stop):
        address, length = locate(values, i)
        if length == MISSING:
            ids[i] = missing
            continue
        place = load64(address) - low
        found = places[place] if place < size else NONE
        ids[i] = base + np.int64(found) if found != NONE else absent
        hits += found != NONE
    return hits


def find_dense(values: Spans, dense: Dense, base: int, absent: int, missing: int, ids: np.ndarray) -> int:
    """See ``kernels.reference_dense.find_dense``."""
    threads = shares(values.count, _AT_LEAST)
    bounds = [values.count * share // threads for share in range(threads + 1)]
    hits = [0] * threads
    low = np.uint64(dense.low % 2**64)

    def run(share: int) -> None:
        part = bounds[share], bounds[share + 1]
        hits[share] = _find_dense(values.facts(), low, dense.places, *part, base, absent, missing, ids)

    parallel(run, threads)
    return sum(hits)
