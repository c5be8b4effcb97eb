"""Vector code of a transformer's step, over rows of features, one token a row, or of tokens, one feature a row.

All numbers of a step stand in one scratch array and are named by their offsets, counted in elements. A *lane vector*
is what fills a register; rows are padded to whole ones. Sums across lanes are taken in a fixed tree.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._exponential import emit_exp
from ._tanh import emit_tanh
from ._transformer_model import NORM_EPS
from ._vector import VECTOR_BYTES, emitter_and_indices

# Rows that are taken in lock step; every buffer has a multiple of them.
ROWS = 4

# Whether there are registers for sixteen running sums, as AVX-512 and NEON have; AVX has not.
SIXTEEN = VECTOR_BYTES != 32

# What stands in for minus infinity where a row of scores is padded or masked.
MASKED = -1e30

RELU, TANH, IDENTITY = range(3)


def _constant(value):
    return ir.Constant(ir.IntType(64), value)


class _Rows:
    """Emission of loops over the lane vectors of ROWS rows, with sums across lanes."""

    def __init__(self, context, builder, signature, arguments):
        self.emit, self.arguments = emitter_and_indices(context, builder, signature, arguments)
        self.builder = builder

    def places(self, start, stride, index=None):
        """Offsets of the vectors numbered `index` of ROWS rows."""
        e = self.emit
        column = [] if index is None else [(index, e.stride)]
        return [e.at(start, (i, stride), *column) for i in range(ROWS)]

    def loop(self, count):
        return cgutils.for_range(self.builder, count)

    def scalar(self, place):
        """The number at an offset, in every lane."""
        return self.emit.splat(self.builder.load(self.builder.gep(self.emit.data, [place])))

    def put(self, vector, place):
        """Write the first lane as one number."""
        first = self.builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
        self.builder.store(first, self.builder.gep(self.emit.data, [place]))

    def across(self, value, combine):
        """`combine` of all lanes, in every lane."""
        width = self.emit.width
        step = width // 2
        while step:
            order = ir.Constant(ir.VectorType(ir.IntType(32), width), [i ^ step for i in range(width)])
            value = combine(value, self.builder.shuffle_vector(value, value, order))
            step //= 2
        return value

    def total(self, value):
        return self.across(value, self.builder.fadd)

    def larger(self, a, b):
        return self.builder.select(self.builder.fcmp_ordered(">", a, b), a, b)

    def root(self, value):
        e = self.emit
        kind = ir.FunctionType(e.vector, [e.vector])
        name = f"llvm.sqrt.v{e.width}f{8 * e.itemsize}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [value])


def _tile(rows, columns):
    """Make an intrinsic: a tile of C = start + A B, A plain numbers, B and C lane vectors.

    C's and start's rows are `c_row` and `start_row` apart; A's element (i, k) is at a + i a_row + k a_k; B's rows, over
    which the sum runs, `b_k` apart.
    """

    @intrinsic
    def tile(typing, s, c, c_row, start, start_row, a, a_row, a_k, b, b_k, size):
        def generate(context, builder, signature, arguments):
            r = _Rows(context, builder, signature, arguments)
            emit, (c, c_row, start, start_row, a, a_row, a_k, b, b_k, size) = r.emit, r.arguments
            pairs = [(i, j) for i in range(rows) for j in range(columns)]
            sums = emit.variables([emit.load(emit.at(start, (i, start_row), (j, emit.stride))) for i, j in pairs])
            with cgutils.for_range(builder, size) as loop:
                vectors = [emit.load(emit.at(b, (loop.index, b_k), (j, emit.stride))) for j in range(columns)]
                for i in range(rows):
                    number = r.scalar(emit.at(a, (loop.index, a_k), (i, a_row)))
                    for j in range(columns):
                        emit.add_product(sums[i * columns + j], number, vectors[j])
            for (i, j), total in zip(pairs, sums, strict=True):
                emit.store(builder.load(total), emit.at(c, (i, c_row), (j, emit.stride)))
            return context.get_dummy_value()

        return types.void(s, c, c_row, start, start_row, a, a_row, a_k, b, b_k, size), generate

    return tile


_tile_16_1, _tile_8_1, _tile_4_1 = _tile(16, 1), _tile(8, 1), _tile(4, 1)
_tile_8_2, _tile_4_2, _tile_4_4 = _tile(8, 2), _tile(4, 2), _tile(4, 4)


@njit(cache=True, nogil=True, error_model="numpy")
def product(s, lanes, c, c_row, start, start_row, a, a_row, a_k, b, b_k, rows, columns, size):
    """C = start + A B with `rows` rows, a multiple of ROWS, of `columns` lane vectors; the sum runs over `size`."""
    j = 0
    while j < columns:
        at_c, at_start, at_b = c + j * lanes, start + j * lanes, b + j * lanes
        i = 0
        if SIXTEEN and columns - j >= 4:
            while i < rows:
                _tile_4_4(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 4
            j += 4
        elif columns - j >= 2:
            while SIXTEEN and rows - i >= 8:
                _tile_8_2(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 8
            while i < rows:
                _tile_4_2(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 4
            j += 2
        else:
            while SIXTEEN and rows - i >= 16:
                _tile_16_1(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 16
            while rows - i >= 8:
                _tile_8_1(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 8
            while i < rows:
                _tile_4_1(
                    s, at_c + i * c_row, c_row, at_start + i * start_row, start_row,
                    a + i * a_row, a_row, a_k, at_b, b_k, size,
                )  # fmt: skip
                i += 4
            j += 1


@intrinsic
def normalise(typing, s, x, y, unit, gain, shift, inverse_root, mask, share, row, groups, columns):
    """Layer normalisation of ROWS · `groups` rows: unit = (x - mean) / √(variance + eps), y = unit gain + shift.

    `mask` is 1 at true features and 0 at padding, `share` one over their number; 1 / √(…) is kept for each row.
    """

    def generate(context, builder, signature, arguments):
        r = _Rows(context, builder, signature, arguments)
        emit, (x, y, unit, gain, shift, inverse_root, mask, share, row, groups, columns) = r.emit, r.arguments
        part = r.scalar(share)
        with r.loop(groups) as group:
            step = builder.mul(group.index, _constant(ROWS))
            at_x, at_y, at_unit = (emit.at(place, (step, row)) for place in (x, y, unit))

            def summed(term):
                sums = emit.variables([emit.number(0)] * ROWS)
                with r.loop(columns) as loop:
                    keep = emit.load(emit.at(mask, (loop.index, emit.stride)))
                    for slot, place in zip(sums, r.places(at_x, row, loop.index), strict=True):
                        term(slot, builder.fmul(emit.load(place), keep), keep, sums.index(slot))
                return [builder.fmul(r.total(builder.load(slot)), part) for slot in sums]

            means = summed(lambda slot, v, keep, i: builder.store(builder.fadd(builder.load(slot), v), slot))

            def add_square(slot, v, keep, i):
                apart = builder.fsub(v, builder.fmul(means[i], keep))
                emit.add_product(slot, apart, apart)

            variances = summed(add_square)
            one = emit.number(1)
            scales = [builder.fdiv(one, r.root(builder.fadd(v, emit.number(NORM_EPS)))) for v in variances]
            for i, scale in enumerate(scales):
                r.put(scale, builder.add(inverse_root, builder.add(step, _constant(i))))
            with r.loop(columns) as loop:
                keep, g, b = (emit.load(emit.at(p, (loop.index, emit.stride))) for p in (mask, gain, shift))
                rows = zip(*(r.places(p, row, loop.index) for p in (at_x, at_unit, at_y)), strict=True)
                for i, (source, between, target) in enumerate(rows):
                    apart = builder.fmul(builder.fsub(emit.load(source), means[i]), keep)
                    value = builder.fmul(apart, scales[i])
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
        r = _Rows(context, builder, signature, arguments)
        emit = r.emit
        (dx, dy, unit, gain, dgain, dshift, inverse_root, mask, share, row, groups, columns) = r.arguments
        part = r.scalar(share)
        with r.loop(groups) as group:
            step = builder.mul(group.index, _constant(ROWS))
            at_dx, at_dy, at_unit = (emit.at(place, (step, row)) for place in (dx, dy, unit))
            firsts, seconds = (emit.variables([emit.number(0)] * ROWS) for _ in range(2))
            with r.loop(columns) as loop:
                g, keep, for_gain, for_shift = (
                    emit.at(p, (loop.index, emit.stride)) for p in (gain, mask, dgain, dshift)
                )
                g, keep, gains, shifts = emit.load(g), emit.load(keep), emit.load(for_gain), emit.load(for_shift)
                rows = zip(r.places(at_dy, row, loop.index), r.places(at_unit, row, loop.index), strict=True)
                for i, (arriving, between) in enumerate(rows):
                    d, u = builder.fmul(emit.load(arriving), keep), emit.load(between)
                    gains, shifts = emit.fma(d, u, gains), builder.fadd(shifts, d)
                    inner = builder.fmul(d, g)
                    builder.store(builder.fadd(builder.load(firsts[i]), inner), firsts[i])
                    emit.add_product(seconds[i], inner, u)
                emit.store(gains, for_gain)
                emit.store(shifts, for_shift)
            means = [builder.fmul(r.total(builder.load(slot)), part) for slot in firsts]
            slopes = [builder.fmul(r.total(builder.load(slot)), part) for slot in seconds]
            scales = [
                r.scalar(builder.add(inverse_root, builder.add(step, _constant(i)))) for i in range(ROWS)
            ]
            with r.loop(columns) as loop:
                g, keep = (emit.load(emit.at(p, (loop.index, emit.stride))) for p in (gain, mask))
                rows = zip(*(r.places(p, row, loop.index) for p in (at_dx, at_dy, at_unit)), strict=True)
                for i, (target, arriving, between) in enumerate(rows):
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
        r = _Rows(context, builder, signature, arguments)
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
            r.put(highest[i], builder.add(largest, _constant(i)))
            r.put(r.total(builder.load(totals[i])), builder.add(sums, _constant(i)))
        return context.get_dummy_value()

    return types.void(s, x, row, columns, largest, sums), generate


@intrinsic
def combine(typing, s, out, x, weight_x, y, weight_y, count):
    """Out = weight_x x + weight_y y for `count` lane vectors; the weights are offsets of numbers."""

    def generate(context, builder, signature, arguments):
        r = _Rows(context, builder, signature, arguments)
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
        r = _Rows(context, builder, signature, arguments)
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


def _valid(emit, key, n_keys, first_query, causal):
    """Where queries first_query, … in the lanes see the key of this number."""
    builder = emit.builder
    integers = ir.VectorType(ir.IntType(64), emit.width)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), emit.width), [0] * emit.width)

    def splat(value):
        one = builder.insert_element(ir.Constant(integers, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(one, ir.Constant(integers, ir.Undefined), zeros)

    lanes = ir.Constant(integers, [_constant(i) for i in range(emit.width)])
    # Without a mask every query is as good as one behind all keys.
    ahead = builder.select(builder.icmp_signed("!=", causal, _constant(0)), first_query, n_keys)
    seen = builder.icmp_signed(">=", builder.add(lanes, splat(ahead)), splat(key))
    return builder.and_(seen, builder.icmp_signed("<", splat(key), splat(n_keys)))


@intrinsic
def softmax(typing, s, p, row, n_keys, groups, first_query, causal):
    """Softmax over ROWS · `groups` rows of keys, of the queries in one lane vector; unseen keys get 0."""

    def generate(context, builder, signature, arguments):
        r = _Rows(context, builder, signature, arguments)
        emit, (p, row, n_keys, groups, first_query, causal) = r.emit, r.arguments

        def rows_of(group):
            step = builder.mul(group.index, _constant(ROWS))
            keys = [builder.add(step, _constant(i)) for i in range(ROWS)]
            valid = [_valid(emit, key, n_keys, first_query, causal) for key in keys]
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
        r = _Rows(context, builder, signature, arguments)
        emit, (p, dp, row, groups, scale) = r.emit, r.arguments

        def rows_of(group):
            step = builder.mul(group.index, _constant(ROWS))
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
            r = _Rows(context, builder, signature, arguments)
            emit, (x, groups) = r.emit, r.arguments
            with r.loop(groups) as group:
                first = builder.mul(group.index, _constant(ROWS))
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
            r = _Rows(context, builder, signature, arguments)
            emit, (h, arriving, groups) = r.emit, r.arguments
            with r.loop(groups) as group:
                first = builder.mul(group.index, _constant(ROWS))
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
