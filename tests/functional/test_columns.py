"""``lookup_columns`` against torch, table by table: values, gradients of any order, errors."""

import pytest
import torch
import torch.nn.functional as F

from catembed import OutOfRangeError
from catembed.functional import Lookup, lookup_columns
from catembed.functional import columns as module


def tables(dtype=torch.float32, sparse=False):
    torch.manual_seed(0)
    weights = [torch.randn(n, d, dtype=dtype, requires_grad=True) for n, d in ((5, 3), (7, 4), (2, 1))]
    ids = [torch.randint(len(weight), (6,)) for weight in weights]
    return [Lookup(weight, each, None, sparse) for weight, each in zip(weights, ids, strict=True)]


def by_torch(found):
    return torch.cat(
        [
            F.embedding(each.ids, each.weight, each.padding_idx, sparse=each.sparse)
            if isinstance(each, Lookup)
            else each
            for each in found
        ],
        -1,
    )


def leaves(found):
    return list(dict.fromkeys(each.weight if isinstance(each, Lookup) else each for each in found))


def gradients(look, found):
    out = look(found)
    (out * torch.arange(out.numel()).view(out.shape).to(out)).sum().backward()
    grads = [leaf.grad for leaf in leaves(found)]
    for leaf in leaves(found):
        leaf.grad = None
    return out.detach(), grads


def assert_as_torch(found, rtol=None, atol=None):
    ours, theirs = gradients(lookup_columns, found), gradients(by_torch, found)
    assert torch.equal(ours[0], theirs[0])
    for ours_, theirs_ in zip(ours[1], theirs[1], strict=True):
        assert (ours_ is None) == (theirs_ is None)
        if ours_ is not None:
            assert ours_.layout == theirs_.layout
            torch.testing.assert_close(ours_.to_dense(), theirs_.to_dense(), rtol=rtol, atol=atol)
            if ours_.is_sparse:
                assert torch.equal(ours_._indices(), theirs_._indices())
                assert torch.equal(ours_._values(), theirs_._values())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sparse", [False, True])
def test_values_and_gradients(dtype, sparse):
    assert_as_torch(tables(dtype, sparse))


@pytest.mark.parametrize("shape", [(), (0,), (6,), (2, 3), (2, 0, 3)])
def test_ids_of_any_shape(shape):
    found = [each._replace(ids=torch.zeros(shape, dtype=torch.int64)) for each in tables()]
    assert lookup_columns(found).shape == (*shape, 8)
    assert_as_torch(found)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("padding", [0, -1])
def test_the_padding_row_gets_no_gradient(padding, sparse):
    assert_as_torch([each._replace(padding_idx=padding) for each in tables(sparse=sparse)])


def test_one_table_of_several_columns():
    """Dense and sparse columns of one weight too, whose gradients torch adds up."""
    first, second, third = tables()
    assert_as_torch([first, second, first._replace(ids=second.ids % 5), third])
    assert_as_torch([first._replace(sparse=True), second, first._replace(ids=second.ids % 5, sparse=True)])
    assert_as_torch([first._replace(sparse=True), first._replace(ids=second.ids % 5), second])


def test_rows_found_by_other_means_keep_their_place_and_gradient():
    first, second, third = tables()
    rows = torch.randn(6, 2, requires_grad=True)
    assert_as_torch([first, rows, second, third])
    assert_as_torch([rows, first])  # a single lookup is torch's


def test_frozen_tables_and_no_grad():
    first, second, third = tables()
    second.weight.requires_grad_(False)
    assert_as_torch([first, second, third])
    with torch.no_grad():
        assert torch.equal(lookup_columns([first, second]), by_torch([first, second]))


def test_gradients_of_gradients():
    torch.manual_seed(0)
    weights = [torch.randn(n, d, dtype=torch.float64, requires_grad=True) for n, d in ((3, 2), (4, 1))]
    ids = [torch.randint(len(weight), (5,)) for weight in weights]

    def look(*weights):
        return lookup_columns([Lookup(weight, each) for weight, each in zip(weights, ids, strict=True)]).pow(2)

    assert torch.autograd.gradcheck(look, weights)
    assert torch.autograd.gradgradcheck(look, weights)


def test_a_gradient_that_is_expanded():
    """As that of sum() is: without strides of its own."""
    found = tables()
    lookup_columns(found).sum().backward()
    for each in found:
        assert torch.equal(
            each.weight.grad.sum(1), torch.bincount(each.ids, minlength=len(each.weight)) * each.weight.shape[1]
        )


