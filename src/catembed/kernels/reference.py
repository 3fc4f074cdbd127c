"""The definition of every kernel: plain torch, slow, obviously right, on any device.

The fast twins under ``cpu/`` have the same names, arguments and results, and are tested against these. Arithmetic is
in float32, in float64 for float64 weights; gradients of one row are summed in lookup order. Only ``weight`` and state
are written, and of them only the rows that have a gradient and are not frozen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Groups",
    "arithmetic_dtype",
    "group",
    "row_norms",
    "update_adagrad",
    "update_adam",
    "update_rowwise_adagrad",
    "update_sgd",
]


class Groups(NamedTuple):
    """Segments of equal ids: gradient rows ``order[starts[i]:starts[i + 1]]`` belong to table row ``rows[i]``."""

    rows: Tensor  # int64 (U,), ascending
    starts: Tensor  # int64 (U + 1,)
    order: Tensor  # int64 (N,), within a segment ascending: lookup order


def arithmetic_dtype(stored: torch.dtype) -> torch.dtype:
    """The dtype that kernels compute in, and that state has by default: float32, float64 for float64 weights."""
    return torch.float64 if stored == torch.float64 else torch.float32


def group(ids: Tensor, num_rows: int) -> Groups:
    """Sort ``ids`` (int32 or int64, shape (N,)) into segments.

    Raises ``IndexError`` for an id outside ``[0, num_rows)``.
    """
    bad = ((ids < 0) | (ids >= num_rows)).nonzero()
    if len(bad):
        at = int(bad[0])
        raise IndexError(f"id {int(ids[at])} at position {at} is outside [0, {num_rows})")
    ordered, order = ids.long().sort(stable=True)
    rows, counts = ordered.unique_consecutive(return_counts=True)
    starts = torch.zeros(len(rows) + 1, dtype=torch.int64, device=ids.device)
    torch.cumsum(counts, 0, out=starts[1:])
    return Groups(rows, starts, order)


def update_sgd(
    weight: Tensor,
    momentum_buffer: Tensor | None,
    groups: Groups,
    grads: Tensor,
    *,
    lr: float,
    momentum: float,
    dampening: float,
    nesterov: bool,
    weight_decay: float,
    maximize: bool,
    grad_scale: float,
    frozen: Tensor | None,
    rounding: int | None,
) -> None:
    """g += λ w; b = μ b + (1 - dampening) g; w -= lr · (b, or g + μ b with Nesterov); without a buffer w -= lr · g."""
    rows, g = _live(groups, grads, weight, grad_scale, maximize, frozen)
    w = weight[rows].to(g.dtype)
    g = g + weight_decay * w
    if momentum_buffer is not None:
        b = momentum * momentum_buffer[rows].to(g.dtype) + (1 - dampening) * g
        momentum_buffer[rows] = b.to(momentum_buffer.dtype)
        g = g + momentum * b if nesterov else b
    weight[rows] = rounded(w - lr * g, weight.dtype, rows, rounding)


def update_adagrad(
    weight: Tensor,
    sum: Tensor,
    groups: Groups,
    grads: Tensor,
    *,
    lr: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
    grad_scale: float,
    frozen: Tensor | None,
    rounding: int | None,
) -> None:
    """g += λ w; s += g²; w -= lr · g / (√s + eps)  (Duchi et al. 2011, as torch writes it)."""
    rows, g = _live(groups, grads, weight, grad_scale, maximize, frozen)
    w = weight[rows].to(g.dtype)
    g = g + weight_decay * w
    s = sum[rows].to(g.dtype) + g * g
    sum[rows] = s.to(sum.dtype)
    weight[rows] = rounded(w - lr * g / (s.sqrt() + eps), weight.dtype, rows, rounding)


def update_rowwise_adagrad(
    weight: Tensor,
    sum: Tensor,
    groups: Groups,
    grads: Tensor,
    *,
    lr: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
    grad_scale: float,
    frozen: Tensor | None,
    rounding: int | None,
) -> None:
    """g += λ w; s += mean(g²) over the row; w -= lr · g / (√s + eps); ``sum`` has shape (N,).

    Source: the row-wise Adagrad of Mudigere et al. 2022 (arXiv 2104.05158); the mean is FBGEMM's choice too.
    """
    rows, g = _live(groups, grads, weight, grad_scale, maximize, frozen)
    w = weight[rows].to(g.dtype)
    g = g + weight_decay * w
    s = sum[rows].to(g.dtype) + (g * g).sum(1) / max(1, g.shape[1])
    sum[rows] = s.to(sum.dtype)
    weight[rows] = rounded(w - lr * g / (s.sqrt() + eps)[:, None], weight.dtype, rows, rounding)


def update_adam(
    weight: Tensor,
    moments: Tensor,
    groups: Groups,
    grads: Tensor,
    *,
    lr_factor: float,
    weight_factor: float,
    beta1: float,
    beta2: float,
    denominator_factor: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
    grad_scale: float,
    frozen: Tensor | None,
    rounding: int | None,
    state_seed: int = 0,
) -> None:
    """m = β1 m + (1-β1) g; v = β2 v + (1-β2) g²; w = w · weight_factor - lr_factor m / (√v · denominator_factor + eps).

    ``moments`` has shape (N, 2, D): m and v of a row side by side. bfloat16 moments are always rounded stochastically,
    by ``state_seed``: rounding to nearest would lose every small change of v, and so would the same seed at each step.
    """
    rows, g = _live(groups, grads, weight, grad_scale, maximize, frozen)
    w = weight[rows].to(g.dtype)
    g = g + weight_decay * w
    m, v = moments[rows].to(g.dtype).unbind(1)
    m = beta1 * m + (1 - beta1) * g
    v = beta2 * v + (1 - beta2) * g * g
    stored = torch.stack([m, v], dim=1)
    seed = state_seed ^ STATE_STREAM
    moments[rows] = rounded(stored.flatten(1), moments.dtype, rows, seed).view_as(stored)
    w = w * weight_factor - lr_factor * m / (v.sqrt() * denominator_factor + eps)
    weight[rows] = rounded(w, weight.dtype, rows, rounding)


def row_norms(groups: Groups, grads: Tensor, grad_scale: float) -> float:
    """The sum of squares of the summed gradient rows: what the dense gradient's would be; float64."""
    return float((_sums(groups, grads).double() * grad_scale).square().sum())


