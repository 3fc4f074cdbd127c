"""`split`: text joined by NULs to bytes and offsets, 64 bytes looked at together; see reference_split.py."""

import numpy as np

from .compile import jit
from .memory import address_of, load8, load64, store64, trailing_zeros, zero_bytes

__all__ = ["split"]

_LINE = 64
_BEYOND = 16  # bytes that are read and written together


@jit
def _copy(source, target, length):
    """Copy bytes, and up to 15 beyond them."""
    for at in range(0, length, 16):
        first, second = load64(source + at), load64(source + at + 8)
        store64(target + at, first)
        store64(target + at + 8, second)


@jit
def _split(joined, octets, offsets):
    """Fill ``octets`` and ``offsets``; how many values there were, as far as the offsets have room for them."""
    source, target = address_of(joined), address_of(octets)
    size, values, begin, end, at = len(joined), 0, 0, 0, 0
    while at < size:
        if size - at >= _LINE + _BEYOND:
            zeros, step = zero_bytes(source + at), _LINE
        else:  # nothing behind the end may be read
            zeros, step = np.uint64(load8(source + at) == 0), 1
        while zeros != 0:
            nul = at + trailing_zeros(zeros)
            zeros &= zeros - np.uint64(1)
            if size - nul >= _BEYOND:
                _copy(source + begin, target + end, nul - begin)
            else:
                for byte in range(nul - begin):
                    octets[end + byte] = load8(source + begin + byte)
            end += nul - begin
            begin = nul + 1
            values += 1
            if values + 1 >= len(offsets):
                return values + 1
            offsets[values] = end
        at += step
    for byte in range(size - begin):
        octets[end + byte] = load8(source + begin + byte)
    offsets[values + 1] = end + size - begin
    return values + 1


def split(joined: bytes, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """See ``kernels.reference_split.split``."""
    octets, offsets = np.empty(len(joined) + _BEYOND, np.uint8), np.empty(count + 1, np.int64)
    offsets[0] = 0
    if _split(joined, octets, offsets) != count:
        return None
    return octets[: offsets[-1]], offsets
