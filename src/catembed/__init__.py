"""Categories in, vectors out: the embedding layer for PyTorch."""

from catembed.errors import OutOfRangeError
from catembed.nn import Embedding, EmbeddingBag, convert

__version__ = "0.1.0"

__all__ = ["Embedding", "EmbeddingBag", "OutOfRangeError", "convert"]
