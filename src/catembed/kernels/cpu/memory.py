"""Loads and prefetches by address, for memory that comes from elsewhere: unaligned, read-only, of any layout."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _intrinsic

__all__ = [
    "add_lanes",
    "add_one",
    "address_of",
    "clear",
    "copy16",
    "copy32",
    "equal_lanes",
    "high_product",
    "load8",
    "load16",
    "load32",
    "load64",
    "load_id",
    "prefetch_address",
    "prefetch_early",
    "store64",
    "trailing_zeros",
    "zero_bytes",
]

intrinsic: Any = _intrinsic  # what it makes takes one argument less than it is written with


def _load(builder, address, bits):
    kind = ir.IntType(bits)
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1, typ=kind)


@intrinsic
def load8(typingctx, address):
    """The byte at an address."""
    return types.uint8(types.int64), lambda context, builder, signature, args: _load(builder, args[0], 8)


@intrinsic
def load16(typingctx, address):
    """The two bytes at an address, little-endian as the machine is."""
    return types.uint16(types.int64), lambda context, builder, signature, args: _load(builder, args[0], 16)


@intrinsic
def load32(typingctx, address):
    """The four bytes at an address."""
    return types.uint32(types.int64), lambda context, builder, signature, args: _load(builder, args[0], 32)


@intrinsic
def load64(typingctx, address):
    """The eight bytes at an address."""
    return types.uint64(types.int64), lambda context, builder, signature, args: _load(builder, args[0], 64)


@intrinsic
def load_id(typingctx, address, size):
    """The signed integer of 4 or (any other ``size``) 8 bytes at an address."""

    def generate(context, builder, signature, args):
        word, narrow = ir.IntType(64), builder.icmp_signed("==", args[1], ir.Constant(ir.IntType(64), 4))
        with builder.if_else(narrow) as (then, otherwise):
            with then:
                short, here = builder.sext(_load(builder, args[0], 32), word), builder.block
            with otherwise:
                long, there = _load(builder, args[0], 64), builder.block
        found = builder.phi(word)
        found.add_incoming(short, here)
        found.add_incoming(long, there)
        return found

    return types.int64(types.int64, types.int64), generate


def _copy(kind):
    def generate(context, builder, signature, args):
        source, target = (builder.inttoptr(each, kind.as_pointer()) for each in args)
        builder.store(builder.load(source, align=1, typ=kind), target, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def clear(typingctx, address, size):
    """Write zeros to so many bytes at an address."""

    def generate(context, builder, signature, args):
        start = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        cgutils.memset(builder, start, args[1], 0)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def copy16(typingctx, source, target):
    """Copy 16 bytes from one address to another."""
    return _copy(ir.VectorType(ir.IntType(32), 4))


@intrinsic
def copy32(typingctx, source, target):
    """Copy 32 bits from one address to another."""
    return _copy(ir.IntType(32))


def _add(number, lanes):
    one = ir.DoubleType() if number.bitwidth == 64 else ir.FloatType()
    kind = ir.VectorType(one, 128 // number.bitwidth) if lanes else one

    def generate(context, builder, signature, args):
        source, target = (builder.inttoptr(each, kind.as_pointer()) for each in args[:2])
        term, total = (builder.load(each, align=1, typ=kind) for each in (source, target))
        builder.store(builder.fadd(total, term), target, align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, number), generate


@intrinsic
def add_lanes(typingctx, source, target, number):
    """Add 16 bytes of numbers, of the type of ``number`` (float32 or float64), to those at another address."""
    return _add(number, lanes=True)


@intrinsic
def add_one(typingctx, source, target, number):
    """Add one number, of the type of ``number``, to that at another address."""
    return _add(number, lanes=False)


@intrinsic
def zero_bytes(typingctx, address):
    """Which of the 64 bytes at an address are zero: one bit for each, as a uint64."""

    def generate(context, builder, signature, args):
        line = ir.VectorType(ir.IntType(8), 64)
        octets = builder.load(builder.inttoptr(args[0], line.as_pointer()), align=1, typ=line)
        zeros = builder.icmp_unsigned("==", octets, ir.Constant(line, [0] * 64))
        return builder.bitcast(zeros, ir.IntType(64))

    return types.uint64(types.int64), generate


@intrinsic
def store64(typingctx, address, word):
    """Write eight bytes at an address."""

    def generate(context, builder, signature, args):
        builder.store(args[1], builder.inttoptr(args[0], ir.IntType(64).as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(types.int64, types.uint64), generate


@intrinsic
def high_product(typingctx, first, second):
    """The upper 64 bits of the product of two uint64."""

    def generate(context, builder, signature, args):
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def trailing_zeros(typingctx, word):
    """How many zeros a uint64 ends with; it must not be 0."""

    def generate(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), generate


@intrinsic
def address_of(typingctx, buffer):
    """Where the bytes of a ``bytes`` object or an array begin."""

    def generate(context, builder, signature, args):
        start = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(start, ir.IntType(64))

    return types.int64(buffer), generate


@intrinsic
def equal_lanes(typingctx, address, value):
    """Which of the sixteen uint16 at an address equal a value: one bit for each, as a uint64."""

    def generate(context, builder, signature, args):
        lane, line = ir.IntType(16), ir.VectorType(ir.IntType(16), 16)
        lanes = builder.load(builder.inttoptr(args[0], line.as_pointer()), align=1, typ=line)
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), 16), [0] * 16)
        one = builder.insert_element(ir.Constant(line, ir.Undefined), args[1], ir.Constant(ir.IntType(32), 0))
        every = builder.shuffle_vector(one, ir.Constant(line, ir.Undefined), zeros)
        bits = builder.bitcast(builder.icmp_unsigned("==", lanes, every), lane)
        return builder.zext(bits, ir.IntType(64))

    return types.uint64(types.int64, types.uint16), generate


def _prefetch(builder, args, nearness):
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer, ir.IntType(32), ir.IntType(32), ir.IntType(32)])
    name = "llvm.prefetch.p0"
    function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    read, near, data = (ir.Constant(ir.IntType(32), number) for number in (0, nearness, 1))
    builder.call(function, [builder.inttoptr(args[0], pointer), read, near, data])


@intrinsic
def prefetch_address(typingctx, address):
    """Ask for the cache line at an address; any address may be asked for."""

    def generate(context, builder, signature, args):
        _prefetch(builder, args, 3)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def prefetch_early(typingctx, address):
    """The same for a line that is not needed soon: into the second-level cache, which waits for many lines at once."""

    def generate(context, builder, signature, args):
        _prefetch(builder, args, 2)
        return context.get_dummy_value()

    return types.void(types.int64), generate
