"""The forms that bags come in, each against offsets; and what is refused, with its position."""

import numpy as np
import pandas
import polars
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import catembed.functional as ours
from catembed import OutOfRangeError
from catembed.functional import Jagged

BAGS = [[3, 0, 2], [], [1], [2, 2]]
FLAT, OFFSETS = torch.tensor([3, 0, 2, 1, 2, 2]), torch.tensor([0, 3, 3, 4, 6])
MATRIX = torch.tensor([[3, 0, 2], [9, -7, 9], [1, 9, 9], [2, -1, 2]])
MASK = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0], [1, 0, 1]], dtype=torch.bool)


def nested(values=FLAT, offsets=OFFSETS):
    return torch.nested.nested_tensor_from_jagged(values, offsets)


def with_holes(values=FLAT):
    spaced = torch.cat([values[:3], values[:1], values[3:]])  # one that no bag has
    return torch.nested.nested_tensor_from_jagged(spaced, torch.tensor([0, 4, 4, 5, 7]), torch.tensor([3, 0, 1, 2]))


def whole_list(kind):
    column = pa.array([[7, 7], *BAGS, [8]], kind)
    return column.slice(1, 4)


FORMS = {
    "lists": BAGS,
    "tuples": tuple(map(tuple, BAGS)),
    "arrays": [np.array(bag, np.int32) for bag in BAGS],
    "tensors": [torch.tensor(bag, dtype=torch.int64) for bag in BAGS],
    "mixed": [np.array([3, 0, 2]), (), [np.int8(1)], torch.tensor([2, 2])],
    "ranges": [[3, 0, 2], range(0), range(1, 2), (2, 2)],
    "objects": np.array([*BAGS, None], dtype=object)[:-1],
    "jagged": Jagged(FLAT, OFFSETS),
    "jagged int32": Jagged(FLAT.int(), OFFSETS.int()),
    "nested": nested(),
    "nested int32": nested(FLAT.int()),
    "nested with holes": with_holes(),
    "arrow": pa.array(BAGS),
    "arrow slice": whole_list(pa.list_(pa.int64())),
    "arrow uint8": whole_list(pa.list_(pa.uint8())),
    "arrow large": whole_list(pa.large_list(pa.int32())),
    "arrow view": whole_list(pa.list_view(pa.int64())),
    "arrow chunks": pa.chunked_array([pa.array(BAGS[:2]), pa.array(BAGS[2:], pa.list_(pa.int64()))]),
    "pandas": pandas.Series(BAGS, index=list("abcd")),
    "pandas arrays": pandas.Series([np.array(bag, np.int64) for bag in BAGS]),
    "pandas arrow": pandas.Series(BAGS, dtype=pandas.ArrowDtype(pa.list_(pa.int16()))),
    "polars": polars.Series("x", BAGS),
}


