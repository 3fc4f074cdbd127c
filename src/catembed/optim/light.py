"""`LightOptimizer`: `step` and `zero_grad` without profiler ranges where no profiler listens.

Torch puts a range around both at every call, and looks for hooks; on a small table that costs as much as the update.
Here both happen only where a profiler runs or a hook is registered, and then by torch's own code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

__all__ = ["LightOptimizer"]

_autograd: Any = torch.autograd


class LightOptimizer(torch.optim.Optimizer):
    """Mixed in before torch's optimisers; the subclass has the step in `_take_step`."""

    def _take_step(self, closure: Callable[[], Any] | None = None) -> Any:
        raise NotImplementedError

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update every parameter that has a gradient; returns the loss of ``closure``, if one is given.

        Raises:
            RuntimeError: a layer's weight is no longer the one this optimiser was given, or a setting that row
                gradients cannot have. Nothing is changed then.
            OutOfRangeError: a row gradient for a row that the table does not have. Nothing is changed then.
        """
        return _take_told_step(self, closure) if self._is_watched() else self._take_step(closure)

    step.hooked = True  # pyright: ignore[reportFunctionMemberAccess]  (so torch does not wrap it)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with ``set_to_none=False`` set them to zero."""
        if not set_to_none or _autograd._profiler_enabled():
            super().zero_grad(set_to_none)
            return
        for group in self.param_groups:
            for param in group["params"]:
                param.grad = None

    def _is_watched(self) -> bool:
        """Whether a profiler or a hook waits for the step."""
        return bool(
            _autograd._profiler_enabled()
            or self._optimizer_step_pre_hooks
            or self._optimizer_step_post_hooks
            or _global_optimizer_pre_hooks
            or _global_optimizer_post_hooks
        )


@torch.optim.Optimizer.profile_hook_step
def _take_told_step(optimizer: LightOptimizer, closure: Callable[[], Any] | None = None) -> Any:
    """The step within torch's profiler range and between its hooks."""
    return optimizer._take_step(closure)
