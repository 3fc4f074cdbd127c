"""Categories in, vectors out: the embedding layer for PyTorch."""

from catembed.errors import OutOfRangeError, UnseenCategoryError, VocabularyError
from catembed.nn import Embedding, EmbeddingBag, convert
from catembed.vocabulary import Vocabulary

__version__ = "0.1.0"

__all__ = [
    "Embedding",
    "EmbeddingBag",
    "OutOfRangeError",
    "UnseenCategoryError",
    "Vocabulary",
    "VocabularyError",
    "convert",
]