@pytest.mark.parametrize("bad", [-1, 7, 100])
def test_an_id_without_a_row_is_told(bad):
    first, second, third = (each._replace(name=name) for each, name in zip(tables(), "abc", strict=True))
    second.ids[3] = bad
    with pytest.raises(
        OutOfRangeError,
        match=rf"index out of range in self: 1 of 6 ids has no row in table 'b', .* \[0, 7\) \(got {bad} at \[3\]\)",
    ):
        lookup_columns([first, second, third])


def test_bad_ids_are_told_where_they_stood():
    found = [each._replace(ids=torch.zeros(2, 3, dtype=torch.int64)) for each in tables()]
    found[1].ids[1, 2] = 9
    with pytest.raises(OutOfRangeError, match=r"got 9 at \[1, 2\]"):
        lookup_columns(found)


def test_ids_of_other_types_are_torchs_business():
    first, second, _ = tables()
    with pytest.raises(RuntimeError, match="Ids must be integers"):
        lookup_columns([first, second._replace(ids=second.ids.float())])


def test_it_compiles_and_maps_and_goes_to_meta():
    found = tables()
    compiled = torch.compile(lambda: lookup_columns(found), backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(), lookup_columns(found))
    weights = [each.weight.detach() for each in found]

    def look(*ids):
        return lookup_columns([Lookup(weight, each) for weight, each in zip(weights, ids, strict=True)])

    assert torch.equal(torch.func.vmap(look)(*(each.ids for each in found)), lookup_columns(found).detach())
    meta = [each._replace(weight=each.weight.detach().to("meta"), ids=each.ids.to("meta")) for each in found]
    assert lookup_columns(meta).shape == (6, 8)


def test_kernels_do_the_usual_case(monkeypatch):
    """Not torch, table by table."""
    monkeypatch.setattr(module, "_by_torch", lambda each: pytest.fail("torch was asked"))
    gradients(lookup_columns, tables())


# Gradients that are not what they seem, and ids that are not what they were


def changed_in_place(ids):
    ids.numpy()[2] = 10**9  # torch does not see it


def replaced(ids):
    ids.data = torch.tensor([0])


@pytest.mark.parametrize("change", [changed_in_place, replaced])
def test_ids_changed_behind_torchs_back_are_refused_in_backward(change):
    """Otherwise the gradient would be written to other rows, or to other memory."""
    found = [each._replace(name="fruit") for each in tables()]
    out = lookup_columns(found)
    change(found[1].ids)
    with pytest.raises(RuntimeError, match="the ids of table 'fruit' were changed between lookup and backward"):
        out.sum().backward()


def test_ids_changed_by_torch_are_refused_by_torch():
    found = tables()
    out = lookup_columns(found)
    found[1].ids.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


@pytest.mark.parametrize("kind", [torch._efficientzerotensor, lambda shape: torch._neg_view(torch.ones(shape))])
def test_gradients_without_numbers_of_their_own(kind):
    found = tables()
    (ours,) = torch.autograd.grad(lookup_columns(found), found[0].weight, kind((6, 8)))
    (theirs,) = torch.autograd.grad(by_torch(found), found[0].weight, kind((6, 8)).clone())
    assert torch.equal(ours, theirs)


def test_gradients_in_a_batch():
    found = tables()
    grads = torch.eye(48).view(48, 6, 8)
    ours = torch.autograd.grad(lookup_columns(found), leaves(found), grads, is_grads_batched=True)
    theirs = torch.autograd.grad(by_torch(found), leaves(found), grads, is_grads_batched=True)
    assert all(map(torch.equal, ours, theirs))


def test_under_another_default_device():
    found = tables()
    expected = lookup_columns(found)
    with torch.device("meta"):
        out = lookup_columns(found)
        out.sum().backward()
    assert torch.equal(out, expected)
    assert found[0].weight.grad.device.type == "cpu"


def test_gradients_of_gradients_of_one_weight_by_rows_and_dense():
    first, *_ = tables(torch.float64)
    weight = first.weight
    for look in (lookup_columns, by_torch):
        out = look([first._replace(sparse=True), first])
        (grad,) = torch.autograd.grad(out.pow(2).sum(), weight, create_graph=True)
        assert grad.to_dense().shape == weight.shape


def test_rows_of_another_shape_are_refused():
    first, second, _ = tables()
    with pytest.raises(RuntimeError, match=r"Sizes of tensors must match|same number of dimensions"):
        lookup_columns([first, second, torch.zeros(2, 3, 2)])
