"""`find`: values to ids through a hash table, many at a time so that cache misses overlap; see reference_find.py.

How: in four steps, each for a value some places behind the one of the step before, so that memory is asked for early
enough: hash, and ask for the bucket; compare tags, and ask for the place of the likely category; ask for its bytes;
compare them. A tag only says where to look: an id is given for equal bytes alone, and nothing outside the table or the
categories' buffers is read, whatever they hold.
"""

import numpy as np

from catembed.kernels.spans import Spans
from catembed.kernels.table import FULL, IDS, LINE, REACH, Table
from catembed.kernels.threads import parallel, shares

from .compile import jit
from .hash64 import AT_LEAST, MISSING, UNSOUND, hash_keys, hash_span, locate, prefetch_place, prefetch_value
from .memory import equal_lanes, high_product, load8, load16, load32, load64, prefetch_address, trailing_zeros

__all__ = ["bucket_of", "find", "search"]

_ENTRIES = np.uint64((1 << FULL) - 1)
_APART = np.int64(12)  # values between the steps of one: enough to hide a cache miss
_RING = 64  # values on their way: a power of two, and more than three times as many
_LAST = np.int64(_RING - 1)


@jit
def bucket_of(hashed, buckets):
    """The home bucket: the hash's upper bits, scaled."""
    return np.int64(high_product(hashed, np.uint64(buckets)))


@jit
def _equal(first, second, length):
    """Whether two runs of bytes are the same."""
    at = 0
    while length - at >= 8:
        if load64(first + at) != load64(second + at):
            return False
        at += 8
    if at == length:
        return True
    if length >= 8:
        return load64(first + length - 8) == load64(second + length - 8)
    while at < length:
        if load8(first + at) != load8(second + at):
            return False
        at += 1
    return True


@jit
def _entries(bucket):
    """How many entries a bucket holds."""
    return min(np.int64(load16(bucket + 60)), FULL)


@jit
def search(address, length, hashed, categories, table, buckets):
    """The id of the category that has these bytes, or -1."""
    home = bucket_of(hashed, buckets)
    tag = np.uint16(hashed & np.uint64(0xFFFF))
    for step in range(min(buckets, REACH)):
        place = home + step
        bucket = table + LINE * (place if place < buckets else place - buckets)
        entries = _entries(bucket)
        for entry in range(entries):
            if load16(bucket + 2 * entry) == tag:
                found = np.int64(load32(bucket + IDS + 4 * entry))
                if found < categories[0]:
                    own, size = locate(categories, found)
                    if size == length and _equal(own, address, length):
                        return found
        if entries < FULL:
            return np.int64(-1)
    return np.int64(-1)


@jit
def _guess(hashed, categories, table, buckets):
    """The id of the first entry in the home bucket whose tag agrees, or -1. Of an empty entry it is 0: just a guess."""
    bucket = table + LINE * bucket_of(hashed, buckets)
    same = equal_lanes(bucket, np.uint16(hashed & np.uint64(0xFFFF))) & _ENTRIES
    entry = trailing_zeros(same | (_ENTRIES + 1))  # without any, what lies behind the ids is read and thrown away
    found = np.int64(load32(bucket + IDS + 4 * entry))
    return found if same != 0 and found < categories[0] else np.int64(-1)


@jit
def _find(values, categories, table, buckets, seed, start, stop, base, absent, missing, ids):
    """Fill ``ids`` from ``start`` to ``stop``; how many were found, or -1 - the position of an unsound value."""
    keys = hash_keys(seed)
    addresses, lengths = np.empty(_RING, np.int64), np.empty(_RING, np.int64)
    hashes, guesses = np.empty(_RING, np.uint64), np.empty(_RING, np.int64)
    hits = 0
    for i in range(start, stop + 3 * _APART):
        if i < stop:
            j = i & _LAST
            address, length = locate(values, i)
            addresses[j], lengths[j] = address, length
            if length >= 0:
                hashes[j] = hash_span(address, length, keys)
                prefetch_address(table + LINE * bucket_of(hashes[j], buckets))
            elif length == UNSOUND:
                return -1 - i
        second, third, last = i - _APART, i - 2 * _APART, i - 3 * _APART
        if start <= second < stop:
            j = second & _LAST
            guesses[j] = _guess(hashes[j], categories, table, buckets) if lengths[j] >= 0 else -1
            prefetch_place(categories, guesses[j])
        if start <= third < stop:
            prefetch_value(categories, guesses[third & _LAST])
        if start <= last:
            j = last & _LAST
            if lengths[j] == MISSING:
                ids[last] = missing
                continue
            found = guesses[j]
            if found >= 0:
                own, size = locate(categories, found)
                if size != lengths[j] or not _equal(own, addresses[j], size):
                    found = np.int64(-1)
            if found < 0:
                found = search(addresses[j], lengths[j], hashes[j], categories, table, buckets)
            ids[last] = base + found if found >= 0 else absent
            hits += found >= 0
    return hits


def find(values: Spans, categories: Spans, table: Table, base: int, absent: int, missing: int, ids: np.ndarray) -> int:
    """See ``kernels.reference_find.find``."""
    threads = shares(values.count, AT_LEAST)
    bounds = [values.count * share // threads for share in range(threads + 1)]
    hits = [0] * threads

    where = table.address, table.buckets, table.seed

    def run(share: int) -> None:
        part = bounds[share], bounds[share + 1]
        hits[share] = _find(values.facts(), categories.facts(), *where, *part, base, absent, missing, ids)

    parallel(run, threads)
    if min(hits) < 0:
        raise IndexError(f"value {-1 - max(hit for hit in hits if hit < 0)} lies outside its buffer")
    return sum(hits)
