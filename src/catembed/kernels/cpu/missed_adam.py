"""What the Adam steps that a row has missed do to it, as a few numbers shared by all rows that missed the same ones.

A row settled up to step s, with moments m, v and no gradient since, is moved by the steps k = s + 1 … t to

    w · D(s, t) - m · Σ_k a_k / (x q_k + eps_k),   x = √v,   q_k = denominator_k √(β2_(s+1) ⋯ β2_k),
    a_k = lr_k · β1_(s+1) ⋯ β1_k · D(k, t),   D(k, t) = the product of the weight factors of the steps after k.

Steps of like q_k make one piece: around its mean q̄ (weighted by a_k) and with θ = x q̄ / (x q̄ + eps), which lies
in [0, 1),

    Σ_k a_k / (x q_k + eps) = 1 / (x q̄ + eps) · Σ_p (-θ)^p μ_p,   μ_p = Σ_k a_k (q_k / q̄ - 1)^p,

cut after p = DEGREE. The last power is odd, so the rest is Σ_k a_k z^(DEGREE+1) / (1 + z) with z = θ (q_k / q̄ - 1):
no term of it is negative, each grows with θ, so the rest is largest at eps = 0, where it is known without a series:
q̄ Σ_k a_k / q_k less the polynomial. A piece takes a step in only if that rest stays below ``tolerance`` of the sum.

Rules. One walk back from step t serves every s: one step further back multiplies all a_k by β1 and all q_k by √β2,
which leaves q_k / q̄ - 1 as it is. A piece is dropped once it is below a tenth of the tolerance beside another. No
division by a product that may have underflowed; β1, β2, lr and the weight factor may be 0, the factor negative.
Known limit: if β1 ≥ √β2 over many steps the sum does not die out, and every few steps become a piece of their own.
"""

import math

import numpy as np

from .compile import jit

__all__ = ["DEGREE", "EPS", "MEAN", "missed_adam"]

DEGREE = 7
MEAN, EPS, INVERSE, PIECE = DEGREE + 1, DEGREE + 2, DEGREE + 3, DEGREE + 4  # columns of a piece after μ_0 … μ_DEGREE
_BINOMIAL = np.array([[math.comb(p, i) for i in range(DEGREE + 1)] for p in range(DEGREE + 1)], dtype=np.float64)
_FLOOR = 1e-100  # of q: √v of any float32 times this is nothing beside any eps but 0


@jit
def _earlier(pieces, beta1, root):
    """The pieces as seen from one step further back: all a_k times ``beta1``, all q_k times ``root`` = √β2."""
    for i in range(len(pieces)):
        for p in range(DEGREE + 1):
            pieces[i, p] *= beta1
        if pieces[i, MEAN] * root > _FLOOR:
            pieces[i, MEAN] *= root
            pieces[i, INVERSE] *= beta1 / root
        else:
            pieces[i, 1 : DEGREE + 1] = 0.0
            pieces[i, MEAN] = _FLOOR
            pieces[i, INVERSE] = pieces[i, 0] / _FLOOR


@jit
def _add_about(piece, mean, out):
    """Add to ``out`` the moments of ``piece`` about ``mean`` instead of about its own."""
    shift = mean / piece[MEAN] - 1.0
    scale = 1.0
    for p in range(DEGREE + 1):
        power, moment = scale, 0.0
        for i in range(p, -1, -1):
            moment += _BINOMIAL[p, i] * power * piece[i]
            power *= -shift
        out[p] += moment
        scale /= 1.0 + shift


@jit
def _join(a, b, allowed, out):
    """Make ``out`` the union of two pieces; False if its rest at eps = 0 exceeds ``allowed``."""
    if a[EPS] != b[EPS] or (a[0] > 0.0) != (b[0] > 0.0):
        return False
    weight = a[0] + b[0]
    mean = a[MEAN] * (a[0] / weight) + b[MEAN] * (b[0] / weight)
    if max(a[MEAN], b[MEAN]) > 2.0 * mean or min(a[MEAN], b[MEAN]) < 0.5 * mean:
        return False
    out[:] = 0.0
    _add_about(a, mean, out)
    _add_about(b, mean, out)
    out[1] = 0.0
    out[MEAN], out[INVERSE], out[EPS] = mean, a[INVERSE] + b[INVERSE], b[EPS]
    rest, sign = mean * out[INVERSE], -1.0
    for p in range(DEGREE + 1):
        rest += sign * out[p]
        sign = -sign
    return abs(rest) <= allowed * mean


