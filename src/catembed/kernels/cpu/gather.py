"""`gather`: the values of records as bytes and offsets, and their counts."""

import numpy as np

from catembed.kernels.threads import parallel, shares

from .compile import jit
from .memory import load8, prefetch_address
from .records import count_of, length_of

__all__ = ["gather"]

_AT_LEAST = 65_536  # records that are worth a thread
_AHEAD = 16


@jit
def _lengths(places, start, stop, offsets, counts):
    for i in range(start, stop):
        if i + _AHEAD < stop:
            prefetch_address(places[i + _AHEAD])
        offsets[i + 1] = length_of(places[i])
        counts[i] = count_of(places[i])


@jit
def _sum(offsets):
    for i in range(1, len(offsets)):
        offsets[i] += offsets[i - 1]


@jit
def _copy(places, start, stop, head, offsets, octets):
    for i in range(start, stop):
        if i + _AHEAD < stop:
            prefetch_address(places[i + _AHEAD] + head)
        own, begin = places[i] + head, offsets[i]
        for at in range(offsets[i + 1] - begin):
            octets[begin + at] = load8(own + at)


def gather(places: np.ndarray, head: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values and counts of the records at these addresses: bytes (uint8), offsets and counts (int64)."""
    count = len(places)
    offsets, counts = np.zeros(count + 1, np.int64), np.empty(count, np.int64)
    threads = shares(count, _AT_LEAST)
    bounds = [count * share // threads for share in range(threads + 1)]
    parallel(lambda share: _lengths(places, bounds[share], bounds[share + 1], offsets, counts), threads)
    _sum(offsets)
    octets = np.empty(offsets[-1], np.uint8)
    parallel(lambda share: _copy(places, bounds[share], bounds[share + 1], head, offsets, octets), threads)
    return octets, offsets, counts
