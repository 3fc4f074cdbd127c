"""Settling under SGD: products of 2 × 2 matrices against the plain loop."""

import pytest
import torch

from catembed.kernels import reference_settle
from catembed.kernels.cpu.settle_sgd import settle_sgd

EPSILON = {torch.float32: 2**-24, torch.float64: 2**-53}


def history(steps, lr, momentum, dampening, nesterov, decay):
    """What SGD's steps do to (w, buffer); ``lr`` shrinks and grows with time."""
    rows = []
    for step in range(steps):
        rate = lr * (1 + 0.9 * (-1) ** (step // 50))
        bw, bb = (1 - dampening) * decay, momentum
        own, buffer = (decay + momentum * bw, momentum * bb) if nesterov else (bw, bb)
        rows.append([1 - rate * own, -rate * buffer, bw, bb] if momentum else [1 - rate * decay, 0, 0, 1])
    return torch.tensor(rows, dtype=torch.float64)


def table(dtype, buffered, steps):
    generator = torch.Generator().manual_seed(1)
    now = steps + 3
    weight = torch.randn(200, 5, dtype=dtype, generator=generator)
    buffer = torch.randn(200, 5, dtype=dtype, generator=generator) if buffered else None
    last = torch.randint(3, now + 1, (200,), generator=generator, dtype=torch.int32)
    last[::3] *= -1
    if buffered:
        buffer[::3] = 0
    return weight, buffer, last, now


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 1e-7, 0.1])
@pytest.mark.parametrize(
    ("momentum", "dampening", "nesterov"), [(0.0, 0.0, False), (0.9, 0.0, False), (0.9, 0.5, False), (0.95, 0.0, True)]
)
def test_equals_definition(dtype, decay, momentum, dampening, nesterov):
    steps = history(400, 0.05, momentum, dampening, nesterov, decay)
    weight, buffer, last, now = table(dtype, momentum != 0, 400)
    frozen = (torch.arange(200) % 7 == 0).to(torch.uint8)
    wide = [weight.double(), None if buffer is None else buffer.double(), last.clone()]
    before = weight.clone()
    stale = settle_sgd(weight, buffer, last, steps, now, frozen=frozen)
    assert stale == reference_settle.settle_sgd(*wide, steps, now, frozen=frozen) > 0
    assert torch.equal(last, wide[2])
    moved = (wide[0] - before.double()).abs()
    error = (weight.double() - wide[0]).abs()
    assert (error <= EPSILON[dtype] * (before.abs() + 16 * moved + wide[0].abs()) * 1.01 + 1e-37).all()
    assert torch.equal(weight[frozen == 1], before[frozen == 1])
    if decay:
        live = (frozen == 0) & (wide[2] == now)
        assert (weight[live] != before[live]).any()
    if buffer is not None:
        largest = wide[1].abs().amax(1, keepdim=True) + before.abs().amax(1, keepdim=True)
        assert ((buffer.double() - wide[1]).abs() <= 8 * EPSILON[dtype] * largest).all()


def test_slow_decay_of_many_steps_is_not_lost():
    # Each step's factor rounds to 1 in float32; a thousand together do not.
    steps = history(1000, 1e-3, 0.0, 0.0, False, 1e-5)
    weight = torch.ones(4, 3)
    settle_sgd(weight, None, torch.zeros(4, dtype=torch.int32), steps, 1000)
    expected = torch.ones(4, 3, dtype=torch.float64) * steps[:, 0].prod()
    torch.testing.assert_close(weight.double(), expected, rtol=6e-8, atol=0)
    assert (weight < 1).all()


def test_untouched_rows_without_decay_are_not_written():
    steps = history(50, 0.1, 0.9, 0.0, False, 0.0)
    weight, buffer, last, now = table(torch.float32, True, 50)
    weight.requires_grad_(False)
    before = weight.clone()
    buffer[::3] = float("nan")  # would be seen in the weight
    settle_sgd(weight, buffer, last, steps, now)
    assert torch.equal(weight[::3], before[::3])
    assert (last[::3] == -now).all()


def test_untouched_rows_gain_a_momentum_by_decay():
    steps = history(50, 0.1, 0.9, 0.0, False, 0.1)
    weight, buffer, last, now = table(torch.float32, True, 50)
    last[3::3] = -40
    last[0] = -now
    settle_sgd(weight, buffer, last, steps, now)
    assert last[0] == -now
    assert (last[3::3] == now).all()
    assert (buffer[3::3] != 0).all()


def test_row_older_than_history_is_refused():
    steps = history(10, 0.1, 0.9, 0.0, False, 0.0)
    weight, buffer, last, now = table(torch.float32, True, 10)
    last[4] = 2
    with pytest.raises(ValueError, match="row 4 is settled up to step 2"):
        settle_sgd(weight, buffer, last, steps, now, rows=torch.tensor([1, 4]))
