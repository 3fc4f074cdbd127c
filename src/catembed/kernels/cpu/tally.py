"""`tally`: how often each code of a dictionary occurs, and where first."""

import numpy as np

from .compile import jit

__all__ = ["tally"]


@jit
def _tally(codes, base, counts, firsts):
    gone = 0
    for i in range(len(codes)):
        code = codes[i]
        if code == -1:
            gone += 1
        elif code < 0 or code >= len(counts):
            return -1 - i
        else:
            if len(firsts) and counts[code] == 0:
                firsts[code] = base + i
            counts[code] += 1
    return gone


def tally(codes: np.ndarray, base: int, counts: np.ndarray, firsts: np.ndarray) -> int:
    """Add to ``counts``, int64 of zeros, one for each of the codes, int64; returns how many are -1: missing.

    ``firsts``, int64, gets ``base`` + the first place of each code; of length 0, it gets nothing. Raises ``IndexError``
    for a code that points at nothing.
    """
    gone = _tally(codes, base, counts, firsts)
    if gone < 0:
        raise IndexError(f"code {codes[-1 - gone]} at position {-1 - gone} is outside [-1, {len(counts)})")
    return gone
