"""``Vocabulary``: which category has which id, and what happens to values that have none.

Rules: reserved ids come first (the missing row, then the unknown row), so ids stay stable as a vocabulary
grows; missing and unseen are never the same thing unless asked for; values are compared by value within one
kind, never across kinds. A vocabulary never changes, so threads and forked workers may share it.

pyarrow is loaded by the first vocabulary made, not by importing this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from catembed.errors import FormatError, OutOfRangeError, UnseenCategoryError, VocabularyError
from catembed.vocabulary import messages
from catembed.vocabulary.arguments import ORDERS, check_choice, check_policies, column_name, id_array, positive
from catembed.vocabulary.text import EMPTY, show

if TYPE_CHECKING:
    import pyarrow as pa

    from catembed.vocabulary.kinds import Column


class _Unknown:
    """What ``decode`` gives for the unknown row: there is one such object, ``Vocabulary.UNKNOWN``."""

    def __repr__(self) -> str:
        return "<unknown>"

    def __reduce__(self) -> str:
        return "Vocabulary.UNKNOWN"


class Vocabulary:
    """The categories of a column and their ids.

    Args:
        categories: a column of distinct values of one kind: strings, bytes, integers, booleans, dates or
            timestamps, as a list, NumPy, pandas, polars or Arrow column, or anything with the Arrow C
            interface. Their order is kept: the first category has the first id after the reserved ones.
        unseen: what ``encode`` does with a value that is no category: ``"error"`` raises
            ``UnseenCategoryError``, ``"unknown"`` gives it the id of the unknown row.
        missing: what it does with None, NaN, NaT and ``pandas.NA``: ``"error"`` raises, ``"own"`` gives them a
            row of their own, ``"unknown"`` the unknown row.
        name: the column's name, for error messages.

    Raises:
        VocabularyError: duplicates, missing values, values of several kinds or of no kind that can be a
            category, an unknown policy.

    >>> fruit = Vocabulary(["apple", "banana", "candy"])
    >>> fruit.encode(["banana", "apple"])
    tensor([1, 0])
    >>> fruit.encode("candy")
    tensor(2)
    >>> fruit.encode(["bananna"])
    Traceback (most recent call last):
    catembed.errors.UnseenCategoryError: 1 unseen value at position 0: 'bananna' (did you mean 'banana'?); ...
    >>> Vocabulary(["apple"], unseen="unknown", missing="own").encode(["apple", None, "kiwi"])
    tensor([2, 0, 1])
    """

    UNKNOWN = _Unknown()

    def __init__(
        self, categories: Any, *, unseen: str = "error", missing: str = "error", name: str | None = None
    ) -> None:
        name = column_name(categories) if name is None else name
        check_policies(unseen, missing, name)
        column = _read(categories, name)
        if len(column.shape) != 1:
            raise VocabularyError(
                f"{_label(name)}categories must be a one-dimensional column, got shape {column.shape}; "
                "a single category is written [value]"
            )
        if column.missing().any():
            advice = "leave them out, and make the vocabulary with"
            raise VocabularyError(_label(name) + messages.missing(column, advice))
        # A copy: the column may share memory with an array that its owner goes on changing.
        values = column.plain().take(np.arange(column.shape[0]))
        self._set(values, column.kind or EMPTY, unseen, missing, name)

    @classmethod
    def fit(
        cls,
        column: Any,
        *,
        min_count: int = 1,
        max_size: int | None = None,
        order: str = "frequency",
        unseen: str = "error",
        missing: str = "error",
        name: str | None = None,
    ) -> Vocabulary:
        """Learn a vocabulary from a column of any shape, with the count of every id.

        Args:
            column: as ``Vocabulary`` takes it, duplicates and (unless ``missing="error"``) missing values
                allowed. Levels of a categorical that no row uses are no categories.
            min_count: values seen less often are left out.
            max_size: at most this many categories (reserved rows not counted): the most frequent ones, ties
                going to the smaller value.
            order: ``"frequency"`` (most frequent first, ties by value), ``"sorted"`` (by value; text by code
                point) or ``"first"`` (by first appearance). It decides ids, not which values are kept.
            unseen: as in ``Vocabulary``. With ``"error"``, values left out here raise when encoded.
            missing: as in ``Vocabulary``.
            name: the column's name, for error messages.

        >>> v = Vocabulary.fit(["b", "a", "b", "c", None], max_size=2, unseen="unknown", missing="own")
        >>> list(v), v.counts.tolist()  # the ids are: missing, unknown, 'b', 'a'
        (['b', 'a'], [1, 1, 2, 1])
        """
        from catembed.vocabulary import fit

        name = column_name(column) if name is None else name
        check_policies(unseen, missing, name)
        check_choice(order, "order", ORDERS)
        min_count = positive(min_count, "min_count")
        max_size = None if max_size is None else positive(max_size, "max_size")
        read = _read(column, name)
        if read.shape == ():
            raise VocabularyError(f"{_label(name)}fit learns from a column, got a single value: {show(column)}")
        gone = int(read.missing().sum())
        if gone and missing == "error":
            raise VocabularyError(_label(name) + messages.missing(read, "drop or fill them, or choose"))
        values, often = fit.count(read.plain())
        kept = fit.select(values, often, min_count=min_count, max_size=max_size, order=order)
        cut = int(often.sum() - often[kept].sum())
        reserved = [gone] if missing == "own" else []
        if unseen == "unknown":
            reserved.append(cut + (gone if missing == "unknown" else 0))
        self = cls.__new__(cls)
        self._set(values.take(kept), read.kind or EMPTY, unseen, missing, name)
        self._counts = _read_only(np.concatenate([np.array(reserved, np.int64), often[kept]]))
        return self

    def _set(self, categories: pa.Array, kind: str, unseen: str, missing: str, name: str | None) -> None:
        from catembed.vocabulary.index import Index

        self._categories, self._kind, self._name = categories, kind, name
        self._unseen, self._missing = unseen, missing
        self._counts: np.ndarray | None = None
        self._index = Index(categories)
        if self._index.distinct < len(categories):
            raise VocabularyError(_label(name) + messages.duplicates(categories))

    # What it is

    @property
    def kind(self) -> str:
        """``"string"``, ``"bytes"``, ``"integer"``, ``"boolean"``, ``"date"``, ``"timestamp"``, ``"timestamp[UTC]"``
        (those with a time zone) or ``"empty"`` (made from no values).
        """
        return self._kind

    @property
    def unseen(self) -> str:
        """The policy for values that are no category: ``"error"`` or ``"unknown"``."""
        return self._unseen

    @property
    def missing(self) -> str:
        """The policy for missing values: ``"error"``, ``"unknown"`` or ``"own"``."""
        return self._missing

    @property
    def name(self) -> str | None:
        """The column's name, used in error messages."""
        return self._name

    @property
    def categories(self) -> pa.Array:
        """The categories in id order, without the reserved ids, as a ``pyarrow.Array``."""
        return self._categories

    @property
    def counts(self) -> np.ndarray | None:
        """How often each id occurred in the fitted column (int64, read-only, reserved ids included), or None.

        The unknown row counts the values that ``min_count`` and ``max_size`` cut off.
        """
        return self._counts

    @property
    def num_reserved(self) -> int:
        """How many reserved ids come before the first category: 0, 1 or 2."""
        return (self._missing == "own") + (self._unseen == "unknown")

    @property
    def missing_id(self) -> int | None:
        """The id of the row that missing values have to themselves, or None."""
        return 0 if self._missing == "own" else None

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown row, or None."""
        return self.num_reserved - 1 if self._unseen == "unknown" else None

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of kind, policies and categories in id order; not of counts or name.

        Two vocabularies with one fingerprint give every value the same id.
        """
        from catembed.vocabulary import stored

        return stored.fingerprint(self._categories, self._kind, self._unseen, self._missing)

    def __len__(self) -> int:
        """How many ids there are, reserved ones included."""
        return len(self._categories) + self.num_reserved

    def __iter__(self) -> Iterator[Any]:
        """The categories as Python values in id order, without the reserved ids."""
        return (value.as_py() for value in self._categories)

    def __contains__(self, value: Any) -> bool:
        """Whether a single value is a category; a value of another kind (``"1"`` for ``1``) is not."""
        try:
            column = _read(value, self._name)
        except VocabularyError:
            return False
        if column.shape != ():
            raise TypeError(f"'in' asks about one category, got a column of shape {column.shape}")
        return bool(self._index.find(column.values)[0] >= 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        if (self._kind, self._unseen, self._missing) != (other._kind, other._unseen, other._missing):
            return False
        return self._categories.equals(other._categories)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        shown = [show(value) for value in self._categories[:3].to_pylist()]
        if len(self._categories) > len(shown):
            shown.append(f"… {len(self._categories) - len(shown):,} more")
        options = {"unseen": self._unseen, "missing": self._missing, "name": self._name}
        given = [f"{key}={value!r}" for key, value in options.items() if value not in ("error", None)]
        categories = f"[{', '.join(shown)}]"
        return f"Vocabulary({', '.join([categories, *given])})"

    # Categories to ids and back

    def encode(self, column: Any) -> torch.Tensor:
        """The id of every value: an int64 tensor of the column's shape (a single value gives shape ``()``).

        Args:
            column: any column ``Vocabulary`` takes, a single value, a nested list, an array or tensor of any
                number of dimensions. Categoricals count by value, never by code.

        Raises:
            UnseenCategoryError: a value is no category and ``unseen="error"``, or missing and
                ``missing="error"``.
            VocabularyError: the column is of another kind than the categories, or no column at all.

        >>> Vocabulary([10, 20, 30]).encode([[10], [30]])
        tensor([[0],
                [2]])
        >>> Vocabulary([10, 20, 30]).encode("10")
        Traceback (most recent call last):
        catembed.errors.VocabularyError: the column holds strings ('10'), but the ...
        """
        read = _read(column, self._name)
        ids = read.spread(self._index.find(read.values)) + self.num_reserved
        strange = ids < self.num_reserved
        if strange.any():
            self._place(ids, strange, read)
        return torch.from_numpy(ids).reshape(read.shape)

    def _place(self, ids: np.ndarray, strange: np.ndarray, column: Column) -> None:
        """Give the places that hold no category their reserved ids, or raise."""
        gone = column.missing()
        strange = strange & ~gone
        if strange.any() and column.kind != self._kind and self._kind != EMPTY:
            raise VocabularyError(_label(self._name) + messages.mismatch(column, strange, self._kind))
        if gone.any():
            if self._missing == "error":
                advice = "the vocabulary has no row for them; drop or fill them, or make it with"
                raise UnseenCategoryError(_label(self._name) + messages.missing(column, advice))
            ids[gone] = self.missing_id if self._missing == "own" else self.unknown_id
        if strange.any():
            if self._unseen == "error":
                message = messages.unseen(column, strange, self._categories)
                raise UnseenCategoryError(_label(self._name) + message)
            ids[strange] = self.unknown_id

    def decode(self, ids: Any) -> Any:
        """The category of every id, as a Python value or a nested list of the shape of ``ids``.

        The missing row gives None and the unknown row ``Vocabulary.UNKNOWN``, which prints as
        ``<unknown>``: no category can be mistaken for either.

        Args:
            ids: integers: a tensor, an array, a nested list or a single one.

        Raises:
            OutOfRangeError: an id outside ``[0, len(vocabulary))``.
            TypeError: ids that are no integers.

        >>> Vocabulary(["a", "b"], unseen="unknown", missing="own").decode([[0, 1], [2, 3]])
        [[None, <unknown>], ['a', 'b']]
        """
        array = id_array(ids)
        outside = (array < 0) | (array >= len(self))
        if outside.any():
            raise OutOfRangeError(_label(self._name) + messages.out_of_range(array, outside, len(self)))
        flat = array.astype(np.int64).reshape(-1)
        values = np.full(flat.shape, None, object)
        values[flat == self.unknown_id] = self.UNKNOWN
        known = flat >= self.num_reserved
        taken = self._categories.take(flat[known] - self.num_reserved).to_pylist()
        values[known] = np.fromiter(taken, object, len(taken))
        return values.reshape(array.shape).tolist()

    # As it is stored

    def to_arrays(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The vocabulary as a plain JSON header and plain arrays: the form that is stored.

        >>> header, arrays = Vocabulary(["a", "bc"]).to_arrays()
        >>> arrays["categories.bytes"].tobytes(), arrays["categories.offsets"].tolist()
        (b'abc', [0, 1, 3])
        """
        from catembed.vocabulary import stored

        arrays = stored.to_arrays(self._categories, self._kind)
        if self._counts is not None:
            arrays["counts"] = self._counts
        header = {
            "kind": self._kind,
            "unseen": self._unseen,
            "missing": self._missing,
            "name": self._name,
            "fingerprint": self.fingerprint,
        }
        return header, arrays

    @classmethod
    def from_arrays(cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Vocabulary:
        """The vocabulary that ``to_arrays`` gave, which need not be trusted: everything is checked.

        The arrays are used where they are, not copied.

        Raises:
            FormatError: an unknown key, kind or policy, offsets that decrease or leave the bytes, invalid
                UTF-8, duplicates, counts that do not fit, categories that do not match the fingerprint.
        """
        from catembed.vocabulary import stored

        given = stored.read_header(header)
        categories = stored.from_arrays(arrays, given["kind"])
        self = cls.__new__(cls)
        try:
            check_policies(given["unseen"], given["missing"], given["name"])
            self._set(categories, given["kind"], given["unseen"], given["missing"], given["name"])
        except VocabularyError as fact:
            raise FormatError(f"stored vocabulary: {fact}") from None
        self._counts = _read_only(stored.read_counts(arrays, len(self)))
        if self.fingerprint != given["fingerprint"]:
            raise FormatError(
                f"{_label(self._name)}the stored categories do not match their fingerprint: stored is "
                f"{show(given['fingerprint'])}, they have {self.fingerprint!r}; the data is damaged"
            )
        return self

    def __copy__(self) -> Vocabulary:
        return self  # it never changes

    def __deepcopy__(self, memo: dict[int, Any]) -> Vocabulary:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Vocabulary.from_arrays, self.to_arrays()


def _read_only(counts: np.ndarray | None) -> np.ndarray | None:
    if counts is not None:
        counts = counts.view()
        counts.setflags(write=False)
    return counts


def _label(name: str | None) -> str:
    return "" if name is None else f"column {name!r}: "


def _read(column: Any, name: str | None) -> Column:
    from catembed.vocabulary import columns

    try:
        return columns.read(column)
    except VocabularyError as fact:
        raise VocabularyError(_label(name) + str(fact)) from None
