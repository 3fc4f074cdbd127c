"""Gradient clipping over dense and row gradients together, which torch's own functions refuse.

Norms are those of the dense gradient: a row that was looked up twice counts once, with the sum of its two gradients.
Rule: the values of a row gradient are replaced, not scaled in place. Backward hands one buffer to several parameters
(tables whose outputs are added), so scaling it in place would scale it twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import utils

from catembed.kernels.dispatch import kernel

__all__ = ["clip_grad_norm_", "clip_grad_value_"]


@torch.no_grad()
def clip_grad_norm_(
    parameters: Tensor | Iterable[Tensor],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:
    """Scale all gradients so that their norm, taken as one vector, is at most ``max_norm``; returns that norm.

    :func:`torch.nn.utils.clip_grad_norm_` with row gradients (``sparse=True``) among them; without any it is torch's.
    No temporary is larger than the row gradients.

    Raises:
        RuntimeError: with ``error_if_nonfinite=True``, a norm that is NaN or infinite; nothing is scaled then.

    >>> import torch, catembed
    >>> layer = catembed.Embedding(9, 2, sparse=True)
    >>> layer(torch.tensor([1, 1])).sum().backward()
    >>> clip_grad_norm_(layer.parameters(), max_norm=1.0)
    tensor(2.8284)
    >>> layer.weight.grad.to_dense()[1]
    tensor([0.7071, 0.7071])
    """
    dense, by_rows = _split(parameters)
    if not by_rows:
        return utils.clip_grad_norm_(dense, max_norm, norm_type, error_if_nonfinite, foreach)
    norms = [_row_norm(grad, float(norm_type)) for _, grad in by_rows]
    if dense:
        norms.append(utils.get_total_norm([p.grad for p in dense if p.grad is not None], norm_type, foreach=foreach))
    total = utils.get_total_norm([norm.to(norms[0].device) for norm in norms], norm_type, error_if_nonfinite)
    if dense:
        utils.clip_grads_with_norm_(dense, max_norm, total, foreach)
    coefficient = float(max_norm) / (float(total) + 1e-6)
    if not coefficient >= 1:  # NaN scales as well, as with torch
        for param, grad in by_rows:
            param.grad = _with_values(grad, grad._values() * coefficient)
    return total


@torch.no_grad()
def clip_grad_value_(parameters: Tensor | Iterable[Tensor], clip_value: float, foreach: bool | None = None) -> None:
    """Clamp every entry of all gradients to ``[-clip_value, clip_value]``.

    :func:`torch.nn.utils.clip_grad_value_` with row gradients among them: the gradients of a row that was looked up
    several times are summed first, so the result is that of the dense gradient.

    >>> import torch, catembed
    >>> layer = catembed.Embedding(9, 2, sparse=True)
    >>> layer(torch.tensor([1, 1])).sum().backward()
    >>> clip_grad_value_(layer.parameters(), 1.5)
    >>> layer.weight.grad.to_dense()[1]
    tensor([1.5000, 1.5000])
    """
    dense, by_rows = _split(parameters)
    if dense:
        utils.clip_grad_value_(dense, clip_value, foreach)
    for param, grad in by_rows:
        grad = grad.coalesce()
        param.grad = _with_values(grad, grad._values().clamp(-float(clip_value), float(clip_value)))


def _split(parameters: Tensor | Iterable[Tensor]) -> tuple[list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Parameters with a dense gradient, and those with a row gradient, beside it."""
    dense, by_rows = [], []
    for param in [parameters] if isinstance(parameters, Tensor) else parameters:
        grad = param.grad
        if grad is not None and grad.is_sparse:
            by_rows.append((param, grad))
        elif grad is not None:
            dense.append(param)
    return dense, by_rows


def _row_norm(grad: Tensor, norm_type: float) -> Tensor:
    """The norm of the gradient that ``grad`` stands for, its duplicates summed, in the dtype of the gradient."""
    if norm_type != 2.0 or grad.sparse_dim() != 1 or grad._values().dim() != 2:
        return torch.linalg.vector_norm(grad.coalesce()._values(), norm_type)
    values = grad._values()
    if values.stride(1) != 1:
        values = values.contiguous()
    groups = kernel("group", grad.device)(grad._indices()[0], len(grad))
    squares = kernel("row_norms", grad.device)(groups, values, grad_scale=1.0)
    return torch.tensor(math.sqrt(squares), dtype=grad.dtype, device=grad.device)


def _with_values(grad: Tensor, values: Tensor) -> Tensor:
    """``grad`` with other values."""
    return torch.sparse_coo_tensor(
        grad._indices(), values, grad.shape, is_coalesced=grad.is_coalesced(), check_invariants=False
    )
