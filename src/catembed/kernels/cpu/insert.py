"""`insert`: values to ids, new ones to categories, one after the other; see reference_find.py."""

import numpy as np

from catembed.kernels.spans import Spans
from catembed.kernels.table import Table

from .compile import jit
from .fill import AHEAD, ask, place
from .find import search
from .hash64 import MISSING, UNSOUND, first_of, hash_keys, locate
from .memory import address_of, load8, load64, store64

__all__ = ["insert"]


@jit
def _copy(address, length, octets, end):
    """Append bytes."""
    target, whole = address_of(octets) + end, length & ~7
    for at in range(0, whole, 8):
        store64(target + at, load64(address + at))
    for at in range(whole, length):
        octets[end + at] = load8(address + at)


@jit
def _insert(values, categories, octets, offsets, words, table, seed, state, limit, start, ids):
    """Ids of the values from ``start`` on; the position where more room is needed, or the number of values at the end.

    ``state`` is how many categories there are, how many bytes they have, and whether room is needed because a value's
    buckets are all full. An unsound value gives -1 - its position.
    """
    keys = hash_keys(seed)
    buckets, hashes = len(words), np.empty(AHEAD, np.uint64)
    for i in range(start, min(start + AHEAD, values[0])):
        ask(values, i, keys, table, buckets, hashes)
    for i in range(start, values[0]):
        address, length = locate(values, i)
        if length == UNSOUND:
            return -1 - i
        hashed = hashes[i % AHEAD]
        if i + AHEAD < values[0]:
            ask(values, i + AHEAD, keys, table, buckets, hashes)
        if length == MISSING:
            ids[i] = -1
            continue
        ids[i] = search(address, length, hashed, first_of(categories, state[0]), table, buckets)
        if ids[i] >= 0 or state[0] >= limit:
            continue
        end = state[1]
        if state[0] >= categories[0] or end + length > len(octets):
            return i
        _copy(address, length, octets, end)
        if len(offsets):
            offsets[state[0] + 1] = end + length
        if not place(hashed, state[0], words, buckets):
            state[2] = 1
            return i
        ids[i] = state[0]
        state[0] += 1
        state[1] = end + length
    return values[0]


def insert(
    values: Spans,
    categories: Spans,
    octets: np.ndarray,
    offsets: np.ndarray,
    table: Table,
    state: np.ndarray,
    limit: int,
    start: int,
    ids: np.ndarray,
) -> int:
    """See ``kernels.reference_find.insert``."""
    words = table.words, table.address, table.seed
    stopped = _insert(values.facts(), categories.facts(), octets, offsets, *words, state, limit, start, ids)
    if stopped < 0:
        raise IndexError(f"value {-1 - stopped} lies outside its buffer")
    return stopped
