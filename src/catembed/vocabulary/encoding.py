"""Categories to ids and back: what ``Vocabulary`` does with a column, and what its policies do with the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from catembed.errors import OutOfRangeError, UnseenCategoryError, VocabularyError
from catembed.vocabulary import messages
from catembed.vocabulary.arguments import id_array
from catembed.vocabulary.described import Described
from catembed.vocabulary.text import EMPTY

if TYPE_CHECKING:
    from catembed.vocabulary.kinds import Column

__all__ = ["ABSENT", "GONE", "Encoding", "label", "read"]

ABSENT, GONE = -1, -2  # in place of an id, until the policies have spoken: no category, and missing


class _Unknown:
    """What ``decode`` gives for the unknown row and the buckets: there is one such object, ``Vocabulary.UNKNOWN``."""

    def __repr__(self) -> str:
        return "<unknown>"

    def __reduce__(self) -> str:
        return "Encoding.UNKNOWN"


def label(name: str | None) -> str:
    """How a message begins that is about a column of this name."""
    return "" if name is None else f"column {name!r}: "


def read(column: Any, name: str | None) -> Column:
    """Any column as a ``Column``; errors name it."""
    from catembed.vocabulary import columns

    try:
        return columns.read(column)
    except VocabularyError as fact:
        raise VocabularyError(label(name) + str(fact)) from None


class Encoding(Described):
    """The encoding and decoding of a ``Vocabulary``."""

    UNKNOWN = _Unknown()

    def __contains__(self, value: Any) -> bool:
        """Whether a single value is a category; a value of another kind (``"1"`` for ``1``) is not."""
        try:
            column = read(value, self._name)
        except VocabularyError:
            return False
        if column.shape != ():
            raise TypeError(f"'in' asks about one category, got a column of shape {column.shape}")
        return column.kind == self._kind and bool(self._find(column, ABSENT, GONE)[0][0] >= 0)

    def encode(self, column: Any, *, grow: bool = False) -> torch.Tensor:
        """The id of every value: an int64 tensor of the column's shape (a single value gives shape ``()``).

        Args:
            column: any column ``Vocabulary`` takes, a single value, a nested list, an array or tensor of any
                number of dimensions. Categoricals count by value, never by code.
            grow: make values that are no category new categories; for ``unseen="grow"``. They get the next ids in
                order of appearance, no id ever moves, and equal values of one call get one id.

        Raises:
            UnseenCategoryError: a value is no category and ``unseen="error"``, or missing and
                ``missing="error"``.
            VocabularyError: the column is of another kind than the categories, or no column at all.

        >>> from catembed import Vocabulary
        >>> Vocabulary([10, 20, 30]).encode([[10], [30]])
        tensor([[0],
                [2]])
        >>> Vocabulary([10, 20, 30]).encode("10")
        Traceback (most recent call last):
        catembed.errors.VocabularyError: the column holds strings ('10'), but the ...
        """
        if grow and self.unseen != "grow":
            raise VocabularyError(
                f'{label(self._name)}encode(…, grow=True) is for vocabularies made with unseen="grow", this one has '
                f'unseen="{self.unseen}"; add(values) makes values categories of any vocabulary'
            )
        if type(column) is str or type(column) is int:
            found = self._id_of_one(column, grow)
            if found is not None:
                return torch.from_numpy(np.array(found))
        given = read(column, self._name)
        return torch.from_numpy(self._ids(given, grow)).reshape(given.shape)

    def _id_of_one(self, value: str | int, grow: bool) -> int | None:
        """The id of a string or an integer, or None where the long way has to be gone."""
        index = self._index
        if index.kind == "string" and type(value) is str:
            try:
                found = index.find_bytes(value.encode())
            except UnicodeEncodeError:
                return None
        elif index.kind == "integer" and type(value) is int and -(2**63) <= value < 2**63:
            found = index.find_bytes(value.to_bytes(8, "little", signed=True))
        else:
            return None
        if found >= 0:
            return found + self._reserved
        return None if grow else self._policies.unknown_id

    def _ids(self, column: Column, grow: bool) -> np.ndarray:
        policies = self._policies
        unknown, gone = policies.unknown_id, policies.id_of_missing()
        absent = ABSENT if grow or unknown is None else unknown
        ids, complete = self._find(column, absent, GONE if gone is None else gone)
        if complete:
            return ids
        if column.kind not in (None, self._kind) and self._kind != EMPTY:
            self._refuse_kind(column)
        if gone is None and (ids == GONE).any():
            advice = "the vocabulary has no row for them; drop or fill them, or make it with"
            raise UnseenCategoryError(label(self._name) + messages.missing(column, advice))
        if absent == ABSENT:
            places = np.flatnonzero(ids == ABSENT)
            if len(places):
                ids[places] = self._ids_of_unseen(column, places, grow)
        return ids

    def _find(self, column: Column, absent: int, missing: int) -> tuple[np.ndarray, bool]:
        """The ids of the values that are categories, ``absent`` and ``missing`` elsewhere; whether all are."""
        from catembed.vocabulary.lookup import look_up

        if column.kind == self._kind:
            return look_up(self._index, column, self._reserved, absent, missing)
        ids = np.where(column.missing(), missing, absent)
        return ids, not len(ids)

    def _refuse_kind(self, column: Column) -> None:
        """Raise where a column of another kind holds a value; one that holds none is of any kind."""
        there = ~column.missing()
        if there.any():
            raise VocabularyError(label(self._name) + messages.mismatch(column, there, self._kind))

    def _ids_of_unseen(self, column: Column, places: np.ndarray, grow: bool) -> np.ndarray:
        """The ids of the values at these places, which are no categories: of buckets, or new ones."""
        if grow:
            return self._admit(column, places)
        if self.unseen == "hash":
            from catembed.vocabulary.lookup import buckets_of

            assert self.buckets is not None
            return self._policies.first_bucket + buckets_of(column.take(places), self.buckets)
        strange = np.zeros(int(np.prod(column.shape, dtype=np.int64)), bool)
        strange[places] = True
        raise UnseenCategoryError(label(self._name) + messages.unseen(column, strange, self.categories))

    def decode(self, ids: Any) -> Any:
        """The category of every id, as a Python value or a nested list of the shape of ``ids``.

        The missing row gives None, the unknown row and the buckets ``Vocabulary.UNKNOWN``, which prints as
        ``<unknown>``: no category can be mistaken for either.

        Args:
            ids: integers: a tensor, an array, a nested list or a single one.

        Raises:
            OutOfRangeError: an id outside ``[0, len(vocabulary))``.
            TypeError: ids that are no integers.

        >>> from catembed import Vocabulary
        >>> Vocabulary(["a", "b"], unseen="unknown", missing="own").decode([[0, 1], [2, 3]])
        [[None, <unknown>], ['a', 'b']]
        """
        array = id_array(ids)
        outside = (array < 0) | (array >= len(self))
        if outside.any():
            raise OutOfRangeError(label(self._name) + messages.out_of_range(array, outside, len(self)))
        flat = array.astype(np.int64).reshape(-1)
        values = np.full(flat.shape, None, object)
        values[flat != self.missing_id] = self.UNKNOWN
        known = flat >= self.num_reserved
        taken = self.categories.take(flat[known] - self.num_reserved).to_pylist()
        values[known] = np.fromiter(taken, object, len(taken))
        return values.reshape(array.shape).tolist()

    def _admit(self, column: Column, places: np.ndarray) -> np.ndarray:
        """The ids of the values at these places, where a vocabulary grows."""
        raise NotImplementedError
