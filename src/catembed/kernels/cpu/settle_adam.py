"""Settle rows under Adam or AdamW: the missed steps at once, by the series of missed_adam.py.

Definition: kernels/reference_settle.py. Each row is read and written once; threads own rows, so results do not depend
on how many there are. A row's move differs from the definition's by at most TOLERANCE of it for each piece of the
series (one or two with the usual betas), below the rounding of the arithmetic, which is float32, or float64 for
float64 weights.
"""

import math

import numpy as np
from torch import Tensor

from .compile import jit
from .missed_adam import EPS, MEAN, missed_adam
from .settling import NO_ROWS, each_share, survey

__all__ = ["settle_adam"]

TOLERANCE = {np.dtype(np.float32): 2e-8, np.dtype(np.float64): 1e-13}


@jit
def _settle(weight, moments, last, rows, start, stop, now, frozen, factors, first, pieces, delta):
    """Rows ``rows[start:stop]``, or ``start`` to ``stop`` where none are listed; ``delta`` is scratch for a row."""
    one = pieces.dtype.type(1)
    zero = pieces.dtype.type(0)
    smallest = pieces.dtype.type(1e-37)  # smaller first moments become zero: denormal numbers are slow
    for index in range(start, stop):
        row = rows[index] if len(rows) > 0 else np.int64(index)
        touched = last[row] > 0
        age = now - abs(np.int64(last[row]))
        if age == 0:
            continue
        last[row] = now if touched else -now
        if len(frozen) > 0 and frozen[row] != 0:
            continue
        w = weight[row]
        decay, shrink_m, shrink_v = factors[age, 0], factors[age, 1], factors[age, 2]
        if not touched:
            if decay != zero:
                for j in range(len(w)):
                    w[j] += w[j] * decay
            continue
        m, v = moments[row, 0], moments[row, 1]
        for j in range(len(w)):
            delta[j] = zero
        for i in range(first[age], first[age + 1]):
            mean, eps = pieces[i, MEAN], pieces[i, EPS]
            c0, c2, c3, c4 = pieces[i, 0], pieces[i, 2], pieces[i, 3], pieces[i, 4]
            c5, c6, c7 = pieces[i, 5], pieces[i, 6], pieces[i, 7]
            for j in range(len(w)):
                x = math.sqrt(v[j]) * mean
                inverse = one / (x + eps)
                t = x * inverse
                delta[j] += m[j] * inverse * (c0 + t * t * (c2 - t * (c3 - t * (c4 - t * (c5 - t * (c6 - t * c7))))))
        for j in range(len(w)):
            w[j] += w[j] * decay - delta[j]
            fading = m[j] * shrink_m
            m[j] = fading if abs(fading) > smallest else zero
            v[j] *= shrink_v


def settle_adam(
    weight: Tensor,
    moments: Tensor,
    last: Tensor,
    history: Tensor,
    now: int,
    *,
    rows: Tensor | None = None,
    frozen: Tensor | None = None,
    rounding: int | None = None,
) -> int:
    """See ``kernels.reference_settle.settle_adam``."""
    stale, wanted = survey(last, rows, now, len(history))
    if stale == 0:
        return 0
    table, state, steps = weight.numpy(), moments.numpy(), last.numpy()
    factors, first, pieces = missed_adam(history.numpy(), wanted, TOLERANCE[table.dtype])
    factors, pieces = factors.astype(table.dtype), pieces.astype(table.dtype)
    listed = NO_ROWS if rows is None else rows.numpy()
    held = np.empty(0, np.uint8) if frozen is None else frozen.numpy()

    def share(start: int, stop: int) -> None:
        delta = np.empty(table.shape[1], table.dtype)
        _settle(table, state, steps, listed, start, stop, now, held, factors, first, pieces, delta)

    each_share(len(table) if rows is None else len(listed), share)
    return stale
