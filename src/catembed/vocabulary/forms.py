"""Arrow arrays as the index takes them, and back: text as bytes and offsets, all other kinds as int64.

Values to be looked up are taken where they lie, whatever their offset and layout; only dates and booleans are widened
first. Nothing is checked here: offsets and views are followed by kernels, which check each one.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from pyarrow import types

from catembed.kernels.spans import FIXED, OFFSETS32, OFFSETS64, VIEWS, Spans
from catembed.vocabulary.kinds import ARROW_TYPES, VARIABLE_WIDTH
from catembed.vocabulary.text import EMPTY

__all__ = ["from_store", "spans", "to_store"]


def spans(array: pa.Array) -> Spans:
    """Where the values of an array lie, whose type is one that ``from_arrow`` gives; the memory stays the array's."""
    given = array.type
    if types.is_date32(given) or types.is_boolean(given):
        array = (array.view(pa.int32()) if types.is_date32(given) else array).cast(pa.int64())
    buffers, first, count = array.buffers(), array.offset, len(array)
    valid = buffers[0].address if buffers[0] is not None and array.null_count else 0
    if not count or buffers[1] is None:  # Arrow may leave out what no value needs
        return Spans(count, FIXED, 0, 0, 8, valid, first, array)
    where = buffers[1].address
    if types.is_string_view(given) or types.is_binary_view(given):
        table = np.array([(part.address, part.size) for part in buffers[2:]], np.int64).reshape(-1, 2)
        owner = (array, table)
        return Spans(count, VIEWS, where + 16 * first, table.ctypes.data, len(table), valid, first, owner)
    if types.is_fixed_size_binary(given) or not _has_offsets(given):
        size = given.byte_width if types.is_fixed_size_binary(given) else 8
        return Spans(count, FIXED, where + size * first, 0, size, valid, first, array)
    wide = types.is_large_string(given) or types.is_large_binary(given)
    data, size = (buffers[2].address, buffers[2].size) if buffers[2] is not None else (0, 0)
    layout, where = (OFFSETS64, where + 8 * first) if wide else (OFFSETS32, where + 4 * first)
    return Spans(count, layout, where, data, size, valid, first, array)


def _has_offsets(given: pa.DataType) -> bool:
    return (
        types.is_string(given) or types.is_binary(given) or types.is_large_string(given) or types.is_large_binary(given)
    )


def to_store(array: pa.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """Values without a missing one, in the one Arrow type of their kind: bytes, and offsets where text has them."""
    if not _has_offsets(array.type):
        if types.is_null(array.type):
            return np.empty(0, np.uint8), None
        if types.is_date32(array.type) or types.is_timestamp(array.type):
            array = array.view(pa.int32() if types.is_date32(array.type) else pa.int64())
        words = array.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return words.view(np.uint8), None
    _, where, data = array.buffers()
    if not len(array):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(where, np.int64)[array.offset : array.offset + len(array) + 1]
    octets = np.frombuffer(data, np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    return octets[offsets[0] : offsets[-1]], offsets - offsets[0] if offsets[0] else offsets


def from_store(octets: np.ndarray, offsets: np.ndarray | None, kind: str) -> pa.Array:
    """The values that ``to_store`` took apart, in the Arrow type of their kind; no copies of text and integers."""
    if kind in VARIABLE_WIDTH:
        assert offsets is not None
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(octets)]
        return pa.Array.from_buffers(ARROW_TYPES[kind], len(offsets) - 1, buffers)
    words = octets.view(np.int64)
    if kind == EMPTY:
        return pa.nulls(0)
    if kind == "boolean":
        return pa.array(words.astype(bool))
    if kind == "date":
        return pa.array(words.astype(np.int32)).view(pa.date32())
    return pa.Array.from_buffers(ARROW_TYPES[kind], len(words), [None, pa.py_buffer(words)])
