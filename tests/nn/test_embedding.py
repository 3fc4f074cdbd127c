"""``Embedding``: what must hold, and torch's own module cases."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing._internal.common_modules import ModuleErrorEnum, module_db

from catembed import Embedding, OutOfRangeError

(INFO,) = [info for info in module_db if info.module_cls is nn.Embedding]
FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


class TestWhatMustHold:
    def test_a_trainable_weight_drawn_as_torch_draws_it(self):
        torch.manual_seed(3)
        layer = Embedding(3, 5)
        torch.manual_seed(3)
        assert torch.equal(layer.weight, nn.Embedding(3, 5).weight)
        assert isinstance(layer, nn.Embedding)
        assert isinstance(layer.weight, nn.Parameter)
        assert layer.weight.requires_grad
        assert layer.weight.shape == (3, 5)
        drawn = Embedding(1000, 100).weight
        assert abs(drawn.mean()) < 0.02  # 5 standard errors of 100,000 draws, and of their spread
        assert abs(drawn.std() - 1) < 0.012

    def test_a_scalar_gives_a_vector(self):
        layer = Embedding(3, 5)
        row = layer(torch.tensor(1))
        assert row.shape == (5,)
        assert torch.equal(row, layer.weight[1])
        assert row.grad_fn is not None

    def test_one_dimension_more_than_the_input(self):
        layer = Embedding(3, 5)
        assert layer(torch.tensor([[0], [1], [2]])).shape == (3, 1, 5)
        assert layer(torch.zeros(2, 1, 4, 0, dtype=torch.long)).shape == (2, 1, 4, 0, 5)

    def test_a_given_weight_is_the_weight(self):
        w = torch.randn(3, 5)
        layer = Embedding(num_embeddings=3, embedding_dim=5, _weight=w)
        assert layer.weight.data_ptr() == w.data_ptr()
        assert torch.equal(layer(torch.tensor([0])), w[0:1])

    def test_an_id_without_a_row(self):
        layer = Embedding(3, 5, name="fruit")
        with pytest.raises(IndexError, match="index out of range in self") as caught:
            layer(torch.tensor(3))
        assert isinstance(caught.value, OutOfRangeError)
        with pytest.raises(IndexError) as caught:
            layer(torch.tensor([[0, 3]]))
        for part in ("got 3", "at [0, 1]", "table 'fruit'", "[0, 3)"):
            assert part in str(caught.value)


def pair(constructor):
    layers = []
    for cls in (nn.Embedding, Embedding):
        torch.manual_seed(11)
        layers.append(cls(*constructor.args, **constructor.kwargs))
    return layers


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_module_case_of_torch(dtype, training):
    cases = INFO.module_inputs_func(INFO, device="cpu", dtype=dtype, requires_grad=True, training=training)
    assert len(cases) == 2
    for case in cases:
        results = []
        for layer in pair(case.constructor_input):
            layer.to(dtype).train(training)
            out = layer(*case.forward_input.args, **case.forward_input.kwargs)
            out.backward(torch.linspace(-1, 1, out.numel(), dtype=dtype).view(out.shape))
            results.append([out, layer.weight.grad, layer.weight])
        for theirs, mine in zip(*results, strict=True):
            assert (mine.dtype, mine.layout, mine.stride()) == (theirs.dtype, theirs.layout, theirs.stride())
            assert torch.equal(mine, theirs)


def test_every_module_error_case_of_torch():
    cases = INFO.module_error_inputs_func(INFO, device="cpu", dtype=torch.float32, requires_grad=False, training=True)
    assert len(cases) >= 2
    for case in cases:
        inputs = case.module_error_input
        for cls in (nn.Embedding, Embedding):
            if case.error_on == ModuleErrorEnum.CONSTRUCTION_ERROR:
                with pytest.raises(case.error_type, match=case.error_regex):
                    cls(*inputs.constructor_input.args, **inputs.constructor_input.kwargs)
            else:
                layer = cls(*inputs.constructor_input.args, **inputs.constructor_input.kwargs)
                with pytest.raises(case.error_type, match=case.error_regex):
                    layer(*inputs.forward_input.args, **inputs.forward_input.kwargs)


def test_derivatives_of_the_module():
    layer = Embedding(4, 3, dtype=torch.float64)
    ids = torch.tensor([[2, 0, 2], [3, 3, 0]])

    def call(weight):
        return torch.func.functional_call(layer, {"weight": weight}, (ids,))

    weight = layer.weight.detach().requires_grad_()
    assert torch.autograd.gradcheck(call, weight)
    assert torch.autograd.gradgradcheck(lambda w: call(w).tanh(), weight)


def test_max_norm_edits_the_rows_asked_for_and_no_other():
    layer = Embedding(4, 3, max_norm=1.0, _weight=torch.full((4, 3), 2.0))
    layer([0, 2])
    norms = layer.weight.norm(dim=1)
    torch.testing.assert_close(norms, torch.tensor([1.0, 12.0**0.5, 1.0, 12.0**0.5]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("bad", [-1, 4])
def test_max_norm_edits_nothing_when_an_id_is_refused(bad):
    layer = Embedding(4, 3, max_norm=1.0, _weight=torch.full((4, 3), 2.0))
    with pytest.raises(OutOfRangeError):
        layer([0, bad])
    assert torch.equal(layer.weight, torch.full((4, 3), 2.0))  # torch shrinks row 0, and the last one for -1


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_frozen_integer_weights(dtype):
    w = torch.arange(12).view(4, 3).to(dtype)
    layer = Embedding(4, 3, _weight=w, _freeze=True)
    assert torch.equal(layer([3, 0]), w[[3, 0]])
    assert not layer([3]).requires_grad
    assert torch.equal(Embedding.from_pretrained(w)([1]), w[1:2])


def test_the_padding_row_is_zero_and_gets_no_gradient():
    layer = Embedding(4, 3, padding_idx=-2)
    assert layer.padding_idx == 2
    assert torch.equal(layer.weight[2], torch.zeros(3))
    layer([2, 1, 2]).sum().backward()
    assert torch.equal(layer.weight.grad, torch.tensor([[0.0] * 3, [1.0] * 3, [0.0] * 3, [0.0] * 3]))


def test_sparse_adam_trains_it():
    layer = Embedding(4, 3, sparse=True)
    before = layer.weight.detach().clone()
    optimizer = torch.optim.SparseAdam(layer.parameters(), lr=0.1)
    layer(np.array([1, 1, 3], dtype=np.uint8)).sum().backward()
    optimizer.step()
    moved = (layer.weight != before).any(dim=1)
    assert moved.tolist() == [False, True, False, True]


def test_a_pickle_of_torchs_layer_stays_torchs():
    layer = pickle.loads(pickle.dumps(nn.Embedding(4, 3)))
    assert type(layer) is nn.Embedding


def test_a_large_table_is_looked_up_beyond_32_bit_offsets():
    rows, width = 2**22, 1024  # 2**32 elements of one byte: reserved, touched in one page only
    w = torch.empty(rows, width, dtype=torch.uint8)
    w[rows - 1] = 7
    layer = Embedding(rows, width, _weight=w, _freeze=True)
    assert torch.equal(layer([rows - 1]), torch.full((1, width), 7, dtype=torch.uint8))
    with pytest.raises(OutOfRangeError, match=str(rows)):
        layer([rows])


def test_construction_and_lookup_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Embedding(4, 3, padding_idx=0, max_norm=1.0, name="fruit")([[1, 2], [3, 0]]).sum().backward()


@pytest.mark.full  # needs a C++ compiler
def test_inductor_refuses_ids_without_a_row():
    layer = Embedding(4, 3)
    compiled = torch.compile(layer, fullgraph=True)
    assert torch.equal(compiled(torch.tensor([3, 0])), layer(torch.tensor([3, 0])))
    for bad in (-1, 4, 2**40):
        with pytest.raises(RuntimeError, match="index out of bounds"):
            compiled(torch.tensor([0, bad]))
