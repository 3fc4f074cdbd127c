"""Which of the counted values are kept, and in which order: run by run, so that memory holds no more than what is kept.

``min_count`` decides for each value alone. ``max_size`` keeps the most frequent ones of all, ties going to the smaller
value; what can no longer be among them is left out as soon as twice as many have come together.
"""

from __future__ import annotations

import numpy as np

from catembed.kernels.dispatch import CPU, kernel
from catembed.vocabulary.fitting.counting import Records

__all__ = ["Selection"]


class Selection:
    """The records kept so far.

    Args:
        head: bytes before the value in a record.
        numeric: whether values are int64, and sort as such.
        min_count: values that count less are left out.
        max_size: at most so many are kept, or None for any number.
        buckets: how many numbers tell what was left out.
    """

    def __init__(self, head: int, numeric: bool, min_count: int, max_size: int | None, buckets: int) -> None:
        self._head, self._numeric, self._min_count, self._max_size = head, numeric, min_count, max_size
        self._rooms: list[np.ndarray] = []  # the memory that the places lie in
        self._places: list[np.ndarray] = []
        self.cut = np.zeros(buckets, np.int64)

    def candidates(self, records: Records) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which of some records have the count it takes: their memory, their addresses; and what was cut.

        Changes nothing, so threads may call it at the same time.
        """
        places, cut = np.empty(records.entries, np.int64), np.zeros(len(self.cut), np.int64)
        found = kernel("choose", CPU)(*records.span, self._head, self._min_count, places, cut)
        if found == records.entries:
            return records.room, places, cut
        places = places[:found].copy()
        return kernel("compact", CPU)(places, self._head), places, cut

    def keep(self, room: np.ndarray, places: np.ndarray, cut: np.ndarray) -> None:
        """Take in what ``candidates`` has found."""
        self._rooms.append(room)
        self._places.append(places)
        self.cut += cut

    def prune(self) -> None:
        """Leave out what ``max_size`` no longer lets in, once that is as much as what it does."""
        if self._max_size is not None and sum(map(len, self._places)) >= 2 * self._max_size:
            self._cut_to_size()

    def ordered(self, order: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Values and counts in order, see ``kernels.cpu.gather``: bytes, offsets and counts."""
        if self._max_size is not None and sum(map(len, self._places)) > self._max_size:
            self._cut_to_size()
        places = np.concatenate([np.empty(0, np.int64), *self._places])
        self._places = []
        kernel("rank", CPU)(places, self._head, order, numeric=self._numeric)
        return kernel("gather", CPU)(places, self._head)

    def _cut_to_size(self) -> None:
        places = np.concatenate(self._places)
        kernel("rank", CPU)(places, self._head, "frequency", numeric=self._numeric)
        kernel("leave_out", CPU)(places[self._max_size :], self._head, self.cut)
        places = places[: self._max_size].copy()
        self._rooms, self._places = [kernel("compact", CPU)(places, self._head)], [places]
