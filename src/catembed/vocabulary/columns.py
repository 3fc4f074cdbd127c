"""Any column to Arrow: lists, NumPy, pandas, polars, Arrow, torch, and whatever speaks Arrow's C interface.

``read`` is the only way in. It keeps the shape, takes categoricals and dictionaries by value (never by code),
and refuses what is no column (tables, sets, ragged lists) with a word on what to pass instead. pandas is
recognised only where the caller has already imported it.
"""

import sys
from collections.abc import Callable, Sequence
from itertools import chain, groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pyarrow import types

from catembed.arrow_lists import is_list
from catembed.errors import VocabularyError
from catembed.vocabulary.buffers import from_arrow, from_numpy, kind_of_text
from catembed.vocabulary.kinds import ARROW_TYPES, Column, Part, Shape, validate
from catembed.vocabulary.objects import from_objects, from_texts, is_missing
from catembed.vocabulary.text import EMPTY, HOLDS_BAGS, PLURALS, show, where

# bytearray and memoryview would otherwise pass as sequences of integers.
_SCALARS = (str, bytes, int, float, np.generic, type(None), bytearray, memoryview)
_FEW = 256  # entries of a dictionary that are checked in the time it takes to pick one out
_MOST_DIMENSIONS = 64  # as in NumPy and torch; also stops at a list that contains itself


def read(column: Any) -> Column:
    """Any column, scalar or nested list as a ``Column``; raises ``VocabularyError`` saying what is wrong."""
    if isinstance(column, Column):
        return column
    if isinstance(column, _SCALARS):
        return of_objects([column], ())
    if isinstance(column, (list, tuple)):
        return _read_nested(column)
    if isinstance(column, np.ndarray):
        return of_numpy(column)
    if isinstance(column, torch.Tensor):
        return of_numpy(convert(column, lambda tensor: tensor.detach().cpu().numpy()))
    if isinstance(column, pa.Scalar):
        return of_arrow(pa.repeat(column, 1), ())
    if isinstance(column, (pa.Array, pa.ChunkedArray)):
        return of_arrow(column)
    if (pandas := sys.modules.get("pandas")) and is_pandas(column, pandas):
        return _read_pandas(column, pandas)
    if type(column).__module__.startswith("polars.") and str(getattr(column, "dtype", "")) == "Object":
        return _read_nested(column.to_list())  # polars hands out the addresses of its Python objects
    if hasattr(column, "__arrow_c_stream__"):
        return of_arrow(convert(column, pa.chunked_array))
    if hasattr(column, "__arrow_c_array__"):
        return of_arrow(convert(column, pa.array))
    if is_missing(column) or not hasattr(column, "__iter__"):
        return of_objects([column], ())
    if hasattr(column, "__array__"):
        return of_numpy(convert(column, np.asarray))
    if isinstance(column, Sequence):
        return _read_nested(column)
    raise VocabularyError(
        f"a {type(column).__name__} is no column: it has no order, or can be read only once; "
        "pass a list, made with sorted(…) or list(…)"
    )


def of_objects(values: list[Any], shape: Shape, seen: set[type] | None = None) -> Column:
    """A flat list of scalars, whose types are ``seen``, as a ``Column`` of a shape."""
    if seen is None and (texts := from_texts(values)) is not None:
        return Column((Part(texts),), shape, "string")
    array, kind = from_objects(values, set(map(type, values)) if seen is None else seen, shape)
    return Column((Part(array),), shape, kind)


def convert(column: Any, converter: Callable[[Any], Any]) -> Any:
    """What another library's function makes of a column; its refusal as a ``VocabularyError``."""
    try:
        return converter(column)
    except (pa.ArrowException, TypeError, ValueError, RuntimeError) as error:
        raise VocabularyError(f"this {type(column).__name__} cannot be read as a column: {error}") from None


# Lists, tuples and other sequences


