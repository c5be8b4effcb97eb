"""What is known of the product map in closed form: phases, fates of all starts, critical learning rates.

Everything follows from one function, H = a² + b² - mu ab + mu² - 4, and its identity
H' = H (1 + mu e + e²): for |mu| < 2 its sign never changes, H = 0 is an invariant ellipse, inside it
every orbit is bounded and outside almost every orbit diverges (theory/04).
"""

from enum import IntEnum
from fractions import Fraction

import numpy as np

from ._checks import finite, positive
from .reduction import Data, as_reduction, project_weights

# End of the period-doubling cascade; mu_1 ... mu_10 and this limit are computed by `cascade`.
_CASCADE_ENDS = 1.3022834627007121608
# Labels of `phase`, each with the largest |mu| that bears it; mu = 2 alone is "full chaos".
_PHASES = ("monotone", "catapult", "2-cycle", "cascade", "chaos", "merged chaos", "full chaos", "divergence")
# A sign is decided in rational arithmetic where the float is below this multiple of eps times the size of
# its terms: nine roundings of at most eps/2 each enter H, so 8 is safe by nearly a factor 2.
_SIGN_GUARD = 8.0


def thresholds(exact: bool = False) -> dict:
    """Thresholds of the balanced slice in the effective step mu.

    Parameters
    ----------
    exact : bool, optional
        Return sympy numbers and not floats.

    Returns
    -------
    dict
        `catapult` 2√2 - 2: below, the loss of every balanced start falls at every step;
        `two_cycle` 1: above, no minimum attracts, a 2-cycle does;
        `four_cycle` √5 - 1: the 2-cycle flips and the cascade begins;
        `merging_crisis` 3√3/2 - 1: two mirror attractors merge into one;
        `escape` 2: above, almost every start diverges.

    References
    ----------
    arXiv:2605.21292; theory/02 (eq:thresholds).

    Examples
    --------
    >>> thresholds()["four_cycle"]
    1.2360679774997898
    >>> thresholds(exact=True)["four_cycle"]
    -1 + sqrt(5)
    """
    if exact:
        from sympy import Integer, Rational, sqrt

        values = (2 * sqrt(2) - 2, Integer(1), sqrt(5) - 1, Rational(3, 2) * sqrt(3) - 1, Integer(2))
    else:
        values = (2 * 2**0.5 - 2, 1.0, 5**0.5 - 1, 3 * 3**0.5 / 2 - 1, 2.0)
    return dict(zip(("catapult", "two_cycle", "four_cycle", "merging_crisis", "escape"), values, strict=True))


def phase(mu):
    """Name what typical balanced starts do at effective step `mu`.

    Parameters
    ----------
    mu : array_like
        Negative values behave as their absolute value, by the symmetry b → -b.

    Returns
    -------
    str or ndarray of str, shape of `mu`
        "monotone" for |mu| ≤ 2√2 - 2: loss falls at every step;
        "catapult" up to 1: converges to zero loss, which may rise first;
        "2-cycle" up to √5 - 1;
        "cascade" up to 1.30228…: cycles of length 4, 8, 16, …;
        "chaos" up to 3√3/2 - 1: two mirror attractors, mostly chaotic, with windows of cycles;
        "merged chaos" below 2: one attractor symmetric under x → -x, or cycles in windows;
        "full chaos" at 2: the Chebyshev map, density known exactly;
        "divergence" above 2.

    References
    ----------
    arXiv:2605.21292, arXiv:2310.01687; theory/02 (eq:thresholds).

    Examples
    --------
    >>> phase(1.1)
    '2-cycle'
    >>> phase([0.5, 1.0, 1.9, 2.5]).tolist()
    ['monotone', 'catapult', 'merged chaos', 'divergence']
    """
    size = np.abs(finite("mu", mu))
    limit = thresholds()
    ends = [
        limit["catapult"],
        limit["two_cycle"],
        limit["four_cycle"],
        _CASCADE_ENDS,
        limit["merging_crisis"],
        np.nextafter(2.0, 0.0),
        limit["escape"],
    ]
    names = np.array(_PHASES)[np.searchsorted(ends, size, side="left")]
    return str(names) if names.ndim == 0 else names


class Fate(IntEnum):
    """Long-run outcome of a start of the product map."""

    CONVERGES = 1  #: to zero loss
    DIVERGES = 2  #: leaves every bounded set
    BALANCES = 3  #: bounded, the factors become equal up to sign, the loss does not vanish
    BOUNDARY = 4  #: on the invariant ellipse: bounded for ever, unstable


