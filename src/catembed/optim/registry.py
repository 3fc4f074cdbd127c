"""Which table a weight is: what layers tell, and what optimisers ask.

Layers register themselves when they are made, copied, unpickled or converted. `table_of` gives the record of a weight:
its layers, its name, its frozen rows. Layers and weights are held weakly, so nothing here keeps a model alive, and
nothing here is saved: frozen rows live on the layer and travel with it.

Rule: `version` rises whenever a layer comes or its frozen rows change, so that who caches an answer compares a number.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from catembed.optim.layout import zeros
from catembed.storage import grow_rows

__all__ = ["Table", "changed", "describe", "keep_exact", "register", "table_of", "version"]

_layers: weakref.WeakSet[nn.Module] = weakref.WeakSet()
_tables = WeakTensorKeyDictionary()
_version = 0
_gathered = 0  # the version at which the tables last learned their layers


class Table:
    """One weight: the layers that hold it, and what they say about its rows."""

    __slots__ = ("__weakref__", "_frozen", "_frozen_key", "_layers", "kept_exact", "warned")

    def __init__(self) -> None:
        self._layers: list[weakref.ref[Any]] = []
        self._frozen: Tensor | None = None
        self._frozen_key: tuple[Any, ...] = ()
        self.warned = False  # of its dense gradient
        self.kept_exact = False  # by an optimiser that settles rows before they are looked up

    def layers(self) -> list[Any]:
        """The living layers that hold this weight."""
        return [layer for layer in (reference() for reference in self._layers) if layer is not None]

    def sparse(self) -> bool:
        """Whether some layer hands over row gradients."""
        return any(layer.sparse for layer in self.layers())

    def frozen(self, weight: Tensor) -> Tensor | None:
        """The rows that must not move, as a uint8 mask of shape ``(N,)`` beside the weight; None if there are none.

        These are the rows that any of its layers has frozen and those that are padding to any of them.
        """
        key = (_version, weight.device)
        if key != self._frozen_key or (self._frozen is not None and len(self._frozen) > len(weight)):
            self._frozen, self._frozen_key = _union(self.layers(), weight), key
        if self._frozen is not None and len(self._frozen) != len(weight):
            self._frozen = grow_rows(self._frozen, len(weight))  # rows that came since are free
        return self._frozen


def _union(layers: list[Any], weight: Tensor) -> Tensor | None:
    masks = [layer.frozen_rows for layer in layers if layer.frozen_rows is not None]
    paddings = {layer.padding_idx for layer in layers} - {None}
    if not masks and not paddings:
        return None
    union = zeros((len(weight),), torch.uint8, weight.device)
    for mask in masks:
        union[: len(mask)] |= mask.to(weight.device)
    for row in paddings:
        union[row] = 1
    return union


def register(layer: Any) -> None:
    """Make a layer known, or known anew: its weight is another, or its frozen rows are."""
    _layers.add(layer)
    weight = layer._parameters.get("weight")
    table = None if weight is None else _tables.get(weight)
    _tell(layer, table is not None and table.kept_exact)
    changed()


def changed() -> None:
    """What layers tell of their weights is no longer what it was."""
    global _version
    _version += 1


def version() -> int:
    """A number that rises with every change."""
    return _version


def table_of(weight: Tensor) -> Table | None:
    """The record of ``weight``, or None if no layer of ours has held it."""
    global _gathered
    if _gathered != _version:
        _gathered = _version
        _gather()
    return _tables.get(weight)


def _gather() -> None:
    """Ask all layers which weight they hold now."""
    for table in _tables.values():
        table._layers = []
    for layer in list(_layers):
        weight = layer._parameters.get("weight")
        if weight is None:
            continue
        if weight not in _tables:
            _tables[weight] = Table()
        _tables[weight]._layers.append(weakref.ref(layer))
        _tell(layer, _tables[weight].kept_exact)


def keep_exact(weight: Tensor, kept: bool) -> None:
    """Tell the layers of ``weight``, also those to come, whether rows are to be settled before a lookup in training."""
    table = table_of(weight)
    if table is None:
        table = _tables[weight] = Table()
    table.kept_exact = kept
    for layer in table.layers():
        _tell(layer, kept)


def _tell(layer: Any, kept_exact: bool) -> None:
    if layer.kept_exact != kept_exact:  # most layers never need the attribute
        layer.kept_exact = kept_exact


def describe(weight: Tensor) -> str:
    """The name of a weight's table for messages, or its shape where it has none."""
    table = table_of(weight)
    names = [layer.name for layer in table.layers() if layer.name is not None] if table is not None else []
    return f"table {names[0]!r}" if names else f"a parameter of shape {tuple(weight.shape)}"
