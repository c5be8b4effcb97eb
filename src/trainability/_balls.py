"""Rigorous evaluation of a map in ball arithmetic, and all zeros of a function in a box.

Every number is an Arb ball that contains the exact value, so an inequality that holds for the balls
holds for the reals. What is evaluated is the map's symbolic form (`Map.expressions`), not its compiled
step: a call to `math.tanh` would quietly turn a ball into a float.

References: Johansson, IEEE Trans. Computers 66, 1281 (2017) (Arb); Krawczyk, Computing 4, 187 (1969);
Neumaier, Interval Methods for Systems of Equations (1990), ch. 5.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ._map import Map, symbols_of

# A cell is tested on a box this much wider than itself, so that a zero on the face between two cells is
# interior to both tests; and the result of a test is inflated by the second factor before the next.
_OVERLAP, _INFLATE = 1.1, 1.5
_FUNCTIONS = ("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "asin", "acos", "atan", "erf")


def load_flint():
    """Import python-flint, or say how to get it."""
    try:
        import flint
    except ImportError as error:
        raise ImportError("proofs need python-flint: pip install 'trainability[precision]'") from error
    return flint


@dataclass(frozen=True, eq=False)
class BallMap:
    """A map on balls: step (d,) and jacobian (d, d).

    Both take the state, a sequence of d balls, and the parameters, a sequence of k balls, and return lists.
    """

    d: int
    step: Callable
    jacobian: Callable


def has_balls(map: Map) -> bool:
    """Whether the map can be evaluated in ball arithmetic, here: python-flint may be missing."""
    try:
        load_flint()
    except ImportError:
        return False
    return bool(map.expressions) and not any(_unsupported(e) for e in map.expressions)


def ball_map(map: Map) -> BallMap:
    """Translate a map's symbolic form to ball arithmetic, or raise a `ValueError` saying why not."""
    import sympy as sp

    if not map.expressions:
        raise ValueError(f"{map.name} has no symbolic form, so nothing can be proved of it")
    for e in map.expressions:
        if bad := _unsupported(e):
            raise ValueError(
                f"{map.name}: ball arithmetic does not know {bad}, so nothing can be proved of it"
            )
    u, p = symbols_of(map)
    d = map.d
    step = compile_balls(map.expressions, [*u, *p])
    entries = compile_balls([sp.diff(e, x) for e in map.expressions for x in u], [*u, *p])

    def jacobian(u, p):
        flat = entries(u, p)
        return [flat[i * d : (i + 1) * d] for i in range(d)]

    return BallMap(d, step, jacobian)


def parameter_slope(map: Map, parameter: str) -> Callable:
    """∂f/∂λ on balls, shape (d,), for one parameter λ."""
    import sympy as sp

    u, p = symbols_of(map)
    value = p[map.parameter_index(parameter)]
    return compile_balls([sp.diff(e, value) for e in map.expressions], [*u, *p])


def _unsupported(expression) -> str:
    import sympy as sp

    for node in sp.preorder_traversal(expression):
        exponent_ok = not node.is_Pow or node.exp.is_Integer or (2 * node.exp).is_Integer or node.base == sp.E
        known = node.is_Atom or node.is_Add or node.is_Mul or node.is_Pow or node.func.__name__ in _FUNCTIONS
        if not (known and exponent_ok):
            return str(node)
    return ""


