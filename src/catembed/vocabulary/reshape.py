"""Vocabularies made of others: categories renamed, left out, put together; and where each id has gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from catembed.errors import OutOfRangeError, UnseenCategoryError, VocabularyError
from catembed.vocabulary import fit, messages
from catembed.vocabulary.arguments import ORDERS, check_choice, id_array, positive
from catembed.vocabulary.encoding import label, read
from catembed.vocabulary.forms import from_store, spans, to_store
from catembed.vocabulary.index import Index
from catembed.vocabulary.lookup import buckets_of
from catembed.vocabulary.text import EMPTY, PLURALS

if TYPE_CHECKING:
    from catembed.vocabulary.vocabulary import Vocabulary

__all__ = ["merged", "pruned", "renamed"]


def renamed(vocabulary: Vocabulary, names: Mapping[Any, Any]) -> Vocabulary:
    """See ``Vocabulary.rename``."""
    if not isinstance(names, Mapping):
        raise TypeError(f"rename takes a mapping from old to new values, got {type(names).__name__}")
    if not names:
        return vocabulary.__copy__()
    places = []
    for old in names:
        if old not in vocabulary:
            strange = np.ones(1, bool)
            message = messages.unseen(read([old], vocabulary.name), strange, vocabulary.categories)
            raise UnseenCategoryError(label(vocabulary.name) + message)
        places.append(int(vocabulary.encode(old)) - vocabulary.num_reserved)
    new = read(list(names.values()), vocabulary.name)
    if new.kind != vocabulary.kind:
        raise VocabularyError(label(vocabulary.name) + messages.mismatch(new, ~new.missing(), vocabulary.kind))
    if new.missing().any():
        raise VocabularyError(label(vocabulary.name) + messages.missing(new, "no category can become one"))
    count = len(vocabulary.categories)
    source = np.arange(count)
    source[places] = count + np.arange(len(places))
    return vocabulary._with(pa.concat_arrays([vocabulary.categories, new.plain()]).take(source), vocabulary._counts)


def pruned(vocabulary: Vocabulary, keep: Any) -> tuple[Vocabulary, torch.Tensor]:
    """See ``Vocabulary.prune``."""
    size, reserved = len(vocabulary), vocabulary.num_reserved
    array = keep.detach().cpu().numpy() if isinstance(keep, torch.Tensor) else np.asarray(keep)
    if array.dtype == bool:
        if array.shape != (size,):
            raise VocabularyError(
                f"{label(vocabulary.name)}a mask has one entry for each of the {size:,} ids, got shape {array.shape}"
            )
        array = np.flatnonzero(array)
    ids = id_array(array).astype(np.int64)
    outside = (ids < 0) | (ids >= size)
    if outside.any():
        raise OutOfRangeError(label(vocabulary.name) + messages.out_of_range(ids, outside, size))
    rows = np.union1d(np.arange(reserved), ids)
    counts = None if vocabulary.counts is None else vocabulary.counts[rows]
    values = vocabulary.categories.take(rows[reserved:] - reserved)
    return vocabulary._with(values, counts), torch.from_numpy(rows)


def merged(
    vocabularies: Sequence[Vocabulary], order: str | None, min_count: int, max_size: int | None
) -> tuple[Vocabulary, tuple[torch.Tensor, ...]]:
    """See ``Vocabulary.merge``."""
    first = vocabularies[0]
    kind = _common_kind(vocabularies)
    categories, places = _union(vocabularies, kind)
    counts = _summed(vocabularies, places, len(categories))
    kept = np.arange(len(categories))
    if order is None:
        if (min_count, max_size) != (1, None):
            raise VocabularyError("merge takes min_count and max_size together with an order, in which to rank values")
    else:
        check_choice(order, "order", ORDERS)
        positive(min_count, "min_count")
        if counts is None:
            raise VocabularyError("an order needs counts, and one of the vocabularies has none: fit them, or observe")
        kept = fit.select(categories, counts, min_count=min_count, max_size=max_size, order=order)
    made = first._with(categories.take(kept), None, kind)
    new = np.full(len(categories), -1)
    new[kept] = np.arange(len(kept)) + made.num_reserved
    maps = [_reserved_map(each, made) for each in vocabularies]
    maps = [np.concatenate([own, new[place]]) for own, place in zip(maps, places, strict=True)]
    if counts is not None:
        made._counts = _counts_of(made, vocabularies, categories, counts, kept)
    return made, tuple(map(torch.from_numpy, maps))


def _common_kind(vocabularies: Sequence[Vocabulary]) -> str:
    kinds = [each.kind for each in vocabularies]
    told = [kind for kind in dict.fromkeys(kinds) if kind != EMPTY]
    if len(told) > 1:
        other = vocabularies[kinds.index(told[1])]
        called = "" if other.name is None else f", that of column {other.name!r},"
        raise VocabularyError(
            f"vocabularies of different kinds do not merge: the first holds {PLURALS[told[0]]}, number "
            f"{kinds.index(told[1]) + 1}{called} holds {PLURALS[told[1]]}; convert one column"
        )
    return told[0] if told else EMPTY


def _union(vocabularies: Sequence[Vocabulary], kind: str) -> tuple[pa.Array, list[np.ndarray]]:
    """All categories, those of the first in its order, then the new ones; and where each one's categories are in it."""
    start = next((each.categories for each in vocabularies if each.kind == kind), vocabularies[0].categories)
    index = Index(*to_store(start[:0]))
    places = [
        index.add(spans(each.categories)) if each.kind == kind else np.zeros(0, np.int64) for each in vocabularies
    ]
    return from_store(*index.arrays(), kind), places


def _summed(vocabularies: Sequence[Vocabulary], places: list[np.ndarray], size: int) -> np.ndarray | None:
    """The counts of all categories, or None where a vocabulary has none."""
    total = np.zeros(size, np.int64)
    for each, place in zip(vocabularies, places, strict=True):
        if each.counts is None:
            return None
        total[place] += each.counts[each.num_reserved :]
    return total


def _reserved_map(old: Vocabulary, new: Vocabulary) -> np.ndarray:
    """Where the reserved ids of one go: to the id of the same meaning, or -1."""
    ids = np.full(old.num_reserved, -1)
    for own, other in ((old.missing_id, new.missing_id), (old.unknown_id, new.unknown_id)):
        if own is not None and other is not None:
            ids[own] = other
    if old.buckets is not None and old.buckets == new.buckets:
        ids[old._policies.first_bucket :] = np.arange(old.buckets) + new._policies.first_bucket
    return ids


def _counts_of(
    made: Vocabulary, vocabularies: Sequence[Vocabulary], categories: pa.Array, counts: np.ndarray, kept: np.ndarray
) -> np.ndarray:
    """Counts of all ids: those of reserved rows added up, values that were cut among the unseen."""
    total = np.concatenate([np.zeros(made.num_reserved, np.int64), counts[kept]])
    for each in vocabularies:
        ids = _reserved_map(each, made)
        assert each.counts is not None
        np.add.at(total, ids[ids >= 0], each.counts[: each.num_reserved][ids >= 0])
    cut = np.setdiff1d(np.arange(len(categories)), kept)
    if made.unknown_id is not None:
        total[made.unknown_id] += counts[cut].sum()
    elif made.buckets is not None and len(cut):
        np.add.at(total, made._policies.first_bucket + buckets_of(categories.take(cut), made.buckets), counts[cut])
    return total
