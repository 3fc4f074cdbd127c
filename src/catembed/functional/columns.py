"""`lookup_columns`: many tables looked up by a column of ids each, their rows laid side by side, in one call.

Rule: what kernels of our own cannot do (other devices, compilers and transforms, 16-bit floats, mixed dtypes) torch
does, table by table. Both give the same numbers: each row of a table's gradient is a sum of rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from catembed.functional.ids import NATIVE, explain, padding_row
from catembed.functional.lookup import embedding, is_plain
from catembed.kernels.columns import Columns
from catembed.kernels.dispatch import CPU, kernel
from catembed.storage import room

__all__ = ["Lookup", "lookup_columns"]

_DTYPES = frozenset({torch.float32, torch.float64})


class Lookup(NamedTuple):
    """One column: ids of shape ``(*)`` into ``weight (N, D)``; or rows found by other means, ``(*, D)``."""

    weight: Tensor
    ids: Tensor
    padding_idx: int | None = None
    sparse: bool = False
    name: str | None = None


def lookup_columns(found: Sequence[Lookup | Tensor]) -> Tensor:
    """The rows of all columns side by side: ``(*, Σ D)``. Tensors ``(*, D)`` among them are taken as they are.

    Raises:
        OutOfRangeError: an id outside its table.

    >>> first, second = torch.eye(2), torch.arange(3.0).view(3, 1)
    >>> lookup_columns([Lookup(first, torch.tensor([1, 0])), Lookup(second, torch.tensor([2, 1]))])
    tensor([[0., 1., 2.],
            [1., 0., 1.]])
    """
    lookups = [each for each in found if isinstance(each, Lookup)]
    if not _by_kernels(lookups, found):
        return torch.cat([_by_torch(each) if isinstance(each, Lookup) else each for each in found], -1)
    weights: dict[int, Tensor] = {}  # a table of several columns is one argument
    for each in lookups:
        weights.setdefault(id(each.weight), each.weight)
    numbers = {key: number for number, key in enumerate(weights)}
    starts = list(
        accumulate((each[0].shape[1] if isinstance(each, Lookup) else each.shape[-1] for each in found), initial=0)
    )
    shape = lookups[0].ids.shape
    flat = len(shape) == 1
    plan = _Plan(
        lookups,
        Columns(
            [each.ids if flat else each.ids.reshape(-1) for each in lookups],
            [start for start, each in zip(starts, found, strict=False) if type(each) is Lookup],
            [padding_row(each.padding_idx, each.weight) for each in lookups],
        ),
        [numbers[id(each.weight)] for each in lookups],
        [start for start, each in zip(starts, found, strict=False) if type(each) is not Lookup],
        len(weights),
        shape.numel(),
        starts[-1],
    )
    others = [each for each in found if type(each) is not Lookup]
    rows = _Lookups.apply(plan, *weights.values(), *others)
    return rows if flat else rows.view(*shape, starts[-1])


def _by_torch(each: Lookup) -> Tensor:
    return embedding(each.ids, each.weight, each.padding_idx, sparse=each.sparse, name=each.name)


def _by_kernels(lookups: Sequence[Lookup], found: Sequence[Lookup | Tensor]) -> bool:
    if len(lookups) < 2:
        return False
    dtype, shape = lookups[0].weight.dtype, lookups[0].ids.shape
    tensors = [each for each in found if not isinstance(each, Lookup)]
    if dtype not in _DTYPES or any(each.dtype != dtype for each in tensors):
        return False
    for weight, ids, *_ in lookups:
        fits = weight.dtype == dtype and ids.dtype in NATIVE and ids.shape == shape
        if not fits or weight.dim() != 2 or not weight.is_contiguous():
            return False
        tensors += (weight, ids)
    return is_plain(*tensors)


class _Plan(NamedTuple):
    """What is looked up where."""

    lookups: Sequence[Lookup]
    columns: Columns
    tables: list[int]  # for each column, the number of its table
    others: list[int]  # where the rows found by other means begin
    num_tables: int
    rows: int
    width: int


class _Lookups(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> Tensor:
        weights, others = tensors[: plan.num_tables], tensors[plan.num_tables :]
        out = room(plan.rows, plan.width, weights[0].dtype)
        try:
            kernel("columns", CPU)([weights[number] for number in plan.tables], plan.columns, out)
        except IndexError as error:
            lookup = plan.lookups[error.args[0]]
            explain(error, lookup.ids, lookup.ids, lookup.weight, lookup.name)
            raise
        for start, rows in zip(plan.others, others, strict=True):
            out[:, start : start + rows.shape[-1]] = rows.reshape(plan.rows, rows.shape[-1])
        ctx.plan = plan._replace(lookups=(), columns=plan.columns._replace(ids=()))
        ctx.sparse = [each.sparse for each in plan.lookups]
        ctx.shapes = [each.shape for each in tensors]
        ctx.save_for_backward(*plan.columns.ids)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        plan: _Plan = ctx.plan
        columns = plan.columns._replace(ids=ctx.saved_tensors)
        found: list[Tensor | None] = [None] * len(ctx.shapes)
        for at, start in enumerate(plan.others, plan.num_tables):
            found[at] = grads[0][:, start : start + ctx.shapes[at][-1]].reshape(ctx.shapes[at])
        wanted = [at for at, number in enumerate(plan.tables) if ctx.needs_input_grad[1 + number]]
        twice = torch.is_grad_enabled()
        dense = [] if twice else [at for at in wanted if not ctx.sparse[at]]
        if dense:
            _sum_rows(found, grads[0], plan, _taken(columns, dense), [plan.tables[at] for at in dense], ctx.shapes)
        for at in wanted:
            if twice or ctx.sparse[at]:
                number = plan.tables[at]
                rows, columns_of = ctx.shapes[number]
                part = grads[0][:, columns.starts[at] : columns.starts[at] + columns_of]
                table = torch.ops.aten.embedding_backward(
                    part, columns.ids[at], rows, columns.paddings[at], False, ctx.sparse[at]
                )
                found[number] = _plus(found[number], table)
        return None, *found


def _taken(columns: Columns, chosen: Sequence[int]) -> Columns:
    ids, starts, paddings = columns
    return Columns([ids[at] for at in chosen], [starts[at] for at in chosen], [paddings[at] for at in chosen])


def _sum_rows(
    found: list[Tensor | None],
    grad: Tensor,
    plan: _Plan,
    columns: Columns,
    tables: Sequence[int],
    shapes: Sequence[torch.Size],
) -> None:
    """Dense gradients of the tables of these columns, into ``found``."""
    grad = grad if grad.stride(1) == 1 else grad.contiguous()
    for number in tables:
        if found[number] is None:
            found[number] = grad.new_empty(shapes[number])
    kernel("column_grads", CPU)(grad, columns, [found[number] for number in tables])


def _plus(so_far: Tensor | None, more: Tensor) -> Tensor:
    return more if so_far is None else so_far + more
