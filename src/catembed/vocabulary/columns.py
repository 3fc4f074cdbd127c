"""Any column to Arrow: lists, NumPy, pandas, polars, Arrow, torch, and whatever speaks Arrow's C interface.

``read`` is the only way in. It keeps the shape, takes categoricals and dictionaries by value (never by code),
and refuses what is no column (tables, sets, ragged lists) with a word on what to pass instead. The heavy
libraries are recognised only where the caller has already imported them.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from catembed.errors import VocabularyError
from catembed.vocabulary import buffers
from catembed.vocabulary.kinds import PLURALS, show, show_position, size_of
from catembed.vocabulary.objects import from_objects, is_missing, kind_of

Shape = tuple[int, ...]

_SCALARS = (str, bytes, int, float, np.generic, type(None))


@dataclass(frozen=True, slots=True)
class Column:
    """A column of one kind in its one Arrow type.

    ``values`` holds the values themselves or, where ``codes`` is given, the dictionary that the codes point
    into (-1: missing). ``kind`` is None where nothing tells it: every value is missing.
    """

    values: pa.Array
    codes: np.ndarray | None
    shape: Shape
    kind: str | None

    def spread(self, ids: np.ndarray) -> np.ndarray:
        """One id for each of ``values`` to one for each place of the column, flat; -1 where missing."""
        if self.codes is None:
            return ids
        return np.append(ids, -1)[self.codes]

    def missing(self) -> np.ndarray:
        """Which places hold no value: bool, flat."""
        gone = self.values.is_null().to_numpy(zero_copy_only=False)
        return gone if self.codes is None else np.append(gone, True)[self.codes]

    def plain(self) -> pa.Array:
        """The column without a dictionary."""
        if self.codes is None:
            return self.values
        return self.values.take(pa.array(self.codes, mask=self.codes < 0))

    def at(self, positions: np.ndarray) -> list[Any]:
        """The Python values at these flat positions."""
        if self.codes is not None:
            positions = self.codes[positions]
        return self.values.take(pa.array(positions)).to_pylist()


def read(column: Any) -> Column:
    """Any column, scalar or nested list as a ``Column``; raises ``VocabularyError`` saying what is wrong."""
    if isinstance(column, _SCALARS):
        return _of_objects([column], ())
    if isinstance(column, (list, tuple)):
        return _read_nested(column)
    if isinstance(column, np.ndarray):
        return _read_numpy(column)
    if isinstance(column, torch.Tensor):
        return _read_numpy(column.detach().cpu().numpy())
    if isinstance(column, pa.Scalar):
        return _read_arrow(pa.array([column.as_py()], type=column.type), ())
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return _read_arrow(column, (len(column),))
    if (pandas := sys.modules.get("pandas")) and _is_pandas(column, pandas):
        return _read_pandas(column, pandas)
    if hasattr(column, "__arrow_c_stream__"):
        return _read_arrow(_import(column, pa.chunked_array), None)
    if hasattr(column, "__arrow_c_array__"):
        return _read_arrow(_import(column, pa.array), None)
    if is_missing(column) or not hasattr(column, "__iter__"):
        return _of_objects([column], ())
    if hasattr(column, "__array__"):
        return _read_numpy(np.asarray(column))
    if isinstance(column, Sequence):
        return _read_nested(list(column))
    raise VocabularyError(
        f"a {type(column).__name__} is no column: it has no order of its own or can be read only once; "
        "pass a list, such as sorted(…) or list(…)"
    )


def _of_objects(values: list[Any], shape: Shape) -> Column:
    array, kind = from_objects(values, shape)
    return Column(array, None, shape, kind)


def _read_nested(values: Sequence[Any]) -> Column:
    flat, shape = _flatten(values)
    if any(map(_holds_values, set(map(type, flat)))):
        return _stack([read(value) for value in flat], shape)
    return _of_objects(flat, shape)


def _flatten(values: Sequence[Any]) -> tuple[list[Any], Shape]:
    flat = list(values)
    shape: Shape = (len(flat),)
    while flat and any(issubclass(t, (list, tuple)) for t in set(map(type, flat))):
        for position, value in enumerate(flat):
            expected = flat[0]
            nested = isinstance(value, (list, tuple))
            if nested != isinstance(expected, (list, tuple)) or (nested and len(value) != len(expected)):
                raise VocabularyError(
                    f"ragged nested lists: {_describe(expected)} at {show_position(0, shape)} but "
                    f"{_describe(value)} at {show_position(position, shape)}; pad them to one length"
                )
        shape = (*shape, len(flat[0]))
        flat = list(chain.from_iterable(flat))
    return flat, shape


def _describe(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, (list, tuple)) else show(value)


def _holds_values(kind: type) -> bool:
    return issubclass(kind, (np.ndarray, torch.Tensor, pa.Scalar)) or any(
        hasattr(kind, name) for name in ("__arrow_c_array__", "__arrow_c_stream__")
    )


def _stack(columns: list[Column], shape: Shape) -> Column:
    """Columns that were elements of a list, as one column with one dimension more."""
    first: dict[str, int] = {}
    for position, column in enumerate(columns):
        if column.shape != columns[0].shape:
            raise VocabularyError(
                f"ragged columns: shape {columns[0].shape} at {show_position(0, shape)} but shape "
                f"{column.shape} at {show_position(position, shape)}; pad them to one length"
            )
        if column.kind is not None:
            first.setdefault(column.kind, position)
    if len(first) > 1:
        found = " and ".join(f"{PLURALS[kind]} (at {show_position(at, shape)})" for kind, at in first.items())
        raise VocabularyError(f"mixed types: {found}; convert all values to one type")
    kind = next(iter(first), None)
    arrays = [column.plain() for column in columns]
    if kind is not None:
        arrays = [array.cast(columns[first[kind]].values.type) for array in arrays]
    return Column(pa.concat_arrays(arrays), None, shape + columns[0].shape, kind)


def _read_numpy(array: np.ndarray) -> Column:
    masked = np.ma.getmaskarray(array).reshape(-1) if isinstance(array, np.ma.MaskedArray) else None
    shape, flat = array.shape, np.asarray(array).reshape(-1)
    if flat.dtype.kind not in "OUST":
        values, kind = buffers.from_numpy(flat, masked, shape)
        return Column(values, None, shape, kind)
    # pyarrow cuts fixed-width NumPy strings at their first NUL, so they travel as Python objects.
    objects = flat.tolist()
    if masked is not None:
        objects = [None if gone else value for value, gone in zip(objects, masked, strict=True)]
    column = _of_objects(objects, shape)
    if column.kind is None and not objects and flat.dtype.kind in "UT":
        return Column(column.values, None, shape, "string")
    return column


def _read_arrow(array: pa.Array | pa.ChunkedArray, shape: Shape | None) -> Column:
    if isinstance(array, pa.ChunkedArray):
        array = _combine(array)
    shape = (len(array),) if shape is None else shape
    if pa.types.is_run_end_encoded(array.type):
        array = pa.compute.run_end_decode(array)
    try:
        array.validate(full=True)
    except pa.ArrowInvalid as error:
        raise VocabularyError(f"the Arrow column is damaged: {error}") from None
    if pa.types.is_dictionary(array.type):
        codes = array.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
        entries = _read_arrow(array.dictionary, None)
        return Column(entries.plain(), codes, shape, entries.kind)
    values, kind = buffers.from_arrow(array, shape)
    return Column(values, None, shape, kind)


def _combine(array: pa.ChunkedArray) -> pa.Array:
    if pa.types.is_string(array.type):  # more than 2 GiB of text fits no single array of 32-bit offsets
        array = array.cast(pa.large_string())
    elif pa.types.is_binary(array.type):
        array = array.cast(pa.large_binary())
    if array.num_chunks == 1:
        return array.chunk(0)
    if pa.types.is_dictionary(array.type):
        array = array.unify_dictionaries()
    combined = array.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _import(column: Any, importer: Any) -> Any:
    try:
        return importer(column)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise VocabularyError(f"a {type(column).__name__} gave no Arrow column: {error}") from None


def _is_pandas(column: Any, pandas: Any) -> bool:
    return isinstance(column, (pandas.Series, pandas.Index, pandas.DataFrame, pandas.api.extensions.ExtensionArray))


def _read_pandas(column: Any, pandas: Any) -> Column:
    if isinstance(column, pandas.DataFrame):
        raise VocabularyError("a DataFrame is many columns: pass one, such as frame['city']")
    if isinstance(column, pandas.MultiIndex):
        raise VocabularyError("a MultiIndex is many columns: pass one, such as index.get_level_values(0)")
    if not isinstance(column, pandas.Series):
        column = pandas.Series(column)
    dtype = column.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        codes = column.cat.codes.to_numpy(dtype=np.int64)
        entries = read(dtype.categories)
        return Column(entries.plain(), codes, codes.shape, entries.kind)
    if isinstance(dtype, np.dtype):
        return _read_numpy(column.to_numpy())
    try:
        return _read_arrow(pa.Array.from_pandas(column), None)
    except UnicodeEncodeError:
        return _of_objects(column.tolist(), column.shape)
    except (pa.ArrowException, TypeError, ValueError) as error:
        if isinstance(error, VocabularyError):
            raise
        raise VocabularyError(f"a pandas column of dtype {dtype} cannot be read: {error}") from None


def count_missing(column: Column) -> int:
    """How many places of the column hold no value."""
    return int(column.missing().sum()) if size_of(column.shape) else 0


__all__ = ["Column", "count_missing", "kind_of", "read"]