def _read_nested(values: Sequence[Any]) -> Column:
    if (texts := from_texts(values)) is not None:
        return Column((Part(texts),), (len(values),), "string")
    flat, seen, shape = _flatten(values)
    if any(map(_holds_values, seen)):
        return _stack([read(value) for value in flat], shape)
    return of_objects(flat, shape, seen)


def _flatten(values: Sequence[Any]) -> tuple[list[Any], set[type], Shape]:
    """Nested lists as one list of what is no list, the types in it, and the shape."""
    flat = list(values)
    shape: Shape = (len(flat),)
    seen = set(map(type, flat))
    while any(issubclass(t, (list, tuple)) for t in seen):
        sizes = [len(value) if isinstance(value, (list, tuple)) else None for value in flat]
        for position, size in enumerate(sizes):
            if size != sizes[0]:
                raise VocabularyError(
                    f"ragged nested lists: {_describe(flat[0])}{where(0, shape)}, but "
                    f"{_describe(flat[position])}{where(position, shape)}; pad them to one length, or {HOLDS_BAGS}"
                )
        shape = (*shape, len(flat[0]))
        if len(shape) > _MOST_DIMENSIONS:
            raise VocabularyError(f"lists nested more than {_MOST_DIMENSIONS} deep are no column")
        flat = list(chain.from_iterable(flat))
        seen = set(map(type, flat))
    return flat, seen, shape


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
    kind = next(iter(first), None)
    arrays = [column.plain().cast(ARROW_TYPES[kind or EMPTY]) for column in columns]
    return Column((Part(pa.concat_arrays(arrays)),), shape + columns[0].shape, kind)


# NumPy and Arrow


def of_numpy(array: np.ndarray, shape: Shape | None = None) -> Column:
    """A NumPy array as a ``Column``; ``shape`` in place of its own."""
    masked = np.ma.getmaskarray(array).reshape(-1) if isinstance(array, np.ma.MaskedArray) else None
    shape, flat = array.shape if shape is None else shape, np.asarray(array).reshape(-1)
    if flat.dtype.kind not in "OUST":
        values, kind = from_numpy(flat, masked, shape)
        return Column((Part(values),), shape, kind)
    # Arrow cuts fixed-width NumPy text at its first NUL, so text travels as Python objects.
    objects = flat.tolist()
    if masked is not None:
        objects = [None if gone else value for value, gone in zip(objects, masked, strict=True)]
    return of_objects(objects, shape)


def of_arrow(array: pa.Array | pa.ChunkedArray, shape: Shape | None = None) -> Column:
    """An Arrow array as a ``Column``; ``shape`` in place of its own."""
    given = array.type
    shape = (len(array),) if shape is None else shape
    if is_list(given):
        raise VocabularyError(f"an Arrow column of type {given} holds lists, and no categories; {HOLDS_BAGS}")
    if types.is_struct(given):
        names = [field.name for field in given]
        raise VocabularyError(f"a table is many columns, here {show(names)}: pass one of them")
    # What no kernel of ours checks is checked before anything reads it: bad offsets would lead out of its memory.
    by_kernels = kind_of_text(given) is not None or types.is_dictionary(given)
    validate(array, full=not by_kernels)
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    if types.is_dictionary(given):
        columns = [_read_dictionary(chunk) for chunk in _joined(chunks)]
        kinds = [column.kind for column in columns if column.kind is not None]
        parts = tuple(part for column in columns for part in column.parts)
        return Column(parts, shape, kinds[0] if kinds else None)
    if by_kernels or given == pa.int64():
        kind = kind_of_text(given) or "integer"
        return Column(tuple(Part(chunk) for chunk in chunks), shape, kind)
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if isinstance(whole, pa.ChunkedArray):
        whole = pa.concat_arrays(whole.chunks)
    if types.is_run_end_encoded(given):
        return of_arrow(pc.call_function("run_end_decode", [whole]), shape)
    values, kind = from_arrow(whole, shape)
    return Column((Part(values),), shape, kind)


