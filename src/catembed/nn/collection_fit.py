"""`fitted_layers`: the layers of an ``EmbeddingCollection``, their vocabularies learned from a table."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from catembed.errors import TableError
from catembed.nn.category_embedding import CategoryEmbedding
from catembed.nn.collection_inputs import naming
from catembed.nn.embedding import Embedding
from catembed.vocabulary import Vocabulary, columns_of

__all__ = ["fitted_layers"]

_SHARES = "shares"
_OF_VOCABULARY = {"min_count", "max_size", "order", "unseen", "missing", "buckets"}
_OF_LAYER = {"embedding_dim", "pooling", "separator"} | set(inspect.signature(Embedding.__init__).parameters) - {
    "self",
    "num_embeddings",
    "name",
    "_weight",
}


def fitted_layers(rows: Any, columns: Sequence[str] | Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A layer for each column of a schema; see ``EmbeddingCollection.fit``.

    Raises:
        TableError: a column that the table does not have; a shared one that is shared itself.
        VocabularyError: values that make no vocabulary.
    """
    table = columns_of(rows)
    schema = dict(columns) if isinstance(columns, Mapping) else {name: {} for name in _names(columns)}
    owners = {name: _owner(name, schema) for name in schema}
    _check_settings("", settings)
    layers: dict[str, Any] = {}
    for name, entry in schema.items():
        if owners[name] == name:
            sharing = {each: schema[each] for each, owner in owners.items() if owner == name}
            layers[name] = entry if isinstance(entry, nn.Module) else _fitted(name, sharing, table, settings)
    for name, entry in schema.items():
        owner = layers[owners[name]]
        own = _own_settings(entry)
        layers[name] = owner if owners[name] == name or not own else _tied(name, owner, own)
    return {name: layers[name] for name in schema}


def _owner(name: str, schema: Mapping[str, Any]) -> str:
    """The column whose entry describes the table of this one: itself, or the one that it names."""
    entry = schema[name]
    if isinstance(entry, nn.Module) or (isinstance(entry, Mapping) and _SHARES not in entry):
        return name
    owner = entry[_SHARES] if isinstance(entry, Mapping) else entry
    if not isinstance(owner, str):
        raise TypeError(
            f"column {name!r} has settings as a dict, the name of the column whose table it shares, or a layer "
            f"(got {entry!r:.100})"
        )
    if owner not in schema or _shares(schema[owner]):
        reason = "shares another's itself" if owner in schema else "is none of the columns"
        raise TableError(f"column {name!r} shares the table of column {owner!r}, which {reason}")
    return owner


def _shares(entry: Any) -> bool:
    """Whether a column's entry names another column, whose table it shares."""
    return isinstance(entry, str) or (isinstance(entry, Mapping) and _SHARES in entry)


def _own_settings(entry: Any) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if key != _SHARES} if isinstance(entry, Mapping) else {}


def _names(columns: Any) -> list[str]:
    if isinstance(columns, str):
        raise TypeError(f"columns are a list of names, or a dict (got the string {columns!r})")
    names = list(columns)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TableError(f"column {twice[0]!r} is named twice")
    return names


def _check_settings(of: str, settings: Mapping[str, Any]) -> None:
    for key in settings:
        if key not in _OF_VOCABULARY | _OF_LAYER:
            known = ", ".join(sorted(_OF_VOCABULARY | _OF_LAYER))
            raise TypeError(f"{of}there is no setting {key!r}; there are {known}, and {_SHARES!r} in a column's own")


def _fitted(
    name: str, sharing: Mapping[str, Any], table: Mapping[str, Any], settings: Mapping[str, Any]
) -> CategoryEmbedding:
    """The layer of a column, its vocabulary learned from all columns that share it."""
    given = {**settings, **_own_settings(sharing[name])}
    _check_settings(f"column {name!r}: ", given)
    by_separator: dict[str | None, list[Any]] = {}
    for each, entry in sharing.items():
        if each not in table:
            raise TableError(f"the table has no column {each!r}; it has {', '.join(map(repr, table))}")
        separator = (
            given.get("separator") if each == name or isinstance(entry, str) else _own_settings(entry).get("separator")
        )
        by_separator.setdefault(separator, []).append(table[each])
    of_vocabulary = {key: value for key, value in given.items() if key in _OF_VOCABULARY}
    of_layer = {key: value for key, value in given.items() if key not in _OF_VOCABULARY}
    with naming(name):
        vocabulary = _learned(name, by_separator, of_vocabulary)
        return CategoryEmbedding(vocabulary, of_layer.pop("embedding_dim", "auto"), **of_layer)


def _learned(name: str, by_separator: Mapping[str | None, list[Any]], settings: dict[str, Any]) -> Vocabulary:
    """One vocabulary of several columns, some of which are strings to be split."""
    if len(by_separator) == 1:
        ((separator, columns),) = by_separator.items()
        return Vocabulary.fit(
            columns[0] if len(columns) == 1 else iter(columns), name=name, separator=separator, **settings
        )
    cut = {key: settings.pop(key) for key in ("min_count", "max_size", "order") if key in settings}
    parts = [
        Vocabulary.fit(iter(columns), name=name, separator=separator, **settings)
        for separator, columns in by_separator.items()
    ]
    return parts[0].merge(*parts[1:], **{"order": "frequency", **cut})[0]


def _tied(name: str, owner: Any, settings: Mapping[str, Any]) -> CategoryEmbedding:
    """A layer that reads its column in its own way, and has the vocabulary and the very weight of another."""
    allowed = {"pooling", "separator"}
    if not isinstance(owner, CategoryEmbedding) or set(settings) - allowed:
        raise TypeError(
            f"column {name!r} shares a table, so its own settings are {' and '.join(sorted(allowed))} (got "
            f"{', '.join(map(repr, settings))})"
        )
    with naming(name):
        table = owner.embedding
        layer = CategoryEmbedding(
            owner.vocabulary, table.embedding_dim, sparse=table.sparse, _weight=table.weight.detach(), **settings
        )
    layer.embedding.weight = table.weight
    layer.fresh_seed = owner.fresh_seed
    return layer
