"""Hyperbolic tangent without branches, on vectors: within 2 ulp, odd, never beyond ±1, NaN kept.

With |x| = (j + r) / c, j an integer and |r| <= 1/2, and with t_j = tanh(j / c) and w_j = 1 - t_j² from a table,

    tanh |x| = t_j + w_j R / (Q + t_j R),   R / Q = tanh(r / c),   R = r + r³ p(r²),   Q = c + r² q(r²).

R / Q interpolates at the Chebyshev points of r². The second term is small against the first, if there is a first, so
that little of its rounding is left in the sum. The last entry of the table is t = 1, w = 0: a saturated unit is exactly
±1, and its slope 1 - tanh² exactly 0.

On a processor with two ports for all wide vectors what counts is the number of operations: 19, three of them for the
division, which goes on beside others. Callers that can fold `c` into what they multiply say `stretched`; for others it takes six more.
"""

from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba.core import cgutils

# c above, in the type.
STRETCH = {"double": 0.7717100119100279, "float": 3.3632359504699707}

# Coefficients of p and q, lowest first; relative error of R / Q: 1.9e-17 in double precision, 1.0e-9 in single.
P = {
    "double": (
        0.21520084204322004,
        0.007872766954230816,
        3.481001420659463e-05,
    ),
    "float": (0.005890062544494867,),
}
Q = {
    "double": (
        0.5980138245979392,
        0.05067641421482553,
        0.000754424504516579,
    ),
    "float": (0.11892055720090866,),
}

# tanh(j / c); beyond the last it rounds to 1. Then its square from 1.
TANH = {
    "double": (
        0.0,
        0.8606441229097045,
        0.9888435871711928,
        0.9991600885659615,
        0.9999370690592084,
        0.9999952865507015,
        0.9999996469780088,
        0.9999999735598567,
        0.9999999980197237,
        0.9999999998516841,
        0.9999999999888917,
        0.999999999999168,
        0.9999999999999377,
        0.9999999999999953,
        0.9999999999999997,
        1.0,
    ),
    "float": (
        0.0,
        0.2888697683811188,
        0.5332427024841309,
        0.7123792171478271,
        0.8303712010383606,
        0.9027089476585388,
        0.9451233148574829,
        0.9693449139595032,
        0.9829691052436829,
        0.9905672669410706,
        0.9947844743728638,
        0.9971190094947815,
        0.9984093904495239,
        0.9991220831871033,
        0.9995155334472656,
        0.9997326731681824,
        0.9998524785041809,
        0.9999185800552368,
        0.9999551177024841,
        0.9999752044677734,
        0.9999863505363464,
        0.9999924302101135,
        0.9999958276748657,
        0.9999976754188538,
        0.9999987483024597,
        0.9999992847442627,
        0.9999996423721313,
        0.9999997615814209,
        0.9999998807907104,
        0.9999999403953552,
        0.9999999403953552,
        1.0,
    ),
}
SLOPES = {
    "double": (
        1.0,
        0.2592916937009855,
        0.022188360110407594,
        0.0016791174168599807,
        0.00012585792127983473,
        9.426876380447151e-06,
        7.060438577780518e-07,
        5.288028591080119e-08,
        3.960552538445875e-09,
        2.966318314032655e-10,
        2.2216709006733902e-11,
        1.6639554719811053e-12,
        1.246245702669253e-13,
        9.33395380809872e-15,
        6.990811964696328e-16,
        0.0,
    ),
    "float": (
        1.0,
        0.9165542721748352,
        0.7156522274017334,
        0.4925158619880676,
        0.3104836642742157,
        0.18511654436588287,
        0.10674189776182175,
        0.06037043407559395,
        0.033771686255931854,
        0.01877650059759617,
        0.010403824038803577,
        0.005753723904490471,
        0.0031787047628313303,
        0.001755092409439385,
        0.0009687484707683325,
        0.0005346203106455505,
        0.00029501059907488525,
        0.00016278201655950397,
        8.981778955785558e-05,
        4.9557707825442776e-05,
        2.7343628971721046e-05,
        1.5086861822055653e-05,
        8.324161171913147e-06,
        4.592840923578478e-06,
        2.534089617256541e-06,
        1.398177460032457e-06,
        7.714406820014119e-07,
        4.2564028035485535e-07,
        2.3484584232846828e-07,
        1.295755396313325e-07,
        7.149293423935887e-08,
        0.0,
    ),
}

# 1.5 · 2^(bits of the fraction): adding it rounds to an integer and leaves that in the low bits of the sum.
ROUNDER = {"double": 1.5 * 2**52, "float": 1.5 * 2**23}

# Whether the processor looks up a table held in two registers and splits off a fraction in one operation each.
LOOKS_UP = bool(binding.get_host_cpu_features().get("avx512dq"))


