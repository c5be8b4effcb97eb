"""Vector instructions written by hand, for blocks of pixels that fill exactly one register.

A *lane vector* holds one number for each pixel of a block, `lanes(dtype)` of them side by side. Kernels keep
all lane vectors of a block in one scratch array and name them by their offset in it, counted in elements.
The functions here emit LLVM vector code for the few shapes of loop that training is made of. Loops written
for the automatic vectoriser reach half of their speed, and only under conditions that are easy to lose.

Each lane sees the same operations in the same order whatever the width of the registers, so a pixel's bits
depend on neither its place in a block nor the processor's vectors. Fused multiply-adds are explicit and
nothing is marked `fast`: infinities and NaN mean what they say.
"""

import numpy as np
from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ._tanh import STRETCH, Constants, emit_tanh


def _vector_bytes() -> int:
    features = binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


VECTOR_BYTES = _vector_bytes()

# Rows and columns of a product held in registers. 4 x 4 sums need 32 registers, as AVX-512 and NEON have;
# where there are 16, two columns at a time do not spill.
ROWS = 4
COLUMNS = 2 if VECTOR_BYTES == 32 else 4

# Data rows taken together by the output layer: enough independent sums to hide the latency of an addition.
OUTPUT_ROWS = 8

# Activations computed in lock step, so that one's division overlaps another's polynomial: more than four spill.
IN_STEP = 4

TANH, RELU, IDENTITY = range(3)


def lanes(dtype) -> int:
    """Pixels in a block: one vector register of them."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


class _Emitter:
    """Loads, stores and arithmetic on the lane vectors of one scratch array, inside an intrinsic."""

    def __init__(self, context, builder, array_type, array, width=None):
        self.context, self.builder = context, builder
        self.scalar = context.get_value_type(array_type.dtype)
        self.width = width or lanes(str(array_type.dtype))
        self.vector = ir.VectorType(self.scalar, self.width)
        self.itemsize = array_type.dtype.bitwidth // 8
        self.data = context.make_array(array_type)(context, builder, array).data

    def pointer(self, index):
        return self.builder.bitcast(self.builder.gep(self.data, [index]), self.vector.as_pointer())

    def load(self, index):
        return self.builder.load(self.pointer(index), align=self.itemsize)

    def store(self, value, index):
        self.builder.store(value, self.pointer(index), align=self.itemsize)

    def at(self, base, *steps):
        """Base + the sum of index * stride over (index, stride) pairs."""
        for index, stride in steps:
            if isinstance(index, int):
                index = ir.Constant(ir.IntType(64), index)
            base = self.builder.add(base, self.builder.mul(index, stride))
        return base

    def fma(self, a, b, c):
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.v{self.width}f{8 * self.itemsize}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    def splat(self, scalar):
        one = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.width), [0] * self.width)
        return self.builder.shuffle_vector(one, ir.Constant(self.vector, ir.Undefined), zeros)

    def number(self, value):
        return ir.Constant(self.vector, [ir.Constant(self.scalar, float(value))] * self.width)

    @property
    def stride(self):
        """Elements from one lane vector to the next."""
        return ir.Constant(ir.IntType(64), self.width)

    def variables(self, values):
        """Registers that a loop changes."""
        slots = [cgutils.alloca_once(self.builder, self.vector) for _ in values]
        for slot, value in zip(slots, values, strict=True):
            self.builder.store(value, slot)
        return slots

    def add_product(self, slot, a, b):
        self.builder.store(self.fma(a, b, self.builder.load(slot)), slot)

    def negated(self, value):
        return self.builder.fneg(value)

    def root(self, value):
        kind = ir.FunctionType(self.vector, [self.vector])
        name = f"llvm.sqrt.v{self.width}f{8 * self.itemsize}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [value])


def _index(context, builder, type_, value):
    return context.cast(builder, value, type_, types.int64)


def emitter_and_indices(context, builder, signature, arguments):
    """The emitter of the first argument, and the others as 64-bit integers (arrays are left alone)."""
    emit = _Emitter(context, builder, signature.args[0], arguments[0])
    rest = [
        value if isinstance(type_, types.Array) else _index(context, builder, type_, value)
        for type_, value in zip(signature.args[1:], arguments[1:], strict=True)
    ]
    return emit, rest


def emitters(context, builder, signature, arguments, width=None):
    """An emitter for each argument, all arrays; `width` numbers fill a vector, a register by default."""
    pairs = zip(signature.args, arguments, strict=True)
    return [_Emitter(context, builder, type_, array, width) for type_, array in pairs]


def _product(*, accumulate: bool, broadcast: bool):
    """Make an intrinsic: a tile of C (+)= A B, with C and B lane vectors, A lane vectors or plain numbers."""

    @intrinsic
    def product(typing, s, c, c_row, data, a, a_row, a_k, b, b_column, b_k, size):
        def generate(context, builder, signature, arguments):
            emit, (c, c_row, data, a, a_row, a_k, b, b_column, b_k, size) = emitter_and_indices(
                context, builder, signature, arguments
            )
            pairs = [(i, j) for i in range(ROWS) for j in range(COLUMNS)]
            places = [emit.at(c, (i, c_row), (j, emit.stride)) for i, j in pairs]
            sums = emit.variables([emit.load(p) if accumulate else emit.number(0) for p in places])
            if broadcast:
                numbers = context.make_array(signature.args[3])(context, builder, data).data
            with cgutils.for_range(builder, size) as loop:
                columns = [emit.load(emit.at(b, (loop.index, b_k), (j, b_column))) for j in range(COLUMNS)]
                for i in range(ROWS):
                    place = emit.at(a, (loop.index, a_k), (i, a_row))
                    row = (
                        emit.splat(builder.load(builder.gep(numbers, [place])))
                        if broadcast
                        else emit.load(place)
                    )
                    for j in range(COLUMNS):
                        emit.add_product(sums[i * COLUMNS + j], row, columns[j])
            for place, total in zip(places, sums, strict=True):
                emit.store(builder.load(total), place)
            return context.get_dummy_value()

        return types.void(s, c, c_row, data, a, a_row, a_k, b, b_column, b_k, size), generate

    return product


# Tiles of ROWS x COLUMNS lane vectors at offset `c` of `s`, rows `c_row` apart. A's element (i, k) is at
# a + i a_row + k a_k, in `data` for the first two (one number for all lanes) and in `s` for the others;
# B's element (k, j) is at b + k b_k + j b_column in `s`; k runs over `size`.
data_product = _product(accumulate=False, broadcast=True)
data_product_add = _product(accumulate=True, broadcast=True)
lane_product = _product(accumulate=False, broadcast=False)
lane_product_add = _product(accumulate=True, broadcast=False)


def emit_slope(emit, activation, h, incoming):
    """Incoming * φ'(z), where h = φ(z)."""
    builder = emit.builder
    if activation == TANH:
        return builder.fmul(incoming, emit.fma(emit.negated(h), h, emit.number(1)))
    if activation == RELU:
        return builder.select(builder.fcmp_ordered(">", h, emit.number(0)), incoming, emit.number(0))
    return incoming


