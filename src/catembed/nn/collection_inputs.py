"""What an ``EmbeddingCollection`` is called with: tables, dicts and matrices of ids, TorchRec's jagged tensors.

Rules, as for each column alone: a tensor holds ids, all else holds categories; where categories are integers or bools
``ids=`` says it. Columns are named in every error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from catembed.errors import CatembedError, TableError, UnseenCategoryError
from catembed.functional import Jagged
from catembed.nn.category_embedding import CategoryEmbedding, grows_by
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.vocabulary import CrossVocabulary, check_columns, columns_of, integers

if TYPE_CHECKING:
    from catembed.nn.collection import EmbeddingCollection
    from catembed.nn.encoder import Encoder

__all__ = ["check_lengths", "check_weights", "encode", "given_ids", "ids_of", "naming", "needed", "probe"]

_READER = "the collection"
_PROBED = 32  # rows of a table that tell what its columns hold
Ids = Mapping[str, Any]


def needed(collection: EmbeddingCollection | Encoder) -> tuple[str, ...]:
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
        for name, layer in collection.items():
            _refuse_ambiguous(name, layer)
        return _of_keyed_jagged(collection, rows)
    table = columns_of(rows)
    ids = encode(collection, table, lambda layer, column: layer.encode(column))
    categories = {name: layer for name, layer in collection.items() if isinstance(layer, CategoryEmbedding)}
    growing = {id(layer) for name, layer in categories.items() if grows_by(layer, ids[name])}
    if growing:  # nothing has, so far: all columns are known to be sound
        ids = encode(collection, table, lambda layer, column: layer.encode(column, grow=id(layer) in growing))
    return {
        name: ids[name].to(layer.embedding.weight.device) if name in categories else ids[name]
        for name, layer in collection.items()
    }, {}


def encode(collection: EmbeddingCollection | Encoder, rows: Any, encoder: Callable[[Any, Any], Any]) -> Ids:
    """The ids of a table's columns; ``encoder`` gives those of all layers that are no tables of ids themselves."""
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


def _ids_of_column(name: str, layer: Any, column: Any, encoder: Callable[[Any, Any], Any]) -> Any:
    if isinstance(column, (Tensor, Jagged)):
        _refuse_ambiguous(name, layer)
        return column
    if isinstance(layer, Embedding):
        return integers(column).to(layer.weight.device)
    return column if isinstance(layer, EmbeddingBag) else encoder(layer, column)


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
    kind = getattr(getattr(layer, "vocabulary", None), "kind", None)
    if kind in ("integer", "boolean"):
        raise TypeError(
            f"the categories of column {name!r} are {kind}s, so a tensor may hold categories or ids: "
            "layer(ids=...) takes ids, layer(ids=layer.encode(rows)) takes categories"
        )


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Name the column in what is raised about it."""
    try:
        yield
    except (CatembedError, TypeError, ValueError, RuntimeError) as fact:
        plain = isinstance(fact, CatembedError) or type(fact) in (TypeError, ValueError, RuntimeError)
        if not plain or str(fact).startswith(f"column {name!r}"):
            raise
        raise type(fact)(f"column {name!r}: {fact}") from None


def probe(collection: EmbeddingCollection, rows: Any) -> None:
    """Raise what looking up a table would raise, but for values that are no categories; by its first rows."""
    table = columns_of(rows)
    reads = needed(collection)
    check_columns([name for name in table if name in reads], reads, _READER)
    first, rows = reads[0], len(table[reads[0]])
    for name in reads:
        if len(table[name]) != rows:
            told = f"column {first!r} has {rows:,} rows, column {name!r} {len(table[name]):,}"
            raise TableError(f"columns differ in length: {told}")
    with contextlib.suppress(UnseenCategoryError):
        encode(collection, {name: table[name][:_PROBED] for name in reads}, lambda layer, column: layer.encode(column))


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
    found: dict[str, Any] = {}
    for name, layer in collection.items():
        with naming(name):
            plain = not _pools(layer) and not isinstance(ids[name], (Tensor, Jagged))
            found[name] = integers(ids[name]).to(next(layer.parameters()).device) if plain else ids[name]
    return found, {}


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
    weights = {name: parts[name].weights() for name in collection}
    for name, layer in collection.items():
        if not _pools(layer):
            weighted = (weights.pop(name) != 1).nonzero()
            if len(weighted):
                raise TableError(
                    f"column {name!r} is looked up without pooling, and takes no weights (that of row "
                    f"{int(weighted[0])} is not 1)"
                )
    return ids, weights


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


def check_lengths(collection: EmbeddingCollection, ids: Ids) -> None:
    """Raise unless all columns have as many rows; and, where vectors are to lie side by side, one shape."""
    first, shape = "", None
    for name, layer in collection.items():
        column = ids[name]
        rows = column.shape if type(column) is Tensor and type(layer) is Embedding else _rows(layer, column)
        if shape is None:
            first, shape = name, rows
        elif rows != shape and (collection.output == "concat" or rows[:1] != shape[:1]):
            told = f"column {first!r} has {_told(shape)}, column {name!r} {_told(rows)}"
            raise TableError(f"columns differ in length: {told}")


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