@pytest.mark.parametrize("mode", ["sum", "mean", "max", "sqrtn"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_bags(form, mode):
    weight = torch.randn(4, 3, requires_grad=True)
    expected = ours.embedding_bag(FLAT, weight, OFFSETS, mode=mode, include_last_offset=True)
    assert torch.equal(ours.embedding_bag(FORMS[form], weight, mode=mode), expected)


@pytest.mark.parametrize("width", [2, 0])
def test_arrow_lists_of_a_fixed_size(width):
    column = pa.array([[3, 0][:width], [1, 1][:width]], pa.list_(pa.int64(), width))
    weight = torch.randn(4, 3)
    out = ours.embedding_bag(column, weight, mode="sum")
    assert torch.equal(out, weight[[3, 1]] + weight[[0, 1]] if width else torch.zeros(2, 3))


@pytest.mark.parametrize("mode", ["sum", "mean", "max", "sqrtn", "none"])
def test_lengths_and_masks_are_offsets(mode):
    weight = torch.randn(4, 3)
    expected = ours.embedding_bag(FLAT, weight, OFFSETS, mode=mode, include_last_offset=True)
    for found in (
        ours.embedding_bag(FLAT, weight, lengths=[3, 0, 1, 2], mode=mode),
        ours.embedding_bag(FLAT.int(), weight, lengths=torch.tensor([3, 0, 1, 2], dtype=torch.uint8), mode=mode),
        ours.embedding_bag(MATRIX, weight, mask=MASK, mode=mode),
        ours.embedding_bag(MATRIX.tolist(), weight, mask=MASK.tolist(), mode=mode),
        ours.embedding_bag(
            torch.where(MASK, MATRIX, 9), torch.cat([weight, torch.ones(6, 3)]), padding_idx=9, mode=mode
        ),
    ):
        if mode == "none":
            assert [len(each) for each in found.unbind()] == [3, 0, 1, 2]
            found, expected_values = found.values(), expected.values()
            assert torch.equal(found, expected_values)
        else:
            assert torch.equal(found, expected)


FACTORS = [[0.5, 1.0, 2.0], [], [4.0], [0.25, 0.125]]
FLAT_FACTORS = torch.tensor([w for bag in FACTORS for w in bag])


@pytest.mark.parametrize(
    ("input", "kwargs", "factors"),
    [
        (FLAT, {"lengths": [3, 0, 1, 2]}, FLAT_FACTORS),
        (FLAT, {"offsets": OFFSETS[:-1]}, FLAT_FACTORS.tolist()),
        (BAGS, {}, FACTORS),
        (BAGS, {}, FLAT_FACTORS),
        (BAGS, {}, FLAT_FACTORS.numpy()),
        (BAGS, {}, nested(FLAT_FACTORS)),
        (BAGS, {}, pa.array(FACTORS)),
        (pa.array(BAGS), {}, polars.Series("w", FACTORS)),
        (nested(), {}, nested(FLAT_FACTORS)),
        (with_holes(), {}, with_holes(FLAT_FACTORS)),
        (MATRIX, {"mask": MASK}, torch.zeros(4, 3).masked_scatter(MASK, FLAT_FACTORS)),
    ],
)
def test_weights_come_in_the_form_of_the_ids(input, kwargs, factors):
    weight = torch.randn(4, 3)
    for mode in ("sum", "mean"):
        found = ours.embedding_bag(input, weight, mode=mode, per_sample_weights=factors, **kwargs)
        expected = torch.stack(
            [
                (weight[ids] * torch.tensor(w)[:, None]).sum(0) / (sum(w) if mode == "mean" else 1)
                if ids
                else torch.zeros(3)
                for ids, w in zip(BAGS, FACTORS, strict=True)
            ]
        )
        torch.testing.assert_close(found, expected)


def test_weights_of_one_length_beside_ids_of_one_length():
    weight = torch.eye(3)
    assert ours.embedding_bag(pa.array([[0, 1]]), weight, mode="sum", per_sample_weights=[[2, 3]]).tolist() == [
        [2, 3, 0]
    ]


def test_gradients_reach_weights_in_every_form():
    factors = FLAT_FACTORS.clone().requires_grad_()
    weight = torch.randn(4, 3)
    ours.embedding_bag(nested(), weight, mode="sum", per_sample_weights=nested(factors)).sum().backward()
    assert torch.equal(factors.grad, weight[FLAT].sum(1))
    matrix = torch.ones(4, 3, requires_grad=True)
    ours.embedding_bag(MATRIX, weight, mode="sum", mask=MASK, per_sample_weights=matrix).sum().backward()
    assert torch.equal(matrix.grad, torch.zeros(4, 3).masked_scatter(MASK, weight[FLAT].sum(1)))


@settings(max_examples=60, deadline=None)
@given(bags=st.lists(st.lists(st.integers(0, 3), max_size=4), max_size=5))
def test_any_list_of_lists(bags):
    weight = torch.randn(4, 3)
    if not bags:
        with pytest.raises(ValueError, match="offsets has to be a 1D Tensor but got None"):
            ours.embedding_bag(bags, weight)  # no list of lists: it could be ids without offsets
        return
    expected = [weight[bag].sum(0) for bag in bags]
    torch.testing.assert_close(ours.embedding_bag(bags, weight, mode="sum"), torch.stack(expected))
    kind = pa.list_(pa.int64())
    torch.testing.assert_close(ours.embedding_bag(pa.array(bags, kind), weight, mode="sum"), torch.stack(expected))


def test_a_column_without_bags_gives_none():
    for column in (pa.array([], pa.list_(pa.int64())), pa.chunked_array([], pa.list_(pa.int64()))):
        assert ours.embedding_bag(column, torch.ones(4, 3)).shape == (0, 3)


@pytest.mark.parametrize("mode", ["sum", "mean", "max", "sqrtn"])
@pytest.mark.parametrize("trained", [False, True])
def test_matrices_without_columns_give_zeros(mode, trained):
    weight = torch.full((3, 2), -torch.inf, requires_grad=trained)
    for empty in (torch.zeros(4, 0, dtype=torch.int64), np.zeros((4, 0), np.int32), [[], [], [], []]):
        assert torch.equal(ours.embedding_bag(empty, weight, mode=mode), torch.zeros(4, 2))
    factors = torch.ones(4, 0)
    out = ours.embedding_bag(torch.zeros(4, 0, dtype=torch.int64), weight, mode=mode, per_sample_weights=factors)
    assert torch.equal(out, torch.zeros(4, 2))
    assert ours.embedding_bag(torch.zeros(0, 5, dtype=torch.int64), weight, mode=mode).shape == (0, 2)


# Refusals


@pytest.mark.parametrize(
    ("input", "kwargs", "told"),
    [
        ([[0, 1, 4], [2]], {}, r"\(got 4 at \[0, 2\]\)"),
        ([[0], [], [2, -1]], {}, r"\(got -1 at \[2, 1\]\)"),
        ([[0], [2, 2**70]], {}, rf"\(got {2**70} at \[1, 1\]\)"),
        (nested(FLAT + 1), {}, r"\(got 4 at \[0, 0\]\)"),
        (pa.array([[1], [0, 7]], pa.list_(pa.uint64())), {}, r"\(got 7 at \[1, 1\]\)"),
        (MATRIX, {"mask": MASK.roll(1, 0)}, r"got 9 at \[1, 0\], -7 at \[1, 1\], 9 at \[1, 2\]\)"),
        (FLAT + 1, {"lengths": [3, 0, 1, 2]}, r"\(got 4 at \[0\]\)"),
    ],
)
@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("mode", ["sum", "max", "none"])
def test_ids_without_a_row_are_named_where_they_stood(input, kwargs, told, trained, max_norm, mode):
    weight = torch.ones(4, 3, requires_grad=trained)
    with pytest.raises(OutOfRangeError, match=told) as caught:
        ours.embedding_bag(input, weight, mode=mode, max_norm=max_norm, name="words", **kwargs)
    assert "table 'words'" in str(caught.value)


@pytest.mark.parametrize(
    ("input", "told"),
    [
        ([[1, 2], 3], r"ids of table 'words': lists of uneven depth \(got a list at \[0\], 3 at \[1\]\)"),
        ([1, [2]], r"lists of uneven depth \(got a list at \[1\], 1 at \[0\]\)"),
        ([[1], [2, [3]]], r"one level deep \(got a list at \[1, 1\]\)"),
        ([[1], None, [2, 3]], r"a bag is missing \(got None at \[1\]\): a bag without ids is an empty list"),
        (np.array([[1], None], dtype=object), r"a bag is missing \(got None at \[1\]\)"),
        ([[1], [2, None]], r"got None at \[1, 1\]"),
        ([[1], ["a", 2]], r"got 'a' at \[1, 0\]"),
        (pa.array([[1], None]), r"a bag is missing \(got null at \[1\]\)"),
        (pa.array([[1], [2, None]]), r"a value is missing \(got null at \[1, 1\]\)"),
        (pa.array([["a"]]), r"bags hold numbers \(got list<item: string>"),
        (pa.array([1, 2]), "a column of bags has lists in it"),
        (polars.Series("x", [1, 2]), "a column of bags has lists in it"),
        (pandas.Series([[1], None]), r"a bag is missing \(got null at \[1\]\)"),
        (torch.nested.nested_tensor([torch.tensor([1])]), "must be jagged"),
        (nested(torch.ones(6, 2).long()), "two dimensions"),
    ],
)
def test_what_is_no_bags_is_refused_with_its_position(input, told):
    with pytest.raises(TypeError, match=told):
        ours.embedding_bag(input, torch.ones(4, 3), name="words")


def test_bags_of_floats_are_refused_with_torchs_words():
    for bags in ([[1], [1.5, 2]], pa.array([[1.0], [2.0, 3.0]])):
        with pytest.raises(RuntimeError, match=r"Ids must be integers \(got torch.float64\)"):
            ours.embedding_bag(bags, torch.ones(4, 3))


@pytest.mark.parametrize(
    ("factors", "told"),
    [
        ([[1.0] * 3, [], [1.0, 1.0], [1.0] * 2], r"bag \[2\] has 1 ids \(got 2\)"),
        ([[1.0] * 3, []], r"for 4 bags \(got 2\)"),
        (torch.ones(5), r"as many as there are ids, 6 \(got \(5,\)\)"),
        (torch.ones(2, 3), r"as many as there are ids, 6 \(got \(2, 3\)\)"),
        (nested(torch.ones(6), torch.tensor([0, 2, 3, 4, 6])), r"bag \[0\] has 3 ids \(got 2\)"),
    ],
)
def test_weights_of_another_shape_than_bags_are_refused(factors, told):
    with pytest.raises(ValueError, match=rf"per_sample_weights of table 'words' must .*{told}"):
        ours.embedding_bag(BAGS, torch.ones(4, 3), per_sample_weights=factors, name="words")


def test_weights_of_another_shape_are_refused_with_torchs_words():
    words = r"per_sample_weights \(torch.Size\(\[2\]\)\) .* same shape as the input \(torch.Size\(\[6\]\)\).*'words'"
    for kwargs in ({"offsets": [0]}, {"lengths": [6]}):
        with pytest.raises(ValueError, match=words):
            ours.embedding_bag(FLAT, torch.ones(4, 3), per_sample_weights=[1.0, 2.0], name="words", **kwargs)
    with pytest.raises(RuntimeError, match=r"per_sample_weights.*torch.FloatTensor does not equal torch.DoubleTensor"):
        ours.embedding_bag(FLAT, torch.ones(4, 3), [0], mode="sum", per_sample_weights=torch.ones(6).double())


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ([3, 2], r"add up to the number of ids, 6 \(got a sum of 5\)"),
        ([3, -1, 4], r"\(got -1 at \[1\]\)"),
        ([7], r"\(got 7 at \[0\]\)"),
        ([2**62] * 4, r"\(got 4611686018427387904 at \[0\]\)"),
    ],
)
def test_lengths_that_do_not_add_up_are_refused(lengths, told):
    for trained in (False, True):
        with pytest.raises(ValueError, match=rf"lengths of bags of table 'words' must .*{told}"):
            ours.embedding_bag(FLAT, torch.ones(4, 3, requires_grad=trained), lengths=lengths, name="words")


