"""`bag`: rows gathered and reduced, bag after bag, the next ones on their way. Definition: kernels/reference_bag.py.

Each thread owns bags, and a bag is summed in the order of its ids: same bits for any number of threads.
"""

import math

import numpy as np
import torch
from torch import Tensor

from .compile import jit
from .lanes import view, wide, widen
from .memory import address_of
from .pool import AHEAD, NO_WINNERS, ask_for, given, visit_bags

__all__ = ["bag"]

_SUM, _MEAN, _SQRTN = range(3)
_MODES = {"sum": _SUM, "mean": _MEAN, "sqrtn": _SQRTN}


@jit
def _reduce(weight, ids, offsets, weights, mode, padding, first, last, out, divisors):
    """Sum the bags from ``first`` to ``last``; the position of the first id without a row, or -1."""
    base, width, one = address_of(weight), weight.strides[0], divisors.dtype.type(1)
    for b in range(first, last):
        target = out[b]
        target[:] = 0
        total, weighted = divisors.dtype.type(0), False
        for k in range(offsets[b], offsets[b + 1]):
            if k + AHEAD < offsets[last]:
                ask_for(base, width, ids[k + AHEAD])
            id = ids[k]
            if id < 0 or id >= len(weight):
                return k
            if id == padding:
                continue
            row = weight[id]
            if len(weights) > 0:
                w = widen(weights[k])
                for j in range(len(target)):
                    target[j] += w * widen(row[j])
            else:
                w = one
                for j in range(len(target)):
                    target[j] += widen(row[j])
            total += w if mode == _MEAN else w * w
            weighted |= w != 0
        if mode != _SUM:
            divisors[b] = (total if mode == _MEAN else math.sqrt(total)) if weighted else np.inf
            for j in range(len(target)):
                target[j] /= divisors[b]
    return -1


@jit
def _reduce_max(weight, ids, offsets, weights, padding, first, last, out, winners):
    """The same for the largest numbers, NaN being the largest of all."""
    base, width = address_of(weight), weight.strides[0]
    for b in range(first, last):
        target, at = out[b], winners[b]
        target[:] = 0
        at[:] = -1
        empty = True
        for k in range(offsets[b], offsets[b + 1]):
            if k + AHEAD < offsets[last]:
                ask_for(base, width, ids[k + AHEAD])
            id = ids[k]
            if id < 0 or id >= len(weight):
                return k
            if id == padding:
                continue
            row = weight[id]
            w = widen(weights[k]) if len(weights) > 0 else out.dtype.type(1)
            for j in range(len(target)):
                value = w * widen(row[j])
                larger = empty or value > target[j] or (value != value and target[j] == target[j])
                target[j] = value if larger else target[j]
                at[j] = k if larger else at[j]
            empty = False
    return -1


def bag(
    weight: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor | None, mode: str, padding: int, out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """See ``kernels.reference_bag.bag``."""
    table, numbers, cuts, factors, target = (
        view(weight),
        ids.numpy(),
        offsets.numpy(),
        given(weights, weight),
        view(out),
    )
    divisors = np.empty(len(target) if mode in ("mean", "sqrtn") else 0, wide(weight))
    winners = np.empty(target.shape, np.int64) if mode == "max" else NO_WINNERS
    bad: list[int] = []

    def share(first: int, last: int) -> None:
        if mode == "max":
            at = _reduce_max(table, numbers, cuts, factors, padding, first, last, target, winners)
        else:
            at = _reduce(table, numbers, cuts, factors, _MODES[mode], padding, first, last, target, divisors)
        if at >= 0:
            bad.append(at)

    visit_bags(cuts, weight.shape[1], share)
    if bad:
        raise IndexError(f"id {numbers[min(bad)]} at position {min(bad)} is outside [0, {len(weight)})")
    return (
        torch.from_numpy(divisors) if len(divisors) or mode in ("mean", "sqrtn") else None,
        torch.from_numpy(winners) if mode == "max" else None,
    )
