"""Cycles of the balanced slice x → x (1 + mu - x²): closed forms, and the one that attracts.

The slice is odd, so its cycles are counted in S = x²: a cycle of S-period p is either "asym", two mirror
cycles of x of length p, or "sym", one cycle of x of length 2p with f^p(x) = -x. In S there is one free
turning point, c² = (1 + mu)/3, and the Schwarzian derivative is negative: at most one cycle of S
attracts, and the turning point finds it (theory/02).
"""

from dataclasses import dataclass, field

import numpy as np

from ._checks import finite

# The turning point is followed this long before a cycle is looked for, and cycles are recognised when it
# returns to within this distance; Newton's method then polishes.
_TRANSIENT, _RETURN = 20_000, 1e-4
_NEWTON_STEPS, _NEWTON_TOL = 60, 4e-16


@dataclass(frozen=True, eq=False)
class KnownCycle:
    """A cycle of the product map in closed form; all of these lie on one of the lines a = ±b.

    Parameters
    ----------
    name : str
    points : ndarray, shape (period, 2)
        Columns a, b; the mirror image under (a, b) → (-a, -b) is a cycle too.
    multiplier_s, multiplier_d : float
        Along a + b and along a - b, the two eigendirections. Of the symmetric 4-cycle: over half a turn,
        taken up to the sign that (a, b) then has.
    """

    name: str
    points: np.ndarray = field(repr=False)
    multiplier_s: float
    multiplier_d: float


def known_cycles(mu: float) -> list[KnownCycle]:
    """List the saddle at 0, the 2-cycles and the symmetric 4-cycle of the product map that exist at `mu`.

    The fixed points ab = mu, where the loss is zero, form a curve and are left out; their multipliers are 1
    along it and 1 - (a² + b²) across.

    Parameters
    ----------
    mu : float

    References
    ----------
    theory/02 (eq:two-cycle), (eq:four-cycle); theory/05 (eq:ellipse-cycles).

    Examples
    --------
    >>> for cycle in known_cycles(1.1):
    ...     print(f"{cycle.name}: {cycle.multiplier_s:.4g}, {cycle.multiplier_d:.4g}")
    saddle: 2.1, -0.1
    2-cycle, a = b, on the ellipse: 51.84, 9
    2-cycle, a = -b, on the ellipse: 9, 7.84
    balanced 2-cycle: 0.18, 0.8
    """
    mu = float(finite("mu", mu))
    if mu < 0:  # (a, b) -> (a, -b) turns mu into -mu and exchanges a + b with a - b
        return [
            KnownCycle(
                cycle.name.replace("a = -b", "a =b").replace("a = b", "a = -b").replace("a =b", "a = b"),
                cycle.points * [1.0, -1.0],
                multiplier_s=cycle.multiplier_d,
                multiplier_d=cycle.multiplier_s,
            )
            for cycle in known_cycles(-mu)
        ]
    r = 1 + mu
    edge = np.sqrt(2 + mu)
    where = ", on the ellipse" if mu < 2 else ""
    found = [
        KnownCycle("saddle", np.zeros((1, 2)), 1 + mu, 1 - mu),
        KnownCycle("2-cycle, a = b" + where, _on_line([edge, -edge]), (5 + 2 * mu) ** 2, 9.0),
    ]
    if mu < 2:
        edge = np.sqrt(2 - mu)
        found.append(
            KnownCycle(
                "2-cycle, a = -b" + where, _on_line([edge, -edge]) * [1.0, -1.0], 9.0, (5 - 2 * mu) ** 2
            )
        )
    if mu > 1:  # x y = 1, x² + y² = r
        small, large = _from_product(1.0, r)
        found.append(KnownCycle("balanced 2-cycle", _on_line([small, large]), 9 - 2 * r * r, 3 - 2 * mu))
    if r * r > 8:  # small -> large -> -small, with r = t + 2/t
        t = (r + np.sqrt(r * r - 8)) / 2
        small, large = _from_product(np.sqrt(1 + t * t), 2 * (1 + t * t) / t)
        found.append(
            KnownCycle(
                "symmetric 4-cycle",
                _on_line([small, large, -small, -large]),
                5 + 8 / (t * t) - 4 * t * t,
                3 - 4 / t,
            )
        )
    return found


def _on_line(x) -> np.ndarray:
    return np.stack([x, x], axis=-1)


def _from_product(product: float, squares: float) -> tuple[float, float]:
    """The two positive numbers, ascending, with that product and that sum of squares."""
    total, gap = np.sqrt(squares + 2 * product), np.sqrt(squares - 2 * product)
    return (total - gap) / 2, (total + gap) / 2


