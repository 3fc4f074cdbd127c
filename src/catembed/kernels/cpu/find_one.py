"""`find_one`: one value to its id; see reference_find.py. Compiled code alone: a call takes less than a microsecond."""

from .compile import jit
from .find import search
from .hash64 import hash_keys, hash_span
from .memory import address_of

__all__ = ["find_one"]


@jit
def find_one(value, categories, table, buckets, seed):
    """The id of one value, given as ``bytes``; -1 where it is none."""
    address = address_of(value)
    return search(address, len(value), hash_span(address, len(value), hash_keys(seed)), categories, table, buckets)
