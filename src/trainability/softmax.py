"""The softmax of random logits: how strongly two tokens' attention overlaps.

Two rows of attention over n tokens, logits β z_j and β z'_j with z, z' ~ N(0, 1), independent over j and of
correlation r between the rows, have the overlap

    S(β, r; n) = E Σ_j w_j w'_j,        S' = ∂S/∂r.

S governs the forward geometry of attention and the value path of the gradient; S' its query and key paths
(theory/21). Both are exact one- and two-replica integrals, valid through condensation of the softmax at
large β, where the annealed ratio of averages is wrong by factors.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

# Ranges and steps of the trapezoid rule. Gaussians are cut at 8.6 standard deviations (weight 1e-16); the two-row
# integrand decays like e^u to the left, so that 30 e-foldings leave 1e-13; steps give 1e-12 for n up to 1e3 and
# 2e-10 at n = 65536 (compared with a third of the steps).
_REACH, _TAIL, _RIGHT = 8.6, 30.0, 4.2
_STEP_ONE, _STEP_TWO, _STEP_GAUSS = 0.125, 0.3, 0.3
_WEAK, _GAUSS_NODES = 0.45, 16  # Gauss-Hermite nodes that give 4e-13 for noise below 0.45
_WIDEST = 40.0  # largest β; two-row integrals take seconds beyond
_NODES = 48  # Chebyshev nodes of a table in √ε
_SIGMA_NODES = 24  # between which many values of sigma are interpolated
_TINY = 1e-4  # below this ε the difference S(β, 1) - S(β, 1 - ε) is taken from the slopes


def softmax_overlap(beta, r, n):
    """S(β, r; n) and its derivative in r.

    Parameters
    ----------
    beta : float
        Standard deviation of the logits, in [0, 40].
    r : float
        Correlation between the two rows, in [-1, 1].
    n : int
        Tokens attended to, at least 2.

    Returns
    -------
    overlap, slope : float
        Relative accuracy 1e-12 for n ≤ 1024 and 2e-10 at n = 65536.

    References
    ----------
    theory/21 (eq:overlap).

    Examples
    --------
    >>> print("{:.12f} {:.12f}".format(*softmax_overlap(1.0, 0.5, 16)))
    0.092110397860 0.069026847617
    """
    if not 0 <= beta <= _WIDEST:
        raise ValueError(
            f"beta={beta} must lie in [0, {_WIDEST:.0f}]; softmax is one-hot beyond to within 1/beta"
        )
    if not -1 <= r <= 1:
        raise ValueError(f"r={r} is a correlation and must lie in [-1, 1]")
    if n < 2 or n != int(n):
        raise ValueError(f"n={n} must be a whole number of at least 2")
    if beta == 0:
        return 1 / n, 0.0
    if r == 1:
        return one_row_moments(beta, n)[:2]
    return _two_rows(beta, r, n)


def annealed_overlap(beta, r, n):
    """S and S' with the average of the ratio replaced by the ratio of averages; arrays welcome.

    Right for n → ∞ at fixed β and to first order in β²; reliable for β² well below ½ log n only.

    Examples
    --------
    >>> exact, _ = softmax_overlap(2.0, 1.0, 64)
    >>> annealed, _ = annealed_overlap(2.0, 1.0, 64)
    >>> print(f"{annealed / exact - 1:+.0%}")
    +189%
    """
    weight = 1 / (1 + (n - 1) * np.exp(-r * np.square(beta)))
    return weight, np.square(beta) * weight * (1 - weight)


def one_row_moments(beta, n):
    """S(β, 1), S'(β, 1) and E (Σ w²)², all from the one-row integral.

    Examples
    --------
    >>> print("{:.12f} {:.12f} {:.4f}".format(*one_row_moments(1.0, 16)))
    0.132452217220 0.093508037758 0.0200
    """
    left = np.log(n) + min(beta**2 / 2, _REACH * beta) + _TAIL
    u = np.arange(-left, _REACH * beta + _RIGHT, _STEP_ONE)
    eta, w = _gaussian_grid(beta)
    survival, g2, g3, g4 = (_tilted(u[:, None] + beta * eta, k) @ w for k in (0, 2, 3, 4))
    others = survival ** (n - 2)
    one = others * survival
    s = n * _STEP_ONE * np.sum(g2 * one)
    third = n / 2 * _STEP_ONE * np.sum(g3 * one)
    square = _STEP_ONE / 6 * np.sum(n * g4 * one + n * (n - 1) * g2**2 * others)
    return float(s), float(beta**2 * (s - 2 * third + square)), float(square)


def _two_rows(beta, r, n):
    """Integral over the two rows' Laplace variables e^u, e^v of the pair's common and private noise."""
    common, private = beta * np.sqrt(abs(r)), beta * np.sqrt(1 - abs(r))
    left = np.log(n) + min(beta**2 / 2, _REACH * beta) + _TAIL
    u = np.arange(-left, _REACH * beta + _RIGHT, _STEP_TWO)
    # Where the common noise is strong its step is a whole number of steps in u, so that u + common c stays on
    # one lattice and the private average is needed on a line only.
    lattice = common >= _WEAK
    c, wc = _gaussian_grid(common, step=_STEP_TWO / common if lattice else None)
    eta, weight = _gaussian_grid(private)
    if lattice:
        reach = (len(c) - 1) // 2
        line = u[0] + _STEP_TWO * np.arange(-reach, len(u) + reach)
        on_line = [_tilted(line[:, None] + private * eta, k) @ weight for k in (0, 1, 2)]
        g = [np.lib.stride_tricks.sliding_window_view(values, len(c)) for values in on_line]
    else:
        shifted = u[:, None] + common * c
        g = [_tilted(shifted[..., None] + private * eta, k) @ weight for k in (0, 1, 2)]
    # A negative correlation is a common noise that enters the second row with the other sign.
    second = g if r >= 0 else [values[:, ::-1] for values in g]
    phi, f11, f21, f22 = ((g[k] * wc) @ second[m].T for k, m in ((0, 0), (1, 1), (2, 1), (2, 2)))
    others = phi ** (n - 2)
    one = others * phi
    area = _STEP_TWO**2
    s = n * area * np.sum(f11 * one)
    n21 = n * area * np.sum(f21 * one)
    n22 = area * np.sum(n * f22 * one + n * (n - 1) * f11**2 * others)
    return float(s), float(beta**2 * (s - 2 * n21 + n22))


def _tilted(x, k):
    """e^{kx} exp(-e^x), without overflow."""
    return np.exp(k * x - np.exp(np.minimum(x, 700.0)))


def _gaussian_grid(scale, *, step=None):
    """Nodes and normalised weights for averages over N(0, 1), fine enough for noise of size `scale`."""
    if step is None and scale < _WEAK:
        x, w = np.polynomial.hermite_e.hermegauss(_GAUSS_NODES)
        return x, w / w.sum()
    step = _STEP_GAUSS / scale if step is None else step
    m = int(_REACH / step)
    x = step * np.arange(-m, m + 1)
    w = np.exp(-(x**2) / 2)
    return x, w / w.sum()


@dataclass(frozen=True)
class OverlapTable:
    """S and S' along the states of attention, β = σ √ε and r = 1 - ε, as Chebyshev series in √ε.

    Calling it with ε (any shape, in [0, 1]) returns S(β, 1), S'(β, 1), S(β, r), S'(β, r) and the difference
    S(β, 1) - S(β, r), which stays accurate as ε → 0.

    Parameters
    ----------
    sigma : float
        Standard deviation of the logits between orthogonal tokens.
    n : int
    """

    sigma: float
    n: int

    @cached_property
    def coefficients(self):
        """Chebyshev coefficients (48, 4)."""
        chebyshev = np.polynomial.chebyshev
        x = chebyshev.chebpts1(_NODES)
        t = (x + 1) / 2
        values = np.array(
            [
                (
                    *softmax_overlap(self.sigma * s, 1.0, self.n),
                    *softmax_overlap(self.sigma * s, 1 - s * s, self.n),
                )
                for s in t
            ]
        )
        return np.linalg.solve(chebyshev.chebvander(x, _NODES - 1), values)

    def __call__(self, epsilon):
        epsilon = np.asarray(epsilon, dtype=float)
        t = np.sqrt(epsilon)
        s1, slope1, s, slope = np.polynomial.chebyshev.chebval(2 * t - 1, self.coefficients)
        difference = np.where(epsilon < _TINY, epsilon * (slope1 + slope) / 2, s1 - s)
        return s1, slope1, s, slope, difference


@lru_cache(maxsize=64)
def overlap_table(sigma, n):
    """The `OverlapTable` of one (sigma, n), kept for the next caller."""
    return OverlapTable(sigma, n)


def overlap_rows(sigma, n, t):
    """Columns of `OverlapTable` for many (sigma, n) at ε = t², and which row belongs to which.

    Distinct sigma beyond a couple of dozen are interpolated between as many Chebyshev nodes, to about 1e-8 of
    the overlaps' size where sigma spans a factor of ten.

    Parameters
    ----------
    sigma, n : array_like, of one broadcast shape
    t : ndarray, shape (k,)

    Returns
    -------
    rows : ndarray, shape (distinct, k, 5)
        S(β, 1), S'(β, 1), S(β, r), S'(β, r) and (S(β, 1) - S(β, r)).
    index : ndarray, of the broadcast shape
    """
    pairs, index = distinct_pairs(sigma, n)
    rows = np.empty((len(pairs), len(t), 5))
    for tokens in np.unique(pairs[:, 1]):
        chosen = pairs[:, 1] == tokens
        sigmas = pairs[chosen, 0]
        if len(sigmas) <= _SIGMA_NODES:
            rows[chosen] = [np.stack(overlap_table(float(s), int(tokens))(t**2), axis=1) for s in sigmas]
            continue
        chebyshev = np.polynomial.chebyshev
        x = chebyshev.chebpts1(_SIGMA_NODES)
        low, high = sigmas.min(), sigmas.max()
        nodes = low + (high - low) * (x + 1) / 2
        values = np.stack([np.stack(overlap_table(float(s), int(tokens))(t**2), axis=1) for s in nodes])
        c = np.linalg.solve(chebyshev.chebvander(x, _SIGMA_NODES - 1), values.reshape(_SIGMA_NODES, -1))
        at = chebyshev.chebvander(2 * (sigmas - low) / (high - low) - 1, _SIGMA_NODES - 1)
        rows[chosen] = (at @ c).reshape(-1, len(t), 5)
    return rows, index


def distinct_pairs(a, b):
    """Distinct pairs (m, 2) of two broadcast arrays, and the row of each, of the broadcast shape."""
    a, b = np.broadcast_arrays(a, b)
    pairs, row = np.unique(np.stack([a.ravel(), b.ravel()], axis=1), axis=0, return_inverse=True)
    return pairs, row.reshape(a.shape)
