"""``EmbeddingBag``: torch's pooled embedding, for bags in any form, with weights in every mode and told errors."""

from __future__ import annotations

from typing import Any, Self, cast

import torch
from torch import Tensor

from catembed.functional import as_bags, pooled
from catembed.nn.table import TableLayer

__all__ = ["EmbeddingBag"]


class EmbeddingBag(TableLayer, torch.nn.EmbeddingBag):
    """Bags of rows pooled to one row each: ``(B, N)``, or ``(n,)`` with ``B`` offsets, give ``(B, embedding_dim)``.

    Takes every argument of :class:`torch.nn.EmbeddingBag` and means the same by it. ``name`` is how error messages
    call the table. ``mode`` may also be ``"sqrtn"`` (the sum over the root of the number of ids) or ``"none"`` (the
    rows of each bag, as a jagged ``torch.nested`` tensor).

    Called with ids of any integer dtype, as a matrix, or flat with ``offsets`` or ``lengths=``, or a padded matrix with
    ``mask=`` (bools, True where an id counts; or ``padding_idx``); or with bags of any lengths as a list of lists, a
    ``functional.Jagged``, a jagged ``torch.nested`` tensor, or a column of lists (Arrow, pandas, polars).
    ``per_sample_weights`` come in the same form, for every mode; a mean is then Σ w x / Σ w, and sqrtn Σ w x / √Σ w².
    An empty bag gives zeros.

    Raises, when called:
        OutOfRangeError: an id outside ``[0, num_embeddings)``; an ``IndexError``, where torch raises ``RuntimeError``.
        ValueError: offsets that do not start at 0, decrease or leave the input; lengths that do not add up; weights or
            a mask of another shape.
        TypeError: lists of uneven depth, missing bags.

    >>> layer = EmbeddingBag(3, 5, mode="sum")
    >>> layer([0, 2, 1], [0, 2]).shape
    torch.Size([2, 5])
    >>> torch.equal(layer([[0, 2], [1]]), layer([[0, 2], [1, 9]], mask=[[True, True], [True, False]]))
    True
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            max_norm,
            norm_type,
            scale_grad_by_freq,
            mode,
            sparse,
            _weight,
            include_last_offset,
            padding_idx,
            device,
            dtype,
        )
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        *,
        name: str | None = None,
    ) -> Self:
        """A table whose rows are those of ``embeddings``, a tensor of shape ``(N, D)``; frozen unless ``freeze=False``.

        >>> EmbeddingBag.from_pretrained(torch.eye(3), mode="sum")([[2, 0]])
        tensor([[1., 0., 1.]])
        """
        table = cast(
            "Self",
            super().from_pretrained(
                embeddings,
                freeze,
                max_norm,
                norm_type,
                scale_grad_by_freq,
                mode,
                sparse,
                include_last_offset,
                padding_idx,
            ),
        )
        table.name = name
        return table

    def forward(
        self,
        input: Any,
        offsets: Any = None,
        per_sample_weights: Any = None,
        *,
        lengths: Any = None,
        mask: Any = None,
    ) -> Tensor:
        """Pool the rows of each bag: ``(B, embedding_dim)``; with ``mode="none"`` a nested tensor of all of them."""
        weight = self.weight
        bags = as_bags(
            input,
            weight,
            offsets,
            per_sample_weights,
            self.include_last_offset,
            lengths=lengths,
            mask=mask,
            name=self.name,
        )
        if self.training and self.kept_exact:
            self._settle(bags.ids)
        return pooled(
            bags,
            weight,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            self.padding_idx,
            self.name,
        )
