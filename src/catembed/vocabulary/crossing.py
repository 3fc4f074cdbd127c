"""``CrossVocabulary``: the combination of several columns as one feature, by hashing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from catembed.errors import FormatError, VocabularyError
from catembed.vocabulary.arguments import check_choice, check_name
from catembed.vocabulary.encoding import label, read
from catembed.vocabulary.hashing import HashVocabulary
from catembed.vocabulary.tables import columns_of
from catembed.vocabulary.text import PLURALS, show

if TYPE_CHECKING:
    from catembed.vocabulary.described import Described
    from catembed.vocabulary.kinds import Column

__all__ = ["CrossVocabulary"]

_KEYS = {"cross", "kinds", "buckets", "name", "fingerprint"}
_MISSING = 0  # in place of the hash of a value


class CrossVocabulary(HashVocabulary):
    """The ids of combinations: the values of several columns in one row, hashed together.

    A linear model of two columns cannot tell that a route is more than where it begins and where it ends; a cross has a
    row for it. Combinations that share a bucket share a row. A missing value is a value like any other here. The hash
    is that of docs/format.md, so a combination has the same id on every machine and in every version.

    Args:
        columns: the columns' names, two or more, in an order that matters.
        buckets: how many rows the combinations share.
        kind: the kind of the values, for each column or for all, as ``Vocabulary.kind`` tells it; others are refused.
        name: for error messages; by default the names of the columns.

    Raises:
        VocabularyError: an argument that is none of these.

    >>> routes = CrossVocabulary(["origin", "dest"], 1000)
    >>> ids = routes.encode({"origin": ["JFK", "SFO", "JFK"], "dest": ["SFO", "JFK", None]})
    >>> ids.shape, len(set(ids.tolist()))
    (torch.Size([3]), 3)
    """

    def __init__(
        self, columns: Sequence[str], buckets: int, *, kind: str | Sequence[str] = "string", name: str | None = None
    ) -> None:
        columns = columns if isinstance(columns, str) else list(columns)
        if isinstance(columns, str) or not all(isinstance(column, str) for column in columns):
            raise VocabularyError(
                f"a cross is made of the names of columns, such as ['origin', 'dest'] (got {columns!r})"
            )
        if len(columns) < 2 or len(set(columns)) < len(columns):
            raise VocabularyError(f"a cross is made of two columns or more, each once (got {columns})")
        check_name(name)
        super().__init__(buckets, kind="bytes", name=name or "×".join(columns))
        kinds = (kind,) * len(columns) if isinstance(kind, str) else tuple(kind)
        if len(kinds) != len(columns):
            raise VocabularyError(f"a cross of {len(columns)} columns has as many kinds, or one (got {len(kinds)})")
        for each in kinds:
            check_choice(each, "kind", tuple(PLURALS))
        self._columns, self._kinds = tuple(columns), kinds

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that are combined."""
        return self._columns

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kind of each column's values."""
        return self._kinds

    @property
    def kind(self) -> str:
        """``"cross"``."""
        return "cross"

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of columns, kinds and buckets: equal ones give equal ids."""
        facts = {"cross": self._columns, "kinds": self._kinds, "buckets": self.buckets}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def __repr__(self) -> str:
        kinds = "" if set(self._kinds) == {"string"} else f", kind={list(self._kinds)}"
        return f"CrossVocabulary({list(self._columns)}, {self.buckets}{kinds})"

    def encode(self, column: Any, *, grow: bool = False) -> torch.Tensor:
        """The id of every row of a table, or dict of columns, that has the columns: int64, of their shape.

        Raises:
            VocabularyError: a column that is absent, of another kind or another shape; ``grow=True``.
        """
        from catembed.vocabulary.lookup import buckets_of

        if grow:
            raise VocabularyError(f"{label(self.name)}a cross does not grow: every combination has an id already")
        import pyarrow as pa

        columns = self._read(column)
        words = np.stack([_hashes(each) for each in columns], 1)
        ids = np.empty(0, np.int64)
        if len(words):
            assert self.buckets is not None
            combined = pa.Array.from_buffers(pa.binary(8 * words.shape[1]), len(words), [None, pa.py_buffer(words)])
            ids = buckets_of(combined, self.buckets)
        return torch.from_numpy(ids).reshape(columns[0].shape)

    def _read(self, rows: Any) -> list[Column]:
        """The columns of a table that are combined, of the right kinds and of one shape."""
        table = columns_of(rows)
        columns: list[Column] = []
        for name, kind in zip(self._columns, self._kinds, strict=True):
            if name not in table:
                has = ", ".join(map(repr, table))
                raise VocabularyError(f"{label(self.name)}there is no column {name!r} (got {has})")
            given = read(table[name], name)
            if given.kind not in (None, kind):
                first = show(given.first(~given.missing())[1])
                raise VocabularyError(
                    f"{label(name)}the column holds {PLURALS[str(given.kind)]} ({first}), but the cross {self.name!r} "
                    f"was made for {PLURALS[kind]}; convert the column, or make the cross with another kind="
                )
            columns.append(given)
            if given.shape != columns[0].shape:
                raise VocabularyError(
                    f"{label(self.name)}its columns differ in length: {self._columns[0]!r} has shape "
                    f"{columns[0].shape}, {name!r} has {given.shape}"
                )
        return columns

    def ids_in(self, other: Described) -> np.ndarray:
        """For each id here the same one there, if that is a cross of the same columns; else -1 for each."""
        same = np.arange(len(self))
        return same if self == other else np.full_like(same, -1)

    # As it is stored

    def to_arrays(self, *, index: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The vocabulary as a plain JSON header, and no arrays: the form that is stored."""
        header = {"cross": list(self._columns), "kinds": list(self._kinds), "buckets": self.buckets}
        return {**header, "name": self.name, "fingerprint": self.fingerprint}, {}

    @classmethod
    def from_arrays(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, verify: bool = True
    ) -> CrossVocabulary:
        """The vocabulary that ``to_arrays`` gave, which need not be trusted; raises ``FormatError``."""
        if not isinstance(header, Mapping) or set(header) != _KEYS or arrays:
            raise FormatError(f"a cross has the header {sorted(_KEYS)} and no arrays (got {show(header)})")
        if not all(isinstance(header[key], list) for key in ("cross", "kinds")):
            raise FormatError(f"stored cross: columns and kinds are lists (got {show(header)})")
        try:
            self = cls(header["cross"], header["buckets"], kind=header["kinds"], name=header["name"])
        except VocabularyError as fact:
            raise FormatError(f"stored cross: {fact}") from None
        if self.fingerprint != header["fingerprint"]:
            raise FormatError("the stored settings of a cross do not match their fingerprint; the data is damaged")
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return CrossVocabulary.from_arrays, self.to_arrays()


def _hashes(column: Column) -> np.ndarray:
    """The hash of each value, flat int64; a missing one has a number of its own."""
    from catembed.vocabulary.lookup import hashes_of

    gone = column.missing()
    hashes = np.full(len(gone), _MISSING, np.int64)
    if not gone.all():
        hashes[~gone] = hashes_of(column.plain().filter(~gone) if gone.any() else column.plain())
    return hashes
