"""The definition of looking integers up in an array with a place for each: plain Python."""

from __future__ import annotations

import numpy as np

from catembed.kernels.dense import NONE, Dense
from catembed.kernels.spans import Spans, spans_bytes

__all__ = ["find_dense"]


def find_dense(values: Spans, dense: Dense, base: int, absent: int, missing: int, ids: np.ndarray) -> int:
    """Write to ``ids``, int64 ``(values.count,)``, ``base`` + the id of each value; returns how many were found.

    ``values`` have eight bytes each. Those that are no category become ``absent``, missing ones ``missing``.
    """
    hits = 0
    for i, value in enumerate(spans_bytes(values)):
        place = -1 if value is None else int.from_bytes(value, "little", signed=True) - dense.low
        found = dense.places[place] if 0 <= place < len(dense.places) else NONE
        ids[i] = missing if value is None else absent if found == NONE else base + int(found)
        hits += found != NONE
    return hits
