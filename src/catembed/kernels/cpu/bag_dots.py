"""`bag_dots`: the product of each id's row with the gradient of its bag. Definition: kernels/reference_bag.py."""

import numpy as np
import torch
from torch import Tensor

from .compile import jit
from .lanes import view, widen
from .memory import address_of
from .pool import AHEAD, NO_WINNERS, ask_for, visit_bags

__all__ = ["bag_dots"]


@jit
def _multiply(grad, weight, ids, offsets, winners, first, last, dots):
    base, width = address_of(weight), weight.strides[0]
    for b in range(first, last):
        factors = grad[b]
        for k in range(offsets[b], offsets[b + 1]):
            if k + AHEAD < offsets[last]:
                ask_for(base, width, ids[k + AHEAD])
            row = weight[ids[k]]
            total = grad.dtype.type(0)
            if len(winners) > 0:
                won = winners[b]
                for j in range(len(factors)):
                    total += factors[j] * widen(row[j]) if won[j] == k else grad.dtype.type(0)
            else:
                for j in range(len(factors)):
                    total += factors[j] * widen(row[j])
            dots[k] = total


def bag_dots(grad: Tensor, weight: Tensor, ids: Tensor, offsets: Tensor, winners: Tensor | None) -> Tensor:
    """See ``kernels.reference_bag.bag_dots``; the ids have been found good."""
    source, table, numbers, cuts = view(grad), view(weight), ids.numpy(), offsets.numpy()
    won, dots = NO_WINNERS if winners is None else winners.numpy(), np.empty(len(numbers), source.dtype)

    def share(first: int, last: int) -> None:
        _multiply(source, table, numbers, cuts, won, first, last, dots)

    visit_bags(cuts, weight.shape[1], share)
    return torch.from_numpy(dots)
