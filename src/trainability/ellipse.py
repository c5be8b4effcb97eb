"""The invariant ellipse of the product map: points, exponents, cycles, and how it divides the basins beside it.

On the ellipse e = 2 cos 2θ and the map is θ → π - 3θ, angle tripling. Everything transverse follows from
the factor G = 1 + mu e + e² by which H grows in a step (theory/03, theory/05).
"""

from dataclasses import dataclass, field

import numpy as np

from . import _chebyshev
from ._checks import finite, positive

# Fourier modes of the operator behind `basin_uncertainty_exponent`: doubled from here until the radius
# settles; the coefficients fall like |w|^-n, slowly only near |mu| = 2.
_MODES, _MOST_MODES = 64, 512
_SETTLED = 1e-12
_CLOSEST = 1.998  # the largest |mu| that 512 modes resolve


def invariant_ellipse(mu, *, n: int = 400) -> np.ndarray:
    """Points of the invariant ellipse H = 0, spread by its natural invariant measure.

    s = a + b = 2 √(2 + mu) cos θ and d = a - b = 2 √(2 - mu) sin θ, θ uniform; the map acts as θ → π - 3θ.

    Parameters
    ----------
    mu : array_like, shape (...)
        |mu| < 2.
    n : int, optional
        Number of points, the first at θ = 0; the curve closes from the last to the first.

    Returns
    -------
    ndarray, shape (..., n, 2)
        Columns a, b.

    References
    ----------
    arXiv:2605.21292; theory/03 (eq:ellipse), (eq:angle).

    Examples
    --------
    >>> invariant_ellipse(0.25, n=4).round(3)
    array([[ 1.5  ,  1.5  ],
           [ 1.323, -1.323],
           [-1.5  , -1.5  ],
           [-1.323,  1.323]])
    """
    mu = _with_ellipse(mu)
    if n < 1:
        raise ValueError(f"n={n} points; at least 1")
    return _points(mu[..., None], 2 * np.pi * np.arange(n) / n)


def _with_ellipse(mu, *, ends: bool = False) -> np.ndarray:
    """Return `mu` as an array, or raise a `ValueError` naming the first without an ellipse; `ends` allow it at ±2."""
    mu = finite("mu", mu)
    there = np.abs(mu) <= 2 if ends else np.abs(mu) < 2
    if not there.all():
        raise ValueError(f"mu={mu[~there].flat[0]} has no invariant ellipse; there is one for -2 < mu < 2")
    return mu


def _points(mu, theta) -> np.ndarray:
    half_s, half_d = np.sqrt(2 + mu) * np.cos(theta), np.sqrt(2 - mu) * np.sin(theta)
    return np.stack([half_s + half_d, half_s - half_d], axis=-1)


def tangential_exponent() -> float:
    """Lyapunov exponent along the invariant ellipse, log 3 for every mu, in nats per iteration.

    References
    ----------
    arXiv:2605.21292; theory/05 (eq:tangential).

    Examples
    --------
    >>> tangential_exponent()
    1.0986122886681098
    """
    return float(np.log(3))


def transverse_exponent(mu):
    """Lyapunov exponent across the invariant ellipse, for its natural measure, in nats per iteration.

    λ = arccosh((1 + √(25 - 4 mu²))/4), positive for |mu| < 2: the ellipse repels.

    Parameters
    ----------
    mu : array_like
        |mu| ≤ 2.

    Returns
    -------
    float or ndarray, shape of `mu`
        Full relative accuracy up to |mu| = 2, where it vanishes like 2 √((2 - |mu|)/3).

    References
    ----------
    theory/05 (eq:transverse).

    Examples
    --------
    >>> transverse_exponent([0.0, 1.5, 2.0]).round(6)
    array([0.962424, 0.693147, 0.      ])
    """
    mu = _with_ellipse(mu, ends=True)
    # arccosh(1 + x) = 2 arcsinh √(x/2), with x written without the cancellation at |mu| = 2.
    return (2 * np.arcsinh(np.sqrt((2 - mu) * (2 + mu) / (2 * (3 + np.sqrt(25 - 4 * mu * mu))))))[()]


@dataclass(frozen=True, eq=False)
class EllipseCycles:
    """Every point of the invariant ellipse whose period divides `period`.

    Parameters
    ----------
    mu : float
    period : int
    points : ndarray, shape (3^n ± 1, 2)
        Columns a, b.
    multiplier_along : float
        (-3)^period, the same at every point.
    multipliers_across : ndarray, shape (3^n ± 1,)
        Over `period` steps.
    """

    mu: float
    period: int
    points: np.ndarray = field(repr=False)
    multiplier_along: float
    multipliers_across: np.ndarray = field(repr=False)


