"""Categories to ids and back: columns of any library in, int64 tensors out."""

from typing import Any

from catembed.vocabulary.arguments import check_separator
from catembed.vocabulary.bags import EncodedBags, encode_bags
from catembed.vocabulary.crossing import CrossVocabulary
from catembed.vocabulary.hashing import HashVocabulary
from catembed.vocabulary.tables import check_columns, columns_of
from catembed.vocabulary.vocabulary import Vocabulary

__all__ = [
    "CrossVocabulary",
    "EncodedBags",
    "HashVocabulary",
    "Vocabulary",
    "check_columns",
    "check_separator",
    "columns_of",
    "encode_bags",
    "from_arrays",
]


def from_arrays(header: Any, arrays: Any, *, verify: bool = True) -> Vocabulary | HashVocabulary:
    """The vocabulary, of any class, that ``to_arrays`` gave; raises ``FormatError`` on anything else."""
    kinds = {"hash_kind": HashVocabulary, "cross": CrossVocabulary}
    kind = next((kind for key, kind in kinds.items() if isinstance(header, dict) and key in header), Vocabulary)
    return kind.from_arrays(header, arrays, verify=verify)
