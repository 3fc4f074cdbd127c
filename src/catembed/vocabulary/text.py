"""How values and positions are written in messages: short, exact, and never a page of data."""

import datetime as dt

import numpy as np

_LONGEST = 60

EMPTY = "empty"  # the kind of a vocabulary made from no values at all: nothing tells what it would hold

# What to do about a column that has a list in each row, where each row must be one value.
HOLDS_BAGS = "a CategoryEmbedding made with pooling= takes them as bags of values"

PLURALS = {
    "string": "strings",
    "bytes": "bytes",
    "integer": "integers",
    "boolean": "booleans",
    "date": "dates",
    "timestamp": "timestamps without a time zone",
    "timestamp[UTC]": "timestamps with a time zone",
}


class InBags(tuple[int, ...]):
    """The shape ``(n,)`` of values that stand in bags, one after the other: messages tell the bag and the place in it.

    >>> where(3, InBags(np.array([0, 2, 2, 5]))), where_all(np.array([1, 2]), InBags(np.array([0, 2, 2, 5])))
    (' at [2, 1]', ' at [0, 1], [2, 0]')
    """

    offsets: np.ndarray

    def __new__(cls, offsets: np.ndarray) -> "InBags":
        """The shape of as many values as the last of these offsets (int64) says."""
        self = super().__new__(cls, (int(offsets[-1]),))
        self.offsets = offsets
        return self

    def place(self, position: int) -> list[int]:
        """The bag that holds the value at this position, and where in the bag it stands."""
        bag = int(np.searchsorted(self.offsets, position, side="right")) - 1
        return [bag, position - int(self.offsets[bag])]


def show(value: object) -> str:
    """A value as messages quote it: its repr, cut where it is long; dates and times in ISO form."""
    if isinstance(value, (dt.date, np.datetime64)):
        return str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, bytes)) and len(value) > _LONGEST:
        return f"{value[: _LONGEST - 20]!r}… ({len(value):,} long)"
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def where(position: int, shape: tuple[int, ...]) -> str:
    """Where the value with this flat position stands in a column of this shape; a lone value has no place.

    >>> where(3, (7,)), where(3, (2, 2)), where(0, ())
    (' at position 3', ' at position (1, 1)', '')
    """
    if isinstance(shape, InBags):
        return f" at {_index(position, shape)}"
    return f" at position {_index(position, shape)}" if shape else ""


def where_all(positions: np.ndarray, shape: tuple[int, ...]) -> str:
    """Where these values stand: the first few flat positions, in a column of this shape.

    >>> where_all(np.arange(9), (9,))
    ' at positions 0, 1, 2, 3, 4, …'
    """
    if len(positions) == 1 or not shape:
        return where(int(positions[0]), shape)
    some = ", ".join(_index(int(position), shape) for position in positions[:5])
    noun = "" if isinstance(shape, InBags) else "positions "
    return f" at {noun}{some}{', …' if len(positions) > 5 else ''}"


def number_of(number: int, one: str, many: str | None = None) -> str:
    """A number and its noun: ``1 category``, ``2,000 categories``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def _index(position: int, shape: tuple[int, ...]) -> str:
    if isinstance(shape, InBags):
        return str(shape.place(position))
    if len(shape) == 1:
        return str(position)
    return f"({', '.join(str(place) for place in np.unravel_index(position, shape))})"
