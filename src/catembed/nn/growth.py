"""`append_rows`: more rows for a table in use, also in the middle of a training step.

Rules: the Parameter stays the object it is, so whatever holds it (an optimiser, a tied layer, hooks) holds on; its data
becomes longer, on the CPU where it lies (``storage.grow_rows``). State of catembed's optimisers follows at their next
step. A graph made before is held to the old shape: its gradient is taken over when it arrives, by ``_adopt``.

Known limits: a graph that saved the whole weight (a tied output layer, a penalty on all rows, per-sample weights that
are trained) cannot be run backward after it has grown: torch raises "modified by an inplace operation". From graphs
made before, ``backward(inputs=[weight])`` and ``torch.autograd.grad`` get no gradient of the weight. Hooks on the
weight go on; those that someone put on its accumulator stay with the old one. A weight must not be in use by another
thread while it grows.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import get_gradient_edge, increment_version

from catembed import storage
from catembed.nn.table import TableLayer
from catembed.optim import registry

__all__ = ["append_rows", "check_growable"]


@torch.compiler.disable
def append_rows(layer: TableLayer, fresh: Tensor) -> None:
    """Give the weight of ``layer`` the rows ``fresh (n, D)`` after its own, for all layers that hold it.

    Costs the new rows (amortised; on the CPU, from 1 MB on). A pending gradient grows with the weight. What only shares
    memory with the weight, such as a tensor given as ``_weight``, does not grow, and may share it no longer. A tied
    layer that is not catembed's uses the longer weight, but keeps its own count of rows.

    A compiled layer is compiled anew after each growth; after eight times torch gives up and runs it plain (raises,
    with ``fullgraph=True``), unless ``torch._dynamo.config.force_parameter_static_shapes`` is False.

    Optimisers: catembed's see the new rows at their next step, with the state of rows never touched. Torch's keep
    nothing for them: SGD without momentum goes on; all others raise RuntimeError at their next step, before anything is
    written, if their kernels are torch's plain ones, but with ``fused=True`` **they write beyond the old state's memory
    and corrupt the process**. Take catembed's, or make torch's anew after growth.

    Raises:
        ValueError: ``fresh`` has not the width of the table.
        TypeError: ``fresh`` has not the dtype of the table; a weight that is not a plain Parameter (parametrized,
            sharded).
        RuntimeError: a weight on the meta device, in memory shared with other processes, made in inference mode, or
            replicated by DistributedDataParallel. Nothing is changed then.

    >>> import catembed
    >>> layer = catembed.Embedding(2, 3, _weight=torch.zeros(2, 3))
    >>> optimizer = catembed.optim.Adam(layer.parameters())
    >>> append_rows(layer, torch.ones(1, 3))
    >>> layer, layer([1, 2])
    (Embedding(3, 3), tensor([[0., 0., 0.],
            [1., 1., 1.]], grad_fn=<EmbeddingBackward0>))
    """
    weight = _checked_weight(layer)
    _check_rows(weight, fresh)
    if len(fresh) == 0:
        return
    check_growable(layer)
    with torch.inference_mode(False):
        accumulator = _held_accumulator(weight)
        rows = len(weight) + len(fresh)
        grown = storage.grow_rows(weight.detach(), rows)
        grown[len(weight) :] = fresh
        grad = None if weight.grad is None else _lengthened(weight.grad, rows)
        if accumulator is not None:
            accumulator.register_prehook(_adopt(weight))
        # Only data of another dtype makes torch forget the accumulator, which has the old shape.
        weight.data = torch.empty(0, dtype=_another_dtype(weight), device=weight.device)
        weight.data = grown
        weight.grad = grad
        increment_version(weight)  # graphs that saved the weight itself would compute with the longer one
    table = registry.table_of(weight)
    for holder in {layer, *(table.layers() if table is not None else ())}:
        holder.num_embeddings = rows


@torch.compiler.disable
def check_growable(layer: TableLayer) -> None:
    """Raise what ``append_rows`` would raise for the weight of ``layer``, before anything is changed."""
    weight = _checked_weight(layer)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        with torch.inference_mode(False):
            _refuse_replicated(weight, _held_accumulator(weight) is not None)


# Graphs made before


def _held_accumulator(weight: Tensor) -> Any:
    """The node that graphs made so far hand their gradients of ``weight`` to, or None if nothing holds one."""
    if not (weight.is_floating_point() or weight.is_complex()):
        return None
    trained = weight.requires_grad
    weight.requires_grad_(True)  # a graph may be older than the freeze
    try:
        _accumulator(weight).metadata["catembed"] = True  # gone with the node, if nothing else holds it
        node = _accumulator(weight)
        return node if "catembed" in node.metadata else None
    finally:
        weight.requires_grad_(trained)


def _accumulator(weight: Tensor) -> Any:
    return get_gradient_edge(weight).node


def _adopt(weight: Tensor) -> Callable[[tuple[Tensor | None, ...]], tuple[None] | None]:
    """Before an accumulator of an older, shorter shape runs: add what it was given to the gradient of today's shape.

    Hooks on the weight are called as ever, those on its gradient with the old shape.
    """

    def adopt(grads: tuple[Tensor | None, ...]) -> tuple[None] | None:
        (grad,) = grads
        if grad is None or not weight.requires_grad:
            return None
        grad = _lengthened(grad, len(weight))
        if weight.grad is None:
            weight.grad = grad
        elif weight.grad.is_sparse:
            weight.grad = (
                weight.grad + grad if grad.is_sparse else grad + weight.grad
            )  # torch adds sparse to dense only
        elif torch.is_grad_enabled():  # create_graph=True
            weight.grad = weight.grad + grad
        else:
            weight.grad += grad
        return (None,)  # nothing is left for the accumulator itself

    return adopt


def _lengthened(grad: Tensor, rows: int) -> Tensor:
    """A gradient as that of a table of ``rows`` rows, whose last ones it does not touch."""
    if not grad.is_sparse:
        return torch.nn.functional.pad(grad, (0, 0) * (grad.dim() - 1) + (0, rows - len(grad)))
    return torch.sparse_coo_tensor(
        grad._indices(),
        grad._values(),
        (rows, *grad.shape[1:]),
        is_coalesced=grad.is_coalesced(),
        check_invariants=False,
    )


def _another_dtype(weight: Tensor) -> torch.dtype:
    return torch.float32 if weight.dtype == torch.float64 else torch.float64


# What cannot grow


def _checked_weight(layer: TableLayer) -> Tensor:
    """The weight of ``layer``, if it can grow."""
    weight = layer._parameters.get("weight")
    if not isinstance(weight, nn.Parameter) or type(weight.data) is not Tensor:
        found = weight.data if isinstance(weight, nn.Parameter) else weight
        raise TypeError(
            f"only a plain Parameter can get more rows: the weight of {_described(layer)} is "
            f"{'parametrized' if found is None else f'a {type(found).__name__}'}. Add the rows before that"
        )
    if weight.is_meta:
        _refuse(layer, "is on the meta device and has no values to keep: give it memory with to_empty() first")
    if weight.is_inference():
        _refuse(layer, "was made in inference mode, where it stays as it is: make the layer outside of it")
    if weight.device.type == "cpu" and weight.is_shared():
        _refuse(layer, "is shared with other processes, which would keep the old rows: grow it before share_memory()")
    return weight


def _refuse(layer: TableLayer, reason: str) -> None:
    raise RuntimeError(f"no rows can be added: the weight of {_described(layer)} {reason}")


def _described(layer: TableLayer) -> str:
    return f"table {layer.name!r}" if layer.name is not None else f"a table of {layer.num_embeddings:,} rows"


def _check_rows(weight: Tensor, fresh: Tensor) -> None:
    if fresh.dim() != weight.dim() or fresh.shape[1:] != weight.shape[1:]:
        raise ValueError(
            f"rows to add to {registry.describe(weight)} have shape (n, {', '.join(map(str, weight.shape[1:]))}) "
            f"(got {tuple(fresh.shape)})"
        )
    if fresh.dtype != weight.dtype:
        raise TypeError(
            f"rows to add to {registry.describe(weight)} are {weight.dtype} as it is (got {fresh.dtype}): nothing is "
            "rounded unasked; fresh.to(weight.dtype) does it"
        )
    if fresh.is_meta:
        raise RuntimeError(f"rows to add to {registry.describe(weight)} are on the meta device and have no values")


def _refuse_replicated(weight: Tensor, held: bool) -> None:
    """Raise if DistributedDataParallel keeps replicas of ``weight``: it holds its shape, and each rank its own rows."""
    for wrapper in _wrappers(held):
        if any(param is weight for param in getattr(wrapper, "_module_parameters", ())):
            raise RuntimeError(
                f"no rows can be added to {registry.describe(weight)}: DistributedDataParallel replicates it, with "
                "gradients of a fixed shape, and another rank would give the new ids to other categories. Add all rows "
                "before wrapping the model, or wrap it anew afterwards"
            )


def _wrappers(held: bool) -> Iterator[Any]:
    """The wrapper whose forward runs now; where an accumulator is held, as wrappers do, all there are (some 40 ms)."""
    kind = nn.parallel.DistributedDataParallel
    active = kind._get_active_ddp_module()
    if active is not None:
        yield active
    if held:
        kinds = [kind]
        for each in kinds:
            kinds += each.__subclasses__()
        yield from (found for found in gc.get_referrers(*kinds) if issubclass(type(found), kind))
