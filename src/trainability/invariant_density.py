"""Invariant densities of the balanced slice where they exist and can be computed to many digits.

At mu = 2 the slice is the Chebyshev map and its density is known. At a Misiurewicz parameter the orbit of
the turning point c = √((1 + mu)/3) lands on a repelling cycle; the points it visits cut the attractor into
intervals that map onto each other (a Markov partition), and on each the density is smooth in the angle φ
of x = mid - w cos φ, which absorbs the inverse-square-root spikes at its ends.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq

from . import _chebyshev
from ._checks import finite

# Chebyshev points on each interval of the Markov partition; 44 changes the exponents of the sampled
# parameters by less than 1e-12 against 32.
_POINTS = 44
# Points visited by the turning point that are closer than this are one point.
_SAME = 1e-9
# Longest wait for the turning point to land on its cycle.
_LONGEST_LANDING = 40


def chebyshev_density(x):
    """Invariant density of the balanced slice at mu = 2, 1/(π √(4 - x²)) for |x| < 2, else 0.

    The error e = x² - 2 has the same density.

    Parameters
    ----------
    x : array_like

    References
    ----------
    arXiv:2605.21292; theory/02 (eq:chebyshev-density).

    Examples
    --------
    >>> chebyshev_density([0.0, 1.0, 3.0]).round(4)
    array([0.1592, 0.1838, 0.    ])
    """
    x = finite("x", x)
    inside = np.abs(x) < 2
    return np.where(inside, 1 / (np.pi * np.sqrt(np.where(inside, 4 - x * x, 1.0))), 0.0)[()]


def misiurewicz_parameter(steps: int, cycle: int, between: tuple[float, float], *, digits: int | None = None):
    """Parameter at which the turning point lands on a repelling cycle of the slice after `steps` steps.

    Parameters
    ----------
    steps : int
        n in f^n(c).
    cycle : int
        What it lands on, up to sign: 0 the saddle x = 0, 1 the minima ±√mu, k > 1 a cycle of length k of
        x², the one reached after `steps` and not before.
    between : tuple of float
        Interval of mu in which f^n(c) crosses the cycle exactly once.
    digits : int, optional
        Ask for that many digits, as an `mpmath.mpf` (needs mpmath).

    Returns
    -------
    float, or mpmath.mpf

    Raises
    ------
    ValueError
        If nothing crosses, or the cycle is reached in fewer steps.

    References
    ----------
    theory/02 (eq:misiurewicz).

    Examples
    --------
    >>> misiurewicz_parameter(2, 0, (1.5, 1.7))  # the merging crisis, 3√3/2 - 1
    1.5980762113533158
    """
    lo, hi = (float(finite("between", end)) for end in between)
    if steps < 1 or cycle < 0 or not 0 < lo < hi <= 2:
        raise ValueError(
            f"steps={steps}, cycle={cycle}, between={between}: needs steps ≥ 1, cycle ≥ 0, 0 < lo < hi ≤ 2"
        )

    def miss(mu, steps=steps):
        """What vanishes where f^steps(c) is on the cycle."""
        r, x = 1 + mu, ((1 + mu) / 3) ** 0.5
        for _ in range(steps):
            x = x * (r - x * x)
        if cycle == 0:
            return x
        if cycle == 1:
            return x * x - mu
        if cycle == 2:
            return x * x * (x * x - r) + 1  # S + S' = r and S S' = 1
        y = x
        for _ in range(cycle):
            y = y * (r - y * y)
        return y * y - x * x

    if miss(lo) * miss(hi) > 0:
        raise ValueError(
            f"f^{steps}(c) does not cross a cycle of length {cycle} between {between}; widen the interval"
        )
    mu = brentq(miss, lo, hi, xtol=1e-16, rtol=8.9e-16)
    if abs(miss(mu, steps - 1)) < _SAME:
        raise ValueError(
            f"at mu={mu} between {between} the turning point is on its cycle after fewer than steps={steps} steps; "
            "give the true number, or another interval"
        )
    if digits is not None:
        import mpmath

        with mpmath.workdps(digits + 10):
            root = mpmath.findroot(miss, (mpmath.mpf(mu), mpmath.mpf(mu) * (1 + mpmath.mpf(10) ** -12)))
        with mpmath.workdps(digits):
            return +root
    return mu


def band_merging(n: int, *, digits: int | None = None):
    """Parameter m_n at which 2^n chaotic bands become 2^(n-1).

    There the turning point lands, after 2^n + 1 steps, on the cycle of length 2^(n-1) that the cascade
    left behind.

    Parameters
    ----------
    n : int
        1 to 6 (doubles resolve no more); m_1 = 1.3609 is the largest.
    digits : int, optional
        As in `misiurewicz_parameter`.

    References
    ----------
    theory/02 (eq:bands).

    Examples
    --------
    >>> band_merging(1)
    1.3608937690965748
    """
    if not 1 <= n <= 6:
        raise ValueError(f"n={n} is out of reach; give 1 to 6")
    # m_n - mu_inf shrinks by Feigenbaum's δ from one merging to the next.
    accumulation, first, delta = 1.3022834627007121608, 1.3608937690965746, 4.67
    guess = accumulation + (first - accumulation) / delta ** (n - 1)
    reach = 0.03 * (guess - accumulation)
    return misiurewicz_parameter(2**n + 1, 2 ** (n - 1), (guess - reach, guess + reach), digits=digits)


@dataclass(frozen=True, eq=False)
class BalancedMeasure:
    """Absolutely continuous invariant measure of the balanced slice, as a quadrature rule.

    Parameters
    ----------
    mu : float
    exponent_along, exponent_across : float
        ⟨log|1 + mu - 3x²|⟩ and ⟨log|1 - mu + x²|⟩, nats per iteration.
    defect : float
        ⟨log|1 - e|⟩, which is 0 exactly: what the numerical errors amount to.
    intervals : ndarray, shape (k, 2)
        The Markov partition of |x|.
    values : ndarray, shape (k, n)
        Density in the angle φ of each interval, at Chebyshev points of (0, π).
    """

    mu: float
    exponent_along: float
    exponent_across: float
    defect: float
    intervals: np.ndarray = field(repr=False)
    values: np.ndarray = field(repr=False)

    def __repr__(self) -> str:
        return (
            f"BalancedMeasure(along={self.exponent_along:.12g}, across={self.exponent_across:.12g}): mu={self.mu}, "
            f"{len(self.intervals)} intervals, defect {self.defect:.0e}"
        )

    def mean(self, function: Callable) -> float:
        """Mean of a smooth even function of x."""
        n = self.values.shape[1]
        lo, hi = self.intervals.T
        x = lo[:, None] + (hi - lo)[:, None] * np.sin(_chebyshev.nodes(n, 0.0, np.pi) / 2) ** 2
        return float(np.sum(self.values * function(x) @ _chebyshev.weights(n, 0.0, np.pi)))

    def mean_log_distance(self, point: float) -> float:
        """Mean of log|x² - point²|, by quadrature graded towards the singularity."""
        return _mean_log_distance(point, self.intervals, self.values)


def misiurewicz_measure(mu: float, *, n_points: int = _POINTS) -> BalancedMeasure:
    """Invariant measure of the balanced slice at a Misiurewicz parameter, and both Lyapunov exponents.

    Collocation of the transfer operator on the Markov partition of the turning point's orbit.

    Parameters
    ----------
    mu : float
        A Misiurewicz parameter to full precision (`misiurewicz_parameter`); 2 is one, where all is known.
    n_points : int, optional
        Chebyshev points for each interval.

    Returns
    -------
    BalancedMeasure
        Exponents to about 1e-11 while the turning point lands within five steps; to 1e-6 or so where its
        orbit passes very close to itself. `defect` tells.

    Raises
    ------
    ValueError
        If the turning point's orbit does not land on a cycle within rounding.

    References
    ----------
    theory/02 (eq:markov).

    Examples
    --------
    >>> measure = misiurewicz_measure(misiurewicz_parameter(2, 0, (1.5, 1.7)))
    >>> print(f"{measure.exponent_along:.12f} {measure.exponent_across:.12f}")
    0.680005844117 -0.542929010581
    """
    mu = float(finite("mu", mu))
    if not 1 < mu <= 2:
        raise ValueError(f"mu={mu} must lie in (1, 2] to be a Misiurewicz parameter")
    r = 1 + mu
    edges = _markov_edges(r)
    intervals = np.stack([edges[:-1], edges[1:]], axis=1)
    operator = _transfer_operator(r, intervals, n_points)
    weights = np.tile(_chebyshev.weights(n_points, 0.0, np.pi), len(intervals))
    # The density is the one vector that the operator keeps, with integral 1: a consistent system.
    system = np.vstack([operator - np.eye(len(operator)), weights])
    values = np.linalg.lstsq(system, np.append(np.zeros(len(operator)), 1.0), rcond=None)[0]
    values = values.reshape(len(intervals), n_points)

    def mean_log_distance(point):
        return _mean_log_distance(point, intervals, values)

    # Sharpness 1 + mu - 3x², across 1 - mu + x²: the latter has real zeros only for mu ≥ 1.
    return BalancedMeasure(
        mu=mu,
        exponent_along=float(np.log(3)) + mean_log_distance(np.sqrt(r / 3)),
        exponent_across=mean_log_distance(np.sqrt(mu - 1)),
        defect=mean_log_distance(np.sqrt(r)),
        intervals=intervals,
        values=values,
    )


def _markov_edges(r: float) -> np.ndarray:
    """Points |f^k(c)|, k ≥ 1, and 0 where the attractor contains it; ascending."""
    turn = 2 * (r / 3) ** 1.5
    # While the top stays below √r the attractor keeps its sign; above, and at the crisis, it contains 0.
    edges = [0.0] if turn >= np.sqrt(r) * (1 - _SAME) else []
    x = turn
    for _ in range(_LONGEST_LANDING):
        if any(abs(x - edge) < _SAME for edge in edges):
            return np.sort(edges)
        edges.append(x)
        x = abs(x * (r - x * x))
    raise ValueError(
        f"mu={r - 1}: the turning point does not land on a cycle within {_LONGEST_LANDING} steps; "
        "give a parameter found by `misiurewicz_parameter`"
    )


def _transfer_operator(r: float, intervals: np.ndarray, n: int) -> np.ndarray:
    """Transfer operator of |f| on densities in the angles, at n Chebyshev points of each interval."""
    k = len(intervals)
    turn = 2 * (r / 3) ** 1.5
    width = intervals[:, 1] - intervals[:, 0]
    angle = _chebyshev.nodes(n, 0.0, np.pi)
    operator = np.zeros((k, n, k, n))
    for i in range(k):
        # Distances of y from both ends, each without cancellation at its own end.
        above, below = width[i] * np.sin(angle / 2) ** 2, width[i] * np.cos(angle / 2) ** 2
        third = 2 * np.arcsin(np.sqrt((turn - intervals[i, 1] + below) / (2 * turn))) / 3  # arccos(y/turn)/3
        # The three x ≥ 0 with |x (r - x²)| = y: on either side of the turning point, and beyond √r.
        for shifted in (np.pi / 3 + third, np.pi / 3 - third, third):
            x = 2 * np.sqrt(r / 3) * np.cos(shifted)
            stays = (x > intervals[0, 0]) & (x < intervals[-1, 1])
            x, rows = x[stays], np.flatnonzero(stays)
            j = np.searchsorted(intervals[:, 0], x, side="right") - 1
            phi = _angle(r, x, intervals[j], intervals[i], above[stays], below[stays])
            stretch = width[i] * np.sin(angle[stays]) / (np.abs(r - 3 * x * x) * width[j] * np.sin(phi))
            operator[i, rows, j] += stretch[:, None] * _chebyshev.interpolation(phi, n, 0.0, np.pi)
    return operator.reshape(k * n, k * n)


def _angle(r, x, source, target, above, below):
    """Angle of x in its interval `source`, to full relative accuracy where the image nears an end of `target`.

    The ends of `source` map to ends of intervals, up to rounding that a long orbit has magnified. On the
    monotone piece of f that holds the nearer end p, the distance of x from p comes from that of the images,
    f(x) - f(p) = (x - p)(r - x² - x p - p²).
    """
    lower = x - source[:, 0] < source[:, 1] - x
    p = np.where(lower, source[:, 0], source[:, 1])
    nearer = np.where(above < below, target[0], target[1])
    same_piece = (x < np.sqrt(r / 3)) == (p < np.sqrt(r / 3))
    same_piece &= (x - np.sqrt(r)) * (p - np.sqrt(r)) > -_SAME  # p = √r, where |f| is 0, ends two pieces
    adjacent = same_piece & (np.abs(np.abs(p * (r - p * p)) - nearer) < _SAME)
    image_distance = np.minimum(above, below)
    distance = np.where(adjacent, image_distance / np.abs(r - x * x - x * p - p * p), np.abs(x - p)) / (
        source[:, 1] - source[:, 0]
    )
    phi = 2 * np.arcsin(np.sqrt(distance))
    return np.where(lower, phi, np.pi - phi)


def _mean_log_distance(point: float, intervals: np.ndarray, values: np.ndarray) -> float:
    """Mean of log|x² - point²| over the density with those `values` in the angles."""
    distance, weight = _chebyshev.graded_quadrature()
    total = 0.0
    for (lo, hi), value in zip(intervals, values, strict=True):
        depth = np.clip((point - lo) / (hi - lo), 0.0, 1.0)
        centre = 2 * np.arcsin(np.sqrt(depth))  # angle of the singularity, or of the end next to it
        gap = point - (lo + (hi - lo) * np.sin(centre / 2) ** 2)
        if abs(gap) < _SAME:
            gap = 0.0
        for length, side in ((centre, -1), (np.pi - centre, 1)):
            if length == 0:
                continue
            step = side * length * distance
            angle = centre + step
            # x - x(centre) as a product of sines keeps its relative accuracy down to the singularity.
            middle = centre + step / 2 if centre < np.pi / 2 else (np.pi - centre) - step / 2
            offset = (hi - lo) * np.sin(middle) * np.sin(step / 2)
            x = lo + (hi - lo) * np.sin(angle / 2) ** 2
            density = _chebyshev.interpolation(angle, len(value), 0.0, np.pi) @ value
            total += length * float(weight @ (density * np.log(np.abs(offset - gap) * (x + point))))
    return total
