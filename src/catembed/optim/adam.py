"""`Adam` and `AdamW`: torch's for dense gradients, and at the cost of the rows touched for row gradients.

Of a touched row (Kingma & Ba, https://arxiv.org/abs/1412.6980; decoupled decay: https://arxiv.org/abs/1711.05101)::

    m = β1 m + (1 - β1) g        v = β2 v + (1 - β2) g²
    lazy, as SparseAdam:  w = w (1 - lr λ) - lr √(1 - β2ᵗ) / (1 - β1ᵗ) · m / (√v + eps)
    exact, as Adam:       w = w (1 - lr λ) - lr / (1 - β1ᵗ) · m / (√v / √(1 - β2ᵗ) + eps)

where t counts the table's steps. Adam's ``weight_decay`` is added to the gradient of touched rows instead.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from catembed.kernels.dispatch import kernel
from catembed.kernels.reference import arithmetic_dtype
from catembed.optim.layout import interleaved
from catembed.optim.rows import RowOptimizer, Rows

__all__ = ["Adam", "AdamW"]


class _RowAdam(RowOptimizer):
    """How Adam and AdamW move rows."""

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group["state_dtype"] not in (None, torch.bfloat16):
            raise ValueError(
                "state_dtype must be None (float32; float64 for float64 weights) or torch.bfloat16 "
                f"(got {group['state_dtype']})"
            )
        if group["untouched"] == "exact" and group["weight_decay"] and not group["decoupled_weight_decay"]:
            raise ValueError(
                f"untouched='exact' with weight_decay={group['weight_decay']} would cost the whole table each step: "
                "decay added to Adam's gradient never stops moving a row. Use AdamW, whose decay has a closed form"
            )

    def _row_state(self, rows: Rows) -> Tensor:
        """Both moments, ``(N, 2, D)``; the state's ``exp_avg`` and ``exp_avg_sq`` are views of them."""
        param = rows.param
        state = self.state[param]
        layout = self._layouts.get(id(param))
        if layout and layout[0] is state.get("exp_avg") and layout[1] is state.get("exp_avg_sq"):
            moments = layout[2]
            if moments.shape[0] == param.shape[0]:
                return moments
        if "step" not in state:
            state["step"] = torch.zeros((), device=param.device if rows.group["fused"] else "cpu")
        dtype = rows.group["state_dtype"] or arithmetic_dtype(param.dtype)
        moments = interleaved(state.get("exp_avg"), state.get("exp_avg_sq"), rows.weight, dtype)
        state["exp_avg"], state["exp_avg_sq"] = moments[:, 0].view(param.shape), moments[:, 1].view(param.shape)
        self._layouts[id(param)] = (state["exp_avg"], state["exp_avg_sq"], moments)
        return moments

    def _settling(self, group: dict[str, Any]) -> str | None:
        return "settle_adam"

    def _update_rows(self, rows: Rows, state: Tensor | None, **common: Any) -> tuple[float, ...]:
        group = rows.group
        lr, decay, decoupled = float(group["lr"]), float(group["weight_decay"]), group["decoupled_weight_decay"]
        beta1, beta2 = map(float, group["betas"])
        step = self.state[rows.param]["step"].add_(1).item()
        correction1, correction2 = 1 - beta1**step, math.sqrt(1 - beta2**step)
        masked = group["untouched"] == "lazy" and not rows.every  # SparseAdam's place for eps, else Adam's
        lr_factor = lr / correction1 * (correction2 if masked else 1.0)
        weight_factor = 1 - lr * decay if decoupled else 1.0
        denominator_factor = 1.0 if masked else 1 / correction2
        kernel("update_adam", rows.weight.device)(
            rows.weight,
            state,
            rows.groups,
            rows.grads,
            lr_factor=lr_factor,
            weight_factor=weight_factor,
            beta1=beta1,
            beta2=beta2,
            denominator_factor=denominator_factor,
            eps=group["eps"],
            weight_decay=0.0 if decoupled else decay,
            state_seed=self._seed(rows.param),
            **common,
        )
        return lr_factor, beta1, beta2, denominator_factor, group["eps"], weight_factor


class Adam(_RowAdam, torch.optim.Adam):
    """:class:`torch.optim.Adam` that also takes row gradients, at the cost of the rows touched.

    Arguments and defaults are torch's. Dense parameters get bit for bit what torch gives. For parameters with row
    gradients (``sparse=True`` layers, ours or torch's):

    Args:
        untouched: ``"lazy"``: a row moves only when touched, as with :class:`torch.optim.SparseAdam`; ``"exact"``: the
            weights are those of dense Adam, to float tolerance. ``flush()`` before reading a weight directly.
        state_dtype: ``torch.bfloat16`` halves the moments' memory; None means float32 (float64 for float64 weights).
        stochastic_rounding: round 16-bit weights up or down at random, so that small changes count on average.

    Raises:
        ValueError: settings that exclude each other: ``amsgrad``, ``capturable`` or ``differentiable`` with row
            gradients, ``weight_decay`` with ``untouched="exact"``.

    >>> import torch, catembed
    >>> layer = catembed.Embedding(1000, 4, sparse=True)
    >>> optimizer = Adam(layer.parameters(), lr=0.1)
    >>> before = layer.weight.detach().clone()
    >>> layer(torch.tensor([7, 8, 7])).sum().backward()
    >>> optimizer.step()
    >>> (layer.weight != before).any(dim=1).nonzero().flatten()
    tensor([7, 8])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
        untouched: str = "lazy",
        state_dtype: torch.dtype | None = None,
        stochastic_rounding: bool = False,
    ) -> None:
        self._row_options = {
            "untouched": untouched,
            "state_dtype": state_dtype,
            "stochastic_rounding": stochastic_rounding,
        }
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=decoupled_weight_decay,
        )


class AdamW(_RowAdam, torch.optim.AdamW):
    """:class:`torch.optim.AdamW` that also takes row gradients; with ``untouched="lazy"`` only touched rows decay.

    Everything else is as in :class:`Adam`.

    >>> import torch, catembed
    >>> layer = catembed.Embedding(1000, 4, sparse=True)
    >>> optimizer = AdamW(layer.parameters(), lr=0.1, untouched="lazy")
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        untouched: str = "lazy",
        state_dtype: torch.dtype | None = None,
        stochastic_rounding: bool = False,
    ) -> None:
        self._row_options = {
            "untouched": untouched,
            "state_dtype": state_dtype,
            "stochastic_rounding": stochastic_rounding,
        }
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            maximize=maximize,
            foreach=foreach,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
        )
