"""Layers: ``Embedding``, ``EmbeddingBag``, and ``convert`` to turn a model's own into ours."""

from catembed.nn.convert import convert
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag

__all__ = ["Embedding", "EmbeddingBag", "convert"]
