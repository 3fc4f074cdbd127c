"""``Encoder``: the part of an ``EmbeddingCollection`` that makes ids of columns; vocabularies, and no weights.

It is what travels to the workers of a ``DataLoader``: pickled, it costs what its vocabularies cost, and one that lies
in a file travels as the file's path (``nn.mapped``). It shares the vocabularies of the collection it came from.
Nothing grows by it: values that are new are what the policy of the vocabulary says of them outside of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from catembed.functional import Jagged, as_bags
from catembed.nn import collection_inputs as inputs
from catembed.nn.category_embedding import CategoryEmbedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.nn.vocabulary_state import AnyVocabulary
from catembed.vocabulary import encode_bags, integers

__all__ = ["EncodedColumn", "Encoder", "bags_of_ids"]

_ON_CPU = torch.empty(0, 0)  # in place of a weight, whose device ids go to


class EncodedColumn(NamedTuple):
    """How one column becomes ids."""

    vocabulary: AnyVocabulary | None  # None: the column holds ids
    rows: int  # of the table, where the column holds ids
    bags: bool
    separator: str | None

    @property
    def num_embeddings(self) -> int:
        """How many ids there are; more once the vocabulary has grown."""
        return self.rows if self.vocabulary is None else len(self.vocabulary)

    @classmethod
    def of(cls, layer: Any) -> Self:
        """How the column of a layer becomes ids."""
        if isinstance(layer, CategoryEmbedding):
            return cls(layer.vocabulary, len(layer.vocabulary), layer.pooling is not None, layer.separator)
        return cls(None, layer.num_embeddings, isinstance(layer, EmbeddingBag), None)

    def encode(self, column: Any) -> Tensor | Jagged:
        """The ids of a column: an int64 tensor, for bags always a ``Jagged``."""
        if self.vocabulary is None:
            return bags_of_ids(column) if self.bags else integers(column)
        if not self.bags:
            return self.vocabulary.encode(column)
        ids, offsets, _ = encode_bags(self.vocabulary, column, separator=self.separator)
        return Jagged(ids, offsets)


class Encoder:
    """The columns of a collection and how they become ids; ``collection.encoder()`` makes one."""

    def __init__(self, columns: Mapping[str, EncodedColumn]) -> None:
        self._columns = dict(columns)

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that have ids."""
        return tuple(self._columns)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read from a table; see ``EmbeddingCollection.inputs``."""
        return inputs.needed(self)

    def items(self) -> Iterator[tuple[str, EncodedColumn]]:
        """The columns and how they become ids."""
        return iter(self._columns.items())

    def encode(self, rows: Any) -> Mapping[str, Any]:
        """The ids of all columns of a table, on the CPU; raises what ``EmbeddingCollection.encode`` raises."""
        return inputs.encode(self, rows, lambda column, values: column.encode(values))


def bags_of_ids(column: Any) -> Jagged:
    """Bags of ids in any form as a ``Jagged``."""
    bags = as_bags(column, _ON_CPU)
    if bags.offsets is not None:
        return Jagged(bags.ids, bags.offsets)
    if bags.ids.dim() != 2:
        raise TypeError(
            f"the column of an EmbeddingBag holds a list of ids in each row (got shape {tuple(bags.ids.shape)})"
        )
    count, width = bags.ids.shape
    return Jagged(bags.ids.reshape(-1), torch.arange(count + 1, device=bags.ids.device) * width)
