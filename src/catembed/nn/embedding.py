"""``Embedding``: torch's embedding table, with any integer as index and range errors that explain themselves.

Everything else is inherited: arguments, initial values, ``state_dict``, gradients. Differences are told in
``docs/embedding.md``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from catembed.functional import embedding

__all__ = ["Embedding"]


class Embedding(torch.nn.Embedding):
    """A table of ``num_embeddings`` trainable rows; ids of shape ``(*)`` give rows of shape ``(*, embedding_dim)``.

    Takes every argument of :class:`torch.nn.Embedding` and means the same by it. ``name`` is how error messages call
    the table. Ids may have any integer dtype, or be ints, (nested) lists of ints or NumPy arrays of integers.

    Raises, when called:
        OutOfRangeError: an id outside ``[0, num_embeddings)``; an ``IndexError``.
        RuntimeError: ids that are floats or bools.

    >>> layer = Embedding(3, 5)
    >>> layer.weight.shape, layer.weight.requires_grad
    (torch.Size([3, 5]), True)
    >>> layer(torch.tensor(1)).shape
    torch.Size([5])
    >>> layer(torch.tensor([[0], [1], [2]])).shape
    torch.Size([3, 1, 5])
    >>> Embedding(3, 5, name="fruit")(torch.tensor(3))
    Traceback (most recent call last):
    catembed.errors.OutOfRangeError: index out of range in self: ...
    """

    # On the class, so that a layer turned into this class, or pickled without a name, has one.
    name: str | None = None

    def __init__(self, *args: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = name

    def forward(self, input: Any) -> Tensor:
        """Look up ids of shape ``(*)``: the rows, of shape ``(*, embedding_dim)``."""
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

    def extra_repr(self) -> str:
        """Torch's own line, and the name if there is one."""
        return super().extra_repr() + (f", name={self.name!r}" if self.name is not None else "")
