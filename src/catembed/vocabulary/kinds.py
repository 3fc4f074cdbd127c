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

from catembed.errors import VocabularyError
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


def validate(array: pa.Array | pa.ChunkedArray, *, full: bool = True) -> None:
    """Raise ``VocabularyError`` where an Arrow array's memory is not sound; or, not ``full``, its outline is not."""
    try:
        array.validate(full=full)
    except pa.ArrowInvalid as error:
        raise VocabularyError(f"the Arrow column is damaged: {error}") from None


@dataclass(frozen=True, slots=True)
class Part:
    """A run of a column: values, or the dictionary that ``codes`` (int64) point into, where -1 is missing."""

    values: pa.Array
    codes: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.values) if self.codes is None else len(self.codes)

    def spread(self, facts: np.ndarray, missing: Any) -> np.ndarray:
        """One fact for each of ``values`` to one for each place, flat; ``missing`` where a code says so."""
        return facts if self.codes is None else np.append(facts, facts.dtype.type(missing))[self.codes]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of one kind, in runs that lie where they were given.

    Text may be in any of Arrow's layouts, and only its outline has been validated: kernels may read it, Arrow's own
    functions after ``check``. All other kinds are in their one Arrow type. ``kind`` is None where nothing tells it:
    every value is missing.
    """

    parts: tuple[Part, ...]
    shape: Shape
    kind: str | None

    def check(self) -> None:
        """Raise ``VocabularyError`` where the memory is not sound: offsets that leave it, text that is no UTF-8."""
        for part in self.parts:
            validate(part.values)

    def missing(self) -> np.ndarray:
        """Which places hold no value: bool, flat."""
        gone = [part.spread(part.values.is_null().to_numpy(zero_copy_only=False), True) for part in self.parts]
        return np.concatenate([np.zeros(0, bool), *gone])

    def plain(self) -> pa.Array:
        """The values of the column, flat, in the one Arrow type of its kind; checked."""
        self.check()
        arrow_type = ARROW_TYPES[self.kind or EMPTY]
        arrays = []
        for part in self.parts:
            values = part.values.cast(arrow_type)
            arrays.append(values if part.codes is None else values.take(pa.array(part.codes, mask=part.codes < 0)))
        return arrays[0] if len(arrays) == 1 else pa.concat_arrays(arrays or [pa.array([], arrow_type)])

    def take(self, positions: np.ndarray) -> pa.Array:
        """The values at these flat positions, in the one Arrow type of their kind; checked."""
        if len(self.parts) == 1 and (codes := self.parts[0].codes) is not None:
            self.check()
            part, codes = self.parts[0], codes[positions]
            return part.values.cast(ARROW_TYPES[self.kind or EMPTY]).take(pa.array(codes, mask=codes < 0))
        return self.plain().take(pa.array(positions))

    def first(self, places: np.ndarray) -> tuple[int, Any]:
        """The first place that this flat bool array marks, and its value."""
        place = int(places.argmax())
        return place, self.take(np.array([place]))[0].as_py()
