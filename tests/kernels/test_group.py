"""`group`: the compiled sort against the definition, and what it does with every kind of input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed.kernels import reference
from catembed.kernels.cpu.group import group


def assert_same(ids, num_rows):
    ours, theirs = group(ids, num_rows), reference.group(ids, num_rows)
    for part, expected in zip(ours, theirs, strict=True):
        assert part.dtype == torch.int64
        assert torch.equal(part, expected)


@given(
    ids=st.lists(st.integers(0, 2**20), max_size=200),
    spread=st.sampled_from([1, 7, 2**20 + 1]),
    dtype=st.sampled_from([torch.int32, torch.int64]),
)
@settings(deadline=None, max_examples=200)
def test_segments_are_those_of_the_definition(ids, spread, dtype):
    assert_same(torch.tensor([i % spread for i in ids], dtype=dtype), spread)


@pytest.mark.parametrize("num_rows", [1, 2, 255, 256, 257, 2**31 + 5, 2**40, 2**53])
def test_any_table_size(num_rows):
    ids = torch.randint(num_rows, (3000,))
    ids[:2] = num_rows - 1
    assert_same(ids, num_rows)


@pytest.mark.parametrize("count", [1, 2, 4095, 4096, 300_000])
@pytest.mark.parametrize("skewed", [False, True])
def test_any_batch_size_on_any_number_of_threads(count, skewed, threads):
    ids = torch.randint(1_000_000, (count,))
    if skewed:
        ids = ids // torch.randint(1, 1_000_000, (count,))
    for number in (1, 2, 8):
        threads(number)
        assert_same(ids, 1_000_000)


def test_ids_with_gaps_between_them():
    assert_same(torch.randint(50, (2, 400))[0, ::3], 50)
    assert_same(torch.tensor([3]).expand(100), 50)


@pytest.mark.parametrize("count", [5, 300_000])
@pytest.mark.parametrize("bad", [-1, 10, 2**40, -(2**63)])
def test_an_id_outside_the_table_is_named(count, bad, threads):
    threads(2)
    ids = torch.arange(count) % 10
    ids[count - 2] = bad
    with pytest.raises(IndexError, match=rf"id {bad} at position {count - 2} is outside \[0, 10\)"):
        group(ids, 10)
    with pytest.raises(IndexError, match=rf"id {bad} at position {count - 2} is outside \[0, 10\)"):
        reference.group(ids, 10)


def test_the_first_of_several_bad_ids_is_named(threads):
    threads(4)
    ids = torch.zeros(600_000, dtype=torch.int64)
    ids[[100, 590_000]] = torch.tensor([77, 88])
    with pytest.raises(IndexError, match="id 77 at position 100"):
        group(ids, 10)


def test_ids_that_ascend_need_no_sorting():
    ids = torch.tensor([1, 4, 9], dtype=torch.int32)
    for case in (ids, ids[[0, 0, 2]], ids.flip(0), torch.arange(30)[::3], ids[:0]):
        assert_same(case, 30)
    with pytest.raises(IndexError, match=r"id 9 at position 2 is outside \[0, 9\)"):
        group(ids, 9)
    with pytest.raises(IndexError, match=r"id -1 at position 0 is outside \[0, 9\)"):
        group(torch.tensor([-1, 2]), 9)
