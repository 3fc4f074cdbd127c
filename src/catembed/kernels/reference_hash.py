"""The definition of the hash of a category: plain Python, slow; docs/format.md tells the same in words.

A category is hashed as bytes: text as UTF-8, every other kind as its int64, little-endian. With four keys that
splitmix64 (Steele, Lea & Flood 2014) draws from the seed, each 16 bytes are folded into the state by one product of
64 × 64 bits, of which both halves are kept (the folded multiply of wyhash and its kin). Not for cryptography; what is
relied on is that who does not know the seed cannot choose values that collide.
"""

from __future__ import annotations

import numpy as np

from catembed.kernels.spans import Spans, spans_bytes

__all__ = ["hash64", "hash_bytes"]

_ALL = 2**64 - 1


def hash64(spans: Spans, seed: int) -> np.ndarray:
    """The hash of every value, uint64 ``(count,)``; 0 where missing.

    Raises ``IndexError`` for a value that lies outside its buffer.
    """
    hashes = [0 if value is None else hash_bytes(value, seed) for value in spans_bytes(spans)]
    return np.array(hashes, np.uint64)


def hash_bytes(value: bytes, seed: int) -> int:
    """The 64-bit hash of some bytes under a seed.

    >>> f"{hash_bytes(b'banana', seed=0):016x}"
    'c5538e0e8c528742'
    """
    keys = [_mixed(seed + (place + 1) * 0x9E3779B97F4A7C15 & _ALL) for place in range(4)]
    state, length, rest = keys[0], len(value), value
    while len(rest) > 16:
        state = _fold(_word(rest[:8]) ^ keys[1], _word(rest[8:16]) ^ state)
        rest = rest[16:]
    if length > 16:
        first, second = _word(value[-16:-8]), _word(value[-8:])
    elif length >= 8:
        first, second = _word(value[:8]), _word(value[-8:])
    elif length >= 4:
        first, second = _word(value[:4]), _word(value[-4:])
    elif length:
        first, second = _word(bytes([value[0], value[length // 2], value[-1]])), 0
    else:
        first, second = 0, 0
    state = _fold(first ^ keys[1], second ^ state)
    return _fold(state ^ keys[2], length ^ keys[3])


def _word(part: bytes) -> int:
    return int.from_bytes(part, "little")


def _fold(first: int, second: int) -> int:
    product = first * second
    return (product ^ product >> 64) & _ALL


def _mixed(state: int) -> int:
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _ALL
    state = (state ^ state >> 27) * 0x94D049BB133111EB & _ALL
    return state ^ state >> 31
