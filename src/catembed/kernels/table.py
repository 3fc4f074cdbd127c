"""The hash table beside the categories: where to look for a value. One cache line is a bucket of ten entries.

Of a bucket's 64 bytes, the first 20 are ten tags (uint16), the next 40 ten ids (uint32), then comes the number of
entries (uint16) and two bytes of nothing; entries fill up in order. The hash's upper bits choose the home bucket, its
lowest 16 are the tag; a value whose home is full stands in the next bucket that is not, the first following the last,
but never farther from home than REACH buckets: no search takes longer, whatever the table holds.
A table has room for six entries in each bucket (load 0.6 at most), so 10.7 bytes for each category where it is not
made to grow.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = [
    "CROWDED",
    "FULL",
    "IDS",
    "LINE",
    "MOST",
    "PER_BUCKET",
    "REACH",
    "Table",
    "buckets_for",
    "empty_table",
    "wrap_table",
]

LINE = 64  # bytes of a bucket
FULL = 10  # entries that fill it
PER_BUCKET = 6  # entries that the table is made for
IDS = 20  # where a bucket's ids begin
REACH = 64  # buckets, from its home on, in which a value can stand; with a random seed none ever comes near it
CROWDED = -2  # in place of a place: a value's buckets are all full, which only a seed that is known can bring about
MOST = 2**32 - 1  # categories that 32 bits tell apart


class Table(NamedTuple):
    """The buckets, and the seed of the hashes in them."""

    buckets: int
    seed: int  # as int64
    address: int
    words: np.ndarray  # uint64 (buckets, 8)


def buckets_for(categories: int) -> int:
    """How many buckets a table for so many categories has."""
    return max(1, -(-categories // PER_BUCKET))


def empty_table(categories: int, seed: int) -> Table:
    """A table with room for so many categories, on whole cache lines."""
    buckets = buckets_for(categories)
    memory = np.zeros(buckets * 8 + 7, np.uint64)
    skipped = -memory.ctypes.data % LINE // 8
    return wrap_table(memory[skipped : skipped + buckets * 8].reshape(buckets, 8), seed)


def wrap_table(words: np.ndarray, seed: int) -> Table:
    """The table in these buckets, uint64 ``(buckets, 8)``, contiguous."""
    return Table(len(words), seed, words.ctypes.data, words)
