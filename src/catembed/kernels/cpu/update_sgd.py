"""`update_sgd`: SGD with momentum on the rows of one batch, in one pass. Definition: kernels/reference.py."""

import numpy as np
from torch import Tensor

from catembed.kernels.reference import Groups

from .compile import jit
from .lanes import narrow, noise, prefetch, row_key, sum_gradients, view, wide, widen
from .visit import AHEAD, frozen_mask, gradient_rows, seed_bits, visit

__all__ = ["update_sgd"]


@jit
def _update(weight, buffer, rows, starts, order, grads, first, last, factors, nesterov, frozen, seed, stochastic):
    scale, lr, momentum, share, decay = factors[0], factors[1], factors[2], factors[3], factors[4]
    columns = weight.shape[1]
    has_buffer = len(buffer) > 0
    total = np.empty(columns, factors.dtype)
    for i in range(first, last):
        if i + AHEAD < last:
            ahead = rows[i + AHEAD]
            prefetch(weight, ahead)
            if has_buffer:
                prefetch(buffer, ahead)
            prefetch(grads, order[starts[i + AHEAD]])
        row = rows[i]
        if len(frozen) > 0 and frozen[row] != 0:
            continue
        sum_gradients(grads, order, starts[i], starts[i + 1], scale, total)
        w = weight[row]
        for j in range(columns):
            total[j] += decay * widen(w[j])
        if has_buffer:
            b = buffer[row]
            for j in range(columns):
                velocity = momentum * widen(b[j]) + share * total[j]
                b[j] = narrow(velocity, b[j], np.uint32(0), False)
                total[j] = total[j] + momentum * velocity if nesterov else velocity
        key = row_key(seed, row)
        for j in range(columns):
            w[j] = narrow(widen(w[j]) - lr * total[j], w[j], noise(key, j), stochastic)


def update_sgd(
    weight: Tensor,
    momentum_buffer: Tensor | None,
    groups: Groups,
    grads: Tensor,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    maximize: bool,
    grad_scale: float,
    frozen: Tensor | None,
    rounding: int | None,
) -> None:
    """See ``kernels.reference.update_sgd``."""
    scale = -grad_scale if maximize else grad_scale
    factors = np.array((scale, lr, momentum, 1 - dampening, weight_decay), wide(weight))
    table, rows, starts, order = view(weight), *(part.numpy() for part in groups)
    buffer = table[:0] if momentum_buffer is None else view(momentum_buffer)
    gradients, mask, seed = gradient_rows(grads), frozen_mask(frozen), seed_bits(rounding)
    stochastic = rounding is not None

    def share(first: int, last: int) -> None:
        _update(table, buffer, rows, starts, order, gradients, first, last, factors, nesterov, mask, seed, stochastic)

    visit(groups, weight.shape[1], share)
