"""`find_dense` and `dense_table`: against a dict, and twin against definition, at the ends of int64 too."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from catembed.kernels.dense import dense_table
from catembed.kernels.dispatch import kernel
from catembed.kernels.reference_dense import find_dense as defined
from catembed.kernels.spans import from_words
from catembed.vocabulary.forms import spans

find_dense = kernel("find_dense", torch.device("cpu"))
LEAST, MOST = -(2**63), 2**63 - 1


def both(values, dense, count, **how):
    results = []
    for function in (find_dense, defined):
        ids = np.full(count, -9)
        hits = function(values, dense, how.get("base", 0), -1, -2, ids)
        results.append((hits, ids.tolist()))
    assert results[0] == results[1]
    return results[0]


@pytest.mark.parametrize("low", [0, -20, LEAST, MOST - 79, 2**62], ids=str)
def test_ids_are_those_of_a_dict(low):
    rng = np.random.default_rng(0)
    numbers = (low + rng.permutation(80)[:40]).astype(np.int64)
    known = {number: place for place, number in enumerate(numbers.tolist())}
    dense = dense_table(numbers)
    asked = [*range(max(low - 5, LEAST), min(low + 90, MOST)), LEAST, MOST, 0, -1, None, *numbers.tolist()]
    expected = [-2 if number is None else 7 + known[number] if number in known else -1 for number in asked]
    for column in (pa.array(asked, pa.int64()), pa.array([None, 3, *asked, 5], pa.int64()).slice(2, len(asked))):
        assert both(spans(column), dense, len(asked), base=7) == (sum(id >= 7 for id in expected), expected)


def test_only_numbers_close_together_have_such_a_table():
    assert dense_table(np.arange(9)) is None
    assert dense_table(np.arange(10)) is not None
    assert dense_table(np.arange(0, 200, 2)) is not None
    assert dense_table(np.arange(0, 300, 3)) is None
    assert dense_table(np.array([LEAST, MOST, *range(20)])) is None


def test_ids_do_not_depend_on_threads():
    numbers = np.random.default_rng(0).permutation(100_000)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        hits, ids = both(from_words(np.arange(-10, 100_000)), dense_table(numbers), 100_010)
    finally:
        torch.set_num_threads(before)
    assert hits == 100_000
    assert ids[:10] == [-1] * 10
    assert np.array_equal(numbers[ids[10:]], np.arange(100_000))
