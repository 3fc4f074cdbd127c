"""A vocabulary as tensors: beside a weight in a file, or as the one uint8 tensor of a ``state_dict``.

The uint8 tensor holds the bytes of a file (docs/format.md) of the vocabulary alone, so every loader of tensors carries
it (``torch.load(weights_only=True)``, safetensors), and reading it checks all that reading a file checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from catembed.errors import FormatError
from catembed.storage import pack, unpack
from catembed.vocabulary import Vocabulary

__all__ = ["from_state", "from_tensors", "to_state", "to_tensors"]

_PREFIX = "vocabulary."


def to_tensors(vocabulary: Vocabulary) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The vocabulary's stored form, with tensors called ``vocabulary.…``."""
    header, arrays = vocabulary.to_arrays()
    # A copy, because torch has no read-only tensors and warns of read-only arrays.
    return header, {_PREFIX + name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def from_tensors(header: Any, tensors: Mapping[str, Tensor]) -> Vocabulary:
    """The vocabulary of what ``to_tensors`` gave; raises ``FormatError`` on anything else."""
    if not isinstance(header, dict):
        raise FormatError(f"the header of a vocabulary must be a JSON object (got {header!r:.200})")
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX) or tensor.dtype not in (torch.uint8, torch.int64):
            raise FormatError(f"a vocabulary has tensors '{_PREFIX}…' of uint8 or int64 (got {name!r}, {tensor.dtype})")
    arrays = {name.removeprefix(_PREFIX): tensor.numpy() for name, tensor in tensors.items()}
    return Vocabulary.from_arrays(header, arrays)


def to_state(vocabulary: Vocabulary) -> Tensor:
    """The vocabulary as one uint8 tensor of shape ``(bytes,)``."""
    header, tensors = to_tensors(vocabulary)
    parts = pack(tensors, {"content": "Vocabulary", "vocabulary": header})
    return torch.frombuffer(bytearray().join(parts), dtype=torch.uint8)


def from_state(state: Any) -> Vocabulary:
    """The vocabulary of what ``to_state`` gave; raises ``FormatError`` on anything else."""
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.ndim != 1 or state.is_meta:
        got = f"a tensor of {state.dtype}, shape {tuple(state.shape)}" if isinstance(state, Tensor) else repr(state)
        raise FormatError(f"a stored vocabulary must be a uint8 tensor of one dimension (got {got:.200})")
    # A copy: the vocabulary never changes, the tensor may.
    tensors, header = unpack(bytearray(state.cpu().numpy().tobytes()))
    if header.get("content") != "Vocabulary" or set(header) != {"content", "vocabulary"}:
        raise FormatError(f"the bytes hold something else than a vocabulary (got {header!r:.200})")
    return from_tensors(header["vocabulary"], tensors)