@dataclass(frozen=True, eq=False)
class BalancedCycle:
    """The attracting cycle of the balanced slice.

    Parameters
    ----------
    mu : float
    period : int
        Of S = x²; a "sym" cycle of x is twice as long.
    kind : str
        "asym" or "sym".
    points : ndarray, shape (period,)
        x along one S-period.
    multiplier_along : float
        Of the S-cycle: the product of 1 + mu - 3x², times -1 for "sym".
    multiplier_across : float
        The product of 1 - mu + x² over one S-period.
    """

    mu: float
    period: int
    kind: str
    points: np.ndarray = field(repr=False)
    multiplier_along: float
    multiplier_across: float

    @property
    def exponent_along(self) -> float:
        """Lyapunov exponent along the slice, nats per iteration; -inf if superstable."""
        return _log_abs(self.multiplier_along) / self.period

    @property
    def exponent_across(self) -> float:
        """Lyapunov exponent of a - b, nats per iteration."""
        return _log_abs(self.multiplier_across) / self.period


def _log_abs(multiplier: float) -> float:
    return float(np.log(abs(multiplier))) if multiplier else -np.inf


def balanced_cycle(mu: float, *, max_period: int = 64) -> BalancedCycle | None:
    """Find the attracting cycle of the balanced slice, if there is one: the turning point converges to it.

    Parameters
    ----------
    mu : float
        In (0, 2].
    max_period : int, optional
        Longest S-period looked for.

    Returns
    -------
    BalancedCycle or None
        None if no cycle up to `max_period` attracts, as on chaotic parameters, or within about 1e-4 of a
        bifurcation, where the turning point converges too slowly to be caught. Points by Newton's method,
        to rounding.

    References
    ----------
    Singer, SIAM J. Appl. Math. 35, 260-267 (1978); theory/02 (eq:attractor).

    Examples
    --------
    >>> cycle = balanced_cycle(1.7)
    >>> cycle.period, cycle.kind, round(cycle.multiplier_along, 8), round(cycle.exponent_along, 8)
    (3, 'sym', 0.27108624, -0.43510609)
    """
    mu = float(finite("mu", mu))
    if not 0 < mu <= 2:
        raise ValueError(f"mu={mu} must lie in (0, 2]")
    if max_period < 1:
        raise ValueError(f"max_period={max_period} must be at least 1")
    r = 1 + mu
    x = float(np.sqrt(r / 3))
    for _ in range(_TRANSIENT):
        x *= r - x * x
    y = x
    for period in range(1, max_period + 1):
        y *= r - y * y
        if abs(abs(y) - abs(x)) < _RETURN:
            sign = 1 if x * y > 0 else -1
            found = _polish(x, r, period, sign)
            if found is not None:
                return _cycle(found, mu, period, sign)
    return None


def _polish(x: float, r: float, period: int, sign: int) -> float | None:
    """Newton's method for f^period(x) = sign x; None if it does not settle close by."""
    start = x
    for _ in range(_NEWTON_STEPS):
        jet = slice_jet(x, r, period)
        step = (jet[0] - sign * x) / (jet[1] - sign)
        x -= step
        if abs(x - start) > 10 * _RETURN:
            return None
        if abs(step) <= _NEWTON_TOL * abs(x):
            return x
    return x if abs(step) < 1e-12 else None


def _cycle(x: float, mu: float, period: int, sign: int) -> BalancedCycle | None:
    r = 1 + mu
    points = [x]
    for _ in range(period - 1):
        points.append(points[-1] * (r - points[-1] ** 2))
    x_all = np.array(points)
    along = sign * float(np.prod(r - 3 * x_all**2))
    if not abs(along) < 1:
        return None
    across = float(np.prod(1 - mu + x_all**2))
    return BalancedCycle(mu, period, "asym" if sign > 0 else "sym", x_all, along, across)


def slice_jet(x: float, r: float, period: int) -> tuple[float, float, float, float, float]:
    """f^period(x) with its derivatives by x, mu, x twice, and x and mu."""
    by_x, by_mu, by_xx, by_xmu = 1.0, 0.0, 0.0, 0.0
    for _ in range(period):
        slope, curvature = r - 3 * x * x, -6 * x
        by_xx = curvature * by_x * by_x + slope * by_xx
        by_xmu = (curvature * by_mu + 1) * by_x + slope * by_xmu
        by_x, by_mu = slope * by_x, slope * by_mu + x
        x *= r - x * x
    return x, by_x, by_mu, by_xx, by_xmu
