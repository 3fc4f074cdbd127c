"""(kernel, device) -> function: the one place that chooses where a kernel runs, loaded on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

__all__ = ["CPU", "kernel"]

CPU = torch.device("cpu")  # of kernels that run nowhere else

_REFERENCES = (
    "reference",
    "reference_settle",
    "reference_fresh",
    "reference_hash",
    "reference_find",
    "reference_dense",
    "reference_split",
    "reference_bag",
)


def kernel(name: str, device: torch.device) -> Callable[..., Any]:
    """The function of kernel ``name`` for tensors on ``device``: Numba's on the CPU, plain torch elsewhere."""
    return _find(name, device.type)


@cache
def _find(name: str, device: str) -> Callable[..., Any]:
    if device == "cpu":
        return getattr(importlib.import_module(f"catembed.kernels.cpu.{name}"), name)
    for module in _REFERENCES:
        found = getattr(importlib.import_module(f"catembed.kernels.{module}"), name, None)
        if found is not None:
            return found
    raise ValueError(f"no kernel is called {name!r}")
