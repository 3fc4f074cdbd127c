"""The progress of training: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from catembed.cli.output import duration


class Watch:
    """What ``fit`` reports to: a context manager to be called with each ``Plan`` and ``Progress``."""

    def __init__(self, screen: Console, show_plan: Callable[[Any], None]) -> None:
        self._screen, self._show_plan = screen, show_plan
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: Any) -> None:
        """Show what ``fit`` has to say: the plan once, then how far training is."""
        from catembed.tabular import Plan

        if isinstance(event, Plan):
            self._show_plan(event)
            return
        if self._screen.is_terminal:
            self._move_bar(event)
        if event.validation is not None:
            note = "  best so far" if event.best else ""
            self._screen.print(
                f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}  validation {event.validation:.4f}  "
                f"{event.rows_per_second:,.0f} rows/s  {duration(event.seconds_left)} left{note}",
                soft_wrap=True,
            )

    def _move_bar(self, event: Any) -> None:
        if self._bar is None or self._task is None:
            self._bar = Progress(
                TextColumn("training"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
                console=self._screen,
                transient=True,
            )
            self._task = self._bar.add_task("training", total=event.steps, told="")
            self._bar.start()
        told = f"loss {event.loss:.4f}  {event.rows_per_second:,.0f} rows/s  {duration(event.seconds_left)} left"
        self._bar.update(self._task, completed=event.step, told=told)
