"""Categories in, vectors out: the embedding layer for PyTorch."""

from catembed import functional, optim
from catembed.errors import FormatError, OutOfRangeError, UnseenCategoryError, VocabularyError
from catembed.nn import CategoryEmbedding, Embedding, EmbeddingBag, convert, load, save
from catembed.optim import warmup
from catembed.vocabulary import Vocabulary

__version__ = "0.1.0"

__all__ = [
    "CategoryEmbedding",
    "Embedding",
    "EmbeddingBag",
    "FormatError",
    "OutOfRangeError",
    "UnseenCategoryError",
    "Vocabulary",
    "VocabularyError",
    "convert",
    "functional",
    "load",
    "optim",
    "save",
    "warmup",
]
