"""`choose`: which records count enough, and what the others count; defined in reference_count.py."""

import numpy as np

from .compile import jit
from .hash64 import hash_keys
from .leave_out import leave_out_one
from .records import after, count_of

__all__ = ["choose"]


@jit
def _choose(start, stop, head, min_count, places):
    found, record = 0, start
    while record < stop:
        if count_of(record) >= min_count:
            places[found] = record
            found += 1
        record = after(record, head)
    return found


@jit
def _left_out(start, stop, head, min_count, cut):
    record = start
    keys = hash_keys(0)
    while record < stop:
        if count_of(record) < min_count:
            leave_out_one(record, head, keys, cut)
        record = after(record, head)


def choose(start: int, stop: int, head: int, min_count: int, places: np.ndarray, cut: np.ndarray) -> int:
    """Write the addresses of the records that count at least ``min_count`` to ``places``; how many there are.

    The counts of the others are added to ``cut``, int64, to the bucket of each: hash64(value, 0) · len(cut) >> 64.
    """
    found = _choose(start, stop, head, min_count, places)
    if min_count > 1:
        _left_out(start, stop, head, min_count, cut)
    return found
