"""`update_adam`: Adam and AdamW on the rows of one batch, in one pass. Definition: kernels/reference.py."""

import math

import numpy as np
from torch import Tensor

from catembed.kernels.reference import STATE_STREAM, Groups

from .compile import jit
from .lanes import narrow, noise, prefetch, row_key, sum_gradients, view, wide, widen
from .visit import AHEAD, frozen_mask, gradient_rows, seed_bits, visit

__all__ = ["update_adam"]


@jit
def _update(weight, moments, rows, starts, order, grads, first, last, factors, frozen, seed, state_seed, stochastic):
    scale, lr_factor, weight_factor, denominator = factors[0], factors[1], factors[2], factors[3]
    eps, decay, beta1, rest1, beta2, rest2 = factors[4], factors[5], factors[6], factors[7], factors[8], factors[9]
    columns = weight.shape[1]
    total = np.empty(columns, factors.dtype)
    for i in range(first, last):
        if i + AHEAD < last:
            ahead = rows[i + AHEAD]
            prefetch(weight, ahead)
            prefetch(moments, ahead)
            prefetch(grads, order[starts[i + AHEAD]])
        row = rows[i]
        if len(frozen) > 0 and frozen[row] != 0:
            continue
        sum_gradients(grads, order, starts[i], starts[i + 1], scale, total)
        w, m, v = weight[row], moments[row, 0], moments[row, 1]
        key, state_key = row_key(seed, row), row_key(state_seed, row)
        for j in range(columns):
            old = widen(w[j])
            g = total[j] + decay * old
            mean = beta1 * widen(m[j]) + rest1 * g
            square = beta2 * widen(v[j]) + rest2 * g * g
            new = weight_factor * old - lr_factor * mean / (math.sqrt(square) * denominator + eps)
            m[j] = narrow(mean, m[j], noise(state_key, j), True)
            v[j] = narrow(square, v[j], noise(state_key, columns + j), True)
            w[j] = narrow(new, w[j], noise(key, j), stochastic)


def update_adam(
    weight: Tensor,
    moments: Tensor,
    groups: Groups,
    grads: Tensor,
    *,
    lr_factor: float,
    weight_factor: float,
    beta1: float,
    beta2: float,
    denominator_factor: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
    grad_scale: float,
    frozen: Tensor | None,
    rounding: int | None,
    state_seed: int = 0,
) -> None:
    """See ``kernels.reference.update_adam``."""
    scale = -grad_scale if maximize else grad_scale
    steps = (scale, lr_factor, weight_factor, denominator_factor, eps, weight_decay)
    factors = np.array((*steps, beta1, 1 - beta1, beta2, 1 - beta2), wide(weight))
    table, state, rows, starts, order = view(weight), view(moments), *(part.numpy() for part in groups)
    gradients, mask, seed = gradient_rows(grads), frozen_mask(frozen), seed_bits(rounding)
    state_bits = seed_bits(state_seed ^ STATE_STREAM)
    stochastic = rounding is not None

    def share(first: int, last: int) -> None:
        _update(table, state, rows, starts, order, gradients, first, last, factors, mask, seed, state_bits, stochastic)

    visit(groups, weight.shape[1], share)
