"""``Vocabulary``: which category has which id, and what happens to values that have none.

Rules: reserved ids come first (the missing row, then the unknown row or the buckets), so ids stay stable as a
vocabulary grows; an id, once given, never moves; missing and unseen are never the same thing unless asked for; values
are compared by value within one kind, never across kinds. Any number of threads may encode while one adds.

pyarrow and Numba are loaded by the first vocabulary made, not by importing this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from catembed.errors import FormatError, VocabularyError
from catembed.vocabulary import messages
from catembed.vocabulary.arguments import check_name, check_separator, column_name
from catembed.vocabulary.encoding import label, read
from catembed.vocabulary.growing import Growing
from catembed.vocabulary.lock import Lock
from catembed.vocabulary.policies import Policies
from catembed.vocabulary.text import EMPTY, show

if TYPE_CHECKING:
    import pyarrow as pa

    from catembed.vocabulary.index import Index


class Vocabulary(Growing):
    """The categories of a column and their ids.

    Args:
        categories: a column of distinct values of one kind: strings, bytes, integers, booleans, dates or
            timestamps, as a list, NumPy, pandas, polars or Arrow column, or anything with the Arrow C
            interface. Their order is kept: the first category has the first id after the reserved ones.
        unseen: what ``encode`` does with a value that is no category: ``"error"`` raises
            ``UnseenCategoryError``, ``"unknown"`` gives it the id of the unknown row, ``"hash"`` that of one of
            ``buckets`` rows, always the same one; ``"grow"`` makes it a category where ``encode(…, grow=True)`` asks
            for that (a ``CategoryEmbedding`` does in training), and gives it the id of the unknown row elsewhere.
        missing: what it does with None, NaN, NaT and ``pandas.NA``: ``"error"`` raises, ``"own"`` gives them a
            row of their own, ``"unknown"`` the unknown row.
        buckets: how many rows unseen values share; for ``unseen="hash"``.
        min_count: with ``unseen="grow"``, how often a value must have been seen to become a category; until then
            it is unknown. Counted exactly.
        max_size: with ``unseen="grow"``, at most this many categories (reserved rows not counted); values that come
            later are unknown, of which a warning tells once.
        name: the column's name, for error messages.

    Raises:
        VocabularyError: duplicates, missing values, values of several kinds or of no kind that can be a
            category, policies that do not exist or do not go together.

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
    >>> growing = Vocabulary(["apple"], unseen="grow")
    >>> growing.encode(["kiwi", "apple"]), growing.encode(["kiwi", "apple"], grow=True), growing.encode("kiwi")
    (tensor([0, 1]), tensor([2, 1]), tensor(2))
    """

    def __init__(
        self,
        categories: Any,
        *,
        unseen: str = "error",
        missing: str = "error",
        buckets: int | None = None,
        min_count: int = 1,
        max_size: int | None = None,
        name: str | None = None,
    ) -> None:
        name = column_name(categories) if name is None else name
        check_name(name)
        policies = Policies.checked(unseen, missing, buckets, min_count, max_size)
        if unseen != "grow" and (min_count, max_size) != (1, None):
            raise VocabularyError(
                f'min_count and max_size are for unseen="grow", or for Vocabulary.fit (got unseen={unseen!r})'
            )
        column = read(categories, name)
        if len(column.shape) != 1:
            raise VocabularyError(
                f"{label(name)}categories must be a one-dimensional column, got shape {column.shape}; "
                "a single category is written [value]"
            )
        if column.missing().any():
            advice = "leave them out, and make the vocabulary with"
            raise VocabularyError(label(name) + messages.missing(column, advice))
        if max_size is not None and column.shape[0] > max_size:
            raise VocabularyError(f"{label(name)}{column.shape[0]:,} categories are more than max_size={max_size:,}")
        # A copy: the column may share memory with an array that its owner goes on changing.
        values = column.plain().take(np.arange(column.shape[0]))
        self._set(values, column.kind or EMPTY, policies, name)

    @classmethod
    def fit(
        cls,
        column: Any,
        *,
        field: str | None = None,
        text: bool = False,
        separator: str | None = None,
        min_count: int = 1,
        max_size: int | None = None,
        order: str = "frequency",
        unseen: str = "error",
        missing: str = "error",
        buckets: int | None = None,
        name: str | None = None,
        progress: bool = False,
    ) -> Vocabulary:
        """Learn a vocabulary from a column of any shape and size, with the count of every id.

        Args:
            column: as ``Vocabulary`` takes it, duplicates and (unless ``missing="error"``) missing values
                allowed; or an iterator of such columns, the batches of one too large for memory; or, with ``field``,
                files: a path, a glob or a list of them. Levels of a categorical that no row uses are no categories.
                Rows may be lists of values (bags); a missing one counts as one missing value.
            field: which column of the files (Parquet, CSV, Arrow) to learn from; several in one pass: ``fit_fields``.
            text: whether it is text in CSV files even where all of it looks like numbers.
            separator: where to split strings into values of their own: ``"|"`` for ``"Action|Drama"``. Spaces stay.
            min_count: values seen less often are left out.
            max_size: at most this many categories (reserved rows not counted): the most frequent ones, ties
                going to the smaller value.
            order: ``"frequency"`` (most frequent first, ties by value), ``"sorted"`` (by value; text by code
                point) or ``"first"`` (by first appearance). It decides ids, not which values are kept.
            unseen: as in ``Vocabulary``. With ``"error"``, values left out here raise when encoded; with ``"grow"``,
                ``min_count`` and ``max_size`` also hold for values to come.
            missing: as in ``Vocabulary``.
            buckets: as in ``Vocabulary``.
            name: the column's name, for error messages.
            progress: show a bar on standard error while files are read.

        >>> v = Vocabulary.fit(["b", "a", "b", "c", None], max_size=2, unseen="unknown", missing="own")
        >>> list(v), v.counts.tolist()  # the ids are: missing, unknown, 'b', 'a'
        (['b', 'a'], [1, 1, 2, 1])
        >>> list(Vocabulary.fit(iter([["b", "a"], ["c", "b"]])))  # in batches
        ['b', 'a', 'c']
        >>> list(Vocabulary.fit([["b"], [], ["b", "a"]])), list(Vocabulary.fit(["b", "", "b|a"], separator="|"))
        (['b', 'a'], ['b', 'a'])
        """
        from catembed.vocabulary.fitting import learning

        check_name(name)
        check_separator(separator)
        policies = Policies.checked(unseen, missing, buckets, min_count, max_size)
        if field is not None:
            texts = [field] if text else []
            learned = learning.from_files(column, [field], policies, order, texts, progress, separator)[field]
            return cls._learned(learned, policies, name or field)
        name = column_name(column) if name is None else name
        return cls._learned(learning.from_column(column, policies, order, name, separator), policies, name)

    @classmethod
    def fit_fields(
        cls,
        files: Any,
        fields: Sequence[str],
        *,
        text: Sequence[str] = (),
        min_count: int = 1,
        max_size: int | None = None,
        order: str = "frequency",
        unseen: str = "error",
        missing: str = "error",
        buckets: int | None = None,
        progress: bool = False,
    ) -> dict[str, Vocabulary]:
        """Learn the vocabularies of several columns in one pass over files.

        ``text`` names those that are text in CSV files even where they look like numbers; all else is as in ``fit``.
        """
        from catembed.vocabulary.fitting import learning

        policies = Policies.checked(unseen, missing, buckets, min_count, max_size)
        learned = learning.from_files(files, fields, policies, order, text, progress)
        return {field: cls._learned(learned[field], policies, field) for field in fields}

    @classmethod
    def _learned(cls, learned: Any, policies: Policies, name: str | None) -> Vocabulary:
        """A vocabulary of categories that were counted."""
        self = cls.__new__(cls)
        self._set(learned.values, learned.kind or EMPTY, policies, name)
        cut = learned.cut.copy()
        if policies.missing == "unknown":
            cut[0] += learned.missing
        reserved = [np.array([learned.missing])] if policies.missing == "own" else []
        reserved += [] if policies.unseen == "error" else [cut]
        self._counts = np.concatenate([*reserved, learned.counts]).astype(np.int64)
        return self

    def _set(self, categories: pa.Array, kind: str, policies: Policies, name: str | None) -> None:
        from catembed.vocabulary.forms import to_store
        from catembed.vocabulary.index import Index

        self._use(Index(*to_store(categories), kind=kind), policies, name)
        if self._index.duplicate is not None:
            raise VocabularyError(label(name) + messages.duplicates(categories))

    def _with(
        self,
        categories: pa.Array,
        counts: np.ndarray | None,
        kind: str | None = None,
        policies: Policies | None = None,
    ) -> Vocabulary:
        """A vocabulary of other categories, with this one's policies (or others) and its name."""
        other = Vocabulary.__new__(Vocabulary)
        other._set(categories, kind or self._kind, policies or self._policies, self._name)
        other._counts = counts
        return other

    def _use(self, index: Index, policies: Policies, name: str | None) -> None:
        self._index, self._policies, self._name = index, policies, name
        self._lock = Lock()
        self._sound = True
        self._reserved = policies.num_reserved  # looked up for each single value
        self._counts = None
        self._waiting = None
        self._full: str | None = None
        self.origin: Any = None  # the file that it was loaded from, as long as it is as it was; see nn.mapped
        self._shown = self._digest = None

    def rename(self, names: Mapping[Any, Any]) -> Vocabulary:
        """A vocabulary in which some categories have other values, and all have the ids they had.

        Raises:
            UnseenCategoryError: a key that is no category.
            VocabularyError: a new value that is a category already, or of another kind.

        >>> list(Vocabulary(["appel", "banana"]).rename({"appel": "apple"}))
        ['apple', 'banana']
        """
        from catembed.vocabulary import reshape

        return reshape.renamed(self, names)

    def prune(self, keep: Any) -> tuple[Vocabulary, torch.Tensor]:
        """A vocabulary of some of the categories, and for each of its ids the id it has here: the rows to keep.

        Args:
            keep: ids to keep, or a bool mask over all ids. Reserved ids are kept in any case; the order of ids is.

        Raises:
            OutOfRangeError: an id outside ``[0, len(vocabulary))``.
            VocabularyError: a mask of another length.

        >>> fruit = Vocabulary.fit(["a", "b", "a", "c"], unseen="unknown")
        >>> frequent, rows = fruit.prune(fruit.counts > 1)
        >>> list(frequent), rows  # weight[rows] is the table of the frequent ones
        (['a'], tensor([0, 1]))
        """
        from catembed.vocabulary import reshape

        return reshape.pruned(self, keep)

    def merge(
        self, *others: Vocabulary, order: str | None = None, min_count: int = 1, max_size: int | None = None
    ) -> tuple[Vocabulary, tuple[torch.Tensor, ...]]:
        """A vocabulary of the categories of several; and for each of them, this one first, where each of its ids went.

        Counts are added up. Policies are those of this vocabulary. An id without a counterpart maps to -1: a category
        that is cut, or a row for missing or unseen values that this vocabulary does not have.

        Args:
            others: vocabularies of the same kind.
            order: None leaves the ids of this vocabulary as they are, and gives new categories the next ones. An order
                of ``fit``, with its ``min_count`` and ``max_size``, gives what fitting all their columns at once would
                have given, if each was fitted uncut (for ``"first"``: in that order).
            min_count: as in ``fit``; only with an ``order``.
            max_size: as in ``fit``; only with an ``order``.

        Raises:
            VocabularyError: vocabularies of other kinds; an ``order`` where one has no counts.

        >>> merged, (here, there) = Vocabulary(["a", "b"]).merge(Vocabulary(["c", "b"]))
        >>> list(merged), here, there
        (['a', 'b', 'c'], tensor([0, 1]), tensor([2, 1]))
        """
        from catembed.vocabulary import reshape

        return reshape.merged([self, *others], order, min_count, max_size)

    # As it is stored

    def to_arrays(self, *, index: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The vocabulary as a plain JSON header and plain arrays: the form that is stored.

        ``index=True`` adds the hash table, so that reading need not build it.

        >>> header, arrays = Vocabulary(["a", "bc"]).to_arrays()
        >>> arrays["categories.bytes"].tobytes(), arrays["categories.offsets"].tolist()
        (b'abc', [0, 1, 3])
        """
        from catembed.vocabulary import stored

        with self._change():
            kind = self._kind
            arrays = stored.to_arrays("categories", *self._index.arrays(), kind)
            if self._counts is not None:
                arrays["counts"] = cast(np.ndarray, self.counts)
            if self._waiting is not None:
                octets, offsets, seen = self._waiting.waiting(self.min_count, self._index)
                arrays |= stored.to_arrays("waiting", octets, offsets, kind) | {"waiting.counts": seen}
            header = {
                "kind": kind,
                "name": self._name,
                "fingerprint": self.fingerprint,
                **self._policies.stored(),
            }
            if index:
                arrays["index"] = self._index.table()
                header["index_seed"] = self._index.seed
        for array in arrays.values():
            array.setflags(write=False)
        return header, arrays

    @classmethod
    def from_arrays(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, verify: bool = True
    ) -> Vocabulary:
        """The vocabulary that ``to_arrays`` gave, which need not be trusted: everything is checked.

        The arrays are used where they are, not copied. ``verify=False`` leaves out, for more than 16 MiB of arrays,
        what would read all of them: whatever they hold, a value is then found by its own bytes or not at all, and
        nothing outside of them is read.

        Raises:
            FormatError: an unknown key, kind or policy, offsets that decrease or leave the bytes, invalid
                UTF-8, duplicates, counts that do not fit, categories that do not match the fingerprint or the index.
        """
        from catembed.vocabulary import stored
        from catembed.vocabulary.restored import Reader

        given = stored.read_header(header)
        self = cls.__new__(cls)
        try:
            check_name(given["name"])
            policies = Policies.checked(*(given[key] for key in Policies.__slots__))
        except VocabularyError as fact:
            raise FormatError(f"stored vocabulary: {fact}") from None
        stored_parts = Reader(given, arrays, verify)
        self._use(stored_parts.index(), policies, given["name"])
        self._sound = stored_parts.whole
        self._counts = stored_parts.counts(len(self))
        self._waiting = stored_parts.waiting()
        if stored_parts.whole and self.fingerprint != given["fingerprint"]:
            raise FormatError(
                f"{label(self._name)}the stored categories do not match their fingerprint: stored is "
                f"{show(given['fingerprint'])}, they have {self.fingerprint!r}; the data is damaged"
            )
        self._digest = self._index, len(self._index), given["fingerprint"]
        return self

    def __copy__(self) -> Vocabulary:
        """A vocabulary of its own: what one learns, the other does not. Categories are shared until one grows."""
        with self._change():
            other = Vocabulary.__new__(Vocabulary)
            other._use(self._index.copy(), self._policies, self._name)
            other._counts = None if self._counts is None else self._counts.copy()
            other._waiting = None if self._waiting is None else self._waiting.copy()
            other._sound, other.origin, other._full = self._sound, self.origin, self._full
            if self._digest is not None and self._digest[:2] == (self._index, len(self._index)):
                other._digest = other._index, *self._digest[1:]
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Vocabulary:
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return Vocabulary.from_arrays, self.to_arrays()
