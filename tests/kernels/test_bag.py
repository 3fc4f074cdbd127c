"""``bag``, ``bag_rows`` and ``bag_dots``: the compiled kernels against their definition.

Numbers are multiples of 1/4, so that sums are exact in any order: what differs by a bit is wrong.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed.kernels import reference_bag
from catembed.kernels.cpu.bag import bag
from catembed.kernels.cpu.bag_dots import bag_dots
from catembed.kernels.cpu.bag_rows import bag_rows
from catembed.kernels.cpu.group import group
from catembed.storage import zeros

MODES = ["sum", "mean", "sqrtn", "max"]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def quarters(*shape, dtype=torch.float32):
    return (torch.randint(-8, 9, shape) / 4).to(dtype)


def wide(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


def run(kernels, weight, ids, offsets, weights, mode, padding, grad):
    """All that the kernels give: pooled rows, what backward needs, gradient rows and products."""
    out = torch.full((len(offsets) - 1, weight.shape[1]), 7.0, dtype=wide(weight.dtype))
    divisors, winners = kernels["bag"](weight, ids, offsets, weights, mode, padding, out)
    groups = group(ids, len(weight))
    targets = torch.where(groups.rows == padding, -1, torch.arange(len(groups.rows)))
    rows = torch.full((len(groups.rows), weight.shape[1]), 7.0, dtype=weight.dtype)
    kernels["bag_rows"](grad, groups, offsets, weights, winners, targets, rows)
    dots = kernels["bag_dots"](grad, weight, ids, offsets, winners)
    return out, divisors, winners, rows, dots


OURS = {"bag": bag, "bag_rows": bag_rows, "bag_dots": bag_dots}
DEFINED = {name: getattr(reference_bag, name) for name in OURS}


def assert_same(got, expected, roots=False):
    """Bit for bit; ``roots``: but for a rounding or two in numbers that were divided, for torch's root is not exact."""
    for number, (a, b) in enumerate(zip(got, expected, strict=True)):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype
            if roots and number < 2:
                torch.testing.assert_close(a, b, rtol=2 * torch.finfo(a.dtype).eps, atol=0)
            else:
                assert torch.equal(a, b)


