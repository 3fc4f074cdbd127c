"""The network: a row of categories and numbers in, logits or a value out.

Each categorical column has its ``CategoryEmbedding``; the vectors of a row, its numbers and its target encodings go
through a small multilayer perceptron. A second, smaller one sees vectors and numbers only, and is trained beside it:
so the vectors must say what a category means, and not merely what the target encodings leave over.

Source: Guo & Berkhahn, "Entity Embeddings of Categorical Variables", arXiv:1604.06737.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from catembed.nn import CategoryEmbedding
from catembed.vocabulary import Vocabulary

WIDEST = 16
_HIDDEN = 128
_DROPOUT = 0.3
_EMBEDDING_DROPOUT = 0.1
_SPREAD = 0.1  # of the initial vectors: near zero, so that a category starts as the average one


def dimensions(rows: int) -> int:
    """The length of the vectors for a column of so many ids (fastai's rule of thumb, with a lower ceiling).

    >>> [dimensions(rows) for rows in (2, 12, 100, 10_000)]
    [2, 6, 16, 16]
    """
    return min(WIDEST, round(1.6 * rows**0.56))


class Network(nn.Module):
    """What the training loop takes: called with ids, numbers and encodings, gives outputs, the prediction first."""

    def tables(self) -> list[Tensor]:
        """The embedding weights, which decay at a rate of their own."""
        raise NotImplementedError


class EntityEmbeddings(Network):
    """Entity embeddings and a multilayer perceptron.

    Args:
        vocabularies: one for each column of ``ids``.
        num_numbers: how many numbers a row has.
        num_encoded: how many target encodings.
        num_outputs: how many values come out.
        lengths: the length of each column's vectors; by default ``dimensions`` of its ids.
    """

    def __init__(
        self,
        vocabularies: Sequence[Vocabulary],
        num_numbers: int,
        num_encoded: int,
        num_outputs: int,
        lengths: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        lengths = [dimensions(len(each)) for each in vocabularies] if lengths is None else lengths
        self.columns = nn.ModuleList(map(CategoryEmbedding, vocabularies, lengths))
        self.dropout = nn.Dropout(_EMBEDDING_DROPOUT)
        width = sum(lengths) + num_numbers
        self.from_all = _perceptron(width + num_encoded, _HIDDEN, num_outputs, layers=2)
        self.from_vectors = _perceptron(width, _HIDDEN, num_outputs, layers=1)
        with torch.no_grad():
            for weight in self.tables():
                weight.mul_(_SPREAD)

    def tables(self) -> list[Tensor]:
        """The embedding weights, one per categorical column."""
        return [column.embedding.weight for column in self.layers()]

    def layers(self) -> list[CategoryEmbedding]:
        """The layers, one per categorical column."""
        return cast(list[CategoryEmbedding], list(self.columns))

    def forward(self, ids: Tensor, numbers: Tensor, encoded: Tensor) -> list[Tensor]:
        """Two outputs of shape (rows, num_outputs): the prediction, and the one from the vectors alone.

        Args:
            ids: int64, (rows, columns).
            numbers: float32, (rows, num_numbers).
            encoded: float32, (rows, num_encoded).
        """
        vectors = [self.dropout(column(ids=ids[:, place])) for place, column in enumerate(self.columns)]
        row = torch.cat([*vectors, numbers], 1)
        return [self.from_all(torch.cat([row, encoded], 1)), self.from_vectors(row)]


class OneHotLinear(Network):
    """The linear model on one-hot categories and numbers: a baseline.

    A one-hot column times its weights is a lookup, so all columns share one table of ``num_outputs`` wide rows.
    """

    def __init__(self, sizes: Sequence[int], num_numbers: int, num_outputs: int) -> None:
        super().__init__()
        self.starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
        self.weights = nn.EmbeddingBag(max(1, sum(sizes)), num_outputs, mode="sum")
        self.numbers = nn.Parameter(torch.zeros(num_numbers, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.zeros_(self.weights.weight)

    def tables(self) -> list[Tensor]:
        """The one table of all columns."""
        return [self.weights.weight]

    def forward(self, ids: Tensor, numbers: Tensor, encoded: Tensor) -> list[Tensor]:
        """One output of shape (rows, num_outputs); ``encoded`` is not used."""
        linear = self.bias + numbers @ self.numbers
        return [linear + self.weights(ids + self.starts) if ids.shape[1] else linear]


def _perceptron(width: int, hidden: int, outputs: int, *, layers: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(_DROPOUT)]
        width = hidden
    return nn.Sequential(*parts, nn.Linear(width, outputs))
