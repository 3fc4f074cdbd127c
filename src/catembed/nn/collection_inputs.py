"""What an ``EmbeddingCollection`` is called with: tables, dicts and matrices of ids, TorchRec's jagged tensors.

Rules, as for each column alone: a tensor holds ids, all else holds categories; where categories are integers or bools
``ids=`` says it. Columns are named in every error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from catembed.errors import CatembedError, TableError
from catembed.functional import Jagged, as_ids
from catembed.nn.category_embedding import CategoryEmbedding, ids_to_look_up
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.vocabulary import CrossVocabulary, check_columns, columns_of

if TYPE_CHECKING:
    from catembed.nn.collection import EmbeddingCollection

__all__ = ["check_lengths", "check_weights", "encode", "given_ids", "ids_of", "naming", "needed"]

_READER = "the collection"
Ids = Mapping[str, Any]


def needed(collection: EmbeddingCollection) -> tuple[str, ...]:
    """The columns of a table that a collection reads."""
    names: dict[str, None] = {}
    for name, layer in collection.items():
        names |= dict.fromkeys(_sources(layer) or (name,))
    return tuple(names)


def _sources(layer: Any) -> tuple[str, ...]:
    """The columns that a cross is made of; none for all other layers."""
    vocabulary = getattr(layer, "vocabulary", None)
    return vocabulary.columns if isinstance(vocabulary, CrossVocabulary) else ()


def ids_of(collection: EmbeddingCollection, rows: Any) -> tuple[Ids, Mapping[str, Any]]:
    """The ids of what a collection is called with, new categories included, and the weights that came with them."""
    if _is_keyed_jagged(rows):
        return _of_keyed_jagged(collection, rows)
    return encode(collection, rows, lambda layer, column: ids_to_look_up(layer, column)[0]), {}


def encode(collection: EmbeddingCollection, rows: Any, encoder: Callable[[CategoryEmbedding, Any], Any]) -> Ids:
    """The ids of a table's columns; ``encoder`` gives those of categories."""
    table = columns_of(rows)
    if table and all(isinstance(column, (Tensor, Jagged)) for column in table.values()):
        check_columns(list(table), collection.names, _READER)
        for name, layer in collection.items():
            _refuse_ambiguous(name, layer)
        return dict(table)
    check_columns(list(table), needed(collection), _READER)
    ids: dict[str, Any] = {}
    for name, layer in collection.items():
        column = _columns_of_cross(name, layer, table) if _sources(layer) else table[name]
        with naming(name):
            ids[name] = _ids_of_column(name, layer, column, encoder)
    return ids


def _ids_of_column(name: str, layer: Any, column: Any, encoder: Callable[[CategoryEmbedding, Any], Any]) -> Any:
    if isinstance(column, (Tensor, Jagged)):
        _refuse_ambiguous(name, layer)
        return column
    if isinstance(layer, CategoryEmbedding):
        return encoder(layer, column)
    return as_ids(_numbers(column), layer.weight) if isinstance(layer, Embedding) else column


def _numbers(column: Any) -> Any:
    """A column of integers of any library as what ``Embedding`` takes."""
    return column if isinstance(column, (list, tuple, int, np.ndarray, np.generic)) else np.asarray(column)


