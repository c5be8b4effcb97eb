"""Hyperbolic tangent without branches, on vectors: within 2 ulp, odd, never beyond ±1, NaN kept.

With |x| = (j + r) / c, j an integer and |r| <= 1/2, and with t_j = tanh(j / c) and w_j = 1 - t_j² from a table,

    tanh |x| = t_j + w_j R / (Q + t_j R),   R / Q = tanh(r / c),   R = r + r³ p(r²),   Q = c + r² q(r²).

R / Q interpolates at the Chebyshev points of r². The second term is small against the first, if there is a first,
so that little of its rounding is left in the sum. The last entry of the table is t = 1, w = 0: a saturated unit is
exactly ±1, and its slope 1 - tanh² exactly 0.

On a processor with two ports for all wide vectors the number of operations counts: here 19, three of them for the
division, which goes on beside others. Callers that can fold c into what they multiply say `stretched`; for the rest,
c x is kept to more than a number's digits, at six more.
"""

from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba.core import cgutils

# c above, in the type: numbers for which the first entries of the table happen to be rounded little.
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


def emit_tanh(emit, arguments, *, stretched=False, constants=None, looks_up=None):
    """Emit code for tanh of several lane vectors in lock step; return the results in order.

    `stretched` says that the arguments are STRETCH times what is meant; the tanh of -0 is then 0. Both ways of
    looking up give the same bits.
    """
    builder, kind = emit.builder, str(emit.scalar)
    number = constants or Constants(emit)

    def each(function, *columns):
        return [function(*values) for values in zip(*columns, strict=True)]

    def horner(x, name):
        degree = len(globals()[name][kind]) - 1
        sums = [number(f"{name}{degree}")] * len(x)
        for k in reversed(range(degree)):
            sums = each(lambda total, xi, k=k: emit.fma(total, xi, number(f"{name}{k}")), sums, x)
        return sums

    split = _split_wide if (LOOKS_UP if looks_up is None else looks_up) else _split
    if not stretched:
        arguments = [_limited(emit, x, 32) for x in arguments]  # 32 is saturated
    y = arguments if stretched else each(lambda x: builder.fmul(x, number("STRETCH")), arguments)
    r, t, w = split(emit, number, y)
    v = each(builder.fmul, r, r)
    more, p = each(builder.fmul, r, v), horner(v, "P")
    if stretched:
        top = each(emit.fma, more, p, r)
    else:  # What y lost to rounding is below the last place of r, but not of what r lacks.
        lost = each(lambda x, yi: emit.fma(x, number("STRETCH"), emit.negated(yi)), arguments, y)
        top = each(builder.fadd, r, each(emit.fma, more, p, lost))
    bottom = each(lambda vi, qi: emit.fma(vi, qi, number("STRETCH")), v, horner(v, "Q"))
    ratio = each(builder.fdiv, top, each(emit.fma, t, top, bottom))
    found = each(emit.fma, w, ratio, t)
    if stretched:
        return found
    return each(lambda value, x: _with_sign(emit, number, value, x), found, arguments)


class Constants:
    """The constants above as lane vectors.

    Where other code needs the registers, the tables alone are held in them, from here on, and the other constants are
    read from memory wherever they are used (`from_memory`).
    """

    def __init__(self, emit, *, from_memory=False):
        self.emit, kind, width = emit, str(emit.scalar), emit.width
        self.numbers = {
            "LAST": len(TANH[kind]) - 1,
            "ROUNDER": ROUNDER[kind],
            "SIGN": -0.0,
            "STRETCH": STRETCH[kind],
        }
        for name, values in (("P", P[kind]), ("Q", Q[kind])):
            self.numbers |= {f"{name}{k}": value for k, value in enumerate(values)}
        halves = [table[kind][k : k + width] for table in (TANH, SLOPES) for k in (0, width)]
        self.memory = self._memory([*self.numbers.values(), *sum(halves, ())]) if from_memory else None
        self.tables = [self._table(half, len(self.numbers) + k * width) for k, half in enumerate(halves)]

    def _memory(self, values):
        """One block for all. It is weak, so that no optimisation may take what is in it for known."""
        scalar, module = self.emit.scalar, self.emit.builder.module
        name = f"constants_of_tanh_{scalar}_{self.emit.width}"
        if name not in module.globals:
            memory = ir.GlobalVariable(module, ir.ArrayType(scalar, len(values)), name)
            memory.linkage = "weak"
            memory.initializer = ir.Constant(
                memory.value_type, [ir.Constant(scalar, float(x)) for x in values]
            )
        return module.globals[name]

    def _place(self, index):
        return self.emit.builder.gep(self.memory, [ir.Constant(ir.IntType(64), n) for n in (0, index)])

    def _table(self, values, index):
        if self.memory is None:
            return ir.Constant(self.emit.vector, [ir.Constant(self.emit.scalar, x) for x in values])
        at = self.emit.builder.bitcast(self._place(index), self.emit.vector.as_pointer())
        return self.emit.builder.load(at, align=self.emit.itemsize)

    def __call__(self, name):
        if self.memory is None:
            return self.emit.number(self.numbers[name])
        return self.emit.splat(self.emit.builder.load(self._place(list(self.numbers).index(name))))


