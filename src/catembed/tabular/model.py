"""The networks: a row of categories and numbers in, logits or a value out.

``EntityEmbeddings`` is the default: the vectors of a row, its numbers and its target encodings go through a small
multilayer perceptron. A second, smaller one sees vectors and numbers only, and is trained beside it: so the vectors
must say what a category means, and not merely what the target encodings leave over. The other models are in
``factorisation.py``.

Source: Guo & Berkhahn, "Entity Embeddings of Categorical Variables", arXiv:1604.06737.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from catembed.tabular.bags import Bags
from catembed.tabular.columns import Columns, pooled
from catembed.tabular.dropout import Dropout

WIDEST = 16
POOLING = "mean"  # of lists
SPREAD = 0.1  # of the initial vectors: near zero, so that a category starts as the average one
_HIDDEN = 128
_DROPOUT = 0.3
_EMBEDDING_DROPOUT = 0.1


def dimensions(rows: int) -> int:
    """The length of the vectors for a column of so many ids (fastai's rule of thumb, with a lower ceiling).

    >>> [dimensions(rows) for rows in (2, 12, 100, 10_000)]
    [2, 6, 16, 16]
    """
    return min(WIDEST, round(1.6 * rows**0.56))


class Inputs(NamedTuple):
    """What a model sees of some rows.

    ``ids`` are int64, (rows, columns), ``numbers`` and ``encoded`` (target encodings) float32, (rows, …).
    """

    ids: Tensor
    bags: tuple[Bags, ...]
    numbers: Tensor
    encoded: Tensor

    def take(self, rows: Tensor) -> Inputs:
        """These rows, in this order."""
        bags = tuple(each.take(rows) for each in self.bags)
        return Inputs(self.ids[rows], bags, self.numbers[rows], self.encoded[rows])


class Network(nn.Module):
    """What the training loop takes: called with ``Inputs``, gives a list of outputs, the prediction first."""

    columns: Columns

    def tables(self) -> list[Tensor]:
        """The embedding weights, which decay at a rate of their own."""
        raise NotImplementedError


class EntityEmbeddings(Network):
    """Entity embeddings and a multilayer perceptron.

    Args:
        columns: the layers of the categories.
        num_numbers: how many numbers a row has.
        num_encoded: how many target encodings.
        num_outputs: how many values come out.
    """

    def __init__(self, columns: Columns, num_numbers: int, num_encoded: int, num_outputs: int) -> None:
        super().__init__()
        self.columns = columns
        self.dropout = Dropout(_EMBEDDING_DROPOUT)
        width = columns.width + num_numbers
        self.from_all = perceptron(width + num_encoded, num_outputs, layers=2)
        self.from_vectors = perceptron(width, num_outputs, layers=1)

    def tables(self) -> list[Tensor]:
        """The embedding weights, one per table."""
        return self.columns.weights()

    def forward(self, rows: Inputs) -> list[Tensor]:
        """Two outputs of shape (rows, num_outputs): the prediction, and the one from the vectors alone."""
        row = torch.cat([self.dropout(self.columns(rows.ids, rows.bags)), rows.numbers], 1)
        return [self.from_all(torch.cat([row, rows.encoded], 1)), self.from_vectors(row)]


class OneHotLinear(Network):
    """The linear model on one-hot categories and numbers: a baseline, and the linear part of the other models.

    A one-hot column times its weights is a lookup, so all columns share one table of ``num_outputs`` wide rows.

    Args:
        sizes: how many ids each column has, those of lists last.
        num_numbers: how many numbers a row has.
        num_outputs: how many values come out.
        pooling: of the weights of a list.
    """

    def __init__(self, sizes: Sequence[int], num_numbers: int, num_outputs: int, pooling: str = POOLING) -> None:
        super().__init__()
        self.starts = torch.tensor([0, *sizes]).cumsum(0)[:-1]
        self.pooling = pooling
        self.weights = nn.EmbeddingBag(max(1, sum(sizes)), num_outputs, mode="sum")
        self.numbers = nn.Parameter(torch.zeros(num_numbers, num_outputs))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.zeros_(self.weights.weight)

    def tables(self) -> list[Tensor]:
        """The one table of all columns."""
        return [self.weights.weight]

    def forward(self, rows: Inputs) -> list[Tensor]:
        """One output of shape (rows, num_outputs); target encodings are not used."""
        linear = self.bias + rows.numbers @ self.numbers
        single = rows.ids.shape[1]
        if single:
            linear = linear + self.weights(rows.ids + self.starts[:single])
        for bags, start in zip(rows.bags, self.starts[single:], strict=True):
            linear = linear + pooled(bags._replace(values=bags.values + start), self.weights.weight, self.pooling)
        return [linear]


def perceptron(width: int, outputs: int, *, layers: int) -> nn.Sequential:
    """Hidden layers with dropout, and a linear one to ``outputs`` values."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(width, _HIDDEN), nn.ReLU(), Dropout(_DROPOUT)]
        width = _HIDDEN
    return nn.Sequential(*parts, nn.Linear(width, outputs))
