"""Close matches for a misspelt category, as ``difflib`` finds them, without regard to case and outer spaces.

difflib's cost per candidate is high, so at most ``_MOST_CANDIDATES`` categories are compared: those that share
the first and last letter, or one of them, nearest in length first. With a large vocabulary a match may
therefore be missed.
"""

import difflib

import numpy as np
import pyarrow as pa

from catembed.vocabulary.stored import to_arrays

_MOST_CANDIDATES = 1_000
_LONGEST = 100


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
    """Places of the categories to compare with, told from their length, first and last byte alone."""
    if len(categories) <= _MOST_CANDIDATES:
        return np.arange(len(categories))
    arrays = to_arrays(categories, "string")
    octets, offsets = arrays["categories.bytes"], arrays["categories.offsets"]
    distance = np.abs(np.diff(offsets) - len(wanted))
    places = np.flatnonzero((distance <= max(2, len(wanted) // 4)) & (offsets[1:] > offsets[:-1]))
    lower = 0x20  # the bit that tells a small ASCII letter from a capital
    first = (octets[offsets[places]] | lower) == wanted[0] | lower
    last = (octets[offsets[places + 1] - 1] | lower) == wanted[-1] | lower
    order = np.lexsort((distance[places], 2 - first.astype(int) - last))
    return places[order[:_MOST_CANDIDATES]]
