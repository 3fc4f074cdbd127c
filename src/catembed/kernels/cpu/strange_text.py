"""`strange_text`: whether the values of records are UTF-8."""

import numpy as np

from .compile import jit
from .memory import load8, load64
from .records import after, length_of

__all__ = ["strange_text"]

_HIGH = np.uint64(0x8080808080808080)  # set in a byte that is not ASCII


@jit
def _continues(at):
    return load8(at) & 0xC0 == 0x80


@jit
def _is_text(at, end):
    """Whether some bytes are UTF-8, as Unicode defines it: no surrogates, no detours, nothing above U+10FFFF."""
    while at < end:
        lead = load8(at)
        if lead < 0x80:
            at += 1
            continue
        more = 1 if 0xC2 <= lead < 0xE0 else 2 if 0xE0 <= lead < 0xF0 else 3 if 0xF0 <= lead < 0xF5 else 0
        if more == 0 or end - at <= more:
            return False
        for k in range(1, more + 1):
            if not _continues(at + k):
                return False
        second = load8(at + 1)
        if (lead == 0xE0 and second < 0xA0) or (lead == 0xED and second > 0x9F):
            return False
        if (lead == 0xF0 and second < 0x90) or (lead == 0xF4 and second > 0x8F):
            return False
        at += more + 1
    return True


@jit
def _strange_text(start, stop, head):
    record = start
    while record < stop:
        behind = after(record, head)
        for at in range(record + head, behind, 8):  # zeros behind a value are ASCII
            if load64(at) & _HIGH != 0:
                if not _is_text(record + head, record + head + length_of(record)):
                    return record
                break
        record = behind
    return 0


def strange_text(start: int, stop: int, head: int) -> int:
    """The address of the first record from ``start`` to ``stop`` whose bytes are not UTF-8, or 0."""
    return _strange_text(start, stop, head)
