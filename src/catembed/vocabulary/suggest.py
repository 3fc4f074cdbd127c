"""Close matches for a misspelt category, as ``difflib`` finds them, without regard to case and outer spaces.

difflib's cost per candidate is high, so at most ``_MOST_CANDIDATES`` categories are compared: those nearest in
length that share the first or the last letter. With a large vocabulary a match may therefore be missed.
"""

import difflib

import pyarrow as pa
import pyarrow.compute as pc

_MOST_CANDIDATES = 1_000
_LONGEST = 100


def closest(value: str, categories: pa.Array) -> str | None:
    """The category most like ``value``, or None where none is close."""
    wanted = value.strip()
    if not 0 < len(wanted) <= _LONGEST or not pa.types.is_large_string(categories.type):
        return None
    candidates = _candidates(wanted, categories).to_pylist()
    folded = {text.strip().casefold(): text for text in candidates if len(text) <= 2 * _LONGEST}
    match = difflib.get_close_matches(wanted.casefold(), folded, n=1)
    return folded[match[0]] if match else None


def _candidates(wanted: str, categories: pa.Array) -> pa.Array:
    if len(categories) <= _MOST_CANDIDATES:
        return categories
    distance = pc.abs(pc.subtract(pc.utf8_length(categories), len(wanted)))
    near = pc.less_equal(distance, max(2, len(wanted) // 4))
    categories, distance = categories.filter(near), distance.filter(near)
    first = pc.starts_with(categories, wanted[0], ignore_case=True)
    last = pc.ends_with(categories, wanted[-1], ignore_case=True)
    # False sorts before True, so what differs at neither end comes first, then what is nearest in length.
    ends = pc.add(pc.cast(pc.invert(first), pa.int8()), pc.cast(pc.invert(last), pa.int8()))
    table = pa.record_batch({"ends": ends, "distance": distance})
    keys = [("ends", "ascending"), ("distance", "ascending")]
    return categories.take(pc.sort_indices(table, sort_keys=keys)[:_MOST_CANDIDATES])
