"""The period-doubling cascade of a one-dimensional family, to as many digits as wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ._branch import FLIP
from ._checks import positive_whole
from ._map import Map, symbols_of
from .continuation import BifurcationDiagram, Branch, SpecialPoint, bifurcation_diagram
from .cycles import NotFound, find_cycle
from .dynamics import settle_map

# Doublings that are followed in doubles first; each later one is predicted from the three before it.
_DOUBLINGS = 3
# Newton in extended precision: its predictions are good to a few digits, so a dozen rounds mean failure.
_ROUNDS = 12


@dataclass(frozen=True, eq=False)
class Extrapolated:
    """The limit of a sequence: its value and error estimate (mpmath numbers), and the sequence itself.

    `error` is the difference of the last two extrapolated values: an estimate, not a bound.
    """

    value: Any
    error: Any
    sequence: tuple

    def __repr__(self) -> str:
        import mpmath

        digits = int(mpmath.ceil(-mpmath.log10(self.error / abs(self.value)))) + 1 if self.error else 15
        return f"{mpmath.nstr(self.value, max(digits, 2))} ± {float(self.error):.0e}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Cascade:
    """A period-doubling cascade; all numbers are mpmath's, so `float` rounds them to doubles.

    `flips` (n,): parameter at which the cycle of period `period` · 2^k, k = 0, 1, …, doubles.
    `superstable` (n,): where that cycle contains the critical point, for k = 1, …, n.
    `accumulation` of both; Feigenbaum's constants `delta` and `alpha`, from the superstable parameters.
    """

    period: int
    flips: tuple
    superstable: tuple
    accumulation: Extrapolated
    delta: Extrapolated
    alpha: Extrapolated

    def __repr__(self) -> str:
        return (
            f"Cascade from period {self.period}: {len(self.flips)} flips from {float(self.flips[0]):.15g}, "
            f"accumulating at {self.accumulation!r}; delta = {self.delta!r}, alpha = {self.alpha!r}"
        )


def period_doubling_cascade(
    map: Map | Callable[..., Map],
    parameter: str,
    interval: tuple[float, float],
    *,
    start: Any,
    start_at: float | None = None,
    n: int = 12,
    digits: int = 40,
) -> Cascade:
    """Find the first n flips of a cascade, its superstable parameters, and their universal limits.

    Parameters
    ----------
    map : Map, or a function that makes one
        Of one variable, with a step known in symbols.
    parameter : str
    interval : (float, float)
        With the first four flips inside.
    start, start_at
        A stable cycle below its first flip, as in `bifurcation_diagram`.
    n : int, optional
        At least 4. The time doubles with each; 12 take about a second and give delta to 1e-12.
    digits : int, optional
        Decimal digits of the arithmetic. Neighbouring flips differ by 4.67⁻ⁿ, so keep it above n + 20.

    Returns
    -------
    Cascade

    Raises
    ------
    ValueError
        If the map has several variables or no symbolic form, or an argument does not fit.
    NotFound
        If there is no cascade of period doublings to follow, or Newton's method leaves it.

    Notes
    -----
    Flips solve f^p(x) = x, (f^p)'(x) = -1 and superstable parameters f'(c) = 0, f^p(c) = c, by Newton's
    method in mpmath with exact derivatives, so each is good to about digits - n decimals. The first are
    predicted by continuation, the later ones by their own scaling. Limits are taken by repeated Aitken
    extrapolation, which removes the corrections δ⁻ᵏ, δ⁻²ᵏ, … one by one. Feigenbaum, J. Stat. Phys. 19, 25-52 (1978);
    theory/10 (eq:cascade).

    Examples
    --------
    >>> from trainability.maps import cubic_map
    >>> cascade = period_doubling_cascade(cubic_map, "mu", (0.5, 1.32), start=[0.7], n=6)
    >>> abs(float(cascade.flips[1]) - (5**0.5 - 1)) < 1e-15
    True
    >>> abs(float(cascade.delta.value) - 4.669201609) < 1e-4
    True
    """
    import mpmath

    positive_whole("n", n)
    positive_whole("digits", digits)
    if n <= _DOUBLINGS:
        raise ValueError(f"n={n} must be at least {_DOUBLINGS + 1}: limits need a sequence")
    if digits < n + 20:
        raise ValueError(f"digits={digits} is too few for n={n}: use at least {n + 20}")
    map = settle_map(map, parameter, interval[0])
    if map.d != 1:
        raise ValueError(
            f"{map.name} has {map.d} variables; `restrict` it to an invariant line, or follow its flips"
        )
    if not map.expressions:
        raise ValueError(f"{map.name} has no symbolic form, so it cannot be evaluated beyond doubles")

    begin = interval[0] if start_at is None else start_at
    period = find_cycle(map.with_parameters(**{parameter: begin}), start).period
    diagram = bifurcation_diagram(
        map, parameter, interval, start=start, start_at=start_at, max_period=period << _DOUBLINGS
    )
    chain = _doublings(diagram)
    jet = _jet(map, parameter)
    with mpmath.workdps(digits):
        flips: list[tuple] = []  # (parameter, critical point, cycle's point nearest to it)
        superstable: list[tuple] = []  # (parameter, critical point)
        for k in range(n):
            guess = _flip_guess(jet, chain[k][0]) if k < len(chain) else _next_flip(jet, flips)
            x, value = _newton(_flip_equations, jet, period << k, guess)
            flips.append((value, _critical(jet, x, value), x))
        for k in range(n):
            guess = (
                _superstable_guess(jet, chain[k][1])
                if k < _DOUBLINGS
                else _next_superstable(jet, superstable)
            )
            c, value = _newton(_superstable_equations, jet, 2 * period << k, guess)
            superstable.append((value, c))
        values = [value for value, _ in superstable]
        gaps = [b - a for a, b in pairwise(values)]
        # Distance of the critical point from the nearest other point of its cycle, half a lap away.
        widths = [_iterate(jet, c, value, period << k)[0] - c for k, (value, c) in enumerate(superstable)]
        return Cascade(
            period=period,
            flips=tuple(value for value, _, _ in flips),
            superstable=tuple(values),
            accumulation=_limit(values),
            delta=_limit([a / b for a, b in pairwise(gaps)]),
            alpha=_limit([a / b for a, b in pairwise(widths)]),
        )


def _doublings(diagram: BifurcationDiagram) -> list[tuple[SpecialPoint, Branch]]:
    """The first flips of one cascade, each with the branch of twice the period that leaves it."""
    chain: list[tuple[SpecialPoint, Branch]] = []
    branch = 0
    while True:
        begin = diagram.branches[branch].parameter[0]
        flips = [i for i, p in enumerate(diagram.points) if p.branch == branch and p.kind == FLIP]
        flips.sort(key=lambda i: abs(diagram.points[i].parameter - begin))
        leaving = [j for j, b in enumerate(diagram.branches) if flips and b.origin == flips[0]]
        if not leaving:
            break
        branch = leaving[0]
        chain.append((diagram.points[flips[0]], diagram.branches[branch]))
    if len(chain) < _DOUBLINGS:
        raise NotFound(
            f"no cascade of {diagram.map} begins here: it doubles {len(chain)} times, at "
            f"{[point.parameter for point, _ in chain]}; {_DOUBLINGS} are needed",
            diagram.branches[0].states[0],
            float("nan"),
        )
    return chain


def _jet(map: Map, parameter: str) -> Callable:
    """``jet(x, λ)`` -> (f, f_x, f_λ, f_xx, f_xλ) on mpmath numbers, other parameters at their exact values."""
    import sympy as sp

    (f,) = map.expressions
    (x,), symbols = symbols_of(map)
    value = symbols[map.parameter_index(parameter)]
    exact = {s: sp.Rational(v) for s, v in zip(symbols, map.parameters.values(), strict=True) if s != value}
    f = f.xreplace(exact)
    body = [f, sp.diff(f, x), sp.diff(f, value), sp.diff(f, x, x), sp.diff(f, x, value)]
    return sp.lambdify([x, value], body, modules="mpmath", cse=True)


def _iterate(jet: Callable, x, value, n: int):
    """x_n and its derivatives (in x_0, in λ)."""
    by_x, by_value = 1, 0
    for _ in range(n):
        x, f_x, f_value, _, _ = jet(x, value)
        by_x, by_value = f_x * by_x, f_x * by_value + f_value
    return x, by_x, by_value


def _superstable_equations(jet: Callable, c, value, period: int):
    """f'(c) = 0, f^p(c) = c, and their derivatives in (c, λ)."""
    _, f_x, _, f_xx, f_xvalue = jet(c, value)
    end, by_c, by_value = _iterate(jet, c, value, period)
    return (f_x, end - c), ((f_xx, f_xvalue), (by_c - 1, by_value))