def _limited(emit, x, size):
    """Bring what is beyond ±size, infinity too, to that; NaN passes, as ordered comparisons are false."""
    builder, limit, least = emit.builder, emit.number(size), emit.number(-size)
    x = builder.select(builder.fcmp_ordered("<", limit, x), limit, x)
    return builder.select(builder.fcmp_ordered(">", least, x), least, x)


def _integers(emit):
    return ir.VectorType(ir.IntType(8 * emit.itemsize), emit.width)


def _with_sign(emit, number, value, x):
    value, x, mask = (emit.builder.bitcast(v, _integers(emit)) for v in (value, x, number("SIGN")))
    return emit.builder.bitcast(emit.builder.or_(value, emit.builder.and_(x, mask)), emit.vector)


def _split_wide(emit, number, arguments):
    """R and t with the signs of the arguments, and w, by AVX-512 for registers of 64 bytes."""
    builder, letter = emit.builder, "d" if str(emit.scalar) == "double" else "s"
    flag = ir.IntType(32)
    everywhere, now = ir.Constant(ir.IntType(emit.width), -1), ir.Constant(flag, 4)

    def call(name, *values):
        type_ = ir.FunctionType(emit.vector, [value.type for value in values])
        name = f"llvm.x86.avx512.{name}.p{letter}.512"
        return builder.call(cgutils.get_or_insert_function(builder.module, type_, name), values)

    def fraction(y):  # of infinity it is 0
        return call("mask.reduce", y, ir.Constant(flag, 8), emit.number(0), everywhere, now)

    def index(y):  # of the lesser in size of y and LAST, without sign; for NaN it is LAST
        size = call("mask.range", y, number("LAST"), ir.Constant(flag, 10), emit.number(0), everywhere, now)
        return builder.bitcast(builder.fadd(size, number("ROUNDER")), _integers(emit))

    def entry(k, j):
        return call("vpermi2var", number.tables[2 * k], j, number.tables[2 * k + 1])

    places = [index(y) for y in arguments]
    t = [_with_sign(emit, number, entry(0, j), y) for j, y in zip(places, arguments, strict=True)]
    return [fraction(y) for y in arguments], t, [entry(1, j) for j in places]


def _split(emit, number, arguments):
    """The same on any processor."""
    builder, kind = emit.builder, str(emit.scalar)
    last = len(TANH[kind]) - 1

    def whole(value):
        return ir.Constant(_integers(emit), [ir.Constant(_integers(emit).element, value)] * emit.width)

    def index(y):
        size = builder.and_(builder.bitcast(y, _integers(emit)), whole((1 << (8 * emit.itemsize - 1)) - 1))
        sum_ = builder.fadd(builder.bitcast(size, emit.vector), number("ROUNDER"))
        return builder.and_(builder.bitcast(sum_, _integers(emit)), whole(last))

    def fraction(y):  # 0, not -0, of whole numbers
        rounded = builder.fsub(builder.fadd(y, number("ROUNDER")), number("ROUNDER"))
        return builder.fadd(builder.fsub(y, rounded), emit.number(0))

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
    t = [_with_sign(emit, number, entry("tanh", TANH, j), y) for j, y in zip(places, arguments, strict=True)]
    return [fraction(y) for y in arguments], t, [entry("slopes", SLOPES, j) for j in places]
