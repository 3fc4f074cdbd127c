"""The definition of the kernels of bags: rows pooled, and the gradients of that; plain torch.

``offsets`` (int64, one more than there are bags) cut the ids into bags: bag b has the positions from ``offsets[b]`` to
``offsets[b + 1]``. ``weights`` has one number for each position, or is None: all are 1. Ids equal to ``padding`` (-1:
none are) are left out. Arithmetic is in float32, in float64 for float64 tables; sums are taken in the order of the ids.

    sum    Σ w x                   sqrtn    Σ w x / √Σ w²
    mean   Σ w x / Σ w             max      max w x, in each column on its own; of equal ones the first counts

A bag without ids, or whose weights are all zero, gives zeros and gets no gradient: its divisor is infinite. What is
defined here with torch's differentiable operations is differentiated as it stands where gradients have gradients.
"""

from __future__ import annotations

import torch
from torch import Tensor

from catembed.kernels.reference import Groups

__all__ = ["bag", "bag_divisors", "bag_dots", "bag_of", "bag_rows", "expand"]


def bag(
    weight: Tensor, ids: Tensor, offsets: Tensor, weights: Tensor | None, mode: str, padding: int, out: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Pool rows of ``weight (N, D)`` into ``out (B, D)``, which has the dtype of arithmetic.

    Returns what the gradient needs: ``divisors (B,)`` for mean and sqrtn, and for max ``winners``, int64 ``(B, D)``:
    the position that each number was taken from, -1 where there was none.

    Raises ``IndexError`` for an id outside ``[0, N)``.
    """
    bad = ((ids < 0) | (ids >= len(weight))).nonzero()
    if len(bad):
        raise IndexError(f"id {int(ids[bad[0]])} at position {int(bad[0])} is outside [0, {len(weight)})")
    rows = weight[ids.long()].to(out.dtype)
    if weights is not None:
        rows = rows * weights.to(out.dtype)[:, None]
    kept = ids != padding
    if mode == "max":
        winners = torch.full(out.shape, -1, dtype=torch.int64, device=ids.device)
        for b, (start, stop) in enumerate(zip(offsets.tolist(), offsets[1:].tolist(), strict=False)):
            positions = torch.arange(start, stop, device=ids.device)[kept[start:stop]]
            out[b] = 0
            if len(positions):
                out[b], at = rows[positions].max(dim=0)
                winners[b] = positions[at]
        return None, winners
    divisors = bag_divisors(ids, offsets, weights, mode, padding, out.dtype)
    out.zero_().index_add_(0, bag_of(offsets)[kept], rows[kept])
    if divisors is not None:
        out /= divisors[:, None]
    return divisors, None


def bag_of(offsets: Tensor) -> Tensor:
    """The bag of each position."""
    return torch.repeat_interleave(offsets.diff())


def bag_divisors(
    ids: Tensor, offsets: Tensor, weights: Tensor | None, mode: str, padding: int, dtype: torch.dtype
) -> Tensor | None:
    """What each bag's sum is divided by, ``(B,)`` in ``dtype``; None for sum and max. Differentiable in ``weights``."""
    if mode not in ("mean", "sqrtn"):
        return None
    w = torch.ones(len(ids), dtype=dtype, device=ids.device) if weights is None else weights.to(dtype)
    w = torch.where(ids == padding, 0, w)
    bags, nothing = bag_of(offsets), torch.zeros(len(offsets) - 1, dtype=dtype, device=ids.device)
    total = nothing.index_add(0, bags, w if mode == "mean" else w * w)
    empty = nothing.index_add(0, bags, (w.detach() != 0).to(dtype)) == 0
    total = torch.where(empty, torch.inf, total)
    return total if mode == "mean" else total.sqrt()


def expand(grad: Tensor, offsets: Tensor, weights: Tensor | None, winners: Tensor | None) -> Tensor:
    """One gradient row for each position, ``(n, D)``, from those of the bags (already divided)."""
    bags = bag_of(offsets)
    rows = grad[bags]
    if winners is not None:
        rows = torch.where(winners[bags] == torch.arange(len(bags), device=bags.device)[:, None], rows, 0)
    return rows if weights is None else rows * weights.to(rows.dtype)[:, None]


def bag_rows(
    grad: Tensor,
    groups: Groups,
    offsets: Tensor,
    weights: Tensor | None,
    winners: Tensor | None,
    targets: Tensor,
    out: Tensor,
) -> None:
    """Write the summed gradient of each group of equal ids to row ``targets[group]`` of ``out``; nowhere for -1.

    ``grad (B, D)``: the gradient of the bags, already divided, in the dtype of arithmetic. Other rows of ``out`` stay.
    """
    total = torch.zeros(len(groups.rows), grad.shape[1], dtype=grad.dtype, device=grad.device)
    rows = expand(grad, offsets, weights, winners)[groups.order]
    total.index_add_(0, torch.repeat_interleave(groups.starts.diff()), rows)
    kept = targets >= 0
    out[targets[kept]] = total[kept].to(out.dtype)


def bag_dots(grad: Tensor, weight: Tensor, ids: Tensor, offsets: Tensor, winners: Tensor | None) -> Tensor:
    """Of each position, ``(n,)``, the product of its bag's gradient with its row; for max, of the numbers taken."""
    return (expand(grad, offsets, None, winners) * weight[ids.long()].to(grad.dtype)).sum(dim=1)
