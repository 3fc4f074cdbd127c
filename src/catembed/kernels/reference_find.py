"""The definition of looking values up in the hash table, and of filling it: plain Python, slow.

``table.py`` tells the layout of the table, ``reference_hash.py`` the hash.
"""

from __future__ import annotations

import ctypes

import numpy as np

from catembed.kernels.reference_hash import hash_bytes
from catembed.kernels.spans import Spans, from_facts, spans_bytes
from catembed.kernels.table import CROWDED, FULL, IDS, REACH, Table

__all__ = ["fill", "find", "find_one", "insert"]


def find(values: Spans, categories: Spans, table: Table, base: int, absent: int, missing: int, ids: np.ndarray) -> int:
    """Write to ``ids``, int64 ``(values.count,)``, ``base`` + the id of each value; returns how many were found.

    Values that are no category become ``absent``, missing ones ``missing``. Raises ``IndexError`` for a value that lies
    outside its buffer.
    """
    known = spans_bytes(categories)
    hits = 0
    for place, value in enumerate(spans_bytes(values)):
        found = -1 if value is None else _search(value, known, table)
        ids[place] = missing if value is None else absent if found < 0 else base + found
        hits += found >= 0
    return hits


def find_one(value: bytes, categories: tuple[int, ...], address: int, buckets: int, seed: int) -> int:
    """The id of one value, or -1; ``categories`` are the facts of their spans, ``address`` is that of the table."""
    words = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_uint64)), (buckets, 8))
    return _search(value, spans_bytes(from_facts(categories)), Table(buckets, seed, address, words))


def fill(categories: Spans, table: Table, start: int = 0) -> int:
    """Enter the categories from ``start`` on; the first that is missing or equals one before it, or -1.

    CROWDED where all buckets are full in which a category could stand.
    """
    known = spans_bytes(categories)
    for new in range(start, categories.count):
        value = known[new]
        if value is None or _search(value, known, table) >= 0:
            return new
        if not _place(value, new, table):
            return CROWDED
    return -1


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
    """The id of each value from ``start`` on; those that are new become categories, in order.

    Args:
        values: what to look up; missing values get the id -1.
        categories: a view of ``octets`` and ``offsets``, its count being how many there is room for.
        octets: uint8, the bytes of the categories, one behind the other.
        offsets: int64, one more than there is room for; of length 0 where all values have eight bytes.
        table: with room for all of them.
        state: int64 ``(3,)``: how many categories there are, how many bytes they have, and whether the value returned
            has no room because all buckets are full in which it could stand; brought up to date.
        limit: from so many categories on, new values get the id -1.
        start: the first value to look at.
        ids: int64 ``(values.count,)``, written from ``start`` on.

    Returns the position of a value for which there is no room, or ``values.count``. Raises ``IndexError`` for a value
    that lies outside its buffer; those before it are entered.
    """
    known = spans_bytes(categories._replace(count=int(state[0])))
    for place, value in enumerate(spans_bytes(values)[start:], start):
        ids[place] = -1 if value is None else _search(value, known, table)
        if value is None or ids[place] >= 0 or state[0] >= limit:
            continue
        end = int(state[1])
        if state[0] >= categories.count or end + len(value) > len(octets):
            return place
        octets[end : end + len(value)] = np.frombuffer(value, np.uint8)
        if len(offsets):
            offsets[state[0] + 1] = end + len(value)
        if not _place(value, int(state[0]), table):
            state[2] = 1
            return place
        known.append(value)
        ids[place] = state[0]
        state += 1, len(value), 0
    return values.count


def _search(value: bytes, known: list[bytes | None], table: Table) -> int:
    home, tag = _home(value, table)
    for step in range(min(table.buckets, REACH)):
        bucket = table.words[(home + step) % table.buckets]
        entries = _entries(bucket)
        for entry in range(entries):
            found = int(bucket.view(np.uint32)[IDS // 4 + entry])
            if bucket.view(np.uint16)[entry] == tag and found < len(known) and known[found] == value:
                return found
        if entries < FULL:
            break
    return -1


def _place(value: bytes, new: int, table: Table) -> bool:
    home, tag = _home(value, table)
    steps = range(min(table.buckets, REACH))
    place = next((p for p in ((home + s) % table.buckets for s in steps) if _entries(table.words[p]) < FULL), None)
    if place is None:
        return False
    bucket = table.words[place]
    entry = _entries(bucket)
    bucket.view(np.uint32)[IDS // 4 + entry] = new
    bucket.view(np.uint16)[entry] = tag
    bucket.view(np.uint16)[30] = entry + 1
    return True


def _home(value: bytes, table: Table) -> tuple[int, int]:
    hashed = hash_bytes(value, table.seed)
    return hashed * table.buckets >> 64, hashed & 0xFFFF


def _entries(bucket: np.ndarray) -> int:
    return min(int(bucket.view(np.uint16)[30]), FULL)
