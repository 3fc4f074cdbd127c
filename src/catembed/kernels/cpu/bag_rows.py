"""`bag_rows`: gradient rows of a table from those of its bags, each summed and written once, in ascending order.

Nothing is expanded to a row for each id: a row's gradients are read where the bags' gradients lie, which is small and
stays in the caches. Each thread owns rows. Definition: kernels/reference_bag.py.
"""

import numpy as np
import torch
from torch import Tensor

from catembed.kernels.reference import Groups

from .compile import jit
from .lanes import narrow, view, widen
from .memory import address_of
from .pool import AHEAD, NO_WINNERS, ask_for, given
from .visit import visit

__all__ = ["bag_rows"]


@jit
def _mark(offsets, bags):
    """The bag of each position."""
    for b in range(len(offsets) - 1):
        for k in range(offsets[b], offsets[b + 1]):
            bags[k] = b


@jit
def _sum_bags(grad, starts, order, bags, weights, winners, targets, first, last, out):
    base, width, columns = address_of(grad), grad.strides[0], grad.shape[1]
    nothing, one, nil = np.uint32(0), grad.dtype.type(1), grad.dtype.type(0)
    total = np.empty(columns, grad.dtype)
    for i in range(first, last):
        if i + AHEAD < last:
            ask_for(base, width, bags[order[starts[i + AHEAD]]])
        if targets[i] < 0:
            continue
        for j in range(columns):
            total[j] = 0
        for at in range(starts[i], starts[i + 1]):
            k = order[at]
            row = grad[bags[k]]
            w = widen(weights[k]) if len(weights) > 0 else one
            if len(winners) > 0:
                won = winners[bags[k]]
                for j in range(columns):
                    total[j] += w * row[j] if won[j] == k else nil
            else:
                for j in range(columns):
                    total[j] += w * row[j]
        target = out[targets[i]]
        for j in range(columns):
            target[j] = narrow(total[j], target[j], nothing, False)


def bag_rows(
    grad: Tensor,
    groups: Groups,
    offsets: Tensor,
    weights: Tensor | None,
    winners: Tensor | None,
    targets: Tensor,
    out: Tensor,
) -> None:
    """See ``kernels.reference_bag.bag_rows``."""
    bags = np.empty(len(groups.order), np.int32 if len(offsets) <= torch.iinfo(torch.int32).max else np.int64)
    _mark(offsets.numpy(), bags)
    starts, order = groups.starts.numpy(), groups.order.numpy()
    factors, won = given(weights, out), NO_WINNERS if winners is None else winners.numpy()
    source, places, target = view(grad), targets.numpy(), view(out)

    def share(first: int, last: int) -> None:
        _sum_bags(source, starts, order, bags, factors, won, places, first, last, target)

    visit(groups, grad.shape[1], share)
