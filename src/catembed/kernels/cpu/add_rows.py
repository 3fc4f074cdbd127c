"""`add_rows`: the sum of rows of a table, held in registers until the last row has been added.

A loop over rows that adds to memory loads and stores the sum once for every row, and asks each time whether the two
overlap. Here 64 columns at a time, then 16, stay in vector registers while all rows pass; the rest is a plain loop.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .compile import jit
from .lanes import widen
from .memory import intrinsic

__all__ = ["add_rows"]

_LANES = 16
_WIDE, _NARROW = 4 * _LANES, _LANES  # columns of a block


def _block(columns, weighted):
    """An intrinsic: add ``columns`` of the rows ``ids[start:stop]`` to those of ``target``, weighted or not."""
    vectors = columns // _LANES

    def add_block(typingctx, target, table, ids, weights, start, stop, column):
        def generate(context, builder, signature, args):
            arrays = [
                context.make_array(kind)(context, builder, arg)
                for kind, arg in zip(signature.args[:4], args[:4], strict=True)
            ]
            (sums, rows, numbers, factors), (start, stop, column) = arrays, args[4:]
            width = cgutils.unpack_tuple(builder, rows.strides)[0]
            first = builder.gep(sums.data, [column])
            sum_kind = ir.VectorType(context.get_value_type(signature.args[0].dtype), _LANES)
            row_kind = ir.VectorType(context.get_value_type(signature.args[1].dtype), _LANES)
            places = [_place(builder, first, v, sum_kind) for v in range(vectors)]
            totals = [cgutils.alloca_once(builder, sum_kind) for _ in range(vectors)]
            for place, total in zip(places, totals, strict=True):
                builder.store(builder.load(place, align=1, typ=sum_kind), total)
            one = context.get_constant(types.intp, 1)
            with cgutils.for_range_slice(builder, start, stop, one, start.type) as (k, _):
                number = builder.load(builder.gep(numbers.data, [k]))
                if number.type != width.type:
                    number = builder.sext(number, width.type)
                row = cgutils.pointer_add(builder, rows.data, builder.mul(number, width), rows.data.type)
                row = builder.gep(row, [column])
                w = _weight(context, builder, signature.args[3].dtype, factors, k, sum_kind) if weighted else None
                for v, total in enumerate(totals):
                    values = _widened(
                        builder,
                        builder.load(_place(builder, row, v, row_kind), align=1, typ=row_kind),
                        signature.args[1].dtype,
                        sum_kind,
                    )
                    if w is not None:
                        values = builder.fmul(values, w, flags=("contract",))
                    builder.store(builder.fadd(builder.load(total, typ=sum_kind), values, flags=("contract",)), total)
            for place, total in zip(places, totals, strict=True):
                builder.store(builder.load(total, typ=sum_kind), place, align=1)
            return context.get_dummy_value()

        return types.void(target, table, ids, weights, types.intp, types.intp, types.intp), generate

    return intrinsic(add_block)


def _place(builder, first, vector, kind):
    """Where the vector with this number begins, behind the pointer ``first`` to a single number."""
    at = builder.gep(first, [ir.Constant(ir.IntType(64), vector * _LANES)])
    return builder.bitcast(at, kind.as_pointer())


def _widened(builder, values, stored, kind):
    """Stored numbers as numbers to compute with: what ``lanes.widen`` does to one."""
    if stored == types.uint16:
        words = ir.VectorType(ir.IntType(32), kind.count)
        shift = ir.Constant(words, [16] * kind.count)
        return builder.bitcast(builder.shl(builder.zext(values, words), shift), kind)
    if stored == types.int16:
        return builder.fpext(builder.bitcast(values, ir.VectorType(ir.HalfType(), kind.count)), kind)
    return values


def _weight(context, builder, stored, factors, k, kind):
    """The weight of position ``k``, widened, in every lane."""
    one = ir.VectorType(context.get_value_type(stored), 1)
    w = builder.load(builder.bitcast(builder.gep(factors.data, [k]), one.as_pointer()), typ=one, align=1)
    w = _widened(builder, w, stored, ir.VectorType(kind.element, 1))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), kind.count), [0] * kind.count)
    return builder.shuffle_vector(w, ir.Constant(w.type, ir.Undefined), zeros)


_add_wide, _add_wide_weighted = _block(_WIDE, False), _block(_WIDE, True)
_add_narrow, _add_narrow_weighted = _block(_NARROW, False), _block(_NARROW, True)


@jit
def add_rows(target, table, ids, weights, start, stop):
    """Add the rows ``ids[start:stop]`` of ``table`` to ``target``, each times its weight where there are weights."""
    columns, column, weighted = len(target), 0, len(weights) > 0
    while column + _WIDE <= columns:
        if weighted:
            _add_wide_weighted(target, table, ids, weights, start, stop, column)
        else:
            _add_wide(target, table, ids, weights, start, stop, column)
        column += _WIDE
    while column + _NARROW <= columns:
        if weighted:
            _add_narrow_weighted(target, table, ids, weights, start, stop, column)
        else:
            _add_narrow(target, table, ids, weights, start, stop, column)
        column += _NARROW
    if column == columns:
        return
    for k in range(start, stop):
        row = table[ids[k]]
        w = widen(weights[k]) if weighted else target.dtype.type(1)
        for j in range(column, columns):
            target[j] += w * widen(row[j])
