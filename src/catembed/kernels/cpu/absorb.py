"""`absorb`: counts of records that were counted elsewhere, added to these; see count.py."""

import numpy as np

from catembed.kernels.records import FIRST, HEAD

from .compile import jit
from .count import BLOCK, enter_all
from .hash64 import hash_keys, hash_span
from .memory import load64
from .records import after, count_of, length_of, part_of

__all__ = ["absorb"]


@jit
def _absorb(start, stop, parts, head, level, seed, state):
    """Count the records from one address to another; where it stopped, as ``count`` does."""
    keys = hash_keys(seed)
    block, hashes = np.empty((BLOCK, 6), np.int64), np.empty(BLOCK, np.uint64)
    record = start
    while record < stop:
        size = 0
        while record < stop and size < BLOCK:
            address, length = record + head, length_of(record)
            block[size, 0], block[size, 1], block[size, 2] = address, length, count_of(record)
            block[size, 3] = np.int64(load64(record + FIRST)) if head > HEAD else 0
            block[size, 5] = record
            hashes[size] = hash_span(address, length, keys)
            record = after(record, head)
            size += 1
        done = enter_all(block, hashes, size, parts, head, level)
        if done < size:
            state[1], state[2] = part_of(hashes[done], level), block[done, 1]
            return block[done, 5]
    return stop


def absorb(start: int, stop: int, parts: np.ndarray, head: int, level: int, seed: int, state: np.ndarray) -> int:
    """Count whole records, from the address ``start`` to ``stop``, with the counts they have; see ``count``."""
    return _absorb(start, stop, parts.ctypes.data, head, level, seed, state)
