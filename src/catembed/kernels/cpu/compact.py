"""`compact`: some of the records, copied one behind the other."""

import numpy as np

from .compile import jit
from .memory import load64, prefetch_address, store64
from .records import after

__all__ = ["compact"]

_AHEAD = 16


@jit
def _words(places, head):
    words = 0
    for place in places:
        words += (after(place, head) - place) >> 3
    return words


@jit
def _compact(places, head, target):
    """Copy records one behind the other."""
    for i in range(len(places)):
        if i + _AHEAD < len(places):
            prefetch_address(places[i + _AHEAD])
        size = after(places[i], head) - places[i]
        for at in range(0, size, 8):
            store64(target + at, np.int64(load64(places[i] + at)))
        places[i] = target
        target += size


def compact(places: np.ndarray, head: int) -> np.ndarray:
    """Copy the records at these addresses one behind the other, int64, and let ``places`` tell where they now lie."""
    room = np.empty(_words(places, head), np.int64)
    _compact(places, head, room.ctypes.data)
    return room
