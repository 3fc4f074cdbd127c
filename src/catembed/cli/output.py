"""How the commands print: plain tables, on a terminal and in a pipe alike."""

from __future__ import annotations

import json
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_PIPED = 120  # columns, where there is no terminal to ask


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is: a column may be called ``[bold]`` or ``:apple:``."""
    made = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = _PIPED
    return made


def table(*headings: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table; the headings in ``right`` are of columns of numbers."""
    made = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        number = heading in right
        made.add_column(heading, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return made


def show(screen: Console, title: str, rows: Table) -> None:
    """Print a table under its title."""
    screen.print(title, style="bold", soft_wrap=True)
    screen.print(rows)


def print_json(content: Any) -> None:
    """JSON on standard output, and nothing else."""
    print(json.dumps(content, indent=1, ensure_ascii=False))


def figure(metric: str, value: float | None) -> str:
    """A metric: four decimals, except for errors in the target's unit, which may be large or small.

    >>> figure("AUC", 0.73954), figure("RMSE", 12345.6), figure("MAE", 0.000012345), figure("R²", None)
    ('0.7395', '12,346', '1.234e-05', '–')
    """
    if value is None:
        return "–"
    if metric in ("RMSE", "MAE"):
        return f"{value:,.0f}" if value >= 1000 else f"{value:#.4g}"
    return f"{round(value, 4) + 0.0:.4f}"  # + 0.0 turns -0.0 into 0.0


def duration(seconds: float) -> str:
    """Seconds as people say them.

    >>> duration(0.42), duration(12.3), duration(185)
    ('0.4 s', '12 s', '3 min 5 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60} min {whole % 60} s"
