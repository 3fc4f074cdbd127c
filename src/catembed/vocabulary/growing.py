"""Values that become categories: added by hand, or admitted as a growing vocabulary meets them."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from catembed.errors import UnseenCategoryError, VocabularyError
from catembed.kernels.table import MOST
from catembed.vocabulary import messages
from catembed.vocabulary.encoding import ABSENT, GONE, Encoding, label, read
from catembed.vocabulary.lock import Lock
from catembed.vocabulary.text import EMPTY

if TYPE_CHECKING:
    from catembed.vocabulary.admission import WaitingRoom
    from catembed.vocabulary.kinds import Column

__all__ = ["Growing"]


class Growing(Encoding):
    """The growth of a ``Vocabulary``. Changes take turns; who encodes meanwhile sees all of one or nothing of it."""

    _waiting: WaitingRoom | None  # values that have not been seen min_count times
    _full: str | None  # what is to be said about a vocabulary that is full, "" once it has been
    _lock: Lock
    origin: Any

    def add(self, values: Any) -> torch.Tensor:
        """Make values categories, whatever the policy for unseen ones; the ids of all of them, of their shape.

        Those that are categories already keep their ids, new ones get the next ids in order of appearance.

        Raises:
            VocabularyError: values of another kind, or more than ``max_size`` allows; nothing has been added then.
            UnseenCategoryError: a missing value, where there is no row for it.

        >>> from catembed import Vocabulary
        >>> fruit = Vocabulary(["apple", "banana"])
        >>> fruit.add(["candy", "apple"]), len(fruit)
        (tensor([2, 0]), 3)
        """
        column = read(values, self._name)
        gone = self._policies.id_of_missing()
        if gone is None and column.missing().any():
            advice = "missing values are no categories; drop or fill them, or make the vocabulary with"
            raise UnseenCategoryError(label(self._name) + messages.missing(column, advice))
        with self._change():
            self.origin = None
            ids, complete = self._find(column, ABSENT, GONE if gone is None else gone)
            if not complete:
                places = np.flatnonzero(ids == ABSENT)
                ids[places] = self._append(column, places, whole=True)
        return torch.from_numpy(ids).reshape(column.shape)

    def _change(self) -> Any:
        """Hold the lock of changes."""
        return self._lock()

    def _admit(self, column: Column, places: np.ndarray) -> np.ndarray:
        """The ids of the values at these places: new ones where they have been seen often enough, else unknown."""
        with self._change():
            self.origin = None
            self._take_kind(column)
            ids, ready = np.full(len(places), self.unknown_id), np.ones(len(places), bool)
            if self.max_size is not None and len(self._index) >= self.max_size:
                self._waiting = None  # none of them can be admitted any more
            elif self.min_count > 1:
                ready = self._seen_often(column, places)
            ids[ready] = self._append(column, places[ready], whole=False)
        if self._full:
            told, self._full = self._full, ""
            warnings.warn(told, stacklevel=5)  # whoever called encode
        return ids

    def _take_kind(self, column: Column) -> None:
        """Be of the column's kind, where no value has told one yet; refuse any other."""
        from catembed.vocabulary.forms import to_store
        from catembed.vocabulary.index import Index

        if self._kind == EMPTY and column.kind is not None:
            self._index = Index(*to_store(column.take(np.zeros(0, np.int64))), kind=column.kind)
        elif column.kind != self._kind:
            self._refuse_kind(column)

    def _seen_often(self, column: Column, places: np.ndarray) -> np.ndarray:
        from catembed.vocabulary.admission import WaitingRoom
        from catembed.vocabulary.forms import spans
        from catembed.vocabulary.kinds import VARIABLE_WIDTH

        if self._waiting is None:
            self._waiting = WaitingRoom.empty(text=column.kind in VARIABLE_WIDTH)
        values = column.take(places)
        return self._waiting.see(spans(values), self.min_count)

    def _append(self, column: Column, places: np.ndarray, *, whole: bool) -> np.ndarray:
        """The ids of the values at these places, made categories. Past ``max_size``: unknown; ``whole``: refused."""
        from catembed.vocabulary.forms import spans

        if not len(places):
            return np.zeros(0, np.int64)
        if self._kind not in (EMPTY, column.kind):
            self._refuse_kind(column)
        values = column.take(places)
        limit = MOST if self.max_size is None else self.max_size
        if whole and len(self._index) + len(values.unique()) > limit:
            raise VocabularyError(
                f"{label(self._name)}{len(values.unique()):,} new categories beside {len(self._index):,} are more than "
                f"max_size={limit:,}; nothing was added. Prune the vocabulary, or make it with a larger max_size"
            )
        self._take_kind(column)
        ids = self._index.add(spans(values), limit)
        if self._full is None and (ids < 0).any():
            self._full = messages.full(label(self._name), values, ids, limit)
        return np.where(ids < 0, -1 if self.unknown_id is None else self.unknown_id, ids + self._reserved)

    def is_start_of(self, other: Growing) -> bool:
        """Whether another vocabulary is this one with more categories at its end: every id here is the same there."""
        if self._policies.identity() != other._policies.identity() or self._kind not in (other._kind, EMPTY):
            return False
        own = self.categories
        return self._kind == EMPTY or own.equals(other.categories[: len(own)])

    def take_over(self, other: Growing) -> None:
        """Become ``other``, of which this one is the start: with its categories, counts and values that wait."""
        with self._change():
            self.origin = None
            self._index, self._sound = other._index, other._sound
            self._counts, self._waiting = other._counts, other._waiting

    def observe(self, column: Any) -> None:
        """Add a column to ``counts``: each value to the id that ``encode`` gives it. Ids stay as they are.

        Raises what ``encode`` raises, counting nothing.

        >>> from catembed import Vocabulary
        >>> fruit = Vocabulary(["apple", "banana"])
        >>> fruit.observe(["banana", "banana", "apple"])
        >>> fruit.counts.tolist()
        [1, 2]
        """
        seen, times = np.unique(self.encode(column).numpy(), return_counts=True)
        with self._change():
            self.origin = None
            counts = np.zeros(0, np.int64) if self._counts is None else self._counts
            if len(counts) < len(self) or not counts.flags.writeable:
                room = np.zeros(len(self) + len(self) // 2, np.int64)
                room[: len(counts)] = counts
                counts = room
            counts[seen] += times
            self._counts = counts
