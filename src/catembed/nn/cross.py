"""``cross``: the combination of several columns of a table, as a column of an ``EmbeddingCollection``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catembed.nn.category_embedding import CategoryEmbedding
from catembed.vocabulary import CrossVocabulary

__all__ = ["cross"]


def cross(
    *columns: str,
    buckets: int,
    embedding_dim: Any = "auto",
    kind: str | Sequence[str] = "string",
    **embedding_kwargs: Any,
) -> CategoryEmbedding:
    """A layer with a row for each combination of the values of several columns, by hashing: see ``CrossVocabulary``.

    Args:
        columns: the names of two columns or more.
        buckets: how many rows the combinations share; combinations that collide share one.
        embedding_dim: the length of the vectors.
        kind: the kind of the values, of all columns or of each.
        **embedding_kwargs: all that ``Embedding`` takes besides.

    >>> route = cross("origin", "dest", buckets=1000, embedding_dim=4)
    >>> route({"origin": ["JFK", "SFO"], "dest": ["SFO", "JFK"]}).shape
    torch.Size([2, 4])
    """
    return CategoryEmbedding(CrossVocabulary(columns, buckets, kind=kind), embedding_dim, **embedding_kwargs)
