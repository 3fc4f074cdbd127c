"""``EmbeddingBag``: torch's own module cases, what it has beyond torch, and how it goes with the rest."""

import copy
import os
import pickle

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing._internal.common_nn import get_new_module_tests

import catembed
from catembed import EmbeddingBag, OutOfRangeError, optim

IDS = torch.tensor([1, 3, 0, 0, 2])
OFFSETS = torch.tensor([0, 2, 2])


def pair(**kwargs):
    layers = []
    for cls in (nn.EmbeddingBag, EmbeddingBag):
        torch.manual_seed(5)
        layers.append(cls(4, 3, **kwargs))
    return layers


def gradients(layer, *inputs):
    out = layer(*inputs)
    out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape))
    return out, layer.weight.grad.to_dense()


@pytest.mark.parametrize("include_last_offset", [False, True])
@pytest.mark.parametrize(
    "kwargs",
    [{"mode": "sum"}, {"mode": "mean"}, {"mode": "max"}, {"mode": "sum", "sparse": True}, {"padding_idx": 0}],
    ids=repr,
)
def test_bags_cut_by_offsets_are_torchs(kwargs, include_last_offset):
    offsets = torch.tensor([0, 2, 2, 5]) if include_last_offset else OFFSETS
    theirs, mine = pair(include_last_offset=include_last_offset, **kwargs)
    for a, b in zip(gradients(mine, IDS, offsets), gradients(theirs, IDS, offsets), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint32, torch.uint64])
@pytest.mark.parametrize("offsets_dtype", [torch.int32, torch.int64, torch.uint16])
def test_ids_and_offsets_may_have_different_integer_dtypes(dtype, offsets_dtype):
    layer = EmbeddingBag(4, 3)
    expected = layer(IDS, OFFSETS)
    assert torch.equal(layer(IDS.to(dtype), OFFSETS.to(offsets_dtype)), expected)
    assert torch.equal(layer(IDS.tolist(), tuple(OFFSETS.tolist())), expected)
    assert torch.equal(layer(IDS.numpy().astype(np.int8), OFFSETS.numpy().astype(np.uint16)), expected)


