"""Arrow values to positions among the categories: the lookup itself, and nothing else.

Text and bytes go through a Python dict, all other kinds through a binary search of the sorted int64 values.
Values come here in the one Arrow type of their kind, so the dict never meets two types: ``1``, ``1.0`` and
``True``, which Python holds equal, cannot be mistaken for one another. Built once and never changed, so any
number of threads may read it.

Known limit: a dict costs about a cache miss per value, and about 100 bytes per category.
"""

from itertools import repeat

import numpy as np
import pyarrow as pa


class Index:
    """Where each category stands; ``distinct`` is how many different ones there are."""

    def __init__(self, categories: pa.Array) -> None:
        self._type = categories.type
        self._places: dict[str | bytes, int] | None = None
        if _is_variable_width(categories.type):
            values = categories.to_pylist()
            self._places = dict(zip(values, range(len(values)), strict=True))
            self.distinct = len(self._places)
        else:
            ticks = _ticks(categories)
            self._order = np.argsort(ticks, kind="stable")
            self._sorted = ticks[self._order]
            self.distinct = len(ticks) and 1 + int((self._sorted[1:] != self._sorted[:-1]).sum())

    def find(self, values: pa.Array) -> np.ndarray:
        """The position of each value among the categories, int64; -1 where it is missing or not found."""
        if values.type != self._type or not self.distinct:
            return np.full(len(values), -1, np.int64)
        if self._places is not None:
            found = map(self._places.get, values.to_pylist(), repeat(-1))
            return np.fromiter(found, np.int64, len(values))
        ticks = _ticks(values)
        slots = np.searchsorted(self._sorted, ticks)
        slots[slots == len(self._sorted)] = 0
        ids = np.where(self._sorted[slots] == ticks, self._order[slots], -1)
        if values.null_count:
            ids[values.is_null().to_numpy(zero_copy_only=False)] = -1
        return ids


def _is_variable_width(arrow_type: pa.DataType) -> bool:
    return pa.types.is_large_string(arrow_type) or pa.types.is_large_binary(arrow_type)


def _ticks(values: pa.Array) -> np.ndarray:
    """Integers, booleans, days or microseconds as int64; 0 where missing."""
    if pa.types.is_date32(values.type):
        values = values.view(pa.int32())
    elif pa.types.is_timestamp(values.type):
        values = values.view(pa.int64())
    return values.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
