"""State in the kernels' layout: what grows in place, what is copied, what new rows hold."""

import pytest
import torch

from catembed.optim.layout import interleaved, resized
from catembed.storage import zeros

CPU = torch.device("cpu")


def test_state_of_the_same_shape_is_itself():
    old = torch.randn(4, 3)
    assert resized(old, (4, 3), torch.float32, CPU, fill=7.0) is old


@pytest.mark.parametrize("rows", [4, 6])
def test_state_with_gaps_becomes_one_without(rows):
    old = torch.randn(3, 4).T
    new = resized(old, (rows, 3), torch.float32, CPU)
    assert new.is_contiguous()
    assert torch.equal(new[:4], old)
    assert not new[4:].any()


def test_another_dtype_is_converted():
    old = torch.randn(4, 3)
    assert torch.equal(resized(old, (5, 3), torch.float64, CPU)[:4], old.double())


def test_state_grows_in_place_and_new_rows_hold_the_fill():
    old = zeros((1 << 18,))
    old[:] = 1
    new = resized(old, ((1 << 18) + 5,), torch.float32, CPU, fill=0.5)
    assert new.data_ptr() == old.data_ptr()
    assert new[-6:].tolist() == [1, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_moments_grow_in_place():
    moments = zeros((1 << 16, 2, 4))
    moments[:, 0], moments[:, 1] = 1, 2
    longer = interleaved(moments[:, 0], moments[:, 1], torch.empty((1 << 16) + 3, 4), torch.float32)
    assert longer.data_ptr() == moments.data_ptr()
    assert longer[-4:, :, 0].tolist() == [[1, 2], [0, 0], [0, 0], [0, 0]]
    with pytest.raises(RuntimeError, match="tables may gain rows, not lose any"):
        interleaved(longer[:, 0], longer[:, 1], torch.empty(1 << 16, 4), torch.float32)
