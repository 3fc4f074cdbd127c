"""One vocabulary in many threads, forked and spawned workers; a million categories."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from catembed import UnseenCategoryError, Vocabulary


def encode(vocabulary, column):
    return vocabulary.encode(column).tolist()


def test_threads_share_a_vocabulary():
    vocabulary = Vocabulary([f"item-{i}" for i in range(1000)], unseen="unknown", missing="own")
    rng = np.random.default_rng(0)
    columns = [[None if i == 0 else f"item-{i}" for i in rng.integers(0, 1100, 500)] for _ in range(64)]
    expected = [
        [0 if value is None else 1 if int(value[5:]) >= 1000 else int(value[5:]) + 2 for value in column]
        for column in columns
    ]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda column: encode(vocabulary, column), columns)) == expected
        prints = list(pool.map(lambda _: Vocabulary([1, 2]).fingerprint, range(32)))
    assert len(set(prints)) == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_encode_as_their_parent_does(method):
    vocabulary = Vocabulary(["apple", "banana", "candy"], missing="own")
    columns = [["candy", "apple"], pa.array(["banana", None]), pa.array(["candy"] * 3).dictionary_encode()]
    vocabulary.encode(columns[1])  # pyarrow has been at work before the fork
    with multiprocessing.get_context(method).Pool(2) as pool:
        results = pool.starmap(encode, [(vocabulary, column) for column in columns])
    assert results == [[3, 1], [2, 0], [3, 3, 3]]


def test_a_million_categories():
    vocabulary = Vocabulary(pa.array(np.arange(1_000_000).astype(str).tolist()))
    assert len(vocabulary) == 1_000_000
    ids = np.random.default_rng(0).integers(0, 1_000_000, 10_000)
    assert vocabulary.encode([str(i) for i in ids]).tolist() == ids.tolist()
    with pytest.raises(UnseenCategoryError, match=r"'-1'.*the vocabulary holds 1,000,000 categories"):
        vocabulary.encode(["-1"])
    numbers = np.arange(1_000_000) * 7919 - 10**9
    assert Vocabulary(numbers).encode(numbers[ids]).tolist() == ids.tolist()
