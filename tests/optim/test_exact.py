"""Exact mode gives the weights of torch's dense optimisers, over thousands of steps, within float32's own error."""

import math

import pytest
import torch

import catembed
from catembed import optim

ROWS, COLUMNS = 600, 4

RULES = {
    "Adam": (optim.Adam, torch.optim.Adam, {"lr": 1e-2}),
    "AdamW": (optim.AdamW, torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.1}),
    "Adam, odd": (optim.Adam, torch.optim.Adam, {"lr": 1e-2, "betas": (0.95, 0.9), "eps": 1e-3, "maximize": True}),
    "SGD": (optim.SGD, torch.optim.SGD, {"lr": 1e-2}),
    "SGD, decay": (optim.SGD, torch.optim.SGD, {"lr": 1e-2, "weight_decay": 0.1, "maximize": True}),
    "SGD, momentum": (optim.SGD, torch.optim.SGD, {"lr": 1e-2, "momentum": 0.9}),
    "SGD, dampening": (
        optim.SGD,
        torch.optim.SGD,
        {"lr": 1e-2, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
    ),
    "SGD, nesterov": (
        optim.SGD,
        torch.optim.SGD,
        {"lr": 1e-2, "momentum": 0.95, "nesterov": True, "weight_decay": 0.01},
    ),
    "Adagrad": (optim.Adagrad, torch.optim.Adagrad, {"lr": 1e-1, "lr_decay": 1e-3}),
}


def cosine(step, steps):
    return min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def staircase(step, steps):
    return 10.0 ** -(3 * step // steps)


def race(rule, steps, batch, *, schedule=None, change=None, dtype=torch.float32, after=None, seed=0, **options):
    """Train ours in exact mode and torch's dense optimiser, in float32 and float64, on the same gradients.

    ``batch(step)`` is the number of ids; ``change(optimizer, step)`` edits settings; ``after(layer, optimizer, step)``
    does something to ours. Gradients do not depend on the weights, so that errors show and are not amplified.
    Returns the errors of ours and of dense float32 against dense float64, and our layer.
    """
    ours, theirs, settings = RULES[rule]
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(ROWS, COLUMNS, generator=generator).to(dtype)
    layer = catembed.Embedding(ROWS, COLUMNS, sparse=True, _weight=start.clone())
    dense = [torch.nn.Parameter(start.to(wide)) for wide in (torch.float32, torch.float64)]
    optimizers = [
        ours(layer.parameters(), untouched="exact", **settings, **options),
        *[theirs([weight], **settings) for weight in dense],
    ]
    schedules = []
    if schedule is not None:
        for optimizer in optimizers:
            schedules.append(torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, steps)))
    for step in range(steps):
        ids = torch.randint(ROWS, (batch(step),), generator=generator)
        # Scales from 1e-3 to 10, and now and then a gradient of zero.
        scale = 10.0 ** torch.randint(-3, 2, (len(ids), 1), generator=generator)
        upstream = torch.randn(len(ids), COLUMNS, generator=generator) * scale * (step % 17 != 0)
        optimizers[0].zero_grad()
        layer(ids).backward(upstream.to(dtype))
        for weight in dense:
            weight.grad = torch.zeros_like(weight).index_add_(0, ids, upstream.to(dtype).to(weight.dtype))
        for optimizer in optimizers:
            if change is not None:
                change(optimizer, step)
            optimizer.step()
        for each in schedules:
            each.step()
        if after is not None:
            after(layer, optimizers[0], step)
    optimizers[0].flush()
    errors = [(weight.detach().double() - dense[1]).abs() for weight in (layer.weight, dense[0])]
    return *errors, layer


def mixed(step):
    """From no row to half of them."""
    return (0, 1, 6, 1, 1, 300, 1, 6)[step % 8] if step < 1500 else int(step % 400 == 0)


def assert_as_exact_as_dense(ours, dense, factor=2.0):
    """At most twice the error of torch's own float32, in the largest element and on average."""
    assert ours.max() <= factor * dense.max()
    assert ours.square().mean().sqrt() <= factor * dense.square().mean().sqrt()
    assert dense.max() < 1e-2  # the bar itself is low


