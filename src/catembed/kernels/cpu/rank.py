"""`rank`: records in the order of their counts, first positions or values; defined in reference_count.py.

How: by a number, one radix sort of all. By value, eight bytes at a time: the words of a segment are fetched, sorted
together with the places, and where they tie the next eight bytes decide. Bytes that a whole segment shares cost no
pass. Segments go to the threads; a large one is divided by its first byte that differs before.
"""

import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from catembed.kernels.records import FIRST, HEAD
from catembed.kernels.threads import parallel, shares

from .compile import jit
from .memory import load64, prefetch_address
from .records import count_of, length_of, swapped

__all__ = ["rank"]

_FEW = 48  # sorted by insertion
_PAIRS = 8  # ties that are compared to their ends
_AHEAD = 16
_AT_LEAST = 32_768  # records that are worth a thread
_SIGN = np.uint64(1 << 63)
_ENDED = 9  # more bytes than a word has: the value goes on


@jit
def _word(record, head, depth, numeric):
    """Eight bytes of a value as a number that sorts as they do; zeros where it ends."""
    if numeric:
        return load64(record + head) ^ _SIGN
    return swapped(load64(record + head + depth)) if depth < length_of(record) else np.uint64(0)


@jit
def _fetch(places, keys, begin, end, head, depth, numeric):
    for i in range(begin, end):
        if i + _AHEAD < end:
            prefetch_address(places[i + _AHEAD] + head + depth)
        keys[i] = _word(places[i], head, depth, numeric)


@jit
def _fetch_numbers(places, keys, begin, end, by_count):
    """The number that decides: the count, falling, or the first position."""
    for i in range(begin, end):
        if by_count:
            keys[i] = ~np.uint64(count_of(places[i]))
        else:
            keys[i] = load64(places[i] + FIRST)


@jit
def _differing(keys, begin, end):
    bits = np.uint64(0)
    for i in range(begin, end):
        bits |= keys[i] ^ keys[begin]
    return bits


@jit
def _insertion(keys, places, begin, end):
    for i in range(begin + 1, end):
        key, place, j = keys[i], places[i], i
        while j > begin and keys[j - 1] > key:
            keys[j], places[j] = keys[j - 1], places[j - 1]
            j -= 1
        keys[j], places[j] = key, place


@jit
def _pass(keys, places, to_keys, to_places, begin, end, shift):
    """One stable pass by one byte."""
    starts = np.zeros(257, np.int64)
    for i in range(begin, end):
        starts[((keys[i] >> shift) & np.uint64(255)) + 1] += 1
    starts[0] = begin
    for digit in range(256):
        starts[digit + 1] += starts[digit]
    for i in range(begin, end):
        digit = (keys[i] >> shift) & np.uint64(255)
        at = starts[digit]
        to_keys[at], to_places[at] = keys[i], places[i]
        starts[digit] = at + 1


@jit
def _sort(keys, places, more_keys, more_places, begin, end):
    """Sort a segment by its keys, places with them."""
    if end - begin <= _FEW:
        _insertion(keys, places, begin, end)
        return
    bits, swap = _differing(keys, begin, end), False
    for byte in range(8):
        shift = np.uint64(8 * byte)
        if (bits >> shift) & np.uint64(255) != 0:
            if swap:
                _pass(more_keys, more_places, keys, places, begin, end, shift)
            else:
                _pass(keys, places, more_keys, more_places, begin, end, shift)
            swap = not swap
    if swap:
        keys[begin:end] = more_keys[begin:end]
        places[begin:end] = more_places[begin:end]


@jit
def _less(first, second, head, depth):
    """Whether the bytes of one record come before those of the other, which are different."""
    one, other = length_of(first), length_of(second)
    while depth < one and depth < other:
        mine, its = load64(first + head + depth), load64(second + head + depth)
        if mine != its:
            return swapped(mine) < swapped(its)
        depth += 8
    return one < other


@jit
def _insertion_to_the_end(places, begin, end, head, depth):
    for i in range(begin + 1, end):
        place, j = places[i], i
        while j > begin and _less(place, places[j - 1], head, depth):
            places[j] = places[j - 1]
            j -= 1
        places[j] = place


@jit
def _ended_first(keys, places, more_keys, more_places, begin, end, depth):
    """Among values with one word, those that end in it come first, the shorter the earlier; how many do."""
    ended = 0
    for i in range(begin, end):
        rest = length_of(places[i]) - depth
        keys[i] = np.uint64(min(rest, _ENDED))
        ended += rest < _ENDED
    if ended:
        _sort(keys, places, more_keys, more_places, begin, end)
    return ended


