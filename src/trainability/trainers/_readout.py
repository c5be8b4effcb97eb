"""What is kept of a run: one emitted function that takes in the losses of a step, lane by lane.

`o` holds one vector of doubles for each of the slots below, whatever the type that trains. With
v = loss / first loss, sums run over the steps whose v is below CAP; the others are counted, each standing
for a v of CAP, a loss that is not finite among them. So a run known to stay above the cap can be ended early,
and its sums are the same to the last bit as if it had gone on.
"""

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from ._vector import emitter_and_indices

# The published cap on v.
CAP = 1e6

# The published tail: a run has converged if the mean of its last 20 v is below 1.
TAIL = 20

FIRST, LAST, LEAST, SUM, INVERSE_SUM, CAPPED, TAIL_SUM, TAIL_CAPPED, CAPPED_SINCE, STEP = range(10)
SLOTS = 10

# What the slots hold before the first step.
START = (0.0, 0.0, float("inf"), 0.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0)


@intrinsic
def take_in(typing, s, loss, o, n_rows, extra, tail_from):
    """Take in the losses at `loss` of `s`, over `n_rows` and plus `extra`, and count the step.

    Steps from `tail_from` on are the tail. Returns a whole number whose bit k is set if lane k is below CAP.
    """

    def generate(context, builder, signature, arguments):
        extra = arguments[4]
        emit, (loss, o, n_rows, tail_from) = emitter_and_indices(
            context,
            builder,
            signature.replace(args=(*signature.args[:4], signature.args[5])),
            (*arguments[:4], arguments[5]),
        )
        double = ir.DoubleType()
        vector = ir.VectorType(double, emit.width)
        data = context.make_array(signature.args[2])(context, builder, o).data

        def number(value):
            return ir.Constant(vector, [ir.Constant(double, value)] * emit.width)

        def splat(scalar):
            one = builder.insert_element(
                ir.Constant(vector, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), emit.width), [0] * emit.width)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        def place(slot):
            offset = ir.Constant(ir.IntType(64), slot * emit.width)
            return builder.bitcast(builder.gep(data, [offset]), vector.as_pointer())

        def load(slot):
            return builder.load(place(slot), align=8)

        def store(slot, value):
            builder.store(value, place(slot), align=8)

        zero, one = number(0.0), number(1.0)
        value = emit.load(loss)
        if emit.itemsize < 8:
            value = builder.fpext(value, vector)
        value = builder.fadd(builder.fdiv(value, splat(builder.sitofp(n_rows, double))), splat(extra))
        step = load(STEP)
        starts = builder.fcmp_ordered("==", step, zero)
        first = builder.select(starts, value, load(FIRST))
        store(FIRST, first)
        store(LAST, value)
        store(LEAST, builder.select(builder.fcmp_ordered("<", value, load(LEAST)), value, load(LEAST)))

        # A loss of exactly zero has v = 0 also where the first loss was zero.
        v = builder.select(builder.fcmp_ordered("==", value, zero), zero, builder.fdiv(value, first))
        below = builder.fcmp_ordered("<", v, number(CAP))  # false for NaN
        counted, capped = builder.select(below, v, zero), builder.select(below, zero, one)
        store(SUM, builder.fadd(load(SUM), counted))
        inverse = builder.select(below, builder.fdiv(one, v), zero)
        store(INVERSE_SUM, builder.fadd(load(INVERSE_SUM), inverse))
        store(CAPPED, builder.fadd(load(CAPPED), capped))
        tail = builder.fcmp_ordered(">=", step, splat(builder.sitofp(tail_from, double)))
        store(TAIL_SUM, builder.fadd(load(TAIL_SUM), builder.select(tail, counted, zero)))
        store(TAIL_CAPPED, builder.fadd(load(TAIL_CAPPED), builder.select(tail, capped, zero)))
        since = load(CAPPED_SINCE)
        since = builder.select(builder.fcmp_ordered("<", since, zero), step, since)
        store(CAPPED_SINCE, builder.select(below, number(-1.0), since))
        store(STEP, builder.fadd(step, one))
        return builder.zext(builder.bitcast(below, ir.IntType(emit.width)), ir.IntType(64))

    return types.int64(s, loss, o, n_rows, extra, tail_from), generate