def compile_balls(expressions: Sequence, symbols: Sequence) -> Callable:
    """Compile sympy expressions to f(u, p) on balls, a list; (*u, *p) take the symbols' places in order."""
    import sympy as sp

    arb = load_flint().arb
    shared, reduced = sp.cse([sp.sympify(e) for e in expressions])
    names = {s: f"_{i}" for i, s in enumerate([*symbols, *(s for s, _ in shared)])}
    constants: dict = {name: getattr(arb, name) for name in _FUNCTIONS} | {"sqrt": arb.sqrt}

    def constant(value) -> str:
        name = f"c{len(constants)}"
        constants[name] = value
        return name

    def code(e) -> str:
        if e.is_Symbol:
            return names[e]
        if e.is_Integer:
            return f"({int(e)})"
        if e.is_Rational:  # a quotient of integers, rounded outwards at the precision of the call
            return f"(one * {e.p} / {e.q})"
        if e.is_Float:
            sign, mantissa, exponent, _ = e._mpf_
            return constant(arb((-int(mantissa) if sign else int(mantissa), exponent)))
        if e is sp.pi or e is sp.E:
            return "arb.pi()" if e is sp.pi else "one.exp()"
        if e.is_Add or e.is_Mul:
            return "(" + (" + " if e.is_Add else " * ").join(code(a) for a in e.args) + ")"
        if e.is_Pow and e.base == sp.E:
            return f"exp({code(e.exp)})"
        if e.is_Pow:
            twice = int(2 * e.exp)
            base = code(e.base) if twice % 2 == 0 else f"sqrt({code(e.base)})"
            power = f"power({base}, {abs(twice) // 2 if twice % 2 == 0 else abs(twice)})"
            return power if twice > 0 else f"(1 / {power})"
        return f"{e.func.__name__}(one * {code(e.args[0])})"

    lines = [f"    {names[s]} = {code(e)}" for s, e in shared]
    source = "\n".join(
        [
            f"def compiled(u, p):\n    ({', '.join(names[s] for s in symbols)},) = (*u, *p)",
            *lines,
            f"    return [{', '.join('one * ' + code(e) for e in reduced)}]",
        ]
    )
    namespace = constants | {"arb": arb, "one": arb(1), "power": _power}
    exec(source, namespace)
    return namespace["compiled"]


def _power(x, n: int):
    """x^n by squaring; Arb's own power gives nan for a ball around zero."""
    result = 1
    while n:
        if n & 1:
            result = x * result
        x, n = x * x, n >> 1
    return result


def ball(lo: float, hi: float):
    """Smallest ball around [lo, hi], both taken exactly."""
    arb = load_flint().arb
    return arb(lo).union(arb(hi))


def bounds(x) -> tuple[float, float]:
    """Floats lo <= x <= hi around a ball, rounded outwards."""
    return np.nextafter(float(x.lower()), -np.inf), np.nextafter(float(x.upper()), np.inf)


def largest(x) -> float:
    """Upper bound of |x| over a ball, rounded upwards."""
    return float(np.nextafter(float(x.abs_upper()), np.inf))


def column(values: Sequence):
    """A column `arb_mat` of balls."""
    return load_flint().arb_mat([[x] for x in values])


def krawczyk(center: Sequence, box: Sequence, values: Sequence, jacobian):
    """Krawczyk's operator c - C F(c) + (1 - C F'(X)) (X - c), a list of balls; None if F' is singular.

    Every zero of F in X lies in it, and if it lies in the interior of X there is exactly one.
    """
    arb_mat = load_flint().arb_mat
    n = len(center)
    middle = np.array([[float(jacobian[i, j].mid()) for j in range(n)] for i in range(n)])
    try:
        inverse = np.linalg.inv(middle)
    except np.linalg.LinAlgError:
        return None
    if not np.isfinite(inverse).all():
        return None
    C = arb_mat(inverse.tolist())
    identity = arb_mat(np.eye(n).tolist())
    offset = column([x - c for x, c in zip(box, center, strict=True)])
    image = (identity - C * jacobian) * offset - C * column(values)
    return [c + image[i, 0] for i, c in enumerate(center)]


@dataclass(frozen=True, eq=False)
class Zeros:
    """All zeros of a function in a box, and what stayed open.

    For each zero, `enclosures` has a small box around it (a list of balls) and `domains` a larger one in
    which it is the only zero. `undecided` (k, m, 2) are the cells in which zeros were neither found nor
    excluded.
    """

    enclosures: list
    domains: list
    undecided: np.ndarray
    n_cells: int