def _columns_of_cross(name: str, layer: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    columns = {source: table[source] for source in _sources(layer)}
    for source, column in columns.items():
        if isinstance(column, (Tensor, Jagged)):
            raise TypeError(
                f"column {name!r} is a cross, made of values, and column {source!r} holds a tensor, of ids: give the "
                f"table's own columns, or all ids, those of {name!r} among them, with ids="
            )
    return columns


def _refuse_ambiguous(name: str, layer: Any) -> None:
    if isinstance(layer, CategoryEmbedding) and layer.vocabulary.kind in ("integer", "boolean"):
        raise TypeError(
            f"the categories of column {name!r} are {layer.vocabulary.kind}s, so a tensor may hold categories or ids: "
            "layer(ids=...) takes ids, layer(ids=layer.encode(rows)) takes categories"
        )


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the column in what is raised about it."""
    try:
        yield
    except (CatembedError, TypeError, ValueError) as fact:
        if str(fact).startswith(f"column {name!r}") or type(fact).__module__ not in ("builtins", "catembed.errors"):
            raise
        raise type(fact)(f"column {name!r}: {fact}") from None


# Ids


def given_ids(collection: EmbeddingCollection, ids: Any) -> tuple[Ids, Mapping[str, Any]]:
    """``ids=`` as a dict, and the weights that came with them."""
    if _is_keyed_jagged(ids):
        return _of_keyed_jagged(collection, ids)
    if isinstance(ids, Tensor):
        if ids.dim() < 1 or ids.shape[-1] != len(collection):
            raise TableError(
                f"ids as one tensor have the shape (*, {len(collection)}), one for each column (got {tuple(ids.shape)})"
            )
        return dict(zip(collection, ids.unbind(-1), strict=True)), {}
    if not isinstance(ids, Mapping):
        raise TypeError(f"ids= takes a dict of ids by column, or one tensor (got {type(ids).__name__})")
    check_columns(list(ids), collection.names, _READER)
    if all(type(column) is Tensor for column in ids.values()):
        return ids, {}
    return {
        name: as_ids(ids[name], layer.weight) if isinstance(layer, Embedding) else ids[name]
        for name, layer in collection.items()
    }, {}


def _is_keyed_jagged(rows: Any) -> bool:
    return type(rows).__name__ == "KeyedJaggedTensor" and hasattr(rows, "weights_or_none")


def _of_keyed_jagged(collection: EmbeddingCollection, rows: Any) -> tuple[Ids, Mapping[str, Any]]:
    """The ids, and the weights where there are any, of a TorchRec ``KeyedJaggedTensor``."""
    check_columns(list(rows.keys()), collection.names, _READER)
    parts = rows.to_dict()
    ids: dict[str, Any] = {}
    for name, layer in collection.items():
        values, offsets = parts[name].values(), parts[name].offsets()
        if _pools(layer):
            ids[name] = Jagged(values, offsets)
            continue
        odd = (offsets.diff() != 1).nonzero()
        if len(odd):
            at = int(odd[0])
            raise TableError(
                f"column {name!r} is looked up without pooling, so each row has one id (row {at} has "
                f"{int(offsets.diff()[at])}): give it an EmbeddingBag, or a CategoryEmbedding with pooling="
            )
        ids[name] = values
    if rows.weights_or_none() is None:
        return ids, {}
    return ids, {name: parts[name].weights() for name, layer in collection.items() if _pools(layer)}


def _pools(layer: Any) -> bool:
    return isinstance(layer, EmbeddingBag) or isinstance(getattr(layer, "embedding", None), EmbeddingBag)


# Checks


def check_weights(collection: EmbeddingCollection, weights: Any) -> Mapping[str, Any]:
    """Per-sample weights by column, for columns that have bags."""
    if not isinstance(weights, Mapping):
        raise TypeError(f"per_sample_weights are a dict of weights by column (got {type(weights).__name__})")
    for name in weights:
        if name not in collection:
            raise TableError(f"per_sample_weights are given for column {name!r}, which the collection does not have")
        if not _pools(collection[name]):
            raise TableError(f"per_sample_weights are for bags, and column {name!r} is looked up without pooling")
    return weights


def check_lengths(collection: EmbeddingCollection, ids: Ids, required: bool) -> bool:
    """Whether all columns give vectors of one shape, which can lie side by side; else raise, if ``required``."""
    first, shape, alike = "", None, True
    for name, layer in collection.items():
        column = ids[name]
        rows = column.shape if type(column) is Tensor and type(layer) is Embedding else _rows(layer, column)
        if shape is None:
            first, shape = name, rows
        elif rows != shape:
            if required or rows[:1] != shape[:1]:
                told = f"column {first!r} has {_told(shape)}, column {name!r} {_told(rows)}"
                raise TableError(f"columns differ in length: {told}")
            alike = False
    return alike and (required or not any(_is_unpooled(layer) for _, layer in collection.items()))


def _is_unpooled(layer: Any) -> bool:
    return getattr(getattr(layer, "embedding", layer), "mode", None) == "none"


def _rows(layer: Any, ids: Any) -> tuple[int, ...]:
    """The shape of a column, without what its layer pools."""
    if isinstance(ids, Jagged):
        return (len(ids.offsets) - 1,)
    if not isinstance(ids, Tensor):
        return (len(ids),)
    if ids.is_nested:
        return (ids.size(0),)
    pooled = _pools(layer) or getattr(getattr(layer, "vocabulary", None), "hashes", 1) > 1
    return ids.shape[:-1] if pooled else ids.shape


def _told(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"{shape[0]:,} row{'s' if shape[0] != 1 else ''}"
    return f"the shape {shape}"
