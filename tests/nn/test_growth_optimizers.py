"""`append_rows` while an optimiser trains the table: its state follows, its copies too."""

import copy
import pickle

import pytest
import torch

import catembed
from catembed import optim
from catembed.nn.growth import append_rows

both = pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "initial_accumulator_value": 0.1}),
    "rowwise": (optim.RowwiseAdagrad, {"lr": 0.1, "initial_accumulator_value": 0.1}),
    "adam": (optim.Adam, {"lr": 0.1}),
    "adam_fused": (optim.Adam, {"lr": 0.1, "fused": True}),
    "adamw": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    "adam_exact": (optim.Adam, {"lr": 0.1, "untouched": "exact"}),
    "momentum_exact": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "untouched": "exact"}),
}
each_optimizer = pytest.mark.parametrize("case", OPTIMIZERS)


def table(rows=4, columns=3, **kwargs):
    torch.manual_seed(0)
    return catembed.Embedding(rows, columns, name="fruit", **kwargs)


def rows_like(layer, count, value=1.0):
    return torch.full((count, *layer.weight.shape[1:]), value, dtype=layer.weight.dtype)


@both
@each_optimizer
def test_the_state_of_new_rows_is_that_of_rows_never_touched(case, sparse):
    """Beside a table that had all rows from the start, and touched the late ones late."""
    make, kwargs = OPTIMIZERS[case]
    if case == "momentum_exact":
        kwargs = {**kwargs, "weight_decay": 0.0}  # from which dense SGD has momentum also in rows never touched
    fresh = torch.randn(2, 3, dtype=torch.float64)
    layer = table(6, sparse=sparse, dtype=torch.float64)
    twin = catembed.Embedding(8, 3, sparse=sparse, _weight=torch.cat([layer.weight.detach(), fresh]))
    optimizer, other = make(layer.parameters(), **kwargs), make(twin.parameters(), **kwargs)

    def step(ids):
        for each, each_optimizer in ((layer, optimizer), (twin, other)):
            each_optimizer.zero_grad()
            each(ids).square().sum().backward()
            each_optimizer.step()

    for row in (0, 3, 1):
        step(torch.tensor([row, 2]))
    other.flush()
    append_rows(layer, twin.weight.detach()[6:])  # decayed, where that optimiser decays rows it does not touch
    for ids in ([6, 0], [7, 6], [1, 2]):
        step(torch.tensor(ids))
    optimizer.flush()
    other.flush()
    torch.testing.assert_close(layer.weight, twin.weight, rtol=1e-12, atol=1e-12)
    for key, value in optimizer.state[layer.weight].items():
        torch.testing.assert_close(value, other.state[twin.weight][key], rtol=1e-12, atol=1e-12)


@each_optimizer
def test_copies_of_optimizer_and_state_after_growth(case):
    """Whether the state has followed already or not."""
    make, kwargs = OPTIMIZERS[case]
    layer = table(6, sparse=True)
    optimizer = make(layer.parameters(), **kwargs)

    def step(pair, ids):
        each, each_optimizer = pair
        each_optimizer.zero_grad()
        each(torch.tensor(ids)).square().sum().backward()
        each_optimizer.step()

    step((layer, optimizer), [0, 1])
    for _ in range(2):
        append_rows(layer, rows_like(layer, 2))
        pairs = [copy.deepcopy((layer, optimizer)), pickle.loads(pickle.dumps((layer, optimizer)))]
        twin = copy.deepcopy(layer)
        fresh = make(twin.parameters(), **kwargs)
        fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # torch's loading shares tensors
        pairs += [(twin, fresh), (layer, optimizer)]
        for ids in ([len(layer.weight) - 1, 0], [1, 2]):
            for pair in pairs:
                step(pair, ids)
        optimizer.flush()
        for each, each_optimizer in pairs:
            each_optimizer.flush()
            assert torch.equal(each.weight, layer.weight)


def test_a_gradient_from_before_and_a_step_after():
    layer = table(sparse=True)
    optimizer = optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.tensor([0])).sum().backward()
    append_rows(layer, rows_like(layer, 1))
    layer(torch.tensor([4])).sum().backward()
    before = layer.weight.detach().clone()
    optimizer.step()
    assert (before - layer.weight)[:, 0].tolist() == [1, 0, 0, 0, 1]


def test_rows_that_lag_are_settled_whatever_came_since():
    """A row behind by some steps when the table grows catches up at eval(), the state not having followed yet."""
    for case in ("adam_exact", "momentum_exact"):
        make, kwargs = OPTIMIZERS[case]
        layer = table(6, sparse=True)
        twin = copy.deepcopy(layer)
        pairs = [(each, make(each.parameters(), **kwargs)) for each in (layer, twin)]
        for each, optimizer in pairs:
            for ids in ([0, 1], [2], [2]):
                optimizer.zero_grad()
                each(torch.tensor(ids)).square().sum().backward()
                optimizer.step()
        append_rows(layer, rows_like(layer, 3))
        assert (optim.exact.settler_of(layer.weight).last[:2] != 3).all()
        layer.eval()
        twin.eval()
        assert torch.equal(layer.weight[:6], twin.weight)
        assert layer.weight[6:].eq(1).all()


@pytest.mark.parametrize("make", [torch.optim.SparseAdam, torch.optim.Adagrad])
def test_torchs_optimizers_with_state_raise_and_change_nothing(make):
    layer = table(sparse=True)
    optimizer = make(layer.parameters())
    layer(torch.tensor([0])).sum().backward()
    optimizer.step()
    append_rows(layer, rows_like(layer, 1))
    before = layer.weight.detach().clone()
    with pytest.raises(RuntimeError, match="siz"):
        optimizer.step()
    assert torch.equal(layer.weight, before)


def test_torchs_sgd_goes_on():
    layer = table(sparse=True)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    append_rows(layer, rows_like(layer, 1))
    layer(torch.tensor([4])).sum().backward()
    optimizer.step()
    assert layer.weight[4].eq(0).all()
