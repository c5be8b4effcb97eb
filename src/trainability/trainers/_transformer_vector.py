"""Vector code of a transformer's step, over rows of features, one token a row, or of tokens, one feature a row."""

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._exponential import emit_exp
from ._rows import ROWS, Rows, constant
from ._tanh import emit_tanh
from ._transformer_model import NORM_EPS
from ._vector import emitter_and_indices

# What stands in for minus infinity where a row of scores is padded or masked.
MASKED = -1e30

RELU, TANH, IDENTITY = range(3)


@intrinsic
def normalise(typing, s, x, y, unit, gain, shift, inverse_root, mask, share, row, groups, columns):
    """Layer normalisation of ROWS · `groups` rows: unit = (x - mean) / √(variance + eps), y = unit gain + shift.

    `mask` is 1 at true features and 0 at padding, `share` one over their number; 1 / √(…) is kept for each row.
    """

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit, (x, y, unit, gain, shift, inverse_root, mask, share, row, groups, columns) = r.emit, r.arguments
        part = r.scalar(share)
        with r.loop(groups) as group:
            step = builder.mul(group.index, constant(ROWS))
            at_x, at_unit = (emit.at(place, (step, row)) for place in (x, unit))
            sums = emit.variables([emit.number(0)] * ROWS)
            with r.loop(columns) as loop:
                keep = emit.load(emit.at(mask, (loop.index, emit.stride)))
                for slot, place in zip(sums, r.places(at_x, row, loop.index), strict=True):
                    emit.add_product(slot, emit.load(place), keep)
            means = r.each([builder.fmul(v, part) for v in r.totals([builder.load(slot) for slot in sums])])
            squares = emit.variables([emit.number(0)] * ROWS)
            with r.loop(columns) as loop:
                keep = emit.load(emit.at(mask, (loop.index, emit.stride)))
                pairs = zip(*(r.places(p, row, loop.index) for p in (at_x, at_unit)), strict=True)
                for slot, mean, (source, between) in zip(squares, means, pairs, strict=True):
                    apart = builder.fmul(builder.fsub(emit.load(source), mean), keep)
                    emit.store(apart, between)
                    emit.add_product(slot, apart, apart)
            r.put_totals(r.totals([builder.load(slot) for slot in squares]), builder.add(inverse_root, step))
        # Roots and divisions are slow: a lane vector of them at a time. There is room behind the last row.
        count = builder.mul(groups, constant(ROWS))
        vectors = builder.sdiv(builder.add(count, constant(emit.width - 1)), emit.stride)
        with r.loop(vectors) as loop:
            place = emit.at(inverse_root, (loop.index, emit.stride))
            variance = emit.fma(emit.load(place), part, emit.number(NORM_EPS))
            emit.store(builder.fdiv(emit.number(1), emit.root(variance)), place)
        with r.loop(groups) as group:
            step = builder.mul(group.index, constant(ROWS))
            at_y, at_unit = (emit.at(place, (step, row)) for place in (y, unit))
            scales = [r.scalar(emit.at(inverse_root, (1, step), (i, constant(1)))) for i in range(ROWS)]
            with r.loop(columns) as loop:
                g, b = (emit.load(emit.at(p, (loop.index, emit.stride))) for p in (gain, shift))
                pairs = zip(*(r.places(p, row, loop.index) for p in (at_unit, at_y)), strict=True)
                for scale, (between, target) in zip(scales, pairs, strict=True):
                    value = builder.fmul(emit.load(between), scale)
                    emit.store(value, between)
                    emit.store(emit.fma(value, g, b), target)
        return context.get_dummy_value()

    signature = types.void(s, x, y, unit, gain, shift, inverse_root, mask, share, row, groups, columns)
    return signature, generate


