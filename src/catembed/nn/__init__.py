"""Layers: modules that look like torch's."""

from catembed.nn.category_embedding import CategoryEmbedding
from catembed.nn.collection import EmbeddingCollection
from catembed.nn.convert import convert
from catembed.nn.cross import cross
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.nn.encoder import EncodedColumn, Encoder
from catembed.nn.file import load, save

__all__ = [
    "CategoryEmbedding",
    "Embedding",
    "EmbeddingBag",
    "EmbeddingCollection",
    "EncodedColumn",
    "Encoder",
    "convert",
    "cross",
    "load",
    "save",
]
