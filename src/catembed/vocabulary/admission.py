"""`WaitingRoom`: values on their way into a growing vocabulary, counted exactly until they have been seen often enough.

Its memory is that of the values waiting; those admitted are cleared out by and by. The caller holds the lock.
"""

from __future__ import annotations

import numpy as np

from catembed.kernels.spans import from_bytes, from_words
from catembed.vocabulary.index import Index

__all__ = ["WaitingRoom"]

_CLEAR_FROM = 1024  # values admitted, from which on the room is worth clearing


class WaitingRoom:
    """How often values have been seen that are no categories yet."""

    def __init__(self, octets: np.ndarray, offsets: np.ndarray | None, counts: np.ndarray) -> None:
        self._index = Index(octets, offsets)
        self._counts = counts  # one for each value, and room; who is admitted stays until the room is cleared
        self._admitted = 0

    @property
    def is_sound(self) -> bool:
        """Whether no value was given twice."""
        return self._index.duplicate is None

    @classmethod
    def empty(cls, *, text: bool) -> WaitingRoom:
        """A room without values: of text, or of values of eight bytes."""
        return cls(np.empty(0, np.uint8), np.zeros(1, np.int64) if text else None, np.zeros(0, np.int64))

    def see(self, values, min_count: int) -> np.ndarray:
        """Count ``values`` (``Spans``, none missing): which of them have been seen ``min_count`` times now; bool.

        All occurrences in one call count before any is admitted, so equal values fare alike.
        """
        ids = self._index.add(values)
        distinct, times = np.unique(ids, return_counts=True)
        if len(self._counts) < len(self._index):
            self._counts = np.pad(self._counts, (0, 2 * len(self._index) - len(self._counts)))
        before = self._counts[distinct]
        self._counts[distinct] = before + times
        self._admitted += int(((before < min_count) & (before + times >= min_count)).sum())
        ready = self._counts[ids] >= min_count
        if self._admitted >= max(_CLEAR_FROM, len(self._index) // 2):
            self.__init__(*self.waiting(min_count))
        return ready

    def waiting(
        self, min_count: int, admitted: Index | None = None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Bytes, offsets and counts of the values that still wait: those seen too seldom, and not in ``admitted``."""
        octets, offsets = self._index.arrays()
        counts = self._counts[: len(self._index)]
        wait = counts < min_count
        if admitted is not None:
            ids = np.empty(len(counts), np.int64)
            admitted.find(from_words(octets.view(np.int64)) if offsets is None else from_bytes(octets, offsets), ids)
            wait &= ids < 0
        keep = np.flatnonzero(wait)
        if offsets is None:
            return octets.view(np.int64)[keep].view(np.uint8), None, counts[keep]
        lengths = np.diff(offsets)[keep]
        ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        source = np.repeat(offsets[keep] - ends[:-1], lengths) + np.arange(ends[-1])
        return octets[source], ends, counts[keep]

    def copy(self) -> WaitingRoom:
        """A room of its own with the same values."""
        octets, offsets = self._index.arrays()
        room = WaitingRoom(octets, offsets, self._counts.copy())
        room._admitted = self._admitted
        return room
