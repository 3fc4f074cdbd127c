"""Categories to ids and back: columns of any library in, int64 tensors out."""

from catembed.vocabulary.vocabulary import Vocabulary

__all__ = ["Vocabulary"]
