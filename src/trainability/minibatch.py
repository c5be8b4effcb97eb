"""Mini-batches of the product map: who survives every batch order, and when a minimum attracts.

A batch B changes the map to a' = a - (κ_B ab - mu_B) b, and symmetrically b', with κ_B the batch's mean
squared gain and mu_B its effective step, both relative to the full batch. On data that one pair of
weights fits exactly (interpolating data) mu_B = κ_B mu, the batch only rescales the error, e_B = κ_B e,
and much is exact (theory/06).
"""

from enum import IntEnum
from itertools import combinations, pairwise
from math import comb

import numpy as np
from scipy.optimize import brentq
from scipy.stats import gamma

from . import _chebyshev
from ._checks import finite, positive
from .classification import ellipse_function

# More batches than this are sampled, not listed.
_MOST_BATCHES = 1_000_000
# The density of κ is integrated up to its quantile of this upper tail.
_TAIL = 1e-18
# Neighbouring poles of Λ closer than this, relatively, have no interval worth searching between them.
_MERGED = 1e-6


def batch_means(values, batch_size: int) -> np.ndarray:
    """Means of `values` over all batches of that size without repetition, each as likely as any other.

    Parameters
    ----------
    values : array_like, shape (n,)
        One number for each example, such as γ_i² or γ_i y_i.
    batch_size : int
        1 to n.

    Returns
    -------
    ndarray, shape (n choose batch_size,)
        In the order of `itertools.combinations`, so means of two quantities belong together.

    Examples
    --------
    >>> batch_means([1.0, 2.0, 6.0], batch_size=2)
    array([1.5, 3.5, 4. ])
    """
    values = finite("values", values)
    if values.ndim != 1 or not 1 <= batch_size <= values.size:
        raise ValueError(
            f"batch_size={batch_size} with values of shape {values.shape}; needs one dimension and a batch size "
            "between 1 and its length"
        )
    if comb(values.size, batch_size) > _MOST_BATCHES:
        raise ValueError(
            f"{values.size} examples have {comb(values.size, batch_size)} batches of {batch_size}; list at most "
            f"{_MOST_BATCHES}, or describe κ by its range or distribution"
        )
    return np.array([np.mean(batch) for batch in combinations(values, batch_size)])


class Zone(IntEnum):
    """What mini-batches on interpolating data can do to a start."""

    SAFE = 1  #: bounded in every order of batches: zero loss or balanced factors
    GREY = 2  #: depends on the order
    LOST = 3  #: diverges in every order, but for landing exactly on zero loss


def batch_zone(mu, a, b, *, curvature_range: tuple[float, float]):
    """Classify starts under mini-batches of interpolating data, whatever the order of batches.

    SAFE inside the ellipse of the most curved batch, LOST outside that of the least curved, GREY between.

    Parameters
    ----------
    mu, a, b : array_like
        Of the full batch; broadcast against each other.
    curvature_range : tuple of float
        Least and greatest κ of any batch, 0 < least ≤ 1 ≤ greatest. With greatest · |mu| < 2.

    Returns
    -------
    Zone, or ndarray of int8 with its values

    Notes
    -----
    Also answers for step sizes and clipped residuals that change from step to step: κ is then the factor
    on the full-batch error. Exactly on an ellipse counts as GREY.

    References
    ----------
    theory/06 (eq:zones).

    Examples
    --------
    >>> batch_zone(0.6, [0.5, 1.9, 3.3], [0.5, 0.9, 0.0], curvature_range=(0.42, 1.67))
    array([1, 2, 3], dtype=int8)
    """
    mu, a, b = np.broadcast_arrays(finite("mu", mu), finite("a", a), finite("b", b))
    least, greatest = (float(positive("curvature_range", bound)) for bound in curvature_range)
    if not least <= 1 <= greatest:
        raise ValueError(f"curvature_range={curvature_range} must contain 1, the full batch's value")
    if not (greatest * np.abs(mu) < 2).all():
        worst = np.abs(mu).max()
        raise ValueError(
            f"mu={worst} with curvature up to {greatest}: zones need curvature · |mu| < 2, "
            f"that is |mu| < {2 / greatest:.6g}"
        )
    zones = np.full(mu.shape, Zone.GREY, dtype=np.int8)
    zones[batch_ellipse_function(mu, a, b, curvature=greatest) < 0] = Zone.SAFE
    zones[batch_ellipse_function(mu, a, b, curvature=least) > 0] = Zone.LOST
    return zones if zones.ndim else Zone(int(zones))


