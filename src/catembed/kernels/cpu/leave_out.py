"""`leave_out`: what records count that are not kept, by buckets; see reference_count.choose."""

import numpy as np

from .compile import jit
from .hash64 import hash_keys, hash_span
from .memory import high_product
from .records import count_of, length_of

__all__ = ["leave_out", "leave_out_one"]


@jit
def leave_out_one(record, head, keys, cut):
    """Add what a record counts to the bucket of its value."""
    bucket = 0
    if len(cut) > 1:
        bucket = np.int64(high_product(hash_span(record + head, length_of(record), keys), np.uint64(len(cut))))
    cut[bucket] += count_of(record)


@jit
def _leave_out_each(places, head, cut):
    keys = hash_keys(0)
    for place in places:
        leave_out_one(place, head, keys, cut)


def leave_out(places: np.ndarray, head: int, cut: np.ndarray) -> None:
    """Add the counts of these records to ``cut``, as ``choose`` does."""
    _leave_out_each(places, head, cut)
