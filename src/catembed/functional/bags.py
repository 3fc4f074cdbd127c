"""What ``embedding_bag`` takes, in all its forms, as torch's takes it: ids, offsets, and a weight for each id.

Rules: what torch takes passes through as it is. Offsets that step back or leave the ids, which torch follows into other
rows or other memory, are refused, and so is whatever is given in a way that could be meant otherwise. Messages name the
place in what the user gave, so ``Bags`` remembers it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from catembed.functional.ids import NATIVE, Place, as_ids, readable, table_words
from catembed.functional.jagged import Jagged, as_jagged, place_in

__all__ = ["Bags", "as_bags", "flatten"]


class Bags(NamedTuple):
    """Ids ``(B, N)``, or ``(n,)`` cut by ``offsets``, with ``weights`` of the same shape or None."""

    ids: Tensor
    offsets: Tensor | None
    include_last: bool  # the last offset is the number of ids
    weights: Tensor | None
    source: Any  # the ids as they were given
    place: Place | None  # where in it an id of flat ids stood; None: at its own position


def as_bags(
    input: Any,
    weight: Tensor,
    offsets: Any = None,
    per_sample_weights: Any = None,
    include_last_offset: bool = False,
    *,
    lengths: Any = None,
    mask: Any = None,
    name: str | None = None,
) -> Bags:
    """The bags that ``embedding_bag`` is given by these arguments, for the table ``weight``; see there."""
    _refuse_two_ways(offsets, lengths, mask)
    jagged = as_jagged(input, f"ids of {table_words(name)}")
    if jagged is not None:
        if offsets is not None or lengths is not None or mask is not None:
            raise ValueError("ids that come in bags are cut already: give no offsets, lengths or mask")
        return _of_jagged(jagged, weight, per_sample_weights, name)
    ids = as_ids(input, weight)
    weights = _as_weights(per_sample_weights, weight)
    if not isinstance(ids, Tensor):  # a stand-in, such as torch.fx's
        return Bags(ids, offsets, include_last_offset, weights, input, None)
    if weights is not None:
        _check_shape(weights, ids, name)
    if mask is not None:
        return _of_mask(ids, mask, weights, name)
    if lengths is not None:
        return Bags(ids, _offsets_of(lengths, ids, name), True, weights, input, None)
    if offsets is not None:
        offsets = as_ids(offsets, weight)
        _check_offsets(offsets, ids, include_last_offset, name)
    elif ids.dim() == 2 and ids.shape[1] == 0:  # torch cannot count these
        nothing = torch.zeros(len(ids) + 1, dtype=torch.int64, device=ids.device)
        return Bags(ids.reshape(-1), nothing, True, None if weights is None else weights.reshape(-1), input, None)
    return Bags(ids, offsets, include_last_offset, weights, input, None)


def flatten(bags: Bags) -> tuple[Tensor, Tensor, Tensor | None]:
    """Flat ids, int64 offsets of which the last is their number, and flat weights."""
    ids, offsets, include_last, weights, *_ = bags
    if offsets is None:
        if ids.dim() != 2:
            raise ValueError(f"ids without offsets are a matrix, a row for each bag (got shape {tuple(ids.shape)})")
        count, width = ids.shape
        cuts = torch.arange(count + 1, device=ids.device) * width
        return ids.reshape(-1), cuts, None if weights is None else weights.reshape(-1)
    cuts = offsets.long()
    if not include_last:
        cuts = torch.cat([cuts, cuts.new_full((1,), ids.numel())])
    return ids, cuts, weights


def _refuse_two_ways(offsets: Any, lengths: Any, mask: Any) -> None:
    given = [key for key, value in {"offsets": offsets, "lengths": lengths, "mask": mask}.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"{' and '.join(given)} both say where bags end: give one of them")


# Weights


def _as_weights(weights: Any, weight: Tensor) -> Tensor | None:
    """Per-sample weights as a tensor; lists and arrays take the dtype of the table, tensors keep theirs."""
    if weights is None or isinstance(weights, Tensor) or torch.overrides.is_tensor_like(weights):
        return weights
    if isinstance(weights, Jagged):
        raise TypeError(
            "per_sample_weights as a Jagged go with ids that come in bags; others have the shape of the ids"
        )
    return torch.tensor(weights, dtype=weight.dtype, device=weight.device)


def _check_shape(weights: Tensor, ids: Tensor, name: str | None) -> None:
    if weights.shape != ids.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({weights.shape}) is not None, then it must have the same shape as "
            f"the input ({ids.shape}), that of {table_words(name)}"
        )


# Bags of unequal length


def _of_jagged(jagged: Jagged, weight: Tensor, per_sample_weights: Any, name: str | None) -> Bags:
    place = place_in(jagged.offsets)
    ids = as_ids(jagged.values, weight, place)
    _check_offsets(jagged.offsets, ids, True, name)
    weights = _jagged_weights(per_sample_weights, jagged, weight, name)
    return Bags(ids, jagged.offsets.to(weight.device), True, weights, jagged.values, place)


def _jagged_weights(given: Any, ids: Jagged, weight: Tensor, name: str | None) -> Tensor | None:
    """Weights of bags: in bags of the same lengths, or flat."""
    if given is None:
        return None
    what = f"per_sample_weights of {table_words(name)}"
    jagged = as_jagged(given, what, rectangular=True)
    if jagged is None:
        weights = _as_weights(given, weight)
        if weights is not None and weights.shape != (len(ids.values),):
            raise ValueError(f"{what} must be as many as there are ids, {len(ids.values)} (got {tuple(weights.shape)})")
        return weights
    if len(jagged.offsets) != len(ids.offsets):
        raise ValueError(f"{what} must be for {len(ids.offsets) - 1} bags (got {len(jagged.offsets) - 1})")
    if jagged.offsets is not ids.offsets and not torch.compiler.is_compiling():
        lengths, expected = jagged.offsets.diff(), ids.offsets.diff()
        differ = (lengths != expected).nonzero()
        if len(differ):
            at = int(differ[0])
            raise ValueError(f"{what} must have one for each id: bag [{at}] has {expected[at]} ids (got {lengths[at]})")
    weights = _as_weights(jagged.values, weight)
    if weights is not None and len(weights) != len(ids.values):
        raise ValueError(f"{what} must be as many as there are ids, {len(ids.values)} (got {len(weights)})")
    return weights


# A padded matrix


def _of_mask(ids: Tensor, mask: Any, weights: Tensor | None, name: str | None) -> Bags:
    """The ids where ``mask`` is true, row by row."""
    mask = torch.as_tensor(mask, device=ids.device)
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must hold bools, True where an id counts (got {mask.dtype})")
    if ids.dim() != 2 or mask.shape != ids.shape:
        raise ValueError(
            f"mask must have the shape of the ids of {table_words(name)}, a padded matrix (got {tuple(mask.shape)} for "
            f"{tuple(ids.shape)})"
        )
    offsets = F.pad(mask.sum(dim=1).cumsum(0), (1, 0))
    kept = ids[mask]
    return Bags(
        kept, offsets, True, None if weights is None else weights[mask], kept, lambda at: mask.nonzero()[at].tolist()
    )


# Lengths and offsets


def _offsets_of(lengths: Any, ids: Tensor, name: str | None) -> Tensor:
    lengths = as_ids(lengths, ids)
    if ids.dim() != 1 or lengths.dim() != 1:
        raise ValueError(
            f"lengths cut flat ids: both have one dimension (got lengths of {lengths.dim()} for ids of {ids.dim()}); a "
            "padded matrix takes mask="
        )
    if lengths.dtype not in NATIVE:
        raise RuntimeError(f"lengths must be integers (got {lengths.dtype})")
    offsets = F.pad(lengths.cumsum(0), (1, 0))
    rule = f"be 0 or more and add up to the number of ids, {ids.numel()}"
    if _unreadable(lengths):
        sound = (lengths >= 0).all() & (offsets[-1] == ids.numel())
        torch.ops.aten._assert_async.msg(sound, f"lengths must {rule}")
        return offsets
    values = readable(lengths)
    outside = None if values is None else (values < 0) | (values > ids.numel())
    if values is not None and outside is not None and outside.any():
        at = int(outside.argmax())
        raise ValueError(f"lengths of bags of {table_words(name)} must {rule} (got {values[at]} at [{at}])")
    if values is not None and values.sum() != ids.numel():
        raise ValueError(f"lengths of bags of {table_words(name)} must {rule} (got a sum of {values.sum()})")
    return offsets


def _unreadable(cuts: Tensor) -> bool:
    """Whether values can be looked at only where they are: in compiled code, on another device."""
    return torch.compiler.is_compiling() or cuts.device.type != "cpu"


def _check_offsets(offsets: Tensor, ids: Tensor, include_last: bool, name: str | None) -> None:
    """Refuse offsets that torch takes and then reads memory beyond the ids, or pools other rows than those meant."""
    if not isinstance(offsets, Tensor) or offsets.ndim != 1 or ids.ndim != 1 or offsets.numel() == 0:
        return  # torch refuses these by shape
    if offsets.dtype not in NATIVE:
        raise RuntimeError(f"offsets must be integers (got {offsets.dtype})")
    end = ids.numel()
    if _unreadable(offsets):
        last = offsets[-1] == end if include_last else offsets[-1] <= end
        sound = (offsets[0] == 0) & (offsets.diff() >= 0).all() & last
        torch.ops.aten._assert_async.msg(sound, f"offsets must {_offsets_rule(end, include_last)}")
        return
    values = readable(offsets)
    if values is None:
        return
    steps_back = values[1:] < values[:-1]
    if np.count_nonzero(steps_back):
        at = int(steps_back.argmax()) + 1
    elif values[0] != 0:
        at = 0
    elif values[-1] > end or (include_last and values[-1] != end):
        at = len(values) - 1
    else:
        return
    after = f" after {values[at - 1]}" if at else ""
    raise ValueError(
        f"offsets into {table_words(name)} must {_offsets_rule(end, include_last)} (got {values[at]} at [{at}]{after})"
    )


def _offsets_rule(end: int, include_last: bool) -> str:
    return f"start at 0, never decrease and {'end at' if include_last else 'stay within'} the number of ids, {end}"