def zeros_in_box(function: Callable, box: np.ndarray, *, min_width: float, max_cells: int) -> Zeros:
    """Enclose every zero of a function R^m -> R^m in a box (m, 2) by subdivision and Krawczyk's test.

    Parameters
    ----------
    function : callable
        ``function(cell)`` takes m balls and returns None if it can exclude a zero of interest there, or
        ``(values_at, jacobian)``: a function giving F at m exact balls, and the enclosure of F' over the
        cell as an `arb_mat`, or None where the cell is too wide to say anything.
    min_width : float
        Cells narrower than this fraction of the box are left undecided.
    max_cells : int
        Cells examined before the rest is left undecided. Cells are taken widest first.
    """
    queue = deque([[(float(lo), float(hi)) for lo, hi in box]])
    widths = box[:, 1] - box[:, 0]
    found: list = []
    undecided: list = []
    n_cells = 0
    while queue:
        if n_cells >= max_cells:
            undecided.extend(queue)
            break
        cell = queue.popleft()
        n_cells += 1
        verdict, domain, enclosure = _examine(function, cell)
        if verdict == "unique":
            known = [e for _, e in found if overlap(e, enclosure)]
            if not known:
                found.append((domain, enclosure))
            elif not any(contain(x, enclosure) for x, _ in found):
                verdict = "open"  # too close to another zero to say whether it is the same
        if verdict == "open":
            relative = [(hi - lo) / w for (lo, hi), w in zip(cell, widths, strict=True)]
            j = int(np.argmax(relative))
            if relative[j] < min_width:
                undecided.append(cell)
                continue
            lo, hi = cell[j]
            middle = 0.5 * (lo + hi)
            queue.extend([*cell[:j], half, *cell[j + 1 :]] for half in ((lo, middle), (middle, hi)))
    return Zeros(
        [e for _, e in found], [x for x, _ in found], np.array(undecided).reshape(-1, len(box), 2), n_cells
    )


def overlap(a: Sequence, b: Sequence) -> bool:
    """Whether two boxes of balls may have a common point."""
    return all(x.overlaps(y) for x, y in zip(a, b, strict=True))


def contain(outer: Sequence, inner: Sequence) -> bool:
    """Whether the first box of balls contains the second."""
    return all(x.contains(y) for x, y in zip(outer, inner, strict=True))


def _examine(function: Callable, cell: list) -> tuple[str, list, list]:
    """Decide one cell: "empty", "open", or "unique" with the box it is unique in and its enclosure."""
    X = [ball(*_widened(lo, hi)) for lo, hi in cell]
    result = function(X)
    if result is None:
        return "empty", [], []
    values_at, jacobian = result
    if jacobian is None:
        return "open", [], []
    center = [x.mid() for x in X]
    values = values_at(center)
    if values is None:
        return "open", [], []
    linear = jacobian * column([x - c for x, c in zip(X, center, strict=True)])
    if any(not (v + linear[i, 0]).contains(0) for i, v in enumerate(values)):
        return "empty", [], []
    K = krawczyk(center, X, values, jacobian)
    if K is None:
        return "open", [], []
    if not overlap(K, X):
        return "empty", [], []
    if not all(x.contains_interior(k) for k, x in zip(K, X, strict=True)):
        return "open", [], []
    for _ in range(12):  # each round roughly squares the relative width, until rounding stops it
        refined = function(K)
        if refined is None:  # the zero is there, but seen closely it is not one that is asked for
            return "empty", [], []
        if refined[1] is None:
            break
        middle = [k.mid() for k in K]
        at_middle = refined[0](middle)
        K_next = krawczyk(middle, K, at_middle, refined[1]) if at_middle is not None else None
        if K_next is None or not contain(K, K_next):
            break
        K = K_next
    return "unique", X, K


def _widened(lo: float, hi: float) -> tuple[float, float]:
    margin = 0.5 * (_OVERLAP - 1) * (hi - lo)
    return lo - margin, hi + margin
