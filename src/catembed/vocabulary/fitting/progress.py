"""How far fitting is: a bar on a terminal, a line every few seconds elsewhere, on stderr."""

from __future__ import annotations

import threading
import time
from typing import Any

__all__ = ["Progress"]

_EVERY = 10.0  # seconds between lines where there is no terminal
_OFTEN = 0.1  # seconds between two movements of the bar


class Progress:
    """A context manager that is told of every batch.

    Args:
        size: how many bytes there are to read.
        shown: whether to show anything.
    """

    def __init__(self, size: int, shown: bool) -> None:
        self._size, self._shown = size, shown
        self._rows = self._done = 0
        self._lock = threading.Lock()
        self._start = self._told = time.monotonic()
        self._bar: Any = None

    def __enter__(self) -> Progress:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._console = Console(stderr=True)
            if self._console.is_terminal:
                columns = TextColumn("counting"), BarColumn(), TextColumn("{task.fields[told]}")
                self._bar = Progress(*columns, console=self._console, transient=True, auto_refresh=False)
                self._task = self._bar.add_task("counting", total=max(self._size, 1), told="")
                self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._shown and kind is None:
            self._say(f"counted {self._text()}")

    def __call__(self, rows: int, size: int) -> None:
        """Tell of a batch: its rows, and the bytes read for it. Any thread may call."""
        if not self._shown:
            return
        with self._lock:
            self._rows, self._done = self._rows + rows, self._done + size
            now = time.monotonic()
            if now - self._told < (_EVERY if self._bar is None else _OFTEN):
                return
            self._told = now
            text = f"{self._text()}{self._left(now)}"
            if self._bar is None:
                self._say(text)
            else:
                self._bar.update(self._task, completed=self._done, told=text, refresh=True)

    def _text(self) -> str:
        return f"{self._rows:,} rows  {self._rows / max(time.monotonic() - self._start, 1e-9):,.0f} rows/s"

    def _left(self, now: float) -> str:
        if not self._done:
            return ""
        seconds = round((now - self._start) * max(self._size - self._done, 0) / self._done)
        return f"  {seconds // 60}:{seconds % 60:02} left"

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, highlight=False)
