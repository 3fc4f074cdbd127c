"""Rows that are added in place: what is shared, what is copied, and how long a storage is."""

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch

from catembed import storage
from catembed.storage import HugeWhenFull, grow_rows, reservation

MEGABYTE = 1 << 18  # float32 numbers


def filled(rows, columns=64):
    return torch.arange(rows * columns, dtype=torch.float32).view(rows, columns)


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def assert_grown(grown, tensor, rows):
    assert (grown.shape, grown.dtype, grown.device) == ((rows, *tensor.shape[1:]), tensor.dtype, tensor.device)
    assert grown.is_contiguous()
    assert torch.equal(grown[: len(tensor)], tensor)
    assert not grown[len(tensor) :].any()
    assert grown.storage_offset() == 0
    assert grown.untyped_storage().nbytes() == grown.nbytes


@pytest.mark.parametrize("shape", [(3,), (0, 4), (5, 0), (5, 2, 3), (300_000,), (300_000, 2, 2), (10, 1 << 17)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int32, torch.uint8, torch.bool])
def test_any_shape_and_dtype(shape, dtype):
    tensor = torch.randint(2, shape).to(dtype)
    for rows in (shape[0] + 1, 2 * shape[0] + 7):
        assert_grown(grow_rows(tensor, rows), tensor, rows)


def test_no_new_rows_is_the_tensor_itself():
    tensor = torch.ones(3, 2)
    assert grow_rows(tensor, 3) is tensor


def test_gradients_do_not_flow_through():
    grown = grow_rows(torch.ones(3, 2, requires_grad=True), 4)
    assert not grown.requires_grad


@pytest.mark.parametrize("tensor", [torch.ones(3, 2), torch.ones(()), storage.zeros((1 << 20,))])
def test_rows_are_never_lost(tensor):
    with pytest.raises(ValueError, match="growing loses none"):
        grow_rows(tensor, 2)


def test_growing_many_times_moves_seldom():
    tensor, places = filled(4096), set()
    for rows in range(4097, 40_000, 16):
        longer = grow_rows(tensor, rows)
        longer[len(tensor) :] = rows
        tensor = longer
        places.add(tensor.data_ptr())
    assert len(places) <= 3
    assert torch.equal(tensor[:4096], filled(4096))
    assert tensor[4096:, 0].tolist() == [r for r in range(4097, 40_000, 16) for _ in range(16)][15:]


def test_a_step_costs_the_new_rows_alone():
    """4 GB of rows, none of them touched by growing."""
    tensor = grow_rows(storage.zeros((1 << 24, 64)), (1 << 24) + 1)
    before = resident()
    for rows in range(len(tensor) + 1, len(tensor) + 1000):
        tensor = grow_rows(tensor, rows)
        tensor[-1] = 1
    assert resident() - before < 4e6
    assert tensor[-999:].eq(1).all()


def test_moving_state_that_is_hardly_used_takes_no_memory():
    tensor = storage.zeros((1 << 22, 64))  # 1 GB
    tensor[[5, 1 << 21]] = 7
    before = resident()
    grown = grow_rows(tensor, (4 << 22) + 1)
    assert grown.data_ptr() != tensor.data_ptr()
    assert resident() - before < 32e6
    assert grown[[5, 1 << 21]].eq(7).all()
    assert grown.untyped_storage().nbytes() == grown.nbytes


def test_bytes_are_moved_not_only_numbers():
    tensor = storage.zeros((1 << 20,))
    tensor[:] = -0.0
    assert torch.signbit(grow_rows(tensor, 5 << 20)[: 1 << 20]).all()


def test_in_place_means_the_same_memory():
    tensor = storage.zeros((MEGABYTE,))
    grown = grow_rows(tensor, MEGABYTE + 5)
    assert grown.data_ptr() == tensor.data_ptr()
    grown[3] = 9
    assert tensor[3] == 9
    del tensor
    assert_grown(grow_rows(grown, MEGABYTE + 9), grown, MEGABYTE + 9)


# Only the longest may take the room


def test_two_that_grow_from_one_do_not_share_their_new_rows():
    tensor = storage.zeros((MEGABYTE,))
    one = grow_rows(tensor, MEGABYTE + 100)
    one[MEGABYTE:] = 1
    two = grow_rows(tensor, MEGABYTE + 100)
    assert_grown(two, tensor, MEGABYTE + 100)
    two[MEGABYTE:] = 2
    assert one[MEGABYTE:].eq(1).all()
    assert one.data_ptr() != two.data_ptr()


