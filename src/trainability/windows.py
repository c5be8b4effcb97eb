"""Windows of the balanced slice: where cycles are born, superstable, double, and end.

Cycles are counted in S = x², as in `balanced`; a window lies between the saddle-node that creates a cycle
and the crisis that destroys the attractor grown from it (theory/02).
"""

from dataclasses import dataclass
from math import gcd

import numpy as np

from ._checks import finite
from .balanced import slice_jet

# Rounding, magnified by derivatives up to 9^period, keeps the last steps from vanishing.
_NEWTON_STEPS, _NEWTON_TOL, _SETTLED = 60, 4e-16, 1e-9
# Points of a cycle half a period apart that are closer than this: a merged pair, split by rounding alone.
_SAME = 1e-3
# Samples of (0, 2) in √(2 - mu) among which superstable parameters are bracketed. They crowd towards
# mu = 2 like 9^-p, which that variable spreads to 3^-p; 400 samples for each of the 3^p/2p roots.
_SAMPLES_PER_ROOT = 400


def superstable_parameters(period: int) -> np.ndarray:
    """Find every mu in (0, 2) at which the turning point has exactly S-period `period`.

    Parameters
    ----------
    period : int
        1 to 8.

    Returns
    -------
    ndarray, shape (m,)
        Ascending, each to about 1e-15; m = `count_superstable(period)`.

    Raises
    ------
    ArithmeticError
        If the number of roots found differs from the count.

    References
    ----------
    theory/02 (eq:superstable).

    Examples
    --------
    >>> superstable_parameters(3).round(5)
    array([1.45316, 1.70032, 1.92499, 1.9818 ])
    """
    if not 1 <= period <= 8:
        raise ValueError(f"period={period} must be between 1 and 8")

    def miss(mu):
        S = turn = (1 + mu) / 3
        for _ in range(period):
            S = S * (1 + mu - S) ** 2
        return S - turn

    u = np.linspace(np.sqrt(2), 0.0, _SAMPLES_PER_ROOT * 3**period)[1:-1]
    mu = 2 - u * u
    value = miss(mu)
    bracket = np.flatnonzero(np.sign(value[:-1]) != np.sign(value[1:]))
    lo, hi, below = mu[bracket], mu[bracket + 1], np.sign(value[bracket])
    for _ in range(60):
        middle = (lo + hi) / 2
        same = np.sign(miss(middle)) == below
        lo, hi = np.where(same, middle, lo), np.where(same, hi, middle)
    roots = (lo + hi) / 2
    divisors = [d for d in range(1, period) if period % d == 0]
    shorter = np.concatenate([[], *(superstable_parameters(d) for d in divisors)])
    roots = roots[np.abs(roots[:, None] - shorter).min(axis=1, initial=np.inf) > 1e-9]
    if len(roots) != count_superstable(period):
        raise ArithmeticError(
            f"found {len(roots)} superstable parameters of period {period}; "
            f"there should be {count_superstable(period)}"
        )
    return roots


