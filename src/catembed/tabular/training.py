"""The training loop: whole batches gathered from arrays in memory, one cycle of the learning rate, the best epoch kept.

Categories of few rows are hidden at random: a batch then holds the unknown row in their place, which so learns
what a category it has never seen is like. Interrupted with Ctrl-C, training ends with the best weights so far.

Source of the schedule: Smith & Topin, "Super-Convergence", arXiv:1708.07120.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from catembed.tabular.model import Inputs, Network
from catembed.tabular.objective import Objective

_EPOCHS = 6, 100  # at least and at most
_STEPS = 1500  # a small table is gone through more often, to come to so many
_PATIENCE = 2, 0.2  # epochs without a better validation loss: at least, and as a part of all
_SCORED = 16384  # rows of a batch that is only looked at
_HIDDEN_AT_MOST = 0.5
_FEW_ROWS = 10.0  # a category of so many rows is hidden half as often as one of none
_EVERY = 0.1  # seconds between two reports


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; where epochs or batch size are None, they follow from the number of rows.

    With a ``penalty``, the loss has penalty / rows times the sum of the squares of the tables, as under a normal prior,
    in place of AdamW's decay.
    """

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float = 2e-3
    decay: float = 1e-4
    table_decay: float = 10.0
    hide_rare: bool = True
    penalty: float | None = None

    def batch(self, rows: int) -> int:
        """The batch size for so many rows: about a hundred batches an epoch, between 32 and 2048.

        >>> [Recipe().batch(rows) for rows in (10, 5_000, 40_000, 10_000_000)]
        [10, 32, 256, 2048]
        """
        if self.batch_size is not None:
            return min(rows, self.batch_size)
        return min(rows, 2048, max(32, 2 ** round(math.log2(rows / 128))))

    def passes(self, rows: int) -> int:
        """How often so many rows are gone through at most.

        >>> [Recipe().passes(rows) for rows in (10, 5_000, 40_000, 10_000_000)]
        [100, 10, 10, 6]
        """
        if self.epochs is not None:
            return self.epochs
        fewest, most = _EPOCHS
        return min(most, max(fewest, math.ceil(_STEPS * self.batch(rows) / rows)))


@dataclass(frozen=True)
class Progress:
    """Where training stands. ``validation`` is the loss after the epoch that has just ended, else None."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    rows_per_second: float
    seconds_left: float
    validation: float | None = None
    best: bool = False


@dataclass(frozen=True)
class History:
    """How training went. ``losses`` are the validation losses, ``best`` is the epoch that was kept, from 1."""

    losses: list[float]
    best: int
    seconds: float
    rows_per_second: float
    interrupted: bool


def train(
    model: Network,
    objective: Objective,
    recipe: Recipe,
    rows: Inputs,
    targets: Tensor,
    valid: Inputs,
    valid_targets: Tensor,
    *,
    counts: Sequence[Tensor] = (),
    generator: torch.Generator,
    report: Callable[[Progress], None] = lambda progress: None,
) -> History:
    """Train in place; the model has the weights of the best epoch afterwards.

    Args:
        model: called with ``Inputs``, gives a list of outputs: the prediction first, then any that are trained beside
            it. ``model.tables()`` are its embedding weights.
        objective: the loss.
        recipe: how.
        rows: the training rows, and ``targets`` theirs.
        targets: see ``Objective.targets``.
        valid: the rows that decide which epoch is best, and ``valid_targets`` theirs.
        valid_targets: see ``Objective.targets``.
        counts: for each of the first columns of ``ids``, how many training rows each id has; in those the rare ones
            are hidden.
        generator: of the order of rows and of what is hidden. Dropout draws from torch's global one.
        report: called about ten times a second, and after each epoch.
    """
    number, size = len(targets), recipe.batch(len(targets))
    steps = max(1, number // size)  # the last, short batch of an epoch waits for another shuffle
    epochs = recipe.passes(number)
    patience = max(_PATIENCE[0], round(_PATIENCE[1] * epochs))
    optimizer = _optimizer(model, recipe, number)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, _one_cycle(epochs * steps))
    hide = _Hiding(counts, generator) if recipe.hide_rare and counts else None
    clock = _Clock(epochs, steps, size, report)
    losses: list[float] = []
    best, kept, interrupted = 0, None, False
    try:
        for epoch in range(1, epochs + 1):
            model.train()
            order = torch.randperm(number, generator=generator)
            for step in range(steps):
                chosen = order[step * size : (step + 1) * size]
                batch = rows.take(chosen)
                if hide is not None:
                    batch = batch._replace(ids=hide(batch.ids))
                parts = [objective.loss(each, targets[chosen]) for each in model(batch)]
                optimizer.zero_grad()
                torch.stack(parts).sum().backward()
                optimizer.step()
                schedule.step()
                clock.tick(epoch, step + 1, parts[0])
            losses.append(float(objective.loss(outputs(model, valid), valid_targets)))
            better = kept is None or losses[-1] < losses[best - 1]
            if better:
                best, kept = epoch, copy.deepcopy(model.state_dict())
            clock.tell(epoch, losses[-1], better)
            if epoch - best >= patience:
                break
    except KeyboardInterrupt:
        interrupted = True
    if kept is None:  # interrupted within the first epoch: what there is, is the best
        losses.append(float(objective.loss(outputs(model, valid), valid_targets)))
        best = 1
    else:
        model.load_state_dict(kept)
    model.eval()
    return History(losses, best, clock.seconds, clock.rows_per_second, interrupted)


@torch.no_grad()
def outputs(model: Network, rows: Inputs) -> Tensor:
    """The model's prediction for every row, (rows, num_outputs), in evaluation mode."""
    model.eval()
    order = torch.arange(len(rows.ids))
    return torch.cat([model(rows.take(each))[0] for each in order.split(_SCORED)])