@intrinsic
def tanh_in_place(typing, s, start, count):
    """Replace `count` lane vectors, a multiple of IN_STEP, STRETCH times z each, by tanh z."""

    def generate(context, builder, signature, arguments):
        emit, (start, count) = emitter_and_indices(context, builder, signature, arguments)
        step = ir.Constant(count.type, IN_STEP)
        with cgutils.for_range(builder, builder.sdiv(count, step)) as loop:
            first = emit.at(start, (builder.mul(loop.index, step), emit.stride))
            places = [emit.at(first, (i, emit.stride)) for i in range(IN_STEP)]
            for place, value in zip(
                places, emit_tanh(emit, [emit.load(p) for p in places], stretched=True), strict=True
            ):
                emit.store(value, place)
        return context.get_dummy_value()

    return types.void(s, start, count), generate


@intrinsic
def data_product_beside_tanh(typing, s, c, c_row, data, a, a_row, b, b_k, size, before):
    """A tile as `data_product` makes it, columns of A and B side by side, and `tanh_tile` of the one at `before`.

    The division of a tanh takes about as long as a column of A times a row of B, and other parts of the processor.
    """

    def generate(context, builder, signature, arguments):
        emit, (c, c_row, data, a, a_row, b, b_k, size, before) = emitter_and_indices(
            context, builder, signature, arguments
        )
        numbers = context.make_array(signature.args[3])(context, builder, data).data
        sums = emit.variables([emit.number(0)] * (ROWS * COLUMNS))
        constants = Constants(emit, from_memory=True)

        def whole(n):
            return ir.Constant(size.type, n)

        def add(k):
            columns = [emit.load(emit.at(b, (k, b_k), (j, emit.stride))) for j in range(COLUMNS)]
            for i in range(ROWS):
                place = builder.add(k, emit.at(a, (i, a_row)))
                row = emit.splat(builder.load(builder.gep(numbers, [place])))
                for j in range(COLUMNS):
                    emit.add_product(sums[i * COLUMNS + j], row, columns[j])

        def activate(row, columns):
            places = [emit.at(before, (row, c_row), (j, emit.stride)) for j in columns]
            values = emit_tanh(emit, [emit.load(p) for p in places], stretched=True, constants=constants)
            for place, value in zip(places, values, strict=True):
                emit.store(value, place)

        steps = builder.sdiv(size, whole(COLUMNS))
        paired = builder.select(builder.icmp_signed("<", steps, whole(ROWS)), steps, whole(ROWS))
        with cgutils.for_range(builder, paired) as loop:
            for j in range(COLUMNS):
                add(builder.add(builder.mul(loop.index, whole(COLUMNS)), whole(j)))
                activate(loop.index, [j])
        done = builder.mul(paired, whole(COLUMNS))
        with cgutils.for_range(builder, builder.sub(size, done)) as loop:
            add(builder.add(done, loop.index))
        with cgutils.for_range(builder, builder.sub(whole(ROWS), paired)) as loop:
            activate(builder.add(paired, loop.index), range(COLUMNS))
        for n, total in enumerate(sums):
            emit.store(builder.load(total), emit.at(c, (n // COLUMNS, c_row), (n % COLUMNS, emit.stride)))
        return context.get_dummy_value()

    return types.void(s, c, c_row, data, a, a_row, b, b_k, size, before), generate


@intrinsic
def tanh_tile(typing, s, start, row):
    """Replace a tile of lane vectors, STRETCH times z each, by tanh z; its rows are `row` apart."""

    def generate(context, builder, signature, arguments):
        emit, (start, row) = emitter_and_indices(context, builder, signature, arguments)
        with cgutils.for_range(builder, ir.Constant(start.type, ROWS)) as loop:
            places = [emit.at(start, (loop.index, row), (j, emit.stride)) for j in range(COLUMNS)]
            for place, value in zip(
                places, emit_tanh(emit, [emit.load(p) for p in places], stretched=True), strict=True
            ):
                emit.store(value, place)
        return context.get_dummy_value()

    return types.void(s, start, row), generate


@intrinsic
def relu_in_place(typing, s, start, count):
    """Replace `count` lane vectors by their positive parts; NaN stays."""

    def generate(context, builder, signature, arguments):
        emit, (start, count) = emitter_and_indices(context, builder, signature, arguments)
        with cgutils.for_range(builder, count) as loop:
            place = emit.at(start, (loop.index, emit.stride))
            z, zero = emit.load(place), emit.number(0)
            emit.store(builder.select(builder.fcmp_ordered("<", z, zero), zero, z), place)
        return context.get_dummy_value()

    return types.void(s, start, count), generate


@intrinsic
def residuals(typing, s, r, h, h_row, w, size, targets, row, n_rows, loss):
    """Of OUTPUT_ROWS data rows from `row` on, write out - target at `r` and add the squares to `loss`.

    Rows from `n_rows` on are padding: their residuals are zero, whatever the output.
    """

    def generate(context, builder, signature, arguments):
        emit, (r, h, h_row, w, size, targets, row, n_rows, loss) = emitter_and_indices(
            context, builder, signature, arguments
        )
        outputs = emit.variables([emit.number(0)] * OUTPUT_ROWS)
        with cgutils.for_range(builder, size) as loop:
            weight = emit.load(emit.at(w, (loop.index, emit.stride)))
            for i, output in enumerate(outputs):
                hidden = emit.load(emit.at(h, (i, h_row), (loop.index, emit.stride)))
                emit.add_product(output, hidden, weight)
        y = context.make_array(signature.args[6])(context, builder, targets).data
        total = emit.load(loss)
        for i, output in enumerate(outputs):
            here = builder.add(row, ir.Constant(row.type, i))
            error = builder.fsub(builder.load(output), emit.splat(builder.load(builder.gep(y, [here]))))
            error = builder.select(builder.icmp_signed("<", here, n_rows), error, emit.number(0))
            total = emit.fma(error, error, total)
            emit.store(error, emit.at(r, (i, emit.stride)))
        emit.store(total, loss)
        return context.get_dummy_value()

    return types.void(s, r, h, h_row, w, size, targets, row, n_rows, loss), generate


def _output_backward(activation: int):
    @intrinsic
    def output_backward(typing, s, r, h, h_row, w, g, size):
        def generate(context, builder, signature, arguments):
            emit, (r, h, h_row, w, g, size) = emitter_and_indices(context, builder, signature, arguments)
            errors = [emit.load(emit.at(r, (i, emit.stride))) for i in range(OUTPUT_ROWS)]
            with cgutils.for_range(builder, size) as loop:
                weight = emit.load(emit.at(w, (loop.index, emit.stride)))
                total = emit.load(emit.at(g, (loop.index, emit.stride)))
                for i, error in enumerate(errors):
                    place = emit.at(h, (i, h_row), (loop.index, emit.stride))
                    hidden = emit.load(place)
                    total = emit.fma(error, hidden, total)
                    emit.store(emit_slope(emit, activation, hidden, builder.fmul(error, weight)), place)
                emit.store(total, emit.at(g, (loop.index, emit.stride)))
            return context.get_dummy_value()

        return types.void(s, r, h, h_row, w, g, size), generate

    return output_backward


# For OUTPUT_ROWS rows with residuals at `r`: add Σ r h to the output layer's gradient at `g`, and replace
# the hidden values h by the gradient with respect to what went into the activation.
output_backward_tanh, output_backward_relu, output_backward_identity = map(
    _output_backward, (TANH, RELU, IDENTITY)
)


def _hidden_backward(activation: int):
    @intrinsic
    def hidden_backward(typing, s, h, incoming, count):
        def generate(context, builder, signature, arguments):
            emit, (h, incoming, count) = emitter_and_indices(context, builder, signature, arguments)
            with cgutils.for_range(builder, count) as loop:
                place = emit.at(h, (loop.index, emit.stride))
                arriving = emit.load(emit.at(incoming, (loop.index, emit.stride)))
                if activation == TANH:
                    arriving = builder.fmul(arriving, emit.number(1 / STRETCH[str(emit.scalar)]))
                emit.store(emit_slope(emit, activation, emit.load(place), arriving), place)
            return context.get_dummy_value()

        return types.void(s, h, incoming, count), generate

    return hidden_backward


# Replace `count` hidden values at `h` by what arrives, before the stretch of the weights, times the slope there.
hidden_backward_tanh, hidden_backward_relu, hidden_backward_identity = map(
    _hidden_backward, (TANH, RELU, IDENTITY)
)


@intrinsic
def descend(typing, s, w, g, count, rate):
    """W -= rate g for `count` lane vectors, then g = 0; `rate` is the offset of a lane vector."""

    def generate(context, builder, signature, arguments):
        emit, (w, g, count, rate) = emitter_and_indices(context, builder, signature, arguments)
        step = emit.negated(emit.load(rate))
        with cgutils.for_range(builder, count) as loop:
            weight, gradient = (emit.at(x, (loop.index, emit.stride)) for x in (w, g))
            emit.store(emit.fma(step, emit.load(gradient), emit.load(weight)), weight)
            emit.store(emit.number(0), gradient)
        return context.get_dummy_value()

    return types.void(s, w, g, count, rate), generate


@intrinsic
def descend_with_memory(typing, s, w, g, m, count, rate, momentum, decay):
    """M = momentum m + g + decay w, then w -= rate m, then g = 0; the last three are offsets."""

    def generate(context, builder, signature, arguments):
        emit, (w, g, m, count, rate, momentum, decay) = emitter_and_indices(
            context, builder, signature, arguments
        )
        step, keep, shrink = emit.negated(emit.load(rate)), emit.load(momentum), emit.load(decay)
        with cgutils.for_range(builder, count) as loop:
            at_w, at_g, at_m = (emit.at(x, (loop.index, emit.stride)) for x in (w, g, m))
            weight = emit.load(at_w)
            memory = emit.fma(keep, emit.load(at_m), emit.fma(shrink, weight, emit.load(at_g)))
            emit.store(memory, at_m)
            emit.store(emit.fma(step, memory, weight), at_w)
            emit.store(emit.number(0), at_g)
        return context.get_dummy_value()

    return types.void(s, w, g, m, count, rate, momentum, decay), generate
