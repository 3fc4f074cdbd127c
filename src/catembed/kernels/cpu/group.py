"""`group`: ids to segments of equal ids, rows ascending, lookup order within a row.

How: each id becomes one 64-bit key, the id above its position, and a radix sort (least significant digit first) passes
over the id's bits alone: it is stable and the positions start in order, so the result is the one stable order. Large
batches are cut into ranges of positions for several threads; a pass then counts per range and places each range apart.
Ids that ascend are found to be segments already.
"""

import itertools

import numpy as np
import torch
from torch import Tensor

from catembed.kernels import reference
from catembed.kernels.reference import Groups
from catembed.kernels.threads import parallel, shares

from .compile import jit

__all__ = ["group"]

_AT_LEAST = 131_072  # ids that are worth a thread
_NOTHING = ~np.uint64(0)


@jit
def _are_groups(ids, num_rows):
    """Whether each id is greater than the one before, and all are rows: nothing is left to sort."""
    before = np.int64(-1)
    for i in range(len(ids)):
        row = np.int64(ids[i])
        if row <= before or row >= num_rows:
            return False
        before = row
    return True


@jit
def _pack(ids, keys, start, stop, num_rows, shift):
    """Keys of the ids from ``start`` to ``stop``; the position of the first id outside the table, or -1."""
    for i in range(start, stop):
        row = np.int64(ids[i])
        if row < 0 or row >= num_rows:
            return i
        keys[i] = (np.uint64(row) << np.uint64(shift)) | np.uint64(i)
    return -1


@jit
def _count(keys, start, stop, shift, counts):
    """How often each digit occurs."""
    mask = np.uint64(len(counts) - 1)
    counts[:] = 0
    for i in range(start, stop):
        counts[(keys[i] >> np.uint64(shift)) & mask] += 1


@jit
def _turn_to_places(counts):
    """Counts per range and digit become the places where each range puts its first key of each digit."""
    total = 0
    for digit in range(counts.shape[1]):
        for share in range(counts.shape[0]):
            count = counts[share, digit]
            counts[share, digit] = total
            total += count


@jit
def _place(keys, placed, start, stop, shift, places):
    """Move each key to its digit's next place."""
    mask = np.uint64(len(places) - 1)
    for i in range(start, stop):
        key = keys[i]
        digit = (key >> np.uint64(shift)) & mask
        placed[places[digit]] = key
        places[digit] += 1


@jit
def _unpack(keys, shift, rows, starts, order):
    """Segments of the sorted keys; how many there are."""
    mask = (np.uint64(1) << np.uint64(shift)) - np.uint64(1)
    segments = 0
    before = _NOTHING
    for i in range(len(keys)):
        row = keys[i] >> np.uint64(shift)
        order[i] = np.int64(keys[i] & mask)
        if row != before:
            rows[segments] = np.int64(row)
            starts[segments] = i
            segments += 1
            before = row
    starts[segments] = len(keys)
    return segments


@jit
def _group(ids, num_rows, shift, passes, digit, rows, starts, order):
    """Everything, on one thread: how many segments there are, or -1 - the position of the first bad id."""
    keys, placed = np.empty(len(ids), np.uint64), np.empty(len(ids), np.uint64)
    counts = np.empty((1, 1 << digit), np.int64)
    bad = _pack(ids, keys, 0, len(ids), num_rows, shift)
    if bad >= 0:
        return -1 - bad
    for p in range(passes):
        _count(keys, 0, len(keys), shift + p * digit, counts[0])
        _turn_to_places(counts)
        _place(keys, placed, 0, len(keys), shift + p * digit, counts[0])
        keys, placed = placed, keys
    return _unpack(keys, shift, rows, starts, order)


def _group_on_threads(threads, ids, num_rows, shift, passes, digit, rows, starts, order) -> int:
    """The same as ``_group``, each thread with a range of positions."""
    keys, placed = np.empty((2, len(ids)), np.uint64)
    counts = np.empty((threads, 1 << digit), np.int64)
    bounds = [len(ids) * share // threads for share in range(threads + 1)]
    ranges = list(itertools.pairwise(bounds))
    bad = [-1] * threads

    def pack(share: int) -> None:
        bad[share] = _pack(ids, keys, *ranges[share], num_rows, shift)

    parallel(pack, threads)
    if max(bad) >= 0:
        return -1 - min(position for position in bad if position >= 0)
    for p in range(passes):
        at, source, target = shift + p * digit, keys, placed
        parallel(lambda share: _count(source, *ranges[share], at, counts[share]), threads)  # noqa: B023
        _turn_to_places(counts)
        parallel(lambda share: _place(source, target, *ranges[share], at, counts[share]), threads)  # noqa: B023
        keys, placed = placed, keys
    return _unpack(keys, shift, rows, starts, order)


def group(ids: Tensor, num_rows: int) -> Groups:
    """See ``kernels.reference.group``."""
    count = ids.numel()
    shift = max(1, (count - 1).bit_length())
    bits = max(1, (num_rows - 1).bit_length())
    if shift + bits > 63:  # keys of 64 bits cannot hold id and position
        return reference.group(ids, num_rows)
    array = ids.contiguous().numpy()
    if _are_groups(array, num_rows):  # a coalesced gradient; random ids are found out at once
        return Groups(ids.contiguous().long(), torch.arange(count + 1, device="cpu"), torch.arange(count, device="cpu"))
    digit = 8 if count < 4096 else 11
    passes = -(-bits // digit)
    rows, starts, order = np.empty(count, np.int64), np.empty(count + 1, np.int64), np.empty(count, np.int64)
    threads = shares(count, _AT_LEAST)
    if threads == 1:
        segments = _group(array, num_rows, shift, passes, digit, rows, starts, order)
    else:
        segments = _group_on_threads(threads, array, num_rows, shift, passes, digit, rows, starts, order)
    if segments < 0:
        bad = -1 - segments
        raise IndexError(f"id {array[bad]} at position {bad} is outside [0, {num_rows})")
    return Groups(*map(torch.from_numpy, (rows[:segments], starts[: segments + 1], order)))
