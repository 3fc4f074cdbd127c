"""Rows for categories that have none yet: each a pure function of the layer's seed and the category."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from catembed.kernels.dispatch import kernel
from catembed.nn.category_state import called
from catembed.nn.growth import append_rows

if TYPE_CHECKING:
    from catembed.nn.category_embedding import CategoryEmbedding
    from catembed.nn.embedding import Embedding
    from catembed.nn.embedding_bag import EmbeddingBag

__all__ = ["append_missing", "seed_of"]


def append_missing(layer: CategoryEmbedding) -> None:
    """The rows of the categories that have none yet."""
    weight = layer.embedding.weight
    missing = len(layer.vocabulary) - len(weight)
    if missing > 0:
        if not weight.is_floating_point():
            raise TypeError(
                f"{missing:,} new categories have no rows in {called(layer)}, whose weight is {weight.dtype}: fresh "
                "rows are drawn as floats, and would be cut. Add categories before the table is quantised"
            )
        keys = torch.from_numpy(layer.vocabulary.category_hashes(len(weight))[:missing])
        fresh = weight.new_empty((missing, weight.shape[1]))
        kernel("fresh_rows", weight.device)(fresh.detach(), layer.fresh_seed, keys.to(weight.device))
        append_rows(layer.embedding, fresh)  # pyright: ignore[reportCallIssue]  (torch's decorator hides the signature)


def seed_of(table: Embedding | EmbeddingBag) -> int:
    """64 bits that are the same after the same ``torch.manual_seed``, and differ among the layers of a model."""
    weight = table.weight.detach()
    plain = type(weight) is Tensor and not weight.is_meta
    first = weight[:1].cpu().contiguous().view(torch.uint8).numpy().tobytes() if plain else b""
    told = f"{torch.initial_seed()} {table.name}".encode(errors="backslashreplace")
    return int.from_bytes(blake2b(told + first, digest_size=8).digest(), "little")
