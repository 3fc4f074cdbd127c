"""What the kernels of counting share: how a record is written, read and compared; see kernels/records.py."""

import numpy as np
from numba import types

from catembed.kernels.records import LENGTH, LEVEL_BITS, PARTS

from .compile import jit
from .memory import intrinsic, load8, load32, load64, store64

__all__ = [
    "TAG",
    "after",
    "count_of",
    "equals",
    "fact",
    "home_of",
    "length_of",
    "part_of",
    "swapped",
    "write_value",
]

TAG = np.uint64(48)  # where in a slot the lowest bits of the hash stand


@intrinsic
def swapped(typingctx, word):
    """A word with its bytes in the other order."""
    return types.uint64(types.uint64), lambda context, builder, signature, args: builder.bswap(args[0])


@jit
def part_of(hashed, level):
    """The part that a hash falls into: at level -1 there is but one, number 0."""
    return np.int64((hashed >> np.uint64(63 - LEVEL_BITS * (level + 1))) >> np.uint64(1)) & (PARTS - 1)


@jit
def fact(part, number):
    """One of the facts of the part at an address."""
    return np.int64(load64(part + 8 * number))


@jit
def home_of(hashed, mask):
    """The slot where the search for a hash begins."""
    return np.int64(hashed >> np.uint64(16)) & mask


@jit
def count_of(record):
    """How often the value occurs."""
    return np.int64(load64(record))


@jit
def length_of(record):
    """How many bytes the value has."""
    return np.int64(load64(record + LENGTH))


@jit
def after(record, head):
    """Where the next record begins."""
    return record + head + ((length_of(record) + 7) & ~7)


@jit
def _last_word(address, length):
    """The last 1 to 7 bytes of a value as a word, zeros behind them; reads no other byte."""
    rest = length & 7
    if length >= 8:
        return load64(address + length - 8) >> np.uint64(64 - 8 * rest)
    if rest >= 4:
        upper = np.uint64(load32(address + rest - 4)) << np.uint64(8 * (rest - 4))
        return np.uint64(load32(address)) | upper
    middle = np.uint64(load8(address + (rest >> 1))) << np.uint64(8 * (rest >> 1))
    return np.uint64(load8(address)) | middle | (np.uint64(load8(address + rest - 1)) << np.uint64(8 * (rest - 1)))


@jit
def equals(record, head, address, length):
    """Whether the value of a record has these bytes."""
    if length_of(record) != length:
        return False
    own, at = record + head, 0
    while length - at >= 8:
        if load64(own + at) != load64(address + at):
            return False
        at += 8
    return at == length or load64(own + at) == _last_word(address, length)


@jit
def write_value(target, address, length):
    """Copy bytes to a place of whole words, zeros behind them."""
    at = 0
    while length - at >= 8:
        store64(target + at, np.int64(load64(address + at)))
        at += 8
    if at < length:
        store64(target + at, np.int64(_last_word(address, length)))
