"""Torch's own layer over the weight of one of ours."""

from __future__ import annotations

import torch

from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.optim import exact

__all__ = ["to_torch"]


def to_torch(table: Embedding | EmbeddingBag) -> torch.nn.Embedding | torch.nn.EmbeddingBag:
    """A layer of torch's own class with the settings of ``table`` and the very same ``Parameter``."""
    exact.settle(table.weight)
    settings = {
        "num_embeddings": table.num_embeddings,
        "embedding_dim": table.embedding_dim,
        "padding_idx": table.padding_idx,
        "max_norm": table.max_norm,
        "norm_type": table.norm_type,
        "scale_grad_by_freq": table.scale_grad_by_freq,
        "sparse": table.sparse,
        "_weight": table.weight,
    }
    if isinstance(table, EmbeddingBag):
        plain = torch.nn.EmbeddingBag(**settings, mode=table.mode, include_last_offset=table.include_last_offset)
    else:
        plain = torch.nn.Embedding(**settings, _freeze=not table.weight.requires_grad)
    plain.weight = table.weight
    return plain.train(table.training)
