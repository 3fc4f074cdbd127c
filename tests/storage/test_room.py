"""``room``: memory is handed out again when nothing holds it, and never before."""

import gc
import importlib
import os

import pytest
import torch

from catembed.storage import room

MB = 1 << 20


@pytest.fixture(autouse=True)
def waiting():
    module = importlib.import_module("catembed.storage.room")
    gc.collect()
    module._waiting.clear()
    yield module._waiting
    module._waiting.clear()


def large(megabytes=40):
    return room(megabytes * MB // 256, 64, torch.float32)


def test_memory_that_is_left_is_used_again(waiting):
    first = large()
    place = first.data_ptr()
    first.fill_(1.0)
    assert len(waiting) == 0
    del first
    assert len(waiting) == 1
    second = large(39)
    assert second.data_ptr() == place
    assert second.shape == (39 * MB // 256, 64)
    assert second.untyped_storage().nbytes() == 39 * MB
    assert len(waiting) == 0


def test_memory_that_anything_holds_is_not(waiting):
    first = large()
    view, sparse = first[7:9], torch.sparse_coo_tensor(torch.arange(len(first))[None], first, first.shape)
    first.fill_(3.0)
    place = first.data_ptr()
    del first
    for _ in range(2):
        other = large()
        assert other.data_ptr() != place
        other.fill_(5.0)
    assert (view == 3).all()
    del view
    assert large().data_ptr() != place
    assert (sparse._values() == 3).all()
    del sparse
    assert place in [torch.frombuffer(memory, dtype=torch.uint8).data_ptr() for memory in waiting]


def test_memory_of_another_size_is_given_up(waiting):
    tensor = large(100)
    del tensor
    assert len(waiting) == 1
    small = large(40)  # less than half
    assert len(waiting) == 0
    del small
    assert [len(memory) // MB for memory in waiting] == [46]
    larger = large(60)
    assert len(waiting) == 0
    del larger
    assert [len(memory) // MB for memory in waiting] == [68]


def test_two_tables_keep_theirs(waiting):
    tensors = [large(40), large(100)]
    places = [tensor.data_ptr() for tensor in tensors]
    del tensors
    assert len(waiting) == 2
    assert large(100).data_ptr() == places[1]
    gc.collect()
    one = large(40)
    assert one.data_ptr() == places[0]


def test_no_more_than_256_mb_wait(waiting):
    tensors = [large(100) for _ in range(4)]
    del tensors
    assert sum(map(len, waiting)) <= 256 * MB
    assert len(waiting) == 2


def test_small_ones_are_the_allocators(waiting):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        assert room(10, 3, dtype).dtype == dtype
        assert room(0, 3, dtype).shape == (0, 3)
    assert len(waiting) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_writes_to_its_own():
    tensor = large()
    tensor.fill_(1.0)
    child = os.fork()
    if child == 0:
        tensor.numpy()[:] = 2.0
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert (tensor == 1).all()
