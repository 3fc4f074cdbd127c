"""State: its interchange with torch's optimisers, copies, 16-bit forms, and the memory it takes."""

import copy
import io
import pickle
from pathlib import Path

import pytest
import torch

import catembed
from catembed import optim

PAIRS = {
    "sgd": (optim.SGD, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "adagrad": (optim.Adagrad, torch.optim.Adagrad, {"lr": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.1}),
    "adam": (optim.Adam, torch.optim.Adam, {"lr": 0.1, "eps": 1e-12}),
    "adam_fused": (optim.Adam, torch.optim.Adam, {"lr": 0.1, "eps": 1e-12, "fused": True}),
    "adamw": (optim.AdamW, torch.optim.AdamW, {"lr": 0.1, "weight_decay": 0.1, "eps": 1e-12}),
}
ALL = {name: (make, kwargs) for name, (make, _, kwargs) in PAIRS.items()} | {
    "rowwise": (optim.RowwiseAdagrad, {"lr": 0.1}),
    "bfloat16": (optim.Adam, {"lr": 0.1, "state_dtype": torch.bfloat16}),
    "exact": (optim.Adam, {"lr": 0.1, "untouched": "exact"}),
}


def train(layer, optimizer, seed, steps=4):
    """Every row is touched at each step: there dense, lazy and exact agree."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        ids = torch.cat([torch.arange(6), torch.randint(0, 6, (3,), generator=generator)])
        optimizer.zero_grad()
        layer(ids).square().sum().backward()
        optimizer.step()


def loaded(state_dict):
    """Through a file, read without pickle."""
    file = io.BytesIO()
    torch.save(state_dict, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("untouched", ["lazy", "exact"])
@pytest.mark.parametrize("case", PAIRS)
def test_state_goes_to_torch_and_comes_back(case, untouched):
    """Ours, then torch's dense optimiser, then ours again: as torch's all the way."""
    make, torchs, kwargs = PAIRS[case]
    layer = catembed.Embedding(6, 3, sparse=True, dtype=torch.float64)
    twin = torch.nn.Embedding(6, 3, _weight=layer.weight.detach().clone())
    mine, theirs = make(layer.parameters(), untouched=untouched, **kwargs), torchs(twin.parameters(), **kwargs)
    train(layer, mine, 0)
    train(twin, theirs, 0)

    between = torchs(layer.parameters(), lr=123)
    between.load_state_dict(loaded(mine.state_dict()))
    del mine
    layer.sparse = False
    train(layer, between, 1)
    train(twin, theirs, 1)

    again = make(layer.parameters(), untouched=untouched, lr=123)
    again.load_state_dict(loaded(between.state_dict()))
    layer.sparse = True
    train(layer, again, 2)
    train(twin, theirs, 2)
    # Lazy rows have eps (1e-12) where SparseAdam has it: felt where a gradient is as small.
    torch.testing.assert_close(layer.weight, twin.weight, rtol=1e-6, atol=1e-8)
    assert again.param_groups[0]["lr"] == 0.1


def test_state_goes_to_sparse_adam_and_comes_back():
    layer = catembed.Embedding(6, 3, sparse=True, dtype=torch.float64)
    twin = torch.nn.Embedding(6, 3, sparse=True, _weight=layer.weight.detach().clone())
    mine, theirs = optim.Adam(layer.parameters(), lr=0.1), torch.optim.SparseAdam(twin.parameters(), lr=0.1)
    train(layer, mine, 0)
    train(twin, theirs, 0)
    between = torch.optim.SparseAdam(layer.parameters())
    between.load_state_dict(loaded(mine.state_dict()))
    train(layer, between, 1)
    train(twin, theirs, 1)
    again = optim.AdamW(layer.parameters(), weight_decay=0.0)
    again.load_state_dict(loaded(between.state_dict()))
    train(layer, again, 2)
    train(twin, theirs, 2)
    # SparseAdam takes powers of the betas in float32 once its step is a tensor, as it is in Adam's state.
    torch.testing.assert_close(layer.weight, twin.weight, rtol=2e-3, atol=1e-5)
    assert again.param_groups[0]["weight_decay"] == 0.0


def test_torchs_sparse_momentum_is_taken_over():
    layer = torch.nn.Embedding(6, 3, sparse=True)
    theirs = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.5)
    train(layer, theirs, 0, steps=1)
    buffer = theirs.state[layer.weight]["momentum_buffer"].to_dense()
    mine = optim.SGD(layer.parameters())
    mine.load_state_dict(theirs.state_dict())
    layer.weight.grad = torch.sparse_coo_tensor([[2]], torch.ones(1, 3), (6, 3))
    mine.step()
    torch.testing.assert_close(mine.state[layer.weight]["momentum_buffer"][2], 0.5 * buffer[2] + 1)


def copies(layer, optimizer):
    """The pair, copied in every way there is."""
    yield copy.deepcopy((layer, optimizer))
    yield pickle.loads(pickle.dumps((layer, optimizer)))
    twin = copy.deepcopy(layer)
    fresh = type(optimizer)(twin.parameters(), **{k: optimizer.defaults[k] for k in ("lr", "untouched")})
    fresh.load_state_dict(loaded(optimizer.state_dict()))
    for group in fresh.param_groups:
        group["state_dtype"] = optimizer.defaults.get("state_dtype")
    yield twin, fresh


@pytest.mark.parametrize("case", ALL)
def test_copies_go_on_as_the_original_does(case):
    make, kwargs = ALL[case]
    layer = catembed.Embedding(6, 3, sparse=True)
    optimizer = make(layer.parameters(), **kwargs)
    train(layer, optimizer, 0)
    pairs = list(copies(layer, optimizer))
    train(layer, optimizer, 1)
    for twin, copied in pairs:
        train(twin, copied, 1)
        # bfloat16 moments of a loaded state pass float32 unharmed.
        assert torch.equal(twin.weight, layer.weight)


def test_lazy_and_exact_switch_at_load():
    layer = catembed.Embedding(6, 3, sparse=True)
    lazy, exact = optim.Adam(layer.parameters()), optim.Adam(layer.parameters(), untouched="exact")
    train(layer, lazy, 0)
    exact.load_state_dict(lazy.state_dict())
    assert exact.param_groups[0]["untouched"] == "exact"
    train(layer, exact, 1)
    assert exact.state[layer.weight]["step"] == 8


def test_a_group_for_each_setting():
    one, two = catembed.Embedding(4, 2, sparse=True), catembed.Embedding(4, 2, sparse=True)
    optimizer = optim.SGD([{"params": one.parameters(), "lr": torch.tensor(0.5)}, {"params": two.parameters()}], lr=2.0)
    before = [one.weight.detach().clone(), two.weight.detach().clone()]
    (one(torch.tensor([1])).sum() + two(torch.tensor([1])).sum()).backward()
    optimizer.step()
    torch.testing.assert_close(before[0][1] - one.weight[1], torch.full((2,), 0.5))
    torch.testing.assert_close(before[1][1] - two.weight[1], torch.full((2,), 2.0))


# 16 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", ["sgd", "adagrad", "adam", "rowwise", "exact"])
def test_state_of_16_bit_weights_is_float32_and_stays_so_when_loaded(case, dtype):
    make, kwargs = ALL[case]
    layer = catembed.Embedding(6, 3, sparse=True, dtype=dtype)
    optimizer = make(layer.parameters(), **kwargs)
    train(layer, optimizer, 0)
    twin = copy.deepcopy(layer)
    fresh = make(twin.parameters(), **kwargs)
    fresh.load_state_dict(loaded(optimizer.state_dict()))
    train(layer, optimizer, 1)
    train(twin, fresh, 1)
    assert torch.equal(twin.weight, layer.weight)
    tensors = [v for v in optimizer.state[layer.weight].values() if v.dim() and v.is_floating_point()]
    assert tensors
    assert all(value.dtype == torch.float32 for value in tensors)


def test_bfloat16_moments_take_half_the_memory_and_train():
    layer = catembed.Embedding(50, 8, sparse=True)
    twin = copy.deepcopy(layer)
    half = optim.Adam(layer.parameters(), lr=0.05, state_dtype=torch.bfloat16)
    full = optim.Adam(twin.parameters(), lr=0.05)
    for each, optimizer in ((layer, half), (twin, full)):
        for _ in range(100):
            optimizer.zero_grad()
            each(torch.arange(50)).square().sum().backward()
            optimizer.step()
    state = half.state[layer.weight]
    assert state["exp_avg"].dtype == state["exp_avg_sq"].dtype == torch.bfloat16
    assert state["exp_avg"].untyped_storage().nbytes() == 2 * 50 * 8 * 2
    # 8 bits of mantissa, rounded without bias: each step errs by less than a percent of lr in the mean.
    assert (layer.weight - twin.weight).abs().mean() < 0.01


def test_stochastic_rounding_lets_small_changes_count():
    """Steps of a thousandth of the gap between bfloat16 numbers: lost when rounded to nearest, kept on average."""
    moved = {}
    for stochastic in (False, True):
        layer = catembed.Embedding(64, 64, sparse=True, _weight=torch.ones(64, 64, dtype=torch.bfloat16))
        optimizer = optim.SGD(layer.parameters(), lr=2.0**-8 / 100, stochastic_rounding=stochastic)
        for _ in range(100):
            optimizer.zero_grad()
            layer(torch.arange(64)).sum().backward()
            optimizer.step()
        moved[stochastic] = 1 - layer.weight.float().mean().item()
    assert moved[False] == 0
    # 4,096 walks of 100 draws with probability 1/100: the mean's standard deviation is 1.6 %.
    assert moved[True] == pytest.approx(2.0**-8, rel=0.08)


def test_stochastic_rounding_repeats_itself_after_loading():
    layer = catembed.Embedding(6, 3, sparse=True, dtype=torch.bfloat16)
    optimizer = optim.SGD(layer.parameters(), lr=0.01, stochastic_rounding=True)
    train(layer, optimizer, 0)
    twin = copy.deepcopy(layer)
    fresh = optim.SGD(twin.parameters(), stochastic_rounding=True)
    fresh.load_state_dict(loaded(optimizer.state_dict()))
    train(layer, optimizer, 1)
    train(twin, fresh, 1)
    assert torch.equal(layer.weight, twin.weight)


# Memory


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("make", [optim.SGD, optim.Adagrad, optim.RowwiseAdagrad, optim.Adam])
@pytest.mark.parametrize("untouched", ["lazy", "exact"])
def test_state_of_a_huge_table_costs_the_pages_of_its_touched_rows(make, untouched):
    """64 GB of rows, of which a few are touched; more than 2^31 elements, and an id beyond that."""
    rows = 1 << 28
    weight = torch.nn.Parameter(catembed.storage.zeros((rows, 64), torch.float32))
    kwargs = {"momentum": 0.9} if make is optim.SGD else {}
    optimizer = make([weight], lr=0.1, untouched=untouched, **kwargs)
    before = resident()
    for _ in range(2):
        optimizer.zero_grad()
        torch.nn.functional.embedding(torch.tensor([5, rows - 2]), weight, sparse=True).sum().backward()
        optimizer.step()
    assert (weight[[5, rows - 2]] != 0).all()
    assert not weight[[6, rows - 1]].any()
    assert resident() - before < 64e6


@pytest.mark.parametrize("untouched", ["lazy", "exact"])
def test_bfloat16_second_moment_is_right_on_average_after_many_steps(untouched):
    torch.manual_seed(0)
    layer = catembed.Embedding(2, 64, sparse=True, _weight=torch.zeros(2, 64))
    optimizer = optim.Adam(layer.parameters(), state_dtype=torch.bfloat16, untouched=untouched)
    for _ in range(3000):
        optimizer.zero_grad()
        layer(torch.tensor([1])).backward(torch.randn(1, 64))
        optimizer.step()
    second = optimizer.state[layer.weight]["exp_avg_sq"][1].float()
    # E[v] = 1 - 0.999^3000 = 0.95; a standard deviation of 0.03 by the gradients, and as much by the rounding.
    assert 0.9 < second.mean() < 1.0
    assert second.std() < 0.1


def test_tables_round_independently():
    layers = [catembed.Embedding(8, 64, sparse=True, _weight=torch.ones(8, 64, dtype=torch.bfloat16)) for _ in "ab"]
    optimizer = optim.SGD([layer.weight for layer in layers], lr=2.0**-10, stochastic_rounding=True)
    for layer in layers:
        layer(torch.arange(8)).sum().backward()
    optimizer.step()
    assert (layers[0].weight != 1).any()
    assert not torch.equal(layers[0].weight, layers[1].weight)


def test_row_wise_state_starts_from_the_mean_of_a_dense_one():
    layer = catembed.Embedding(3, 4)
    optimizer = optim.RowwiseAdagrad(layer.parameters(), lr=0.1)
    (layer.weight * torch.arange(4.0)).sum().backward()
    optimizer.step()
    assert optimizer.state[layer.weight]["sum"].shape == (3, 4)
    layer.sparse = True
    optimizer.zero_grad()
    (2 * layer(torch.tensor([1]))).sum().backward()
    optimizer.step()
    mean = (0 + 1 + 4 + 9) / 4
    torch.testing.assert_close(optimizer.state[layer.weight]["sum"], torch.tensor([mean, mean + 4, mean]))
