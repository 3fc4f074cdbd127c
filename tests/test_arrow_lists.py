"""List columns of Arrow taken apart, against their own Python lists."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from catembed.arrow_lists import flat_lists, is_list

KINDS = [pa.list_, pa.large_list, pa.list_view, pa.large_list_view]


def sound(lists, array):
    values, offsets, missing = flat_lists(array)
    assert values.to_pylist() == [value for each in lists if each is not None for value in each]
    assert offsets.tolist()[1:] == [sum(len(x or []) for x in lists[: at + 1]) for at in range(len(lists))]
    assert (offsets[0], offsets.dtype.name) == (0, "int64")
    assert missing.tolist() == [each is None for each in lists]


@given(
    st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3), max_size=6),
    st.sampled_from(KINDS),
    st.integers(0, 6),
    st.integers(0, 6),
)
def test_lists_of_every_layout_sliced_and_in_chunks(lists, kind, begin, cut):
    array = pa.array(lists, kind(pa.int64()))
    sound(lists[begin:], array[begin:])
    sound(lists[:cut], array[:cut])
    sound(lists, pa.chunked_array([array[:cut], array[cut:]]))


@given(st.lists(st.none() | st.lists(st.integers(0, 9), min_size=2, max_size=2), max_size=6), st.integers(0, 6))
def test_lists_of_one_length(lists, begin):
    sound(lists[begin:], pa.array(lists, pa.list_(pa.int64(), 2))[begin:])


def test_what_is_a_list():
    assert all(is_list(kind(pa.string())) for kind in KINDS)
    assert is_list(pa.list_(pa.string(), 2))
    assert not any(map(is_list, (pa.string(), pa.null(), pa.struct([("a", pa.int8())]), pa.map_(pa.int8(), pa.int8()))))


def test_offsets_that_step_back():
    buffers = [None, pa.py_buffer(pa.array([0, 2, 1], pa.int32()).buffers()[1])]
    with pytest.raises(pa.ArrowInvalid, match="decrease, or lead out"):
        flat_lists(pa.Array.from_buffers(pa.list_(pa.int8()), 2, buffers, children=[pa.array([1], pa.int8())]))
