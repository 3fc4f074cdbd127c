"""``convert``: an existing model's embedding tables become ours, in place.

How: each module stays the object it is and takes our class, which adds behaviour and no state. So whatever holds the
module or its weight (an optimiser, a tied output layer, hooks, a wrapper, a list in the model's own code) holds on.

Known limits: subclasses of torch's layers keep their own ``forward`` and are left alone, as are compiled TorchScript
modules. Convert before ``torch.compile`` or ``fully_shard``, which make classes of their own.
"""

from __future__ import annotations

from typing import Any, TypeVar

from torch import nn
from torch.nn.utils import parametrize

from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.optim import registry

__all__ = ["convert"]

_OURS = {nn.Embedding: Embedding, nn.EmbeddingBag: EmbeddingBag}

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def convert(model: ModuleT, *, sparse: bool | None = None) -> ModuleT:
    """Turn every ``torch.nn.Embedding`` and ``EmbeddingBag`` of ``model`` into ours, in place; returns ``model``.

    Parameters, ties, hooks, parametrizations, the training flag and the ``state_dict`` stay as they are. A table
    without a name gets its path in the model as one, for error messages. ``sparse=True`` or ``False`` sets the flag of
    every table, ours included; ``None`` keeps each as it is.

    Raises:
        TypeError: ``model`` is no module.
        ValueError: ``sparse=True`` with a table that has no sparse gradient; nothing is changed then.

    >>> import torch
    >>> model = convert(torch.nn.Sequential(torch.nn.Embedding(3, 5), torch.nn.Linear(5, 1)), sparse=True)
    >>> model[0]
    Embedding(3, 5, sparse=True, name='0')
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"convert() takes a torch.nn.Module (got {type(model).__name__})")
    tables = [(path, module, _class_to_be(module)) for path, module in model.named_modules()]
    if sparse:
        for path, table, ours in tables:
            if ours is not None:
                _refuse_sparse_where_impossible(path, table)
    for path, table, ours in tables:
        if ours is not None:
            _turn_into(ours, table, path, sparse)
    return model


def _class_to_be(module: nn.Module) -> type[nn.Module] | None:
    """Our class for ``module``: for torch's own its subclass, for ours itself, for all other modules none."""
    kind = type(module)
    if kind in _OURS:
        return _OURS[kind]
    if isinstance(module, (Embedding, EmbeddingBag)):
        return kind
    if parametrize.is_parametrized(module) and kind.__bases__[0] in _OURS:
        # parametrize made this class for its properties, on top of torch's; the same on top of ours.
        namespace = {key: value for key, value in vars(kind).items() if key not in ("__dict__", "__weakref__")}
        return type(kind.__name__, (_OURS[kind.__bases__[0]],), namespace)
    return None


def _turn_into(ours: type[nn.Module], table: Any, path: str, sparse: bool | None) -> None:
    table.__class__ = ours
    if table.name is None:
        table.name = path or None
    if sparse is not None:
        table.sparse = sparse
    registry.register(table)


def _refuse_sparse_where_impossible(path: str, table: Any) -> None:
    reason = None
    if getattr(table, "mode", None) == "max":
        reason = "mode='max'"
    elif table.scale_grad_by_freq:
        reason = "scale_grad_by_freq=True"
    if reason:
        raise ValueError(
            f"{path or 'the model'!r} has {reason}, for which torch has no sparse gradient: convert(model), then set "
            ".sparse = True on the other tables"
        )
