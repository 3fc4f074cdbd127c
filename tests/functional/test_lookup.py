"""``embedding`` against torch's own, on the cases torch ships and on those it gets wrong."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing._internal.common_methods_invocations import op_db

import catembed.functional as ours
from catembed import OutOfRangeError
from catembed.errors import CatembedError
from catembed.functional import ids

(OP,) = [op for op in op_db if op.name == "nn.functional.embedding"]
FLOATS = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
INTEGERS = [
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64,
]  # fmt: skip


def run(function, weight, ids, kwargs):
    """Result, gradient of ``weight`` (or its refusal), and the weight afterwards, for the effect of max_norm."""
    weight = weight.detach().clone().requires_grad_()
    out = function(ids, weight, **kwargs)
    try:
        out.backward(torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view(out.shape))
    except RuntimeError as error:  # torch has no sparse gradient that is scaled by frequency
        return out.detach(), (type(error), str(error)), weight.detach()
    return out.detach(), weight.grad, weight.detach()


def assert_same(got, expected):
    """The same values bit for bit, with the same dtype and layout; a sparse gradient in the same order."""
    if not isinstance(expected, torch.Tensor):
        assert got == expected
        return
    assert (got.dtype, got.layout, got.shape) == (expected.dtype, expected.layout, expected.shape)
    if expected.layout == torch.sparse_coo:
        assert got.is_coalesced() == expected.is_coalesced()
        assert_same(got._indices(), expected._indices())
        assert_same(got._values(), expected._values())
    else:
        assert torch.equal(got, expected)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_every_sample_of_torch(dtype):
    samples = [s for grad in (False, True) for s in OP.sample_inputs("cpu", dtype, requires_grad=grad)]
    assert len(samples) >= 12
    for sample in samples:
        case = (sample.input, sample.args[0], sample.kwargs)
        for expected, got in zip(run(F.embedding, *case), run(ours.embedding, *case), strict=True):
            assert_same(got, expected)


@pytest.mark.parametrize("sparse", [False, True])
def test_sparse_gradients_keep_duplicates_in_lookup_order(sparse):
    ids = torch.tensor([[2, 0, 2], [1, 2, 0]])
    weight = torch.randn(4, 3)
    expected, got = (run(f, weight, ids, {"sparse": sparse}) for f in (F.embedding, ours.embedding))
    assert_same(got[1], expected[1])
    if sparse:
        assert not got[1].is_coalesced()
        assert got[1]._indices().tolist() == [[2, 0, 2, 1, 2, 0]]


def test_every_error_input_of_torch():
    errors = list(OP.error_inputs("cpu"))
    assert errors
    for case in errors:
        with pytest.raises(case.error_type, match=case.error_regex):
            ours.embedding(case.sample_input.args[0], case.sample_input.input)


@pytest.mark.parametrize("kwargs", [{}, {"padding_idx": 1}], ids=repr)
def test_first_and_second_derivatives(kwargs):
    weight = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    ids = torch.tensor([[2, 0, 2], [3, 3, 0]])  # row 1 is not asked for, so padding_idx=1 changes no derivative
    assert torch.autograd.gradcheck(lambda w: ours.embedding(ids, w, **kwargs), weight)
    assert torch.autograd.gradgradcheck(lambda w: ours.embedding(ids, w, **kwargs).tanh(), weight)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_any_integer_dtype_is_an_index(dtype, sparse):
    weight = torch.randn(4, 3)
    ids = torch.tensor([[3, 0], [1, 3]])
    kwargs = {"sparse": sparse}
    for expected, got in zip(
        run(ours.embedding, weight, ids, kwargs), run(ours.embedding, weight, ids.to(dtype), kwargs), strict=True
    ):
        assert_same(got, expected)


@pytest.mark.parametrize(
    "ids",
    [
        [[3, 0], [1, 3]],
        ((3, 0), [1, 3]),
        [np.array([3, 0]), np.array([1, 3])],
        [[torch.tensor(3), 0], [np.int8(1), 3]],
        np.array([[3, 0], [1, 3]], dtype=np.uint16),
        np.array([[3, 0], [1, 3]], dtype=">i4"),
        np.array([[1, 3], [3, 0]])[::-1],
        np.asfortranarray(np.array([[3, 0], [1, 3]])),
    ],
    ids=repr,
)
def test_lists_and_arrays_are_ids(ids):
    weight = torch.randn(4, 3)
    assert torch.equal(ours.embedding(ids, weight), weight[torch.tensor([[3, 0], [1, 3]])])


@pytest.mark.parametrize("one", [2, np.int32(2), np.array(2), torch.tensor(2)], ids=repr)
def test_one_id_is_one_row(one):
    weight = torch.randn(4, 3)
    assert torch.equal(ours.embedding(one, weight), weight[2])


def test_a_read_only_array_neither_warns_nor_changes(recwarn):
    ids = np.array([1, 2])
    ids.flags.writeable = False
    ours.embedding(ids, torch.randn(4, 3))
    assert not recwarn
    assert ids.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("empty", "shape"),
    [([], (0, 3)), ([[], []], (2, 0, 3)), (np.zeros((0, 2), np.int8), (0, 2, 3)), (torch.zeros(0).long(), (0, 3))],
    ids=repr,
)
@pytest.mark.parametrize("rows", [0, 4])
def test_no_ids_give_no_rows(empty, shape, rows):
    weight = torch.randn(rows, 3, requires_grad=True)
    out = ours.embedding(empty, weight)
    assert out.shape == shape
    out.sum().backward()
    assert torch.equal(weight.grad, torch.zeros(rows, 3))


@pytest.mark.parametrize("max_norm", [None, 1.0])
def test_zero_width_rows(max_norm):
    weight = torch.randn(4, 0, requires_grad=True)
    out = ours.embedding([[1], [3]], weight, max_norm=max_norm)
    assert out.shape == (2, 1, 0)
    out.sum().backward()
    assert weight.grad.shape == (4, 0)
    with pytest.raises(OutOfRangeError, match=r"4 at \[1\]"):
        ours.embedding([1, 4], weight, max_norm=max_norm)


TORCHS_WORDS = r"Expected tensor for argument #[12] 'indices' to have .* scalar types: Long, Int; but got"


@pytest.mark.parametrize(
    "ids",
    [
        torch.tensor([1.0]), torch.zeros(0), torch.tensor([1 + 0j]), torch.tensor([True]), 1.5, [1, 2.0], [True], True,
        np.float32(1), np.zeros(0), np.array([False]),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("kwargs", [{}, {"max_norm": 1.0}], ids=repr)
def test_floats_and_bools_fail_with_torchs_words_and_a_hint(ids, kwargs):
    with pytest.raises(RuntimeError, match=TORCHS_WORDS) as caught:
        ours.embedding(ids, torch.ones(4, 3), **kwargs)
    assert "Ids must be integers (got torch." in str(caught.value)
    assert ".long() makes them ids" in str(caught.value)
    assert not isinstance(caught.value, CatembedError)


@pytest.mark.parametrize(
    ("ids", "told"),
    [
        (None, "got NoneType"),
        ("banana", "got str.*CategoryEmbedding"),
        ({1}, "got set"),
        ([[1, 2], [3, None]], r"got None at \[1, 1\]"),
        ([1, "2"], r"got '2' at \[1\]"),
        ([2**70, True], r"got True at \[1\]"),
        (np.array([1, 2], dtype=object), "got a NumPy array of object"),
        (np.array(["a"]), "got a NumPy array of <U1"),
        (np.datetime64(3, "D"), "datetime64"),
    ],
    ids=repr,
)
def test_what_holds_no_integers_is_refused(ids, told):
    with pytest.raises(TypeError, match=rf"argument 'indices' must be Tensor.*{told}"):
        ours.embedding(ids, torch.ones(4, 3))


def test_a_ragged_list_is_refused():
    with pytest.raises(ValueError, match="rows differ in length"):
        ours.embedding([[1], [2, 3]], torch.ones(4, 3))


def test_ids_without_values_are_refused_by_a_table_with_values():
    ids = torch.zeros(2, dtype=torch.int64, device="meta")
    with pytest.raises(RuntimeError, match="ids are on the meta device"):
        ours.embedding(ids, torch.ones(4, 3))
    assert ours.embedding(ids, torch.ones(4, 3, device="meta")).device.type == "meta"


def range_error(ids, rows=3, name=None, function=ours.embedding, **kwargs):
    with pytest.raises(OutOfRangeError) as caught:
        function(ids, torch.ones(rows, 2), name=name, **kwargs)
    assert isinstance(caught.value, IndexError)
    assert isinstance(caught.value, CatembedError)
    return str(caught.value)


def test_range_error_in_full():
    assert range_error(torch.tensor([[0, 3], [-1, 2]]), name="fruit") == (
        "index out of range in self: 2 of 4 ids have no row in table 'fruit', allowed are [0, 3) "
        "(got 3 at [0, 1], -1 at [1, 0]). "
        "-1 is the code pandas and Arrow give a missing value: give missing values a row of their own. "
        "3 is num_embeddings: an unseen category, or ids that count from 1."
    )


@pytest.mark.parametrize(
    ("ids", "rows", "told"),
    [
        (torch.tensor(3), 3, "1 of 1 ids has no row in the table, allowed are [0, 3) (got 3). 3 is num_embeddings"),
        (3, 3, "(got 3). 3 is num_embeddings"),
        (-1, 3, "(got -1). -1 is the code pandas and Arrow give a missing value"),
        ([0, -2], 3, "(got -2 at [1]). A negative id does not count from the end."),
        ([0, 7], 3, "(got 7 at [1]). Larger ids come from another vocabulary"),
        ([2**40], 3, f"(got {2**40} at [0]). Larger ids"),
        ([1, 2**63], 3, f"1 of 2 ids has no row in the table, allowed are [0, 3) (got {2**63} at [1])"),
        ([np.int64(1), 2**70], 3, f"(got {2**70} at [1])"),
        ([np.uint64(2**63), -1], 3, f"(got {2**63} at [0], -1 at [1])"),
        (-(2**70), 3, f"(got {-(2**70)}). A negative id"),
        (torch.tensor([2**63, 2**64 - 1], dtype=torch.uint64), 3, f"(got {2**63} at [0], {2**64 - 1} at [1])"),
        (np.array([2**64 - 3], dtype=np.uint64), 3, f"(got {2**64 - 3} at [0])"),
        (torch.tensor([255], dtype=torch.uint8), 3, "(got 255 at [0])"),
        (torch.tensor([-128], dtype=torch.int8), 3, "(got -128 at [0])"),
        (torch.arange(12).view(3, 4), 3, "9 of 12 ids have no row in the table, allowed are [0, 3) "
         "(got 3 at [0, 3], 4 at [1, 0], 5 at [1, 1], 6 at [1, 2], 7 at [1, 3] and 4 more)."),
        (torch.tensor([[[0, 5, 0], [0, 5, 0]]]), 3, "(got 5 at [0, 0, 1], 5 at [0, 1, 1])"),
        ([0], 0, "1 of 1 ids has no row in the table, allowed are [0, 0)"),
    ],
    ids=lambda value: value if isinstance(value, str) else repr(value),
)  # fmt: skip
@pytest.mark.parametrize("kwargs", [{}, {"max_norm": 1.0}, {"sparse": True}, {"scale_grad_by_freq": True}], ids=repr)
def test_range_errors_name_value_position_range_and_cause(ids, rows, told, kwargs):
    message = range_error(ids, rows, **kwargs)
    assert message.startswith("index out of range in self: ")
    assert told in message


@settings(max_examples=200, deadline=None)
@given(
    ids=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 8), max_size=8),
    rows=st.integers(0, 6),
    kwargs=st.sampled_from([{}, {"max_norm": 0.5}, {"sparse": True}]),
)
def test_ids_are_refused_exactly_when_one_has_no_row(ids, rows, kwargs):
    weight = torch.randn(rows, 2)
    before = weight.clone()
    bad = [i for i in ids if not 0 <= i < rows]
    if bad:
        with pytest.raises(OutOfRangeError, match=f" {len(bad)} of {len(ids)} ids"):
            ours.embedding(torch.tensor(ids, dtype=torch.int64), weight, **kwargs)
        assert torch.equal(weight, before)  # refused before max_norm edits a row
    else:
        out = ours.embedding(torch.tensor(ids, dtype=torch.int64), weight, **kwargs)
        assert torch.equal(out, weight[ids])


def test_the_good_path_never_looks_at_the_ids(monkeypatch):
    looked = []
    monkeypatch.setattr(ids, "_out_of_range_message", lambda *args: looked.append(args))
    ours.embedding(torch.tensor([0, 2]), torch.ones(3, 2), padding_idx=1, sparse=True)
    ours.embedding_bag(torch.tensor([[0, 2]]), torch.ones(3, 2))
    ours.embedding_bag(torch.tensor([[0, 2]]), torch.ones(3, 2, requires_grad=True))
    assert looked == []
    with pytest.raises(IndexError):
        ours.embedding(torch.tensor([3]), torch.ones(3, 2))
    assert len(looked) == 1


# Large lookups


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize(("sparse", "padding_idx"), [(False, None), (False, 3), (True, None), (True, -2)])
def test_a_large_lookup_is_torchs(dtype, sparse, padding_idx):
    ids = torch.randint(100, (2, 5000), dtype=dtype)
    weight = torch.randn(100, 1024, requires_grad=True)  # 41 MB come out
    mine = ours.embedding(ids, weight, padding_idx, sparse=sparse)
    assert type(mine.grad_fn).__name__ == "_LargeLookupBackward"
    theirs = F.embedding(ids, weight, padding_idx, sparse=sparse)
    assert torch.equal(mine, theirs)
    grad = torch.randn_like(mine)
    (found,) = torch.autograd.grad(mine, weight, grad)
    (expected,) = torch.autograd.grad(theirs, weight, grad)
    assert found.layout == expected.layout
    if sparse:
        assert not found.is_coalesced()
        assert torch.equal(found._indices(), expected._indices())
        assert torch.equal(found._values(), expected._values())
    else:
        torch.testing.assert_close(found, expected)


def test_a_large_lookup_can_be_differentiated_twice():
    ids, weight = torch.randint(7, (9000,)), torch.randn(7, 1024, requires_grad=True)
    found = []
    for lookup in (ours.embedding, F.embedding):
        (first,) = torch.autograd.grad(lookup(ids, weight).pow(3).sum(), weight, create_graph=True)
        found.append(torch.autograd.grad(first.pow(2).sum(), weight)[0])
    torch.testing.assert_close(*found)


def test_a_large_lookup_under_transforms():
    ids, weight = torch.randint(7, (9000,)), torch.randn(7, 1024)

    def loss(lookup):
        return lambda weight: lookup(ids, weight).sin().sum()

    mine, theirs = loss(ours.embedding), loss(F.embedding)
    torch.testing.assert_close(torch.func.grad(mine)(weight), torch.func.grad(theirs)(weight))
    tangent = torch.randn_like(weight)
    torch.testing.assert_close(
        torch.func.jvp(mine, (weight,), (tangent,)), torch.func.jvp(theirs, (weight,), (tangent,))
    )
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(weight, tangent)
        assert torch.autograd.forward_ad.unpack_dual(ours.embedding(ids, dual)).tangent is not None


def test_bad_ids_of_a_large_lookup_are_told():
    ids = torch.zeros(9000, dtype=torch.int64)
    ids[77] = 7
    with pytest.raises(OutOfRangeError, match=r"7 at \[77\]"):
        ours.embedding(ids, torch.randn(7, 1024), name="big")
