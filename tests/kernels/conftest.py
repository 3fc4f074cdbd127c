"""Columns of bytes in every layout that Arrow has for them."""

import numpy as np
import pyarrow as pa
import pytest
import torch

SPARE = b"12345678"  # what lies before and behind the values; eight bytes, so that every layout can hold it


@pytest.fixture
def threads():
    """Set the number of torch's threads, for one test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def views(values, kind, buffers=3):
    """A view array by hand, whose long values lie spread over several buffers."""
    data = [bytearray(b"xyz") for _ in range(buffers)]
    words = bytearray()
    for place, value in enumerate(values):
        text = b"" if value is None else value
        words += len(text).to_bytes(4, "little")
        if len(text) <= 12:
            words += text.ljust(12, b"\0")
            continue
        buffer = place % buffers
        words += text[:4] + buffer.to_bytes(4, "little") + len(data[buffer]).to_bytes(4, "little")
        data[buffer] += text
    valid = np.packbits([value is not None for value in values], bitorder="little")
    parts = [pa.py_buffer(valid), pa.py_buffer(bytes(words)), *(pa.py_buffer(bytes(each)) for each in data)]
    array = pa.Array.from_buffers(kind, len(values), parts)
    array.validate(full=True)
    return array


def _is_text(values):
    try:
        return all(value is None or value.decode() is not None for value in values)
    except UnicodeDecodeError:
        return False


def _layouts(values):
    yield "binary", pa.array(values, pa.binary())
    yield "large_binary", pa.array(values, pa.large_binary())
    yield "binary_view", views(values, pa.binary_view())
    if _is_text(values):
        texts = [None if value is None else value.decode() for value in values]
        yield "string", pa.array(texts, pa.string())
        yield "large_string", pa.array(texts, pa.large_string())
        yield "string_view", views(values, pa.string_view())
    sizes = {len(value) for value in values if value is not None}
    if len(sizes) == 1:
        yield "fixed_size_binary", pa.array(values, pa.binary(*sizes))
    if sizes == {8}:
        words = [None if value is None else int.from_bytes(value, "little", signed=True) for value in values]
        yield "int64", pa.array(words, pa.int64())


@pytest.fixture(scope="session")
def layouts():
    """``layouts(values)``: pairs of a name and an array of these bytes (or None), whole and as a slice of more."""

    def both(values):
        spare = SPARE if len({len(value) for value in values if value is not None}) != 1 else values[0] or SPARE
        padded = [spare, None, spare, *values, None, spare]
        yield from _layouts(values)
        for name, array in _layouts(padded):
            yield f"slice of {name}", array.slice(3, len(values))

    return both