@jit
def _compact(pieces, size, turn, tolerance, scratch):
    """Drop pieces that no longer count beside a later one, join one pair that by now may; return how many are left.

    Pieces are in order of their steps, the latest first; the one before the last holds the steps nearest to the row.
    What a join may neglect is measured against the pieces of at least its q̄: beside those its weight only falls with
    eps, so the bound that holds at eps = 0 holds for every eps.
    """
    keep = size - 1
    largest = keep
    total = abs(pieces[keep, INVERSE])
    for i in range(size - 2, -1, -1):
        heavy = abs(pieces[largest, 0]) * pieces[i, EPS] * (0.1 * tolerance)
        if abs(pieces[i, 0]) * pieces[largest, EPS] <= heavy and abs(pieces[i, INVERSE]) <= 0.1 * tolerance * abs(
            pieces[largest, INVERSE]
        ):
            continue
        total += abs(pieces[i, INVERSE])
        falling = pieces[i, MEAN] <= pieces[keep, MEAN]
        if i == turn and falling and _join(pieces[i], pieces[keep], tolerance * total, scratch):
            pieces[keep] = scratch
            continue
        keep -= 1
        pieces[keep] = pieces[i]
        if abs(pieces[keep, 0]) > abs(pieces[largest, 0]):
            largest = keep
    for i in range(keep, size):
        pieces[i - keep] = pieces[i]
    return size - keep


@jit
def _longer(array, size):
    """A copy of ``array`` with room for ``size`` rows."""
    out = np.empty((size, array.shape[1]), array.dtype)
    out[: len(array)] = array
    return out


@jit
def missed_adam(history, wanted, tolerance):
    """For each age a = t - s: the factors of (w, m, v), less 1 for w, and the pieces ``first[a]`` to ``first[a + 1]``.

    ``history`` (H, 6) holds the last H steps, the latest last: lr, β1, β2, denominator factor, eps, weight factor.
    ``wanted`` (A + 1,) says for which ages up to A ≤ H pieces are written.
    """
    ages = len(wanted)
    factors = np.zeros((ages, 3))
    factors[0, 1:] = 1.0
    first = np.zeros(ages + 1, np.int64)
    out, written = np.empty((ages + 16, PIECE)), 0
    pieces, size, scratch = np.empty((32, PIECE)), 0, np.empty(PIECE)
    decay = 1.0
    for age in range(1, ages):
        lr, beta1, beta2, denominator, eps, factor = history[len(history) - age]
        root = math.sqrt(beta2)
        _earlier(pieces[:size], beta1, root)
        term = lr * beta1 * decay
        if term != 0.0:
            if size == len(pieces):
                pieces = _longer(pieces, 2 * size)
            new = pieces[size]
            new[:] = 0.0
            new[0], new[MEAN], new[EPS] = term, max(root * denominator, _FLOOR), eps
            new[INVERSE] = term / new[MEAN]
            size += 1
        if size > 1:
            near = abs(pieces[size - 2, INVERSE] + pieces[size - 1, INVERSE])
            if _join(pieces[size - 2], pieces[size - 1], tolerance * near, scratch):
                size -= 1
                pieces[size - 1] = scratch
        if size > 1:
            size = _compact(pieces, size, age % (size - 1), tolerance, scratch)
        decay *= factor
        factors[age, 0] = decay - 1.0
        factors[age, 1] = factors[age - 1, 1] * beta1
        factors[age, 2] = factors[age - 1, 2] * beta2
        first[age] = written
        if wanted[age]:
            if written + size > len(out):
                out = _longer(out, 2 * (written + size))
            out[written : written + size] = pieces[:size]
            written += size
        first[age + 1] = written
    return factors, first, out[:written, :INVERSE]
