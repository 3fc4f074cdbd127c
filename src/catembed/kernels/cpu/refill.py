"""`refill`: the table of a part made anew from its records; see kernels/records.py."""

import numpy as np

from catembed.kernels.records import ARENA, MASK, TABLE, USED

from .compile import jit
from .count import BLOCK
from .hash64 import hash_keys, hash_span
from .memory import load64, prefetch_address, store64
from .records import TAG, after, fact, home_of, length_of

__all__ = ["refill"]


@jit
def _refill(part, head, seed):
    """Enter the records of a part into its table, which is empty."""
    keys = hash_keys(seed)
    hashes, places = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.int64)
    at, stop = fact(part, ARENA), fact(part, ARENA) + fact(part, USED)
    while at < stop:
        size = 0
        while at < stop and size < BLOCK:
            hashes[size] = hash_span(at + head, length_of(at), keys)
            prefetch_address(fact(part, TABLE) + 8 * home_of(hashes[size], fact(part, MASK)))
            places[size] = ((at - fact(part, ARENA)) >> 3) + 1
            at = after(at, head)
            size += 1
        for j in range(size):
            slot = home_of(hashes[j], fact(part, MASK))
            while load64(fact(part, TABLE) + 8 * slot) != 0:
                slot = (slot + 1) & fact(part, MASK)
            store64(fact(part, TABLE) + 8 * slot, np.int64((hashes[j] << TAG) | np.uint64(places[j])))


def refill(part: np.ndarray, head: int, seed: int) -> None:
    """Enter the records of one part, int64 ``(6,)``, into its table of zeros, which has slots enough."""
    _refill(part.ctypes.data, head, seed)
