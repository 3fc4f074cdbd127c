"""Settle rows under SGD: a missed step is a 2 × 2 matrix on (w, buffer), and rows of one age share the product.

Definition: kernels/reference_settle.py. Each row is read and written once; threads own rows, so results do not depend
on how many there are. Products are made in float64, the factor of w held less 1, so a decay below a float's
resolution is not lost.
"""

import numpy as np
from torch import Tensor

from .compile import jit
from .lanes import narrow, noise, prefetch, row_key, view, wide, widen
from .settling import AHEAD, NO_ROWS, each_share, survey

__all__ = ["settle_sgd"]


@jit
def _missed(history, ages):
    """For each age below ``ages`` the product of the last steps' matrices, the first entry less 1."""
    out = np.zeros((ages, 4))
    ww, wb, bw, bb = 0.0, 0.0, 0.0, 1.0
    out[0, 3] = 1.0
    for age in range(1, ages):
        a, b, c, d = history[len(history) - age]
        ww, wb = ww * a + (a - 1.0) + wb * c, b + ww * b + wb * d
        bw, bb = bw * a + bb * c, bw * b + bb * d
        out[age, 0], out[age, 1], out[age, 2], out[age, 3] = ww, wb, bw, bb
    return out


@jit
def _settle(weight, buffer, last, rows, start, stop, now, frozen, matrices, rounding, seed):
    """Rows ``rows[start:stop]``, or ``start`` to ``stop`` where none are listed."""
    zero = matrices.dtype.type(0)
    smallest = matrices.dtype.type(1e-37)  # smaller momenta become zero: denormal numbers are slow
    buffered = len(buffer) > 0  # a table that has grown has more rows than its buffer until its next step
    for index in range(start, stop):
        if len(rows) > 0 and index + AHEAD < stop:
            prefetch(weight, rows[index + AHEAD])
            if buffered and rows[index + AHEAD] < len(buffer):
                prefetch(buffer, rows[index + AHEAD])
        row = rows[index] if len(rows) > 0 else np.int64(index)
        touched = last[row] > 0
        age = now - abs(np.int64(last[row]))
        if age == 0:
            continue
        last[row] = now if touched else -now
        if len(frozen) > 0 and frozen[row] != 0:
            continue
        w, key = weight[row], row_key(seed, row)
        ww, wb, bw, bb = matrices[age, 0], matrices[age, 1], matrices[age, 2], matrices[age, 3]
        if row >= len(buffer) or not (touched or bw != zero):
            for j in range(len(w) if ww != zero else 0):
                before = widen(w[j])
                w[j] = narrow(before + before * ww, w[j], noise(key, j), rounding)
            continue
        last[row] = now
        b = buffer[row]
        for j in range(len(w)):
            before, momentum = widen(w[j]), widen(b[j])
            w[j] = narrow(before + (before * ww + momentum * wb), w[j], noise(key, j), rounding)
            fading = before * bw + momentum * bb
            b[j] = fading if abs(fading) > smallest else zero


def settle_sgd(
    weight: Tensor,
    buffer: Tensor | None,
    last: Tensor,
    history: Tensor,
    now: int,
    *,
    rows: Tensor | None = None,
    frozen: Tensor | None = None,
    rounding: int | None = None,
) -> int:
    """See ``kernels.reference_settle.settle_sgd``."""
    stale, wanted = survey(last, rows, now, len(history))
    if stale == 0:
        return 0
    table, steps, dtype = view(weight), last.numpy(), wide(weight)
    matrices = _missed(history.numpy(), len(wanted)).astype(dtype)
    momentum = np.empty((0, table.shape[1]), dtype) if buffer is None else buffer.numpy()
    listed = NO_ROWS if rows is None else rows.numpy()
    held = np.empty(0, np.uint8) if frozen is None else frozen.numpy()

    def share(start: int, stop: int) -> None:
        _settle(table, momentum, steps, listed, start, stop, now, held, matrices, rounding is not None, rounding or 0)

    each_share(len(table) if rows is None else len(listed), share)
    return stale
