"""`append_rows` while graphs and gradients of the table are about."""

import pytest
import torch
import torch.nn.functional as F

import catembed
from catembed.nn.growth import append_rows

both = pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])


def table(rows=4, columns=3, **kwargs):
    torch.manual_seed(0)
    return catembed.Embedding(rows, columns, name="fruit", **kwargs)


def rows_like(layer, count, value=1.0):
    return torch.full((count, *layer.weight.shape[1:]), value, dtype=layer.weight.dtype)


def dense(grad):
    return grad.to_dense() if grad.is_sparse else grad


def touched(layer):
    """The sum of gradients of each row, which are all ones times a factor."""
    assert layer.weight.grad.shape == layer.weight.shape
    return dense(layer.weight.grad)[:, 0].tolist()


@both
def test_a_graph_that_is_still_alive_is_no_hindrance(sparse):
    layer = table(sparse=sparse)
    alive = layer(torch.tensor([0, 1]))
    append_rows(layer, rows_like(layer, 2))
    layer(torch.tensor([5, 1])).sum().backward()
    assert touched(layer) == [0, 1, 0, 0, 0, 1]
    assert alive.grad_fn is not None


@both
def test_a_pending_gradient_grows(sparse):
    layer = table(sparse=sparse)
    layer(torch.tensor([3, 1, 3])).sum().backward()
    append_rows(layer, rows_like(layer, 2))
    assert touched(layer) == [0, 1, 0, 2, 0, 0]
    assert layer.weight.grad.is_sparse is sparse
    layer(torch.tensor([5, 1])).sum().backward()
    assert touched(layer) == [0, 2, 0, 2, 0, 1]


def test_a_pending_sparse_gradient_stays_as_it_is():
    layer = table(sparse=True)
    layer(torch.tensor([3, 1, 3])).sum().backward()
    values = layer.weight.grad._values().data_ptr()
    append_rows(layer, rows_like(layer, 2))
    grad = layer.weight.grad
    assert (grad._indices().tolist(), grad.is_coalesced(), grad._values().data_ptr()) == ([[3, 1, 3]], False, values)
    layer.weight.grad = grad.coalesce()
    append_rows(layer, rows_like(layer, 2))
    assert layer.weight.grad.is_coalesced()


@both
@pytest.mark.parametrize("pending", [True, False])
def test_a_graph_made_before_gives_its_gradient_after(sparse, pending):
    layer = table(sparse=sparse)
    if pending:
        layer(torch.tensor([2])).sum().backward()
    loss = layer(torch.tensor([0, 1])).sum()
    append_rows(layer, rows_like(layer, 1))
    append_rows(layer, rows_like(layer, 1))
    loss.backward()
    assert touched(layer) == [1, 1, int(pending), 0, 0, 0]


@both
def test_lookups_around_a_growth_in_one_step(sparse):
    layer = table(sparse=sparse)
    total = layer(torch.tensor([0, 1])).sum()
    for factor, row in ((10, 4), (100, 5)):
        append_rows(layer, rows_like(layer, 1))
        total = total + factor * layer(torch.tensor([row, 1])).sum()
    total.backward()
    assert touched(layer) == [1, 111, 0, 0, 10, 100]


@pytest.mark.parametrize("first", [True, False])
def test_dense_and_sparse_gradients_around_a_growth(first):
    layer = table(sparse=first)
    total = layer(torch.tensor([0, 1])).sum()
    append_rows(layer, rows_like(layer, 1))
    layer.sparse = not first
    (total + layer(torch.tensor([4, 1])).sum()).backward()
    assert touched(layer) == [1, 2, 0, 0, 1]


@both
def test_a_retained_graph_runs_again_and_again(sparse):
    layer = table(sparse=sparse)
    loss = layer(torch.tensor([0, 1])).sum()
    for rows in (4, 5, 6):
        loss.backward(retain_graph=True)
        assert touched(layer) == [rows - 3, rows - 3] + [0] * (rows - 2)
        append_rows(layer, rows_like(layer, 1))


