"""``embedding_bag``: bags of rows pooled, by torch's kernels or by our own.

Rule: one place decides (``_by_kernels``). Kernels of our own pool plain tensors on the CPU wherever a gradient is asked
for or there is much to pool; torch pools on other devices, inside compilers and transforms, and what is small. Modes
that torch does not have become sums with weights there.

Known limits: compiled code refuses bad ids with Inductor's own error; on CUDA they are still a device-side assertion;
inside ``torch.func.vmap`` ids are refused without details and offsets are not checked.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from catembed.functional.bags import Bags, as_bags, flatten
from catembed.functional.ids import NATIVE, explain, padding_row, refuse_out_of_range
from catembed.functional.lookup import embedding, is_plain
from catembed.functional.pool import pool
from catembed.kernels import reference_bag
from catembed.kernels.reference import arithmetic_dtype

__all__ = ["MODES", "embedding_bag", "pooled"]

MODES = ("sum", "mean", "max", "sqrtn", "none")
_MUCH = 1 << 19  # numbers of rows from which on the kernels win where no gradient is asked for
_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16, torch.float16})


def embedding_bag(
    input: Any,
    weight: Tensor,
    offsets: Any = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
    *,
    lengths: Any = None,
    mask: Any = None,
    name: str | None = None,
) -> Tensor:
    """Bags of rows pooled to one row each: ``(B, N)``, or ``(n,)`` cut into ``B`` bags, give ``(B, D)``.

    Means what :func:`torch.nn.functional.embedding_bag` means by the same arguments. Beyond torch:

    Args:
        input: ids of any integer dtype, as a tensor, a NumPy array or lists; also bags of unequal length, as a list of
            lists, a ``Jagged``, a jagged ``torch.nested`` tensor, or a column of lists of integers (Arrow, pandas,
            polars).
        mode: ``"sum"``, ``"mean"``, ``"max"``, ``"sqrtn"`` (the sum over the root of the number of ids), or ``"none"``:
            the rows of each bag, unpooled, as a jagged ``torch.nested`` tensor ``(B, *, D)``.
        per_sample_weights: a weight for each id, in the form of the ids, for every mode. The sum of the weighted rows
            is divided by Σ w for ``"mean"`` and by √Σ w² for ``"sqrtn"``: so equal weights are as none, and it does not
            matter on what scale they come. (Divided by the number of ids, a mean would depend on it.) ``"max"`` and
            ``"none"`` take weighted rows. Weights that are all zero make a bag as good as empty; weights of both signs
            whose sum is zero divide by it.
        lengths: ``(B,)``, how many ids each bag has, in place of offsets.
        mask: bools of the shape ``(B, N)`` of ids: True where an id counts. The others may be anything.

    Ids equal to ``padding_idx`` are left out. An empty bag gives zeros.

    Raises:
        OutOfRangeError: an id outside ``[0, len(weight))``.
        ValueError: offsets that do not start at 0, decrease, pass the last id or (``include_last_offset``) stop short;
            lengths that do not add up to the number of ids; weights or a mask of another shape.
        TypeError: lists of uneven depth, missing bags, and what holds no integers.

    >>> weight = torch.arange(6.0).view(3, 2)
    >>> embedding_bag([0, 2, 1], weight, [0, 2], mode="sum")
    tensor([[4., 6.],
            [2., 3.]])
    >>> embedding_bag([[0, 2], [], [1]], weight, mode="sum")
    tensor([[4., 6.],
            [0., 0.],
            [2., 3.]])
    >>> embedding_bag([[0, 2]], weight, per_sample_weights=[[3.0, 1.0]])
    tensor([[1., 2.]])
    """
    bags = as_bags(
        input, weight, offsets, per_sample_weights, include_last_offset, lengths=lengths, mask=mask, name=name
    )
    return pooled(bags, weight, max_norm, norm_type, scale_grad_by_freq, mode, sparse, padding_idx, name)


def pooled(
    bags: Bags,
    weight: Tensor,
    max_norm: float | None,
    norm_type: float,
    scale_grad_by_freq: bool,
    mode: str,
    sparse: bool,
    padding_idx: int | None,
    name: str | None,
) -> Tensor:
    """What ``embedding_bag`` gives for bags that have been read."""
    if mode not in MODES:
        raise ValueError(f"mode has to be one of {', '.join(MODES[:-1])} or {MODES[-1]} (got {mode!r})")
    if max_norm is not None and not torch.compiler.is_compiling():
        refuse_out_of_range(bags.source, weight, name, bags.place)
    try:
        if mode == "none":
            return _unpooled(bags, weight, max_norm, norm_type, scale_grad_by_freq, sparse, padding_idx, name)
        if not scale_grad_by_freq and not (sparse and mode == "max") and _by_kernels(bags, weight, mode, padding_idx):
            ids, offsets, weights = flatten(bags)
            if max_norm is not None:
                torch.embedding_renorm_(weight.detach(), ids.contiguous(), max_norm, norm_type)
            return pool(weight, ids, offsets, weights, mode, padding_row(padding_idx, weight), sparse)
        return _by_torch(bags, weight, max_norm, norm_type, scale_grad_by_freq, mode, sparse, padding_idx)
    except (IndexError, RuntimeError) as error:
        explain(error, bags.source, bags.ids, weight, name, bags.place)
        raise


def _by_kernels(bags: Bags, weight: Tensor, mode: str, padding_idx: int | None) -> bool:
    """Whether kernels of our own pool these bags: only what they can, and what torch would do less well.

    Arguments that do not fit together are left to torch, which has the words for them.
    """
    ids, offsets, _, weights, *_ = bags
    tensors = [tensor for tensor in (ids, weight, offsets, weights) if tensor is not None]
    if not is_plain(*tensors):
        return False
    wanted = torch.is_grad_enabled() and (weight.requires_grad or (weights is not None and weights.requires_grad))
    beyond = mode == "sqrtn" or (weights is not None and mode != "sum")
    return (
        weight.dim() == 2
        and (wanted or beyond or ids.numel() * weight.shape[1] >= _MUCH)
        and ids.dtype in NATIVE
        and weight.dtype in _DTYPES
        and weight.is_contiguous()
        and (ids.dim() == 2 if offsets is None else ids.dim() == offsets.dim() == 1 and len(offsets) > 0)
        and (weights is None or weights.dtype == weight.dtype)
        and (padding_idx is None or -len(weight) <= padding_idx < len(weight))
    )


# Torch's kernels


def _by_torch(
    bags: Bags,
    weight: Tensor,
    max_norm: float | None,
    norm_type: float,
    scale_grad_by_freq: bool,
    mode: str,
    sparse: bool,
    padding_idx: int | None,
) -> Tensor:
    ids, offsets, include_last, weights, *_ = bags
    if mode == "max" and weights is not None:
        if not (sparse or scale_grad_by_freq):
            rows = F.embedding(flatten(bags)[0], weight, None, max_norm, norm_type)
            return _max_of_weighted(bags, rows, padding_row(padding_idx, weight))
        weights = None  # torch refuses the rest
    elif mode == "sqrtn" or (mode == "mean" and weights is not None):
        ids, offsets, weights = flatten(bags)
        weights = _divided(ids, offsets, weights, mode, padding_row(padding_idx, weight), weight.dtype)
        mode, include_last = "sum", True
    no_width = isinstance(weight, Tensor) and weight.ndim == 2 and weight.shape[1] == 0
    found = F.embedding_bag(
        ids,
        F.pad(weight, (0, 1)) if no_width else weight,  # torch's own fails on several threads without a column
        offsets,
        max_norm,
        norm_type,
        scale_grad_by_freq,
        mode,
        sparse and not no_width,
        weights,
        include_last,
        padding_idx,
    )
    return found[..., :0] if no_width else found


def _divided(
    ids: Tensor, offsets: Tensor, weights: Tensor | None, mode: str, padding: int, dtype: torch.dtype
) -> Tensor:
    """The weights with which a sum is the mean, or the sqrtn."""
    wide = arithmetic_dtype(dtype)
    divisors = reference_bag.bag_divisors(ids, offsets, weights, mode, padding, wide)
    assert divisors is not None
    shares = divisors.reciprocal()[reference_bag.bag_of(offsets)]
    return (shares if weights is None else weights.to(wide) * shares).to(dtype)


def _max_of_weighted(bags: Bags, rows: Tensor, padding: int) -> Tensor:
    """The largest numbers of each bag's weighted rows; ``rows`` has one for each id. The first of equal ones wins."""
    ids, offsets, weights = flatten(bags)
    assert weights is not None
    rows = rows * weights[:, None]
    # Ids that are left out go to a bag of their own, which is cut off: shapes stay known where values are not.
    target = torch.where(ids == padding, len(offsets) - 1, reference_bag.bag_of(offsets))
    where, found = target[:, None].expand_as(rows), rows.detach()
    top = found.new_zeros(len(offsets), rows.shape[1])
    top = top.scatter_reduce(0, where, found, "amax", include_self=False)[target]
    places = torch.arange(len(rows), device=rows.device)[:, None].expand_as(rows)
    places = torch.where((found == top) | found.isnan(), places, len(rows))
    nobody = torch.full((len(offsets), rows.shape[1]), len(rows), device=rows.device)
    winners = nobody.scatter_reduce(0, where, places, "amin")[:-1]
    return torch.cat([rows, rows.new_zeros(1, rows.shape[1])]).gather(0, winners)


# Without pooling


def _unpooled(
    bags: Bags,
    weight: Tensor,
    max_norm: float | None,
    norm_type: float,
    scale_grad_by_freq: bool,
    sparse: bool,
    padding_idx: int | None,
    name: str | None,
) -> Tensor:
    """The rows of each bag, weighted; a jagged nested tensor ``(B, *, D)``."""
    ids, offsets, weights = flatten(bags)
    if padding_idx is not None:
        kept = ids != padding_row(padding_idx, weight)
        offsets = F.pad(kept.cumsum(0), (1, 0))[offsets]
        ids, weights = ids[kept], None if weights is None else weights[kept]
    rows = embedding(ids, weight, None, max_norm, norm_type, scale_grad_by_freq, sparse, name=name)
    return torch.nested.nested_tensor_from_jagged(rows if weights is None else rows * weights[:, None], offsets)
