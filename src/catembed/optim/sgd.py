"""`SGD`: torch's for dense gradients, and at the cost of the rows touched for row gradients.

Of a touched row, ``g`` its summed gradient plus ``weight_decay · w``::

    b = momentum · b + (1 - dampening) g      (at the table's first step b = g)
    w = w - lr (g + momentum · b)  with nesterov,  w - lr · b  without

With ``untouched="lazy"`` the momentum and decay of rows that are not touched rest. Torch's own SGD moves every row ever
touched by its momentum, and has no weight decay for sparse gradients.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from catembed.kernels.dispatch import kernel
from catembed.kernels.reference import arithmetic_dtype
from catembed.optim.layout import resized
from catembed.optim.rows import RowOptimizer, Rows

__all__ = ["SGD"]


class SGD(RowOptimizer, torch.optim.SGD):
    """:class:`torch.optim.SGD` that also takes row gradients, at the cost of the rows touched.

    Arguments and defaults are torch's. Dense parameters get bit for bit what torch gives. For parameters with row
    gradients (``sparse=True`` layers, ours or torch's):

    Args:
        untouched: ``"lazy"``: momentum and decay act on a row only when it is touched; ``"exact"``: the weights are
            those of dense SGD, to float tolerance. ``flush()`` before reading a weight directly.
        stochastic_rounding: round 16-bit weights up or down at random, so that small changes count on average.

    >>> import torch, catembed
    >>> layer = catembed.Embedding(3, 2, sparse=True, _weight=torch.ones(3, 2))
    >>> optimizer = SGD(layer.parameters(), lr=0.5)
    >>> layer(torch.tensor([1, 1])).sum().backward()
    >>> optimizer.step()
    >>> layer.weight.tolist()
    [[1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
        untouched: str = "lazy",
        stochastic_rounding: bool = False,
    ) -> None:
        self._row_options = {"untouched": untouched, "stochastic_rounding": stochastic_rounding}
        super().__init__(
            params,
            lr,
            momentum,
            dampening,
            weight_decay,
            nesterov,
            maximize=maximize,
            foreach=foreach,
            differentiable=differentiable,
            fused=fused,
        )

    def _row_state(self, rows: Rows) -> Tensor | None:
        """The momentum buffer, ``(N, D)``, zero at first; None without momentum."""
        param = rows.param
        state = self.state[param]
        if rows.group["stochastic_rounding"]:
            state.setdefault("step", torch.zeros(()))
        if not rows.group["momentum"]:
            self._layouts[id(param)] = ()
            return None
        layout = self._layouts.get(id(param))
        if not (layout and layout[0] is state.get("momentum_buffer") and layout[0].shape[0] == param.shape[0]):
            old = state.get("momentum_buffer")
            first = old is None
            state["momentum_buffer"] = resized(old, param.shape, arithmetic_dtype(param.dtype), param.device)
            layout = self._layouts[id(param)] = (state["momentum_buffer"], first)
        return layout[0].view(rows.weight.shape)

    def _settling(self, group: dict[str, Any]) -> str | None:
        return "settle_sgd" if group["momentum"] or group["weight_decay"] else None

    def _update_rows(self, rows: Rows, state: Tensor | None, **common: Any) -> tuple[float, ...]:
        group, param = rows.group, rows.param
        first = False
        if state is not None:
            buffer, first = self._layouts[id(param)]
            self._layouts[id(param)] = (buffer, False)
        if group["stochastic_rounding"]:
            self.state[param]["step"] += 1
        lr, momentum, decay = float(group["lr"]), float(group["momentum"]), float(group["weight_decay"])
        dampening = 0.0 if first else float(group["dampening"])
        kernel("update_sgd", rows.weight.device)(
            rows.weight,
            state,
            rows.groups,
            rows.grads,
            lr=lr,
            momentum=momentum,
            dampening=dampening,
            nesterov=group["nesterov"],
            weight_decay=decay,
            **common,
        )
        if state is None:
            return 1 - lr * decay, 0.0, 0.0, 1.0
        bw, bb = (1 - dampening) * decay, momentum  # the buffer of a row without a gradient, from (w, buffer)
        ww, wb = (decay + momentum * bw, momentum * bb) if group["nesterov"] else (bw, bb)
        return 1 - lr * ww, -lr * wb, bw, bb