@intrinsic
def normalise_backward(
    typing, s, dx, dy, unit, gain, dgain, dshift, inverse_root, mask, share, row, groups, columns
):
    """Add to dx what layer normalisation makes of dy, and to dgain and dshift their sums over rows."""

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit = r.emit
        (dx, dy, unit, gain, dgain, dshift, inverse_root, mask, share, row, groups, columns) = r.arguments
        part = r.scalar(share)
        with r.loop(groups) as group:
            step = builder.mul(group.index, constant(ROWS))
            at_dx, at_dy, at_unit = (emit.at(place, (step, row)) for place in (dx, dy, unit))
            firsts, seconds = (emit.variables([emit.number(0)] * ROWS) for _ in range(2))
            with r.loop(columns) as loop:
                g, keep, for_gain, for_shift = (
                    emit.at(p, (loop.index, emit.stride)) for p in (gain, mask, dgain, dshift)
                )
                g, keep, gains, shifts = (
                    emit.load(g),
                    emit.load(keep),
                    emit.load(for_gain),
                    emit.load(for_shift),
                )
                arrivings, betweens = (r.places(p, row, loop.index) for p in (at_dy, at_unit))
                for i in range(ROWS):
                    d, u = builder.fmul(emit.load(arrivings[i]), keep), emit.load(betweens[i])
                    gains, shifts = emit.fma(d, u, gains), builder.fadd(shifts, d)
                    inner = builder.fmul(d, g)
                    builder.store(builder.fadd(builder.load(firsts[i]), inner), firsts[i])
                    emit.add_product(seconds[i], inner, u)
                emit.store(gains, for_gain)
                emit.store(shifts, for_shift)
            means, slopes = (
                r.each([builder.fmul(v, part) for v in r.totals([builder.load(slot) for slot in slots])])
                for slots in (firsts, seconds)
            )
            scales = [
                r.scalar(builder.add(inverse_root, builder.add(step, constant(i)))) for i in range(ROWS)
            ]
            with r.loop(columns) as loop:
                g, keep = (emit.load(emit.at(p, (loop.index, emit.stride))) for p in (gain, mask))
                targets, arrivings, betweens = (r.places(p, row, loop.index) for p in (at_dx, at_dy, at_unit))
                for i in range(ROWS):
                    target, arriving, between = targets[i], arrivings[i], betweens[i]
                    inner = builder.fsub(builder.fmul(emit.load(arriving), g), means[i])
                    inner = builder.fsub(inner, builder.fmul(emit.load(between), slopes[i]))
                    change = builder.fmul(builder.fmul(inner, keep), scales[i])
                    emit.store(builder.fadd(emit.load(target), change), target)
        return context.get_dummy_value()

    return types.void(
        s, dx, dy, unit, gain, dgain, dshift, inverse_root, mask, share, row, groups, columns
    ), generate


@intrinsic
def exponentials(typing, s, x, row, columns, largest, sums):
    """Replace ROWS rows by exp(x - largest of the row); write the largest, and the sums."""

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit, (x, row, columns, largest, sums) = r.emit, r.arguments
        tops = emit.variables([emit.number(MASKED)] * ROWS)
        with r.loop(columns) as loop:
            for slot, place in zip(tops, r.places(x, row, loop.index), strict=True):
                builder.store(r.larger(emit.load(place), builder.load(slot)), slot)
        highest = [r.across(builder.load(slot), r.larger) for slot in tops]
        totals = emit.variables([emit.number(0)] * ROWS)
        with r.loop(columns) as loop:
            places = r.places(x, row, loop.index)
            under = [builder.fsub(emit.load(p), top) for p, top in zip(places, highest, strict=True)]
            for place, slot, value in zip(places, totals, emit_exp(emit, under), strict=True):
                emit.store(value, place)
                builder.store(builder.fadd(builder.load(slot), value), slot)
        for i in range(ROWS):
            r.put(highest[i], builder.add(largest, constant(i)))
            r.put(r.total(builder.load(totals[i])), builder.add(sums, constant(i)))
        return context.get_dummy_value()

    return types.void(s, x, row, columns, largest, sums), generate


@intrinsic
def combine(typing, s, out, x, weight_x, y, weight_y, count):
    """Out = weight_x x + weight_y y for `count` lane vectors; the weights are offsets of numbers."""

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit, (out, x, weight_x, y, weight_y, count) = r.emit, r.arguments
        factor_x, factor_y = r.scalar(weight_x), r.scalar(weight_y)
        with r.loop(count) as loop:
            first, second, target = (emit.at(p, (loop.index, emit.stride)) for p in (x, y, out))
            value = builder.fmul(factor_x, emit.load(first))
            emit.store(emit.fma(factor_y, emit.load(second), value), target)
        return context.get_dummy_value()

    return types.void(s, out, x, weight_x, y, weight_y, count), generate