def batch_ellipse_function(mu, a, b, *, curvature):
    """H of a batch of relative curvature κ on interpolating data: κ (a² + b²) - κ² mu (ab - mu) - 4.

    Negative inside the batch's own invariant ellipse; the ellipses shrink as κ grows.

    Parameters
    ----------
    mu, a, b : array_like
        Of the full batch.
    curvature : array_like
        κ > 0.

    References
    ----------
    theory/06 (eq:batch-ellipse).

    Examples
    --------
    >>> batch_ellipse_function(0.5, 1.0, 1.0, curvature=[1.0, 2.0]).round(6)
    array([-2.25, -1.  ])
    """
    root = np.sqrt(positive("curvature", curvature))
    return ellipse_function(root * root * finite("mu", mu), root * finite("a", a), root * finite("b", b))


def expected_ellipse_function(mu, a, b, *, curvature_variance=0.0, label_noise=0.0):
    """Mean of H after one step with residual κ e + ξ: noise pushes outwards.

    H (1 + mu e + (1 + Var κ) e² + τ²) + (4 - mu²)(Var κ e² + τ²), for E κ = 1, E ξ = 0, Var ξ = τ².

    Parameters
    ----------
    mu, a, b : array_like
    curvature_variance : array_like, optional
        Var κ over batches.
    label_noise : array_like, optional
        τ, standard deviation of the noise on the batch's error, σ/√B for labels of noise σ.

    References
    ----------
    theory/06 (eq:drift).

    Examples
    --------
    >>> float(expected_ellipse_function(0.0, 1.0, 0.0, label_noise=0.5))  # from H = -3
    -2.75
    """
    variance, tau = finite("curvature_variance", curvature_variance), finite("label_noise", label_noise)
    if not (variance >= 0).all():
        raise ValueError(f"curvature_variance must not be negative; found {variance[variance < 0].flat[0]}")
    H = ellipse_function(mu, a, b)
    mu = finite("mu", mu)
    e = finite("a", a) * finite("b", b) - mu
    spread = variance * e * e + tau * tau
    return (H * (1 + mu * e + e * e + spread) + (4 - mu * mu) * spread)[()]


def mean_square_limit(curvature_variance):
    """Largest a² + b² of a minimum that attracts in mean square: 2 / (1 + Var κ).

    a² + b² is the learning rate times the sharpness; balanced minima have a² + b² = 2 mu.

    References
    ----------
    theory/06 (eq:mean-square).

    Examples
    --------
    >>> float(mean_square_limit(0.25))
    1.6
    """
    variance = finite("curvature_variance", curvature_variance)
    if not (variance >= 0).all():
        raise ValueError(f"curvature_variance must not be negative; found {variance[variance < 0].flat[0]}")
    return (2 / (1 + variance))[()]


def minimum_exponent(P, curvatures, probabilities=None):
    """Growth per step of the error near a minimum under batches: Λ(P) = E log|1 - κ P|, P = a² + b².

    Negative: almost every order of batches converges to it.

    Parameters
    ----------
    P : array_like
        Learning rate times sharpness.
    curvatures : array_like, shape (m,)
        κ of each batch.
    probabilities : array_like, shape (m,), optional
        Of each batch; equal if left out.

    Returns
    -------
    float or ndarray, shape of `P`
        -inf where some κ P = 1.

    References
    ----------
    theory/06 (eq:almost-sure).

    Examples
    --------
    >>> minimum_exponent([1.0, 2.0, 3.0], curvatures=[0.5, 1.5]).round(4)
    array([-0.6931,    -inf,  0.2798])
    """
    P = finite("P", P)
    kappa, p = _distribution(curvatures, probabilities)
    with np.errstate(divide="ignore"):
        return (np.log(np.abs(1 - P[..., None] * kappa)) @ p)[()]


