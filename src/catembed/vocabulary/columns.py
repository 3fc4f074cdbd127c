"""Any column to Arrow: lists, NumPy, pandas, polars, Arrow, torch, and whatever speaks Arrow's C interface.

``read`` is the only way in. It keeps the shape, takes categoricals and dictionaries by value (never by code),
and refuses what is no column (tables, sets, ragged lists) with a word on what to pass instead. pandas is
recognised only where the caller has already imported it.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from catembed.errors import VocabularyError
from catembed.vocabulary.buffers import from_arrow, from_numpy
from catembed.vocabulary.kinds import Column, Shape
from catembed.vocabulary.objects import from_objects, is_missing
from catembed.vocabulary.text import PLURALS, show, where

# bytearray and memoryview would otherwise pass as sequences of integers.
_SCALARS = (str, bytes, int, float, np.generic, type(None), bytearray, memoryview)
_MOST_DIMENSIONS = 64  # as in NumPy and torch; also stops at a list that contains itself


def read(column: Any) -> Column:
    """Any column, scalar or nested list as a ``Column``; raises ``VocabularyError`` saying what is wrong."""
    if isinstance(column, _SCALARS):
        return _of_objects([column], ())
    if isinstance(column, (list, tuple)):
        return _read_nested(column)
    if isinstance(column, np.ndarray):
        return _read_numpy(column)
    if isinstance(column, torch.Tensor):
        return _read_numpy(_convert(column, lambda tensor: tensor.detach().cpu().numpy()))
    if isinstance(column, pa.Scalar):
        return _read_arrow(pa.repeat(column, 1), ())
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return _read_arrow(column)
    if (pandas := sys.modules.get("pandas")) and _is_pandas(column, pandas):
        return _read_pandas(column, pandas)
    if type(column).__module__.startswith("polars.") and str(getattr(column, "dtype", "")) == "Object":
        return _read_nested(column.to_list())  # polars hands out the addresses of its Python objects
    if hasattr(column, "__arrow_c_stream__"):
        return _read_arrow(_convert(column, pa.chunked_array))
    if hasattr(column, "__arrow_c_array__"):
        return _read_arrow(_convert(column, pa.array))
    if is_missing(column) or not hasattr(column, "__iter__"):
        return _of_objects([column], ())
    if hasattr(column, "__array__"):
        return _read_numpy(_convert(column, np.asarray))
    if isinstance(column, Sequence):
        return _read_nested(column)
    raise VocabularyError(
        f"a {type(column).__name__} is no column: it has no order, or can be read only once; "
        "pass a list, made with sorted(…) or list(…)"
    )


def _of_objects(values: list[Any], shape: Shape) -> Column:
    array, kind = from_objects(values, shape)
    return Column(array, None, shape, kind)


def _convert(column: Any, converter: Callable[[Any], Any]) -> Any:
    try:
        return converter(column)
    except (pa.ArrowException, TypeError, ValueError, RuntimeError) as error:
        raise VocabularyError(f"this {type(column).__name__} cannot be read as a column: {error}") from None


# Lists, tuples and other sequences


def _read_nested(values: Sequence[Any]) -> Column:
    flat, types, shape = _flatten(values)
    if any(map(_holds_values, types)):
        return _stack([read(value) for value in flat], shape)
    return _of_objects(flat, shape)


def _flatten(values: Sequence[Any]) -> tuple[list[Any], set[type], Shape]:
    """Nested lists as one list of what is no list, the types in it, and the shape."""
    flat = list(values)
    shape: Shape = (len(flat),)
    types = set(map(type, flat))
    while any(issubclass(t, (list, tuple)) for t in types):
        sizes = [len(value) if isinstance(value, (list, tuple)) else None for value in flat]
        for position, size in enumerate(sizes):
            if size != sizes[0]:
                raise VocabularyError(
                    f"ragged nested lists: {_describe(flat[0])}{where(0, shape)}, but "
                    f"{_describe(flat[position])}{where(position, shape)}; pad them to one length"
                )
        shape = (*shape, len(flat[0]))
        if len(shape) > _MOST_DIMENSIONS:
            raise VocabularyError(f"lists nested more than {_MOST_DIMENSIONS} deep are no column")
        flat = list(chain.from_iterable(flat))
        types = set(map(type, flat))
    return flat, types, shape


def _describe(value: Any) -> str:
    return f"a list of {len(value)}" if isinstance(value, (list, tuple)) else show(value)


def _holds_values(element: type) -> bool:
    return issubclass(element, (np.ndarray, torch.Tensor, pa.Scalar)) or any(
        hasattr(element, name) for name in ("__arrow_c_array__", "__arrow_c_stream__")
    )


def _stack(columns: list[Column], shape: Shape) -> Column:
    """Columns that were the elements of a list, as one column with their dimensions after the list's."""
    first: dict[str, int] = {}
    for position, column in enumerate(columns):
        if column.shape != columns[0].shape:
            raise VocabularyError(
                f"ragged columns: shape {columns[0].shape}{where(0, shape)}, but shape "
                f"{column.shape}{where(position, shape)}; pad them to one length"
            )
        if column.kind is not None:
            first.setdefault(column.kind, position)
    if len(first) > 1:
        found = " and ".join(f"{PLURALS[kind]}{where(at, shape)}" for kind, at in first.items())
        raise VocabularyError(f"mixed types: {found}; convert all values to one type")
    arrays = [column.plain() for column in columns]
    kind = next(iter(first), None)
    if kind is not None:
        arrays = [array.cast(arrays[first[kind]].type) for array in arrays]
    return Column(pa.concat_arrays(arrays), None, shape + columns[0].shape, kind)


