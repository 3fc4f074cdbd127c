"""`Tables`: which of an optimiser's parameters are tables of our layers, looked up once and cached.

Nothing here is saved: a copied or unpickled optimiser finds its tables again at its next step.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor

from catembed.optim import registry

__all__ = ["Tables"]


class Tables:
    """The tables among the parameters of one optimiser."""

    def __init__(self) -> None:
        self._tables: dict[int, registry.Table] = {}
        self._holders: list[tuple[weakref.ref[Any], Tensor, int | None]] = []
        self._positions: dict[int, int] = {}
        self._version = -1

    def changed(self) -> None:
        """The optimiser was given other parameters: look at them all at the next step."""
        self._version = -1

    def look(self, optimizer: torch.optim.Optimizer) -> None:
        """Refuse layers whose weight was replaced; learn of layers that came or changed since the last step."""
        for reference, param, padding in self._holders:
            layer = reference()
            if layer is None:
                continue
            if layer._parameters.get("weight", param) is not param:
                _refuse_replaced(layer, optimizer)
            if layer.padding_idx != padding:
                registry.changed()
        version = registry.version()
        if version == self._version:
            return
        self._tables, self._holders, self._version = {}, [], version
        params = [param for group in optimizer.param_groups for param in group["params"]]
        self._positions = {id(param): position for position, param in enumerate(params)}
        for param in params:
            table = registry.table_of(param)
            if table is not None:
                self._tables[id(param)] = table
                self._holders += [(weakref.ref(layer), param, layer.padding_idx) for layer in table.layers()]

    def get(self, param: Tensor) -> registry.Table | None:
        """The table that ``param`` is, if a layer of ours holds it."""
        return self._tables.get(id(param))

    def position(self, param: Tensor) -> int:
        """Which of the optimiser's parameters this is."""
        return self._positions[id(param)]

    def frozen(self, param: Tensor) -> Tensor | None:
        """The rows of ``param`` that must not move, uint8 of shape ``(N,)``, or None."""
        table = self._tables.get(id(param))
        return None if table is None else table.frozen(param)


def _refuse_replaced(layer: Any, optimizer: torch.optim.Optimizer) -> None:
    """Raise, unless the new weight is one that the optimiser was given too, or is not to be trained at all."""
    registry.changed()
    weight = layer._parameters["weight"]
    if weight is None or not weight.requires_grad:
        return
    if any(weight is param for group in optimizer.param_groups for param in group["params"]):
        return
    name = f"table {layer.name!r}" if layer.name is not None else f"a table of shape {tuple(weight.shape)}"
    raise RuntimeError(
        f"the weight of {name} is no longer the Parameter that this {type(optimizer).__name__} was given, so it would "
        "not be trained. Change values in place (weight.data, copy_, load_state_dict), or make the optimizer after the "
        "weight is replaced"
    )