def test_lengths_are_integers_and_cut_flat_ids():
    with pytest.raises(RuntimeError, match="lengths must be integers"):
        ours.embedding_bag(FLAT, torch.ones(4, 3), lengths=[1.5, 4.5])
    with pytest.raises(ValueError, match="a padded matrix takes mask="):
        ours.embedding_bag(MATRIX, torch.ones(4, 3), lengths=[3, 0, 1, 2])


def test_masks_are_bools_of_the_shape_of_the_ids():
    with pytest.raises(TypeError, match=r"mask must hold bools.*got torch.int64"):
        ours.embedding_bag(MATRIX, torch.ones(4, 3), mask=MASK.long())
    for mask in (MASK[:3], MASK[:, :2], MASK.flatten()):
        with pytest.raises(ValueError, match="mask must have the shape of the ids of table 'words'"):
            ours.embedding_bag(MATRIX, torch.ones(4, 3), mask=mask, name="words")


def test_bags_are_cut_in_one_way_only():
    with pytest.raises(ValueError, match="offsets and lengths both say where bags end"):
        ours.embedding_bag(FLAT, torch.ones(4, 3), OFFSETS, lengths=[6])
    for kwargs in ({"offsets": [0]}, {"lengths": [6]}, {"mask": MASK}):
        with pytest.raises(ValueError, match="cut already"):
            ours.embedding_bag(BAGS, torch.ones(4, 3), **kwargs)


