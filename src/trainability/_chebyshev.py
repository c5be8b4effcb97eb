"""Chebyshev interpolation, and quadrature beside logarithmic singularities.

Points of the first kind, which leave the ends of an interval out: transfer operators have removable
0/0 there.
"""

import numpy as np


def nodes(n: int, lo: float = -1.0, hi: float = 1.0) -> np.ndarray:
    """Chebyshev points of the first kind on (lo, hi), ascending, shape (n,)."""
    return lo + (hi - lo) * np.sin((2 * np.arange(n) + 1) * np.pi / (4 * n)) ** 2


def weights(n: int, lo: float = -1.0, hi: float = 1.0) -> np.ndarray:
    """Fejér's weights: values at `nodes` to the integral over (lo, hi), exact for degree below n."""
    angle = (2 * np.arange(n) + 1) * np.pi / (2 * n)
    k = np.arange(1, n // 2 + 1)
    series = np.cos(2 * np.outer(angle, k)) @ (1 / (4.0 * k * k - 1))
    return (hi - lo) / n * (1 - 2 * series)


def interpolation(x, n: int, lo: float = -1.0, hi: float = 1.0) -> np.ndarray:
    """Matrix, shape (*x.shape, n), from values at `nodes` to values at `x`: barycentric formula.

    References
    ----------
    Berrut and Trefethen, SIAM Review 46, 501-517 (2004), eq. 5.1.
    """
    x = np.asarray(x, dtype=float)
    points = nodes(n, lo, hi)
    alternating = (-1.0) ** np.arange(n) * np.sin((2 * np.arange(n) + 1) * np.pi / (2 * n))
    gap = x[..., None] - points
    hit = gap == 0
    terms = alternating / np.where(hit, 1.0, gap)
    matrix = terms / terms.sum(axis=-1, keepdims=True)
    return np.where(hit.any(axis=-1, keepdims=True), hit.astype(float), matrix)


def graded_quadrature(n: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights on (0, 1) for integrands with a logarithmic singularity at 0: error of order n⁻¹⁰.

    Gauss–Legendre after t = u⁵, so that u⁴ log u is integrated. The points are distances from the
    singularity and keep full relative accuracy where it is at 0.
    """
    u, w = np.polynomial.legendre.leggauss(n)
    u, w = (u + 1) / 2, w / 2
    return u**5, 5 * u**4 * w


def spectral_radius(matrix: np.ndarray) -> float:
    """Largest modulus of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(matrix)).max())