def _sums(groups: Groups, grads: Tensor) -> Tensor:
    """One summed gradient row per table row, in the dtype of arithmetic, summed in lookup order."""
    wide = arithmetic_dtype(grads.dtype)
    total = torch.zeros(len(groups.rows), grads.shape[1], dtype=wide, device=grads.device)
    segment = torch.repeat_interleave(groups.starts.diff())
    return total.index_add_(0, segment, grads[groups.order].to(wide))


def _live(
    groups: Groups, grads: Tensor, weight: Tensor, grad_scale: float, maximize: bool, frozen: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The rows that may move, and their gradients summed, scaled and turned downhill."""
    wide = arithmetic_dtype(weight.dtype)
    g = _sums(groups, grads).to(wide) * (-grad_scale if maximize else grad_scale)
    if frozen is None:
        return groups.rows, g
    live = frozen[groups.rows] == 0
    return groups.rows[live], g[live]


# Rounding

STATE_STREAM = 0x5851F42D4C957F2D  # keeps the state's random bits apart from the weight's


def rounded(values: Tensor, dtype: torch.dtype, rows: Tensor, seed: int | None) -> Tensor:
    """``values`` (n, D) in ``dtype``: to nearest, or stochastically where ``seed`` is given and ``dtype`` has 16 bits.

    Stochastic: up with a probability equal to the share of the gap below the value, drawn from a hash of (seed, row,
    column), so the result depends neither on threads nor on which rows share the batch.
    """
    if seed is None or dtype not in (torch.bfloat16, torch.float16):
        return values.to(dtype)
    values = values.float()
    noise = _noise(rows, values.shape[1], seed)
    if dtype == torch.bfloat16:
        up = ((values.view(torch.int32) + (noise & 0xFFFF)) & ~0xFFFF).view(torch.float32)
        return torch.where(values.isfinite(), up, values).to(dtype)
    noise &= 0x1FFF  # float16 has 13 bits less than float32, and a fixed gap of 2^-24 below 2^-14
    up = ((values.view(torch.int32) + noise) & ~0x1FFF).view(torch.float32)
    tiny = torch.floor(values * 2**24 + noise * 2.0**-13) * 2.0**-24
    up = torch.where(values.abs() < 2.0**-14, tiny, up)
    return torch.where(values.isfinite(), up, values).to(dtype)


def _noise(rows: Tensor, columns: int, seed: int) -> Tensor:
    """int32 (n, columns): the finaliser of splitmix64 over (seed, row), then murmur3's over (that, column)."""
    key = rows * _signed(0x9E3779B97F4A7C15) + _signed(seed)
    key = (key ^ (key >> 30 & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> 27 & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    key = (key ^ (key >> 31 & 0x1FFFFFFFF)) & _LOW
    column = torch.arange(columns, device=rows.device)
    bits = (key[:, None] + column * 0x9E3779B9) & _LOW
    bits = (bits ^ bits >> 16) * 0x85EBCA6B & _LOW
    bits = (bits ^ bits >> 13) * 0xC2B2AE35 & _LOW
    return (bits ^ bits >> 16).to(torch.uint32).view(torch.int32)


_LOW = 0xFFFFFFFF


def _signed(bits: int) -> int:
    """The int64 that has these 64 bits."""
    bits &= 2**64 - 1
    return bits - 2**64 if bits >= 2**63 else bits
