"""Layers: ``Embedding``, ``EmbeddingBag``, ``CategoryEmbedding``; ``convert`` for models, ``save`` and ``load``."""

from catembed.nn.category_embedding import CategoryEmbedding
from catembed.nn.convert import convert
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.nn.file import load, save

__all__ = ["CategoryEmbedding", "Embedding", "EmbeddingBag", "convert", "load", "save"]
