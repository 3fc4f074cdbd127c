"""Which rows are validated on."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from catembed.errors import TableError
from catembed.tabular.arrow import compute as pc
from catembed.tabular.target import combined


def random_split(rows: int, fraction: float, seed: int) -> tuple[np.ndarray, str]:
    """A mask of the validation rows, drawn at random, and how it was made.

    Raises:
        TableError: fewer than two rows.
    """
    if rows < 2:
        raise TableError(f"only {rows} row of the table has a target; a split needs two at least")
    chosen = np.zeros(rows, bool)
    number = min(rows - 1, max(1, round(rows * fraction)))
    chosen[np.random.default_rng(seed).permutation(rows)[:number]] = True
    return chosen, f"random, {fraction:.0%} for validation"


def by_time(table: pa.Table, column: str, fraction: float) -> tuple[np.ndarray, str]:
    """A mask of the latest rows, about ``fraction`` of them; rows of one time stay together.

    Raises:
        TableError: no such column, one without order in time, with missing values or with a single value.
    """
    if column not in table.column_names:
        raise TableError(
            f"--valid-by-time {column!r}: the table has no such column; it has: {', '.join(table.column_names)}"
        )
    times = combined(table.column(column))
    ordered = (pa.types.is_temporal, pa.types.is_integer, pa.types.is_floating)
    if not any(kind(times.type) for kind in ordered):
        raise TableError(
            f"--valid-by-time {column!r}: a time is a date or a number, the column holds {times.type} values"
        )
    gone = pc.sum(times.is_null(nan_is_null=True)).as_py()
    if gone:
        raise TableError(f"--valid-by-time {column!r}: {gone:,} rows have no time")
    _, ranks = np.unique(times.to_numpy(zero_copy_only=False), return_inverse=True)
    if len(ranks) < 2 or ranks.max() == 0:
        raise TableError(f"--valid-by-time {column!r}: all rows are of one time")
    # The boundary between two times that comes nearest to the fraction, with rows on both sides of it.
    earlier = np.bincount(ranks).cumsum()[:-1]
    boundary = int(np.abs(earlier - (1 - fraction) * len(ranks)).argmin())
    first = times[int(np.argmax(ranks == boundary + 1))].as_py()
    return ranks > boundary, f"by time, validation from {column} = {first} on"
