"""Two vocabularies compared: how they differ, in words, and which rows of theirs mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from catembed.nn.vocabulary_state import AnyVocabulary

__all__ = ["difference", "same_rows"]

_SHOWN = 3


def same_rows(here: AnyVocabulary, there: AnyVocabulary) -> tuple[Tensor, Tensor]:
    """The ids here, and beside each the id there, of all rows that mean the same: a category, missing, unknown."""
    places = _places(here, there)
    shared = np.flatnonzero(places >= 0)
    reserved = [(here.missing_id, there.missing_id), (here.unknown_id, there.unknown_id)]
    if here.buckets is not None and here.buckets == there.buckets:
        buckets = range(here.buckets)
        reserved += [(here.first_bucket + bucket, there.first_bucket + bucket) for bucket in buckets]
    pairs = [pair for pair in reserved if None not in pair]
    mine = np.concatenate([np.array([a for a, _ in pairs], np.int64), shared + here.num_reserved])
    theirs = np.concatenate([np.array([b for _, b in pairs], np.int64), places[shared] + there.num_reserved])
    return torch.from_numpy(mine), torch.from_numpy(theirs)


def difference(here: AnyVocabulary, there: AnyVocabulary) -> str:
    """What is different there: kind, policies, categories added, removed and moved, the first few of each."""
    told = []
    for fact in ("kind", "unseen", "missing", "buckets", "hashes"):
        mine, theirs = getattr(here, fact, None), getattr(there, fact, None)
        if mine != theirs:
            told.append(f"{fact} {theirs!r} instead of {mine!r}")
    if here.kind == there.kind or "empty" in (here.kind, there.kind):
        told += _changes(here, there)
    return "; ".join(told)


def _changes(here: AnyVocabulary, there: AnyVocabulary) -> list[str]:
    added = np.flatnonzero(_places(there, here) < 0)
    places = _places(here, there)
    removed = np.flatnonzero(places < 0)
    ids, others = np.arange(len(places)) + here.num_reserved, places + there.num_reserved
    moved = np.flatnonzero((places >= 0) & (ids != others))
    told = [
        (len(added), "added", [_name(there, at) for at in added[:_SHOWN]]),
        (len(removed), "removed", [_name(here, at) for at in removed[:_SHOWN]]),
        (len(moved), "moved", [f"{_name(here, at)} {ids[at]} → {others[at]}" for at in moved[:_SHOWN]]),
    ]
    return [
        f"{count:,} {word} ({', '.join(names)}{', …' if count > len(names) else ''})"
        for count, word, names in told
        if count
    ]


def _places(values: AnyVocabulary, among: AnyVocabulary) -> np.ndarray:
    """For each category of ``values`` its place among the categories of ``among``, -1 where it is none of them."""
    if values.kind != among.kind:  # equal only within one kind
        return np.full(len(values.categories), -1, np.int64)
    return among.places(values.categories)


def _name(vocabulary: AnyVocabulary, at: Any) -> str:
    name = repr(vocabulary.categories[int(at)].as_py())
    return name if len(name) <= 50 else name[:49] + "…"