def _optimizer(model: Network, recipe: Recipe, rows: int) -> torch.optim.Optimizer:
    tables = model.tables()
    others = [each for each in model.parameters() if not any(each is table for table in tables)]
    if recipe.penalty is not None:
        groups = [{"params": tables, "weight_decay": 2 * recipe.penalty / rows}, {"params": others}]
        return torch.optim.Adam(groups, recipe.learning_rate, fused=True)
    groups = [
        {"params": tables, "weight_decay": recipe.table_decay},
        {"params": others, "weight_decay": recipe.decay},
    ]
    return torch.optim.AdamW(groups, recipe.learning_rate, fused=True)


def _one_cycle(steps: int) -> Callable[[int], float]:
    """The learning rate by step, as a part of the highest: up for a tenth of the steps, then down a cosine to 0."""
    rise = max(1, steps // 10)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return (1 + math.cos(math.pi * min(1.0, (step - rise) / max(1, steps - rise)))) / 2

    return factor


class _Hiding:
    """Puts the unknown row in the place of rare categories, at random."""

    def __init__(self, counts: Sequence[Tensor], generator: torch.Generator) -> None:
        self.starts = torch.tensor([0, *map(len, counts)]).cumsum(0)[:-1]
        self.odds = _HIDDEN_AT_MOST / (1 + torch.cat(list(counts)).float() / _FEW_ROWS)
        self.odds[self.starts] = 0.0  # id 0 is the missing row, which is not a category
        self.generator = generator

    def __call__(self, ids: Tensor) -> Tensor:
        some = ids[:, : len(self.starts)]
        hidden = torch.rand(some.shape, generator=self.generator) < self.odds[some + self.starts]
        shown = torch.where(hidden, 1, some)  # id 1 is the unknown row
        return shown if some.shape == ids.shape else torch.cat([shown, ids[:, len(self.starts) :]], 1)


class _Clock:
    """Seconds, rows per second, and the reports."""

    def __init__(self, epochs: int, steps: int, size: int, report: Callable[[Progress], None]) -> None:
        self.epochs, self.steps, self.size, self.report = epochs, steps, size, report
        self.start = self.last = time.perf_counter()
        self.done = 0
        self.loss = math.nan

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.start

    @property
    def rows_per_second(self) -> float:
        return self.done * self.size / max(self.seconds, 1e-9)

    def tick(self, epoch: int, step: int, loss: Tensor) -> None:
        self.done += 1
        now = time.perf_counter()
        if now - self.last < _EVERY and step < self.steps:
            return
        self.last = now
        latest = float(loss.detach())
        self.loss = latest if math.isnan(self.loss) else 0.9 * self.loss + 0.1 * latest
        self.report(self._progress(epoch))

    def tell(self, epoch: int, validation: float, best: bool) -> None:
        self.report(replace(self._progress(epoch), validation=validation, best=best))

    def _progress(self, epoch: int) -> Progress:
        total = self.epochs * self.steps
        left = (total - self.done) * self.seconds / max(self.done, 1)
        return Progress(epoch, self.epochs, self.done, total, self.loss, self.rows_per_second, left)
