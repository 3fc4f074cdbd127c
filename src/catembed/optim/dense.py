"""What surrounds torch's own step of dense parameters: loss scale, frozen rows, growth, a word about large tables."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from catembed.optim import registry
from catembed.optim.layout import resized
from catembed.optim.tables import Tables

__all__ = ["Dense", "grow_state", "kept_frozen", "unscaled", "warn_of_large_tables"]

Dense = Sequence[tuple[Tensor, dict[str, Any]]]  # parameters with a dense gradient, and their groups

LARGE = 100_000  # rows from which on a table's dense gradient is worth a warning


@contextlib.contextmanager
def unscaled(optimizer: torch.optim.Optimizer, dense: Dense) -> Iterator[None]:
    """Take GradScaler's loss scale out of the dense gradients, unless all go to kernels of torch's that do so.

    As ``GradScaler.unscale_`` does: in place, times the reciprocal in float32.
    """
    scale = getattr(optimizer, "grad_scale", None)
    if all(group.get("fused") for _, group in dense):
        yield
        return
    held = {name: vars(optimizer).pop(name) for name in ("grad_scale", "found_inf") if name in vars(optimizer)}
    try:
        if scale is not None:
            inverse = float(scale.double().reciprocal().float())
            for param, _ in dense:
                if param.grad is not None:
                    param.grad.mul_(inverse)
        yield
    finally:
        vars(optimizer).update(held)


@contextlib.contextmanager
def kept_frozen(optimizer: torch.optim.Optimizer, dense: Dense, tables: Tables) -> Iterator[None]:
    """Put frozen rows back, weight and state, after a step that knows nothing of them."""
    kept = []
    for param, _ in dense:
        frozen = tables.frozen(param)
        if frozen is not None:
            rows = frozen.nonzero().squeeze(1)
            state = {key: value[rows] for key, value in _row_tensors(optimizer, param)}
            kept.append((param, rows, param[rows], state))
    yield
    for param, rows, values, state in kept:
        param[rows] = values
        for key, value in _row_tensors(optimizer, param):
            value[rows] = state.get(key, _initial(optimizer))


def grow_state(optimizer: torch.optim.Optimizer, dense: Dense, tables: Tables) -> None:
    """Give tables that have gained rows the state of those rows."""
    for param, _ in dense:
        if tables.get(param) is not None:
            for key, value in _row_tensors(optimizer, param):
                if len(value) != len(param):
                    grown = resized(value, param.shape, value.dtype, value.device, _initial(optimizer))
                    optimizer.state[param][key] = grown


def _initial(optimizer: torch.optim.Optimizer) -> float:
    """What torch fills new state with: for all its optimisers here but Adagrad, zero."""
    return optimizer.defaults.get("initial_accumulator_value", 0.0)


def _row_tensors(optimizer: torch.optim.Optimizer, param: Tensor) -> list[tuple[str, Tensor]]:
    state = optimizer.state.get(param, {})
    return [(key, value) for key, value in state.items() if isinstance(value, Tensor) and value.dim()]


def warn_of_large_tables(dense: Dense, tables: Tables) -> None:
    """Tell once of each large table of ours whose gradient is dense how its steps come to cost the rows touched."""
    for param, _ in dense:
        if len(param.shape) == 2 and len(param) >= LARGE:
            table = tables.get(param)
            if table is not None and not table.warned and not table.sparse():
                table.warned = True
                warnings.warn(
                    f"{registry.describe(param)} ({len(param):,} rows) handed over a dense gradient: a step costs "
                    "the whole table; with sparse=True in the layer, or catembed.convert(model, sparse=True), it costs "
                    "the rows touched",
                    stacklevel=6,
                )
