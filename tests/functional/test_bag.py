"""``embedding_bag`` against torch's own, on the cases torch ships and on those it gets wrong or does not have."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing._internal.common_methods_invocations import op_db

import catembed.functional as ours
from catembed import OutOfRangeError

(OP,) = [op for op in op_db if op.name == "nn.functional.embedding_bag"]
FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
MODES = ["sum", "mean", "max", "sqrtn"]


def run(function, weight, ids, kwargs):
    """Result, gradients of the table and of per-sample weights (or the refusal), and the table afterwards."""
    weight = weight.detach().clone().requires_grad_()
    factors = kwargs.get("per_sample_weights")
    if factors is not None:
        factors = factors.detach().clone().requires_grad_()
        kwargs = kwargs | {"per_sample_weights": factors}
    out = function(ids, weight, **kwargs)
    try:
        out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape))
    except RuntimeError as error:  # torch has no sparse gradient that is scaled by frequency
        return out.detach(), (type(error), str(error)), None, weight.detach()
    return out.detach(), weight.grad, None if factors is None else factors.grad, weight.detach()


def in_float64(weight, kwargs):
    factors = kwargs.get("per_sample_weights")
    return weight.double(), kwargs if factors is None else kwargs | {"per_sample_weights": factors.double()}


def assert_as_good(got, theirs, exact):
    """The same dtype and layout; and at most twice as far from the result in float64 as torch's own, or a rounding."""
    if not isinstance(theirs, torch.Tensor):
        assert got == theirs
        return
    assert (got.dtype, got.layout, got.shape) == (theirs.dtype, theirs.layout, theirs.shape)
    got, theirs, exact = (each.to_dense().double() for each in (got, theirs, exact))
    rounding = torch.finfo(exact.dtype).eps * 16 * exact.abs().max() if exact.numel() else 0.0
    error, allowed = (
        (got - exact).abs().max() if exact.numel() else 0.0,
        (theirs - exact).abs().max() if exact.numel() else 0.0,
    )
    assert error <= 2 * allowed + rounding


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_sample_of_torch(dtype):
    samples = [s for grad in (False, True) for s in OP.sample_inputs("cpu", dtype, requires_grad=grad)]
    assert len(samples) >= 12
    for sample in samples:
        weight, ids, kwargs = sample.input, sample.args[0], sample.kwargs
        exact_weight, exact_kwargs = in_float64(weight.detach(), kwargs)
        cases = [(F.embedding_bag, weight, kwargs), (F.embedding_bag, exact_weight, exact_kwargs)]
        theirs, exact = (run(function, table, ids, options) for function, table, options in cases)
        for got, their, true in zip(run(ours.embedding_bag, weight, ids, kwargs), theirs, exact, strict=True):
            assert_as_good(got, their, true)


def test_unweighted_sums_are_torchs_bit_for_bit():
    ids, offsets = torch.randint(50, (400,)), torch.tensor([0, 0, 7, 7, 300])
    for dtype in (torch.float32, torch.float64):
        weight = torch.randn(50, 33, dtype=dtype)
        for mode in ("sum", "max"):
            for trained in (False, True):
                weight.requires_grad_(trained)
                assert torch.equal(
                    ours.embedding_bag(ids, weight, offsets, mode=mode),
                    F.embedding_bag(ids, weight, offsets, mode=mode),
                )


def slow(weight, bags, factors, mode, padding):
    """Pooling as it is told in the documentation, one bag at a time."""
    out = []
    for ids, numbers in zip(bags, factors or [[1.0] * len(ids) for ids in bags], strict=True):
        kept = [(i, w) for i, w in zip(ids, numbers, strict=True) if i != padding]
        w = torch.stack([torch.as_tensor(w, dtype=weight.dtype) for _, w in kept]) if kept else torch.zeros(0)
        if not (w != 0).any():
            out.append(torch.zeros_like(weight[0]))
            continue
        rows = weight[[i for i, _ in kept]] * w[:, None]
        by = {"mean": w.sum(), "sqrtn": w.square().sum().sqrt()}
        out.append(rows.max(0).values if mode == "max" else rows.sum(0) / by.get(mode, 1.0))
    return torch.stack(out)


