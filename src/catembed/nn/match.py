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
    there_ids = here.ids_in(there)
    mine = np.flatnonzero(there_ids >= 0)
    return torch.from_numpy(mine), torch.from_numpy(there_ids[mine])


def difference(here: AnyVocabulary, there: AnyVocabulary) -> str:
    """What is different there: kind, policies, categories added, removed and moved, the first few of each."""
    told = []
    for fact in ("kind", "columns", "kinds", "unseen", "missing", "buckets", "hashes"):
        mine, theirs = getattr(here, fact, None), getattr(there, fact, None)
        if mine != theirs:
            told.append(f"{fact} {theirs!r} instead of {mine!r}")
    if here.kind == there.kind or "empty" in (here.kind, there.kind):
        told += _changes(here, there)
    return "; ".join(told)


def _changes(here: AnyVocabulary, there: AnyVocabulary) -> list[str]:
    added = np.flatnonzero(here.places(there.categories, there.kind) < 0)
    places = there.places(here.categories, here.kind)
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


def _name(vocabulary: AnyVocabulary, at: Any) -> str:
    name = repr(vocabulary.categories[int(at)].as_py())
    return name if len(name) <= 50 else name[:49] + "…"
