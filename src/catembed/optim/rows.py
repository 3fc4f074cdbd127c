"""`RowOptimizer`: one optimiser for dense parameters and row gradients alike.

A step has two halves. Parameters with a dense gradient go to torch's own optimiser, from which the row gradients are
hidden for that time, so they get bit for bit what torch gives. Parameters with a row gradient (sparse COO, as
``sparse=True`` layers make it) go to the row kernels, at the cost of the rows touched.

Rules: what can fail by what the user gave is looked at before anything is written. Once a parameter has had a row
gradient its state has the kernels' layout, and a dense gradient (a tied output layer) goes to the kernels as the
gradient of all rows. The contract of the kernels: docs/design/optimisers.md.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from catembed.errors import OutOfRangeError
from catembed.kernels.dispatch import kernel
from catembed.optim import exact, registry
from catembed.optim.dense import Dense, grow_state, kept_frozen, unscaled, warn_of_large_tables
from catembed.optim.light import LightOptimizer
from catembed.optim.tables import Tables
from catembed.storage import HugeWhenFull

__all__ = ["RowOptimizer", "Rows"]

UNTOUCHED = ("lazy", "exact")
OWN_OPTIONS = ("untouched", "state_dtype", "stochastic_rounding")  # belong to the optimiser, not to a saved state


class Rows(NamedTuple):
    """One parameter's part of a step: its gradient by rows."""

    param: Tensor
    group: dict[str, Any]
    weight: Tensor  # (N, D), the parameter's own memory
    groups: Any  # the kernels' Groups
    grads: Tensor  # (n, D)
    every: bool  # every row has a gradient, for it was dense
    frozen: Tensor | None


