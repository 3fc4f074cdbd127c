"""A table, its collection, and batches to compare."""

import pytest
import torch

from catembed import CategoryEmbedding, Embedding, EmbeddingBag, EmbeddingCollection, HashVocabulary, Vocabulary, cross
from catembed.functional import Jagged

ROWS = 23


@pytest.fixture
def table():
    return {
        "origin": [("JFK", "LAX", "SFO", None)[at % 4] for at in range(ROWS)],
        "hour": [5 + at % 3 for at in range(ROWS)],
        "tags": ["|".join(["red", "big", "odd"][: at % 4]) for at in range(ROWS)],
        "user": [f"u{at * at % 11}" for at in range(ROWS)],
        "shop": [at % 5 for at in range(ROWS)],
        "seen": [list(range(at % 3)) for at in range(ROWS)],
        "late": [at / 4 for at in range(ROWS)],
        "count": list(range(ROWS)),
        "weekend": [at % 7 > 4 for at in range(ROWS)],
        "note": [f"note {at}" for at in range(ROWS)],
    }


@pytest.fixture
def collection():
    torch.manual_seed(0)
    airports = Vocabulary(["JFK", "LAX", "SFO"], missing="own")
    return EmbeddingCollection(
        {
            "origin": CategoryEmbedding(airports, 4),
            "hour": CategoryEmbedding([5, 6, 7], 2),
            "tags": CategoryEmbedding(["red", "big", "odd"], 3, pooling="mean", separator="|"),
            "user": CategoryEmbedding(HashVocabulary(20, hashes=2), 2),
            "shop": Embedding(5, 2),
            "seen": EmbeddingBag(4, 2, mode="sum"),
            "route": cross("origin", "user", buckets=50, embedding_dim=2),
        }
    )


@pytest.fixture
def rows(table):
    return [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]


@pytest.fixture
def same():
    def compare(left, right):
        assert type(left) is type(right)
        if isinstance(left, dict):
            assert list(left) == list(right)
            return all(compare(left[name], right[name]) for name in left)
        if isinstance(left, Jagged):
            return all(map(compare, left, right))
        assert left.dtype == right.dtype
        return torch.equal(left, right)

    return compare
