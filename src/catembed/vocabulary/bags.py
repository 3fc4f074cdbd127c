"""``encode_bags``: columns of lists to ids and offsets. pyarrow is loaded by the first column, not by this module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from catembed.errors import UnseenCategoryError, VocabularyError
from catembed.vocabulary import messages
from catembed.vocabulary.encoding import Encoding, label

if TYPE_CHECKING:
    from catembed.vocabulary.lists import Lists

__all__ = ["EncodedBags", "encode_bags"]


class EncodedBags(NamedTuple):
    """The ids of bags, one bag after the other, and ``offsets (B + 1,)``: int64 tensors."""

    ids: torch.Tensor
    offsets: torch.Tensor
    single: bool  # one bag, which was given alone


def encode_bags(vocabulary: Encoding, column: Any, *, separator: str | None = None, grow: bool = False) -> EncodedBags:
    """The ids of a column of lists of values, or with ``separator`` also of strings to be split.

    The policies of the vocabulary hold for each value. A missing bag is a bag of one missing value.

    Raises:
        UnseenCategoryError: a value that is no category, a missing value or bag, where there is no row for it.
        VocabularyError: a row that is no list, values of another kind than the categories.

    >>> from catembed import Vocabulary
    >>> encode_bags(Vocabulary(["a", "b"], missing="own"), [["b", "a"], [], None])
    EncodedBags(ids=tensor([2, 1, 0]), offsets=tensor([0, 2, 2, 3]), single=False)
    """
    bags = read(column, separator, vocabulary.name)
    offsets, gone = bags.offsets, np.flatnonzero(bags.missing)
    if len(gone) and vocabulary.missing == "error":
        advice = "the vocabulary has no row for what is missing; leave them out, or make it with"
        raise UnseenCategoryError(label(vocabulary.name) + messages.missing_bags(gone, bags.single, advice))
    ids = vocabulary.encode(bags.values, grow=grow)
    if len(gone):
        row: Any = vocabulary.missing_id if vocabulary.missing == "own" else vocabulary.unknown_id
        ids = torch.from_numpy(np.insert(ids.numpy(), offsets[gone], row))
        offsets = offsets + np.append(0, bags.missing.cumsum())
    return EncodedBags(ids, torch.from_numpy(offsets), bags.single)


def read(column: Any, separator: str | None, name: str | None) -> Lists:
    """A column of bags as ``Lists``; errors name it."""
    from catembed.vocabulary.lists import read_lists

    try:
        return read_lists(column, separator)
    except VocabularyError as fact:
        raise VocabularyError(label(name) + str(fact)) from None
