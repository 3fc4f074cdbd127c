"""The kinds of category a vocabulary can hold, and how their values are written in messages.

The base module of this folder. Every kind has one Arrow type, whatever library its values came from, so equal
values have equal bytes: strings and bytes with 64-bit offsets, integers as int64, dates as days, timestamps
as microseconds (in UTC where they have a time zone). Values of different kinds are never equal: ``1`` is
neither ``"1"`` nor ``True``, and a date is no timestamp.
"""

import datetime as dt
import math
from collections.abc import Iterable

import pyarrow as pa

EMPTY = "empty"  # a vocabulary made from no values at all: nothing tells what it would hold

ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.large_string(),
    "bytes": pa.large_binary(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp[UTC]": pa.timestamp("us", tz="UTC"),
    EMPTY: pa.null(),
}

PLURALS = {
    "string": "strings",
    "bytes": "bytes",
    "integer": "integers",
    "boolean": "booleans",
    "date": "dates",
    "timestamp": "timestamps without a time zone",
    "timestamp[UTC]": "timestamps with a time zone",
    EMPTY: "no categories",
}

VARIABLE_WIDTH = ("string", "bytes")

_LONGEST_SHOWN = 60


def show(value: object) -> str:
    """A value as messages quote it: its repr, cut where it is long; dates and times in ISO form."""
    if isinstance(value, (str, bytes)) and len(value) > _LONGEST_SHOWN:
        return f"{value[: _LONGEST_SHOWN - 20]!r}… ({len(value)} long)"
    if isinstance(value, dt.date):
        return str(value)
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def show_position(flat: int, shape: tuple[int, ...]) -> str:
    """Where the value with flat index ``flat`` stands in a column of this shape, as messages say it.

    >>> show_position(3, (7,)), show_position(3, (2, 2)), show_position(0, ())
    ('position 3', 'position (1, 1)', 'the value itself')
    """
    if not shape:
        return "the value itself"
    if len(shape) == 1:
        return f"position {flat}"
    index = []
    for size in reversed(shape):
        flat, remainder = divmod(flat, size)
        index.append(remainder)
    return f"position ({', '.join(map(str, reversed(index)))})"


def show_positions(flats: Iterable[int], shape: tuple[int, ...], total: int) -> str:
    """The first few positions of ``total``, as messages list them."""
    shown = [show_position(flat, shape).removeprefix("position ") for flat in flats]
    if not shape:
        return shown[0]
    more = ", …" if total > len(shown) else ""
    return f"position{'s' if total > 1 else ''} {', '.join(shown)}{more}"


def size_of(shape: tuple[int, ...]) -> int:
    """How many values a column of this shape has."""
    return math.prod(shape)
