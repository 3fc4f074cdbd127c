"""Any column of bags to one flat column and offsets: lists of every library, and strings that a separator splits.

A bag is a list of values, one level deep; a single string that is split is a single bag. Arrow, polars and strings are
read without a look at each value in Python. What stands in place of a bag is told with its row, a value of a bag with
both: ``[row, place]``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow import types

from catembed.arrow_lists import flat_lists, is_list
from catembed.errors import VocabularyError
from catembed.vocabulary import columns
from catembed.vocabulary.kinds import Column, Part
from catembed.vocabulary.objects import is_missing
from catembed.vocabulary.text import PLURALS, InBags, show

__all__ = ["Lists", "read_lists", "read_values"]

_ADVICE = (
    "a bag is a list of values, so a column of one bag is written [[…]]; strings are split where a separator= is given"
)


class Lists(NamedTuple):
    """Bags: their values as one column, ``offsets (B + 1,)`` int64, and which bags are missing: bool ``(B,)``."""

    values: Column
    offsets: np.ndarray
    missing: np.ndarray
    single: bool = False  # one bag, given alone


def read_lists(column: Any, separator: str | None = None) -> Lists:
    """A column of lists, or with a separator also of strings; a missing bag has no values.

    Raises:
        VocabularyError: a row that is no list, a list inside a bag, values that are no categories.
    """
    column = _opened(column)
    found = _rows_or_arrow(column)
    if found is not None:
        lists = _of_rows(found) if isinstance(found, list) else _of_arrow(found)
        if lists is not None:
            return lists._replace(single=isinstance(column, pa.Scalar))
    values = columns.read(column)
    if separator is None:
        raise VocabularyError(_no_lists(values))
    return _split(values, separator)


def read_values(column: Any, separator: str | None = None) -> Column:
    """The values of any column, flat where it holds bags; a missing bag is one missing value."""
    column = _opened(column)
    if separator is None and not _has_lists(column):
        return columns.read(column)
    values, offsets, missing, single = read_lists(column, separator)
    if single:
        return Column(values.parts, (), values.kind)
    if not missing.any():
        return values
    codes = np.insert(np.arange(offsets[-1]), offsets[:-1][missing], -1)
    shape = InBags(offsets + np.append(0, missing.cumsum()))
    return Column((Part(values.plain(), codes),), shape, values.kind)


def _has_lists(column: Any) -> bool:
    """Whether a column has bags in its rows: lists that are one level deep, and not a matrix or more dimensions."""
    if isinstance(column, torch.Tensor) or (isinstance(column, np.ndarray) and column.ndim > 1):
        return False
    found = _rows_or_arrow(column)
    if found is None or not isinstance(found, list):
        return found is not None and is_list(found.type)
    first: Any = next((row for row in found if not is_missing(row)), None)
    if isinstance(first, pa.Scalar):
        return is_list(first.type)
    if not _is_bag(type(first)):
        return False
    if isinstance(column, (list, tuple)) and _is_matrix(found):
        return False
    return not any(_is_bag(type(value)) for row in found if isinstance(row, (list, tuple)) for value in row)


def _is_matrix(rows: list[Any]) -> bool:
    return all(_is_bag(type(row)) for row in rows) and len({len(row) for row in rows}) == 1


def _rows_or_arrow(column: Any) -> list[Any] | pa.Array | pa.ChunkedArray | None:
    """The rows of a column that are Python objects, or an Arrow array; None for what can hold no lists."""
    if isinstance(column, pa.Scalar):
        return pa.repeat(column, 1)
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return column
    if isinstance(column, np.ndarray):
        return list(column) if column.ndim > 1 or (column.ndim and column.dtype == object) else None
    if isinstance(column, torch.Tensor):
        return list(column) if column.ndim > 1 else None
    if (pandas := sys.modules.get("pandas")) and columns.is_pandas(column, pandas):
        return _of_pandas(column, pandas)
    if type(column).__module__.startswith("polars.") and str(getattr(column, "dtype", "")) == "Object":
        return column.to_list()
    if isinstance(column, Sequence) and not isinstance(column, (str, bytes, bytearray, memoryview)):
        return list(column)
    return None


def _opened(column: Any) -> Any:
    """What speaks Arrow's interface as Arrow, since a stream can be read but once; all else as it is."""
    pandas = sys.modules.get("pandas")
    if isinstance(column, (pa.Array, pa.ChunkedArray, list, np.ndarray)) or (
        pandas is not None and columns.is_pandas(column, pandas)
    ):
        return column
    if type(column).__module__.startswith("polars.") and str(getattr(column, "dtype", "")) == "Object":
        return column
    for name, reader in (("__arrow_c_stream__", pa.chunked_array), ("__arrow_c_array__", pa.array)):
        if hasattr(column, name):
            return columns.convert(column, reader)
    return column


