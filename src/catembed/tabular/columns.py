"""``Columns``: the vectors of a row's categories, side by side. The one place where tables are looked up.

Columns of one category are an ``EmbeddingCollection``; lists are pooled here, each distinct one once in a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from catembed.functional import embedding_bag
from catembed.nn import CategoryEmbedding, EmbeddingCollection
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
        names = list(layers)
        single, lists = names[: len(names) - num_lists], names[len(names) - num_lists :]
        self.single = EmbeddingCollection({name: layers[name] for name in single}) if single else None
        self.lists = nn.ModuleList(layers[name] for name in lists)
        self._lists = lists

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
        lists = zip(self._lists, cast("Sequence[CategoryEmbedding]", self.lists), strict=True)
        return dict(self.single.items() if self.single is not None else ()) | dict(lists)

    def weights(self) -> list[Tensor]:
        """The weight of each table, once."""
        return list({id(each): each.embedding.weight for each in self.layers().values()}.values())

    @property
    def width(self) -> int:
        """The length of all vectors together."""
        return sum(each.embedding.embedding_dim for each in self.layers().values())

    def common_length(self, default: int) -> int:
        """The length of each vector, where all have one; ``default`` where there are no columns."""
        lengths = {each.embedding.embedding_dim for each in self.layers().values()} or {default}
        if len(lengths) > 1:
            raise ValueError(f"the vectors of all columns must have one length (got {sorted(lengths)})")
        return lengths.pop()

    def forward(self, ids: Tensor, bags: Sequence[Bags]) -> Tensor:
        """Vectors of shape (rows, width) for int64 ids of shape (rows, single columns) and the bags of each list."""
        found = [] if self.single is None else [self.single(ids=ids)]
        for bag, layer in zip(bags, cast("Sequence[CategoryEmbedding]", self.lists), strict=True):
            found.append(pooled(bag, layer.embedding.weight, self.pooling))
        return torch.cat(found, 1) if found else ids.new_empty((len(ids), 0), dtype=torch.float32)


def pooled(bags: Bags, weight: Tensor, mode: str) -> Tensor:
    """The pooled rows of each row's list, (rows, D); equal lists are pooled once."""
    kinds = embedding_bag(bags.values, weight, bags.offsets, mode=mode, include_last_offset=True)
    return functional.embedding(bags.rows, kinds)
