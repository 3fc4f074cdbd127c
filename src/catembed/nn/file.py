"""``save`` and ``load``: a layer as one ``.safetensors`` file, its vocabulary included; or a vocabulary alone.

Rules: what is read is a layer like the one saved, or an error; docs/format.md is the contract.
"""

from __future__ import annotations

import os
from typing import Any

from catembed.errors import FormatError
from catembed.nn.category_embedding import CategoryEmbedding
from catembed.nn.mapped import MappedVocabulary, identity
from catembed.nn.parts import Layer, from_parts, to_parts
from catembed.nn.vocabulary_state import AnyVocabulary
from catembed.storage import read_file, write_file
from catembed.vocabulary import Vocabulary

__all__ = ["load", "save"]


def save(path: str | os.PathLike[str], layer: Layer | AnyVocabulary) -> None:
    """Write a layer, with its vocabulary if it has one, or a vocabulary; a crash leaves the old file or the new one.

    Raises:
        TypeError: something else than an ``Embedding``, ``EmbeddingBag``, ``CategoryEmbedding``,
            ``EmbeddingCollection`` or vocabulary; a subclass too, which would be read as its base; a weight of a dtype
            that the file cannot hold, or without values.
        ValueError: settings that no layer can be made of, such as a ``name`` that is no text.
        OSError: the file cannot be written; the old one is as it was.

    >>> import tempfile, catembed
    >>> path = tempfile.mkdtemp() + "/fruit.safetensors"
    >>> save(path, CategoryEmbedding(["apple", "banana"], 3))
    >>> load(path)
    CategoryEmbedding(
      (vocabulary): Vocabulary(['apple', 'banana'])
      (embedding): Embedding(2, 3)
    )
    """
    header, tensors = to_parts(layer)
    write_file(path, tensors, header)


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Any:
    """The layer that ``save`` wrote to ``path``: on the CPU, in training mode, its weight mapped from the file.

    Rows are read when they are first touched; training changes them in memory and never in the file, and replacing the
    file does not change the layer. A vocabulary is mapped too, with its hash table: processes that load one file share
    its pages, and those that a loaded vocabulary is sent to, by ``spawn`` as well, map the file themselves.

    ``verify=False`` leaves out the checksums of the weight and of all else above 16 MiB, so that opening takes a time
    that does not depend on its size. A large vocabulary is then looked at in samples only: whatever it holds, a value
    is found by its own bytes or not at all.

    Raises:
        FormatError: a file that is truncated, damaged, of an unknown version or not catembed's, with the reason.
        OSError: a file that cannot be opened, such as ``FileNotFoundError``.
    """
    seen = identity(path)
    tensors, header = read_file(path, verify=verify)
    try:
        loaded = from_parts(header, tensors, verify)
    except FormatError as fact:
        raise FormatError(f"{os.fspath(path)}: {fact}") from None
    vocabulary = loaded.vocabulary if isinstance(loaded, CategoryEmbedding) else loaded
    if isinstance(vocabulary, Vocabulary):
        vocabulary.origin = MappedVocabulary(path, vocabulary.fingerprint, seen)
    return loaded
