"""Tables among the parameters: replaced weights, growth, tied weights, warnings, refusals."""

import copy
import warnings

import pytest
import torch

import catembed
from catembed import optim

ALL = [optim.SGD, optim.Adagrad, optim.RowwiseAdagrad, optim.Adam, optim.AdamW]


def step(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


# A replaced Parameter


@pytest.mark.parametrize("make", ALL)
def test_a_replaced_weight_is_noticed_and_named(make):
    layer = catembed.Embedding(4, 2, sparse=True, name="fruit")
    dense = torch.nn.Linear(2, 1)
    optimizer = make([*layer.parameters(), *dense.parameters()], lr=0.1)
    step(optimizer, dense(layer(torch.tensor([1]))).sum())
    layer.weight = torch.nn.Parameter(torch.zeros(5, 2))
    bias = dense.bias.detach().clone()
    for _ in range(2):  # and not only once
        with pytest.raises(RuntimeError, match=r"table 'fruit' is no longer the Parameter that this " + make.__name__):
            step(optimizer, dense(layer(torch.tensor([1]))).sum())
    assert torch.equal(dense.bias, bias)
    optimizer.add_param_group({"params": [layer.weight]})
    step(optimizer, dense(layer(torch.tensor([1]))).sum())
    assert layer.weight[1].any()


def test_a_weight_tied_after_the_optimizer_was_made_is_no_replacement():
    one, two = catembed.Embedding(4, 2, sparse=True), catembed.Embedding(4, 2, sparse=True)
    optimizer = optim.Adam([*one.parameters(), *two.parameters()])
    two.weight = one.weight
    step(optimizer, one(torch.tensor([1])).sum() + two(torch.tensor([2])).sum())
    assert one.weight.grad._nnz() == 2


def test_a_weight_replaced_by_one_that_is_not_trained_is_no_mistake():
    layer = catembed.Embedding(4, 2, sparse=True)
    dense = torch.nn.Linear(2, 1)
    optimizer = optim.Adam([*layer.parameters(), *dense.parameters()])
    layer.weight = torch.nn.Parameter(torch.zeros(4, 2), requires_grad=False)
    step(optimizer, dense(layer(torch.tensor([1]))).sum())


def test_a_layer_that_is_gone_is_not_asked():
    layer = catembed.Embedding(4, 2, sparse=True)
    weight = layer.weight
    optimizer = optim.Adam([weight])
    del layer
    weight.grad = torch.ones(4, 2)
    optimizer.step()


# Growth


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("sparse", [True, False])
def test_state_follows_a_weight_that_grew_in_place(make, sparse):
    kwargs = {"lr": 0.1}
    if issubclass(make, optim.Adagrad):
        kwargs["initial_accumulator_value"] = 0.25
    if make is optim.SGD:
        kwargs["momentum"] = 0.9
    small, large = catembed.Embedding(4, 2, sparse=sparse), catembed.Embedding(6, 2, sparse=sparse)
    with torch.no_grad():
        large.weight[:4] = small.weight
    optimizers = make(small.parameters(), **kwargs), make(large.parameters(), **kwargs)
    for layer, optimizer in zip((small, large), optimizers, strict=True):
        step(optimizer, layer(torch.tensor([0, 3])).square().sum())
    parameter = small.weight
    small.weight.data = torch.cat([small.weight.data, large.weight.data[4:]])
    small.num_embeddings = 6
    for layer, optimizer in zip((small, large), optimizers, strict=True):
        optimizer.zero_grad()
        layer(torch.tensor([0, 5, 5])).square().sum().backward()
        optimizer.step()
    assert small.weight is parameter
    torch.testing.assert_close(small.weight, large.weight)
    for key, value in optimizers[0].state[small.weight].items():
        torch.testing.assert_close(value, optimizers[1].state[large.weight][key])


# A tied output layer


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("untouched", ["lazy", "exact"])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adagrad, optim.Adam, optim.AdamW])
def test_a_tied_weight_is_right(make, untouched, fused):
    """Row gradients in some steps, dense ones in others, both at once in others; each row touched, so lazy is dense."""
    kwargs = {"lr": 0.05, "fused": fused} | ({"momentum": 0.9} if make is optim.SGD else {})
    if make in (optim.Adam, optim.AdamW):
        kwargs["eps"] = 1e-12  # where SparseAdam puts eps is then of no account
    layer = catembed.Embedding(6, 3, sparse=True, dtype=torch.float64)
    twin = torch.nn.Embedding(6, 3, _weight=layer.weight.detach().clone())
    mine = make(layer.parameters(), untouched=untouched, **kwargs)
    torchs = getattr(torch.optim, make.__name__)(twin.parameters(), **kwargs)
    torch.manual_seed(0)
    for kind in ("dense", "rows", "both", "rows", "dense", "dense", "rows", "both"):
        ids, target = torch.randperm(6), torch.randn(6, 3, dtype=torch.float64)
        for each, optimizer in ((layer, mine), (twin, torchs)):
            loss = torch.zeros((), dtype=torch.float64)
            if kind in ("rows", "both"):
                loss = loss + (each(ids) - target).square().sum()
            if kind in ("dense", "both"):
                if each is layer:
                    mine.flush()
                loss = loss + (target @ each.weight.T).square().sum()
            optimizer.zero_grad()
            loss.backward()
            assert each is twin or each.weight.grad.is_sparse == (kind == "rows")
            optimizer.step()
        torch.testing.assert_close(layer.weight, twin.weight, rtol=1e-9, atol=1e-10)