@jit
def _by_value(keys, places, more_keys, more_places, begin, end, depth, head, numeric):
    """Sort a segment whose values agree in their first ``depth`` bytes."""
    stack = np.empty((16, 3), np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = begin, end, depth
    height = 1
    while height:
        height -= 1
        begin, end, depth = stack[height, 0], stack[height, 1], stack[height, 2]
        _fetch(places, keys, begin, end, head, depth, numeric)
        _sort(keys, places, more_keys, more_places, begin, end)
        i = begin
        while i < end and not numeric:
            j = i + 1
            while j < end and keys[j] == keys[i]:
                j += 1
            if j - i > _PAIRS:
                first = i + _ended_first(keys, places, more_keys, more_places, i, j, depth)
                if j - first > 1:
                    if height == len(stack):
                        taller = np.empty((2 * height, 3), np.int64)
                        taller[:height] = stack
                        stack = taller
                    stack[height, 0], stack[height, 1], stack[height, 2] = first, j, depth + 8
                    height += 1
            elif j - i > 1:
                _insertion_to_the_end(places, i, j, head, depth)
            i = j


@jit
def _divide(keys, places, more_keys, more_places, begin, end, depth, head, numeric, bounds):
    """Order a segment by the first byte in which its values differ; where each byte begins, and how deep it lies.

    The depth is -1 where a value ends before any byte differs.
    """
    while True:
        _fetch(places, keys, begin, end, head, depth, numeric)
        bits = _differing(keys, begin, end)
        if bits != 0:
            break
        for i in range(begin, end):
            if numeric or length_of(places[i]) <= depth + 8:
                return -1
        depth += 8
    shift = np.uint64(56)
    while (bits >> shift) & np.uint64(255) == 0:
        shift -= np.uint64(8)
    _pass(keys, places, more_keys, more_places, begin, end, shift)
    places[begin:end] = more_places[begin:end]
    bounds[:] = 0
    for i in range(begin, end):
        bounds[((keys[i] >> shift) & np.uint64(255)) + 1] += 1
    bounds[0] = begin
    for digit in range(256):
        bounds[digit + 1] += bounds[digit]
    return depth


@jit
def _steps(keys, count, bounds):
    """Where segments of one key begin, and behind them where the last one ends; how many there are."""
    found = 0
    for i in range(count):
        if i == 0 or keys[i] != keys[i - 1]:
            bounds[found] = i
            found += 1
    bounds[found] = count
    return found


@jit
def _by_value_each(keys, places, more_keys, more_places, bounds, first, last, depth, head, numeric):
    """Sort the segments between these bounds, each by itself."""
    for k in range(first, last):
        if bounds[k + 1] - bounds[k] > 1:
            _by_value(keys, places, more_keys, more_places, bounds[k], bounds[k + 1], depth, head, numeric)


_Work = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # keys, places, and as much again
_Job = tuple[np.ndarray, int, int, int]  # bounds, the first and the last segment between them, their depth


def _jobs(work: _Work, bounds: np.ndarray, depth: int, head: int, numeric: bool, most: int) -> Iterator[_Job]:
    """The segments between these bounds in jobs of about ``most`` records; larger segments are divided."""
    first = 0
    for large in [*np.flatnonzero(np.diff(bounds) > most).tolist(), len(bounds) - 1]:
        cuts = np.arange(bounds[first], bounds[large], most)
        edges = np.append(np.unique(first + np.searchsorted(bounds[first : large + 1], cuts)), large).tolist()
        for start, stop in pairwise(edges):
            yield bounds, start, stop, depth
        if large < len(bounds) - 1:
            parts = np.empty(257, np.int64)
            deeper = _divide(*work, bounds[large], bounds[large + 1], depth, head, numeric, parts)
            if deeper < 0:
                yield bounds, large, large + 1, depth
            else:
                yield from _jobs(work, parts, deeper, head, numeric, most)
        first = large + 1


def _sort_each(work: _Work, bounds: np.ndarray, head: int, numeric: bool) -> None:
    """Sort by value between these bounds, on threads."""
    count = len(work[1])
    threads = shares(count, _AT_LEAST)
    if threads == 1:
        _by_value_each(*work, bounds, 0, len(bounds) - 1, 0, head, numeric)
        return
    jobs, lock = _jobs(work, bounds, 0, head, numeric, count // (4 * threads)), threading.Lock()

    def run(_: int) -> None:
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            _by_value_each(*work, *job, head, numeric)

    parallel(run, threads)


def rank(places: np.ndarray, head: int, order: str, *, numeric: bool) -> None:
    """Bring the addresses of records, int64, into an order, in place.

    Args:
        places: the addresses.
        head: bytes before the value in a record.
        order: ``"frequency"``: by falling count, ties by value; ``"sorted"``: by value; ``"first"``: by first position,
            which the records must hold.
        numeric: whether values are int64 rather than bytes, which sort as unsigned ones and before their continuations.
    """
    count = len(places)
    work = np.empty(count, np.uint64), places, np.empty(count, np.uint64), np.empty(count, np.int64)
    if order == "sorted":
        _sort_each(work, np.array([0, count]), head, numeric)
        return
    if order == "first" and head == HEAD:
        raise ValueError("these records hold no first positions")
    _fetch_numbers(places, work[0], 0, count, order == "frequency")
    _sort(*work, 0, count)
    if order == "frequency":
        bounds = np.empty(count + 1, np.int64)
        _sort_each(work, bounds[: _steps(work[0], count, bounds) + 1], head, numeric)