@both
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_around_a_growth(sparse, mode):
    layer = catembed.EmbeddingBag(4, 3, mode=mode, sparse=sparse and mode != "max")
    total = layer(torch.tensor([[0, 0]])).sum()
    append_rows(layer, rows_like(layer, 1))
    (total + layer(torch.tensor([[4, 4]])).sum()).backward()
    share = {"sum": 2, "mean": 1, "max": 1}[mode]
    assert touched(layer) == [share, 0, 0, 0, share]


@both
def test_large_lookups_around_a_growth(sparse):
    layer = table(100, 64, sparse=sparse)
    ids = torch.zeros(140_000, dtype=torch.int64)  # 36 MB of rows
    total = layer(ids).sum()
    append_rows(layer, rows_like(layer, 1))
    (total + layer(ids + 100).sum()).backward()
    assert (dense(layer.weight.grad)[[0, 50, 100], 0] == torch.tensor([140_000.0, 0, 140_000.0])).all()


def test_the_gradient_of_a_graph_made_before_can_be_differentiated():
    layer = table(dtype=torch.float64)
    loss = (layer(torch.tensor([0, 1])) ** 3).sum()
    append_rows(layer, rows_like(layer, 1))
    layer.weight.grad = pending = torch.ones(5, 3, dtype=torch.float64)
    loss.backward(create_graph=True)
    assert pending.eq(1).all()  # not added to in place: it may be part of a graph
    penalty = layer.weight.grad.sum()
    layer.weight.grad = None
    penalty.backward()
    torch.testing.assert_close(layer.weight.grad[:2], 6 * layer.weight.detach()[:2])
    assert not layer.weight.grad[2:].any()


def test_the_gradient_of_a_graph_made_before_is_added_in_place_as_torch_does():
    """So that who holds a gradient, or a buffer that it is a view of, sees the sum."""
    layer = table()
    loss = layer(torch.tensor([0])).sum()
    append_rows(layer, rows_like(layer, 1))
    layer.weight.grad = pending = torch.zeros(5, 3)
    loss.backward()
    assert layer.weight.grad is pending
    assert touched(layer) == [1, 0, 0, 0, 0]


@both
def test_hooks_on_the_weight_go_on(sparse):
    layer = table(sparse=sparse)
    seen, done = [], []
    layer.weight.register_hook(lambda grad: seen.append(tuple(grad.shape)) or grad * 2)
    layer.weight.register_post_accumulate_grad_hook(lambda weight: done.append(tuple(weight.grad.shape)))
    total = layer(torch.tensor([0, 1])).sum()
    append_rows(layer, rows_like(layer, 1))
    (total + layer(torch.tensor([4])).sum()).backward()
    assert sorted(seen) == [(4, 3), (5, 3)]
    assert done == [(5, 3), (5, 3)]
    assert touched(layer) == [2, 2, 0, 0, 2]


def test_a_graph_that_saved_the_whole_weight_is_refused_not_answered_wrongly():
    """Of a single row torch would broadcast: a wrong gradient without a word."""
    layer = table(1)
    penalty, head = (layer.weight**2).sum(), F.linear(torch.ones(1, 3, requires_grad=True), layer.weight).sum()
    append_rows(layer, rows_like(layer, 1))
    for loss in (penalty, head):
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    assert layer.weight.grad is None


def test_functional_gradients_of_a_graph_made_before_are_refused_by_torch():
    layer = table()
    loss = layer(torch.tensor([0])).sum()
    append_rows(layer, rows_like(layer, 1))
    with pytest.raises(RuntimeError, match="not have been used in the graph"):
        torch.autograd.grad(loss, layer.weight)
    (grad,) = torch.autograd.grad(layer(torch.tensor([4])).sum(), layer.weight)
    assert grad.shape == (5, 3)
