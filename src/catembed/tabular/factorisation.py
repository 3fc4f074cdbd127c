"""Factorisation machines: every pair of features interacts, by the inner product of their vectors.

``FactorisationMachine``: bias + Σ w_i x_i + Σ_{i<j} <v_i, v_j> x_i x_j, the pairs by the identity
Σ_{i<j} <a_i, a_j> = ½ (|Σ a_i|² - Σ |a_i|²), so that its cost is linear in the number of features. A category has
x = 1; a list is one feature, whose vector is the sum of its members' over the root of their number, so that user, film
and the films that the user has rated make SVD++ (Koren 2008). The classes of a multiclass target have weights of their
own over the factors.

``DeepFM``: the same, plus a multilayer perceptron on the same vectors.

Sources: Rendle, "Factorization Machines", ICDM 2010; Guo et al., "DeepFM", arXiv:1703.04247.
Known limits: no target encodings, as in the papers. In Rendle's machine each member of a list is a feature, and members
interact with one another; here a list is one feature, which interacts with the others. Guo's perceptron sees vectors
alone; here it sees the numbers as well, as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from catembed.tabular.columns import Columns
from catembed.tabular.model import Inputs, Network, OneHotLinear, perceptron

DIMENSION = 32
POOLING = "sqrtn"  # of lists: the more there is in one, the more it tells
SPREAD = 0.05  # of the initial vectors


class FactorisationMachine(Network):
    """The linear model, and the inner products of all pairs.

    Args:
        columns: the layers of the categories, all of one ``embedding_dim``.
        num_numbers: how many numbers a row has.
        num_outputs: how many values come out.
    """

    def __init__(self, columns: Columns, num_numbers: int, num_outputs: int) -> None:
        super().__init__()
        self.columns = columns
        sizes = [len(layer) for layer in columns.layers().values()]
        self.linear = OneHotLinear(sizes, num_numbers, num_outputs, columns.pooling)
        self.dim = columns.common_length(DIMENSION)
        self.numbers = nn.Parameter(torch.randn(num_numbers, self.dim) * SPREAD)
        # With one output the factors are summed, as in the paper.
        self.classes = nn.Linear(self.dim, num_outputs, bias=False) if num_outputs > 1 else None

    def tables(self) -> list[Tensor]:
        """All that a factorisation machine learns of categories and numbers."""
        return [*self.columns.weights(), *self.linear.tables(), self.numbers, self.linear.numbers]

    def forward(self, rows: Inputs) -> list[Tensor]:
        """One output of shape (rows, num_outputs)."""
        return [self.pairs_and_linear(rows, self.columns(rows.ids, rows.bags))]

    def pairs_and_linear(self, rows: Inputs, vectors: Tensor) -> Tensor:
        """The output for vectors that are looked up already."""
        fields = vectors.view(len(vectors), vectors.shape[1] // self.dim, self.dim)
        total, squares = fields.sum(1), fields.square().sum(1)
        if rows.numbers.shape[1]:
            total = total + rows.numbers @ self.numbers
            squares = squares + rows.numbers.square() @ self.numbers.square()
        factors = (total.square() - squares) / 2
        pairs = factors.sum(1, keepdim=True) if self.classes is None else self.classes(factors)
        return self.linear(rows)[0] + pairs


class DeepFM(FactorisationMachine):
    """A factorisation machine, and a multilayer perceptron on the same vectors and numbers; arguments as there."""

    def __init__(self, columns: Columns, num_numbers: int, num_outputs: int) -> None:
        super().__init__(columns, num_numbers, num_outputs)
        self.deep = perceptron(columns.width + num_numbers, num_outputs, layers=2)

    def forward(self, rows: Inputs) -> list[Tensor]:
        """One output of shape (rows, num_outputs)."""
        vectors = self.columns(rows.ids, rows.bags)
        return [self.pairs_and_linear(rows, vectors) + self.deep(torch.cat([vectors, rows.numbers], 1))]
