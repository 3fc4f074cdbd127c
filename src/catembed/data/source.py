"""Where rows come from: tables and rows in memory, iterators of tables, files; as tables of a bounded number of rows.

Rule: a list of dicts is a list of rows, as for ``Encode``; a dict that an iterator gives is a table.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from catembed.data.batch import numbers, table_of
from catembed.errors import TableError
from catembed.functional import Jagged
from catembed.functional.jagged import as_jagged
from catembed.vocabulary import columns_of

__all__ = ["tables_of", "told_where"]

Table = Mapping[str, Any]


def tables_of(
    source: Any, names: Sequence[str], others: Sequence[str], text: Sequence[str], batch_size: int
) -> Iterator[Table]:
    """The columns ``names`` and ``others`` of a source, at most ``batch_size`` rows at a time.

    ``text`` are read as text of a CSV; ``others`` that are lists become numbers of one type for the whole table.
    """
    row = 0
    for table in _tables(source, (*names, *others), text):
        with told_where(row):
            chosen = dict(table_of(table, (*names, *others)))
            size = _size(chosen)
            for name in others:
                if size and not hasattr(chosen[name], "dtype") and not hasattr(chosen[name], "__arrow_c_stream__"):
                    chosen[name] = numbers(name, chosen[name])
        row += size
        for begin in range(0, size, batch_size):
            end = min(begin + batch_size, size)
            yield {name: _part(column, begin, end) for name, column in chosen.items()}


@contextlib.contextmanager
def told_where(row: int) -> Iterator[None]:
    """Errors count from the batch's first row: say which one of the source that is."""
    try:
        yield
    except Exception as fact:
        if row:
            fact.add_note(f"(in the batch that begins at row {row:,} of the source)")
        raise


def _tables(source: Any, names: Sequence[str], text: Sequence[str]) -> Iterator[Any]:
    if isinstance(source, (str, os.PathLike)) or (
        isinstance(source, (list, tuple)) and source and all(isinstance(one, (str, os.PathLike)) for one in source)
    ):
        return _of_files(source, names, text)
    arrow: Any = sys.modules.get("pyarrow.dataset")
    if arrow is not None and isinstance(source, arrow.Dataset):
        dataset: Any = source
        return iter(dataset.to_batches(columns=list(names)))
    if isinstance(source, Iterator):  # Arrow's readers among them
        return source
    if isinstance(source, (list, tuple)):
        return iter([source]) if any(isinstance(one, Mapping) for one in source) else map(columns_of, source)
    try:
        return iter([columns_of(source)])
    except TableError:
        if isinstance(source, Iterable):
            return map(_no_row, source)
        raise


def _no_row(table: Any) -> Any:
    """A table, where a dict may be a row, as of a dataset."""
    if isinstance(table, Mapping):
        raise TableError("a dict may be a row or a table here: give list(source) for rows, iter(source) for tables")
    return table


def _of_files(paths: Any, names: Sequence[str], text: Sequence[str]) -> Iterator[Table]:
    from catembed.vocabulary.fitting import open_files

    feeds, _ = open_files(paths, names, text)
    for feed in feeds:
        for batch in feed.start():
            if len(batch.columns[0]):
                yield dict(zip(names, batch.columns, strict=True))


def _size(table: Table) -> int:
    """How many rows a table has; its longest column, so that none is cut off unseen."""
    sizes = []
    for name, column in table.items():
        if isinstance(column, (str, bytes)) or not hasattr(column, "__len__"):
            raise TableError(f"column {name!r} is a single value ({column!r:.50}); a table has a column of them")
        if isinstance(column, Tensor) and column.dim():
            sizes.append(column.size(0))
            continue
        sizes.append(len(column.offsets) - 1 if isinstance(column, Jagged) else len(column))
    return max(sizes, default=0)


def _part(column: Any, begin: int, end: int) -> Any:
    if isinstance(column, Tensor) and column.is_nested:
        column = as_jagged(column, "a nested tensor")
    if isinstance(column, Jagged):
        offsets = column.offsets[begin : end + 1]
        return Jagged(column.values[offsets[0] : offsets[-1]], offsets - offsets[0])
    return getattr(column, "iloc", column)[begin:end]
