"""Where the values of a column lie in memory: what the vocabulary's kernels take in place of arrays.

Arrow keeps text as offsets into bytes, or as views; numbers lie one behind the other. ``Spans`` tells any of these by
addresses, so a slice or a chunk needs no copy and each kernel is compiled once for all of them. Whoever makes a
``Spans`` answers for the addresses of the buffers; the offsets and views inside them are not trusted, and kernels check
each one before it is followed.
"""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "FIXED",
    "OFFSETS32",
    "OFFSETS64",
    "VIEWS",
    "WORD_FACTS",
    "Spans",
    "from_bytes",
    "from_facts",
    "from_words",
    "spans_bytes",
]

WORD_FACTS = 4  # how many facts tell of words: values of eight bytes
FIXED, OFFSETS32, OFFSETS64, VIEWS = range(4)  # how ``where`` tells the place of value ``i``


class Spans(NamedTuple):
    """``count`` values, each a run of bytes; those whose bit in ``valid`` is 0 are missing."""

    count: int  # pyright: ignore[reportIncompatibleMethodOverride]
    layout: int
    where: int  # address of the first value (FIXED), of its offset, or of its 16-byte view
    data: int  # address of the bytes that offsets count from; VIEWS: of (address, size), int64, for each buffer
    size: int  # how many bytes; VIEWS: how many buffers; FIXED: bytes of one value
    valid: int  # address of the bitmap, 0 where nothing is missing
    bit: int  # the first value's bit in it
    owner: Any = None  # keeps the memory alive; kernels take all fields but this one

    def facts(self) -> tuple[int, ...]:
        """What kernels take: integers, as many as tell the layout, so that words have code of their own."""
        if self.layout == FIXED and self.size == 8:
            return self.count, self.where, self.valid, self.bit
        return self[:7]


def from_words(words: np.ndarray) -> Spans:
    """The values of a contiguous int64 array, eight bytes each."""
    return Spans(len(words), FIXED, words.ctypes.data, 0, 8, 0, 0, words)


def from_bytes(octets: np.ndarray, offsets: np.ndarray) -> Spans:
    """Text as bytes (uint8) and offsets (int64, one more than there are values)."""
    return Spans(
        len(offsets) - 1, OFFSETS64, offsets.ctypes.data, octets.ctypes.data, len(octets), 0, 0, (octets, offsets)
    )


def from_facts(facts: tuple[int, ...]) -> Spans:
    """The spans of which ``Spans.facts`` told, without their owner."""
    if len(facts) != WORD_FACTS:
        return Spans(*facts)
    count, where, valid, bit = facts
    return Spans(count, FIXED, where, 0, 8, valid, bit)


def spans_bytes(spans: Spans) -> list[bytes | None]:
    """Every value as Python bytes, None where missing: slow and plain, for the reference.

    Raises ``IndexError`` for a value that lies outside its buffer.
    """
    return [_value(spans, i) for i in range(spans.count)]


def _value(spans: Spans, i: int) -> bytes | None:
    bit = spans.bit + i
    if spans.valid and not ctypes.string_at(spans.valid + bit // 8, 1)[0] >> bit % 8 & 1:
        return None
    if spans.layout == FIXED:
        return ctypes.string_at(spans.where + i * spans.size, spans.size)
    if spans.layout == VIEWS:
        return _viewed(spans, i)
    width = 4 if spans.layout == OFFSETS32 else 8
    pair = ctypes.string_at(spans.where + i * width, 2 * width)
    begin, end = (int.from_bytes(part, "little", signed=True) for part in (pair[:width], pair[width:]))
    if not 0 <= begin <= end <= spans.size:
        raise IndexError(f"value {i} has the offsets {begin} and {end}, its buffer {spans.size} bytes")
    return ctypes.string_at(spans.data + begin, end - begin)


def _viewed(spans: Spans, i: int) -> bytes:
    view = ctypes.string_at(spans.where + 16 * i, 16)
    length, _, buffer, begin = (int.from_bytes(view[at : at + 4], "little", signed=True) for at in (0, 4, 8, 12))
    if 0 <= length <= 12:
        return view[4 : 4 + length]
    if not 0 <= buffer < spans.size:
        raise IndexError(f"value {i} lies in buffer {buffer}, there are {spans.size}")
    pair = ctypes.string_at(spans.data + 16 * buffer, 16)
    address, size = int.from_bytes(pair[:8], "little"), int.from_bytes(pair[8:], "little")
    if length < 0 or begin < 0 or begin + length > size:
        raise IndexError(f"value {i} has {length} bytes from {begin}, its buffer {size}")
    return ctypes.string_at(address + begin, length)
