"""``Embedding``: torch's embedding table, with any integer as index and range errors that explain themselves.

Everything else is inherited: arguments, initial values, ``state_dict``, gradients. Differences are told in
``docs/embedding.md``.
"""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from catembed.functional import embedding
from catembed.nn.table import TableLayer

__all__ = ["Embedding"]


class Embedding(TableLayer, torch.nn.Embedding):
    """A table of ``num_embeddings`` trainable rows; ids of shape ``(*)`` give rows of shape ``(*, embedding_dim)``.

    Takes every argument of :class:`torch.nn.Embedding` and means the same by it. ``name`` is how error messages call
    the table. Ids may have any integer dtype, or be ints, (nested) lists of ints or NumPy arrays of integers.

    Raises, when called:
        OutOfRangeError: an id outside ``[0, num_embeddings)``; an ``IndexError``.
        RuntimeError: ids that are floats or bools.

    >>> _ = torch.manual_seed(0)
    >>> layer = Embedding(3, 5)
    >>> layer.weight.shape, layer.weight.requires_grad
    (torch.Size([3, 5]), True)
    >>> _ = torch.manual_seed(0)
    >>> torch.equal(layer.weight, torch.nn.Embedding(3, 5).weight)
    True

    A scalar gives a vector, and every input has one dimension more on its way out:

    >>> row = layer(torch.tensor(1))
    >>> row.shape, torch.equal(row, layer.weight[1]), row.grad_fn is not None
    (torch.Size([5]), True, True)
    >>> layer(torch.tensor([[0], [1], [2]])).shape
    torch.Size([3, 1, 5])

    A tensor given as the weight is the weight, not a copy:

    >>> w = torch.randn(3, 5)
    >>> given = Embedding(num_embeddings=3, embedding_dim=5, _weight=w)
    >>> given.weight.data_ptr() == w.data_ptr(), torch.equal(given(torch.tensor([0])), w[0:1])
    (True, True)

    An id without a row is told with its value, position and table, the range allowed and the likely cause:

    >>> Embedding(3, 5, name="fruit")(torch.tensor([0, 3]))
    Traceback (most recent call last):
    catembed.errors.OutOfRangeError: index out of range in self: 1 of 2 ids has no row in table 'fruit',
    allowed are [0, 3) (got 3 at [1]). 3 is num_embeddings: an unseen category, or ids that count from 1.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            sparse,
            _weight,
            _freeze,
            device,
            dtype,
        )
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        *,
        name: str | None = None,
    ) -> Self:
        """A table whose rows are those of ``embeddings``, a tensor of shape ``(N, D)``; frozen unless ``freeze=False``.

        >>> Embedding.from_pretrained(torch.eye(3), name="one_hot")([2, 0])
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
        """
        table = super().from_pretrained(
            embeddings, freeze, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
        )
        table.name = name
        return table

    def forward(self, input: Any) -> Tensor:
        """Look up ids of shape ``(*)``: the rows, of shape ``(*, embedding_dim)``."""
        if self.training and self.kept_exact:
            self._settle(input)
        return embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
            name=self.name,
        )
