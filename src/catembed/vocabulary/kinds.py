"""The kinds of category a vocabulary can hold, and a column of one kind: what this folder's files share.

Every kind has one Arrow type, whatever library its values came from, so equal values have equal bytes:
strings and bytes with 64-bit offsets, integers as int64, dates as days, timestamps as microseconds (in UTC
where they have a time zone). Values of different kinds are never equal: ``1`` is neither ``"1"`` nor ``True``,
and a date is no timestamp.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from catembed.vocabulary.text import EMPTY

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

VARIABLE_WIDTH = ("string", "bytes")

ALLOWED = (
    "categories are strings, bytes, integers, booleans, dates or timestamps: convert the values first, for "
    "example to strings"
)

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of one kind in its one Arrow type.

    ``values`` holds the values themselves or, where ``codes`` is given, the dictionary that the codes point
    into (-1: missing). ``kind`` is None where nothing tells it: every value is missing.
    """

    values: pa.Array
    codes: np.ndarray | None
    shape: Shape
    kind: str | None

    def spread(self, ids: np.ndarray) -> np.ndarray:
        """One id for each of ``values`` to one for each place of the column, flat; -1 where missing."""
        return ids if self.codes is None else np.append(ids, -1)[self.codes]

    def missing(self) -> np.ndarray:
        """Which places hold no value: bool, flat."""
        gone = self.values.is_null().to_numpy(zero_copy_only=False)
        return gone if self.codes is None else np.append(gone, True)[self.codes]

    def plain(self) -> pa.Array:
        """The values of the column, flat, without a dictionary."""
        if self.codes is None:
            return self.values
        return self.values.take(pa.array(self.codes, mask=self.codes < 0))

    def take(self, positions: np.ndarray) -> pa.Array:
        """The values at these flat positions, none of which is missing."""
        return self.values.take(pa.array(positions if self.codes is None else self.codes[positions]))

    def first(self, places: np.ndarray) -> tuple[int, Any]:
        """The first place that this flat bool array marks, and its value."""
        place = int(places.argmax())
        return place, self.take(np.array([place]))[0].as_py()
