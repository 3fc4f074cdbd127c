"""``columns`` and ``column_grads``: the compiled kernels against their definition.

Numbers are multiples of 1/4, so that sums are exact in any order: what differs by a bit is wrong.
"""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed.kernels import reference_columns
from catembed.kernels.columns import Columns
from catembed.kernels.cpu.column_grads import column_grads
from catembed.kernels.cpu.columns import columns

OURS = {"columns": columns, "column_grads": column_grads}
DEFINED = {name: getattr(reference_columns, name) for name in OURS}


def quarters(*shape, dtype=torch.float32):
    return (torch.randint(-8, 9, shape) / 4).to(dtype)


def case(seed, rows, shapes, tables_of, dtype=torch.float32, gap=0):
    """Columns of random ids into tables of these shapes; ``gap`` numbers lie between the vectors of two columns."""
    torch.manual_seed(seed)
    tables = [quarters(*shape, dtype=dtype) for shape in shapes]
    chosen = [tables[number] for number in tables_of]
    starts, width = [], 0
    for table in chosen:
        starts.append(width)
        width += table.shape[1] + gap
    ids = [
        torch.randint(len(table), (rows,), dtype=(torch.int64, torch.int32)[at % 2]) for at, table in enumerate(chosen)
    ]
    paddings = [-1 if at % 3 else 0 for at in range(len(chosen))]
    return tables, chosen, Columns(ids, starts, paddings), width, tables_of


def run(kernels, tables, chosen, columns, width, tables_of):
    dtype, rows = tables[0].dtype, len(columns.ids[0])
    out = torch.full((rows, width), 7.0, dtype=dtype)
    kernels["columns"](chosen, columns, out)
    torch.manual_seed(1)
    grad = quarters(rows, width, dtype=dtype)
    grads = [torch.full_like(table, 7.0) for table in tables]
    kernels["column_grads"](grad, columns, [grads[number] for number in tables_of])
    return [out, *(grads[number] for number in set(tables_of))]


def assert_same(got, expected):
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a, b)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 200),
    st.lists(st.tuples(st.integers(1, 9), st.integers(0, 19)), min_size=1, max_size=5),
    st.data(),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2),
)
def test_as_defined(seed, rows, shapes, data, dtype, gap):
    tables_of = data.draw(st.lists(st.integers(0, len(shapes) - 1), min_size=1, max_size=6))
    drawn = case(seed, rows, shapes, tables_of, dtype, gap)
    assert_same(run(OURS, *drawn), run(DEFINED, *drawn))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_any_number_of_threads_gives_the_same_bits(threads, count):
    drawn = case(0, 5000, [(100, 16), (7, 5), (1000, 32)], [0, 1, 2, 0, 1, 2])
    expected = run(DEFINED, *drawn)
    threads(count)
    assert_same(run(OURS, *drawn), expected)


@pytest.mark.parametrize("bad", [-1, 7, 2**40, -(2**40)])
def test_an_id_without_a_row_is_told_with_column_and_position(threads, bad):
    _, chosen, columns, width, _ = case(0, 3000, [(100, 16), (7, 16)], [0, 1])
    ids = columns.ids[1].long()
    ids[2001] = bad
    columns = columns._replace(ids=[columns.ids[0], ids])
    for kernels in (OURS, DEFINED):
        for count in (1, 2):
            threads(count)
            with pytest.raises(IndexError) as caught:
                kernels["columns"](chosen, columns, torch.empty(3000, width))
            assert caught.value.args == (1, 2001)


def test_columns_of_a_matrix_and_slices_of_rows():
    """Ids and gradients with gaps between them are read where they lie."""
    matrix, table = torch.randint(9, (50, 6)), quarters(9, 4)
    columns = Columns(list(matrix[:, ::2].unbind(1)), [0, 4, 8], [-1] * 3)
    wide = quarters(50, 40)
    for name in ("columns", "column_grads"):
        results = []
        for kernels in (OURS, DEFINED):
            if name == "columns":
                out = torch.zeros(50, 40)
                kernels[name]([table] * 3, columns, out[:, 10:22])
            else:
                out = torch.ones(9, 4)
                kernels[name](wide[:, 10:22], columns, [out] * 3)
            results.append(out)
        assert torch.equal(*results)