def _flip_equations(jet: Callable, x, value, period: int):
    """f^p(x) = x, (f^p)'(x) = -1, and their derivatives in (x, λ)."""
    u, slope, by_value, slope_x, slope_value = x, 1, 0, 0, 0
    for _ in range(period):
        u, f_x, f_value, f_xx, f_xvalue = jet(u, value)
        slope_x = f_xx * slope * slope + f_x * slope_x
        slope_value = (f_xx * by_value + f_xvalue) * slope + f_x * slope_value
        slope, by_value = f_x * slope, f_x * by_value + f_value
    return (u - x, slope + 1), ((slope - 1, by_value), (slope_x, slope_value))


def _newton(equations: Callable, jet: Callable, period: int, guess: tuple):
    """Solve two equations for (x, λ) to the working precision."""
    import mpmath

    x, value = (mpmath.mpf(z) for z in guess)
    enough = mpmath.mpf(10) ** (-mpmath.mp.dps // 2 - 2)  # the next round doubles the digits
    for _ in range(_ROUNDS):
        (r, s), ((a, b), (c, d)) = equations(jet, x, value, period)
        determinant = a * d - b * c
        if not determinant:
            break
        dx, dvalue = (b * s - d * r) / determinant, (c * r - a * s) / determinant
        x, value = x + dx, value + dvalue
        if abs(dx) < enough and abs(dvalue) < enough:
            return x, value
    raise NotFound(
        f"Newton's method lost the cascade at period {period}, parameter {mpmath.nstr(value, 15)}; "
        f"try more digits or fewer doublings",
        np.array([[float(x)]]),
        float(abs(r)),
    )


def _critical(jet: Callable, x, value):
    """The critical point near x."""
    for _ in range(4 * _ROUNDS):
        _, f_x, _, f_xx, _ = jet(x, value)
        change = f_x / f_xx
        x -= change
        if abs(change) < 1e-12 * (1 + abs(x)):
            break
    _, f_x, _, f_xx, _ = jet(x, value)
    return x - f_x / f_xx


def _flip_guess(jet: Callable, point: SpecialPoint) -> tuple:
    """The cycle's point nearest a critical point, where the slope is smallest, and the parameter."""
    x = min((float(u) for (u,) in point.states), key=lambda u: abs(jet(u, point.parameter)[1]))
    return x, point.parameter


def _superstable_guess(jet: Callable, branch: Branch) -> tuple:
    """Where the multiplier first changes sign along a branch, by linear interpolation."""
    m = branch.multipliers[:, 0].real
    i = int(np.argmax((m[:-1] > 0) & (m[1:] <= 0)))
    part = m[i] / (m[i] - m[i + 1])
    value = (1 - part) * branch.parameter[i] + part * branch.parameter[i + 1]
    states = (1 - part) * branch.states[i] + part * branch.states[i + 1]
    x = min((float(u) for (u,) in states), key=lambda u: abs(jet(u, value)[1]))
    return _critical(jet, x, value), value


def _next(a, b, c):
    """Continue a sequence whose differences shrink by a steady factor."""
    return c + (c - b) ** 2 / (b - a)


def _next_flip(jet: Callable, flips: list[tuple]) -> tuple:
    (a, _, _), (b, critical, x), (c, last_critical, last_x) = flips[-3:]
    value = _next(a, b, c)
    offset = (last_x - last_critical) ** 2 / (x - critical)
    return _critical(jet, last_critical, value) + offset, value


def _next_superstable(jet: Callable, superstable: list[tuple]) -> tuple:
    values = [value for value, _ in superstable[-3:]]
    value = _next(*values)
    return _critical(jet, superstable[-1][1], value), value


def _limit(sequence: Sequence) -> Extrapolated:
    """Limit of a sum of geometric terms, by Aitken's process applied again and again.

    Each round removes the slowest term, until rounding and too few terms spoil the last rounds. The round
    whose last two entries agree best is taken; as its entries still converge, by a factor below 1/2,
    their difference exceeds the error of the last one.
    """
    best, level = None, list(sequence)
    while len(level) >= 2:
        difference = abs(level[-1] - level[-2])
        if best is None or difference < best[1]:
            best = level[-1], difference
        triples = zip(level, level[1:], level[2:], strict=False)
        level = [c - (c - b) ** 2 / ((c - b) - (b - a)) for a, b, c in triples]
    assert best is not None  # n is at least 4
    return Extrapolated(*best, tuple(sequence))
