"""Hyperbolic tangent without branches, on vectors: within 2 ulp, odd, never beyond ±1, NaN kept.

tanh x = h / (1 + h) with h = expm1(2 |x|) / 2. The quotient never passes 1, and is exactly 1 once 1 + h rounds
to h, so that the slope 1 - tanh² of a saturated unit is exactly 0. With 2 |x| = k log 2 + r,

    h = 2^(k-1) p(r) + (2^(k-1) - 1/2),   p(r) = expm1(r) = r + r² q(r),

and r between -0.3 log 2 and 0.7 log 2: the sum cancels least so, and k = 0 as far as 2 |x| = 0.485, so that
small arguments keep their relative accuracy. q is the polynomial that interpolates (expm1(r) - r) / r² at
the Chebyshev points of the interval (a ten-thousandth wider, for the rounding of k).

The rounding of d = 1 + h would cost up to another ulp. What it lost, e = h - (d - 1), is exact as long as 1 is a
multiple of the spacing at d, and 1/d = 1 - y where y is the quotient, so y - y e (1 - y) undoes it. Beyond, y is 1
or the number under it, and the factor 1 - y is made zero: the difference is taken from that number, if positive.
"""

from llvmlite import ir  # type: ignore[import-untyped]

# Coefficients of q, lowest first; relative error of p: 4.4e-17 in double precision, 5.9e-10 in single.
Q = {
    "double": (
        0.49999999999999994,
        0.1666666666666637,
        0.04166666666670016,
        0.008333333333773594,
        0.0013888888854975809,
        0.00019841268500625232,
        2.4801708401099965e-05,
        2.755710166584583e-06,
        2.742576859054515e-07,
        2.8177614067365654e-08,
    ),
    "float": (
        0.49999999884433655,
        0.1666666839211153,
        0.041666862759581036,
        0.008332083367525858,
        0.0013858032124685466,
        0.0002207544569576784,
    ),
}

# log 2 in two parts; the first has so few digits that its product with any k in use is exact.
LOG2 = {
    "double": (0.6931471803691238, 1.9082149292705877e-10),
    "float": (0.693115234375, 3.1946184945309415e-05),
}

# What is taken off 2 |x| / log 2 before it is rounded to k.
SHIFT = 0.2

LOG2_E = 1.4426950408889634

# Beyond this tanh rounds to 1 in the type; a larger argument would only overflow 2^k.
SATURATED = {"double": 20.0, "float": 10.0}

# 1.5 · 2^(bits of the fraction): adding it rounds to an integer, left in the low bits of the sum.
ROUNDER = {"double": 1.5 * 2**52, "float": 1.5 * 2**23}
LAYOUT = {"double": (64, 52, 1023), "float": (32, 23, 127)}  # bits, of the fraction, exponent's bias


def emit_tanh(emit, arguments):
    """Emit code for tanh of several lane vectors in lock step; return the results in order."""
    builder, kind, number = emit.builder, str(emit.scalar), emit.number
    bits, fraction, bias = LAYOUT[kind]
    integers = ir.VectorType(ir.IntType(bits), emit.width)
    high, low = LOG2[kind]
    under_one = 1 - 0.5 ** (fraction + 1)

    def whole(value):
        return ir.Constant(integers, [ir.Constant(ir.IntType(bits), value)] * emit.width)

    def each(function, *columns):
        return [function(*values) for values in zip(*columns, strict=True)]

    def absolute(x):
        return builder.bitcast(
            builder.and_(builder.bitcast(x, integers), whole((1 << (bits - 1)) - 1)), emit.vector
        )

    def twice_capped(x):
        size = absolute(x)
        # An ordered comparison is false for NaN, which therefore passes.
        size = builder.select(
            builder.fcmp_ordered(">", size, number(SATURATED[kind])), number(SATURATED[kind]), size
        )
        return builder.fadd(size, size)

    def power_of_two(rounded):
        k = builder.shl(builder.bitcast(rounded, integers), whole(fraction))
        return builder.bitcast(builder.add(k, whole((bias - 1) << fraction)), emit.vector)

    def positive(x):
        return builder.select(builder.fcmp_ordered(">", x, number(0)), x, number(0))

    def horner(x, coefficients):
        sums = [number(coefficients[-1])] * len(x)
        for c in reversed(coefficients[:-1]):
            sums = each(lambda total, xi, c=c: emit.fma(total, xi, number(c)), sums, x)
        return sums

    doubled = each(twice_capped, arguments)
    rounded = each(
        lambda x: builder.fadd(emit.fma(x, number(LOG2_E), number(-SHIFT)), number(ROUNDER[kind])), doubled
    )
    k = each(lambda x: builder.fsub(x, number(ROUNDER[kind])), rounded)
    r = each(lambda n, x: emit.fma(n, number(-high), x), k, doubled)
    r = each(lambda n, x: emit.fma(n, number(-low), x), k, r)
    square = each(builder.fmul, r, r)
    even, odd = horner(square, Q[kind][0::2]), horner(square, Q[kind][1::2])
    q = each(emit.fma, r, odd, even)
    scale = each(power_of_two, rounded)
    p = each(emit.fma, square, q, r)
    half = each(lambda s, pi: emit.fma(s, pi, builder.fsub(s, number(0.5))), scale, p)
    below = each(lambda h: builder.fadd(h, number(1)), half)
    lost = each(lambda h, d: builder.fsub(h, builder.fsub(d, number(1))), half, below)
    size = each(builder.fdiv, half, below)
    size = each(
        lambda y, e: emit.fma(
            builder.fmul(emit.negated(y), e), positive(builder.fsub(number(under_one), y)), y
        ),
        size,
        lost,
    )

    def with_sign(value, x):
        sign = builder.and_(builder.bitcast(x, integers), whole(1 << (bits - 1)))
        return builder.bitcast(builder.or_(builder.bitcast(value, integers), sign), emit.vector)

    return each(with_sign, size, arguments)
