"""Settle rows under Adam or AdamW: the missed steps at once, by the series of missed_adam.py.

Definition: kernels/reference_settle.py. Each row is read and written once; threads own rows, so results do not depend
on how many there are. A row's move differs from the definition's by at most TOLERANCE of it for each piece of the
series (one or two with the usual betas), below the rounding of the arithmetic, which is float32, or float64 for
float64 weights.
"""

import math

import numpy as np
from torch import Tensor

from catembed.kernels.reference_settle import state_seed

from .compile import jit
from .lanes import narrow, noise, prefetch, row_key, view, wide, widen
from .missed_adam import EPS, MEAN, missed_adam
from .settling import AHEAD, NO_ROWS, each_share, survey

__all__ = ["settle_adam"]

TOLERANCE = {np.float32: 2e-8, np.float64: 1e-13}


@jit
def _settle(weight, moments, last, rows, start, stop, now, frozen, factors, first, pieces, delta, rounding, seeds):
    """Rows ``rows[start:stop]``, or ``start`` to ``stop`` where none are listed; ``delta`` is scratch for a row."""
    one, zero = pieces.dtype.type(1), pieces.dtype.type(0)
    smallest = pieces.dtype.type(1e-37)  # smaller first moments become zero: denormal numbers are slow
    width = weight.shape[1]
    for index in range(start, stop):
        if len(rows) > 0 and index + AHEAD < stop:
            soon = rows[index + AHEAD]
            prefetch(weight, soon)
            prefetch(moments, soon)
        row = rows[index] if len(rows) > 0 else np.int64(index)
        touched = last[row] > 0
        age = now - abs(np.int64(last[row]))
        if age == 0:
            continue
        last[row] = now if touched else -now
        if len(frozen) > 0 and frozen[row] != 0:
            continue
        w, m, v = weight[row], moments[row, 0], moments[row, 1]
        decay, shrink_m, shrink_v = factors[age, 0], factors[age, 1], factors[age, 2]
        if decay == zero and not touched:
            continue
        delta[:] = zero
        for i in range(first[age], first[age + 1] if touched else first[age]):
            mean, eps = pieces[i, MEAN], pieces[i, EPS]
            c0, c2, c3, c4 = pieces[i, 0], pieces[i, 2], pieces[i, 3], pieces[i, 4]
            c5, c6, c7 = pieces[i, 5], pieces[i, 6], pieces[i, 7]
            for j in range(width):
                x = math.sqrt(widen(v[j])) * mean
                inverse = one / (x + eps)
                t = x * inverse
                series = c0 + t * t * (c2 - t * (c3 - t * (c4 - t * (c5 - t * (c6 - t * c7)))))
                delta[j] += widen(m[j]) * inverse * series
        key, state_key = row_key(seeds[0], row), row_key(seeds[1], row)
        for j in range(width):
            before = widen(w[j])
            w[j] = narrow(before + (before * decay - delta[j]), w[j], noise(key, j), rounding)
        if not touched:
            continue
        for j in range(width):
            fading = widen(m[j]) * shrink_m
            fading = fading if abs(fading) > smallest else zero
            m[j] = narrow(fading, m[j], noise(state_key, j), True)
            v[j] = narrow(widen(v[j]) * shrink_v, v[j], noise(state_key, j + width), True)


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
    table, state, steps = view(weight), view(moments), last.numpy()
    dtype = wide(weight)
    factors, first, pieces = missed_adam(history.numpy(), wanted, TOLERANCE[dtype])
    factors, pieces = factors.astype(dtype), pieces.astype(dtype)
    listed = NO_ROWS if rows is None else rows.numpy()
    held = np.empty(0, np.uint8) if frozen is None else frozen.numpy()
    seeds = np.array([rounding or 0, state_seed(rounding, now)])

    def share(start: int, stop: int) -> None:
        delta = np.empty(table.shape[1], dtype)
        _settle(
            table,
            state,
            steps,
            listed,
            start,
            stop,
            now,
            held,
            factors,
            first,
            pieces,
            delta,
            rounding is not None,
            seeds,
        )

    each_share(len(table) if rows is None else len(listed), share)
    return stale
