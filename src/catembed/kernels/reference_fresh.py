"""The definition of `fresh_rows`: values of new rows, each a pure function of (seed, key). Plain torch, any device.

Random words are Philox4x32-10 (Salmon et al. 2011, https://doi.org/10.1145/2063384.2063405), normals are Box-Muller's:
so a row has the same value whatever the other rows, the threads, the device or the number of machines.

For column block b (columns 4b to 4b + 3) of the row with key k, all words unsigned and of 32 bits::

    counter = (b, 0, k mod 2³², k div 2³²)        philox key = (seed mod 2³², seed div 2³²)
    x₀, x₁, x₂, x₃ = philox4x32_10(counter, key)
    r₀ = √(-2 ln((x₀ + ½) 2⁻³²))    θ₀ = (x₁ + ½) (2π / 2³²)    columns 4b, 4b + 1:      r₀ cos θ₀, r₀ sin θ₀
    r₁ = √(-2 ln((x₂ + ½) 2⁻³²))    θ₁ = (x₃ + ½) (2π / 2³²)    columns 4b + 2, 4b + 3:  r₁ cos θ₁, r₁ sin θ₁

in float64, then rounded to nearest: to float32, and from there to 16 bits; float64 rows keep the number as it is. The
halves keep the logarithm finite and the angles off the axes, where cosines could not agree to a relative tolerance. No
value is beyond ±6.77.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["fresh_rows", "philox"]

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # what the key gains between rounds
_ROUNDS = 10

_LOW = 0xFFFFFFFF


def fresh_rows(out: Tensor, seed: int, keys: Tensor) -> None:
    """Fill ``out`` (n, D), of a floating dtype and contiguous, with N(0, 1): row i a pure function of (seed, keys[i]).

    ``seed``: 64 bits, an int taken modulo 2⁶⁴. ``keys``: int64 (n,), read as 64 bits.
    """
    blocks = -(-out.shape[1] // 4)
    counter = torch.zeros((len(keys), blocks, 4), dtype=torch.int64, device=out.device)
    counter[..., 0] = torch.arange(blocks, device=out.device)
    counter[..., 2] = (keys & _LOW)[:, None]
    counter[..., 3] = (keys >> 32 & _LOW)[:, None]
    words = philox(counter, seed).double()
    radius = (-2 * ((words[..., 0::2] + 0.5) * 2.0**-32).log()).sqrt()
    angle = (words[..., 1::2] + 0.5) * (2 * math.pi / 2**32)
    normals = torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1)
    normals = normals.view(len(keys), 4 * blocks)[:, : out.shape[1]]
    out.copy_(normals if out.dtype == torch.float64 else normals.float())


def philox(counter: Tensor, key: int) -> Tensor:
    """Philox4x32-10: four words for each counter of four words, int64 (..., 4) holding 32 bits each."""
    c0, c1, c2, c3 = counter.unbind(-1)
    k0, k1 = key & _LOW, key >> 32 & _LOW
    for _ in range(_ROUNDS):
        high0, low0 = _product(c0, _MULTIPLIERS[0])
        high1, low1 = _product(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _WEYL[0] & _LOW, k1 + _WEYL[1] & _LOW
    return torch.stack((c0, c1, c2, c3), dim=-1)


def _product(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    """The high and the low 32 bits of the product of two words, by halves: int64 has no room for all 64."""
    low = (word & 0xFFFF) * factor
    high = (word >> 16) * factor + (low >> 16)
    return high >> 16, (high & 0xFFFF) << 16 | low & 0xFFFF
