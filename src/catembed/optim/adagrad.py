"""`Adagrad` and `RowwiseAdagrad`: torch's for dense gradients, at the cost of the rows touched for row gradients.

Of a touched row (Duchi et al., http://jmlr.org/papers/v12/duchi11a.html)::

    s = s + g²                          w = w - lr / (1 + (t - 1) lr_decay) · g / (√s + eps)

where t counts the table's steps. Row-wise, s is one number per row and takes the mean of g² over the row.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from catembed.kernels.dispatch import kernel
from catembed.kernels.reference import arithmetic_dtype
from catembed.optim.layout import resized
from catembed.optim.rows import RowOptimizer, Rows

__all__ = ["Adagrad", "RowwiseAdagrad"]


class Adagrad(RowOptimizer, torch.optim.Adagrad):
    """:class:`torch.optim.Adagrad` that also takes row gradients, at the cost of the rows touched.

    Arguments and defaults are torch's. Dense parameters get bit for bit what torch gives, except that their state is
    made at the first step, not at construction. For parameters with row gradients:

    Args:
        untouched: a row without a gradient does not move, so ``"lazy"`` and ``"exact"`` are the same without
            ``weight_decay``. With it, ``"lazy"`` decays rows when touched, and ``"exact"`` is refused.
        stochastic_rounding: round 16-bit weights up or down at random, so that small changes count on average.

    Raises:
        ValueError: settings that exclude each other: ``differentiable`` with row gradients, ``weight_decay`` with
            ``untouched="exact"``.

    >>> import torch, catembed
    >>> layer = catembed.Embedding(3, 2, sparse=True, _weight=torch.ones(3, 2))
    >>> optimizer = Adagrad(layer.parameters(), lr=0.5)
    >>> layer(torch.tensor([1, 1])).sum().backward()
    >>> optimizer.step()
    >>> layer.weight.tolist()
    [[1.0, 1.0], [0.5, 0.5], [1.0, 1.0]]
    """

    _kernel: ClassVar[str] = "update_adagrad"

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        untouched: str = "lazy",
        stochastic_rounding: bool = False,
    ) -> None:
        self._row_options = {"untouched": untouched, "stochastic_rounding": stochastic_rounding}
        # Torch's constructor fills a state as large as each parameter: let it see none, then give them to its base.
        super().__init__(
            [{"params": []}],
            lr,
            lr_decay,
            weight_decay,
            initial_accumulator_value,
            eps,
            foreach,
            maximize=maximize,
            differentiable=differentiable,
            fused=fused,
        )
        torch.optim.Optimizer.__init__(self, params, self.defaults)

    def _check_group(self, group: dict[str, Any]) -> None:
        super()._check_group(group)
        if group["untouched"] == "exact" and group["weight_decay"]:
            raise ValueError(
                f"untouched='exact' with weight_decay={group['weight_decay']} would cost the whole table each step: "
                "decay added to Adagrad's gradient never stops moving a row. AdamW's decay has a closed form"
            )

    def _sum_shape(self, param: Tensor, weight: Tensor) -> tuple[torch.Size, torch.Size]:
        """The shape of the sum in the state, and as the kernel takes it."""
        return param.shape, weight.shape

    def _row_state(self, rows: Rows) -> Tensor:
        """The sum of squares; rows that are new hold the initial value."""
        param = rows.param
        state = self.state[param]
        shape, kernels_shape = self._sum_shape(param, rows.weight)
        layout = self._layouts.get(id(param))
        if not (layout and layout[0] is state.get("sum") and layout[0].shape[0] == param.shape[0]):
            if "step" not in state:
                state["step"] = torch.zeros((), device=param.device if rows.group["fused"] else "cpu")
            fill = rows.group["initial_accumulator_value"]
            old = state.get("sum")
            if old is not None and old.dim() > len(shape):
                old = old.view(len(old), -1).mean(dim=1)
            state["sum"] = resized(old, shape, arithmetic_dtype(param.dtype), param.device, fill)
            layout = self._layouts[id(param)] = (state["sum"],)
        return layout[0].view(kernels_shape)

    def _update_rows(self, rows: Rows, state: Tensor | None, **common: Any) -> tuple[float, ...]:
        group = rows.group
        step = self.state[rows.param]["step"].add_(1).item()
        kernel(self._kernel, rows.weight.device)(
            rows.weight,
            state,
            rows.groups,
            rows.grads,
            lr=float(group["lr"]) / (1 + (step - 1) * group["lr_decay"]),
            weight_decay=float(group["weight_decay"]),
            eps=group["eps"],
            **common,
        )
        return ()


class RowwiseAdagrad(Adagrad):
    """Adagrad with one state number per row: 4 bytes beside each row, whatever its width.

    The number sums the mean of the squared gradient over the row, as FBGEMM's row-wise Adagrad does. Dense parameters
    are trained with torch's Adagrad. Arguments are those of :class:`Adagrad`.

    >>> import torch, catembed
    >>> layer = catembed.Embedding(1000, 64, sparse=True)
    >>> optimizer = RowwiseAdagrad(layer.parameters(), lr=0.1)
    >>> layer(torch.tensor([1, 1])).sum().backward()
    >>> optimizer.step()
    >>> optimizer.state[layer.weight]["sum"].shape
    torch.Size([1000])
    """

    _kernel: ClassVar[str] = "update_rowwise_adagrad"

    def _sum_shape(self, param: Tensor, weight: Tensor) -> tuple[torch.Size, torch.Size]:
        return param.shape[:1], param.shape[:1]
