"""List columns of Arrow, flat: the values one list after the other, and where each list begins. Loads pyarrow.

Here, below the floors, because ``functional`` reads columns of ids so, and ``vocabulary`` columns of categories.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

__all__ = ["FlatLists", "flat_lists", "is_list"]


class FlatLists(NamedTuple):
    """The values of all lists, ``offsets (B + 1,)`` int64 from 0 on, and which lists are missing: bool ``(B,)``."""

    values: pa.ChunkedArray
    offsets: np.ndarray
    missing: np.ndarray


def is_list(given: pa.DataType) -> bool:
    """Whether this is one of Arrow's types of lists."""
    return (
        types.is_list(given)
        or types.is_large_list(given)
        or types.is_fixed_size_list(given)
        or types.is_list_view(given)
        or types.is_large_list_view(given)
    )


def flat_lists(lists: pa.Array | pa.ChunkedArray) -> FlatLists:
    """A column of lists taken apart, without a look at any value; a missing list has none.

    Raises:
        pyarrow.ArrowInvalid: offsets that decrease or leave the values.

    >>> flat_lists(pa.array([["a", "b"], None, [], ["c"]])).offsets
    array([0, 2, 2, 2, 3])
    """
    chunks = lists.chunks if isinstance(lists, pa.ChunkedArray) else [lists]
    chunks = [chunk for chunk in chunks if len(chunk)]
    missing = [_missing(chunk) for chunk in chunks]
    parts = [_flat(chunk, gone) for chunk, gone in zip(chunks, missing, strict=True)]
    lengths = np.concatenate([np.zeros(1, np.int64), *(counts for _, counts in parts)])
    values = pa.chunked_array([flat for flat, _ in parts], lists.type.value_type)
    return FlatLists(values, lengths.cumsum(), np.concatenate([np.zeros(0, bool), *missing]))


def _missing(chunk: Any) -> np.ndarray:
    return chunk.is_null().to_numpy(zero_copy_only=False) if chunk.null_count else np.zeros(len(chunk), bool)


def _flat(chunk: Any, missing: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """The values of the lists of one array, and how many each has."""
    given = chunk.type
    if types.is_fixed_size_list(given):
        chunk.validate()
        return chunk.flatten(), np.where(missing, 0, given.list_size)
    if not (types.is_list(given) or types.is_large_list(given)):  # views: a cast of theirs gives offsets that are wrong
        chunk.validate(full=True)
        lengths = pc.call_function("list_value_length", [chunk]).fill_null(0).to_numpy()
        return chunk.flatten(), lengths.astype(np.int64)
    chunk.validate()
    offsets = chunk.offsets.to_numpy().astype(np.int64, copy=False)
    lengths = offsets[1:] - offsets[:-1]
    if offsets[0] < 0 or (lengths < 0).any() or offsets[-1] > len(chunk.values):
        raise pa.ArrowInvalid("offsets of its lists decrease, or lead out of the values")
    if missing.any():  # what lies under a missing list is none of its values
        return chunk.flatten(), np.where(missing, 0, lengths)
    return chunk.values[offsets[0] : offsets[-1]], lengths
