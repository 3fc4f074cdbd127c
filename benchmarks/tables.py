"""What the pages of results share: rows, Markdown tables, verdicts."""

from collections.abc import Iterable

Row = dict[str, str]


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *map(list, rows)]]
    return "\n".join(lines) + "\n"


def verdict(ratio: float, bar: float, moonshot: float) -> str:
    """What a ratio has reached."""
    return "moonshot" if ratio >= moonshot else "bar" if ratio >= bar else "**missed**"
