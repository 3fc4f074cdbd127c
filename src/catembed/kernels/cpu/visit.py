"""What the update kernels share: who visits which rows, and how options reach compiled code."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from catembed.kernels.reference import Groups
from catembed.kernels.threads import parallel, shares

from .lanes import view

__all__ = ["AHEAD", "NO_FROZEN", "frozen_mask", "gradient_rows", "seed_bits", "visit"]

AHEAD = 16  # rows that are asked for before they are needed: enough to hide a cache miss, few enough to stay cached
NO_FROZEN = np.empty(0, np.uint8)  # in place of a mask: nothing is frozen
_AT_LEAST = 1 << 17  # gradient numbers that are worth a thread


def visit(groups: Groups, columns: int, function: Callable[[int, int], object]) -> None:
    """Call ``function(first, last)`` for shares of the segments, cut where their gradients divide evenly."""
    segments = len(groups.rows)
    if segments == 0 or columns == 0:
        return
    threads = shares(len(groups.order) * columns, _AT_LEAST)
    if threads == 1:
        function(0, segments)
        return
    targets = np.arange(threads + 1) * len(groups.order) // threads
    bounds = np.searchsorted(groups.starts.numpy(), targets)
    parallel(lambda share: function(int(bounds[share]), int(bounds[share + 1])), threads)


def gradient_rows(grads: Tensor) -> np.ndarray:
    """The gradient rows as an array without gaps."""
    return view(grads.contiguous())


def frozen_mask(frozen: Tensor | None) -> np.ndarray:
    """uint8 (N,), or an array of length 0 where nothing is frozen."""
    return NO_FROZEN if frozen is None else frozen.view(torch.uint8).numpy()


def seed_bits(rounding: int | None) -> np.uint64:
    """The seed of stochastic rounding as 64 bits."""
    return np.uint64((rounding or 0) & (2**64 - 1))
