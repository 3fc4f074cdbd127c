"""Lazy rows step by step: as torch's sparse optimisers, and as torch's dense ones run on the touched rows alone."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import catembed
from catembed import optim

seeds = st.integers(0, 2**31 - 1)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 20))


def batches(rows, columns, seed, steps=6):
    """Ids with duplicates and the gradient of their lookup; now and then an empty batch."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        count = int(torch.randint(0, 12, (), generator=generator))
        ids = torch.randint(0, rows, (count,), generator=generator)
        yield ids, torch.randn(count, columns, generator=generator, dtype=torch.float64)


def pair(rows, columns, dtype=torch.float64):
    ours = catembed.Embedding(rows, columns, sparse=True, dtype=dtype)
    theirs = torch.nn.Embedding(rows, columns, sparse=True, _weight=ours.weight.detach().clone())
    return ours, theirs


def step(layer, optimizer, ids, grad):
    optimizer.zero_grad()
    layer(ids).backward(grad.to(layer.weight.dtype))
    optimizer.step()


@settings(max_examples=60, deadline=None)
@given(shapes, seeds, st.sampled_from([1e-3, 0.1]), st.booleans(), st.sampled_from([(0.9, 0.999), (0.0, 0.5)]))
def test_adam_is_sparse_adam(shape, seed, lr, maximize, betas):
    ours, theirs = pair(*shape)
    mine = optim.Adam([ours.weight], lr=lr, betas=betas, maximize=maximize, eps=1e-4)
    torchs = torch.optim.SparseAdam([theirs.weight], lr=lr, betas=betas, maximize=maximize, eps=1e-4)
    for ids, grad in batches(*shape, seed):
        step(ours, mine, ids, grad)
        step(theirs, torchs, ids, grad)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    for key in ("exp_avg", "exp_avg_sq"):
        expected = torchs.state[theirs.weight][key]
        torch.testing.assert_close(mine.state[ours.weight][key], expected, rtol=1e-12, atol=1e-12)
    assert mine.state[ours.weight]["step"] == torchs.state[theirs.weight]["step"]


@settings(max_examples=40, deadline=None)
@given(shapes, seeds, st.sampled_from([0.0, 0.3]), st.sampled_from([0.0, 0.5]), st.booleans())
def test_adagrad_is_torchs_sparse_adagrad(shape, seed, lr_decay, initial, maximize):
    ours, theirs = pair(*shape)
    kwargs = {"lr": 0.2, "lr_decay": lr_decay, "initial_accumulator_value": initial, "maximize": maximize}
    mine, torchs = optim.Adagrad([ours.weight], **kwargs), torch.optim.Adagrad([theirs.weight], **kwargs)
    for ids, grad in batches(*shape, seed):
        step(ours, mine, ids, grad)
        step(theirs, torchs, ids, grad)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mine.state[ours.weight]["sum"], torchs.state[theirs.weight]["sum"])
    assert mine.state[ours.weight]["step"] == torchs.state[theirs.weight]["step"]


@settings(max_examples=30, deadline=None)
@given(shapes, seeds, st.booleans())
def test_sgd_is_torchs_sparse_sgd(shape, seed, maximize):
    ours, theirs = pair(*shape)
    mine = optim.SGD([ours.weight], lr=0.3, maximize=maximize)
    torchs = torch.optim.SGD([theirs.weight], lr=0.3, maximize=maximize)
    for ids, grad in batches(*shape, seed):
        step(ours, mine, ids, grad)
        step(theirs, torchs, ids, grad)
        torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)


class OnTouchedRows:
    """What lazy means: torch's dense optimiser, given only the touched rows and their state, and the table's steps."""

    def __init__(self, make, weight):
        self.make, self.weight, self.state, self.steps = make, weight.detach().clone(), {}, 0

    def step(self, ids, grad):
        rows = ids.unique()
        part = torch.nn.Parameter(self.weight[rows])
        part.grad = torch.zeros_like(self.weight).index_add_(0, ids, grad)[rows]
        optimizer = self.make([part])
        if self.state:
            optimizer.state[part] = {key: value[rows] for key, value in self.state.items()}
            optimizer.state[part]["step"] = torch.tensor(float(self.steps))
        optimizer.step()
        self.steps += 1
        self.weight[rows] = part.detach()
        for key, value in optimizer.state[part].items():
            if key != "step":
                self.state.setdefault(key, torch.zeros_like(self.weight))[rows] = value


