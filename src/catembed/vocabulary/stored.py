"""A vocabulary's categories as plain arrays and back, and their fingerprint.

Text and bytes are ``categories.bytes`` (uint8) and ``categories.offsets`` (int64, one more than there are
categories, the first 0); booleans are ``categories`` as uint8, all other kinds ``categories`` as int64 (dates
as days, timestamps as microseconds since 1970). Reading trusts nothing and copies nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from catembed.errors import FormatError
from catembed.vocabulary.kinds import ARROW_TYPES, VARIABLE_WIDTH
from catembed.vocabulary.text import EMPTY, show

HEADER_KEYS = {"kind", "unseen", "missing", "name", "fingerprint"}

Arrays = dict[str, np.ndarray]


def to_arrays(categories: pa.Array, kind: str) -> Arrays:
    """The categories as plain arrays, read-only, and without a copy where that is possible."""
    arrays = _text_arrays(categories) if kind in VARIABLE_WIDTH else {"categories": _values(categories, kind)}
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _values(categories: pa.Array, kind: str) -> np.ndarray:
    if kind == EMPTY:
        return np.zeros(0, np.int64)
    if kind == "boolean":
        return categories.cast(pa.uint8()).to_numpy()
    width = pa.int32() if kind == "date" else pa.int64()
    return categories.view(width).to_numpy().astype(np.int64, copy=False)


def _text_arrays(categories: pa.Array) -> Arrays:
    _, offsets, data = categories.buffers()
    size, start = len(categories), categories.offset
    ends = np.frombuffer(offsets, np.int64)[start : start + size + 1] if size else np.zeros(1, np.int64)
    octets = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return {
        "categories.bytes": octets[ends[0] : ends[-1]],
        "categories.offsets": ends - ends[0] if ends[0] else ends,
    }


def from_arrays(arrays: Mapping[str, np.ndarray], kind: str) -> pa.Array:
    """The categories that ``to_arrays`` took apart; raises ``FormatError`` where they are not sound."""
    if not isinstance(arrays, Mapping):
        raise FormatError(f"a vocabulary's arrays are a mapping, got {type(arrays).__name__}")
    names = {"categories.bytes", "categories.offsets"} if kind in VARIABLE_WIDTH else {"categories"}
    given = set(arrays) - {"counts"}
    if given != names:
        raise FormatError(
            f"a vocabulary of kind {kind!r} has the arrays {sorted(names)}, got {sorted(map(str, given))}"
        )
    if kind in VARIABLE_WIDTH:
        return _text(arrays, kind)
    values = checked(arrays, "categories", np.uint8 if kind == "boolean" else np.int64)
    if kind == EMPTY:
        if len(values):
            raise FormatError(f"a vocabulary of kind {EMPTY!r} has no categories, got {len(values)}")
        return pa.nulls(0)
    if kind == "boolean":
        if len(values) and values.max() > 1:
            raise FormatError(f"booleans are stored as 0 and 1, got {values.max()}")
        return pa.array(values.astype(bool))
    first, last = _RANGES.get(kind, (None, None))
    if first is not None and len(values) and not (first <= values.min() and values.max() <= last):
        raise FormatError(f"a stored {kind} lies outside the years 1 to 9999")
    if kind == "date":
        return pa.array(values.astype(np.int32)).view(pa.date32())
    return pa.array(values).view(ARROW_TYPES[kind])


_DAYS = tuple(int(np.datetime64(day).astype(np.int64)) for day in ("0001-01-01", "9999-12-31"))
_MICROSECONDS = (_DAYS[0] * 86_400_000_000, (_DAYS[1] + 1) * 86_400_000_000 - 1)
_RANGES = {"date": _DAYS, "timestamp": _MICROSECONDS, "timestamp[UTC]": _MICROSECONDS}


def checked(arrays: Mapping[str, np.ndarray], name: str, dtype: type[np.generic]) -> np.ndarray:
    """One of the arrays, its dtype and dimensions as they must be."""
    array = arrays[name]
    if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
        got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise FormatError(f"{name!r} must be a one-dimensional {np.dtype(dtype)} array, got {got}")
    return array


def _text(arrays: Mapping[str, np.ndarray], kind: str) -> pa.Array:
    octets = np.ascontiguousarray(checked(arrays, "categories.bytes", np.uint8))
    offsets = np.ascontiguousarray(checked(arrays, "categories.offsets", np.int64))
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(octets):
        ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "nothing"
        raise FormatError(f"'categories.offsets' must run from 0 to {len(octets)} (the bytes), got {ends}")
    falls = offsets[1:] < offsets[:-1]
    if falls.any():
        place = int(falls.argmax())
        raise FormatError(
            f"'categories.offsets' must not decrease, got {offsets[place]} and then {offsets[place + 1]} at "
            f"position {place + 1}"
        )
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(octets)]
    array = pa.Array.from_buffers(ARROW_TYPES[kind], len(offsets) - 1, buffers)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise FormatError(f"'categories.bytes' are not sound: {error}") from None
    return array


def read_header(header: Mapping[str, Any]) -> dict[str, Any]:
    """The header with every key present and of the right type; raises ``FormatError``."""
    if not isinstance(header, Mapping):
        raise FormatError(f"a vocabulary header is a mapping, got {type(header).__name__}")
    if set(header) != HEADER_KEYS:
        got = sorted(map(str, header))
        raise FormatError(f"a vocabulary header has the keys {sorted(HEADER_KEYS)}, got {got}")
    kind, name, fingerprint = header["kind"], header["name"], header["fingerprint"]
    if not isinstance(kind, str) or kind not in ARROW_TYPES:
        raise FormatError(f"unknown kind of categories {show(kind)}; known are {', '.join(ARROW_TYPES)}")
    if name is not None and not isinstance(name, str):
        raise FormatError(f"a vocabulary's name is a string or null, got {show(name)}")
    if not isinstance(fingerprint, str):
        raise FormatError(f"a vocabulary's fingerprint is a string, got {show(fingerprint)}")
    return dict(header)


def read_counts(arrays: Mapping[str, np.ndarray], ids: int) -> np.ndarray | None:
    """The counts, one for each id, where there are any; raises ``FormatError``."""
    if "counts" not in arrays:
        return None
    counts = checked(arrays, "counts", np.int64)
    if len(counts) != ids:
        raise FormatError(f"'counts' must have one entry for each of the {ids} ids, got {len(counts)}")
    if ids and counts.min() < 0:
        raise FormatError(f"'counts' must not be negative, got {counts.min()} at id {int(counts.argmin())}")
    return counts


def fingerprint(categories: pa.Array, kind: str, unseen: str, missing: str) -> str:
    """SHA-256 over kind, policies and the categories in id order; equal on every machine and version."""
    policies = {"kind": kind, "missing": missing, "unseen": unseen}
    digest = hashlib.sha256(json.dumps(policies, sort_keys=True, separators=(",", ":")).encode())
    for name, array in sorted(to_arrays(categories, kind).items()):
        digest.update(f"\n{name} {len(array)}\n".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
