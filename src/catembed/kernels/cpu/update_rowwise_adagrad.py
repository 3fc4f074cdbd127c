"""`update_rowwise_adagrad`: one state number a row, a batch's rows in one pass. Definition: kernels/reference.py."""

import math

import numpy as np
from torch import Tensor

from catembed.kernels.reference import Groups

from .compile import jit
from .lanes import narrow, noise, prefetch, row_key, sum_gradients, view, wide, widen
from .visit import AHEAD, frozen_mask, gradient_rows, seed_bits, visit

__all__ = ["update_rowwise_adagrad"]


@jit
def _update(weight, sum, rows, starts, order, grads, first, last, factors, frozen, seed, stochastic):
    scale, lr, eps, decay = factors[0], factors[1], factors[2], factors[3]
    columns = weight.shape[1]
    total = np.empty(columns, factors.dtype)
    for i in range(first, last):
        if i + AHEAD < last:
            ahead = rows[i + AHEAD]
            prefetch(weight, ahead)
            prefetch(sum, ahead)
            prefetch(grads, order[starts[i + AHEAD]])
        row = rows[i]
        if len(frozen) > 0 and frozen[row] != 0:
            continue
        sum_gradients(grads, order, starts[i], starts[i + 1], scale, total)
        w = weight[row]
        key = row_key(seed, row)
        squares = factors.dtype.type(0)
        for j in range(columns):
            total[j] += decay * widen(w[j])
            squares += total[j] * total[j]
        state = sum[row] + squares / columns
        sum[row] = state
        step = lr / (math.sqrt(state) + eps)
        for j in range(columns):
            w[j] = narrow(widen(w[j]) - step * total[j], w[j], noise(key, j), stochastic)


def update_rowwise_adagrad(
    weight: Tensor,
    sum: Tensor,
    groups: Groups,
    grads: Tensor,
    *,
    lr: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
    grad_scale: float,
    frozen: Tensor | None,
    rounding: int | None,
) -> None:
    """See ``kernels.reference.update_rowwise_adagrad``."""
    factors = np.array((-grad_scale if maximize else grad_scale, lr, eps, weight_decay), wide(weight))
    table, state, rows, starts, order = view(weight), view(sum), *(part.numpy() for part in groups)
    gradients, mask, seed = gradient_rows(grads), frozen_mask(frozen), seed_bits(rounding)
    stochastic = rounding is not None

    def share(first: int, last: int) -> None:
        _update(table, state, rows, starts, order, gradients, first, last, factors, mask, seed, stochastic)

    visit(groups, weight.shape[1], share)
