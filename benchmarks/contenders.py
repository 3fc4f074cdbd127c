"""The training steps that are compared: each is a table, an optimiser, and a function of one batch.

Every contender does the same work: look up ``ids``, run backward with the same output gradient, update. Rivals run with
their own defaults, except dense Adam, which gets torch's fastest CPU path (``fused=True``). FBGEMM is called with bags
of one id, the form its CPU kernels take.
"""

import dataclasses
from collections.abc import Callable

import torch

import catembed
from catembed import optim

Batch = Callable[[torch.Tensor, torch.Tensor], None]
Build = Callable[[int, int], Batch]


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to train a table: how to build its step, and how many table-sized arrays it holds."""

    name: str
    build: Build
    tables: float  # memory of weight, state and dense gradient, in units of the weight


def _torch_step(layer: torch.nn.Embedding, optimizer: torch.optim.Optimizer) -> Batch:
    def step(ids: torch.Tensor, grad: torch.Tensor) -> None:
        optimizer.zero_grad()
        layer(ids).backward(grad)
        optimizer.step()

    return step


def _ours(make: Callable[..., torch.optim.Optimizer], **options: object) -> Build:
    def build(rows: int, dim: int) -> Batch:
        layer = catembed.Embedding(rows, dim, sparse=True)
        optimizer = make([layer.weight], lr=0.01, **options)
        step = _torch_step(layer, optimizer)
        step(torch.zeros(1, dtype=torch.int64), torch.ones(1, dim))
        for state in optimizer.state.values():  # touch every page, as after long training
            for tensor in state.values():
                if isinstance(tensor, torch.Tensor) and tensor.dim() > 0:
                    tensor.add_(1e-6)
        return step

    return build


def _torch(make: Callable[..., torch.optim.Optimizer], *, sparse: bool, **options: object) -> Build:
    def build(rows: int, dim: int) -> Batch:
        layer = torch.nn.Embedding(rows, dim, sparse=sparse)
        return _torch_step(layer, make([layer.weight] if not sparse else layer.parameters(), lr=0.01, **options))

    return build


def fbgemm_table(rows: int, dim: int, optimizer: str) -> torch.nn.Module:
    """FBGEMM's layer for one table on the CPU, which sums bags and updates in backward."""
    import fbgemm_gpu  # noqa: F401  (loads the operators)
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        EmbeddingLocation,
        OptimType,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    table = SplitTableBatchedEmbeddingBagsCodegen(
        [(rows, dim, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=getattr(OptimType, optimizer),
        learning_rate=0.01,
        pooling_mode=PoolingMode.SUM,
    )
    table.init_embedding_weights_uniform(-1.0, 1.0)
    return table


def _fbgemm(optimizer: str) -> Build:
    def build(rows: int, dim: int) -> Batch:
        table = fbgemm_table(rows, dim, optimizer)
        offsets: dict[int, torch.Tensor] = {}

        def step(ids: torch.Tensor, grad: torch.Tensor) -> None:
            count = ids.numel()
            if count not in offsets:
                offsets[count] = torch.arange(count + 1)
            table(ids, offsets[count]).backward(grad)

        return step

    return build


OURS_ADAM = Contender("catembed Adam", _ours(optim.Adam), 3)
OURS_ADAM_EXACT = Contender("catembed Adam, exact", _ours(optim.Adam, untouched="exact"), 3)
OURS_ROWWISE = Contender("catembed RowwiseAdagrad", _ours(optim.RowwiseAdagrad), 1.1)
OURS_ADAGRAD = Contender("catembed Adagrad", _ours(optim.Adagrad), 2)
DENSE_ADAM = Contender("nn.Embedding + fused dense Adam", _torch(torch.optim.Adam, sparse=False, fused=True), 4)
DENSE_ADAM_DEFAULT = Contender("nn.Embedding + dense Adam", _torch(torch.optim.Adam, sparse=False), 4)
SPARSE_ADAM = Contender("SparseAdam", _torch(torch.optim.SparseAdam, sparse=True), 3)
SPARSE_ADAGRAD = Contender("sparse Adagrad", _torch(torch.optim.Adagrad, sparse=True), 2)
FBGEMM_ROWWISE = Contender("FBGEMM row-wise Adagrad", _fbgemm("EXACT_ROWWISE_ADAGRAD"), 1.1)
FBGEMM_ADAGRAD = Contender("FBGEMM Adagrad", _fbgemm("EXACT_ADAGRAD"), 2)

FAMILIES = {
    "Adam": [OURS_ADAM, OURS_ADAM_EXACT, DENSE_ADAM, SPARSE_ADAM],
    "Adagrad": [OURS_ROWWISE, OURS_ADAGRAD, FBGEMM_ROWWISE, FBGEMM_ADAGRAD, SPARSE_ADAGRAD],
}