def change_everything(optimizer, step):
    """Learning rate, betas or momentum, decay and eps, each in its own rhythm."""
    group = optimizer.param_groups[0]
    group["lr"] = 1e-2 * (0.0 if step % 500 > 450 else 1 + math.sin(step / 40))
    if "betas" in group:
        group["betas"] = (0.9 - 0.2 * (step // 700 % 2), 0.999 - 0.01 * (step // 900 % 2))
        group["eps"] = 1e-8 if step < 1000 else 1e-6
    else:
        group["momentum"] = 0.0 if step % 600 < 50 else 0.9 - 0.3 * (step // 700 % 2)
    if isinstance(optimizer, (torch.optim.AdamW, torch.optim.SGD)):
        group["weight_decay"] = 0.1 * (step // 300 % 3)


@pytest.mark.parametrize("rule", ["AdamW", "SGD, nesterov"])
def test_3000_steps_with_warmup_and_cosine(rule):
    ours, dense, _ = race(rule, 3000, lambda step: 6, schedule=cosine)
    assert_as_exact_as_dense(ours, dense)


@pytest.mark.parametrize("rule", ["AdamW", "SGD, dampening"])
def test_3000_steps_of_every_touch_rate_while_all_settings_change(rule):
    ours, dense, _ = race(rule, 3000, mixed, change=change_everything)
    assert_as_exact_as_dense(ours, dense)


@pytest.mark.parametrize("batch", [1, 6, 300])
@pytest.mark.parametrize("rule", RULES)
def test_each_rule_at_each_touch_rate(rule, batch):
    ours, dense, _ = race(rule, 500, lambda step: batch, schedule=staircase)
    assert_as_exact_as_dense(ours, dense)


@pytest.mark.parametrize("rule", ["AdamW", "SGD, nesterov"])
def test_float64_keeps_its_precision(rule):
    ours, _, _ = race(rule, 400, mixed, schedule=cosine, dtype=torch.float64)
    assert ours.max() < 1e-12


@pytest.mark.parametrize("rule", ["AdamW", "SGD, nesterov"])
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bit_weights_are_near(rule, dtype, stochastic):
    ours, _, layer = race(rule, 200, lambda step: 30, dtype=dtype, stochastic_rounding=stochastic)
    # A row moves some twenty times, and each move rounds by up to half (stochastically: one) unit in the last place.
    unit = torch.finfo(dtype).eps * layer.weight.detach().double().abs().max()
    assert ours.max() <= 5 * unit
    assert ours.square().mean().sqrt() < 0.6 * unit


@pytest.mark.parametrize("stochastic", [False, True])
def test_small_moves_of_16_bit_rows_count_on_average_where_asked(stochastic):
    layer = catembed.Embedding(100, 32, sparse=True, _weight=torch.ones(100, 32, dtype=torch.bfloat16))
    options = {"weight_decay": 0.1, "untouched": "exact", "stochastic_rounding": stochastic}
    optimizer = optim.AdamW(layer.parameters(), lr=1e-2, **options)
    for _ in range(20):
        optimizer.zero_grad()
        layer(torch.tensor([0])).sum().backward()
        optimizer.step()
        optimizer.flush()  # each decay by a thousandth, a quarter of the gap below 1, is rounded by itself
    mean = float(layer.weight.detach()[1:].double().mean())
    assert abs(mean - 0.999**20) < 1e-3 if stochastic else mean == 1


def test_bfloat16_state_is_near():
    ours, _, _ = race("AdamW", 300, lambda step: 30, state_dtype=torch.bfloat16)
    assert ours.square().mean().sqrt() < 0.003
    assert ours.max() < 0.03  # rows move by 1 and more


@pytest.mark.parametrize("rule", ["AdamW", "SGD, nesterov"])
def test_looking_flushing_and_saving_in_between_change_nothing(rule):
    def meddle(layer, optimizer, step):
        if step % 7 == 0:
            with torch.no_grad():
                layer(torch.randint(ROWS, (5,), generator=torch.Generator().manual_seed(step)))
        if step % 31 == 0:
            optimizer.flush()
        if step % 47 == 0:
            layer.eval()
            layer(torch.tensor([3, 4]))
            layer.train()
        if step % 59 == 0:
            layer.state_dict()
        if step % 61 == 0:
            optimizer.state_dict()

    ours, dense, _ = race(rule, 500, mixed, schedule=cosine, after=meddle)
    assert_as_exact_as_dense(ours, dense)


def test_history_that_is_full_settles_all_rows(monkeypatch):
    monkeypatch.setattr("catembed.optim.exact.LONGEST", 64)
    known = []

    def watch(layer, optimizer, step):
        known.append(optim.exact.settler_of(layer.weight)._known)

    ours, dense, _ = race("AdamW", 400, lambda step: 2, after=watch)
    assert max(known) == 64
    assert known[-1] < 64
    assert_as_exact_as_dense(ours, dense)


def test_steps_without_a_gradient_do_not_count_and_empty_batches_do():
    layer = catembed.Embedding(3, 2, sparse=True, _weight=torch.ones(3, 2))
    dense = torch.nn.Parameter(torch.ones(3, 2, dtype=torch.float64))
    mine, theirs = optim.Adam(layer.parameters(), lr=0.1, untouched="exact"), torch.optim.Adam([dense], lr=0.1)
    for ids in ([0, 1], None, [], [], None, [1], [2, 2], []):
        mine.zero_grad()
        theirs.zero_grad()
        if ids is not None:
            layer(torch.tensor(ids, dtype=torch.int64)).sum().backward()
            dense.grad = torch.zeros_like(dense)
            dense.grad.index_add_(0, torch.tensor(ids, dtype=torch.int64), torch.ones(len(ids), 2).double())
        mine.step()
        theirs.step()
    mine.flush()
    torch.testing.assert_close(layer.weight.detach().double(), dense.detach(), rtol=2e-6, atol=0)


def test_never_touched_rows_without_decay_stay_bit_for_bit():
    layer = catembed.Embedding(50, 3, sparse=True)
    before = layer.weight.detach().clone()
    optimizer = optim.Adam(layer.parameters(), lr=0.1, untouched="exact")
    for _ in range(20):
        optimizer.zero_grad()
        layer(torch.tensor([1, 2])).sum().backward()
        optimizer.step()
    optimizer.flush()
    rest = [row for row in range(50) if row not in (1, 2)]
    assert torch.equal(layer.weight[rest], before[rest])
    assert not torch.equal(layer.weight[1], before[1])


def test_accumulated_and_shared_lookups_equal_dense():
    torch.manual_seed(0)
    layer = catembed.Embedding(80, 4, sparse=True)
    twin = catembed.Embedding(80, 4, sparse=True)
    twin.weight = layer.weight  # a table that two features share
    dense = torch.nn.Parameter(layer.weight.detach().double())
    mine = optim.AdamW(layer.parameters(), lr=0.05, untouched="exact")
    theirs = torch.optim.AdamW([dense], lr=0.05)
    for _ in range(60):
        mine.zero_grad()
        theirs.zero_grad()
        for look in (layer, twin, layer):
            ids, goal = torch.randint(80, (3,)), torch.randn(3, 4)
            (look(ids) * goal).sum().backward()
            (dense[ids] * goal).sum().backward()
        mine.step()
        theirs.step()
    mine.flush()
    torch.testing.assert_close(layer.weight.detach().double(), dense.detach(), rtol=1e-5, atol=1e-6)


def test_whole_model_with_feedback_equals_dense():
    torch.manual_seed(1)

    def model(sparse, dtype):
        layers = [catembed.Embedding(200, 4, sparse=sparse), torch.nn.Linear(4, 1)]
        return torch.nn.Sequential(*layers).to(dtype)

    models = [model(True, torch.float32), model(False, torch.float32), model(False, torch.float64)]
    for other in models[1:]:
        other.load_state_dict(models[0].state_dict())
    optimizers = [optim.AdamW(models[0].parameters(), lr=3e-3, untouched="exact")]
    optimizers += [torch.optim.AdamW(each.parameters(), lr=3e-3) for each in models[1:]]
    for _ in range(300):
        ids, goal = torch.randint(200, (8,)), torch.randn(8, 1)
        for each, optimizer in zip(models, optimizers, strict=True):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(each(ids), goal.to(each[1].weight.dtype)).backward()
            optimizer.step()
    models[0].eval()
    ours, dense = ((each[0].weight.double() - models[2][0].weight).abs() for each in models[:2])
    assert_as_exact_as_dense(ours, dense)
