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
    if new.missing().any():
        raise VocabularyError(
            label(vocabulary.name) + messages.missing(new, "no category can become one; for missing values there is")
        )
    if new.kind != vocabulary.kind:
        raise VocabularyError(label(vocabulary.name) + messages.mismatch(new, ~new.missing(), vocabulary.kind))
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
    kind, first = _common_kind(vocabularies), vocabularies[0]
    if order is None:
        if (min_count, max_size) != (1, None):
            raise VocabularyError("merge takes min_count and max_size together with an order, in which to rank values")
        made = first._with(_union(vocabularies, kind), None, kind)
        cut = np.zeros(first.buckets or 1, np.int64)
    else:
        check_choice(order, "order", ORDERS)
        positive(min_count, "min_count")
        max_size = None if max_size is None else positive(max_size, "max_size")
        learned = fit.combine(_parts(vocabularies), min_count=min_count, max_size=max_size, order=order)
        made, cut = first._with(learned.values, None, kind), learned.cut
    maps = [_map(each, made) for each in vocabularies]
    if all(each.counts is not None for each in vocabularies):
        made._counts = _counts_of(made, vocabularies, maps, cut)
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


def _union(vocabularies: Sequence[Vocabulary], kind: str) -> pa.Array:
    """All categories: those of the first in its order, then the new ones."""
    start = next((each.categories for each in vocabularies if each.kind == kind), vocabularies[0].categories)
    index = Index(*to_store(start[:0]))
    for each in vocabularies:
        index.add(spans(each.categories))
    return from_store(*index.arrays(), kind)


def _parts(vocabularies: Sequence[Vocabulary]) -> list[fit.Learned]:
    """What was learned of each: its categories and their counts."""
    parts = []
    for place, each in enumerate(vocabularies):
        if each.counts is None:
            raise VocabularyError(f"an order needs counts, and vocabulary {place + 1} has none: fit it, or observe")
        cut = np.zeros(vocabularies[0].buckets or 1, np.int64)
        kind = None if each.kind == EMPTY else each.kind
        parts.append(fit.Learned(each.categories, each.counts[each.num_reserved :], 0, cut, kind))
    return parts


def _map(old: Vocabulary, new: Vocabulary) -> np.ndarray:
    """Where each id goes: a category to itself, a reserved id to the one of the same meaning; or to -1."""
    reserved = np.full(old.num_reserved, -1)
    for own, other in ((old.missing_id, new.missing_id), (old.unknown_id, new.unknown_id)):
        if own is not None and other is not None:
            reserved[own] = other
    if old.buckets is not None and old.buckets == new.buckets:
        reserved[old.first_bucket :] = np.arange(old.buckets) + new.first_bucket
    places = new.places(old.categories) if len(old.categories) else np.zeros(0, np.int64)
    return np.concatenate([reserved, np.where(places < 0, -1, places + new.num_reserved)])


def _counts_of(
    made: Vocabulary, vocabularies: Sequence[Vocabulary], maps: Sequence[np.ndarray], cut: np.ndarray
) -> np.ndarray:
    """Counts added up; values that were cut count as unseen, where there is a row for them."""
    total = np.zeros(len(made), np.int64)
    for each, ids in zip(vocabularies, maps, strict=True):
        assert each.counts is not None
        np.add.at(total, ids[ids >= 0], each.counts[ids >= 0])
    if made.unknown_id is not None:
        total[made.unknown_id] += cut.sum()
    elif made.buckets is not None:
        total[made.first_bucket : made.num_reserved] += cut
    return total
