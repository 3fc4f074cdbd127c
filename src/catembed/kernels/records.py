"""Where counts are kept: a record for each distinct value, in the part that its hash falls into, and a table for each.

A record is the count (int64), the length (int64), where firsts are asked for the first position (int64), and the bytes
of the value with zeros up to a multiple of eight. Records lie one behind the other, so a part can be written to a file
as it is, and read again. A part's table has slots of eight bytes: 0, or the lowest 16 bits of the hash above the place
of the record (in words, counted from 1). The part is told by the hash's upper bits, four for each level of division
(none for level -1, where all is one part), the home slot by the bits above the lowest 16; a value whose slot is taken
stands in the next one that is free.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "ARENA",
    "ENTRIES",
    "FACTS",
    "FIRST",
    "HEAD",
    "LENGTH",
    "LEVELS",
    "LEVEL_BITS",
    "MASK",
    "PARTS",
    "ROOM",
    "TABLE",
    "USED",
    "read_records",
]

LENGTH, FIRST = 8, 16  # where in a record
HEAD = 16  # bytes before those of the value; 24 with the first position
LEVEL_BITS = 4
PARTS = 1 << LEVEL_BITS
LEVELS = 4  # how often a part can be divided: by then the bits come near those of the home slots

# What kernels know of each part, int64: addresses, the number of slots less one, bytes, bytes in use, records.
FACTS = TABLE, MASK, ARENA, ROOM, USED, ENTRIES = range(6)


def read_records(octets: np.ndarray, head: int) -> list[tuple[bytes, int, int]]:
    """Value, count and first position (0 where it is not kept) of each record in some memory: slow and plain."""
    found, at = [], 0
    while at < len(octets):
        count, length, first = np.frombuffer(octets[at : at + head].tobytes() + bytes(8), np.int64)[:3]
        value = octets[at + head : at + head + length].tobytes()
        found.append((value, int(count), int(first) if head > HEAD else 0))
        at += head + (int(length) + 7) // 8 * 8
    return found
