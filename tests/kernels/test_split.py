"""`split`: text joined by NULs, twin and definition alike."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from catembed.kernels.dispatch import kernel
from catembed.kernels.reference_split import split as split_defined

split = kernel("split", torch.device("cpu"))


@pytest.mark.parametrize(
    "values",
    [
        [""],
        ["", ""],
        ["a"],
        ["", "a", "", "", "b", ""],
        ["naïve", "😀", "x" * 7, "y" * 8, "z" * 9, ""],
        [str(i) * (i % 23) for i in range(1000)],
        ["\x01\x80\x7f", "\x01" * 20, "ÿ" * 9],
    ],
    ids=lambda values: repr(values)[:30],
)
def test_split_is_its_definition(values):
    joined = "\0".join(values).encode()
    for function in (split, split_defined):
        octets, offsets = function(joined, len(values))
        assert (octets.dtype, offsets.dtype) == (np.uint8, np.int64)
        parts = [octets[begin:end].tobytes().decode() for begin, end in pairwise(offsets)]
        assert parts == values
        assert len(octets) == offsets[-1]
        for wrong in (len(values) - 1, len(values) + 1, 3 * len(values)):
            assert wrong < 1 or function(joined, wrong) is None


def test_split_of_every_place_of_a_nul_in_a_word():
    for size in range(26):
        for place in range(size):
            joined = b"\xff" * place + b"\0" + b"\x01" * (size - place)
            for count in (1, 2, 3):
                got, expected = split(joined, count), split_defined(joined, count)
                assert (got is None) == (expected is None)
                if expected is not None:
                    assert [part.tolist() for part in got] == [part.tolist() for part in expected]
