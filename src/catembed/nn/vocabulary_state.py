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
from catembed.vocabulary import HashVocabulary, Vocabulary, from_arrays

__all__ = ["AnyVocabulary", "from_state", "from_tensors", "read_seed", "to_state", "to_tensors"]

AnyVocabulary = Vocabulary | HashVocabulary

_PREFIX = "vocabulary."


def to_tensors(vocabulary: AnyVocabulary, *, index: bool = False) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The vocabulary's stored form, with tensors called ``vocabulary.…``; with the hash table, or without."""
    header, arrays = vocabulary.to_arrays(index=index)
    # A copy, because torch has no read-only tensors and warns of read-only arrays.
    return header, {_PREFIX + name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


def from_tensors(header: Any, tensors: Mapping[str, Tensor], *, verify: bool = True) -> AnyVocabulary:
    """The vocabulary of what ``to_tensors`` gave; raises ``FormatError`` on anything else."""
    if not isinstance(header, dict):
        raise FormatError(f"the header of a vocabulary must be a JSON object (got {header!r:.200})")
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX) or tensor.dtype not in (torch.uint8, torch.int64):
            raise FormatError(f"a vocabulary has tensors '{_PREFIX}…' of uint8 or int64 (got {name!r}, {tensor.dtype})")
    arrays = {name.removeprefix(_PREFIX): tensor.numpy() for name, tensor in tensors.items()}
    return from_arrays(header, arrays, verify=verify)


def to_state(vocabulary: AnyVocabulary, fresh_seed: int) -> Tensor:
    """The vocabulary, and the seed of rows to come, as one uint8 tensor of shape ``(bytes,)``."""
    header, tensors = to_tensors(vocabulary)
    parts = pack(tensors, {"content": "Vocabulary", "vocabulary": header, "fresh_seed": fresh_seed})
    return torch.frombuffer(bytearray().join(parts), dtype=torch.uint8)


def from_state(state: Any) -> tuple[AnyVocabulary, int | None]:
    """What ``to_state`` was given (None: by a version that knew no seed); raises ``FormatError`` on anything else."""
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.ndim != 1 or state.is_meta:
        got = f"a tensor of {state.dtype}, shape {tuple(state.shape)}" if isinstance(state, Tensor) else repr(state)
        raise FormatError(f"a stored vocabulary must be a uint8 tensor of one dimension (got {got:.200})")
    # A copy: the vocabulary keeps the bytes, and the tensor may change.
    tensors, header = unpack(bytearray(state.cpu().numpy().tobytes()))
    if header.get("content") != "Vocabulary" or set(header) - {"fresh_seed"} != {"content", "vocabulary"}:
        raise FormatError(f"the bytes hold something else than a vocabulary (got {header!r:.200})")
    return from_tensors(header["vocabulary"], tensors), read_seed(header)


def read_seed(header: dict[str, Any]) -> int | None:
    """The seed of rows to come that a header has, or None."""
    seed = header.get("fresh_seed")
    if seed is not None and (type(seed) is not int or not 0 <= seed < 2**64):
        raise FormatError(f"fresh_seed must be an integer of 64 bits (got {seed!r:.100})")
    return seed
