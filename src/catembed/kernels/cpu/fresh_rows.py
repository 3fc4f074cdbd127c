"""`fresh_rows`: N(0, 1) rows, each a pure function of (seed, key). Definition: kernels/reference_fresh.py.

Threads divide the rows; no number depends on another row.
"""

import math

import numpy as np
from torch import Tensor

from catembed.kernels.threads import parallel, shares

from .compile import jit
from .lanes import narrow, view, wide

__all__ = ["fresh_rows"]

_AT_LEAST = 1 << 13  # numbers that are worth a thread: each costs some 20 ns
# Written here as well, for a change of them elsewhere would not be seen by the compiled code's cache.
_ROUNDS = 10
_A, _B = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_STEP_A, _STEP_B = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_TURN = 2 * math.pi / 2**32


@jit
def philox(c0, c1, c2, c3, key):
    """Four random words; words come and go as uint64 below 2**32, the key has 64 bits."""
    k0, k1 = key & _LOW, key >> _32
    for _ in range(_ROUNDS):
        a, b = c0 * _A, c2 * _B
        c0, c1, c2, c3 = (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW
        k0, k1 = (k0 + _STEP_A) & _LOW, (k1 + _STEP_B) & _LOW
    return c0, c1, c2, c3


@jit
def _radius(word):
    return math.sqrt(-2.0 * math.log((np.float64(word) + 0.5) * 2.0**-32))


@jit
def _angle(word):
    return (np.float64(word) + 0.5) * _TURN


@jit
def _fill(out, keys, start, stop, seed, one):
    four = np.empty(4)
    columns = out.shape[1]
    for i in range(start, stop):
        row, key = out[i], np.uint64(keys[i])
        for first in range(0, columns, 4):
            x0, x1, x2, x3 = philox(np.uint64(first >> 2), np.uint64(0), key & _LOW, key >> _32, seed)
            r, s, angle, turn = _radius(x0), _radius(x2), _angle(x1), _angle(x3)
            four[0], four[1] = r * math.cos(angle), r * math.sin(angle)
            four[2], four[3] = s * math.cos(turn), s * math.sin(turn)
            for j in range(first, min(first + 4, columns)):
                row[j] = narrow(one.dtype.type(four[j - first]), row[j], np.uint32(0), False)


def fresh_rows(out: Tensor, seed: int, keys: Tensor) -> None:
    """See ``kernels.reference_fresh.fresh_rows``."""
    table, names, one = view(out), keys.contiguous().numpy(), np.ones(1, wide(out))
    bits = np.uint64(seed & (2**64 - 1))
    threads = shares(out.numel(), _AT_LEAST)

    def share(index: int) -> None:
        first, last = len(names) * index // threads, len(names) * (index + 1) // threads
        _fill(table, names, first, last, bits, one)

    parallel(share, threads)
