"""`find`, `insert`, `fill`, `hash64` on memory behind which a page lies that nobody may read: each buffer to its end.

In a process of their own: a read too far ends it.
"""

import subprocess
import sys

PRELUDE = """
import ctypes, mmap, sys
import numpy as np, torch
from catembed.kernels.dispatch import kernel
from catembed.kernels.spans import FIXED, OFFSETS32, OFFSETS64, VIEWS, Spans
from catembed.kernels.table import buckets_for, empty_table, wrap_table

PAGE, kept = mmap.PAGESIZE, []
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
find, find_one, fill, insert, hash64 = (
    kernel(name, torch.device("cpu")) for name in ("find", "find_one", "fill", "insert", "hash64")
)

def guarded(array):
    size = -(-max(array.nbytes, 1) // PAGE) * PAGE
    memory = mmap.mmap(-1, size + PAGE)
    whole = np.frombuffer(memory, np.uint8)
    assert protect(whole.ctypes.data + size, PAGE, 0) == 0
    part = whole[size - array.nbytes : size]
    part[:] = array.reshape(-1).view(np.uint8)
    kept.append(memory)
    return part.view(array.dtype).reshape(array.shape)

def columns(values):
    octets = guarded(np.frombuffer(b"".join(values), np.uint8))
    ends = np.cumsum([0, *map(len, values)])
    valid = guarded(np.packbits([1] * len(values), bitorder="little"))
    for layout, kind in ((OFFSETS32, np.int32), (OFFSETS64, np.int64)):
        offsets = guarded(ends.astype(kind))
        yield Spans(len(values), layout, offsets.ctypes.data, octets.ctypes.data, len(octets), valid.ctypes.data, 0)
    views = b""
    for value, at in zip(values, ends):
        rest = value.ljust(12, b"-") if len(value) <= 12 else value[:4] + bytes(4) + int(at).to_bytes(4, "little")
        views += len(value).to_bytes(4, "little") + rest
    views = guarded(np.frombuffer(views, np.uint8))
    buffers = guarded(np.array([octets.ctypes.data, len(octets)]))
    yield Spans(len(values), VIEWS, views.ctypes.data, buffers.ctypes.data, 1, valid.ctypes.data, 0)
    if len({len(value) for value in values}) == 1:
        yield Spans(len(values), FIXED, octets.ctypes.data, 0, len(values[0]), valid.ctypes.data, 0)

def work(values, seed=0):
    octets, ends = guarded(np.frombuffer(b"".join(values), np.uint8)), guarded(np.cumsum([0, *map(len, values)]))
    categories = Spans(len(values), OFFSETS64, ends.ctypes.data, octets.ctypes.data, len(octets), 0, 0)
    table = wrap_table(guarded(np.zeros((buckets_for(len(values)), 8), np.uint64)), seed)
    assert fill(categories, table) == -1
    for column in columns(values):
        ids = guarded(np.zeros(len(values), np.int64))
        assert find(column, categories, table, 0, -1, -2, ids) == len(values)
        assert ids.tolist() == list(range(len(values)))
        assert len(set(hash64(column, seed).tolist())) == len(values)
        room = guarded(np.zeros(len(octets), np.uint8)), guarded(np.zeros(len(values) + 1, np.int64))
        own = Spans(len(values), OFFSETS64, room[1].ctypes.data, room[0].ctypes.data, len(octets), 0, 0)
        empty = wrap_table(guarded(np.zeros((buckets_for(len(values)), 8), np.uint64)), seed)
        assert insert(column, own, *room, empty, np.zeros(2, np.int64), 2**32 - 1, 0, ids) == len(values)
        assert bytes(room[0]) == b"".join(values) and room[1].tolist() == ends.tolist()
        assert (empty.words == table.words).all()
    facts = categories.facts(), table.address, table.buckets, table.seed
    assert [find_one(value, *facts) for value in values] == list(range(len(values)))
"""

CASES = """
for length in range(41):
    work([b"x" * length])
work([bytes([length]) * length for length in range(70)])
work([bytes([length]) * length for length in range(70)][::-1])
for size in (1, 3, 4, 8, 13, 16, 17):
    work([bytes([i]) * size for i in range(200)])
work([str(i).encode() for i in range(1000)])

values = [str(i).encode() for i in range(100)]
octets, ends = guarded(np.frombuffer(b"".join(values), np.uint8)), guarded(np.cumsum([0, *map(len, values)]))
categories = Spans(100, OFFSETS64, ends.ctypes.data, octets.ctypes.data, len(octets), 0, 0)
given = list(columns(values))
rng = np.random.default_rng(0)
for attempt in range(200):
    words = guarded(rng.integers(0, 2**64 - 1, (buckets_for(100), 8), np.uint64, endpoint=True))
    for column in given:
        ids = np.zeros(100, np.int64)
        find(column, categories, wrap_table(words, 0), 0, -1, -2, ids)
        assert all(found in (-1, place) for place, found in enumerate(ids))
print("all sound", flush=True)
ctypes.string_at(guarded(np.zeros(8, np.uint8)).ctypes.data, 9)
print("the guard does not guard")
"""


def test_nothing_is_read_past_the_end_of_a_buffer():
    run = subprocess.run([sys.executable, "-c", PRELUDE + CASES], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("all sound\n", "")
    assert run.returncode < 0