def _of_pandas(column: Any, pandas: Any) -> list[Any] | pa.Array | None:
    dtype: Any = getattr(column, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype.kind == "O" and not isinstance(column, pandas.MultiIndex):
        return list(column)
    given = getattr(dtype, "pyarrow_dtype", None)
    if given is not None and is_list(given):
        return pa.Array.from_pandas(pandas.Series(column))
    return None


# Arrow


def _of_arrow(array: Any) -> Lists | None:
    """The bags of an Arrow array, or None where it has no lists."""
    if types.is_null(array.type):
        return _nothing_but_missing(len(array))
    if not is_list(array.type):
        return None
    try:
        values, offsets, missing = flat_lists(array)
    except pa.ArrowInvalid as fact:
        raise VocabularyError(f"the Arrow column is damaged: {fact}") from None
    shape = InBags(offsets)
    if is_list(values.type) and len(values) > values.null_count:
        at = shape.place(values.is_valid().index(True).as_py())
        raise VocabularyError(f"a bag is a list of values, one level deep; there is a list at {at}")
    return Lists(columns.of_arrow(pa.nulls(len(values)) if is_list(values.type) else values, shape), offsets, missing)


def _nothing_but_missing(count: int) -> Lists:
    offsets = np.zeros(count + 1, np.int64)
    return Lists(columns.of_arrow(pa.nulls(0), InBags(offsets)), offsets, np.ones(count, bool))


# Python objects


def _of_rows(rows: list[Any]) -> Lists | None:
    """The bags of a list of rows, or None where no row is a list."""
    if any(issubclass(kind, pa.Scalar) for kind in set(map(type, rows))):
        rows = [row.as_py() if isinstance(row, pa.Scalar) else row for row in rows]
    kinds = set(map(type, rows))
    bags = {kind for kind in kinds if _is_bag(kind)}
    if not bags:
        return _nothing_but_missing(len(rows)) if all(map(is_missing, rows)) else None
    missing = np.zeros(len(rows), bool)
    if kinds != bags:
        missing = np.fromiter((type(row) not in bags and is_missing(row) for row in rows), bool, len(rows))
        strange = next((at for at, row in enumerate(rows) if type(row) not in bags and not missing[at]), None)
        if strange is not None:
            raise VocabularyError(f"row {strange} is no list but {show(rows[strange])}; {_ADVICE}")
    there = [row for row in rows if type(row) in bags] if missing.any() else rows
    if not bags <= {list, tuple}:
        _refuse_other_dimensions(rows)
        if (joined := _joined(there)) is not None:
            offsets = _offsets(map(len, there), missing)
            return Lists(columns.of_numpy(joined, InBags(offsets)), offsets, missing)
        there = [_items(row) for row in there]
    offsets = _offsets(map(len, there), missing)
    values = columns.of_objects(list(chain.from_iterable(there)), InBags(offsets))
    return Lists(values, offsets, missing)


def _is_bag(kind: type) -> bool:
    """Whether objects of a type hold values in an order."""
    if issubclass(kind, (str, bytes, bytearray, memoryview, pa.Scalar)):
        return False
    return issubclass(kind, (Sequence, np.ndarray, torch.Tensor)) or any(
        hasattr(kind, name) for name in ("__arrow_c_array__", "__arrow_c_stream__", "iloc")
    )


def _offsets(sizes: Any, missing: np.ndarray) -> np.ndarray:
    """Where each bag begins, given how many values those have that are there."""
    lengths = np.zeros(len(missing) + 1, np.int64)
    lengths[1:][~missing] = list(sizes)
    return lengths.cumsum()


def _refuse_other_dimensions(rows: list[Any]) -> None:
    for at, row in enumerate(rows):
        if isinstance(row, (np.ndarray, torch.Tensor)) and row.ndim != 1:
            raise VocabularyError(f"row {at} is an array of {row.ndim} dimensions; {_ADVICE}")


def _joined(rows: list[Any]) -> np.ndarray | None:
    """Rows that are NumPy arrays of one dtype as one; None for all others."""
    if not all(type(row) is np.ndarray for row in rows):
        return None
    filled = [row for row in rows if len(row)] or rows[:1]
    alike = all(row.dtype == filled[0].dtype for row in filled)
    return np.concatenate(filled) if alike else None


def _items(row: Any) -> Sequence[Any]:
    """The values of one bag as Python or NumPy scalars."""
    if isinstance(row, np.ndarray) and not isinstance(row, np.ma.MaskedArray):
        return list(row)
    if isinstance(row, Sequence):
        return row
    return columns.read(row).plain().to_pylist()


# Strings


def _split(column: Column, separator: str) -> Lists:
    """The bags that strings hold, split wherever the separator stands; what is around it is not stripped."""
    if len(column.shape) > 1:
        raise VocabularyError(f"strings that are split are a column of one dimension, got shape {column.shape}")
    if column.kind not in (None, "string"):
        place, value = column.first(~column.missing())
        told = f"{show(value)} at position {place}" if column.shape else show(value)
        raise VocabularyError(f"separator= splits strings, and the column holds {PLURALS[column.kind]} ({told})")
    strings = column.plain()
    single = not column.shape
    if column.kind is None:
        return _nothing_but_missing(len(strings))._replace(single=single)
    missing = column.missing()
    empty = pc.call_function("equal", [pc.call_function("binary_length", [strings]), 0])
    filled = pc.call_function("if_else", [empty, pa.scalar(None, strings.type), strings])
    values, offsets, _ = flat_lists(pc.call_function("split_pattern", [filled], pc.SplitPatternOptions(separator)))
    return Lists(columns.of_arrow(values, InBags(offsets)), offsets, missing, single)


def _no_lists(column: Column) -> str:
    """What to say of a column that has values where bags should be."""
    there = ~column.missing()
    if not there.any():
        return f"a column of shape {column.shape} holds no lists; {_ADVICE}"
    place, value = column.first(there)
    told = f"row {place} holds" if column.shape else "there is"
    return f"{told} {show(value)}, which is no list; {_ADVICE}"