@intrinsic
def add_rows(typing, s, total, x, row, rows, columns):
    """Add `rows` rows of `columns` lane vectors to one."""

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit, (total, x, row, rows, columns) = r.emit, r.arguments
        with r.loop(columns) as column:
            target = emit.at(total, (column.index, emit.stride))
            (slot,) = emit.variables([emit.load(target)])
            with r.loop(rows) as loop:
                place = emit.at(x, (loop.index, row), (column.index, emit.stride))
                builder.store(builder.fadd(builder.load(slot), emit.load(place)), slot)
            emit.store(builder.load(slot), target)
        return context.get_dummy_value()

    return types.void(s, total, x, row, rows, columns), generate


@intrinsic
def zero(typing, s, start, size):
    """Fill `size` numbers with 0."""

    def generate(context, builder, signature, arguments):
        emit, (start, size) = emitter_and_indices(context, builder, signature, arguments)
        place = builder.gep(emit.data, [start])
        cgutils.memset(builder, place, builder.mul(size, constant(emit.itemsize)), 0)
        return context.get_dummy_value()

    return types.void(s, start, size), generate


def _copy_of_rows(*, out: bool):
    @intrinsic
    def copy_rows(typing, s, place, length, row, start, rows, columns):
        def generate(context, builder, signature, arguments):
            emit, (place, length, row, start, rows, columns) = emitter_and_indices(
                context, builder, signature, arguments
            )
            data = context.make_array(signature.args[3])(context, builder, row).data

            def copy(here, there, count):
                pair = [builder.gep(emit.data, [here]), builder.gep(data, [there])]
                cgutils.raw_memcpy(builder, *(reversed(pair) if out else pair), count, emit.itemsize)

            whole = builder.icmp_signed("==", columns, length)
            with builder.if_else(whole) as (together, apart):
                with together:
                    copy(place, start, builder.mul(rows, columns))
                with apart, cgutils.for_range(builder, rows) as loop:
                    here, there = (
                        emit.at(p, (loop.index, n)) for p, n in ((place, length), (start, columns))
                    )
                    copy(here, there, columns)
            return context.get_dummy_value()

        return types.void(s, place, length, row, start, rows, columns), generate

    return copy_rows


# Between `rows` rows of `columns` numbers, one behind another from `start` of the array `row` on, and rows `length`
# apart in the scratch: into the scratch, and out of it.
read_rows, write_rows = _copy_of_rows(out=False), _copy_of_rows(out=True)


def _seen(emit, key, n_keys, first_query, causal):
    """Where queries first_query, … in the lanes see the key of this number."""
    builder = emit.builder
    one = ir.IntType(8 * emit.itemsize)
    integers = ir.VectorType(one, emit.width)
    # Without a mask every query is as good as one behind all keys; a key behind the last is ahead of all queries.
    least = builder.select(
        builder.icmp_signed("!=", causal, constant(0)), builder.sub(key, first_query), constant(0)
    )
    least = builder.select(builder.icmp_signed("<", key, n_keys), least, emit.stride)
    least = builder.trunc(least, one) if one.width < 64 else least
    undefined = ir.Constant(integers, ir.Undefined)
    least = builder.shuffle_vector(
        builder.insert_element(undefined, least, ir.Constant(ir.IntType(32), 0)),
        undefined,
        ir.Constant(ir.VectorType(ir.IntType(32), emit.width), [0] * emit.width),
    )
    lanes = ir.Constant(integers, [ir.Constant(one, i) for i in range(emit.width)])
    return builder.icmp_signed(">=", lanes, least)


