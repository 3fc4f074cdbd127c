"""Learning a vocabulary from a column: count, cut, order.

Ties in frequency go to the smaller value, so the order of the rows never decides an id (except under
``order="first"``, which asks for just that). The kept set is the same whatever the order.
"""

import numpy as np
import pyarrow as pa


def count(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The distinct values that are not missing, in order of first appearance, and how often each occurs."""
    if pa.types.is_null(values.type):
        return values.slice(0, 0), np.zeros(0, np.int64)
    counted = values.drop_null().value_counts()
    return counted.field(0), counted.field(1).to_numpy()


def select(values: pa.Array, counts: np.ndarray, *, min_count: int, max_size: int | None, order: str) -> np.ndarray:
    """Which of the counted values to keep, as indices in id order."""
    enough = np.flatnonzero(counts >= min_count)
    if max_size is not None and len(enough) > max_size:
        enough = _ranked(values, counts, enough, by_count=True)[:max_size]
    if order == "first":
        return np.sort(enough)
    return _ranked(values, counts, enough, by_count=order == "frequency")


def _ranked(values: pa.Array, counts: np.ndarray, places: np.ndarray, *, by_count: bool) -> np.ndarray:
    """``places`` ordered by value or, ``by_count``, by falling count and then by value."""
    if pa.types.is_null(values.type):
        return places
    table = pa.table({"value": values.take(places), "count": counts[places], "place": places})
    keys = [("count", "descending")] if by_count else []
    return table.sort_by([*keys, ("value", "ascending")])["place"].to_numpy()