def emit_tanh(emit, arguments, *, stretched=False, looks_up=None):
    """Emit code for tanh of several lane vectors in lock step; return the results in order.

    `stretched` says that the arguments are STRETCH times what is meant; the tanh of -0 is then 0. Both ways of
    looking up give the same bits.
    """
    builder, kind, number = emit.builder, str(emit.scalar), emit.number

    def each(function, *columns):
        return [function(*values) for values in zip(*columns, strict=True)]

    def horner(x, coefficients):
        sums = [number(coefficients[-1])] * len(x)
        for c in reversed(coefficients[:-1]):
            sums = each(lambda total, xi, c=c: emit.fma(total, xi, number(c)), sums, x)
        return sums

    c = number(STRETCH[kind])
    split = _split_wide if (LOOKS_UP if looks_up is None else looks_up) else _split
    if not stretched:
        arguments = [_limited(emit, x, 32) for x in arguments]  # 32 is saturated
    y = arguments if stretched else each(lambda x: builder.fmul(x, c), arguments)
    r, t, w = split(emit, y)
    v = each(builder.fmul, r, r)
    more, p = each(builder.fmul, r, v), horner(v, P[kind])
    if stretched:
        top = each(emit.fma, more, p, r)
    else:  # What y lost to rounding is below the last place of r, but not of what r lacks.
        lost = each(lambda x, yi: emit.fma(x, c, emit.negated(yi)), arguments, y)
        top = each(builder.fadd, r, each(emit.fma, more, p, lost))
    bottom = each(lambda vi, qi: emit.fma(vi, qi, c), v, horner(v, Q[kind]))
    ratio = each(builder.fdiv, top, each(emit.fma, t, top, bottom))
    found = each(emit.fma, w, ratio, t)
    if stretched:
        return found
    return each(lambda value, x: _with_sign(emit, value, x), found, arguments)


def _limited(emit, x, size):
    """Bring what is beyond ±size, infinity too, to that; NaN passes, as ordered comparisons are false."""
    builder, limit, least = emit.builder, emit.number(size), emit.number(-size)
    x = builder.select(builder.fcmp_ordered("<", limit, x), limit, x)
    return builder.select(builder.fcmp_ordered(">", least, x), least, x)


def _constants(emit, value):
    whole = ir.VectorType(ir.IntType(8 * emit.itemsize), emit.width)
    return ir.Constant(whole, [ir.Constant(whole.element, value)] * emit.width)


def _sign(emit, x):
    bits = emit.builder.bitcast(x, _constants(emit, 0).type)
    return emit.builder.and_(bits, _constants(emit, 1 << (8 * emit.itemsize - 1)))


def _with_sign(emit, value, x):
    bits = emit.builder.bitcast(value, _constants(emit, 0).type)
    return emit.builder.bitcast(emit.builder.or_(bits, _sign(emit, x)), emit.vector)


def _split_wide(emit, arguments):
    """r and t with the signs of the arguments, and w, by AVX-512 for registers of 64 bytes."""
    builder, kind = emit.builder, str(emit.scalar)
    module, whole, mask = builder.module, _constants(emit, 0).type, ir.IntType(emit.width)
    flag, letter = ir.IntType(32), "d" if kind == "double" else "s"
    everywhere, now = ir.Constant(mask, -1), ir.Constant(flag, 4)
    limit = emit.number(len(TANH[kind]) - 1)

    def call(name, *values):
        type_ = ir.FunctionType(emit.vector, [value.type for value in values])
        function = cgutils.get_or_insert_function(module, type_, f"llvm.x86.avx512.{name}.p{letter}.512")
        return builder.call(function, values)

    def fraction(y):  # of infinity it is 0
        return call("mask.reduce", y, ir.Constant(flag, 8), emit.number(0), everywhere, now)

    def index(y):  # of the lesser in size of y and the limit, without sign; for NaN it is the limit
        size = call("mask.range", y, limit, ir.Constant(flag, 10), emit.number(0), everywhere, now)
        return builder.bitcast(builder.fadd(size, emit.number(ROUNDER[kind])), whole)

    def entry(table, j):
        low, high = (
            ir.Constant(emit.vector, [ir.Constant(emit.scalar, t) for t in table[kind][k : k + emit.width]])
            for k in (0, emit.width)
        )
        return call("vpermi2var", low, j, high)

    places = [index(y) for y in arguments]
    t = [_with_sign(emit, entry(TANH, j), y) for j, y in zip(places, arguments, strict=True)]
    return [fraction(y) for y in arguments], t, [entry(SLOPES, j) for j in places]


def _split(emit, arguments):
    """The same on any processor."""
    builder, kind, number = emit.builder, str(emit.scalar), emit.number
    last = len(TANH[kind]) - 1
    positive = _constants(emit, (1 << (8 * emit.itemsize - 1)) - 1)

    def index(y):
        size = builder.bitcast(builder.and_(builder.bitcast(y, positive.type), positive), emit.vector)
        sum_ = builder.bitcast(builder.fadd(size, number(ROUNDER[kind])), positive.type)
        return builder.and_(sum_, _constants(emit, last))

    def fraction(y):  # 0, not -0, of whole numbers
        whole = builder.fsub(builder.fadd(y, number(ROUNDER[kind])), number(ROUNDER[kind]))
        return builder.fadd(builder.fsub(y, whole), number(0))

    def entry(name, table, j):
        numbers = ir.Constant(ir.ArrayType(emit.scalar, last + 1), list(table[kind]))
        numbers = cgutils.global_constant(builder, name, numbers)
        found = ir.Constant(emit.vector, ir.Undefined)
        for lane in range(emit.width):
            place = ir.Constant(ir.IntType(32), lane)
            at = [ir.Constant(ir.IntType(64), 0), builder.extract_element(j, place)]
            found = builder.insert_element(found, builder.load(builder.gep(numbers, at)), place)
        return found

    arguments = [_limited(emit, y, last) for y in arguments]
    places = [index(y) for y in arguments]
    t = [_with_sign(emit, entry("tanh", TANH, j), y) for j, y in zip(places, arguments, strict=True)]
    return [fraction(y) for y in arguments], t, [entry("slopes", SLOPES, j) for j in places]