@intrinsic
def softmax(typing, s, p, row, n_keys, groups, first_query, causal):
    """Softmax over ROWS · `groups` rows of keys, of the queries in one lane vector; unseen keys get 0."""

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit, (p, row, n_keys, groups, first_query, causal) = r.emit, r.arguments

        def rows_of(group):
            step = builder.mul(group.index, constant(ROWS))
            keys = [builder.add(step, constant(i)) for i in range(ROWS)]
            valid = [_seen(emit, key, n_keys, first_query, causal) for key in keys]
            return r.places(emit.at(p, (step, row)), row), valid

        (top,) = emit.variables([emit.number(MASKED)])
        with r.loop(groups) as group:
            for place, valid in zip(*rows_of(group), strict=True):
                seen = builder.select(valid, emit.load(place), emit.number(MASKED))
                builder.store(r.larger(seen, builder.load(top)), top)
        highest = builder.load(top)
        (total,) = emit.variables([emit.number(0)])
        with r.loop(groups) as group:
            places, valid = rows_of(group)
            values = emit_exp(emit, [builder.fsub(emit.load(place), highest) for place in places])
            for place, seen, value in zip(places, valid, values, strict=True):
                kept = builder.select(seen, value, emit.number(0))
                emit.store(kept, place)
                builder.store(builder.fadd(builder.load(total), kept), total)
        share = builder.fdiv(emit.number(1), builder.load(total))
        with r.loop(groups) as group:
            places, _ = rows_of(group)
            for place in places:
                emit.store(builder.fmul(emit.load(place), share), place)
        return context.get_dummy_value()

    return types.void(s, p, row, n_keys, groups, first_query, causal), generate


@intrinsic
def softmax_backward(typing, s, p, dp, row, groups, scale):
    """Replace dp by p (dp - Σ p dp) times the number at `scale`, for the queries in one lane vector."""

    def generate(context, builder, signature, arguments):
        r = Rows(context, builder, signature, arguments)
        emit, (p, dp, row, groups, scale) = r.emit, r.arguments

        def rows_of(group):
            step = builder.mul(group.index, constant(ROWS))
            places = (r.places(emit.at(start, (step, row)), row) for start in (p, dp))
            return zip(*places, strict=True)

        sums = emit.variables([emit.number(0)] * ROWS)
        with r.loop(groups) as group:
            for slot, (share, slope) in zip(sums, rows_of(group), strict=True):
                emit.add_product(slot, emit.load(share), emit.load(slope))
        a, b, c, d = (builder.load(slot) for slot in sums)
        mean, factor = builder.fadd(builder.fadd(a, b), builder.fadd(c, d)), r.scalar(scale)
        with r.loop(groups) as group:
            for share, slope in rows_of(group):
                apart = builder.fmul(builder.fsub(emit.load(slope), mean), factor)
                emit.store(builder.fmul(emit.load(share), apart), slope)
        return context.get_dummy_value()

    return types.void(s, p, dp, row, groups, scale), generate


def _activation(kind):
    @intrinsic
    def activate(typing, s, x, groups):
        def generate(context, builder, signature, arguments):
            r = Rows(context, builder, signature, arguments)
            emit, (x, groups) = r.emit, r.arguments
            with r.loop(groups) as group:
                first = builder.mul(group.index, constant(ROWS))
                places = r.places(emit.at(x, (first, emit.stride)), emit.stride)
                values = [emit.load(place) for place in places]
                if kind == TANH:
                    values = emit_tanh(emit, values)
                else:  # NaN stays
                    zero = emit.number(0)
                    values = [builder.select(builder.fcmp_ordered("<", v, zero), zero, v) for v in values]
                for place, value in zip(places, values, strict=True):
                    emit.store(value, place)
            return context.get_dummy_value()

        return types.void(s, x, groups), generate

    return activate


def _slope(kind):
    @intrinsic
    def slope(typing, s, h, arriving, groups):
        def generate(context, builder, signature, arguments):
            r = Rows(context, builder, signature, arguments)
            emit, (h, arriving, groups) = r.emit, r.arguments
            with r.loop(groups) as group:
                first = builder.mul(group.index, constant(ROWS))
                pairs = (r.places(emit.at(p, (first, emit.stride)), emit.stride) for p in (h, arriving))
                for value, place in zip(*pairs, strict=True):
                    value, d = emit.load(value), emit.load(place)
                    if kind == TANH:
                        d = builder.fmul(d, emit.fma(emit.negated(value), value, emit.number(1)))
                    else:
                        positive = builder.fcmp_ordered(">", value, emit.number(0))
                        d = builder.select(positive, d, emit.number(0))
                    emit.store(d, place)
            return context.get_dummy_value()

        return types.void(s, h, arriving, groups), generate

    return slope


# Replace ROWS · `groups` lane vectors by their activation; or what arrives there, given the values h, by its product
# with the slope.
relu_forward, tanh_forward = map(_activation, (RELU, TANH))
relu_backward, tanh_backward = map(_slope, (RELU, TANH))
