"""`split`: text joined by NULs to bytes and offsets, eight bytes at a time; see reference_split.py."""

import numpy as np

from .compile import jit
from .memory import address_of, load8, load64, store64, trailing_zeros

__all__ = ["split"]


@jit
def _split(joined, octets, offsets):
    """Fill ``octets`` and ``offsets``; how many values there were, as far as the offsets have room for them."""
    source, target = address_of(joined), address_of(octets)
    ones, tops = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
    size, values, at, end = len(joined), 0, 0, 0
    while at < size:
        if size - at >= 8:
            word = load64(source + at)
            store64(target + end, word)  # up to eight bytes too many, which the next ones overwrite
            zeros = (word - ones) & ~word & tops
            before = np.int64(8) if zeros == 0 else trailing_zeros(zeros) >> 3
            nul = zeros != 0
        else:
            byte = load8(source + at)
            octets[end] = byte
            nul = byte == 0
            before = np.int64(0) if nul else np.int64(1)
        at, end = at + before, end + before
        if nul:
            at, values = at + 1, values + 1
            if values + 1 >= len(offsets):
                return values + 1
            offsets[values] = end
    offsets[values + 1] = end
    return values + 1


def split(joined: bytes, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """See ``kernels.reference_split.split``."""
    octets, offsets = np.empty(len(joined) + 8, np.uint8), np.empty(count + 1, np.int64)
    offsets[0] = 0
    if _split(joined, octets, offsets) != count:
        return None
    return octets[: offsets[-1]], offsets