def almost_sure_limit(curvatures, probabilities=None) -> float:
    """First a² + b² of a minimum beyond which it no longer attracts almost surely: Λ changes sign there.

    Parameters
    ----------
    curvatures : array_like, shape (m,)
        κ of each batch, positive.
    probabilities : array_like, shape (m,), optional

    Returns
    -------
    float
        At least as large as `mean_square_limit`; above 2 where noise stabilises. Balanced minima attract up
        to mu = half of it. Beyond it, minima near a² + b² = 1/κ for some batch may attract again. Exact to
        rounding for up to some thousand batches; intervals of Λ > 0 shorter than 1e-6 are passed over.

    References
    ----------
    theory/06 (eq:almost-sure).

    Examples
    --------
    >>> sigma = 0.5  # (P - 1)² - σ² P² = 1
    >>> round(almost_sure_limit([1 - sigma, 1 + sigma]), 12), 2 / (1 - sigma**2)
    (2.666666666667, 2.6666666666666665)
    """
    kappa, p = _distribution(curvatures, probabilities)
    poles = np.unique(1 / kappa)

    def exponent(P):
        return float(minimum_exponent(P, kappa, p))

    def slope(P):
        return float(np.sum(p * kappa / (P * kappa - 1)))

    # Between poles Λ is concave and falls to -inf at both. It is negative up to the first pole, and as long
    # as the mean square falls (Jensen).
    mean_square = 2 * (p @ kappa) / (p @ kappa**2)
    for lo, hi in pairwise(poles):
        if hi <= mean_square or hi - lo < _MERGED * lo:
            continue
        inner = (hi - lo) * 1e-9
        top = brentq(slope, lo + inner, hi - inner, xtol=1e-15)
        if exponent(top) > 0:
            return float(brentq(exponent, lo + inner, top, xtol=1e-15))
    hi = 4 * poles[-1]
    while exponent(hi) < 0:
        hi *= 2
    return float(brentq(exponent, poles[-1] * (1 + 1e-15), hi, xtol=1e-15))


def _distribution(curvatures, probabilities):
    kappa = positive("curvatures", curvatures)
    if kappa.ndim != 1 or kappa.size == 0:
        raise ValueError(f"curvatures have shape {kappa.shape}; one dimension and at least one value")
    if probabilities is None:
        return kappa, np.full(kappa.size, 1 / kappa.size)
    p = finite("probabilities", probabilities)
    if p.shape != kappa.shape or (p < 0).any() or not np.isclose(p.sum(), 1):
        raise ValueError(f"probabilities {p} must be {kappa.size} numbers ≥ 0 with sum 1")
    return kappa, p


def gaussian_minimum_exponent(P, batch_size: int):
    """Λ(P) = E log|1 - κ P| for batches of Gaussian gains, κ ~ χ²_B / B.

    Parameters
    ----------
    P : array_like
        Positive.
    batch_size : int
        B ≥ 1. B = 1: log(P/2) - γ_E + ₂F₂(1, 1; 3/2, 2; -1/2P)/P; B = 2: -exp(-1/P) Ei(1/P).

    Returns
    -------
    float or ndarray, shape of `P`
        By quadrature graded towards κ = 1/P, absolute error below 1e-12.

    References
    ----------
    theory/06 (eq:gaussian-gains).

    Examples
    --------
    >>> print(gaussian_minimum_exponent(2.0, batch_size=2).round(10))
    -0.2754982986
    """
    P = positive("P", P)
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    return np.vectorize(lambda one: _gaussian_exponent(one, batch_size), otypes=[float])(P)[()]


def _gaussian_exponent(P: float, batch_size: int) -> float:
    law = gamma(batch_size / 2, scale=2 / batch_size)
    t, w = _chebyshev.graded_quadrature()
    pole, end = 1 / P, max(law.isf(_TAIL), 2 / P)
    # Both ends of (0, pole): the density is singular at 0 for one example, the logarithm at the pole.
    pieces = [(0.0, pole / 2), (pole, -pole / 2)]
    # Beyond the pole: panels no longer than the density is wide, the first graded towards the pole.
    panels = np.linspace(pole, end, 2 + int((end - pole) * np.sqrt(batch_size)))
    pieces += [(left, right - left) for left, right in pairwise(panels)]
    total = 0.0
    for start, length in pieces:
        kappa = start + length * t
        # 1 - κP is -P (κ - pole); at the pole the difference is known without cancellation.
        distance = np.abs(length * t) if start == pole else np.abs(kappa - pole)
        total += abs(length) * float(w @ (law.pdf(kappa) * np.log(P * distance)))
    return total


def gaussian_almost_sure_limit(batch_size: int) -> float:
    """`almost_sure_limit` for batches of Gaussian gains, κ ~ χ²_B / B.

    Parameters
    ----------
    batch_size : int

    References
    ----------
    theory/06 (eq:gaussian-gains).

    Examples
    --------
    >>> round(gaussian_almost_sure_limit(1), 10), round(gaussian_almost_sure_limit(2), 10)
    (2.421249521, 2.6845103508)
    """
    return float(brentq(lambda P: gaussian_minimum_exponent(P, batch_size), 1.0, 4.0, xtol=1e-13))