def test_per_sample_weights_and_their_gradient():
    theirs, mine = pair(mode="sum")
    results = []
    for layer in (theirs, mine):
        w = torch.linspace(-1, 2, 5, requires_grad=True)
        out = layer(IDS, OFFSETS, per_sample_weights=w)
        out.square().sum().backward()
        results.append((out, w.grad, layer.weight.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="must have the same shape as the input"):
        mine(IDS, OFFSETS, torch.ones(3))


def test_empty_bags_are_zero():
    layer = EmbeddingBag(4, 3, mode="max")
    out = layer([], [0, 0])
    assert torch.equal(out, torch.zeros(2, 3))
    assert torch.equal(EmbeddingBag(4, 3)([2], [0, 1, 1])[1:], torch.zeros(2, 3))


def test_errors_name_the_table():
    layer = EmbeddingBag(4, 3, name="words")
    with pytest.raises(OutOfRangeError, match=r"table 'words', allowed are \[0, 4\) \(got 4 at \[2\]\)"):
        layer([0, 1, 4], [0, 1])
    with pytest.raises(ValueError, match="offsets into table 'words'"):
        layer([0, 1, 2], [0, 2, 1])


@pytest.mark.parametrize("offsets", [[0, 3, 1], [0, -9, 1], [1, 2, 3], [0, 2, 6]])
def test_offsets_are_checked_in_compiled_and_exported_code_too(offsets):
    torch._dynamo.reset()
    layer = EmbeddingBag(4, 3)
    good, bad = torch.tensor([0, 3, 3]), torch.tensor(offsets)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    exported = torch.export.export(layer, (IDS, good)).module()
    for program in (compiled, exported):
        assert torch.equal(program(IDS, good), layer(IDS, good))
        with pytest.raises(RuntimeError, match="offsets must start at 0, never decrease and stay within"):
            program(IDS, bad)


@pytest.mark.full  # needs a C++ compiler
def test_inductor_keeps_the_check_of_offsets():
    layer = EmbeddingBag(4, 3)
    compiled = torch.compile(layer, fullgraph=True)
    assert torch.equal(compiled(IDS, OFFSETS), layer(IDS, OFFSETS))
    with pytest.raises(RuntimeError, match="offsets must start at 0"):
        compiled(IDS, torch.tensor([0, 3, 1]))


# Torch's own module cases

CASES = {
    case.get("fullname") or f"EmbeddingBag_{case['desc']}": case
    for case in get_new_module_tests()
    if "EmbeddingBag" in (case.get("fullname") or case.get("module_name", ""))
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_module_case_of_torch(case):
    assert len(CASES) == 8
    torch.manual_seed(9)
    theirs = case["constructor"]() if "constructor" in case else nn.EmbeddingBag(*case["constructor_args"])
    theirs = theirs.double()
    mine = catembed.convert(copy.deepcopy(theirs))
    assert type(mine) is EmbeddingBag
    ids = case["input_fn"]()
    for got, expected in zip(gradients(mine, ids), gradients(theirs, ids), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-14, atol=1e-14)  # float64, sums of up to 512 numbers
    assert mine.weight.grad.layout == theirs.weight.grad.layout
    if not mine.sparse:  # torch's gradcheck takes no sparse ones
        assert torch.autograd.gradcheck(lambda w: torch.func.functional_call(mine, {"weight": w}, (ids,)), mine.weight)


# Training

SUMS = ["sum", "mean", "sqrtn"]
OPTIMIZERS = {
    "SGD": lambda params: optim.SGD(params, lr=0.1),
    "Adagrad": lambda params: optim.Adagrad(params, lr=0.1),
    "Adam exact": lambda params: optim.Adam(params, lr=0.1, untouched="exact"),
    "AdamW exact": lambda params: optim.AdamW(params, lr=0.1, untouched="exact"),
    "momentum exact": lambda params: optim.SGD(params, lr=0.1, momentum=0.9, untouched="exact"),
    "torch SGD": lambda params: torch.optim.SGD(params, lr=0.1),
    "torch Adagrad": lambda params: torch.optim.Adagrad(params, lr=0.1),
}


@pytest.mark.parametrize("mode", SUMS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_row_gradients_is_training_with_dense_ones(name, mode):
    torch.manual_seed(4)
    by_rows, dense = (EmbeddingBag(12, 3, mode=mode, sparse=sparse, padding_idx=2) for sparse in (True, False))
    dense.load_state_dict(by_rows.state_dict())
    optimizers = [OPTIMIZERS[name](layer.parameters()) for layer in (by_rows, dense)]
    for _ in range(6):
        ids, factors = torch.randint(12, (3, 4)), torch.rand(3, 4)
        for layer, optimizer in zip((by_rows, dense), optimizers, strict=True):
            optimizer.zero_grad()
            layer(ids, per_sample_weights=factors).square().sum().backward()
            optim.clip_grad_norm_(layer.parameters(), 0.5)
            optimizer.step()
    torch.testing.assert_close(by_rows.eval().weight, dense.eval().weight)


@pytest.mark.parametrize("name", ["SparseAdam", "Adam", "RowwiseAdagrad"])
def test_row_optimizers_do_what_they_do_with_gradients_of_every_lookup(name):
    torch.manual_seed(4)
    mine = EmbeddingBag(12, 3, mode="sum", sparse=True)
    theirs = nn.EmbeddingBag(12, 3, mode="sum", sparse=True, _weight=mine.weight.detach().clone())
    make = getattr(torch.optim if name == "SparseAdam" else optim, name)
    optimizers = [make(layer.parameters(), lr=0.1) for layer in (mine, theirs)]
    for _ in range(5):
        ids = torch.randint(12, (3, 4))
        for layer, optimizer in zip((mine, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            layer(ids).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(mine.weight, theirs.weight)


@pytest.mark.parametrize("form", [[[1, 2], [3]], torch.tensor([[1, 2], [3, 3]])])
def test_rows_are_brought_up_to_date_before_bags_are_pooled(form):
    layer = EmbeddingBag(5, 2, sparse=True)
    twin = copy.deepcopy(layer)
    optimizers = [optim.Adam(layer.parameters(), untouched="exact"), torch.optim.Adam(twin.parameters())]
    for ids in (torch.tensor([[1, 2], [3, 3]]), [[4, 4]], [[0, 0]], form):
        results = []
        for each, optimizer in zip((layer, twin), optimizers, strict=True):
            each.sparse = each is layer
            optimizer.zero_grad()
            results.append(each(ids))
            results[-1].square().sum().backward()
            optimizer.step()
        torch.testing.assert_close(*results)


def test_frozen_rows_do_not_move():
    layer = EmbeddingBag(5, 2, mode="sqrtn", sparse=True)
    layer.freeze_rows([1, 3])
    before = layer.weight.detach().clone()
    layer([[0, 1], [2, 3, 4]]).sum().backward()
    optim.SGD(layer.parameters(), lr=0.1).step()
    moved = (layer.weight != before).any(1)
    assert moved.tolist() == [True, False, True, False, True]


# With the rest of the package


@pytest.mark.parametrize("mode", ["sum", "mean", "max", "sqrtn", "none"])
def test_every_mode_is_saved_copied_and_printed(mode, tmp_path):
    layer = EmbeddingBag(5, 2, mode=mode, name="words")
    catembed.save(tmp_path / "bag.safetensors", layer)
    twins = [catembed.load(tmp_path / "bag.safetensors"), copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))]
    for twin in twins:
        assert repr(twin) == repr(layer) == f"EmbeddingBag(5, 2, mode={mode!r}, name='words')"
        for got, expected in zip(twin([[0, 1], [2]]).unbind(), layer([[0, 1], [2]]).unbind(), strict=True):
            assert torch.equal(got, expected)


def test_an_unknown_mode_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"one of sum, mean, max, sqrtn or none \(got 'median'\)"):
        EmbeddingBag(5, 2, mode="median")([[0, 1]])


def test_a_layer_takes_lengths_and_masks():
    layer = EmbeddingBag(4, 3)
    expected = layer(IDS, OFFSETS)
    assert torch.equal(layer(IDS, lengths=[2, 0, 3]), expected)
    padded, mask = [[1, 3, 9], [9, 9, 9], [0, 0, 2]], [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert torch.equal(layer(padded, mask=np.array(mask, dtype=bool)), expected)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_bags_are_pooled_in_forked_children(in_forked_child):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        layer, ids = EmbeddingBag(100, 16, mode="sqrtn"), torch.randint(100, (1000, 10))
        expected = layer(ids).detach().numpy().tobytes()
        assert in_forked_child(lambda: layer(ids).detach().numpy().tobytes()) == expected
    finally:
        torch.set_num_threads(before)


def test_the_same_gradient_on_any_number_of_threads():
    before, found = torch.get_num_threads(), []
    layer, ids = EmbeddingBag(500, 33, mode="mean", sparse=True), torch.randint(500, (2000, 10))
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            layer.weight.grad = None
            layer(ids).square().sum().backward()
            found.append(layer.weight.grad.to_dense())
    finally:
        torch.set_num_threads(before)
    assert torch.equal(*found)
