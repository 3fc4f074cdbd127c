"""NumPy arrays and Arrow arrays, flat, to the one Arrow type of their kind.

Nothing is rounded, wrapped or truncated on the way: what does not fit is refused with its position. Floats
count as integers where every one of them is a whole number small enough to be exact; NaN and NaT are missing.
Timestamps finer than a microsecond, and years outside 1 to 9999, are refused.
"""

import numpy as np
import pyarrow as pa
from pyarrow import types

from catembed.errors import VocabularyError
from catembed.vocabulary.kinds import ALLOWED, ARROW_TYPES, Shape
from catembed.vocabulary.text import show, where

DATE_UNITS = ("Y", "M", "W", "D")

_STRINGS = (pa.string(), pa.large_string(), pa.string_view())
_BYTES = (pa.binary(), pa.large_binary(), pa.binary_view())


def from_numpy(flat: np.ndarray, missing: np.ndarray | None, shape: Shape) -> tuple[pa.Array, str | None]:
    """A flat NumPy array of booleans, numbers or datetime64 as an Arrow array, and its kind."""
    letter = flat.dtype.kind
    if not flat.dtype.isnative:
        flat = flat.astype(flat.dtype.newbyteorder("="))
    if letter == "b":
        return pa.array(flat, mask=missing), "boolean"
    if letter in "iu":
        return _integers(flat, missing, shape), "integer"
    if letter == "f":
        return _whole_floats(flat, missing, shape)
    if letter == "M":
        return _calendar(flat, missing, shape)
    raise VocabularyError(f"a NumPy array of dtype {flat.dtype} holds no categories; {ALLOWED}")


def kind_of_text(given: pa.DataType) -> str | None:
    """The kind of an Arrow type of text or bytes, None for all other types."""
    if given in _STRINGS:
        return "string"
    return "bytes" if given in _BYTES or types.is_fixed_size_binary(given) else None


def from_arrow(array: pa.Array, shape: Shape) -> tuple[pa.Array, str | None]:
    """An Arrow array, neither text nor encoded by a dictionary, in the one type of its kind, and that kind."""
    given = array.type
    if types.is_null(given):
        return array, None
    if types.is_boolean(given):
        return array, "boolean"
    if types.is_integer(given) or types.is_floating(given):
        return from_numpy(*_to_numpy(array), shape)
    if types.is_date32(given):
        days, missing = _to_numpy(array.view(pa.int32()))
        return _calendar(days.astype("M8[D]"), missing, shape)
    if types.is_date64(given):
        ticks, missing = _to_numpy(array.view(pa.int64()))
        return _calendar(ticks.view("M8[ms]"), missing, shape, as_date=True)
    if types.is_timestamp(given):
        ticks, missing = _to_numpy(array.view(pa.int64()))
        return _calendar(ticks.view(f"M8[{given.unit}]"), missing, shape, aware=given.tz is not None)
    raise VocabularyError(f"an Arrow column of type {given} holds no categories; {ALLOWED}")


def _to_numpy(array: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    if not array.null_count:
        return array.to_numpy(), None
    missing = array.is_null().to_numpy(zero_copy_only=False)
    return array.fill_null(pa.scalar(0, array.type)).to_numpy(), missing


def _integers(flat: np.ndarray, missing: np.ndarray | None, shape: Shape) -> pa.Array:
    if flat.dtype == np.uint64:
        _refuse_first(flat > np.uint64(2**63 - 1), flat, missing, shape, "does not fit int64; use strings")
    return pa.array(flat.astype(np.int64, copy=False), mask=missing)


def _whole_floats(flat: np.ndarray, missing: np.ndarray | None, shape: Shape) -> tuple[pa.Array, str | None]:
    gone = np.isnan(flat) if missing is None else np.isnan(flat) | missing
    if gone.all():
        return pa.nulls(len(flat)), None
    exact = largest_exact(flat.dtype)
    reason = f"is too large for {flat.dtype} to tell integers apart (they must be below {exact:.0f})"
    _refuse_first(flat != np.floor(flat), flat, gone, shape, NO_WHOLE_NUMBER)
    _refuse_first(~(np.abs(flat) < exact), flat, gone, shape, reason)
    return pa.array(np.where(gone, 0, flat).astype(np.int64), mask=gone), "integer"


NO_WHOLE_NUMBER = "is no whole number, and fractions are no categories; round, bin or convert to strings"


def largest_exact(dtype: np.dtype | type[np.generic]) -> float:
    """Below this, every integer has a float of its own; above it, two integers may have become one."""
    return min(2.0 ** (np.finfo(dtype).nmant + 1), 2.0**63)


def _calendar(
    flat: np.ndarray, missing: np.ndarray | None, shape: Shape, *, aware: bool = False, as_date: bool = False
) -> tuple[pa.Array, str | None]:
    gone = np.isnat(flat) if missing is None else np.isnat(flat) | missing
    unit = np.datetime_data(flat.dtype)[0]
    if unit == "generic":
        return pa.nulls(len(flat)), None  # NumPy gives no unit only where every value is NaT
    as_date = as_date or unit in DATE_UNITS
    years = year_of(flat)
    _refuse_first((years < 1) | (years > 9999), flat, gone, shape, "is outside the years 1 to 9999")
    ticks = flat.astype("M8[D]" if as_date else "M8[us]")
    reason = "is a date with a time of day" if as_date else TOO_FINE
    _refuse_first(ticks.astype(flat.dtype) != flat, flat, gone, shape, reason)
    kind = "date" if as_date else "timestamp[UTC]" if aware else "timestamp"
    whole = np.where(gone, 0, ticks.astype(np.int64)).astype(np.int32 if as_date else np.int64)
    return pa.array(whole, mask=gone).view(ARROW_TYPES[kind]), kind


def year_of(times: np.ndarray) -> np.ndarray:
    """The year of each time, whatever its unit; NumPy's own step from fs and as to years overflows."""
    if np.datetime_data(times.dtype)[0] in ("ps", "fs", "as"):
        times = times.astype("M8[us]")
    return times.astype("M8[Y]").astype(np.int64) + 1970


TOO_FINE = "is finer than a microsecond; round it to microseconds"


def _refuse_first(bad: np.ndarray, flat: np.ndarray, missing: np.ndarray | None, shape: Shape, reason: str) -> None:
    if missing is not None:
        bad = bad & ~missing
    if bad.any():
        first = int(bad.argmax())
        raise VocabularyError(f"{show(flat[first])}{where(first, shape)} {reason}")
