"""`count`: how often each distinct value occurs, into records; defined in reference_count.py.

How: a block of values is hashed and the slots of their tables asked for; then tags are compared and the likely records
asked for; then each value is compared, and counted or entered. A record is counted for equal bytes alone.
"""

import numpy as np

from catembed.kernels.records import ARENA, ENTRIES, FACTS, FIRST, HEAD, LENGTH, MASK, ROOM, TABLE, USED
from catembed.kernels.spans import Spans

from .compile import jit
from .hash64 import MISSING, UNSOUND, hash_keys, hash_span, locate
from .memory import load64, prefetch_address, store64
from .records import TAG, count_of, equals, fact, home_of, part_of, write_value

__all__ = ["BLOCK", "count", "enter_all"]

BLOCK = 64  # values whose cache misses overlap
_SIZE = 8 * len(FACTS)
_PLACE = np.uint64((1 << 48) - 1)


@jit
def _candidate(hashed, slot, part):
    """The first slot from ``slot`` on that is free or has the tag of the hash."""
    tag = hashed << TAG
    while True:
        word = load64(fact(part, TABLE) + 8 * slot)
        if word == 0 or (word ^ tag) >> TAG == 0:
            return slot, word
        slot = (slot + 1) & fact(part, MASK)


@jit
def _record(word, part):
    return fact(part, ARENA) + 8 * (np.int64(word & _PLACE) - 1)


@jit
def _enter(address, length, hashed, weight, first, slot, part, head):
    """Count one value; False where the part has no room for it."""
    slot, word = _candidate(hashed, slot, part)
    while word != 0:
        record = _record(word, part)
        if equals(record, head, address, length):
            store64(record, count_of(record) + weight)
            if head > HEAD and first < np.int64(load64(record + FIRST)):
                store64(record + FIRST, first)
            return True
        slot, word = _candidate(hashed, (slot + 1) & fact(part, MASK), part)
    used = fact(part, USED)
    end = used + head + ((length + 7) & ~7)
    if end > fact(part, ROOM) or 5 * fact(part, ENTRIES) >= 3 * fact(part, MASK):
        return False
    record = fact(part, ARENA) + used
    store64(record, weight)
    store64(record + LENGTH, length)
    if head > HEAD:
        store64(record + FIRST, first)
    write_value(record + head, address, length)
    store64(fact(part, TABLE) + 8 * slot, np.int64((hashed << TAG) | np.uint64((used >> 3) + 1)))
    store64(part + 8 * USED, end)
    store64(part + 8 * ENTRIES, fact(part, ENTRIES) + 1)
    return True


@jit
def enter_all(block, hashes, size, parts, head, level):
    """Count a block of values; the first for which there is no room, or ``size``."""
    for j in range(size):
        part = parts + _SIZE * part_of(hashes[j], level)
        slot = home_of(hashes[j], fact(part, MASK))
        prefetch_address(fact(part, TABLE) + 8 * slot)
        block[j, 4] = slot
    for j in range(size):
        part = parts + _SIZE * part_of(hashes[j], level)
        slot, word = _candidate(hashes[j], block[j, 4], part)
        block[j, 4] = slot
        if word != 0:
            prefetch_address(_record(word, part))
            prefetch_address(_record(word, part) + head + block[j, 1] - 1)
    for j in range(size):
        part = parts + _SIZE * part_of(hashes[j], level)
        if not _enter(block[j, 0], block[j, 1], hashes[j], block[j, 2], block[j, 3], block[j, 4], part, head):
            return j
    return size


@jit
def _count(values, weights, firsts, base, start, stop, parts, head, level, seed, state):
    """Count the values from ``start`` on; where it stopped: ``stop``, or a value for which there is no room.

    ``state`` gets the number of missing values added to it, and the part and the length of the value that had no room.
    An unsound value gives -1 - its position; those of earlier blocks are counted.
    """
    keys = hash_keys(seed)
    block, hashes = np.empty((BLOCK, 6), np.int64), np.empty(BLOCK, np.uint64)
    i = start
    while i < stop:
        size, gone, begin = 0, 0, i
        while i < stop and size < BLOCK:
            weight = weights[i] if len(weights) else 1
            address, length = locate(values, i)
            if weight == 0:
                i += 1
                continue
            if length == UNSOUND:
                return -1 - i
            if length == MISSING:
                gone += weight
            else:
                block[size, 0], block[size, 1], block[size, 2] = address, length, weight
                block[size, 3], block[size, 5] = firsts[i] if len(firsts) else base + i, i
                hashes[size] = hash_span(address, length, keys)
                size += 1
            i += 1
        done = enter_all(block, hashes, size, parts, head, level)
        if done < size:
            stopped = block[done, 5]
            for k in range(begin, stopped):  # missing values behind it come again
                if locate(values, k)[1] == MISSING:
                    state[0] += weights[k] if len(weights) else 1
            state[1], state[2] = part_of(hashes[done], level), block[done, 1]
            return stopped
        state[0] += gone
    return stop


def count(
    values: Spans,
    weights: np.ndarray,
    firsts: np.ndarray,
    base: int,
    start: int,
    stop: int,
    parts: np.ndarray,
    head: int,
    level: int,
    seed: int,
    state: np.ndarray,
) -> int:
    """Count the values from ``start`` to ``stop`` into the parts.

    Args:
        values: what to count.
        weights: how often each value counts, int64, those with 0 not at all; of length 0: once.
        firsts: the first position of each value, int64; of length 0: ``base`` + its place.
        base: see ``firsts``.
        start: the first value to count.
        stop: the end of those to count.
        parts: int64 ``(PARTS, 6)``, or ``(1, 6)`` at level -1: the facts of ``kernels.records``; brought up to date.
        head: bytes before the value in a record, which says whether firsts are kept.
        level: which bits of the hash tell the part.
        seed: of the hash.
        state: int64 ``(3,)``: how many are missing (added to), and of a value without room the part and the length.

    Returns the position of a value for which its part has no room, to be called again from there; else ``stop``.
    Raises ``IndexError`` for a value that lies outside its buffer.
    """
    stopped = _count(values.facts(), weights, firsts, base, start, stop, parts.ctypes.data, head, level, seed, state)
    if stopped < 0:
        raise IndexError(f"value {-1 - stopped} lies outside its buffer")
    return stopped
