"""`row_norms`: the sum of squares of the summed gradient rows. Definition: kernels/reference.py.

Segments are summed in blocks of a fixed size, then the blocks: the result does not depend on the number of threads.
"""

import numpy as np
from torch import Tensor

from catembed.kernels.reference import Groups
from catembed.kernels.threads import parallel, shares

from .compile import jit
from .lanes import sum_gradients, wide
from .visit import gradient_rows

__all__ = ["row_norms"]

_BLOCK = 1024  # segments
_AT_LEAST = 1 << 18  # gradient numbers that are worth a thread


@jit
def _sum_squares(starts, order, grads, first, last, one, squares):
    """``squares[block]`` for the blocks from ``first`` to ``last``."""
    total = np.empty(grads.shape[1], one.dtype)
    for block in range(first, last):
        sum_of_block = 0.0
        for i in range(block * _BLOCK, min((block + 1) * _BLOCK, len(starts) - 1)):
            sum_gradients(grads, order, starts[i], starts[i + 1], one[0], total)
            for j in range(len(total)):
                sum_of_block += np.float64(total[j]) * np.float64(total[j])
        squares[block] = sum_of_block


def row_norms(groups: Groups, grads: Tensor, grad_scale: float) -> float:
    """See ``kernels.reference.row_norms``."""
    blocks = -(-len(groups.rows) // _BLOCK)
    squares = np.empty(blocks)
    one = np.ones(1, wide(grads))
    gradients, starts, order = gradient_rows(grads), groups.starts.numpy(), groups.order.numpy()
    threads = min(shares(grads.numel(), _AT_LEAST), max(1, blocks))

    def share(index: int) -> None:
        first, last = blocks * index // threads, blocks * (index + 1) // threads
        _sum_squares(starts, order, gradients, first, last, one, squares)

    parallel(share, threads)
    return float(squares.sum()) * grad_scale**2
