"""NumPy arrays and Arrow arrays, flat, to the one Arrow type of their kind.

Nothing is rounded, wrapped or truncated on the way: what does not fit is refused with its position. Floats
count as integers where every one of them is a whole number small enough to be exact; NaN and NaT are missing.
Timestamps finer than a microsecond, and years outside 1 to 9999, are refused.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from catembed.errors import VocabularyError
from catembed.vocabulary.kinds import ARROW_TYPES, show, show_position

Shape = tuple[int, ...]

_DATE_UNITS = ("Y", "M", "W", "D")


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
    raise VocabularyError(f"a NumPy array of dtype {flat.dtype} holds no categories; {_ALLOWED}")


def from_arrow(array: pa.Array, shape: Shape) -> tuple[pa.Array, str | None]:
    """An Arrow array (not dictionary-encoded) in the one type of its kind, and that kind."""
    kind_type = array.type
    if pa.types.is_null(kind_type):
        return array, None
    for kind, test in _CAST:
        if test(kind_type):
            return array.cast(ARROW_TYPES[kind]), kind
    if pa.types.is_integer(kind_type) or pa.types.is_floating(kind_type):
        return from_numpy(*_to_numpy(array), shape)
    if pa.types.is_date32(kind_type):
        flat, missing = _to_numpy(array.view(pa.int32()))
        return _calendar(flat.astype("M8[D]"), missing, shape)
    if pa.types.is_date64(kind_type):
        flat, missing = _to_numpy(array.view(pa.int64()))
        return _calendar(flat.view("M8[ms]"), missing, shape, as_date=True)
    if pa.types.is_timestamp(kind_type):
        flat, missing = _to_numpy(array.view(pa.int64()))
        return _calendar(flat.view(f"M8[{kind_type.unit}]"), missing, shape, aware=kind_type.tz is not None)
    raise VocabularyError(f"an Arrow column of type {kind_type} holds no categories; {_ALLOWED}")


_ALLOWED = (
    "categories are strings, bytes, integers, booleans, dates or timestamps: convert the column first, "
    "for example to strings"
)

_CAST = (
    ("string", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t)),
    (
        "bytes",
        lambda t: (
            pa.types.is_binary(t)
            or pa.types.is_large_binary(t)
            or pa.types.is_binary_view(t)
            or pa.types.is_fixed_size_binary(t)
        ),
    ),
    ("boolean", pa.types.is_boolean),
)


def _to_numpy(array: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    if not array.null_count:
        return array.to_numpy(zero_copy_only=False), None
    missing = array.is_null().to_numpy(zero_copy_only=False)
    return pc.fill_null(array, pa.scalar(0, array.type)).to_numpy(zero_copy_only=False), missing


def _integers(flat: np.ndarray, missing: np.ndarray | None, shape: Shape) -> pa.Array:
    if flat.dtype == np.uint64:
        too_large = flat > np.uint64(np.iinfo(np.int64).max)
        _refuse_first(too_large, flat, missing, shape, "is beyond 2**63 - 1; use strings for such integers")
    return pa.array(flat.astype(np.int64, copy=False), mask=missing)


def _whole_floats(flat: np.ndarray, missing: np.ndarray | None, shape: Shape) -> tuple[pa.Array, str | None]:
    gone = np.isnan(flat) if missing is None else np.isnan(flat) | missing
    if gone.all():
        return pa.nulls(len(flat)), None
    flat = np.where(gone, 0, flat)
    _refuse_first(
        flat != np.floor(flat),
        flat,
        None,
        shape,
        "is no whole number: floats are no categories; round, bin or convert the column to strings",
    )
    exact = 2.0 ** (np.finfo(flat.dtype).nmant + 1)
    reason = f"is too large for {flat.dtype} to tell integers apart (allowed: below {exact:.0f}); use integers"
    _refuse_first(~(np.abs(flat) < exact), flat, None, shape, reason)
    return pa.array(flat.astype(np.int64), mask=gone), "integer"


def _calendar(
    flat: np.ndarray, missing: np.ndarray | None, shape: Shape, *, aware: bool = False, as_date: bool = False
) -> tuple[pa.Array, str | None]:
    gone = np.isnat(flat) if missing is None else np.isnat(flat) | missing
    unit = np.datetime_data(flat.dtype)[0]
    if unit == "generic":
        return pa.nulls(len(flat)), None  # NumPy gives no unit only where every value is NaT
    as_date = as_date or unit in _DATE_UNITS
    years = flat.astype("M8[Y]").astype(np.int64) + 1970
    reason = "is outside the years 1 to 9999"
    _refuse_first((years < 1) | (years > 9999), flat, gone, shape, reason)
    flat = np.where(gone, np.datetime64(0, unit), flat)
    ticks = flat.astype("M8[D]" if as_date else "M8[us]")
    reason = "is a date with a time of day" if as_date else "is finer than a microsecond: round the column to 'us'"
    _refuse_first(ticks.astype(flat.dtype) != flat, flat, None, shape, reason)
    if as_date:
        return pa.array(ticks.astype(np.int32), mask=gone).view(pa.date32()), "date"
    kind = "timestamp[UTC]" if aware else "timestamp"
    return pa.array(ticks.astype(np.int64), mask=gone).view(ARROW_TYPES[kind]), kind


def _refuse_first(bad: np.ndarray, flat: np.ndarray, missing: np.ndarray | None, shape: Shape, reason: str) -> None:
    if missing is not None:
        bad = bad & ~missing
    if bad.any():
        first = int(bad.argmax())
        value = flat[first]
        shown = str(value) if flat.dtype.kind == "M" else show(value.item())
        raise VocabularyError(f"{shown} at {show_position(first, shape)} {reason}")
