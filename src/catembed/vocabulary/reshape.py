"""Vocabularies made of others: categories renamed, left out, put together; and where each id has gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from catembed.errors import OutOfRangeError, UnseenCategoryError, VocabularyError
from catembed.vocabulary import messages
from catembed.vocabulary.arguments import ORDERS, check_choice, id_array
from catembed.vocabulary.encoding import label, read
from catembed.vocabulary.fitting import fit
from catembed.vocabulary.forms import from_store, spans, to_store
from catembed.vocabulary.index import Index
from catembed.vocabulary.lookup import buckets_of
from catembed.vocabulary.policies import Policies
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
    if new.shape != (len(names),):
        raise VocabularyError(
            f"{label(vocabulary.name)}rename takes one new value for each old one, got values of shape {new.shape[1:]}"
        )
    if new.missing().any():
        raise VocabularyError(
            label(vocabulary.name) + messages.missing(new, "no category can become one; for missing values there is")
        )
    if new.kind != vocabulary.kind:
        raise VocabularyError(label(vocabulary.name) + messages.mismatch(new, ~new.missing(), vocabulary.kind))
    count = len(vocabulary.categories)
    source = np.arange(count)
    source[places] = count + np.arange(len(places))
    made = vocabulary._with(pa.concat_arrays([vocabulary.categories, new.plain()]).take(source), vocabulary.counts)
    return _still_waiting(made, vocabulary)


def _still_waiting(made: Vocabulary, old: Vocabulary) -> Vocabulary:
    """What waits to be seen often enough goes on waiting."""
    made._waiting = None if old._waiting is None else old._waiting.copy()
    return made


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
    values = vocabulary.categories.take(rows[reserved:] - reserved)
    made = _still_waiting(vocabulary._with(values, None), vocabulary)
    counts = vocabulary.counts
    if counts is not None:
        gone = np.setdiff1d(np.arange(reserved, size), rows)
        cut = np.zeros(vocabulary.buckets or 1, np.int64)
        if len(gone):
            left_out = vocabulary.categories.take(gone - reserved)
            np.add.at(cut, buckets_of(left_out, len(cut)), counts[gone])
        made._counts = counts[rows]
        _count_unseen(made, cut)
    return made, torch.from_numpy(rows)


def merged(
    vocabularies: Sequence[Vocabulary], order: str | None, min_count: int, max_size: int | None
) -> tuple[Vocabulary, tuple[torch.Tensor, ...]]:
    """See ``Vocabulary.merge``."""
    for place, each in enumerate(vocabularies):
        if not hasattr(each, "merge"):
            raise TypeError(f"merge takes vocabularies, got {type(each).__name__} as number {place + 1}")
    kind, first = _common_kind(vocabularies), vocabularies[0]
    if order is None:
        if (min_count, max_size) != (1, None):
            raise VocabularyError("merge takes min_count and max_size together with an order, in which to rank values")
        made = first._with(_union(vocabularies, kind), None, kind)
        if first.max_size is not None and len(made.categories) > first.max_size:
            raise VocabularyError(
                f"{len(made.categories):,} categories together are more than max_size={first.max_size:,} of the first "
                "vocabulary; merge with an order and a max_size, which keeps the most frequent ones"
            )
        cut = np.zeros(first.buckets or 1, np.int64)
    else:
        check_choice(order, "order", ORDERS)
        policies = Policies.checked(first.unseen, first.missing, first.buckets, min_count, max_size)
        learned = fit.combine(_parts(vocabularies), min_count=min_count, max_size=max_size, order=order)
        made, cut = first._with(learned.values, None, kind, policies), learned.cut
    maps = [each.ids_in(made) for each in vocabularies]
    counts = [each for each in (vocabulary.counts for vocabulary in vocabularies) if each is not None]
    if len(counts) == len(vocabularies):
        made._counts = np.zeros(len(made), np.int64)
        for ids, each in zip(maps, counts, strict=True):
            np.add.at(made._counts, ids[ids >= 0], each[ids >= 0])
        _count_unseen(made, cut)
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
    index = Index(*to_store(start[:0]), kind=kind)
    for each in vocabularies:
        index.add(spans(each.categories))
    return from_store(*index.arrays(), kind)


def _parts(vocabularies: Sequence[Vocabulary]) -> list[fit.Learned]:
    """What was learned of each: its categories and their counts."""
    parts = []
    for place, each in enumerate(vocabularies):
        counts = each.counts
        if counts is None:
            raise VocabularyError(f"an order needs counts, and vocabulary {place + 1} has none: fit it, or observe")
        cut = np.zeros(vocabularies[0].buckets or 1, np.int64)
        kind = None if each.kind == EMPTY else each.kind
        parts.append(fit.Learned(each.categories, counts[each.num_reserved :], 0, cut, kind))
    return parts


def _count_unseen(made: Vocabulary, cut: np.ndarray) -> None:
    """Values that were cut count as unseen, where there is a row for them."""
    if made._counts is not None and made.unknown_id is not None:
        made._counts[made.unknown_id] += cut.sum()
    elif made._counts is not None and made.buckets is not None:
        made._counts[made.first_bucket : made.num_reserved] += cut