def test_an_old_view_of_the_same_storage_does_not_share_them_either():
    tensor = storage.zeros((MEGABYTE,))
    alias = tensor.detach()
    one = grow_rows(tensor, MEGABYTE + 100)
    one[MEGABYTE:] = 1
    assert_grown(grow_rows(alias, MEGABYTE + 50), alias, MEGABYTE + 50)


@pytest.mark.parametrize("part", [lambda t: t[:-1], lambda t: t[1:], lambda t: t.view(-1, 2).T, lambda t: t[::2]])
def test_a_part_is_copied_and_its_new_rows_are_zero(part):
    tensor = storage.zeros((MEGABYTE, 2))
    tensor[:] = 5
    shorter = part(tensor)
    before = tensor.clone()
    grown = grow_rows(shorter, len(shorter) + 3)
    assert_grown(grown, shorter, len(shorter) + 3)
    grown.fill_(1)
    assert torch.equal(tensor, before)


def test_after_shrinking_new_rows_are_zero_again():
    tensor = grow_rows(storage.zeros((MEGABYTE,)), MEGABYTE + 100)
    tensor[:] = 3
    again = grow_rows(tensor[:MEGABYTE], MEGABYTE + 100)
    assert not again[MEGABYTE:].any()
    assert tensor.eq(3).all()


def test_room_outlives_nobody():
    tensor = grow_rows(storage.zeros((MEGABYTE,)), MEGABYTE + 1)
    place = tensor.data_ptr()
    assert place in reservation._reservations
    view = tensor[5:]
    del tensor
    assert place in reservation._reservations
    del view
    assert place not in reservation._reservations


# Copies


def through_file(tensor):
    file = io.BytesIO()
    torch.save(tensor, file)
    assert file.tell() < tensor.nbytes + 10_000
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_pickle(tensor):
    octets = pickle.dumps(tensor)
    assert len(octets) < tensor.nbytes + 10_000
    return pickle.loads(octets)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_file, through_pickle])
def test_copies_are_as_long_as_the_rows(copied):
    tensor = grow_rows(filled(4096), 5000)
    other = copied(tensor)
    assert_grown(other, filled(4096), 5000)
    other[0] = -1
    assert tensor[0, 0] == 0
    assert_grown(grow_rows(other, 6000), other, 6000)
    assert_grown(grow_rows(tensor, 6000), tensor, 6000)


# Where there is no room


def test_without_address_space_for_room_rows_are_copied(monkeypatch):
    monkeypatch.setattr(reservation, "_sizes", lambda: (1 << 40, 1))
    tensor = filled(4096)
    for rows in (5000, 6000):
        grown = grow_rows(tensor, rows)
        assert_grown(grown, tensor, rows)
        assert grown.data_ptr() != tensor.data_ptr()
        tensor = grown


def test_without_address_space_for_the_rows():
    with pytest.raises(MemoryError, match="no address space for 4,611,686,018,427,387,904 bytes"):
        grow_rows(torch.ones(2, 1 << 18), 1 << 42)


def test_other_devices_copy():
    grown = grow_rows(torch.empty(3, 2, device="meta"), 5)
    assert (grown.shape, grown.device.type) == ((5, 2), "meta")


# Huge pages under what grows


class Counted(HugeWhenFull):
    """Counts what would be asked of the system."""

    def __init__(self, tensor):
        self.watched = []
        super().__init__(tensor)

    def _watch(self, tensor):
        self.watched.append(len(tensor))
        super()._watch(tensor)


def test_a_watch_goes_on_where_the_tensor_grows_in_place():
    tensor = storage.zeros((4 << 20, 4))  # 64 MB
    watch = Counted(tensor)
    countdown = watch._left
    for _ in range(3):
        watch.visited(1000)
        tensor = grow_rows(tensor, len(tensor) + 10)
        watch.follow(tensor)
    assert watch.watched == [4 << 20]
    assert watch._left == countdown - 3000
    assert watch._tensor is tensor
    watch.follow(storage.zeros((2 << 20, 4)))  # another one
    assert watch.watched == [4 << 20, 2 << 20]


def test_a_watch_that_is_over_begins_anew_when_the_tensor_has_doubled():
    tensor = storage.zeros((1 << 19,))  # 2 MB, which need not hold a whole huge page
    watch = Counted(tensor)
    watch._tensor = None
    for rows, watches in (((1 << 19) + 1, 1), (1 << 20, 2), ((1 << 20) + 1, 2)):
        tensor = grow_rows(tensor, rows)
        watch.follow(tensor)
        assert len(watch.watched) == watches
        watch._tensor = None