def _joined(chunks: list[pa.DictionaryArray]) -> list[pa.DictionaryArray]:
    """Chunks that follow each other and have the very same dictionary as one, so that it is read once."""
    runs = [list(run) for _, run in groupby(chunks, lambda chunk: _place(chunk.dictionary))]
    return [
        run[0]
        if len(run) == 1
        else pa.DictionaryArray.from_arrays(
            pa.concat_arrays([chunk.indices for chunk in run]), run[0].dictionary, safe=False
        )
        for run in runs
    ]


def _place(array: pa.Array) -> tuple[Any, ...]:
    """Where an array lies in memory: what is equal for two arrays only if they are the same."""
    return array.offset, len(array), *(None if buffer is None else buffer.address for buffer in array.buffers())


def _read_dictionary(array: pa.DictionaryArray) -> Column:
    """A dictionary's entries are read once, if that is less work than reading them where they are used."""
    dictionary, codes = array.dictionary, _codes(array)
    try:
        entries = of_arrow(dictionary) if len(dictionary) < len(array) else None
    except VocabularyError:
        entries = None
    if entries is None or len(entries.parts) != 1 or entries.parts[0].codes is not None:
        return of_arrow(_used(dictionary, codes))
    return Column((Part(entries.parts[0].values, codes),), codes.shape, entries.kind)


def _used(dictionary: pa.Array, codes: np.ndarray) -> pa.Array:
    """The entries that codes point to; only these are checked, as long as they are few."""
    used, places = np.unique(codes, return_inverse=True)
    if len(used) * _FEW < len(dictionary):
        slices = [dictionary.slice(int(code), 1) if code >= 0 else dictionary.slice(0, 0) for code in used]
        for each in slices:
            validate(each)
        codes = places - int(used[0] < 0) if len(used) else places
        dictionary = _concatenated(slices, dictionary.type)
    else:
        validate(dictionary)
        dictionary = _concatenated([dictionary], dictionary.type)
    return dictionary.take(pa.array(codes, mask=codes < 0))


def _concatenated(arrays: list[pa.Array], given: pa.DataType) -> pa.Array:
    """Arrays as one; of text in the one type of its kind, since views cannot be taken from."""
    kind = kind_of_text(given)
    wide = given if kind is None else ARROW_TYPES[kind]
    return pa.concat_arrays([array.cast(wide) for array in arrays] or [pa.array([], wide)])


def _codes(array: pa.DictionaryArray) -> np.ndarray:
    """Where each value stands in the dictionary: int64, -1 where it is missing."""
    codes = array.indices.cast(pa.int64(), safe=False)
    ends = pc.call_function("min_max", [codes])
    if ends["min"].is_valid and not 0 <= ends["min"].as_py() <= ends["max"].as_py() < len(array.dictionary):
        raise VocabularyError(
            f"the Arrow column is damaged: its codes run from {ends['min']} to {ends['max']}, and its dictionary has "
            f"{len(array.dictionary)} entries"
        )
    return codes.fill_null(-1).to_numpy() if codes.null_count else codes.to_numpy()


# pandas


def is_pandas(column: Any, pandas: Any) -> bool:
    """Whether this is pandas' own, given the module."""
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
        return of_numpy(column.to_numpy())
    try:
        array = pa.Array.from_pandas(column)
    except (pa.ArrowException, TypeError, ValueError):  # sparse columns, and text that is no Unicode
        return of_objects(column.tolist(), column.shape)
    return of_arrow(array)


def _read_categorical(column: Any) -> Column:
    try:
        entries = read(column.dtype.categories) if len(column.dtype.categories) < len(column) else None
    except VocabularyError:
        entries = None
    if entries is None:  # read what is used, where it is used
        return of_objects(column.tolist(), column.shape)
    codes = column.cat.codes.to_numpy(dtype=np.int64)
    return Column((Part(entries.plain(), codes),), codes.shape, entries.kind)
