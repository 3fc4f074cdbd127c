"""`pool`: bags pooled by kernels of our own, with gradients for the table and for per-sample weights, of any order.

The gradient of the table has one row for each distinct id, summed, in ascending order: with ``sparse=True`` these are
the values of the COO tensor. What the bags' gradients say is never expanded to a row for each id, except where
gradients have gradients themselves: there the definition of the kernels is differentiated by torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from catembed.functional.lookup import is_plain_gradient
from catembed.kernels import reference_bag
from catembed.kernels.dispatch import CPU, kernel
from catembed.kernels.reference import arithmetic_dtype
from catembed.storage import room

__all__ = ["pool"]


def pool(
    weight: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    mode: str,
    padding: int,
    sparse: bool,
) -> Tensor:
    """Pool plain CPU tensors as ``kernels/reference_bag.py`` defines it: ``(B, D)``, differentiable.

    Raises ``IndexError`` for an id outside the table.
    """
    return _Pool.apply(weight, weights, ids, offsets, mode, padding, sparse)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        weights: Tensor | None,
        ids: Tensor,
        offsets: Tensor,
        mode: str,
        padding: int,
        sparse: bool,
    ) -> Tensor:
        ids = ids.contiguous()
        out = room(len(offsets) - 1, weight.shape[1], arithmetic_dtype(weight.dtype))
        divisors, winners = kernel("bag", CPU)(weight, ids, offsets, weights, mode, padding, out)
        ctx.mode, ctx.padding, ctx.sparse, ctx.shape = mode, padding, sparse, weight.shape
        # Without a gradient for the weights no row is needed again, so the table may move before backward.
        rows = weight if ctx.needs_input_grad[1] else None
        ctx.save_for_backward(rows, weights, ids, offsets, divisors, winners)
        return out.to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        weight, weights, ids, offsets, divisors, winners = ctx.saved_tensors
        dtype, wide = grads[0].dtype, arithmetic_dtype(grads[0].dtype)
        twice = torch.is_grad_enabled() or not is_plain_gradient(grads[0])
        if twice:
            divisors = reference_bag.bag_divisors(ids, offsets, weights, ctx.mode, ctx.padding, wide)
        grad = grads[0].to(wide)
        grad = grad.contiguous() if divisors is None else grad / divisors[:, None]
        of_rows = of_weights = None
        if ctx.needs_input_grad[0]:
            differentiate = _differentiable_rows if twice else _rows
            of_rows = differentiate(ctx, grad, ids, offsets, weights, winners, dtype)
        if weights is not None and ctx.needs_input_grad[1]:
            bag_dots = reference_bag.bag_dots if twice else kernel("bag_dots", CPU)
            dots = bag_dots(grad, weight, ids, offsets, winners)
            of_weights = _weights(ctx, dots, weights, ids, offsets, divisors).to(dtype)
        return of_rows, of_weights, None, None, None, None, None


def _rows(
    ctx: Any,
    grad: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    winners: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """The gradient of the table, dense or COO, from that of the bags."""
    groups = kernel("group", CPU)(ids, ctx.shape[0])
    rows, targets = groups.rows, groups.rows
    if ctx.sparse:
        targets = torch.arange(len(rows), device="cpu")
    at = int(torch.searchsorted(rows, ctx.padding)) if ctx.padding >= 0 else len(rows)
    if at < len(rows) and int(rows[at]) == ctx.padding:
        targets = targets.clone()
        targets[at] = -1
        if ctx.sparse:
            targets[at + 1 :] -= 1
            rows = torch.cat([rows[:at], rows[at + 1 :]])
    out = room(len(rows), ctx.shape[1], dtype) if ctx.sparse else torch.zeros(ctx.shape, dtype=dtype, device="cpu")
    kernel("bag_rows", CPU)(grad, groups, offsets, weights, winners, targets, out)
    if not ctx.sparse:
        return out
    return torch.sparse_coo_tensor(rows[None], out, ctx.shape, is_coalesced=True, check_invariants=False)


def _differentiable_rows(
    ctx: Any,
    grad: Tensor,
    ids: Tensor,
    offsets: Tensor,
    weights: Tensor | None,
    winners: Tensor | None,
    dtype: torch.dtype,
) -> Tensor:
    """The same by torch's operations, with a row for each id."""
    rows = reference_bag.expand(grad, offsets, weights, winners).to(dtype)
    return torch.ops.aten.embedding_backward(rows, ids, ctx.shape[0], ctx.padding, False, ctx.sparse)


def _weights(ctx: Any, dots: Tensor, weights: Tensor, ids: Tensor, offsets: Tensor, divisors: Tensor | None) -> Tensor:
    """The gradient of the weights, from the products of rows and (divided) gradients.

    A weight that is made larger also makes its bag's divisor larger, S or q, which takes back::

        mean   Σ w · dots / S          sqrtn    w · Σ w · dots / q²
    """
    dots = torch.where(ids == ctx.padding, 0, dots)
    if divisors is None:
        return dots
    bags, w = reference_bag.bag_of(offsets), weights.to(dots.dtype)
    pulled = torch.zeros_like(divisors).index_add(0, bags, w * dots) / divisors
    taken = pulled[bags] if ctx.mode == "mean" else w * (pulled / divisors)[bags]
    return torch.where(ids == ctx.padding, 0, dots - taken)
