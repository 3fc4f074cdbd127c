"""Clipping of dense and row gradients together: as torch clips the dense gradients of the same model."""

import pytest
import torch

import catembed
from catembed import optim


def twins(dtype=torch.float64):
    """Two tables, one of them looked up twice, and a dense layer: with row gradients, and all dense."""

    def make(sparse):
        torch.manual_seed(0)
        model = torch.nn.ModuleDict(
            {
                "a": catembed.Embedding(12, 4, sparse=sparse, dtype=dtype),
                "b": catembed.Embedding(7, 4, sparse=sparse, dtype=dtype),
                "linear": torch.nn.Linear(4, 2, dtype=dtype),
                "unused": torch.nn.Linear(1, 1, dtype=dtype),
            }
        )
        ids = torch.tensor([1, 5, 1, 1, 6])
        for _ in range(2):  # gradients accumulate
            # The outputs are added: backward hands both tables one and the same buffer.
            model["linear"](model["a"](ids) + model["b"](ids)).pow(3).sum().backward()
        return model

    return make(True), make(False)


def assert_same_gradients(model, dense):
    for one, other in zip(model.parameters(), dense.parameters(), strict=True):
        if other.grad is None:
            assert one.grad is None
        else:
            torch.testing.assert_close(one.grad.to_dense() if one.grad.is_sparse else one.grad, other.grad)


@pytest.mark.parametrize("norm_type", [2, 2.0, 1, 3.5, float("inf")])
@pytest.mark.parametrize("max_norm", [0.5, 1e9])
@pytest.mark.parametrize("foreach", [None, False])
def test_norm(norm_type, max_norm, foreach):
    model, dense = twins()
    expected = torch.nn.utils.clip_grad_norm_(dense.parameters(), max_norm, norm_type, foreach=foreach)
    total = optim.clip_grad_norm_(model.parameters(), max_norm, norm_type, foreach=foreach)
    torch.testing.assert_close(total, expected)
    assert model["a"].weight.grad.is_sparse
    assert_same_gradients(model, dense)


def test_norm_of_one_tensor_and_of_bags_alone():
    bag = catembed.EmbeddingBag(5, 3, mode="sum", sparse=True)
    bag(torch.tensor([[1, 1, 2]])).sum().backward()
    total = optim.clip_grad_norm_(bag.weight, 1.0)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, torch.tensor((3 * 4 + 3 * 1) ** 0.5))
    torch.testing.assert_close(bag.weight.grad.to_dense().norm(), torch.tensor(1.0))


def test_no_gradients():
    assert optim.clip_grad_norm_([torch.zeros(2, requires_grad=True)], 1.0) == 0
    optim.clip_grad_value_([torch.zeros(2, requires_grad=True)], 1.0)


def test_dense_gradients_alone_are_torchs_bit_for_bit():
    _, one = twins()
    _, other = twins()
    assert torch.equal(
        optim.clip_grad_norm_(one.parameters(), 0.5), torch.nn.utils.clip_grad_norm_(other.parameters(), 0.5)
    )
    for mine, torchs in zip(one.parameters(), other.parameters(), strict=True):
        assert mine.grad is None or torch.equal(mine.grad, torchs.grad)


@pytest.mark.parametrize("foreach", [None, False])
def test_value(foreach):
    model, dense = twins()
    torch.nn.utils.clip_grad_value_(dense.parameters(), 0.3, foreach=foreach)
    optim.clip_grad_value_(model.parameters(), 0.3, foreach=foreach)
    assert model["a"].weight.grad.is_sparse
    assert_same_gradients(model, dense)


def test_the_gradient_that_the_caller_holds_is_left_alone():
    layer = catembed.Embedding(5, 3, sparse=True)
    grad = torch.full((2, 3), 10.0)
    layer(torch.tensor([1, 2])).backward(grad)
    optim.clip_grad_norm_(layer.parameters(), 1.0)
    assert (grad == 10).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite(bad):
    model, _ = twins()
    model["a"].weight.grad._values()[0, 0] = bad
    before = model["linear"].weight.grad.clone()
    with pytest.raises(RuntimeError, match="non-finite"):
        optim.clip_grad_norm_(model.parameters(), 1.0, error_if_nonfinite=True)
    assert torch.equal(model["linear"].weight.grad, before)
    assert not optim.clip_grad_norm_(model.parameters(), 1.0).isfinite()


def test_clipping_a_huge_table_makes_no_table_sized_temporary():
    rows = 1 << 28
    weight = torch.nn.Parameter(catembed.storage.zeros((rows, 64), torch.float32))  # 64 GB of addresses
    torch.nn.functional.embedding(torch.tensor([5, rows - 2, 5]), weight, sparse=True).sum().backward()
    torch.testing.assert_close(optim.clip_grad_norm_([weight], 1.0), torch.tensor((64 * 5) ** 0.5))
    optim.clip_grad_value_([weight], 0.05)
    assert weight.grad._values().max() <= 0.05


def test_a_norm_that_is_not_a_number_spoils_all_gradients_as_with_torch():
    model, dense = twins()
    model["linear"].bias.grad[0] = dense["linear"].bias.grad[0] = float("nan")
    optim.clip_grad_norm_(model.parameters(), 1.0)
    torch.nn.utils.clip_grad_norm_(dense.parameters(), 1.0)
    assert model["b"].weight.grad._values().isnan().all()
    assert dense["b"].weight.grad.isnan().all()