def ellipse_function(mu, a, b):
    """H(a, b) = a² + b² - mu ab + mu² - 4; for |mu| < 2 negative inside the invariant ellipse.

    Along an orbit H' = H (1 + mu e + e²) with e = ab - mu.

    Parameters
    ----------
    mu, a, b : array_like
        Broadcast against each other.

    Returns
    -------
    float or ndarray
        Absolute error at most 8 eps times (|2 - mu| s² + |2 + mu| d²)/4 + |4 - mu²|, s = a + b, d = a - b.

    Raises
    ------
    ValueError
        If an argument is not finite or H overflows.

    References
    ----------
    theory/03 (eq:H), (eq:cofactor).

    Examples
    --------
    >>> ellipse_function(0.5, [0.0, 2.5], [0.0, 0.0])
    array([-3.75,  2.5 ])
    """
    mu, a, b = finite("mu", mu), finite("a", a), finite("b", b)
    H, _ = _ellipse_function(mu, a, b)
    if not np.isfinite(H).all():
        raise ValueError("ellipse_function overflows; keep |a|, |b| and |mu| below 1e150, or ask `fate`")
    return H[()]


def _ellipse_function(mu, a, b):
    """H and the size of its terms, written with s and d: no cancellation between a² + b² and mu ab."""
    s, d = a + b, a - b
    with np.errstate(over="ignore", invalid="ignore"):
        along, across, constant = (2 - mu) * s * s / 4, (2 + mu) * d * d / 4, (2 - mu) * (2 + mu)
        return along + across - constant, np.abs(along) + np.abs(across) + np.abs(constant)


def fate(mu, a, b):
    """Classify starts of the product map by their long-run outcome, for every real mu.

    Nothing is iterated: for |mu| < 2 the sign of H decides between bounded and divergent, and |mu| ≤ 1
    between convergence and balancing.

    Parameters
    ----------
    mu, a, b : array_like
        Broadcast against each other.

    Returns
    -------
    Fate, or ndarray of int8 with its values
        Starts exactly on zero loss, on either invariant line a = ±b for |mu| ≤ 2, and on the ellipse
        are labelled as they behave.

    Notes
    -----
    The sign of H is exact for the given floats, however close to 0: where rounding could decide, it is
    computed in rational arithmetic. The label of a *real* start within a few ulp of the ellipse is of
    course as uncertain as its floats.

    Excepted are sets of measure zero, on which an orbit lands exactly on a special point after one or
    more steps: on ab = mu (it converges, wherever it started), on the invariant line that is not the
    attracting one (bounded, to the saddle at 0), and for |mu| > 2 the Cantor set of bounded orbits on the
    line a = ±b. On the ellipse itself the four points ab = mu are fixed and labelled CONVERGES. At
    |mu| = 1 convergence is algebraic.

    References
    ----------
    theory/04 (eq:inside), (eq:outside), (eq:two), (eq:beyond).

    Examples
    --------
    >>> fate(0.6, 1.0, -0.2)
    <Fate.CONVERGES: 1>
    >>> fate(mu=[0.6, 1.5, 1.5], a=[1.0, 1.0, 2.5], b=0.2)
    array([1, 3, 2], dtype=int8)
    """
    mu, a, b = np.broadcast_arrays(finite("mu", mu), finite("a", a), finite("b", b))
    shape = mu.shape
    b = np.where(mu < 0, -b, b).ravel()  # (a, b) -> (a, -b) turns mu into -mu
    mu, a = np.abs(mu).ravel(), a.ravel()
    H, error = _exact_signs(mu, a, b)

    label = np.full(mu.shape, Fate.DIVERGES, dtype=np.int8)
    inside, on_saddle_line = (H < 0) & (mu < 2), (a == -b) & (mu > 0)
    label[inside] = Fate.BALANCES
    label[inside & (mu <= 1) & ~on_saddle_line] = Fate.CONVERGES
    label[(H == 0) & (mu < 2)] = Fate.BOUNDARY
    label[(mu == 2) & (a == b) & (np.abs(a) <= 2)] = Fate.BALANCES  # Chebyshev's interval; H = (a - b)²
    label[(a == 0) & (b == 0)] = Fate.BALANCES  # the saddle, fixed for every mu
    label[error == 0] = Fate.CONVERGES
    return label.reshape(shape) if shape else Fate(int(label[0]))


