"""`fill`: entries for categories in the hash table, one after the other; see reference_find.py.

An entry is written id first, then tag, then the bucket's number of entries, and entries never move: who searches at the
same time sees an entry or does not, and compares bytes in any case.
"""

import numpy as np

from catembed.kernels.spans import Spans
from catembed.kernels.table import CROWDED, FULL, IDS, LINE, REACH, Table

from .compile import jit
from .find import bucket_of, search
from .hash64 import hash_keys, hash_span, locate
from .memory import prefetch_address

__all__ = ["AHEAD", "ask", "fill", "place"]

AHEAD = 16  # values whose buckets are asked for before their turn


@jit
def place(hashed, new, words, buckets):
    """Put an id into the first bucket with room, from its home on; False where there is none within reach."""
    tags, ids = words.view(np.uint16), words.view(np.uint32)
    place, left = bucket_of(hashed, buckets), min(buckets, REACH)
    while tags[place, 30] >= FULL:
        left -= 1
        if left == 0:
            return False
        place = place + 1 if place + 1 < buckets else 0
    entry = np.int64(tags[place, 30])
    ids[place, IDS // 4 + entry] = np.uint32(new)
    tags[place, entry] = np.uint16(hashed & np.uint64(0xFFFF))
    tags[place, 30] = np.uint16(entry + 1)
    return True


@jit
def ask(values, i, keys, table, buckets, hashes):
    """Hash value ``i``, ask for its bucket, keep the hash in a ring."""
    address, length = locate(values, i)
    if length >= 0:
        hashed = hash_span(address, length, keys)
        hashes[i % len(hashes)] = hashed
        prefetch_address(table + LINE * bucket_of(hashed, buckets))


@jit
def _fill(categories, words, table, seed, start):
    """Entries for the categories from ``start`` on; the first that equals one before it, or -1, or CROWDED."""
    keys = hash_keys(seed)
    buckets, hashes = len(words), np.empty(AHEAD, np.uint64)
    for i in range(start, min(start + AHEAD, categories[0])):
        ask(categories, i, keys, table, buckets, hashes)
    for i in range(start, categories[0]):
        hashed = hashes[i % AHEAD]
        if i + AHEAD < categories[0]:
            ask(categories, i + AHEAD, keys, table, buckets, hashes)
        address, length = locate(categories, i)
        if length < 0 or search(address, length, hashed, categories, table, buckets) >= 0:
            return i
        if not place(hashed, i, words, buckets):
            return CROWDED
    return -1


def fill(categories: Spans, table: Table, start: int = 0) -> int:
    """See ``kernels.reference_find.fill``."""
    return _fill(categories.facts(), table.words, table.address, table.seed, start)
