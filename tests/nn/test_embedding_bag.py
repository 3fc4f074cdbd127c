"""``EmbeddingBag``: pooling is torch's, offsets and ids are checked."""

import numpy as np
import pytest
import torch
from torch import nn

from catembed import EmbeddingBag, OutOfRangeError

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
        assert torch.equal(a, b)
    with pytest.raises(ValueError, match="must have the same shape as the input"):
        mine(IDS, OFFSETS, torch.ones(3))
    with pytest.raises(NotImplementedError, match="only supported for mode='sum'"):
        EmbeddingBag(4, 3, mode="mean")(IDS, OFFSETS, torch.ones(5))


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
