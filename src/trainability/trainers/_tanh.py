"""Hyperbolic tangent without branches, on vectors: within 2 ulp, odd, never beyond ±1, NaN kept.

tanh |x| = h / (1 + h) with h = expm1(2 |x|) / 2. The sum and the quotient would each cost up to an ulp, so they are
kept for a part of the answer: with n the lesser of h and 1,

    tanh |x| = n - n · (n / (1 + h)),

which is h - h · h / (1 + h) below 1, where the product is the smaller the smaller h, and 1 - 1 / (1 + h) beyond,
which never passes 1 and is exactly 1 once 1 / (1 + h) is under half an ulp, so that a saturated unit has
slope 1 - tanh² = 0 exactly. With |x| = k (log 2) / 2 + r,

    h = 2^k p(r) + (2^k - 1) / 2,   p(r) = expm1(2 r) / 2 = r + r² q(r),

and 2 r between -0.26 log 2 and 0.74 log 2: then k = 0 until tanh passes 1/4, where an ulp doubles, and the sum is
never taken where its cancellation would tell. q is the polynomial that interpolates at the Chebyshev points of the
interval (a ten-thousandth wider, for the rounding of k).

On processors with two ports for all wide vectors the operations of one tanh, 27, take about as long as its division.
"""

from llvmlite import ir  # type: ignore[import-untyped]

# Coefficients of (expm1(y) - y) / y², lowest first; relative error of the expm1: 5.9e-17 in double precision, 6.3e-10
# in single.
Q = {
    "double": (
        0.5,
        0.16666666666666302,
        0.04166666666665146,
        0.008333333334011659,
        0.0013888888887038152,
        0.0001984126655563301,
        2.4801680613988897e-05,
        2.7561024138260294e-06,
        2.733544994545174e-07,
        2.8837630792453643e-08,
    ),
    "float": (
        0.49999999850921295,
        0.16666667057833476,
        0.041666953663348806,
        0.00833259207065451,
        0.0013822802215455539,
        0.00022541392534413987,
    ),
}

# A fused multiply-add takes k times this off |x| with one rounding. What the number itself lacks, at most a fifth of
# an ulp of r, matters for small k only, and little.
HALF_LOG2 = {"double": 0.34657359027997264, "float": 0.3465735912322998}

# What is taken off 2 |x| / log 2 before it is rounded to k.
SHIFT = 0.24

LOG2_E = 1.4426950408889634

# Beyond this tanh rounds to 1 in the type; a larger argument would only overflow 2^k.
SATURATED = {"double": 20.0, "float": 10.0}

# 1.5 · 2^(bits of the fraction): adding it and the exponent's bias rounds to an integer k, and leaves the exponent of
# 2^k in the low bits of the sum.
ROUNDER = {"double": 1.5 * 2**52, "float": 1.5 * 2**23}
LAYOUT = {"double": (64, 52, 1023), "float": (32, 23, 127)}  # bits, of the fraction, exponent's bias


def emit_tanh(emit, arguments):
    """Emit code for tanh of several lane vectors in lock step; return the results in order."""
    builder, kind, number = emit.builder, str(emit.scalar), emit.number
    bits, fraction, bias = LAYOUT[kind]
    integers = ir.VectorType(ir.IntType(bits), emit.width)
    rounder = ROUNDER[kind] + bias

    def whole(value):
        return ir.Constant(integers, [ir.Constant(ir.IntType(bits), value)] * emit.width)

    def each(function, *columns):
        return [function(*values) for values in zip(*columns, strict=True)]

    def at_most(limit, x):
        # An ordered comparison is false for NaN, which therefore passes.
        return builder.select(builder.fcmp_ordered("<", number(limit), x), number(limit), x)

    def size_of(x):
        return builder.bitcast(
            builder.and_(builder.bitcast(x, integers), whole((1 << (bits - 1)) - 1)), emit.vector
        )

    def rounded(x):
        return builder.fadd(emit.fma(x, number(2 * LOG2_E), number(-SHIFT)), number(rounder))

    def remainder(x, sum_):
        k = builder.fsub(sum_, number(rounder))
        return emit.fma(k, number(-HALF_LOG2[kind]), x)

    def power_of_two(sum_):
        return builder.bitcast(builder.shl(builder.bitcast(sum_, integers), whole(fraction)), emit.vector)

    def horner(x, coefficients):
        sums = [number(coefficients[-1])] * len(x)
        for c in reversed(coefficients[:-1]):
            sums = each(lambda total, xi, c=c: emit.fma(total, xi, number(c)), sums, x)
        return sums

    def with_sign(value, x):
        sign = builder.and_(builder.bitcast(x, integers), whole(1 << (bits - 1)))
        return builder.bitcast(builder.or_(builder.bitcast(value, integers), sign), emit.vector)

    sizes = each(lambda x: at_most(SATURATED[kind], size_of(x)), arguments)
    sums = each(rounded, sizes)
    r = each(remainder, sizes, sums)
    square = each(builder.fmul, r, r)
    q = [c * 2.0 ** (i + 1) for i, c in enumerate(Q[kind])]  # of r, not of 2 r, and halved
    p = each(emit.fma, r, horner(square, q[1::2]), horner(square, q[0::2]))
    p = each(emit.fma, square, p, r)
    scale = each(power_of_two, sums)
    h = each(lambda s, pi: emit.fma(s, pi, emit.fma(s, number(0.5), number(-0.5))), scale, p)
    n = each(lambda hi: at_most(1, hi), h)
    share = each(lambda ni, hi: builder.fdiv(ni, builder.fadd(hi, number(1))), n, h)
    size = each(lambda ni, si: emit.fma(emit.negated(ni), si, ni), n, share)
    return each(with_sign, size, arguments)
