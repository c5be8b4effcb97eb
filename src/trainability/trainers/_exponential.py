"""The exponential function without branches, on vectors, of arguments that are not positive; NaN kept.

With x = k log 2 + r and |r| <= (log 2) / 2, exp x = 2^k (1 + r + r² q(r)). q is the polynomial that interpolates
(expm1(r) - r) / r² at the Chebyshev points of the interval. Below `LEAST` the result is 0, so that 2^k is a normal
number, and so is what a weight makes of it: others are slow.
"""

from llvmlite import ir  # type: ignore[import-untyped]

from ._tanh import ROUNDER

LOG2_E = 1.4426950408889634

LAYOUT = {"double": (64, 52, 1023), "float": (32, 23, 127)}  # bits, of the fraction, exponent's bias

# Coefficients of q, lowest first; relative error of the exponential: 1.6e-17 in double precision, 2.2e-10 in single.
Q = {
    "double": (
        0.5000000000000001,
        0.16666666666666669,
        0.04166666666662413,
        0.008333333333330062,
        0.0013888888917213717,
        0.00019841269863053618,
        2.4801521295954376e-05,
        2.7557268459997064e-06,
        2.7620088445409746e-07,
        2.510038549551032e-08,
    ),
    "float": (
        0.500000001346581,
        0.16666666681623232,
        0.041666464925285904,
        0.0083333109254809,
        0.0013933649996309251,
        0.00019890990824673654,
    ),
}

# log 2 in two parts; the first has so few digits that its product with any k in use is exact.
LOG2 = {
    "double": (0.6931471803691238, 1.9082149292705877e-10),
    "float": (0.693115234375, 3.1946184945309415e-05),
}

LEAST = {"double": -690.0, "float": -75.0}


def emit_exp(emit, arguments):
    """Emit code for exp of several lane vectors in lock step; return the results in order."""
    builder, kind, number = emit.builder, str(emit.scalar), emit.number
    bits, fraction, bias = LAYOUT[kind]
    integers = ir.VectorType(ir.IntType(bits), emit.width)

    def each(function, *columns):
        return [function(*values) for values in zip(*columns, strict=True)]

    def at_least(x):
        # An ordered comparison is false for NaN, which therefore passes.
        return builder.select(builder.fcmp_ordered("<", x, number(LEAST[kind])), number(LEAST[kind]), x)

    def power_of_two(rounded):
        offset = ir.Constant(integers, [ir.Constant(ir.IntType(bits), bias)] * emit.width)
        shift = ir.Constant(integers, [ir.Constant(ir.IntType(bits), fraction)] * emit.width)
        return builder.bitcast(
            builder.shl(builder.add(builder.bitcast(rounded, integers), offset), shift), emit.vector
        )

    x = each(at_least, arguments)
    rounded = each(lambda v: emit.fma(v, number(LOG2_E), number(ROUNDER[kind])), x)
    k = each(lambda v: builder.fsub(v, number(ROUNDER[kind])), rounded)
    for part in LOG2[kind]:
        x = each(lambda n, v, part=part: emit.fma(n, number(-part), v), k, x)
    q = [number(Q[kind][-1])] * len(x)
    for c in reversed((1.0, *Q[kind][:-1])):  # the last round makes it 1 + r q
        q = each(lambda total, v, c=c: emit.fma(total, v, number(c)), q, x)
    scale = each(power_of_two, rounded)
    raised = each(builder.fmul, scale, x)
    powers = each(emit.fma, raised, q, scale)
    # An ordered comparison is false for NaN, which therefore passes.
    tiny = [builder.fcmp_ordered("<", v, number(LEAST[kind])) for v in arguments]
    return [builder.select(small, number(0), v) for small, v in zip(tiny, powers, strict=True)]