def test_nested_offsets_that_leave_the_ids_are_refused():
    with pytest.raises(ValueError, match=r"got 1 at \[2\] after 5"):
        ours.embedding_bag(nested(offsets=torch.tensor([0, 5, 1, 6])), torch.ones(4, 3))


@pytest.mark.parametrize("form", ["lists", "nested"])
def test_forms_in_compiled_code(form):
    torch._dynamo.reset()
    weight = torch.randn(4, 3)
    function = torch.compile(lambda input: ours.embedding_bag(input, weight, mode="sum"), backend="aot_eager")
    assert torch.equal(function(FORMS[form]), ours.embedding_bag(FORMS[form], weight, mode="sum"))


def test_lengths_and_masks_in_compiled_code():
    torch._dynamo.reset()
    weight = torch.randn(4, 3)
    expected = ours.embedding_bag(BAGS, weight)
    lengths = torch.compile(lambda lengths: ours.embedding_bag(FLAT, weight, lengths=lengths), backend="aot_eager")
    assert torch.equal(lengths(torch.tensor([3, 0, 1, 2])), expected)
    with pytest.raises(RuntimeError, match="lengths must be 0 or more and add up to the number of ids, 6"):
        lengths(torch.tensor([3, 0, 1, 1]))
    masked = torch.compile(lambda mask: ours.embedding_bag(MATRIX, weight, mask=mask), backend="aot_eager")
    assert torch.equal(masked(MASK), expected)
