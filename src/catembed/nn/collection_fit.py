"""`fitted_layers`: the layers of an ``EmbeddingCollection``, their vocabularies learned from a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from catembed.errors import CatembedError, TableError
from catembed.nn.category_embedding import CategoryEmbedding
from catembed.vocabulary import Vocabulary, columns_of

__all__ = ["fitted_layers"]

_OF_VOCABULARY = ("min_count", "max_size", "order", "unseen", "missing", "buckets")
_OF_BOTH = ("separator",)


def fitted_layers(rows: Any, columns: Sequence[str] | Mapping[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A layer for each column of a schema; see ``EmbeddingCollection.fit``.

    Raises:
        TableError: a column that the table does not have; a shared one that is shared itself.
        VocabularyError: values that make no vocabulary.
    """
    table = columns_of(rows)
    schema = dict(columns) if isinstance(columns, Mapping) else {name: {} for name in _names(columns)}
    owners = {name: _owner(name, schema) for name in schema}
    layers: dict[str, Any] = {}
    for name, entry in schema.items():
        if isinstance(entry, Mapping):
            sharing = [each for each, owner in owners.items() if owner == name]
            layers[name] = _fitted(name, sharing, table, {**settings, **entry})
        elif isinstance(entry, nn.Module):
            layers[name] = entry
    return {name: layers[owner] for name, owner in owners.items()}


def _owner(name: str, schema: Mapping[str, Any]) -> str:
    """The column whose entry describes the table of this one: itself, or the one that it names."""
    entry = schema[name]
    if isinstance(entry, (Mapping, nn.Module)):
        return name
    if not isinstance(entry, str):
        raise TypeError(
            f"column {name!r} has settings as a dict, the name of the column whose table it shares, or a layer "
            f"(got {entry!r:.100})"
        )
    if entry not in schema or isinstance(schema[entry], str):
        reason = "shares another's itself" if entry in schema else "is none of the columns"
        raise TableError(f"column {name!r} shares the table of column {entry!r}, which {reason}")
    return entry


def _names(columns: Any) -> list[str]:
    if isinstance(columns, str):
        raise TypeError(f"columns are a list of names, or a dict (got the string {columns!r})")
    names = list(columns)
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TableError(f"column {twice[0]!r} is named twice")
    return names


def _fitted(name: str, sharing: Sequence[str], table: Mapping[str, Any], settings: dict[str, Any]) -> CategoryEmbedding:
    for each in sharing:
        if each not in table:
            raise TableError(f"the table has no column {each!r}; it has {', '.join(map(repr, table))}")
    of_vocabulary = {key: value for key, value in settings.items() if key in (*_OF_VOCABULARY, *_OF_BOTH)}
    of_layer = {key: value for key, value in settings.items() if key not in _OF_VOCABULARY}
    data = table[name] if len(sharing) == 1 else (table[each] for each in sharing)
    try:
        vocabulary = Vocabulary.fit(data, name=name, **of_vocabulary)
    except CatembedError as fact:
        told = str(fact)
        raise (fact if told.startswith(f"column {name!r}") else type(fact)(f"column {name!r}: {told}")) from None
    return CategoryEmbedding(vocabulary, of_layer.pop("embedding_dim", "auto"), **of_layer)