# Words to the user


def test_a_large_table_with_a_dense_gradient_is_told_once():
    layer = catembed.Embedding(100_000, 2, name="users")
    other = catembed.Embedding(99_999, 2)
    optimizer = optim.SGD([*layer.parameters(), *other.parameters()], lr=0.1)
    with pytest.warns(UserWarning, match=r"table 'users' \(100,000 rows\).*sparse=True") as told:
        step(optimizer, layer(torch.tensor([1])).sum() + other(torch.tensor([1])).sum())
    assert len(told) == 1
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step(optimizer, layer(torch.tensor([1])).sum())
        step(optim.SGD(layer.parameters()), layer(torch.tensor([1])).sum())


@pytest.mark.parametrize(
    ("make", "kwargs"),
    [
        (optim.Adam, {"amsgrad": True}),
        (optim.AdamW, {"capturable": True}),
        (optim.SGD, {"differentiable": True}),
    ],
)
def test_settings_that_rows_cannot_have_are_refused(make, kwargs):
    option = next(iter(kwargs))
    ours = catembed.Embedding(4, 2, sparse=True, name="fruit")
    with pytest.raises(ValueError, match=f"{make.__name__} with {option}=True.*table 'fruit'"):
        make(ours.parameters(), **kwargs)
    optimizer = make([torch.zeros(1, requires_grad=True)])
    with pytest.raises(ValueError, match=option):
        optimizer.add_param_group({"params": [ours.weight], **kwargs})
    assert len(optimizer.param_groups) == 1
    torchs = torch.nn.Embedding(4, 2, sparse=True)  # not known before its gradient is seen
    optimizer = make(torchs.parameters(), **kwargs)
    torchs(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match=f"{option}=True"):
        optimizer.step()
    make(catembed.Embedding(4, 2).parameters(), **kwargs)


@pytest.mark.parametrize("make", [optim.Adam, optim.Adagrad, optim.RowwiseAdagrad])
def test_exact_with_coupled_decay_is_refused(make):
    weight = torch.zeros(4, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"weight_decay=0.1 .*AdamW"):
        make([weight], weight_decay=0.1, untouched="exact")
    with pytest.raises(ValueError, match="weight_decay"):
        make([{"params": [weight], "weight_decay": 0.1}], untouched="exact")
    optim.AdamW([weight], weight_decay=0.1, untouched="exact")
    optim.Adam([weight], weight_decay=0.1, untouched="exact", decoupled_weight_decay=True)


def test_options_are_checked():
    weight = torch.zeros(4, 2, requires_grad=True)
    with pytest.raises(ValueError, match=r"'lazy', 'exact'.*got 'eager'"):
        optim.SGD([weight], untouched="eager")
    with pytest.raises(ValueError, match=r"bfloat16.*got torch.float16"):
        optim.Adam([weight], state_dtype=torch.float16)


