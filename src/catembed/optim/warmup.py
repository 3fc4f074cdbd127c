"""`warmup`: compile and cache the kernels of training and encoding before the first real step needs them."""

from __future__ import annotations

import torch

from catembed.functional import embedding_bag
from catembed.optim import exact
from catembed.optim.adagrad import Adagrad, RowwiseAdagrad
from catembed.optim.adam import Adam, AdamW
from catembed.optim.clip import clip_grad_norm_, clip_grad_value_
from catembed.optim.sgd import SGD
from catembed.vocabulary import Vocabulary

__all__ = ["warmup"]


def warmup(dtype: torch.dtype = torch.float32) -> None:
    """Compile the kernels of vocabularies and those that train tables of ``dtype``, or load them from the disk cache.

    Without it, each kernel is compiled when first called: seconds once, then cached on disk for later processes. Call
    it in an image's build, before a server takes requests, or before workers start.

    Raises:
        TypeError: a dtype that no table is trained in.

    >>> import catembed
    >>> catembed.warmup()
    """
    if not dtype.is_floating_point:
        raise TypeError(f"tables are trained in float32, float64, bfloat16 or float16 (got {dtype})")
    lazy = [(SGD, {}), (SGD, {"momentum": 0.9}), (Adagrad, {}), (RowwiseAdagrad, {}), (Adam, {}), (AdamW, {})]
    kept_exact = [(SGD, {"momentum": 0.9, "untouched": "exact"}), (Adam, {"untouched": "exact"})]
    for kind, options in lazy + kept_exact:
        weight = torch.nn.Parameter(torch.zeros(4, 2, dtype=dtype))
        optimizer = kind([weight], lr=0.1, **options)
        for row in (0, 1):
            exact.settle(weight, torch.tensor([row]))
            torch.nn.functional.embedding(torch.tensor([row, row]), weight, sparse=True).sum().backward()
            clip_grad_norm_([weight], 1.0)
            clip_grad_value_([weight], 1.0)
            optimizer.step()
            optimizer.zero_grad()
        optimizer.flush()
    _pool(dtype)
    _encode()


def _pool(dtype: torch.dtype) -> None:
    weight = torch.zeros(4, 2, dtype=dtype, requires_grad=True)
    factors = torch.ones(1, 2, dtype=dtype, requires_grad=True)
    for mode in ("sum", "max"):
        pooled = embedding_bag(torch.tensor([[1, 0]]), weight, mode=mode, per_sample_weights=factors)
        pooled.sum().backward()


def _encode() -> None:
    for column in (["a", "b", "b"], [1, 2, 2]):
        vocabulary = Vocabulary.fit(column, unseen="grow")
        vocabulary.encode(column[0])
        vocabulary.encode([*column, column[0] * 3], grow=True)
        vocabulary.category_hashes(0)
    Vocabulary(range(100)).encode(list(range(100)) * 2)  # integers that lie close together
