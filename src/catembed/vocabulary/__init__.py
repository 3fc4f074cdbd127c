"""Categories to ids and back: columns of any library in, int64 tensors out."""

from typing import Any

from catembed.vocabulary.arguments import check_separator
from catembed.vocabulary.bags import EncodedBags, encode_bags
from catembed.vocabulary.hashing import HashVocabulary
from catembed.vocabulary.vocabulary import Vocabulary

__all__ = ["EncodedBags", "HashVocabulary", "Vocabulary", "check_separator", "encode_bags", "from_arrays"]


def from_arrays(header: Any, arrays: Any, *, verify: bool = True) -> Vocabulary | HashVocabulary:
    """The vocabulary, of either class, that ``to_arrays`` gave; raises ``FormatError`` on anything else."""
    kind = HashVocabulary if isinstance(header, dict) and "hash_kind" in header else Vocabulary
    return kind.from_arrays(header, arrays, verify=verify)
