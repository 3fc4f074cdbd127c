"""Categories in, vectors out: the embedding layer for PyTorch."""

import importlib

from catembed import functional, optim
from catembed.errors import FormatError, OutOfRangeError, TableError, UnseenCategoryError, VocabularyError
from catembed.nn import CategoryEmbedding, Embedding, EmbeddingBag, EmbeddingCollection, convert, cross, load, save
from catembed.optim import warmup
from catembed.vocabulary import CrossVocabulary, HashVocabulary, Vocabulary

__version__ = "0.1.0"

__all__ = [
    "CategoryEmbedding",
    "CrossVocabulary",
    "Embedding",
    "EmbeddingBag",
    "EmbeddingCollection",
    "FormatError",
    "HashVocabulary",
    "OutOfRangeError",
    "TableError",
    "UnseenCategoryError",
    "Vocabulary",
    "VocabularyError",
    "convert",
    "cross",
    "functional",
    "load",
    "optim",
    "save",
    "warmup",
]


def __getattr__(name: str) -> object:
    """``catembed.data``, ``sklearn`` and ``tabular`` are loaded when they are first asked for."""
    if name in ("data", "sklearn", "tabular"):
        return importlib.import_module(f"catembed.{name}")
    raise AttributeError(f"module 'catembed' has no attribute {name!r}")
