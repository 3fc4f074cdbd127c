"""A column to ids by an index: one pass over the values, wherever they lie; dictionaries once, then their codes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from catembed.errors import VocabularyError
from catembed.kernels.dispatch import CPU, kernel
from catembed.vocabulary.forms import spans
from catembed.vocabulary.index import Index
from catembed.vocabulary.kinds import Column
from catembed.vocabulary.policies import BUCKET_SEED

__all__ = ["buckets_of", "hashes_of", "look_up"]


def look_up(index: Index, column: Column, base: int, absent: int, missing: int) -> tuple[np.ndarray, bool]:
    """``base`` + the id of each value, flat int64, ``absent`` or ``missing`` for those without; whether all have one.

    Raises ``VocabularyError`` for memory that is not sound. The column must be of the index's kind.
    """
    ids = np.empty(sum(map(len, column.parts)), np.int64)
    found = at = 0
    try:
        for part in column.parts:
            here = ids[at : at + len(part)]
            at += len(part)
            facts = here if part.codes is None else np.empty(len(part.values), np.int64)
            hits = index.find(spans(part.values), facts, base=base, absent=absent, missing=missing)
            if part.codes is not None:
                here[:] = part.spread(facts, missing)
                hits = int((here >= base).sum())
            found += hits
    except IndexError as fact:
        column.check()
        raise VocabularyError(f"the Arrow column is damaged: {fact}") from None
    if found < len(ids):
        column.check()  # text that is no UTF-8 is no unseen value, but damage
    return ids, found == len(ids)


def hashes_of(values: pa.Array, seed: int = BUCKET_SEED) -> np.ndarray:
    """The hash of each value (none missing), as int64."""
    return kernel("hash64", CPU)(spans(values), seed).view(np.int64)


def buckets_of(values: pa.Array, buckets: int, seed: int = BUCKET_SEED) -> np.ndarray:
    """The bucket of each value (none missing), int64: its hash · ``buckets`` >> 64, for up to 2³² - 1 buckets."""
    hashes = hashes_of(values, seed).view(np.uint64)
    many, half = np.uint64(buckets), np.uint64(32)
    low = (hashes & np.uint64(0xFFFFFFFF)) * many >> half
    return (((hashes >> half) * many + low) >> half).astype(np.int64)
