"""Close matches for a misspelt category, as ``difflib`` finds them, without regard to case and outer spaces.

difflib's cost per candidate is high, so at most ``_MOST_CANDIDATES`` categories are compared: those of about
the same length that share most bytes with the wanted one from its start and from its end, which keeps every
category that is one slip away. With a large vocabulary a match with slips at both ends may be missed.
"""

import difflib

import numpy as np
import pyarrow as pa

from catembed.vocabulary.forms import to_store

_MOST_CANDIDATES = 1_000
_LONGEST = 100
_LOWER = 0x20  # the bit that tells a small ASCII letter from a capital


def closest(value: str, categories: pa.Array) -> str | None:
    """The category most like ``value``, or None where none is close."""
    wanted = value.strip()
    if not 0 < len(wanted) <= _LONGEST or not pa.types.is_large_string(categories.type):
        return None
    candidates = categories.take(_candidates(wanted.encode(), categories)).to_pylist()
    folded = {text.strip().casefold(): text for text in candidates if len(text) <= 2 * _LONGEST}
    match = difflib.get_close_matches(wanted.casefold(), folded, n=1)
    return folded[match[0]] if match else None


def _candidates(wanted: bytes, categories: pa.Array) -> np.ndarray:
    """Places of the categories to compare with, told from their bytes without making Python objects."""
    if len(categories) <= _MOST_CANDIDATES:
        return np.arange(len(categories))
    octets, offsets = to_store(categories)
    assert offsets is not None  # they are strings
    lengths = np.diff(offsets)
    places = np.flatnonzero(np.abs(lengths - len(wanted)) <= max(2, len(wanted) // 4))
    lengths = lengths[places]
    shared = _shared(octets, offsets[places], lengths, 1, wanted)
    shared += _shared(octets, offsets[places + 1] - 1, lengths, -1, wanted[::-1])
    return places[np.argsort(-shared, kind="stable")[:_MOST_CANDIDATES]]


def _shared(octets: np.ndarray, starts: np.ndarray, lengths: np.ndarray, step: int, wanted: bytes) -> np.ndarray:
    """How many bytes each text shares with ``wanted``, going from its start in steps of 1 or -1."""
    shared = np.zeros(len(starts), np.int64)
    alive = np.arange(len(starts))
    for place, byte in enumerate(wanted):
        alive = alive[lengths[alive] > place]
        alive = alive[octets[starts[alive] + step * place] | _LOWER == byte | _LOWER]
        shared[alive] += 1
    return shared
