"""``Dropout`` with an eighth of the random numbers: torch draws one for each element, and that was 45 % of a step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_LEVELS = 256


class Dropout(nn.Module):
    """Zeroes elements at random in training, each with probability ``p`` to the nearest 1/256, and scales the others.

    The mean is kept exactly. One random byte decides about an element; they come from torch's generator.

    >>> out = Dropout(0.5)(torch.ones(4, 1000))
    >>> sorted(set(out.flatten().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"a dropout's probability is at least 0 and below 1 (got {p})")
        self.p = p

    def forward(self, given: Tensor) -> Tensor:
        """The same shape; in evaluation, the same tensor."""
        dropped = min(round(self.p * _LEVELS), _LEVELS - 1)
        if not self.training or not dropped:
            return given
        words = torch.empty(-(-given.numel() // 8), dtype=torch.int64, device=given.device).random_(-(2**63), None)
        drawn = words.view(torch.uint8)[: given.numel()].view(given.shape)
        return given * (drawn >= dropped).to(given.dtype).mul_(_LEVELS / (_LEVELS - dropped))

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"
