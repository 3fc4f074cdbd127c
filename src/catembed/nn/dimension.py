"""How long vectors should be, where nobody says: a rule of thumb."""

from __future__ import annotations

from typing import Any

__all__ = ["dimension_for"]

_LONGEST = 600


def dimension_for(num_embeddings: int, embedding_dim: Any = "auto") -> int:
    """``embedding_dim`` itself, or for ``"auto"`` the smaller of 600 and 1.6 · n^0.56, rounded.

    The rule is that of fastai's tabular models (https://docs.fast.ai/tabular.model.html, ``emb_sz_rule``), found by
    trying; it has no theory. Tables of a recommender usually take one dimension for all.

    Raises:
        ValueError: another word than ``"auto"``.

    >>> [dimension_for(rows) for rows in (2, 12, 100, 10_000, 1_000_000)]
    [2, 6, 21, 278, 600]
    """
    if not isinstance(embedding_dim, str):
        return embedding_dim
    if embedding_dim != "auto":
        raise ValueError(f"embedding_dim must be a number or 'auto' (got {embedding_dim!r})")
    return min(_LONGEST, round(1.6 * num_embeddings**0.56))
