"""Categories to ids and back: columns of any library in, int64 tensors out."""

from typing import Any

from catembed.vocabulary.hashing import HashVocabulary
from catembed.vocabulary.vocabulary import Vocabulary

__all__ = ["HashVocabulary", "Vocabulary", "from_arrays"]


def from_arrays(header: Any, arrays: Any, *, verify: bool = True) -> Vocabulary | HashVocabulary:
    """The vocabulary, of either class, that ``to_arrays`` gave; raises ``FormatError`` on anything else."""
    kind = HashVocabulary if isinstance(header, dict) and "hash_kind" in header else Vocabulary
    return kind.from_arrays(header, arrays, verify=verify)