BAGS = st.lists(st.lists(st.integers(0, 4), max_size=5), min_size=1, max_size=5)


def flat(bags):
    return torch.tensor([i for bag in bags for i in bag], dtype=torch.int64), torch.tensor([0, *map(len, bags)]).cumsum(
        0
    )


@settings(max_examples=150, deadline=None)
@given(
    bags=BAGS, mode=st.sampled_from(MODES), weighted=st.booleans(), padding=st.sampled_from([None, 0, 3, -1]),
    sparse=st.booleans(), seed=st.integers(0, 999),
)  # fmt: skip
def test_every_mode_is_what_is_told_and_so_are_its_gradients(bags, mode, weighted, padding, sparse, seed):
    torch.manual_seed(seed)
    ids, offsets = flat(bags)
    weight = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    factors = (torch.rand(len(ids), dtype=torch.float64) + 0.1).requires_grad_() if weighted else None
    got = ours.embedding_bag(
        ids, weight, offsets, mode=mode, sparse=sparse and mode != "max", per_sample_weights=factors,
        include_last_offset=True, padding_idx=padding,
    )  # fmt: skip
    listed = None if factors is None else [list(each) for each in factors.split([len(bag) for bag in bags])]
    expected = slow(weight, bags, listed, mode, padding % 5 if padding is not None else None)
    torch.testing.assert_close(got, expected)
    inputs = [weight] if factors is None else [weight, factors]
    grad = torch.randn_like(got)
    if not expected.requires_grad:  # nothing but empty bags
        expected = expected + 0 * sum(each.sum() for each in inputs)
    theirs = torch.autograd.grad(expected, inputs, grad, materialize_grads=True)
    for mine, their in zip(torch.autograd.grad(got, inputs, grad), theirs, strict=True):
        torch.testing.assert_close(mine.to_dense(), their)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_torchs_kernels_and_ours_are_one(mode, weighted, monkeypatch):
    """What is handed to torch (other devices, compilers) is what the kernels give, gradients included."""
    ids, offsets = torch.randint(6, (30,)), torch.tensor([0, 4, 4, 11, 29])
    factors = torch.rand(30, dtype=torch.float64) if weighted else None
    if factors is not None:
        factors[[11, 12]] = 0
    kwargs = {"offsets": offsets, "mode": mode, "padding_idx": 2, "per_sample_weights": factors}
    weight = torch.randn(6, 3, dtype=torch.float64)
    found = run(ours.embedding_bag, weight, ids, kwargs)
    monkeypatch.setattr(ours.bag, "_by_kernels", lambda *args: False)
    for got, expected in zip(run(ours.embedding_bag, weight, ids, kwargs), found, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("by_kernels", [True, False])
def test_the_first_of_equal_weighted_rows_has_the_gradient(by_kernels, monkeypatch):
    if not by_kernels:
        monkeypatch.setattr(ours.bag, "_by_kernels", lambda *args: False)
    weight = torch.tensor([[-1.0, 2.0], [3.0, 3.0]], dtype=torch.float64, requires_grad=True)
    factors = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0], dtype=torch.float64, requires_grad=True)
    out = ours.embedding_bag([0, 1, 1, 1, 1], weight, [0, 3], mode="max", per_sample_weights=factors)
    assert out.tolist() == [[0.0, 2.0], [3.0, 3.0]]
    out.sum().backward()
    assert factors.grad.tolist() == [2.0, 3.0, 0.0, 6.0, 0.0]
    assert weight.grad.tolist() == [[0.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("mode", MODES)
def test_zero_weights_make_a_bag_empty_and_padding_is_left_out(mode):
    weight = torch.full((3, 2), -torch.inf, requires_grad=True)
    with torch.no_grad():
        weight[1] = 2.0
    factors = torch.tensor([0.0, 0.0, 5.0, 3.0], requires_grad=True)
    out = ours.embedding_bag(
        [[1, 1], [0], [], [0, 1]], weight, mode=mode, per_sample_weights=factors[[0, 1, 2, 2, 3]], padding_idx=0
    )
    assert torch.equal(out[:3], torch.zeros(3, 2))
    assert (out[3] == {"sum": 6.0, "mean": 2.0, "sqrtn": 2.0, "max": 6.0}[mode]).all()
    out.sum().backward()
    assert weight.grad.isfinite().all()
    assert weight.grad[0].tolist() == [0.0, 0.0]
    assert factors.grad.isfinite().all()
    assert factors.grad[2] == 0


def test_weights_that_cancel_divide_by_zero():
    out = ours.embedding_bag([[0, 1]], torch.tensor([[1.0], [3.0]]), per_sample_weights=[[1.0, -1.0]])
    assert out.tolist() == [[-torch.inf]]


def test_the_scale_of_weights_does_not_matter_to_means():
    weight, factors = torch.randn(4, 3), torch.rand(2, 5)
    ids = torch.randint(4, (2, 5))
    for mode in ("mean", "sqrtn"):
        once, thrice, even, none = (
            ours.embedding_bag(ids, weight, mode=mode, per_sample_weights=each)
            for each in (factors, 3 * factors, torch.full((2, 5), 0.2), None)
        )
        torch.testing.assert_close(once, thrice)
        torch.testing.assert_close(even, none)


# Derivatives


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding_idx", [None, 1])
def test_first_and_second_derivatives(mode, weighted, padding_idx):
    torch.manual_seed(2)
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    ids, offsets = torch.tensor([2, 0, 2, 3, 3, 0]), torch.tensor([0, 3, 3])
    factors = (torch.rand(6, dtype=torch.float64) + 0.5).requires_grad_() if weighted else None

    def function(weight, factors=None):
        return ours.embedding_bag(ids, weight, offsets, mode=mode, per_sample_weights=factors, padding_idx=padding_idx)

    inputs = (weight, factors) if weighted else (weight,)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(lambda *args: function(*args).tanh(), inputs)
    for number in range(len(inputs)):  # each alone as well
        alone = [each.detach().requires_grad_(i == number) for i, each in enumerate(inputs)]
        assert torch.autograd.gradgradcheck(lambda *args: function(*args).tanh(), alone)


def test_a_table_may_move_between_forward_and_backward():
    weight = torch.randn(4, 3, requires_grad=True)
    out = ours.embedding_bag([[0, 1]], weight, mode="sum", per_sample_weights=torch.ones(1, 2))
    with torch.no_grad():
        weight.add_(1)
    out.sum().backward()
    assert weight.grad.sum() == 6
    factors = torch.ones(1, 2, requires_grad=True)
    out = ours.embedding_bag([[0, 1]], weight, mode="sum", per_sample_weights=factors)
    with torch.no_grad():
        weight.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


# Row gradients


@pytest.mark.parametrize("mode", ["sum", "mean", "sqrtn"])
@pytest.mark.parametrize("padding_idx", [None, 0, 4])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_row_gradients_have_one_summed_row_for_each_id(mode, padding_idx, dtype):
    ids = torch.tensor([[4, 0, 4], [2, 4, 0]])
    weight = torch.randn(6, 3, dtype=dtype, requires_grad=True)
    for times in (1, 2) if dtype != torch.float16 else (1,):  # torch cannot add two sparse ones of float16
        ours.embedding_bag(ids, weight, mode=mode, sparse=True, padding_idx=padding_idx).sum().backward()
        grad = weight.grad
        assert grad.layout == torch.sparse_coo
        if times == 1:
            assert grad._indices()[0].tolist() == [i for i in (0, 2, 4) if i != padding_idx]
        dense = weight.detach().requires_grad_()
        ours.embedding_bag(ids, dense, mode=mode, padding_idx=padding_idx).sum().backward()
        assert torch.equal(grad.to_dense(), times * dense.grad)


def test_a_row_gradient_is_not_expanded():
    ids, weight = torch.zeros(50, 100, dtype=torch.int64), torch.randn(3, 8, requires_grad=True)
    ours.embedding_bag(ids, weight, sparse=True, mode="sum").sum().backward()
    assert weight.grad._values().shape == (1, 8)
    assert (weight.grad._values() == 5000).all()


# Which kernels


def test_kernels_are_ours_where_it_pays(monkeypatch):
    taken = []
    monkeypatch.setattr(ours.bag, "pool", lambda weight, ids, *args: taken.append(len(ids)) or weight[:1])
    weight, ids = torch.randn(9, 3), torch.tensor([[1, 2]])
    many = ids.expand(100_000, 2)
    ours.embedding_bag(ids, weight)
    assert taken == []
    ours.embedding_bag(many, weight)
    ours.embedding_bag(ids, weight, mode="sqrtn")
    ours.embedding_bag(ids, weight, per_sample_weights=torch.ones(1, 2))
    ours.embedding_bag(ids, weight.requires_grad_())
    assert taken == [200_000, 2, 2, 2]
    with torch.no_grad():
        ours.embedding_bag(ids, weight)
    ours.embedding_bag(ids, weight, scale_grad_by_freq=True)
    ours.embedding_bag(ids, weight.double().t().contiguous().t())
    assert len(taken) == 4


def test_tracers_and_dispatch_modes_see_torchs_operations():
    weight, ids = torch.randn(5, 3, requires_grad=True), torch.randint(5, (4, 2))
    traced = torch.fx.experimental.proxy_tensor.make_fx(lambda ids: ours.embedding_bag(ids, weight, mode="sum"))(ids)
    other = ids.flip(0)
    assert torch.equal(traced(other), ours.embedding_bag(other, weight, mode="sum"))


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weighted", [False, True])
def test_functional_transforms(mode, weighted):
    weights, ids = torch.randn(2, 5, 3), torch.randint(5, (4, 2))
    factors = torch.rand(4, 2) if weighted else None

    def loss(weight):
        return ours.embedding_bag(ids, weight, mode=mode, per_sample_weights=factors).square().sum()

    w = weights[0].clone().requires_grad_()
    loss(w).backward()
    torch.testing.assert_close(torch.func.grad(loss)(weights[0]), w.grad)
    torch.testing.assert_close(torch.func.vmap(loss)(weights), torch.stack([loss(each) for each in weights]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weighted", [False, True])
def test_compiled_code_and_the_meta_device(mode, weighted):
    torch._dynamo.reset()
    weight, ids = torch.randn(5, 3, requires_grad=True), torch.randint(5, (4, 2))
    factors = torch.rand(4, 2) if weighted else None

    def function(ids, weight, factors):
        return ours.embedding_bag(ids, weight, mode=mode, per_sample_weights=factors, padding_idx=2)

    expected = function(ids, weight, factors)
    (by,) = torch.autograd.grad(expected.sin().sum(), weight)
    got = torch.compile(function, backend="aot_eager")(ids, weight, factors)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(torch.autograd.grad(got.sin().sum(), weight)[0], by)
    on_meta = [None if each is None else each.to("meta") for each in (ids, weight, factors)]
    if not (weighted or mode == "sqrtn"):
        assert function(*on_meta).shape == (4, 3)


# Without pooling


@pytest.mark.parametrize("sparse", [False, True])
def test_mode_none_gives_the_rows_of_each_bag(sparse):
    weight = torch.randn(5, 3, requires_grad=True)
    bags = [[1, 2, 0], [], [0, 0], [4]]
    out = ours.embedding_bag(bags, weight, mode="none", padding_idx=0, sparse=sparse)
    assert out.layout == torch.jagged
    assert [len(each) for each in out.unbind()] == [2, 0, 0, 1]
    assert torch.equal(out.values(), weight[[1, 2, 4]])
    out.values().sum().backward()
    assert weight.grad.is_sparse == sparse
    assert weight.grad.to_dense()[:, 0].tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]


def test_mode_none_with_weights_and_limits():
    weight = torch.full((5, 4), 2.0)
    factors = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    out = ours.embedding_bag([[1, 2], [3, 1]], weight, mode="none", per_sample_weights=factors, max_norm=2.0)
    assert out.shape[0] == 2
    assert weight[:, 0].tolist() == pytest.approx([2.0, 1.0, 1.0, 1.0, 2.0])
    assert out.values()[:, 0].tolist() == pytest.approx([1.0, 2.0, 3.0, 4.0])
    out.values().sum().backward()
    assert factors.grad.flatten().tolist() == pytest.approx([4.0] * 4)
    assert ours.embedding_bag(torch.zeros(3, 0).long(), weight, mode="none").values().shape == (0, 4)


# What is refused


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("kwargs", [{}, {"max_norm": 1.0}, {"padding_idx": 0}], ids=repr)
def test_bags_refuse_ids_without_a_row(mode, dtype, kwargs):
    for ids, told in [([[1, 4]], "4 at [0, 1]"), ([[-1, 2]], "-1 at [0, 0]"), ([[0, 2**40]], "at [0, 1]")]:
        weight = torch.full((4, 3), 2.0, dtype=dtype)
        with pytest.raises(OutOfRangeError, match="index out of range in self") as caught:
            ours.embedding_bag(torch.tensor(ids), weight, mode=mode, name="words", **kwargs)
        assert told in str(caught.value)
        assert "table 'words'" in str(caught.value)
        assert torch.equal(weight, torch.full((4, 3), 2.0, dtype=dtype))


@pytest.mark.parametrize(
    ("offsets", "include_last", "told"),
    [
        ([0, 3, 1], False, r"got 1 at \[2\] after 3"),
        ([0, 4, 4, 1], False, r"got 1 at \[3\] after 4"),
        ([0, -9], False, r"got -9 at \[1\] after 0"),
        ([1, 2], False, r"got 1 at \[0\]\)"),
        ([-1], False, r"got -1 at \[0\]\)"),
        ([0, 7], False, r"stay within the number of ids, 4 \(got 7 at \[1\]"),
        ([0, 2, 2], True, r"end at the number of ids, 4 \(got 2 at \[2\]"),
        ([0, 3, 1, 4], True, r"got 1 at \[2\] after 3"),
    ],
)
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_offsets_that_do_not_cut_the_ids_into_bags_are_refused(offsets, include_last, told, mode, dtype):
    ids = torch.tensor([0, 1, 2, 3])
    with pytest.raises(ValueError, match=told) as caught:
        ours.embedding_bag(
            ids, torch.ones(4, 2), torch.tensor(offsets, dtype=dtype), mode=mode,
            include_last_offset=include_last, name="words",
        )  # fmt: skip
    assert "offsets into table 'words' must start at 0" in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(
    offsets=st.lists(st.integers(-2, 7), min_size=1, max_size=5),
    include_last=st.booleans(),
    mode=st.sampled_from(["sum", "mean", "max"]),
)
def test_offsets_are_taken_exactly_when_they_cut_the_ids_into_bags(offsets, include_last, mode):
    ids, weight = torch.tensor([3, 0, 2, 2, 1]), torch.randn(4, 2)
    ends = offsets[1:] if include_last else [*offsets[1:], len(ids)]
    sound = offsets[0] == 0 and offsets == sorted(offsets) and offsets[-1] <= len(ids)
    sound = sound and (not include_last or offsets[-1] == len(ids))
    if not sound:
        with pytest.raises(ValueError, match="offsets into the table must"):
            ours.embedding_bag(ids, weight, offsets, mode=mode, include_last_offset=include_last)
        return
    out = ours.embedding_bag(ids, weight, offsets, mode=mode, include_last_offset=include_last)
    pool = {"sum": torch.sum, "mean": torch.mean, "max": torch.amax}[mode]
    bags = [weight[ids[start:end]] for start, end in zip(offsets, ends, strict=False)]
    expected = [pool(bag, 0) if len(bag) else torch.zeros(2) for bag in bags]
    torch.testing.assert_close(out, torch.stack(expected) if expected else torch.zeros(0, 2))


def test_bag_arguments_that_torch_refuses_keep_torchs_words():
    with pytest.raises(ValueError, match="if input is 2D, then offsets has to be None"):
        ours.embedding_bag([[0, 1]], torch.ones(4, 2), [0])
    with pytest.raises(ValueError, match="offsets has to be a 1D Tensor"):
        ours.embedding_bag([0, 1], torch.ones(4, 2))
    with pytest.raises(ValueError, match="mode has to be one of"):
        ours.embedding_bag([[0, 1]], torch.ones(4, 2), mode="median")
    with pytest.raises(RuntimeError, match=r"offsets must be integers \(got torch.float32\)"):
        ours.embedding_bag([0, 1], torch.ones(4, 2), torch.tensor([0.0]))
