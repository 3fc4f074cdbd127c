"""Settling under Adam: the series against the plain loop, for every kind of history, dtype and row."""

import math

import numpy as np
import pytest
import torch

from catembed.kernels import reference_settle
from catembed.kernels.cpu.missed_adam import DEGREE, EPS, MEAN, missed_adam
from catembed.kernels.cpu.settle_adam import settle_adam

EPSILON = {torch.float32: 2**-24, torch.float64: 2**-53}


def of(value, step):
    return value(step) if callable(value) else value


def history(steps, *, after=0, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    """Steps ``after + 1`` to ``after + steps`` as Adam takes them; each argument a number or a function of the step."""
    rows = []
    for step in range(after + 1, after + steps + 1):
        b1, b2, rate = of(beta1, step), of(beta2, step), of(lr, step)
        correction = 1 / math.sqrt(1 - b2**step)
        rows.append([rate / (1 - b1**step), b1, b2, correction, of(eps, step), 1 - rate * of(decay, step)])
    return torch.tensor(rows, dtype=torch.float64)


def cosine(step):
    return 1e-2 * min(1, step / 50) * (0.51 + 0.5 * math.cos(step / 600 * math.pi))


HISTORIES = {
    "from the first step": history(600),
    "late": history(400, after=100_000),
    "warmup, cosine, decay": history(600, lr=cosine, decay=0.1),
    "learning rate 0 at times": history(500, lr=lambda step: 0.0 if step % 100 < 60 else 1e-3),
    "learning rate in steps": history(500, lr=lambda step: 10.0 ** -(step // 150)),
    "slow first moment": history(600, beta1=0.99),
    "fast second moment": history(600, beta2=0.95),
    "first slower than second": history(300, beta1=0.98, beta2=0.9),
    "betas change": history(
        600, beta1=lambda step: 0.9 - 0.1 * (step > 250), beta2=lambda step: 0.999 - 0.09 * (step > 300)
    ),
    "second moment rises": history(400, beta2=lambda step: 0.9 if step < 200 else 0.999),
    "cyclic momentum": history(600, beta1=lambda step: 0.9 + 0.05 * math.sin(step / 20)),
    "no first moment": history(100, beta1=0.0),
    "no second moment": history(100, beta1=0.5, beta2=0.0),
    "eps changes": history(300, eps=lambda step: 1e-8 if step < 150 else 1e-3),
    "no eps": history(300, eps=0.0),
    "large eps": history(300, eps=1.0),
    "decay to nothing": history(300, lr=0.1, decay=10.0),
    "decay past nothing": history(100, lr=0.1, decay=15.0),
}


def plain(steps, age, m, v):
    """What the last ``age`` steps do to a weight of 0, one after the other."""
    w = np.zeros_like(m)
    for lr, beta1, beta2, denominator, eps, factor in steps[len(steps) - age :].tolist():
        m, v = beta1 * m, beta2 * v
        w = w * factor - lr * m / (np.sqrt(v) * denominator + eps)
    return w


def summed(pieces, m, v):
    """The same by the series."""
    w = np.zeros_like(m)
    for piece in pieces:
        x = np.sqrt(v) * piece[MEAN]
        theta = x / (x + piece[EPS])
        w -= m / (x + piece[EPS]) * sum(piece[p] * (-theta) ** p for p in range(DEGREE + 1))
    return w


@pytest.mark.parametrize("tolerance", [1e-8, 1e-12])
@pytest.mark.parametrize("name", HISTORIES)
def test_series_keeps_its_bound(name, tolerance):
    steps = HISTORIES[name]
    v = 10.0 ** np.linspace(-22, 6, 57)
    m = np.sqrt(v)
    _, first, pieces = missed_adam(steps.numpy(), np.ones(len(steps) + 1, np.uint8), tolerance)
    for age in {1, 2, 3, 7, 20, 60, 99, len(steps) // 2, len(steps) - 5, len(steps)}:
        mine = pieces[first[age] : first[age + 1]]
        exact = plain(steps, age, m, v)
        allowed = tolerance * (len(mine) + 1) + 1e-13
        np.testing.assert_allclose(summed(mine, m, v), exact, rtol=allowed, atol=1e-290)


def test_pieces_are_few_once_bias_is_gone():
    for beta2, most in ((0.999, 1), (0.99, 4)):
        steps = history(2000, after=20_000, beta2=beta2)
        _, first, _ = missed_adam(steps.numpy(), np.ones(len(steps) + 1, np.uint8), 2e-8)
        assert np.diff(first).max() <= most


def test_only_wanted_ages_have_pieces():
    wanted = np.array([0, 0, 1, 0, 0, 1], np.uint8)
    factors, first, pieces = missed_adam(history(9, decay=0.1).numpy(), wanted, 1e-8)
    assert [first[age + 1] - first[age] > 0 for age in range(6)] == [False, False, True, False, False, True]
    assert len(pieces) == first[-1]
    np.testing.assert_allclose(factors[5], [(1 - 1e-4) ** 5 - 1, 0.9**5, 0.999**5], rtol=1e-12)


def table(steps, dtype, *, rows=301, columns=5, seed=0):
    """Weight, moments and last of a table at step ``len(steps) + 7``; every third row untouched."""
    generator = torch.Generator().manual_seed(seed)
    now = len(steps) + 7
    weight = torch.randn(rows, columns, dtype=dtype, generator=generator)
    second = torch.randn(rows, columns, dtype=dtype, generator=generator) ** 2
    first = torch.randn(rows, columns, dtype=dtype, generator=generator) * second.sqrt()
    moments = torch.stack([first, second], dim=1) * 10.0 ** torch.randint(-6, 1, (rows, 1, 1), generator=generator)
    last = torch.randint(7, now + 1, (rows,), generator=generator, dtype=torch.int32)
    moments[::3] = 0
    last[::3] *= -1
    return weight, moments, last, now


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", HISTORIES)
def test_equals_definition(name, dtype):
    steps = HISTORIES[name]
    weight, moments, last, now = table(steps, dtype)
    frozen = (torch.arange(len(weight)) % 7 == 0).to(torch.uint8)
    ours, exact = (weight, moments, last), (weight.double(), moments.double(), last.clone())
    before = weight.clone()
    stale = settle_adam(*ours, steps, now, frozen=frozen)
    assert stale == reference_settle.settle_adam(*exact, steps, now, frozen=frozen) > 0
    assert torch.equal(ours[2], exact[2])
    moved = (exact[0] - before.double()).abs()
    error = (ours[0].double() - exact[0]).abs()
    # Rounded once to the weight's dtype; the move itself is good to some roundings and the series' bound.
    assert (error <= EPSILON[dtype] * (exact[0].abs() + 16 * moved + before.abs()) * 1.01 + 1e-12 * moved).all()
    torch.testing.assert_close(ours[1].double(), exact[1], rtol=4 * EPSILON[dtype], atol=2e-37)
    assert torch.equal(weight[frozen == 1], before[frozen == 1])


def test_settles_only_the_rows_asked_for():
    steps = HISTORIES["warmup, cosine, decay"]
    weight, moments, last, now = table(steps, torch.float32)
    everything = [part.clone() for part in (weight, moments, last)]
    settle_adam(*everything, steps, now)
    rows = torch.tensor([2, 3, 50, 299])
    some = [part.clone() for part in (weight, moments, last)]
    assert settle_adam(*some, steps, now, rows=rows) == int((last[rows].abs() < now).sum())
    others = torch.ones(len(weight), dtype=torch.bool)
    others[rows] = False
    for before, part, all_ in zip((weight, moments, last), some, everything, strict=True):
        assert torch.equal(part[rows], all_[rows])
        assert torch.equal(part[others], before[others])
    assert settle_adam(*some, steps, now, rows=rows) == 0


def test_bits_do_not_depend_on_threads():
    steps = HISTORIES["betas change"]
    weight, moments, last, now = table(steps, torch.float32, rows=20_000)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 8):
            torch.set_num_threads(threads)
            parts = [part.clone() for part in (weight, moments, last)]
            settle_adam(*parts, steps, now)
            results.append(parts)
    finally:
        torch.set_num_threads(before)
    for parts in results[1:]:
        assert all(torch.equal(*pair) for pair in zip(parts, results[0], strict=True))


def test_row_older_than_history_is_refused():
    steps = history(10)
    weight, moments, last, now = table(steps, torch.float32)
    last[5] = 1
    with pytest.raises(ValueError, match="row 5 is settled up to step 1, and of the 17 steps so far only the last 10"):
        settle_adam(weight, moments, last, steps, now)


@pytest.mark.parametrize("shape", [(0, 4), (6, 0)])
def test_empty(shape):
    steps = history(10)
    weight, last = torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int32)
    assert settle_adam(weight, torch.zeros(shape[0], 2, shape[1]), last, steps, 10) == shape[0]
    assert settle_adam(weight, torch.zeros(shape[0], 2, shape[1]), last, steps, 10, rows=torch.empty(0).long()) == 0


@pytest.mark.parametrize("state", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rounding", [None, 1234])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_are_rounded_once_as_defined(dtype, rounding, state):
    steps = HISTORIES["warmup, cosine, decay"]
    weight, moments, last, now = table(steps, torch.float32)
    start = (weight.to(dtype), (moments * 1e-2).to(state), last)
    ours, exact = ([part.clone() for part in start] for _ in range(2))
    settle_adam(*ours, steps, now, rounding=rounding)
    reference_settle.settle_adam(*exact, steps, now, rounding=rounding)
    for mine, theirs, before in zip(ours[:2], exact[:2], start[:2], strict=True):
        if mine.dtype == torch.float32:
            torch.testing.assert_close(mine, theirs, rtol=3e-7, atol=2e-37)
            continue
        # The same but where a value lies on the edge between two roundings: there it is the neighbour.
        assert (mine == theirs).float().mean() > 0.995
        step = torch.finfo(mine.dtype).eps * theirs.double().abs() + 1e-7
        assert ((mine.double() - theirs.double()).abs() <= step).all()
        assert (mine != before).any()


def test_state_is_rounded_differently_at_each_step():
    shrunk = []
    for now in (5, 6):
        moments = torch.ones(50, 2, 8, dtype=torch.bfloat16)
        last = torch.full((50,), now - 1, dtype=torch.int32)
        settle_adam(torch.zeros(50, 8), moments, last, history(1, after=now - 1), now)
        shrunk.append(moments[:, 1])
    assert (shrunk[0] != shrunk[1]).any()
    # 0.999 lies a quarter of the way down from 1 to 0.99609375: rounding to nearest would never get there.
    share = torch.stack(shrunk).lt(1).double().mean()
    assert 0.18 < share < 0.33  # 800 draws: a standard deviation is 0.015


def test_frozen_and_untouched_rows_keep_their_state():
    steps = HISTORIES["warmup, cosine, decay"]
    weight, moments, last, now = table(steps, torch.float32)
    frozen = (torch.arange(len(weight)) % 2).to(torch.uint8)
    moments[::3] = float("nan")  # untouched rows' state is not even read
    before = weight.clone(), moments.clone()
    settle_adam(weight, moments, last, steps, now, frozen=frozen)
    assert torch.equal(weight[frozen == 1], before[0][frozen == 1])
    kept = (frozen == 1) | (last < 0)
    assert torch.equal(moments[kept].nan_to_num(7), before[1][kept].nan_to_num(7))
    assert not weight.isnan().any()
    assert (last.abs() == now).all()
