"""What the settling kernels share: which of the rows lag behind, and by how much."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from catembed.kernels.threads import parallel, shares

from .compile import jit

__all__ = ["AHEAD", "NO_ROWS", "each_share", "survey"]

NO_ROWS = np.empty(0, np.int64)  # in place of a list of rows: all rows
AHEAD = 12  # rows between asking for a row's cache lines and using them
_AT_LEAST = 2048  # rows that are worth a thread


@jit
def _survey(last, rows, start, stop, now, wanted):
    """Mark the age of each row in ``wanted``; how many rows are not settled, or -1 - row where one is too old."""
    stale = 0
    for index in range(start, stop):
        row = rows[index] if len(rows) > 0 else np.int64(index)
        age = now - abs(np.int64(last[row]))
        if age != 0:
            if age < 0 or age >= len(wanted):
                return -1 - row
            stale += 1
            wanted[age] = 1
    return stale


def each_share(count: int, function: Callable[[int, int], None]) -> None:
    """Call ``function(start, stop)`` for the shares of ``count`` rows, on as many threads as they are worth."""
    threads = shares(count, _AT_LEAST)
    parallel(lambda share: function(count * share // threads, count * (share + 1) // threads), threads)


def survey(last: Tensor, rows: Tensor | None, now: int, steps: int) -> tuple[int, NDArray[np.uint8]]:
    """How many rows are not settled, and for each age up to the oldest whether any row has it.

    Raises ``ValueError`` for a row that has missed more than the ``steps`` steps that are known.
    """
    wanted = np.zeros(steps + 1, np.uint8)
    found: list[int] = []
    table, listed = last.numpy(), NO_ROWS if rows is None else rows.numpy()
    each_share(
        len(table) if rows is None else len(listed),
        lambda start, stop: found.append(_survey(table, listed, start, stop, now, wanted)),
    )
    if min(found) < 0:
        row = -1 - min(found)
        raise ValueError(
            f"row {row} is settled up to step {abs(int(last[row]))}, and of the {now} steps so far "
            f"only the last {steps} are known"
        )
    ages = np.flatnonzero(wanted)
    return sum(found), wanted[: ages[-1] + 1] if len(ages) else wanted[:1]
