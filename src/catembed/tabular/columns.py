"""``Columns``: the vectors of a row's categories, side by side. The one place where tables are looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from catembed.functional import Lookup, embedding_bag, lookup_columns
from catembed.nn import CategoryEmbedding
from catembed.tabular.bags import Bags
from catembed.vocabulary import CrossVocabulary, Vocabulary


class Columns(nn.Module):
    """The layers of the columns, those of one id first and then those of lists.

    Args:
        layers: by column; the same layer under several names is one table.
        num_lists: how many of the last ones are of lists.
        pooling: of the vectors of a list: ``"mean"``, ``"sqrtn"`` or ``"sum"``.
    """

    def __init__(self, layers: Mapping[str, CategoryEmbedding], num_lists: int = 0, pooling: str = "mean") -> None:
        super().__init__()
        self.pooling = pooling
        self.tables = nn.ModuleList({id(each): each for each in layers.values()}.values())
        self._names, self._single = tuple(layers), len(layers) - num_lists
        distinct = list(self.tables)
        self._places = [distinct.index(each) for each in layers.values()]

    @classmethod
    def of(
        cls,
        vocabularies: Mapping[str, Vocabulary | CrossVocabulary],
        dimension: Callable[[int], int],
        num_lists: int = 0,
        pooling: str = "mean",
        spread: float = 1.0,
    ) -> Columns:
        """New layers, one for each distinct vocabulary, of normal numbers with the standard deviation ``spread``."""
        made = {id(each): CategoryEmbedding(each, dimension(len(each))) for each in vocabularies.values()}
        with torch.no_grad():
            for layer in made.values():
                layer.embedding.weight.mul_(spread)
        return cls({name: made[id(each)] for name, each in vocabularies.items()}, num_lists, pooling)

    def layers(self) -> dict[str, CategoryEmbedding]:
        """The layer of each column, by its name."""
        distinct = cast("Sequence[CategoryEmbedding]", self.tables)
        return {name: distinct[place] for name, place in zip(self._names, self._places, strict=True)}

    def weights(self) -> list[Tensor]:
        """The weight of each table, once."""
        return [each.embedding.weight for each in cast("Sequence[CategoryEmbedding]", self.tables)]

    @property
    def slices(self) -> dict[str, slice]:
        """Where each column's vector lies in the output."""
        widths = [each.embedding.embedding_dim for each in self.layers().values()]
        return {
            name: slice(end - width, end)
            for name, width, end in zip(self._names, widths, accumulate(widths), strict=True)
        }

    @property
    def width(self) -> int:
        """The length of all vectors together."""
        return sum(each.embedding.embedding_dim for each in self.layers().values())

    def forward(self, ids: Tensor, bags: Sequence[Bags]) -> Tensor:
        """Vectors of shape (rows, width) for int64 ids of shape (rows, single columns) and the bags of each list."""
        weights = self.weights()
        found: list[Lookup | Tensor] = [
            Lookup(weights[place], column) for place, column in zip(self._places, ids.T, strict=False)
        ]
        found += [
            pooled(bag, weights[place], self.pooling)
            for bag, place in zip(bags, self._places[self._single :], strict=True)
        ]
        return lookup_columns(found) if found else ids.new_empty((len(ids), 0), dtype=torch.float32)


def pooled(bags: Bags, weight: Tensor, mode: str) -> Tensor:
    """The pooled rows of each row's list, (rows, D); equal lists are pooled once."""
    kinds = embedding_bag(bags.values, weight, bags.offsets, mode=mode, include_last_offset=True)
    return functional.embedding(bags.rows, kinds)
