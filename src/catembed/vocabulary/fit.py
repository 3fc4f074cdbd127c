"""Learning a vocabulary from a column: count, cut, order.

Ties in frequency go to the smaller value, so the order of the rows never decides an id (except under
``order="first"``, which asks for just that). The kept set is the same whatever the order.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ORDERS = ("frequency", "sorted", "first")


def count(values: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """The distinct values that are not missing, in order of first appearance, and how often each occurs."""
    if pa.types.is_null(values.type):
        return values.slice(0, 0), np.zeros(0, np.int64)
    counted = pc.value_counts(values.drop_null())
    return counted.field(0), counted.field(1).to_numpy(zero_copy_only=False).astype(np.int64)


def select(values: pa.Array, counts: np.ndarray, *, min_count: int, max_size: int | None, order: str) -> np.ndarray:
    """Which of the counted values to keep, as indices in id order."""
    if pa.types.is_null(values.type):
        return np.zeros(0, np.int64)
    table = pa.record_batch({"value": values, "count": pa.array(counts)})
    keys = [("count", "descending"), ("value", "ascending")]
    ranked = pc.sort_indices(table, sort_keys=keys).to_numpy().astype(np.int64)
    kept = ranked[: int(np.searchsorted(-counts[ranked], -min_count, side="right"))]
    if max_size is not None:
        kept = kept[:max_size]
    if order == "first":
        return np.sort(kept)
    if order == "sorted":
        by_value = pc.sort_indices(values.take(pa.array(kept))).to_numpy()
        return kept[by_value]
    return kept