@given(
    bags=st.lists(st.lists(st.integers(0, 5), max_size=6), max_size=8),
    mode=st.sampled_from(MODES),
    weighted=st.sampled_from([None, "some", "zero"]),
    padding=st.sampled_from([-1, 0, 3]),
    dtype=st.sampled_from(DTYPES),
    int32=st.booleans(),
    width=st.sampled_from([0, 1, 3, 17, 100]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=300, deadline=None)
def test_kernels_do_what_is_defined(bags, mode, weighted, padding, dtype, int32, width, seed):
    torch.manual_seed(seed)
    ids = torch.tensor([i for each in bags for i in each], dtype=torch.int32 if int32 else torch.int64)
    offsets = torch.tensor([0, *map(len, bags)]).cumsum(0)
    weights = {None: None, "some": quarters(len(ids), dtype=dtype), "zero": torch.zeros(len(ids), dtype=dtype)}[
        weighted
    ]
    if weights is not None and mode == "mean":
        weights = weights.abs()  # weights that cancel divide by zero
    case = (
        quarters(6, width, dtype=dtype),
        ids,
        offsets,
        weights,
        mode,
        padding,
        quarters(len(bags), width, dtype=wide(dtype)),
    )
    assert_same(run(OURS, *case), run(DEFINED, *case), roots=mode == "sqrtn")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_bits_on_any_number_of_threads(mode, weighted, threads):
    torch.manual_seed(1)
    lengths = torch.randint(0, 40, (3000,))
    lengths[7] = 30_000  # one bag that is longer than any thread's share
    offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
    ids = torch.randint(5000, (int(offsets[-1]),))
    weights = torch.rand(len(ids)) if weighted else None
    case = torch.randn(5000, 33), ids, offsets, weights, mode, 4, torch.randn(3000, 33)
    found = []
    for number in (1, 2, 5):
        threads(number)
        found.append(run(OURS, *case))
    assert_same(found[1], found[0])
    assert_same(found[2], found[0])


@pytest.mark.parametrize("mode", MODES)
def test_an_id_without_a_row_is_named(mode, threads):
    threads(2)
    ids = torch.zeros(100_000, dtype=torch.int64)
    for bad in (10, -1, 2**62, -(2**63)):
        ids[[40, 99_000]] = torch.tensor([bad, 11])
        for kernel in (bag, reference_bag.bag):
            with pytest.raises(IndexError, match=rf"id {bad} at position 40 is outside \[0, 10\)"):
                kernel(torch.ones(10, 4), ids, torch.tensor([0, 100_000]), None, mode, -1, torch.empty(1, 4))
            with pytest.raises(IndexError, match=rf"id {bad} at position 40 is outside \[0, 10\)"):
                kernel(torch.ones(10, 4), ids, torch.arange(100_001), None, mode, -1, torch.empty(100_000, 4))


@pytest.mark.parametrize("kernel", [bag, reference_bag.bag], ids=["cpu", "reference"])
def test_infinities_and_nan_of_max(kernel):
    inf, nan = torch.inf, torch.nan
    weight = torch.tensor([[-inf], [nan], [2.0], [inf]])
    out = torch.empty(5, 1)
    ids, offsets = torch.tensor([0, 0, 2, 2, 1, 1, 2, 3]), torch.tensor([0, 1, 3, 5, 7, 8])
    _, winners = kernel(weight, ids, offsets, None, "max", -1, out)
    assert torch.equal(
        out.nan_to_num(99.0, posinf=inf, neginf=-inf), torch.tensor([[-inf], [2.0], [99.0], [99.0], [inf]])
    )
    assert winners.tolist() == [[0], [2], [4], [5], [7]]


def test_the_first_of_equal_numbers_wins():
    winners = bag(torch.ones(3, 2), torch.tensor([2, 0, 1]), torch.tensor([0, 3]), None, "max", -1, torch.empty(1, 2))[
        1
    ]
    assert winners.tolist() == [[0, 0]]


def test_rows_beyond_2_to_the_31_numbers():
    table = zeros((70_000_000, 64))  # pages appear where touched
    table[-1], table[-2] = 3.0, 5.0
    ids, offsets = torch.tensor([69_999_999, 69_999_998, 0], dtype=torch.int32), torch.tensor([0, 2, 3])
    for mode, expected in [("sum", 8.0), ("max", 5.0)]:
        out = torch.empty(2, 64)
        _, winners = bag(table, ids, offsets, None, mode, -1, out)
        assert out[:, 0].tolist() == [expected, 0.0]
        assert bag_dots(torch.ones(2, 64), table, ids, offsets, winners).tolist() == (
            [192.0, 320.0, 0.0] if winners is None else [0.0, 320.0, 0.0]
        )
    groups = group(ids, len(table))
    bag_rows(torch.full((2, 64), 2.0), groups, offsets, None, None, groups.rows, table)
    assert table[[0, 69_999_998, 69_999_999], 63].tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("mode", MODES[:3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_sums_err_no_more_than_twice_as_much_as_torchs(mode, dtype):
    """Against float64; torch's own error is that of its sum, in the same dtype, divided."""
    torch.manual_seed(3)
    weight, ids = torch.randn(1000, 16).to(dtype), torch.randint(1000, (200, 50))
    offsets = torch.arange(201) * 50
    out = torch.empty(200, 16, dtype=wide(dtype))
    bag(weight, ids.flatten(), offsets, None, mode, -1, out)
    by = {"sum": 1, "mean": 50, "sqrtn": 50**0.5}[mode]
    exact = weight.double()[ids].sum(1) / by
    theirs = torch.nn.functional.embedding_bag(ids, weight, mode="sum") / by
    smallest = torch.finfo(dtype).eps * exact.abs().max()
    assert (out.to(dtype) - exact).abs().max() <= 2 * (theirs - exact).abs().max() + smallest * (dtype == torch.float64)
