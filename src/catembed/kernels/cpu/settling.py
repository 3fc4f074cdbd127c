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
_AT_LEAST = 4096  # rows that are worth a thread


@jit
def _survey(last, start, stop, now, wanted):
    """Mark the age of each entry in ``wanted``; how many are not settled, or -1 - the index of one that is too old."""
    stale = 0
    for index in range(start, stop):
        age = now - abs(np.int64(last[index]))
        if age < 0 or age >= len(wanted):
            return -1 - index
        stale += age != 0
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
    entries = (last if rows is None else last.index_select(0, rows)).numpy()
    found: list[int] = []
    each_share(len(entries), lambda start, stop: found.append(_survey(entries, start, stop, now, wanted)))
    if min(found) < 0:
        index = -1 - min(found)
        raise ValueError(
            f"row {index if rows is None else int(rows[index])} is settled up to step {abs(int(entries[index]))}, "
            f"and of the {now} steps so far only the last {steps} are known"
        )
    wanted[0] = 0
    ages = np.flatnonzero(wanted)
    return sum(found), wanted[: ages[-1] + 1] if len(ages) else wanted[:1]
