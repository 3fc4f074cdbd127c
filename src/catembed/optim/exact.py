"""`Settler`: the exact mode's memory of a table, by which rows get the steps they have missed.

The dense optimiser moves every row at every step: by momentum, decay and bias correction also those without a gradient.
A settler keeps what each step does to such a row (a few numbers, its history) and up to which step each row is settled.
`settle` brings rows up to date: a layer calls it before it looks rows up in training, and for all rows before its
weight is saved, copied, loaded, frozen or thawed, and at `eval()`. How rows move: docs/design/optimisers.md.

Rules: settlers hang on the weight, weakly, and not on the optimiser, so rows are settled also when that is gone. An
optimiser's step finds each row of its gradient settled, or raises before anything is written. In a process group
a gradient also has rows that only other ranks looked up; there the step settles them.
Known limit: who reads ``layer.weight`` itself, past the layer, sees rows that lag: ``optimizer.flush()`` comes first.
"""

from __future__ import annotations

import threading
import weakref

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from catembed.kernels.dispatch import kernel
from catembed.optim import registry
from catembed.optim.layout import zeros
from catembed.storage import grow_rows

__all__ = ["Settler", "attach", "drop", "settle", "settler_of"]

LONGEST = 65_536  # steps of history before all rows are settled: bounds its memory and the work for the oldest row

_settlers = WeakTensorKeyDictionary()
_in_use = False


class Settler:
    """Of one table: the steps taken since all rows were settled, and how far each row is."""

    def __init__(self, owner: torch.optim.Optimizer, rule: str, weight: Tensor, touched: bool) -> None:
        """``rule``: the kernel's name; ``touched``: rows may have a state already."""
        self.owner = weakref.ref(owner)
        self.rule = rule
        self.now = int(touched)
        self.last = zeros((len(weight),), torch.int32, weight.device)  # as kernels/reference_settle.py defines it
        if touched:
            self.last.fill_(self.now)
        self._state: Tensor | None = None  # what the kernel takes: moments, or the momentum buffer
        self._rounding: int | None = None
        self._history = torch.empty((0, 0), dtype=torch.float64)
        self._known = 0  # steps in the history
        self._lock = threading.Lock()

    def settle(self, weight: Tensor, ids: Tensor | None = None) -> None:
        """Bring the rows ``ids`` (integers of any shape; None: all rows) of ``weight`` up to date.

        Raises:
            IndexError: an id outside the table; nothing is written.
        """
        with self._lock:
            if self._known == 0:
                return
            self._follow(weight)
            rows = None
            if ids is not None:
                rows = kernel("group", weight.device)(ids.reshape(-1), len(weight)).rows
            table = registry.table_of(weight)
            stale = kernel(self.rule, weight.device)(
                weight.detach().view(len(weight), -1),
                self._state,
                self.last,
                self._history[: self._known],
                self.now,
                rows=rows,
                frozen=None if table is None else table.frozen(weight),
                rounding=self._rounding,
            )
            if ids is None:
                self._known = 0
        if stale:
            torch.autograd.graph.increment_version(weight)

    def require(self, weight: Tensor, rows: Tensor, dense: Tensor | None) -> None:
        """Make sure, before a step writes anything, that the ``rows`` of a gradient are settled.

        ``dense``: the gradient (N, D), where it was a dense one of all rows: rows of zeros need not have been read.

        Raises:
            RuntimeError: a row is not settled, so its gradient was computed from a value that lags.
        """
        self._follow(weight)
        if _several_ranks():
            self.settle(weight, rows if dense is None else None)
        behind = self.last.index_select(0, rows).abs_() != self.now
        if dense is not None and behind.any():
            behind &= dense.count_nonzero(dim=1) > 0
        if behind.any():
            row = int(rows[behind.nonzero()[0, 0]])
            raise RuntimeError(
                f"{int(behind.sum())} rows in the gradient of {registry.describe(weight)} were looked up before they "
                f"were up to date (the first is row {row}, {self.now - abs(int(self.last[row]))} steps behind), which "
                "untouched='exact' cannot make good. Was it a lookup past catembed's layer, such as "
                "F.embedding(ids, layer.weight) or torch's own nn.Embedding (use catembed.convert), or one in eval "
                "mode (call train() first), or a use of the whole weight (call optimizer.flush() before it), or a "
                "backward delayed past another step?"
            )
        if dense is not None:
            self.settle(weight)

    def advance(
        self,
        weight: Tensor,
        state: Tensor | None,
        step: tuple[float, ...],
        rows: Tensor | None,
        rounding: int | None,
    ) -> None:
        """Note that a step has been taken; ``rows`` (None: all) had a gradient, to all others it does ``step``.

        ``state``: as the kernel takes it, None if this step has none; ``rounding``: the seed of this step, or None.
        """
        self._state = self._state if state is None else state
        self._rounding = rounding
        if self._known == LONGEST:
            self.settle(weight)  # of the rows that did not have a gradient now
        self.now += 1
        if rows is None:
            self.last.fill_(self.now)
            self._known = 0
            return
        self.last.index_fill_(0, rows, self.now)
        if self._known == len(self._history):
            longer = torch.empty((max(256, 2 * self._known), len(step)), dtype=torch.float64)
            if self._known:
                longer[: self._known] = self._history
            self._history = longer
        self._history[self._known] = torch.tensor(step, dtype=torch.float64)
        self._known += 1

    def _follow(self, weight: Tensor) -> None:
        """Go where the weight went: to another device, or to more rows, which are settled from the start."""
        self.last = self.last.to(weight.device)
        known = len(self.last)
        if known != len(weight):
            self.last = grow_rows(self.last, len(weight))
            self.last[known:] = -self.now


def _several_ranks() -> bool:
    distributed = torch.distributed
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def settler_of(weight: Tensor, owner: torch.optim.Optimizer | None = None) -> Settler | None:
    """The settler of ``weight``, if some optimiser keeps it exact; with ``owner``, if that one does."""
    settler = _settlers.get(weight) if _in_use else None
    return settler if settler is None or owner is None or settler.owner() is owner else None


def settle(weight: Tensor, ids: Tensor | None = None) -> None:
    """Bring the rows ``ids`` (None: all rows) of ``weight`` up to date, if some optimiser keeps it exact."""
    settler = settler_of(weight)
    if settler is not None:
        settler.settle(weight, ids)


def attach(owner: torch.optim.Optimizer, rule: str, weight: Tensor, touched: bool) -> Settler:
    """A settler of ``weight`` for ``owner``; all its rows are settled.

    Raises:
        RuntimeError: another optimiser keeps this weight exact.
    """
    global _in_use
    before = settler_of(weight)
    if before is not None and before.owner() is not None:
        raise RuntimeError(
            f"{registry.describe(weight)} is trained by two optimizers with untouched='exact'; only one can apply the "
            "steps that rows have missed: delete one of them, or give the table to one only"
        )
    settle(weight)
    _settlers[weight] = settler = Settler(owner, rule, weight, touched)
    _in_use = True
    registry.keep_exact(weight, True)
    return settler


def drop(owner: torch.optim.Optimizer, weight: Tensor) -> None:
    """Settle all rows of ``weight`` and forget its settler, if it is ``owner``'s."""
    settler = settler_of(weight, owner)
    if settler is not None:
        settler.settle(weight)
        del _settlers[weight]
        registry.keep_exact(weight, False)
