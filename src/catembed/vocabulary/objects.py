"""Python values, flat, to one Arrow array of one kind.

``None``, NaN, NaT and ``pandas.NA`` are missing. All other values must be of one kind: Arrow alone would turn
``["a", b"b"]`` into bytes and ``[1, 2.5]`` into floats without a word, so the kinds are told apart here first.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from catembed.errors import VocabularyError
from catembed.kernels.dispatch import CPU, kernel
from catembed.vocabulary.buffers import DATE_UNITS, NO_WHOLE_NUMBER, TOO_FINE, largest_exact, year_of
from catembed.vocabulary.kinds import ALLOWED, ARROW_TYPES, Shape
from catembed.vocabulary.text import HOLDS_BAGS, PLURALS, InBags, show, where

# Types whose every value is of one kind: a column made of these alone needs no look at each value.
_PLAIN: dict[type, str | None] = {
    type(None): None,
    str: "string",
    np.str_: "string",
    bytes: "bytes",
    np.bytes_: "bytes",
    bool: "boolean",
    np.bool_: "boolean",
    int: "integer",
    dt.date: "date",
    **{np.dtype(code).type: "integer" for code in "bhilqBHILQ"},
}
_SUBCLASSES = ((str, "string"), (bytes, "bytes"), ((int, np.integer), "integer"))

_INT64 = range(-(2**63), 2**63)


def from_objects(values: list[Any], types: set[type], shape: Shape) -> tuple[pa.Array, str | None]:
    """A list of Python, NumPy or pandas scalars of these types as an Arrow array, and its kind (None: all missing)."""
    kind = _common_kind(values, types, shape)
    if kind is None:
        return pa.nulls(len(values)), None
    if not types <= _PLAIN.keys():
        values = [_to_python(value) for value in values]
    try:
        return pa.array(values, type=ARROW_TYPES[kind]), kind
    except (UnicodeEncodeError, OverflowError, pa.ArrowException) as error:
        raise VocabularyError(_explain(values, shape, error)) from None


def from_texts(values: Sequence[Any]) -> pa.Array | None:
    """A list that holds nothing but strings as an Arrow array, several times faster; None for all other lists.

    Joining looks at each string once, where Arrow, and asking for its type, would each wait for it to come from memory.
    """
    if not values or not isinstance(values[0], str):
        return None
    try:
        joined = "\0".join(values).encode()
    except (TypeError, UnicodeEncodeError):
        return None
    parts = kernel("split", CPU)(joined, len(values))
    if parts is None:  # one of them holds a NUL
        return None
    octets, offsets = parts
    return pa.Array.from_buffers(
        ARROW_TYPES["string"], len(values), [None, pa.py_buffer(offsets), pa.py_buffer(octets)]
    )


def is_missing(value: object) -> bool:
    """Whether a scalar stands for a missing value: None, NaN, NaT, ``pandas.NA``."""
    if value is None:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    if isinstance(value, np.datetime64):
        return bool(np.isnat(value))
    return type(value).__name__ in ("NAType", "NaTType") and type(value).__module__.startswith("pandas.")


def _common_kind(values: list[Any], types: set[type], shape: Shape) -> str | None:
    if types <= _PLAIN.keys():
        kinds = {_PLAIN[t] for t in types} - {None}
        if len(kinds) <= 1:
            return next(iter(kinds), None)
    first: dict[str, int] = {}
    for position, value in enumerate(values):
        try:
            kind = _kind_of(value)
        except VocabularyError as fact:
            advice = f"; {_about_lists(shape)}" if isinstance(value, (list, tuple, np.ndarray)) else ""
            raise VocabularyError(f"{show(value)}{where(position, shape)} {fact}{advice}") from None
        if kind is not None:
            first.setdefault(kind, position)
    if len(first) > 1:
        found = " and ".join(f"{PLURALS[kind]} ({show(values[at])}{where(at, shape)})" for kind, at in first.items())
        raise VocabularyError(f"mixed types: {found}; convert all values to one type")
    return next(iter(first), None)


def _about_lists(shape: Shape) -> str:
    return "a bag is a list of values, one level deep" if isinstance(shape, InBags) else HOLDS_BAGS


def _kind_of(value: object) -> str | None:
    """The kind of one scalar, None where it is missing; raises the reason why it is no category."""
    if type(value) in _PLAIN:
        return _PLAIN[type(value)]
    if is_missing(value):
        return None
    for types, kind in _SUBCLASSES:
        if isinstance(value, types):
            return kind
    if isinstance(value, (float, np.floating)):
        return _kind_of_float(value)
    if isinstance(value, dt.datetime):
        if getattr(value, "nanosecond", 0):  # pandas.Timestamp; Arrow would cut it off
            raise VocabularyError(TOO_FINE)
        return "timestamp" if value.utcoffset() is None else "timestamp[UTC]"
    if isinstance(value, np.datetime64):
        return _kind_of_datetime64(value)
    name = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise VocabularyError(f"is of type {name}; {ALLOWED}")


def _kind_of_float(value: float | np.floating) -> str:
    if value != np.floor(value):
        raise VocabularyError(NO_WHOLE_NUMBER)
    exact = largest_exact(np.result_type(value))
    if not abs(value) < exact:
        raise VocabularyError(f"is too large for a float to tell integers apart (they must be below {exact:.0f})")
    return "integer"


def _kind_of_datetime64(value: np.datetime64) -> str:
    if not 1 <= year_of(np.array(value)) <= 9999:
        raise VocabularyError("is outside the years 1 to 9999")
    if _is_date(value):
        return "date"
    if value.astype("M8[us]").astype(value.dtype) != value:
        raise VocabularyError(TOO_FINE)
    return "timestamp"


def _is_date(value: np.datetime64) -> bool:
    return np.datetime_data(value.dtype)[0] in DATE_UNITS


def _to_python(value: Any) -> Any:
    """What Arrow understands: None for every missing value, Python's own dates and times for NumPy's."""
    if is_missing(value):
        return None
    if isinstance(value, np.datetime64):
        return value.astype("M8[D]" if _is_date(value) else "M8[us]").item()
    return value


def _explain(values: list[Any], shape: Shape, error: Exception) -> str:
    """Why Arrow refused values whose kinds agree: the first one it cannot hold."""
    for position, value in enumerate(values):
        if isinstance(value, str) and not _is_unicode(value):
            return (
                f"{show(value)}{where(position, shape)} holds a lone surrogate, so it is no valid Unicode; clean "
                "it, for example with text.encode('utf-8', 'replace').decode()"
            )
        if isinstance(value, (int, np.integer)) and int(value) not in _INT64:
            return f"{show(value)}{where(position, shape)} does not fit int64; use strings"
    return f"the values cannot be read as one column: {error}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