MASKED = {
    "sgd_decay": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "weight_decay": 0.2}),
    "sgd_momentum": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd_nesterov": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "nesterov": True, "maximize": True}),
    "sgd_dampening": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.8, "dampening": 0.3}),
    "adagrad_decay": (optim.Adagrad, torch.optim.Adagrad, {"lr": 0.1, "weight_decay": 0.3, "lr_decay": 0.1}),
    "adam_decay": (optim.Adam, torch.optim.Adam, {"lr": 0.1, "weight_decay": 0.3, "eps": 1e-14}),
    "adamw": (optim.AdamW, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.3, "eps": 1e-14}),
    "adam_decoupled": (
        optim.Adam,
        torch.optim.Adam,
        {"lr": 0.1, "weight_decay": 0.3, "decoupled_weight_decay": True, "eps": 1e-14},
    ),
}


@pytest.mark.parametrize("case", MASKED)
@pytest.mark.parametrize("seed", range(5))
def test_lazy_is_the_dense_rule_on_the_touched_rows(case, seed):
    make, torchs, kwargs = MASKED[case]
    layer = catembed.Embedding(15, 4, sparse=True, dtype=torch.float64)
    expected = OnTouchedRows(lambda params: torchs(params, **kwargs), layer.weight)
    optimizer = make([layer.weight], **kwargs)
    for ids, grad in batches(15, 4, seed, steps=12):
        step(layer, optimizer, ids, grad)
        expected.step(ids, grad)
        torch.testing.assert_close(layer.weight.detach(), expected.weight, rtol=1e-9, atol=1e-10)


def test_rowwise_adagrad_sums_the_mean_square_of_each_row():
    layer = catembed.Embedding(6, 4, sparse=True, dtype=torch.float64)
    optimizer = optim.RowwiseAdagrad([layer.weight], lr=0.5, lr_decay=0.25, weight_decay=0.1, eps=1e-3)
    weight, total = layer.weight.detach().clone(), torch.zeros(6, dtype=torch.float64)
    for count, (ids, grad) in enumerate(batches(6, 4, seed=3, steps=8)):
        step(layer, optimizer, ids, grad)
        dense = torch.zeros_like(weight).index_add_(0, ids, grad)
        rows = ids.unique()
        dense[rows] += 0.1 * weight[rows]
        total[rows] += dense[rows].square().mean(dim=1)
        weight[rows] -= 0.5 / (1 + 0.25 * count) * dense[rows] / (total[rows].sqrt() + 1e-3)[:, None]
        torch.testing.assert_close(layer.weight.detach(), weight, rtol=1e-12, atol=1e-12)
    assert optimizer.state[layer.weight]["sum"].shape == (6,)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adagrad, optim.RowwiseAdagrad, optim.Adam, optim.AdamW])
@pytest.mark.parametrize("shape", [(5,), (5, 1), (5, 2, 3)])
def test_rows_of_any_shape(make, shape):
    flat = torch.nn.Parameter(torch.randn(5, max(1, torch.Size(shape[1:]).numel())))
    param = torch.nn.Parameter(flat.detach().clone().view(shape))
    ids = torch.tensor([[1, 3, 1]])
    for _ in range(3):
        grad = torch.randn(3, flat.shape[1])
        flat.grad = torch.sparse_coo_tensor(ids, grad, flat.shape)
        param.grad = torch.sparse_coo_tensor(ids, grad.view(3, *shape[1:]), shape)
        for each, optimizer in ((flat, make([flat], lr=0.1)), (param, make([param], lr=0.1))):
            optimizer.step()
            assert all(v.shape[:1] == each.shape[:1] for v in optimizer.state[each].values() if v.dim())
    assert torch.equal(param.view_as(flat), flat)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adagrad, optim.RowwiseAdagrad, optim.Adam, optim.AdamW])
def test_float32_stays_near_float64(make):
    narrow = catembed.Embedding(20, 8, sparse=True)
    wide = copy.deepcopy(narrow).double()
    kwargs = {"momentum": 0.9} if make is optim.SGD else {}
    optimizers = make([narrow.weight], lr=0.05, **kwargs), make([wide.weight], lr=0.05, **kwargs)
    for ids, grad in batches(20, 8, seed=5, steps=40):
        step(narrow, optimizers[0], ids, grad)
        step(wide, optimizers[1], ids, grad)
    # 40 steps of at most lr (times 10 with momentum), each with a few roundings of 6e-8.
    torch.testing.assert_close(narrow.weight.double(), wide.weight, rtol=1e-5, atol=5e-6)
