"""`bag`: rows gathered and reduced, bag after bag, the next ones on their way. Definition: kernels/reference_bag.py.

Each thread owns bags, and a bag is summed in the order of its ids: same bits for any number of threads.
"""

import math

import numpy as np
import torch
from torch import Tensor

from .add_rows import add_rows
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
    base, width, columns = address_of(weight), weight.strides[0], weight.shape[1]
    stop = offsets[last]
    for b in range(first, last):
        target = out[b]
        for j in range(columns):
            target[j] = 0
        k = start = offsets[b]
        while k < offsets[b + 1]:  # runs of ids that are not left out
            if k + AHEAD < stop:
                ask_for(base, width, ids[k + AHEAD])
            if ids[k] < 0 or ids[k] >= len(weight):
                return k
            if ids[k] == padding:
                add_rows(target, weight, ids, weights, start, k)
                start = k + 1
            k += 1
        add_rows(target, weight, ids, weights, start, k)
        if mode != _SUM:
            divisors[b] = _divisor(ids, weights, offsets[b], offsets[b + 1], mode, padding, divisors.dtype.type(0))
            for j in range(columns):
                target[j] /= divisors[b]
    return -1


@jit
def _divisor(ids, weights, start, stop, mode, padding, total):
    """What the sum of one bag is divided by; a pass of its own, for it would halve the speed of the sum."""
    empty = True
    for k in range(start, stop):
        if ids[k] != padding:
            w = widen(weights[k]) if len(weights) > 0 else type(total)(1)
            total += w if mode == _MEAN else w * w
            empty = empty and w == 0
    if empty:
        return type(total)(np.inf)
    return total if mode == _MEAN else type(total)(math.sqrt(total))


@jit
def _reduce_max(weight, ids, offsets, weights, padding, first, last, out, winners):
    """The same for the largest numbers, NaN being the largest of all."""
    base, width, columns = address_of(weight), weight.strides[0], weight.shape[1]
    stop, one = offsets[last], out.dtype.type(1)
    for b in range(first, last):
        target, at = out[b], winners[b]
        for j in range(columns):
            target[j], at[j] = 0, -1
        empty = True
        for k in range(offsets[b], offsets[b + 1]):
            if k + AHEAD < stop:
                ask_for(base, width, ids[k + AHEAD])
            id = ids[k]
            if id < 0 or id >= len(weight):
                return k
            if id == padding:
                continue
            row = weight[id]
            w = widen(weights[k]) if len(weights) > 0 else one
            for j in range(columns):
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
