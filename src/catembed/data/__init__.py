"""Ids for training: encoded in the workers of a ``DataLoader``, or up front into a memory-mapped file."""

from catembed.data.collate import Encode
from catembed.data.dataset import EncodedDataset
from catembed.data.writing import write_ids

__all__ = ["Encode", "EncodedDataset", "write_ids"]
