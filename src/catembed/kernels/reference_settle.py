"""The definition of settling: bring rows to where the dense optimiser has them, one missed step after the other.

A settled row is one to which every step so far has been applied. `last[r]` says up to which step row r is settled:
its absolute value is that step, and it is positive once the row has had a gradient; until then its state is zero.
`history` holds the most recent steps, one row each, the latest, step `now`, last; all missed steps must lie in it.
Plain torch in float64, slow, any device. The fast twins: cpu/settle_adam.py, cpu/settle_sgd.py.
"""

from __future__ import annotations

import torch
from torch import Tensor

from catembed.kernels.reference import STATE_STREAM, rounded

__all__ = ["settle_adam", "settle_sgd", "state_seed"]


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
    """Apply to ``rows`` (None: all) the Adam steps they have missed; returns how many rows were not settled.

    ``weight`` (N, D), ``moments`` (N, 2, D), ``last`` int32 (N,), ``history`` float64 (H, 6): lr, β1, β2, denominator
    factor, eps, weight factor of a step; ``rows`` int64, each once. A step with zero gradient is

        m = β1 m;  v = β2 v;  w = w · weight factor - lr · m / (√v · denominator factor + eps)

    16-bit weights are rounded once, to nearest or stochastically by the seed ``rounding``; bfloat16 moments always
    stochastically, by ``state_seed``.
    """
    rows, start, live = _rows(last, rows, frozen)
    w, m, v = (part[rows].double() for part in (weight, moments[:, 0], moments[:, 1]))
    for step, (lr, beta1, beta2, denominator, eps, factor) in _steps(history, now):
        missed = ((start < step) & live)[:, None]
        m, v = torch.where(missed, beta1 * m, m), torch.where(missed, beta2 * v, v)
        delta = torch.where(m == 0, 0.0, lr * m / (v.sqrt() * denominator + eps))
        w = torch.where(missed, w * factor - delta, w)
    stale = start < now
    moved = rows[stale & live]
    weight[moved] = rounded(w[stale & live], weight.dtype, moved, rounding)
    stored = torch.stack([m, v], dim=1)[stale & live]
    seed = state_seed(rounding, now)
    moments[moved] = rounded(stored.flatten(1), moments.dtype, moved, seed).view_as(stored)
    last[rows] = torch.where(last[rows] > 0, now, -now).to(last.dtype)
    return int(stale.sum())


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
    """Apply to ``rows`` (None: all) the SGD steps they have missed; returns how many rows were not settled.

    ``weight`` and the momentum ``buffer`` (N, D), or None where there is none; ``history`` float64 (H, 4): a step with
    zero gradient takes (w, b) to (w · h[0] + b · h[1], w · h[2] + b · h[3]). A row whose buffer that fills counts as
    touched from then on.
    """
    rows, start, live = _rows(last, rows, frozen)
    w = weight[rows].double()
    b = torch.zeros_like(w) if buffer is None else buffer[rows].double()
    touched = last[rows] > 0
    for step, (ww, wb, bw, bb) in _steps(history, now):
        missed = ((start < step) & live)[:, None]
        touched |= missed[:, 0] & (buffer is not None and bw != 0)
        w, b = torch.where(missed, w * ww + b * wb, w), torch.where(missed, w * bw + b * bb, b)
    stale = start < now
    moved = rows[stale & live]
    weight[moved] = rounded(w[stale & live], weight.dtype, moved, rounding)
    if buffer is not None:
        buffer[moved] = b[stale & live].to(buffer.dtype)
    last[rows] = torch.where(touched, now, -now).to(last.dtype)
    return int(stale.sum())


def state_seed(rounding: int | None, now: int) -> int:
    """The seed by which state is rounded: another one at each step, also where weights are rounded to nearest."""
    return ((rounding or 0) ^ STATE_STREAM) + now * 0x9E3779B97F4A7C15 & (2**63 - 1)


def _rows(last: Tensor, rows: Tensor | None, frozen: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The rows as ids, the step each is settled up to, and whether it may move."""
    rows = torch.arange(len(last), device=last.device) if rows is None else rows
    live = torch.ones(len(rows), dtype=torch.bool, device=last.device) if frozen is None else frozen[rows] == 0
    return rows, last[rows].abs(), live


def _steps(history: Tensor, now: int) -> list[tuple[int, list[float]]]:
    first = now - len(history) + 1
    return list(enumerate(history.tolist(), start=first))