def ellipse_cycles(mu: float, period: int) -> EllipseCycles:
    """Find all |(-3)^n - 1| points of the ellipse that return after `period` = n steps, with multipliers.

    Parameters
    ----------
    mu : float
        |mu| < 2.
    period : int
        1 to 14; the number of points is about 3^period.

    References
    ----------
    theory/05 (eq:ellipse-cycles).

    Examples
    --------
    >>> cycles = ellipse_cycles(1.0, period=2)
    >>> len(cycles.points), cycles.multiplier_along, cycles.multipliers_across.max().round(6)
    (8, 9.0, np.float64(49.0))
    """
    mu = float(_with_ellipse(mu))
    if not 1 <= period <= 14:
        raise ValueError(f"period={period} must be between 1 and 14")
    # θ after n steps is (-3)ⁿ θ + π (1 - (-3)ⁿ)/4, so θ - π/4 is multiplied by (-3)ⁿ modulo 2π.
    factor = (-3) ** period
    turns = np.arange(abs(factor - 1))
    theta = np.pi / 4 + 2 * np.pi * turns / abs(factor - 1)
    # Integer arithmetic modulo a turn follows the angles exactly, however often they triple.
    modulus, growth, position = abs(factor - 1), np.zeros(len(turns)), turns
    for _ in range(period):
        e = 2 * np.cos(np.pi / 2 + 4 * np.pi * position / modulus)
        growth += np.log(1 + mu * e + e * e)
        position = (-3 * position) % modulus
    return EllipseCycles(mu, period, _points(mu, theta), float(factor), np.exp(growth))


def weight_exponent(ratio):
    """Exponent of an extra weight direction of relative curvature `ratio` over orbits on the ellipse.

    ⟨log|1 - ρ b²|⟩ = log ρ for ρ ≥ 1/4, log((1 - 2ρ + √(1 - 4ρ))/2) below, for every |mu| < 2, and on the
    balanced slice at mu = 2: the plane of the reduction attracts other weights if and only if ρ < 1.

    Parameters
    ----------
    ratio : array_like
        ρ > 0, as in `Reduction.transverse_ratios`.

    References
    ----------
    theory/05 (eq:extra-weights).

    Examples
    --------
    >>> weight_exponent([0.25, 1.0, 2.0]).round(4) + 0.0
    array([-1.3863,  0.    ,  0.6931])
    """
    rho = positive("ratio", ratio)
    small = np.minimum(rho, 0.25)
    return np.where(rho >= 0.25, np.log(rho), np.log((1 - 2 * small + np.sqrt(1 - 4 * small)) / 2))[()]


def basin_uncertainty_exponent(mu):
    """Uncertainty exponent of the basins of the two mirror attractors, which interleave towards the ellipse.

    For 0 < mu < 3√3/2 - 1 label each start inside the ellipse by the sign that a + b keeps in the end. The
    fraction of starts whose label is uncertain at resolution ε falls like ε^α, α = -log ρ / log 3, with ρ
    of `transverse_pressure`; the basins' boundary has dimension 2 - α. (Bounded or divergent, in contrast,
    is decided by the smooth ellipse: exponent 1.)

    Heuristic: a thermodynamic argument. Fits over 10^-11.5 ≤ ε ≤ 10^-4 gave 0.688(3), 0.678(3), 0.576(2)
    against 0.6838, 0.6724, 0.5812 at mu = 0.25, 0.5, 1.2.

    Parameters
    ----------
    mu : array_like
        |mu| ≤ 1.998. Above 3√3/2 - 1 there is one attractor and no such basin, only the pressure.

    References
    ----------
    theory/05 (eq:uncertainty).

    Examples
    --------
    >>> print(basin_uncertainty_exponent(0.5).round(9))
    0.672410628
    """
    return (-np.log(transverse_pressure(mu)) / np.log(3))[()]


def transverse_pressure(mu):
    """Spectral radius ρ of (L f)(φ) = ⅓ Σ f(ψ)/G(ψ) over the three ψ with -3ψ = φ, G = 1 + 2 mu cos ψ + 4 cos² ψ.

    The mean over the ellipse of the product of 1/G along n steps falls like ρⁿ.

    Parameters
    ----------
    mu : array_like
        |mu| ≤ 1.998.

    References
    ----------
    theory/05 (eq:uncertainty).

    Examples
    --------
    >>> print(transverse_pressure(0.0).round(12))
    0.469871914172
    """
    mu = finite("mu", mu)
    if not (np.abs(mu) <= _CLOSEST).all():
        raise ValueError(
            f"mu={mu[~(np.abs(mu) <= _CLOSEST)].flat[0]} must lie between -{_CLOSEST} and {_CLOSEST}"
        )
    return np.vectorize(_settled_pressure, otypes=[float])(mu)[()]


def _settled_pressure(mu: float) -> float:
    n, last = _MODES, np.inf
    while n <= _MOST_MODES:
        now = _chebyshev.spectral_radius(_fourier_operator(mu, n))
        if abs(now - last) <= _SETTLED:
            return now
        n, last = 2 * n, now
    raise ArithmeticError(f"pressure at mu={mu} unresolved with {_MOST_MODES} Fourier modes")


def _fourier_operator(mu: float, n: int) -> np.ndarray:
    """Matrix ĝ_(3j - k) on the modes cos jφ, j = 0 … n, of functions even in φ; ĝ are the coefficients of 1/G."""
    r = -mu / 2 + 1j * np.sqrt(1 - mu * mu / 4)
    w = (r + np.sqrt(r * r - 4)) / 2
    w = w if abs(w) > 1 else 1 / w
    order = np.arange(4 * n + 1)
    coefficient = np.imag(w ** (-order.astype(float)) / (1 / w - w)) / r.imag
    j, k = np.arange(n + 1)[:, None], np.arange(n + 1)[None, :]
    return coefficient[np.abs(3 * j - k)] + np.where(k > 0, coefficient[3 * j + k], 0.0)