def _exact_signs(mu, a, b):
    """Signs of H (for mu < 2) and of e = ab - mu, exact for the given floats; mu ≥ 0, all of shape (n,)."""
    eps, tiny = np.finfo(float).eps, np.finfo(float).tiny
    H, size = _ellipse_function(mu, a, b)
    with np.errstate(over="ignore"):
        error = a * b - mu
    # While mu < 2 both squares have positive weights, so an overflow can only mean H = +inf.
    unsure_H = (mu < 2) & np.isfinite(H) & (np.abs(H) <= _SIGN_GUARD * eps * size + tiny)
    unsure_error = np.abs(error) <= _SIGN_GUARD * eps * mu + tiny
    sign_H, sign_error = np.sign(H), np.sign(error)
    for i in np.flatnonzero(unsure_H | unsure_error):
        m, x, y = Fraction(float(mu[i])), Fraction(float(a[i])), Fraction(float(b[i]))
        exact_H, exact_error = x * x + y * y - m * x * y + m * m - 4, x * y - m
        sign_H[i] = (exact_H > 0) - (exact_H < 0)
        sign_error[i] = (exact_error > 0) - (exact_error < 0)
    return sign_H, sign_error


def critical_lr(data: Data, U, v):
    """Exact critical learning rate: training stays bounded below it and diverges above it.

    For one prompt of gain γ and target y, with λ₀ = γ² (u² + v²) and r₀ = γ u v - y, it is
    8 / (λ₀ + √(λ₀² - 16 γ² y r₀)).

    Parameters
    ----------
    data : Prompt, sequence of Prompt, or Reduction
    U : array_like, shape (..., D, D)
        Initial key-query block.
    v : array_like, shape (...)
        Initial projection-value weight.

    Returns
    -------
    float or ndarray, shape (...)
        Infinite only where the target and all weights that learn are zero. Relative error a few eps.

    Notes
    -----
    Holds for almost every start, and learning rates kept constant. Excepted are starts that land exactly
    on zero loss, and exactly balanced starts beyond mu = 2. Bounded is not converged: `safe_lr`.

    References
    ----------
    theory/04 (eq:critical-lr).

    Examples
    --------
    >>> from trainability import Prompt
    >>> prompt = Prompt(x=[[1.0]], y=[1.0], x_query=[1.0], y_query=1.0)
    >>> critical_lr(prompt, [[2.0]], [0.5, 1.0, 2.0]).round(4)
    array([0.9412, 1.    , 0.6667])
    """
    reduction = as_reduction(data)
    u, v = project_weights(reduction, U, v)
    return critical_lr_from(reduction.curvature, reduction.coupling, u, v)


def critical_lr_from(curvature, coupling, u, v):
    """Critical learning rate of the loss ½ (c u² v² - 2 k u v) from its four numbers.

    8 / (c (u² + v²) + √((4k - 2 c u v)² + c² (u² - v²)²)), free of cancellation.

    Parameters
    ----------
    curvature : array_like
        c > 0.
    coupling : array_like
        k; for ½ (γ u v - y)², c = γ² and k = γ y.
    u, v : array_like
        Starting weights.

    References
    ----------
    theory/04 (eq:critical-lr).

    Examples
    --------
    >>> float(critical_lr_from(curvature=1.0, coupling=1.0, u=1.0, v=1.0))  # a minimum: 4/sharpness
    2.0
    """
    c, k, u, v = (
        positive("curvature", curvature),
        finite("coupling", coupling),
        finite("u", u),
        finite("v", v),
    )
    root = np.hypot(4 * k - 2 * c * u * v, c * (u - v) * (u + v))
    with np.errstate(divide="ignore"):
        return (8 / (c * (u * u + v * v) + root))[()]


def safe_lr(data: Data, U, v):
    """Largest learning rate up to which training converges: the lesser of the critical one and mu = 1.

    Parameters
    ----------
    data : Prompt, sequence of Prompt, or Reduction
    U : array_like, shape (..., D, D)
    v : array_like, shape (...)

    Returns
    -------
    float or ndarray, shape (...)
        Every learning rate below leads to the lowest loss that the reduction allows, for almost every
        start; those above do not. At mu = 1 itself it is reached algebraically.

    References
    ----------
    theory/04 (eq:safe-lr).

    Examples
    --------
    >>> from trainability import Prompt
    >>> prompt = Prompt(x=[[1.0]], y=[1.0], x_query=[1.0], y_query=1.0)
    >>> safe_lr(prompt, [[2.0]], [0.5, 2.0]).round(4)
    array([0.9412, 0.6667])
    """
    reduction = as_reduction(data)
    limit = np.inf if reduction.coupling == 0 else 1 / abs(reduction.coupling)
    return np.minimum(critical_lr(reduction, U, v), limit)[()]