# NumPy and Arrow


def _read_numpy(array: np.ndarray) -> Column:
    masked = np.ma.getmaskarray(array).reshape(-1) if isinstance(array, np.ma.MaskedArray) else None
    shape, flat = array.shape, np.asarray(array).reshape(-1)
    if flat.dtype.kind not in "OUST":
        values, kind = from_numpy(flat, masked, shape)
        return Column(values, None, shape, kind)
    # Arrow cuts fixed-width NumPy text at its first NUL, so text travels as Python objects.
    objects = flat.tolist()
    if masked is not None:
        objects = [None if gone else value for value, gone in zip(objects, masked, strict=True)]
    return _of_objects(objects, shape)


def _read_arrow(array: pa.Array | pa.ChunkedArray, shape: Shape | None = None) -> Column:
    try:
        array.validate(full=True)  # before anything reads it: bad offsets would lead out of its memory
    except pa.ArrowInvalid as error:
        raise VocabularyError(f"the Arrow column is damaged: {error}") from None
    if pa.types.is_dictionary(array.type) and pa.types.is_null(array.type.value_type):
        array = pa.nulls(len(array))  # Arrow cannot combine such chunks
    if isinstance(array, pa.ChunkedArray):
        chunks = [_widen(chunk) for chunk in array.chunks]
        array = chunks[0] if len(chunks) == 1 else _combine(pa.chunked_array(chunks, type=_wide(array.type)))
    else:
        array = _widen(array)
    if pa.types.is_run_end_encoded(array.type):
        array = pc.call_function("run_end_decode", [array])
    if pa.types.is_struct(array.type):
        names = [field.name for field in array.type]
        raise VocabularyError(f"a table is many columns, here {show(names)}: pass one of them")
    shape = (len(array),) if shape is None else shape
    if pa.types.is_dictionary(array.type):
        return _read_dictionary(array, shape)
    values, kind = from_arrow(array, shape)
    return Column(values, None, shape, kind)


def _read_dictionary(array: pa.DictionaryArray, shape: Shape) -> Column:
    try:
        entries = _read_arrow(array.dictionary) if len(array.dictionary) < len(array) else None
    except VocabularyError:
        entries = None
    if entries is None:  # read what is used, where it is used
        return _read_arrow(array.dictionary.take(array.indices), shape)
    codes = array.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    return Column(entries.plain(), codes, shape, entries.kind)


def _combine(chunks: pa.ChunkedArray) -> pa.Array:
    combined = chunks.unify_dictionaries().combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _widen(array: pa.Array) -> pa.Array:
    """Text with 64-bit offsets, also in dictionaries: views lack kernels, 32 bits end at 2 GiB of text."""
    if not pa.types.is_dictionary(array.type):
        return array.cast(_wide(array.type))
    return pa.DictionaryArray.from_arrays(array.indices, _widen(array.dictionary), safe=False)


def _wide(arrow_type: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(arrow_type):
        return pa.dictionary(arrow_type.index_type, _wide(arrow_type.value_type))
    if arrow_type in (pa.string(), pa.string_view()):
        return pa.large_string()
    return pa.large_binary() if arrow_type in (pa.binary(), pa.binary_view()) else arrow_type


# pandas


def _is_pandas(column: Any, pandas: Any) -> bool:
    extension = pandas.api.extensions.ExtensionArray
    return isinstance(column, (pandas.Series, pandas.Index, pandas.DataFrame, extension))


def _read_pandas(column: Any, pandas: Any) -> Column:
    if isinstance(column, pandas.DataFrame):
        raise VocabularyError("a DataFrame is many columns: pass one, such as frame['city']")
    if isinstance(column, pandas.MultiIndex):
        raise VocabularyError("a MultiIndex is many columns: pass one, such as index.get_level_values(0)")
    if not isinstance(column, pandas.Series):
        column = pandas.Series(column)
    dtype = column.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        return _read_categorical(column)
    if isinstance(dtype, np.dtype):
        return _read_numpy(column.to_numpy())
    try:
        array = pa.Array.from_pandas(column)
    except (pa.ArrowException, TypeError, ValueError):  # sparse columns, and text that is no Unicode
        return _of_objects(column.tolist(), column.shape)
    return _read_arrow(array)


def _read_categorical(column: Any) -> Column:
    try:
        entries = read(column.dtype.categories) if len(column.dtype.categories) < len(column) else None
    except VocabularyError:
        entries = None
    if entries is None:  # read what is used, where it is used
        return _of_objects(column.tolist(), column.shape)
    codes = column.cat.codes.to_numpy(dtype=np.int64)
    return Column(entries.plain(), codes, codes.shape, entries.kind)
