"""Frozen rows and padding: bit for bit what they were, whatever the optimiser, the gradient and the settings."""

import copy
import io
import pickle

import pytest
import torch

import catembed
from catembed import optim

EVERY = {
    "sgd": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}),
    "sgd_exact": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1, "untouched": "exact"}),
    "adagrad": (optim.Adagrad, {"lr": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}),
    "rowwise": (optim.RowwiseAdagrad, {"lr": 0.1, "weight_decay": 0.1}),
    "adam": (optim.Adam, {"lr": 0.1, "weight_decay": 0.1}),
    "adamw": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1}),
    "adamw_exact": (optim.AdamW, {"lr": 0.1, "weight_decay": 0.1, "untouched": "exact"}),
}


def train(layer, optimizer, steps=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        ids = torch.randint(0, layer.num_embeddings, (30,), generator=generator)
        optimizer.zero_grad()
        layer(ids).square().sum().backward()
        optimizer.step()
    if hasattr(optimizer, "flush"):
        optimizer.flush()


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("case", EVERY)
def test_frozen_rows_and_padding_never_move(case, sparse):
    make, kwargs = EVERY[case]
    layer = catembed.Embedding(10, 3, padding_idx=4, sparse=sparse)
    torch.nn.init.normal_(layer.weight)  # a padding row that is not zero, so decay would show
    optimizer = make(layer.parameters(), **kwargs)
    train(layer, optimizer)  # momentum has built up when the rows are frozen
    layer.freeze_rows([0, 7])
    weight = layer.weight.detach().clone()
    state = {k: v.clone() for k, v in optimizer.state[layer.weight].items() if isinstance(v, torch.Tensor)}
    train(layer, optimizer, seed=1)
    moved = (layer.weight != weight).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 2, 3, 5, 6, 8, 9]
    for key, before in state.items():
        if before.dim():
            assert torch.equal(optimizer.state[layer.weight][key][[0, 7]], before[[0, 7]]), key
    layer.thaw_rows([7])
    train(layer, optimizer, seed=2)
    moved = (layer.weight != weight).any(dim=1)
    assert moved.nonzero().flatten().tolist() == [1, 2, 3, 5, 6, 7, 8, 9]


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("case", EVERY)
def test_rows_frozen_from_the_start_have_no_history(case, sparse):
    make, kwargs = EVERY[case]
    layer = catembed.Embedding(6, 3, sparse=sparse)
    layer.freeze_rows(torch.tensor([True, False, False, False, False, True]))
    before = layer.weight.detach().clone()
    optimizer = make(layer.parameters(), **kwargs)
    train(layer, optimizer, steps=1)
    assert torch.equal(layer.weight[[0, 5]], before[[0, 5]])
    fresh = kwargs.get("initial_accumulator_value", 0)
    for value in optimizer.state[layer.weight].values():
        if isinstance(value, torch.Tensor) and value.dim():
            assert (value[[0, 5]] == fresh).all()


def test_rows_of_a_tied_weight_stay_frozen_under_a_dense_gradient():
    layer = catembed.Embedding(6, 3, sparse=True)
    optimizer = optim.AdamW(layer.parameters(), lr=0.1)
    train(layer, optimizer)
    layer.freeze_rows(2)
    before = layer.weight.detach().clone()
    optimizer.zero_grad()
    (layer(torch.tensor([1, 2])).sum() + layer.weight.square().sum()).backward()
    assert not layer.weight.grad.is_sparse
    optimizer.step()
    assert (layer.weight != before).any(dim=1).tolist() == [True, True, False, True, True, True]


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer)), lambda layer: saved(layer)],
    ids=["deepcopy", "pickle", "torch.save"],
)
def test_frozen_rows_travel_with_the_layer_and_not_with_its_state(copied):
    layer = catembed.EmbeddingBag(6, 3, mode="sum", sparse=True)
    layer.freeze_rows([1])
    assert list(layer.state_dict()) == ["weight"]
    twin = copied(layer)
    before = twin.weight.detach().clone()
    optimizer = optim.SGD(twin.parameters(), lr=0.1)
    twin(torch.tensor([[0, 1, 2]])).sum().backward()
    optimizer.step()
    assert (twin.weight != before).any(dim=1).tolist() == [True, False, True, False, False, False]


def saved(layer):
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_convert_keeps_frozen_rows_and_names_the_table():
    model = catembed.convert(torch.nn.Sequential(torch.nn.Embedding(4, 2)))
    model[0].freeze_rows([3])
    catembed.convert(model, sparse=True)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    before = model[0].weight.detach().clone()
    model(torch.tensor([2, 3])).sum().backward()
    optimizer.step()
    assert (model[0].weight != before).any(dim=1).tolist() == [False, False, True, False]


def test_layers_that_share_a_weight_freeze_and_thaw_for_each_other():
    one, two = catembed.Embedding(4, 2, sparse=True), catembed.Embedding(4, 2, sparse=True, padding_idx=0)
    two.weight = one.weight
    one.freeze_rows([1])
    two.freeze_rows([2])
    optimizer = optim.SGD(one.parameters(), lr=0.1)
    before = one.weight.detach().clone()

    def moved():
        optimizer.zero_grad()
        one(torch.arange(4)).sum().backward()
        optimizer.step()
        return (one.weight != before).any(dim=1).tolist()

    assert moved() == [False, False, False, True]
    one.thaw_rows()
    assert moved() == [False, True, True, True]
    two.padding_idx = None
    assert moved() == [True, True, True, True]


def test_rows_that_are_no_rows_are_refused():
    layer = catembed.Embedding(4, 2, name="fruit")
    with pytest.raises(catembed.OutOfRangeError, match=r"fruit.*got 4 at \[1\]"):
        layer.freeze_rows([0, 4])
    with pytest.raises(catembed.OutOfRangeError, match="got -1"):
        layer.thaw_rows(torch.tensor([-1]))
    with pytest.raises(ValueError, match=r"shape \(4,\).*got \(3,\)"):
        layer.freeze_rows(torch.tensor([True, False, True]))
    with pytest.raises(RuntimeError, match="integers"):
        layer.freeze_rows([0.5])
    assert layer.frozen_rows is None
    layer.freeze_rows([])
    layer.thaw_rows([1])
    assert layer.frozen_rows is None or not layer.frozen_rows.any()
