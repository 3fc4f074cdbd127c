"""`TableLayer`: what ``Embedding`` and ``EmbeddingBag`` have beyond torch's layers besides lookup: a name, frozen rows.

Rules: a layer makes itself known to ``optim.registry`` wherever it comes into being, so that optimisers find its name
and its frozen rows by its weight. Where an optimiser keeps the weight exact (``optim.exact``), rows are brought up to
date before a lookup in training, and all of them at ``eval()``, and before the weight is saved, copied, loaded, moved,
or its frozen rows change; a lookup in eval mode writes nothing.
"""

from __future__ import annotations

import contextlib
from typing import Any, Self

import torch
from torch import Tensor

from catembed.functional import as_ids, embedding
from catembed.optim import exact, registry
from catembed.storage import advise_huge

__all__ = ["TableLayer"]


class TableLayer(torch.nn.Module):
    """Mixed in before one of torch's embedding layers."""

    weight: Tensor
    # On the class, so that a layer turned into one of ours, or pickled by an older version, has them.
    name: str | None = None
    frozen_rows: Tensor | None = None  # uint8 (num_embeddings,), 1 where frozen; not part of the state_dict
    kept_exact: bool = False  # by an optimiser with untouched="exact"; set through the registry

    def reset_parameters(self) -> None:
        """Torch's initial values, in huge pages where the system has them: random rows are then read much faster."""
        advise_huge(self.weight)
        super().reset_parameters()  # pyright: ignore[reportAttributeAccessIssue]  (of torch's layer)

    def freeze_rows(self, rows: Any) -> None:
        """Keep rows as they are, bit for bit, until thawed: catembed's optimisers write neither them nor their state.

        Args:
            rows: ids (integers of any shape) or a bool mask of shape ``(num_embeddings,)``.

        Raises:
            OutOfRangeError: an id outside the table.
            ValueError: a mask of another shape.

        >>> import torch, catembed
        >>> layer = catembed.Embedding(4, 2, sparse=True, _weight=torch.ones(4, 2))
        >>> layer.freeze_rows([0, 2])
        >>> optimizer = catembed.optim.SGD(layer.parameters(), lr=0.5)
        >>> layer([0, 1, 2]).sum().backward()
        >>> optimizer.step()
        >>> layer.weight[:, 0].tolist()
        [1.0, 0.5, 1.0, 1.0]
        """
        mask = self._mask(rows)
        exact.settle(self.weight)
        self.frozen_rows = mask if self.frozen_rows is None else mask | self._resized(self.frozen_rows)
        registry.register(self)

    def thaw_rows(self, rows: Any = None) -> None:
        """Let rows move again: ids, a bool mask, or None for all. The padding row stays as it is.

        Rows that another layer froze on the same weight are thawed as well.

        Raises:
            OutOfRangeError: an id outside the table.
            ValueError: a mask of another shape.
        """
        mask = None if rows is None else self._mask(rows)
        exact.settle(self.weight)
        table = registry.table_of(self.weight)
        for layer in {self, *(table.layers() if table is not None else ())}:
            if layer.frozen_rows is not None:
                left = None if mask is None else layer._resized(layer.frozen_rows) & (1 - mask)
                layer.frozen_rows = left if left is not None and left.any() else None
        registry.changed()

    def _mask(self, rows: Any) -> Tensor:
        """Ids or a bool mask as a uint8 mask over all rows, on the CPU."""
        count = len(self.weight)
        if not (isinstance(rows, (Tensor, int)) or hasattr(rows, "__array__")):
            rows = list(rows)
        rows = torch.as_tensor(rows).cpu()
        if rows.dtype == torch.bool:
            if rows.shape != (count,):
                raise ValueError(f"a mask of rows has shape ({count},), one entry per row (got {tuple(rows.shape)})")
            return rows.to(torch.uint8)
        mask = torch.zeros(count, dtype=torch.uint8)
        if rows.numel():
            embedding(rows, mask.unsqueeze(1), name=self.name)  # refuses what is no id of this table
            mask[rows.flatten().long()] = 1
        return mask

    def _resized(self, mask: Tensor) -> Tensor:
        """A mask made when the table had fewer rows: rows that came since are free."""
        return torch.nn.functional.pad(mask, (0, len(self.weight) - len(mask)))

    # Rows that an exact-mode optimiser has yet to bring up to date

    def _settle(self, input: Any) -> None:
        """Bring the rows of ``input`` up to date, before a lookup in training."""
        _settle(self.weight, input)  # pyright: ignore[reportCallIssue]  (torch's decorator hides the signature)

    def train(self, mode: bool = True) -> Self:
        """Torch's; on the way to eval mode all rows are brought up to date."""
        if not mode:
            exact.settle(self.weight)
        return super().train(mode)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        exact.settle(self.weight)
        super()._save_to_state_dict(*args, **kwargs)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        exact.settle(self.weight)
        super()._load_from_state_dict(*args, **kwargs)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        exact.settle(self.weight)
        return super()._apply(fn, recurse)

    def __getstate__(self) -> Any:
        exact.settle(self.weight)
        return super().__getstate__()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "weight":  # made, tied or replaced
            registry.register(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        registry.register(self)

    def extra_repr(self) -> str:
        """Torch's own line, and the name if there is one."""
        return super().extra_repr() + (f", name={self.name!r}" if self.name is not None else "")


@torch.compiler.disable
def _settle(weight: Tensor, input: Any) -> None:
    """Bring the rows of ``input`` up to date, outside of compiled graphs."""
    ids = as_ids(input, weight)
    if torch._C._functorch.is_functorch_wrapped_tensor(ids):  # pyright: ignore[reportAttributeAccessIssue]
        exact.settle(weight)  # inside vmap ids cannot be read: all rows
    elif ids.dtype in (torch.int32, torch.int64):
        with contextlib.suppress(IndexError):  # the lookup tells it better
            exact.settle(weight, ids)