def count_superstable(period: int) -> int:
    """Count superstable parameters of S-period p in (0, 2): Σ m(d) (3^(p/d) - 1) / 2p over odd divisors d of p.

    m is Möbius' function. Observed to hold for p = 1 … 8, not proved here.

    Examples
    --------
    >>> [count_superstable(p) for p in range(1, 7)]
    [1, 2, 4, 10, 24, 60]
    """
    if period < 1:
        raise ValueError(f"period={period} must be at least 1")
    odd = [d for d in range(1, period + 1, 2) if period % d == 0]
    return sum(_moebius(d) * (3 ** (period // d) - 1) for d in odd) // (2 * period)


def _moebius(n: int) -> int:
    """Sum of exp(2πi k/n) over k coprime to n."""
    total = sum(np.cos(2 * np.pi * k / n) for k in range(1, n + 1) if gcd(k, n) == 1)
    return round(float(total))


@dataclass(frozen=True)
class CycleWindow:
    """Parameters of a window of the balanced slice in which a cycle born in a saddle-node attracts.

    Parameters
    ----------
    period : int
        S-period.
    kind : str
        "asym" or "sym".
    opens : float
        Saddle-node, multiplier 1.
    superstable : float
        Multiplier 0.
    doubles : float
        Multiplier -1: the window's own cascade starts.
    ends : float
        Crisis: the turning point lands on the saddle's cycle.
    """

    period: int
    kind: str
    opens: float
    superstable: float
    doubles: float
    ends: float


def cycle_window(period: int, superstable: float) -> CycleWindow:
    """Find where a window of the balanced slice opens, doubles and ends, given where it is superstable.

    Newton's method from the quadratic map to which f^period renormalises: the four parameters lie close to
    C = 1/4, 0, -3/4 and -2 of z → z² + C.

    Parameters
    ----------
    period : int
        S-period, at least 2.
    superstable : float
        One of `superstable_parameters(period)`.

    Raises
    ------
    ValueError
        If the turning point has another period there, or the cycle was born by doubling a shorter one (then
        it has no saddle, and no such window).

    References
    ----------
    theory/02 (eq:windows).

    Examples
    --------
    >>> window = cycle_window(2, 1.8308115141810251)
    >>> f"{window.kind}: {window.opens:.10f} {window.doubles:.10f} {window.ends:.10f}"  # opens at 2√2 - 1
    'sym: 1.8284271247 1.8376650927 1.8488567808'
    """
    mu0 = float(finite("superstable", superstable))
    if period < 2 or not 0 < mu0 < 2:
        raise ValueError(f"period={period}, superstable={mu0}: needs period ≥ 2 and mu in (0, 2)")
    turn = np.sqrt((1 + mu0) / 3)
    value, _, by_mu, by_xx, _ = slice_jet(turn, 1 + mu0, period)
    sign = 1 if value > 0 else -1
    if abs(value - sign * turn) > 1e-6:
        raise ValueError(f"superstable={mu0}: the turning point does not have S-period {period} there")
    # z = q (x - c) turns sign f^period into z² + C with dC/dmu = q (f^period - sign c)_mu sign.
    q = sign * by_xx / 2
    unit = 1 / (q * (sign * by_mu - 1 / (6 * turn)))
    mu0 = _newton(_superstable_system(period, sign), np.array([turn, mu0]))[1]

    def solve(multiplier, C):
        z = multiplier / 2
        return _newton(_cycle_system(period, sign, multiplier), np.array([turn + z / q, mu0 + C * unit]))

    try:
        x, opens = solve(1.0, 0.25)
        doubled = period % 2 == 0 and abs(abs(slice_jet(x, 1 + opens, period // 2)[0]) - abs(x)) < _SAME
    except ArithmeticError:  # the system is singular where two cycles merge with one of half the period
        doubled = True
    if doubled:
        raise ValueError(
            f"superstable={mu0}: its cycle of S-period {period} is born by doubling a shorter one; "
            "give a window that opens with a saddle-node"
        )
    doubles = solve(-1.0, -0.75)[1]
    ends = _newton(_crisis_system(period, sign), np.array([turn + 2 / q, mu0 - 2 * unit]))[1]
    return CycleWindow(
        period, "asym" if sign > 0 else "sym", float(opens), float(mu0), float(doubles), float(ends)
    )


def _superstable_system(period, sign):
    """Residual and Jacobian in (x, mu) of: x is the turning point, f^period(x) = sign x."""

    def system(x, mu):
        value, by_x, by_mu, _, _ = slice_jet(x, 1 + mu, period)
        return [3 * x * x - 1 - mu, value - sign * x], [[6 * x, -1.0], [by_x - sign, by_mu]]

    return system


def _cycle_system(period, sign, multiplier):
    """Residual and Jacobian in (x, mu) of: f^period(x) = sign x with that multiplier of S."""

    def system(x, mu):
        value, by_x, by_mu, by_xx, by_xmu = slice_jet(x, 1 + mu, period)
        return [value - sign * x, by_x - sign * multiplier], [[by_x - sign, by_mu], [by_xx, by_xmu]]

    return system


def _crisis_system(period, sign):
    """Residual and Jacobian in (x, mu) of: f^period(x) = sign x and f^2period(c) = x."""

    def system(x, mu):
        value, by_x, by_mu, _, _ = slice_jet(x, 1 + mu, period)
        turn = np.sqrt((1 + mu) / 3)
        landing = slice_jet(turn, 1 + mu, 2 * period)
        return (
            [value - sign * x, landing[0] - x],
            [[by_x - sign, by_mu], [-1.0, landing[2] + landing[1] / (6 * turn)]],
        )

    return system


def _newton(system, unknown):
    for _ in range(_NEWTON_STEPS):
        residual, jacobian = system(*unknown)
        step = np.linalg.solve(jacobian, residual)
        unknown = unknown - step
        if np.abs(step).max() <= _NEWTON_TOL * np.abs(unknown).max():
            break
    if not np.abs(step).max() < _SETTLED:
        raise ArithmeticError(f"Newton's method did not settle: last step {np.abs(step).max():.1e}")
    return unknown