def test_gradients_that_are_no_rows_of_the_table_change_nothing():
    layer, dense = catembed.Embedding(4, 2, sparse=True, name="fruit"), torch.nn.Linear(2, 1)
    optimizer = optim.Adam([*layer.parameters(), *dense.parameters()])
    dense(layer(torch.tensor([1]))).sum().backward()
    before = [param.detach().clone() for param in (layer.weight, dense.weight)]
    good = layer.weight.grad
    layer.weight.grad = torch.sparse_coo_tensor([[4]], torch.ones(1, 2), (4, 2), check_invariants=False)
    with pytest.raises(catembed.OutOfRangeError, match=r"id 4 .*table 'fruit'"):
        optimizer.step()
    layer.weight.grad = torch.sparse_coo_tensor([[1], [1]], torch.ones(1), (4, 2))
    with pytest.raises(RuntimeError, match="one sparse dimension"):
        optimizer.step()
    assert torch.equal(layer.weight, before[0])
    assert torch.equal(dense.weight, before[1])
    layer.weight.grad = good
    optimizer.step()
    assert not torch.equal(layer.weight, before[0])


def test_an_exact_table_leaves_the_graphs_of_others_whole():
    exact = catembed.Embedding(5, 2, sparse=True)
    optimizer = optim.Adam(exact.parameters(), untouched="exact")
    step(optimizer, exact(torch.tensor([1])).sum())
    layer = catembed.Embedding(5, 2, sparse=True)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(torch.tensor([3])), layer(torch.tensor([3])))
    assert exact.kept_exact
    assert "kept_exact" not in vars(layer)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("copied", [False, True])
def test_a_dense_gradient_after_row_gradients_is_a_step_of_dense_adam(fused, copied):
    """With an eps that shows: SparseAdam has it elsewhere. Also after a copy, which knows the state by its layout."""
    layer = catembed.Embedding(6, 3, sparse=True, dtype=torch.float64)
    optimizer = optim.Adam(layer.parameters(), lr=0.1, eps=0.1, fused=fused)
    step(optimizer, layer(torch.tensor([1, 4])).square().sum())
    if copied:
        layer, optimizer = copy.deepcopy((layer, optimizer))
    twin = torch.nn.Parameter(layer.weight.detach().clone())
    torchs = torch.optim.Adam([twin], lr=0.1, eps=0.1, fused=fused)
    torchs.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(optimizer, layer.weight.square().sum())
    step(torchs, twin.square().sum())
    torch.testing.assert_close(layer.weight, twin, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", ALL)
def test_gradient_rows_may_have_gaps_between_their_entries(make):
    values = torch.randn(3, 4)
    weights = [torch.nn.Parameter(torch.ones(5, 3)) for _ in "ab"]
    for weight, given in zip(weights, (values.t(), values.t().contiguous()), strict=True):
        weight.grad = torch.sparse_coo_tensor([[0, 4, 2, 4]], given, (5, 3))
        make([weight], lr=0.1).step()
    assert not weights[0].grad._values().is_contiguous()
    assert torch.equal(*weights)


@pytest.mark.parametrize("make", [optim.Adagrad, optim.RowwiseAdagrad, optim.Adam])
def test_a_weight_that_lost_rows_is_refused(make):
    layer = catembed.Embedding(6, 3, sparse=True)
    optimizer = make(layer.parameters())
    step(optimizer, layer(torch.tensor([1, 4])).sum())
    layer.weight.data = layer.weight.data[:5].clone()
    layer.num_embeddings = 5
    optimizer.zero_grad()
    layer(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="6 rows and the weight 5"):
        optimizer.step()


@pytest.mark.parametrize("untouched", ["lazy", "exact"])
def test_a_group_added_between_row_and_dense_gradients_changes_nothing(untouched):
    """Exact rows that lag must not be forgotten, as they would be if torch took the dense gradient."""
    layer = catembed.Embedding(6, 3, sparse=True, dtype=torch.float64)
    twin = copy.deepcopy(layer)
    optimizers = [optim.SGD(each.parameters(), lr=0.1, momentum=0.9, untouched=untouched) for each in (layer, twin)]
    for each, optimizer in zip((layer, twin), optimizers, strict=True):
        for ids in ([0, 1], [2, 3], [3]):
            step(optimizer, each(torch.tensor(ids)).square().sum())
        if each is layer:
            optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})
        optimizer.param_groups[0]["lr"] = 1.0
        each.weight.grad = torch.zeros_like(each.weight)
        optimizer.step()
        optimizer.flush()
    torch.testing.assert_close(layer.weight, twin.weight, rtol=1e-12, atol=1e-12)
