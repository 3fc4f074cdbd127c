"""`hash64`: the hash of categories, the same on every machine; defined in reference_hash.py and docs/format.md."""

from typing import Any

import numpy as np
from numba.extending import overload

from catembed.kernels.spans import FIXED, OFFSETS32, OFFSETS64, WORD_FACTS, Spans
from catembed.kernels.threads import parallel, shares

from .compile import jit
from .memory import high_product, load8, load32, load64, prefetch_address

__all__ = [
    "AT_LEAST",
    "MISSING",
    "UNSOUND",
    "first_of",
    "hash64",
    "hash_keys",
    "hash_span",
    "locate",
    "prefetch_place",
    "prefetch_value",
]

AT_LEAST = 16_384  # values that are worth a thread
MISSING, UNSOUND = -1, -2  # in place of a length


def locate(spans, i) -> Any:
    """The address and the length of value ``i``; in place of the length MISSING, or UNSOUND where it lies outside."""
    raise NotImplementedError


@overload(locate)
def _locate(spans, i):
    return _locate_word if len(spans) == WORD_FACTS else _locate_text


@jit
def _is_missing(valid, bit):
    return valid != 0 and (load8(valid + (bit >> 3)) >> (bit & 7)) & 1 == 0


def _locate_word(spans, i):
    _, where, valid, bit = spans
    if _is_missing(valid, bit + i):
        return where, MISSING
    return where + 8 * i, 8


def _locate_text(spans, i):
    _, layout, where, data, size, valid, bit = spans
    if _is_missing(valid, bit + i):
        return where, MISSING
    if layout == OFFSETS32:
        begin, end = np.int64(np.int32(load32(where + 4 * i))), np.int64(np.int32(load32(where + 4 * i + 4)))
    elif layout == OFFSETS64:
        begin, end = np.int64(load64(where + 8 * i)), np.int64(load64(where + 8 * i + 8))
    elif layout == FIXED:
        return where + i * size, size
    else:
        view = where + 16 * i
        length = np.int64(np.int32(load32(view)))
        if 0 <= length <= 12:
            return view + 4, length
        buffer, begin = np.int64(np.int32(load32(view + 8))), np.int64(np.int32(load32(view + 12)))
        if buffer < 0 or buffer >= size:
            return where, UNSOUND
        data, size, end = np.int64(load64(data + 16 * buffer)), np.int64(load64(data + 16 * buffer + 8)), begin + length
    if begin < 0 or end < begin or end > size:
        return where, UNSOUND
    return data + begin, end - begin


def first_of(spans, count):
    """The same spans as if they were fewer."""
    raise NotImplementedError


@overload(first_of)
def _first_of(spans, count):
    if len(spans) == WORD_FACTS:
        return lambda spans, count: (count, spans[1], spans[2], spans[3])
    return lambda spans, count: (count, spans[1], spans[2], spans[3], spans[4], spans[5], spans[6])


def prefetch_place(spans, i):
    """Ask for the offset of value ``i``, where it has one."""
    raise NotImplementedError


@overload(prefetch_place)
def _prefetch_place(spans, i):
    if len(spans) == WORD_FACTS:
        return lambda spans, i: None
    return lambda spans, i: prefetch_address(spans[2] + 8 * max(i, 0))


def prefetch_value(spans, i):
    """Ask for the bytes of value ``i``."""
    raise NotImplementedError


@overload(prefetch_value)
def _prefetch_value(spans, i):
    if len(spans) == WORD_FACTS:
        return lambda spans, i: prefetch_address(spans[1] + 8 * max(i, 0))
    return lambda spans, i: prefetch_address(spans[3] + np.int64(load64(spans[2] + 8 * max(i, 0))))


@jit
def _mixed(state):
    """The finaliser of splitmix64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@jit
def hash_keys(seed):
    """The four keys of a seed: the first four numbers of splitmix64."""
    step, first = np.uint64(0x9E3779B97F4A7C15), np.uint64(seed)
    return (
        _mixed(first + step),
        _mixed(first + np.uint64(2) * step),
        _mixed(first + np.uint64(3) * step),
        _mixed(first + np.uint64(4) * step),
    )


@jit
def _fold(first, second):
    """Both halves of the product of two words, xor."""
    return (first * second) ^ high_product(first, second)


@jit
def hash_span(address, length, keys):
    """The hash of ``length`` bytes."""
    state = keys[0]
    last = address + length
    at = address
    while last - at > 16:
        state = _fold(load64(at) ^ keys[1], load64(at + 8) ^ state)
        at += 16
    if length > 16:
        first, second = load64(last - 16), load64(last - 8)
    elif length >= 8:
        first, second = load64(address), load64(last - 8)
    elif length >= 4:
        first, second = np.uint64(load32(address)), np.uint64(load32(last - 4))
    elif length > 0:
        middle = np.uint64(load8(address + (length >> 1))) << np.uint64(8)
        first = np.uint64(load8(address)) | middle | (np.uint64(load8(last - 1)) << np.uint64(16))
        second = np.uint64(0)
    else:
        first, second = np.uint64(0), np.uint64(0)
    state = _fold(first ^ keys[1], second ^ state)
    return _fold(state ^ keys[2], np.uint64(length) ^ keys[3])


@jit
def _hash(spans, seed, start, stop, hashes):
    """Hashes of the values from ``start`` to ``stop``, 0 where missing; the position of an unsound one, or -1."""
    keys = hash_keys(seed)
    for i in range(start, stop):
        address, length = locate(spans, i)
        if length == UNSOUND:
            return i
        hashes[i] = np.uint64(0) if length == MISSING else hash_span(address, length, keys)
    return -1


def hash64(spans: Spans, seed: int) -> np.ndarray:
    """See ``kernels.reference_hash.hash64``."""
    hashes = np.empty(spans.count, np.uint64)
    threads = shares(spans.count, AT_LEAST)
    bounds = [spans.count * share // threads for share in range(threads + 1)]
    bad = [-1] * threads

    def run(share: int) -> None:
        bad[share] = _hash(spans.facts(), seed, bounds[share], bounds[share + 1], hashes)

    parallel(run, threads)
    if max(bad) >= 0:
        raise IndexError(f"value {min(place for place in bad if place >= 0)} lies outside its buffer")
    return hashes