class RowOptimizer(LightOptimizer):
    """Mixed in before one of torch's optimisers; the subclass says how a row moves (`_row_state`, `_update_rows`)."""

    # GradScaler hands over `grad_scale` and `found_inf` and leaves the rest to step().
    _step_supports_amp_scaling = True

    # What a subclass says

    def _row_state(self, rows: Rows) -> Tensor | None:
        """The state of a row parameter in the kernels' layout, made, converted or grown as needed."""
        raise NotImplementedError

    def _update_rows(self, rows: Rows, state: Tensor | None, **common: Any) -> tuple[float, ...]:
        """Count the step and move the rows of one parameter; returns what it does to a row without a gradient.

        That is a row of the history that the kernel `_settling` takes.
        """
        raise NotImplementedError

    def _settling(self, group: dict[str, Any]) -> str | None:
        """The kernel that applies missed steps, or None where rows without a gradient do not move."""
        return None

    def _refusal(self, group: dict[str, Any]) -> str | None:
        """Why row gradients cannot be had with the settings of ``group``, or None."""
        if not (group.get("amsgrad") or group.get("differentiable") or group.get("capturable")):
            return None
        options = [name for name in ("amsgrad", "differentiable", "capturable") if group.get(name)]
        return f"{type(self).__name__} with {options[0]}=True cannot update single rows"

    def _check_group(self, group: dict[str, Any]) -> None:
        """Raise ValueError for settings that exclude each other."""
        if group["untouched"] not in UNTOUCHED:
            raise ValueError(f"untouched must be one of {UNTOUCHED} (got {group['untouched']!r})")
        reason = self._refusal(group)
        for param in group["params"] if reason else ():
            table = registry.table_of(param)
            if table is not None and table.sparse():
                raise ValueError(f"{reason}, and {registry.describe(param)} has row gradients (sparse=True)")

    # The step

    def _take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            if torch.compiler.is_compiling():
                _outside_of_graphs(self._step)
            else:
                self._step()
        return loss

    def _step(self) -> None:
        found_inf = getattr(self, "found_inf", None)
        if found_inf is not None and found_inf.item():
            return
        self._tables.look(self)
        by_rows, dense = self._split()
        rows = [self._prepare(*each) for each in by_rows]
        settlers = [self._settler(each) for each in rows]
        states = [self._row_state(each) for each in rows]
        if dense:
            self._step_dense(dense, by_rows)
        scale = getattr(self, "grad_scale", None)
        grad_scale = 1.0 if scale is None else 1.0 / float(scale)
        for each, settler, state in zip(rows, settlers, states, strict=True):
            rounding = self._seed(each.param) if each.group["stochastic_rounding"] else None
            maximize = each.group["maximize"]
            missed = self._update_rows(
                each, state, maximize=maximize, grad_scale=grad_scale, frozen=each.frozen, rounding=rounding
            )
            if settler is not None:
                settler.advance(each.param, state, missed, None if each.every else each.groups.rows, rounding)
            if state is not None:
                self._watch_pages(each, state)

    def _split(self) -> tuple[list[tuple[Tensor, dict[str, Any], Tensor]], list[tuple[Tensor, dict[str, Any]]]]:
        """Parameters for the kernels, with their gradients, and parameters for torch."""
        by_rows, dense = [], []
        for group in self.param_groups:
            for param in group["params"]:
                grad = param.grad
                if grad is None:
                    continue
                if grad.is_sparse or id(param) in self._layouts:
                    by_rows.append((param, group, grad))
                else:
                    dense.append((param, group))
        return by_rows, dense

    # Row gradients

    def _prepare(self, param: Tensor, group: dict[str, Any], grad: Tensor) -> Rows:
        """Check one gradient and group its ids; nothing is written."""
        reason = self._refusal(group)
        if reason:
            raise RuntimeError(f"{reason}, and {registry.describe(param)} has a row gradient")
        if not (param.is_contiguous() and param.is_floating_point()):
            raise RuntimeError(
                f"row gradients need a contiguous weight of real numbers: {registry.describe(param)} has "
                f"{param.dtype} and strides {param.stride()}"
            )
        rows = param.shape[0]
        weight = param.detach()
        if weight.dim() != 2:
            weight = weight.view(rows, weight[:1].numel())
        frozen = self._tables.frozen(param)
        if not grad.is_sparse:
            ids = torch.arange(rows, device=grad.device)
            groups = kernel("group", weight.device)(ids, rows)
            return Rows(param, group, weight, groups, _matrix(grad.detach(), weight.shape[1]), True, frozen)
        if grad.sparse_dim() != 1:
            raise RuntimeError(
                f"a row gradient has one sparse dimension, that of {registry.describe(param)} has {grad.sparse_dim()}"
            )
        try:
            groups = kernel("group", weight.device)(grad._indices()[0], rows)
        except IndexError as error:
            raise OutOfRangeError(f"{error} (in the gradient of {registry.describe(param)})") from error
        return Rows(param, group, weight, groups, _matrix(grad._values().detach(), weight.shape[1]), False, frozen)

    def _settler(self, rows: Rows) -> exact.Settler | None:
        """What catches up for the rows without a gradient, or None in lazy mode; raises for a row that lags."""
        param, group = rows.param, rows.group
        if group["untouched"] != "exact":
            exact.drop(self, param)
            return None
        settler = exact.settler_of(param, self)
        rule = self._settling(group)
        if settler is None and rule is not None:
            touched = any(isinstance(value, Tensor) and value.dim() > 0 for value in self.state[param].values())
            settler = exact.attach(self, rule, param, touched)
        if settler is not None:
            settler.require(param, rows.groups.rows, rows.grads if rows.every else None)
        return settler

    def flush(self) -> None:
        """Apply to every row the steps it has missed (``untouched="exact"``), so that weights may be read directly."""
        for group in self.param_groups:
            for param in group["params"]:
                settler = exact.settler_of(param, self)
                if settler is not None:
                    settler.settle(param)

    def _seed(self, param: Tensor) -> int:
        """The seed of stochastic rounding: a function of the step and of which parameter it is."""
        step, position = int(self.state[param]["step"]), self._tables.position(param)
        return (step * 0x9E3779B97F4A7C15 + position * 0xD1B54A32D192ED03) & (2**63 - 1)

    def _watch_pages(self, rows: Rows, state: Tensor) -> None:
        """Let state that has filled up have huge pages."""
        pages = self._pages.get(id(rows.param))
        if pages is None:
            pages = self._pages[id(rows.param)] = HugeWhenFull(state)
        else:
            pages.follow(state)
        pages.visited(rows.groups.rows.shape[0])

    # Dense gradients

    def _step_dense(self, dense: Dense, hidden: list[tuple[Tensor, dict[str, Any], Tensor]]) -> None:
        """Let torch's optimiser update ``dense`` while the gradients of ``hidden`` are out of its sight."""
        warn_of_large_tables(dense, self._tables)
        grow_state(self, dense, self._tables)
        # Hooks and profiler are around our own step already.
        step = inspect.unwrap(
            super(LightOptimizer, self).step.__func__, stop=lambda method: not hasattr(method, "hooked")
        )
        for param, _, _ in hidden:
            param.grad = None
        try:
            with unscaled(self, dense), kept_frozen(self, dense, self._tables):
                step(self)
        finally:
            for param, _, grad in hidden:
                param.grad = grad

    # Groups, saving and loading

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group as torch does; settings that its parameters cannot have raise ValueError."""
        self.defaults.update(vars(self).pop("_row_options", {}))  # at the first group, within torch's constructor
        super().add_param_group(param_group)
        try:
            self._check_group(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise
        if "_tables" not in vars(self):
            self._forget()
        self._tables.changed()

    def state_dict(self) -> dict[str, Any]:
        """The state with torch's keys, shapes and (contiguous) layout: what torch's optimiser of this kind loads."""
        self.flush()
        saved = super().state_dict()
        state = {
            key: {name: _plain(value) for name, value in entry.items()} if isinstance(entry, dict) else entry
            for key, entry in saved["state"].items()
        }
        return {**saved, "state": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of this optimiser, or of torch's of the same kind (for Adam also SparseAdam's).

        Settings that the saved state does not have, and how untouched rows are treated, stay as they are here.
        """
        for group in self.param_groups:
            for param in group["params"]:
                exact.drop(self, param)
        groups = state_dict["param_groups"]
        filled = [
            {**theirs, **{key: ours[key] for key in ours if key not in theirs or key in OWN_OPTIONS}}
            for ours, theirs in zip(self.param_groups, groups, strict=False)
        ]
        for entry, theirs in zip(filled, groups, strict=False):
            entry["params"] = theirs["params"]
        super().load_state_dict({**state_dict, "param_groups": filled + list(groups[len(filled) :])})
        self._keep_wide_state(state_dict)
        self._forget()

    def _keep_wide_state(self, state_dict: dict[str, Any]) -> None:
        """Torch casts loaded state to the weight's dtype; that of 16-bit weights keeps its own."""
        indices = [index for group in state_dict["param_groups"] for index in group["params"]]
        params = [param for group in self.param_groups for param in group["params"]]
        for index, param in zip(indices, params, strict=True):
            if param.dtype in (torch.float16, torch.bfloat16):
                for key, value in state_dict["state"].get(index, {}).items():
                    if isinstance(value, Tensor) and value.dim() and value.dtype == torch.float32:
                        self.state[param][key] = value.to(param.device)

    def __getstate__(self) -> dict[str, Any]:
        self.flush()
        return super().__getstate__()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._forget()

    def _forget(self) -> None:
        """Drop what is remembered between steps and never saved; it is found again at the next step."""
        self._tables = Tables()
        self._pages: dict[int, HugeWhenFull] = {}  # under the state of each row parameter
        # Of each row parameter: the tensors of its state, then the layout made of them (`_row_state`).
        self._layouts: dict[int, tuple[Any, ...]] = {
            id(param): () for param, state in self.state.items() if _has_row_layout(param, state)
        }


@torch.compiler.disable
def _outside_of_graphs(function: Callable[[], None]) -> None:
    """Call ``function`` where `torch.compile` traces the caller; only there, for the fence costs as much as a step."""
    function()


def _has_row_layout(param: Any, state: dict[str, Any]) -> bool:
    """Whether some state tensor is not laid out as the weight is, as torch's own state is."""
    return isinstance(param, Tensor) and any(
        isinstance(value, Tensor)
        and value.dim() > 0
        and not value.is_sparse
        and (value.shape, value.stride(), value.dtype) != (param.shape, param.stride(), param.dtype)
        for value in state.values()
    )


def _plain(value: Any) -> Any:
    """A state tensor in the layout that torch's kernels take for granted: its fused ones misread views with gaps."""
    return value.contiguous() if isinstance(value, Tensor) and value.layout == torch.strided else value


def _matrix(grad: Tensor, columns: int) -> Tensor:
    """A gradient as a matrix ``(n, columns)`` whose rows have no gaps."""
    if grad.dim() != 2:
        grad = grad.reshape(len(grad), columns)
    return grad if columns <= 1 or grad.stride(1) == 1 else grad.contiguous()
