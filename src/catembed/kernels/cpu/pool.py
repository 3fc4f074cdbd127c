"""What the kernels of bags share: who takes which bags, reading rows ahead, and arguments that may be missing."""

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from torch import Tensor

from catembed.kernels.threads import parallel, shares

from .compile import jit
from .lanes import view
from .memory import prefetch_early

__all__ = ["AHEAD", "NO_WINNERS", "ask_for", "given", "visit_bags"]

AHEAD = 64  # rows asked for before they are needed, across the ends of bags: as early as the second-level cache allows
NO_WINNERS = np.empty((0, 0), np.int64)
_AT_LEAST = 1 << 16  # numbers of rows that are worth a thread


@jit
def ask_for(base, width, row):
    """Ask for the cache lines of a row, to be read."""
    start = base + np.int64(row) * width
    for offset in range(0, width, 64):
        prefetch_early(start + offset)


def given(weights: Tensor | None, like: Tensor) -> np.ndarray:
    """The weights of the positions as an array; of length 0 where there are none, which have the dtype of ``like``."""
    return _none(like.dtype) if weights is None else view(weights.contiguous())


@cache
def _none(dtype: torch.dtype) -> np.ndarray:
    return view(torch.empty(0, dtype=dtype, device="cpu"))


def visit_bags(offsets: np.ndarray, columns: int, function: Callable[[int, int], object]) -> None:
    """Call ``function(first, last)`` for shares of the bags, cut where their ids divide evenly."""
    bags, ids = len(offsets) - 1, int(offsets[-1])
    threads = shares(ids * max(1, columns), _AT_LEAST)
    if threads == 1:
        function(0, bags)
        return
    bounds = np.searchsorted(offsets, np.arange(threads + 1) * ids // threads)
    bounds[0], bounds[-1] = 0, bags
    parallel(lambda share: function(int(bounds[share]), int(bounds[share + 1])), threads)
