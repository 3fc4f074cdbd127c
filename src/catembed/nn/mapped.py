"""A vocabulary that lies in a file, on its way to another process: it travels as the file's path, not as a copy.

The file must be there, unchanged, until the other process has opened it; who gets there too late is told so. Only where
processes pickle for each other (``multiprocessing``, ``DataLoader`` workers): ``pickle``, ``torch.save`` and
``deepcopy`` take the vocabulary itself, since a file may be gone when they are read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from catembed.errors import FormatError
from catembed.vocabulary import Vocabulary

__all__ = ["MappedVocabulary", "identity"]


class MappedVocabulary:
    """Where a vocabulary was loaded from, as long as the file is what it was before it was read: ``seen``."""

    def __init__(self, path: str | os.PathLike[str], fingerprint: str, seen: tuple[int, ...] | None) -> None:
        self._path, self._fingerprint, self._seen = os.path.abspath(path), fingerprint, seen

    def reopen(self) -> tuple[Callable[..., Vocabulary], tuple[Any, ...]] | None:
        """How another process gets the vocabulary, or None where the file is no longer the one it was loaded from."""
        if self._seen is None or identity(self._path) != self._seen:
            return None
        return _opened, (self._path, self._fingerprint)


def identity(path: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """What tells a file from another that takes its name; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _opened(path: str, fingerprint: str) -> Vocabulary:
    """The vocabulary in the file at ``path``, which must still be the one with this fingerprint."""
    from catembed.nn.file import load

    loaded = load(path, verify=False)
    vocabulary = getattr(loaded, "vocabulary", loaded)
    if not isinstance(vocabulary, Vocabulary) or vocabulary.fingerprint != fingerprint:
        raise FormatError(
            f"{path}: the file was replaced while a vocabulary loaded from it was sent to this process; start again"
        )
    return vocabulary


def _reduce(vocabulary: Vocabulary) -> tuple[Any, ...]:
    origin = vocabulary.origin
    return (origin and origin.reopen()) or vocabulary.__reduce__()


ForkingPickler.register(Vocabulary, _reduce)
