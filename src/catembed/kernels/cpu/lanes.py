"""Numbers in and out of rows: 16-bit floats, rounding, prefetch, and the sum of a row's gradients.

Numba has no 16-bit floats on the CPU, so bfloat16 rows come as uint16 and float16 rows as int16 (see ``view``); both
are computed in float32. `noise` is the hash that reference.py defines.
"""

from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic
from numba.extending import overload
from torch import Tensor

from .compile import jit

__all__ = ["narrow", "noise", "prefetch", "row_key", "sum_gradients", "view", "wide", "widen"]

intrinsic: Any = _intrinsic  # what it makes takes one argument less than it is written with
_BITS = {torch.bfloat16: torch.uint16, torch.float16: torch.int16}


def view(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as an array that kernels take."""
    bits = _BITS.get(tensor.dtype)
    return (tensor if bits is None else tensor.view(bits)).numpy()


def wide(tensor: Tensor) -> type[np.floating]:
    """The type of arithmetic for a weight: float64 for float64, else float32."""
    return np.float64 if tensor.dtype == torch.float64 else np.float32


# Single numbers


@intrinsic
def _bfloat16_to_float32(typingctx, bits):
    def generate(context, builder, signature, args):
        word = builder.shl(builder.zext(args[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(word, ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _float16_to_float32(typingctx, bits):
    def generate(context, builder, signature, args):
        return builder.fpext(builder.bitcast(args[0], ir.HalfType()), ir.FloatType())

    return types.float32(types.int16), generate


@intrinsic
def _float32_to_float16(typingctx, value):
    def generate(context, builder, signature, args):
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.int16(types.float32), generate


@intrinsic
def _bits(typingctx, value):
    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@intrinsic
def _from_bits(typingctx, word):
    def generate(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), generate


def widen(value):
    """A stored number as a number to compute with."""
    raise NotImplementedError


@overload(widen)
def _widen(value):
    if value == types.uint16:
        return lambda value: _bfloat16_to_float32(value)
    if value == types.int16:
        return lambda value: _float16_to_float32(value)
    return lambda value: value


def narrow(value, like, random, stochastic):
    """``value`` as it is stored beside ``like``: to nearest, or stochastically by 32 ``random`` bits."""
    raise NotImplementedError


@overload(narrow)
def _narrow(value, like, random, stochastic):
    if like == types.uint16:
        return _to_bfloat16
    if like == types.int16:
        return _to_float16
    return lambda value, like, random, stochastic: value


def _to_bfloat16(value, like, random, stochastic):
    word = _bits(value)
    exponent = word & np.uint32(0x7F800000)
    nearest = np.uint32(0x7FFF) + ((word >> np.uint32(16)) & np.uint32(1))
    up = word + ((random & np.uint32(0xFFFF)) if stochastic else nearest)
    special = word | (np.uint32(0x400000) if (word & np.uint32(0x7FFFFF)) != 0 else np.uint32(0))  # keep a NaN a NaN
    return np.uint16((special if exponent == np.uint32(0x7F800000) else up) >> np.uint32(16))


def _to_float16(value, like, random, stochastic):
    if stochastic and abs(value) < np.float32(np.inf):
        bits13 = random & np.uint32(0x1FFF)
        if abs(value) < np.float32(2.0**-14):
            steps = np.floor(value * np.float32(2.0**24) + np.float32(bits13) * np.float32(2.0**-13))
            return _float32_to_float16(steps * np.float32(2.0**-24))
        return _float32_to_float16(_from_bits((_bits(value) + bits13) & np.uint32(0xFFFFE000)))
    return _float32_to_float16(value)


@jit
def row_key(seed, row):
    """The finaliser of splitmix64 over (seed, row): 32 bits that begin a row's noise."""
    key = np.uint64(row) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.uint32(key ^ (key >> np.uint64(31)))


@jit
def noise(key, column):
    """32 random bits: murmur3's finaliser over (key of the row, column)."""
    bits = np.uint32(key + np.uint32(column) * np.uint32(0x9E3779B9))
    bits = np.uint32((bits ^ (bits >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    bits = np.uint32((bits ^ (bits >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(bits ^ (bits >> np.uint32(16)))


# Rows


@intrinsic
def _prefetch_line(typingctx, array, offset):
    """Ask for the cache line ``offset`` bytes behind the array's start, to be written later."""

    def generate(context, builder, signature, args):
        start = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte = ir.IntType(8).as_pointer()
        address = cgutils.pointer_add(builder, start, args[1], byte)
        kind = ir.FunctionType(ir.VoidType(), [byte, ir.IntType(32), ir.IntType(32), ir.IntType(32)])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        one, three = ir.Constant(ir.IntType(32), 1), ir.Constant(ir.IntType(32), 3)
        builder.call(function, [address, one, three, one])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


@jit
def prefetch(array, row):
    """Ask for all cache lines of ``array[row]`` (contiguous, any number of dimensions) before they are needed.

    By address: a view of the row would count references, which threads then contend for.
    """
    width = array.strides[0]
    for offset in range(row * width, (row + 1) * width, 64):
        _prefetch_line(array, np.intp(offset))


@jit
def sum_gradients(grads, order, start, stop, scale, total):
    """``total[:]`` becomes the sum, in lookup order, of ``grads[order[start:stop]]``, times ``scale``."""
    first = grads[order[start]]
    for j in range(len(total)):
        total[j] = widen(first[j])
    for k in range(start + 1, stop):
        more = grads[order[k]]
        for j in range(len(total)):
            total[j] += widen(more[j])
    if scale != total.dtype.type(1):
        for j in range(len(total)):
            total[j] *= scale
