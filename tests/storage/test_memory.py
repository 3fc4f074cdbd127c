"""Memory that appears when touched."""

import copy
import io
import threading
from pathlib import Path

import pytest
import torch

from catembed.storage import HugeWhenFull, advise_huge, zeros
from catembed.storage.memory import _share_in_use


@pytest.mark.parametrize("shape", [(0,), (3, 4), (1 << 20,), (300_000, 2, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.uint8])
def test_zeros_of_any_size(shape, dtype):
    tensor = zeros(shape, dtype)
    assert (tensor.shape, tensor.dtype, tensor.is_contiguous()) == (shape, dtype, True)
    assert not tensor.any()
    assert tensor.untyped_storage().nbytes() == tensor.numel() * dtype.itemsize


def test_only_touched_pages_cost_memory():
    tensor = zeros((100_000_000, 16))  # 6.4 GB
    tensor[::10_000_000] = 1
    assert 0 < _share_in_use(tensor) < 1e-4  # asked of its own pages alone: neighbouring mappings may be merged with it
    assert tensor[::10_000_000].sum() == 160


def test_a_view_keeps_the_memory():
    view = zeros((1 << 20,))[5:10]
    view += 1
    assert view.tolist() == [1] * 5


def test_copies_and_files_are_as_long_as_the_tensor():
    tensor = zeros((1 << 19,))
    tensor[7] = 3
    assert torch.equal(copy.deepcopy(tensor), tensor)
    file = io.BytesIO()
    torch.save(tensor, file)
    assert file.tell() < (1 << 21) + 10_000
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=True), tensor)


def test_no_address_space():
    with pytest.raises(MemoryError, match="no address space for 4,611,686,018,427,387,904 bytes"):
        zeros((1 << 60,))


def test_huge_pages_are_asked_for_whole_pages_only():
    assert advise_huge(torch.empty(8 << 20)) is True
    assert advise_huge(torch.empty(1000)) is False
    tensor = zeros((8 << 20,))
    assert advise_huge(tensor)
    assert not tensor.any()


def gathering():
    return [thread for thread in threading.enumerate() if thread.name == "catembed-pages"]


def huge_bytes(tensor):
    """Bytes on huge pages in the mapping that holds the tensor."""
    with open("/proc/self/smaps") as file:
        inside = False
        for line in file:
            if "-" in line.split(" ", 1)[0]:
                start, stop = (int(part, 16) for part in line.split(" ", 1)[0].split("-"))
                inside = start <= tensor.data_ptr() < stop
            elif inside and line.startswith("AnonHugePages:"):
                return int(line.split()[1]) * 1024
    raise AssertionError("no mapping holds the tensor")


def test_pages_become_huge_once_all_are_in_use():
    tensor = zeros((4 << 20, 4))  # 64 MB
    watch = HugeWhenFull(tensor)
    tensor[::256] = 7.0  # every page
    watch.visited(len(tensor))
    for thread in gathering():
        thread.join()
    granted = "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    assert (huge_bytes(tensor) >= 32 << 20) == granted
    assert tensor.sum() == 7 * 4 * len(tensor) / 256


def test_pages_stay_small_while_few_are_in_use():
    tensor = zeros((4 << 20, 4))
    watch = HugeWhenFull(tensor)
    tensor[::4096] = 7.0  # one page in sixteen
    for _ in range(5):
        watch.visited(len(tensor))
    assert not gathering()
    assert huge_bytes(tensor) == 0


@pytest.mark.parametrize("tensor", [torch.zeros(10), torch.zeros(0), torch.zeros(1 << 24, device="meta")])
def test_watching_what_has_no_huge_page(tensor):
    HugeWhenFull(tensor).visited(1 << 40)
    assert not gathering()
