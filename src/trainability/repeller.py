"""Beyond mu = 2: the Cantor set of bounded balanced orbits, how fast others leave it, how large it is.

For mu > 2 the balanced slice x → x (1 + mu - x²) maps three pieces of |x| ≤ √(2 + mu) onto the whole
interval, and what never leaves is a Cantor set. Weighted transfer operators
(L_s f)(y) = Σ |f'(x_b)|^-s f(x_b) over the three preimages x_b of y know its numbers: their leading
eigenvalue exp P(s) gives the escape rate -P(1), the dimension P(s) = 0 (Bowen) and the exponent -P'(1).
"""

import numpy as np
from scipy.optimize import brentq
from scipy.special import erfc

from . import _chebyshev
from ._checks import finite

# Chebyshev points. The error falls like ρ⁻ⁿ with ρ ≥ 2.4 for mu ≥ 2.05; 48 reach rounding there, and near
# mu = 2, where ρ → 1, the resolution is doubled until two agree.
_POINTS, _MOST_POINTS = 48, 768
_AGREE = 1e-12
_CLOSEST = 2.005  # the mu nearest to 2 that 768 points resolve


def escape_rate(mu):
    """Rate κ at which balanced starts leave every bounded set for mu > 2: survivors fall like exp(-κ n).

    Parameters
    ----------
    mu : array_like
        mu ≥ 2.005.

    Returns
    -------
    float or ndarray, shape of `mu`
        In nats per iteration, error below 1e-11.

    References
    ----------
    theory/02 (eq:escape-rate).

    Examples
    --------
    >>> print(escape_rate(3.0).round(10))
    0.5699515516
    """
    return _over(mu, lambda m: -_settle(lambda n: _pressure(m, 1.0, n)[0]))


def repeller_dimension(mu):
    """Hausdorff dimension of the bounded balanced starts for mu > 2, by Bowen's equation P(s) = 0.

    Parameters
    ----------
    mu : array_like
        mu ≥ 2.005.

    Returns
    -------
    float or ndarray, shape of `mu`
        Error below 1e-11.

    References
    ----------
    Bowen, Publ. Math. IHES 50, 11-25 (1979); theory/02 (eq:bowen).

    Examples
    --------
    >>> print(repeller_dimension(3.0).round(10))
    0.6517053062
    """
    return _over(
        mu, lambda m: _settle(lambda n: brentq(lambda s: _pressure(m, s, n)[0], 0.0, 1.0, xtol=1e-15))
    )


def repeller_exponent(mu):
    """Lyapunov exponent along the slice of the repeller's natural measure, -P'(1), for mu > 2.

    Entropy is the exponent minus the escape rate.

    Parameters
    ----------
    mu : array_like
        mu ≥ 2.005.

    References
    ----------
    theory/02 (eq:escape-rate).

    Examples
    --------
    >>> print(repeller_exponent(3.0).round(9))
    1.622544325
    """
    return _over(mu, lambda m: -_settle(lambda n: _pressure(m, 1.0, n)[1]))


def _over(mu, function):
    mu = finite("mu", mu)
    if not (mu >= _CLOSEST).all():
        raise ValueError(
            f"mu={mu[~(mu >= _CLOSEST)].flat[0]}: balanced orbits escape for mu > 2 only; give {_CLOSEST} or more, "
            "where the operators are resolved"
        )
    return np.vectorize(function, otypes=[float])(mu)[()]


def _settle(value):
    """`value(n)` at the first resolution that agrees with half of it."""
    n = _POINTS
    last = value(n)
    while n < _MOST_POINTS:
        n *= 2
        now = value(n)
        if abs(now - last) <= _AGREE * (1 + abs(now)):
            return now
        last = now
    raise ArithmeticError(
        f"transfer operator unresolved with {n} points: {last} changed by more than {_AGREE}"
    )


def _pressure(mu: float, s: float, n: int) -> tuple[float, float]:
    """P(s) and P'(s) of the slice repeller by collocation at n points."""
    r = 1 + mu
    edge = np.sqrt(2 + mu)
    y = _chebyshev.nodes(n, -edge, edge)
    matrix, slope = np.zeros((n, n)), np.zeros((n, n))
    turn = 2 * (r / 3) ** 1.5  # value at the turning point, above `edge` for mu > 2
    for branch in range(3):
        x = 2 * np.sqrt(r / 3) * np.cos((np.arccos(-y / turn) + 2 * np.pi * branch) / 3)
        log_weight = -np.log(np.abs(r - 3 * x * x))
        part = np.exp(s * log_weight)[:, None] * _chebyshev.interpolation(x, n, -edge, edge)
        matrix += part
        slope += log_weight[:, None] * part
    values, right = np.linalg.eig(matrix)
    lead = np.abs(values).argmax()
    left_values, left = np.linalg.eig(matrix.T)
    measure, density = left[:, np.abs(left_values).argmax()].real, right[:, lead].real
    radius = values[lead].real
    return float(np.log(radius)), float((measure @ slope @ density) / (radius * (measure @ density)))


def escape_survival(n, d0, e0):
    """Probability that a start near the slice at mu = 2 is still bounded after n steps, for small d0.

    Off the slice every orbit at mu = 2 diverges, but slowly: (2 - e)/d² walks with heavy-tailed steps, and
    the survival tends to erfc(n |d0| / √(3π (2 - e0))).

    Heuristic: a limit-theorem argument, checked by simulation (mean 1.003(4) times the formula at
    d0 = 1e-3), not proved.

    Parameters
    ----------
    n : array_like
        Steps.
    d0 : array_like
        Initial a - b, small; random starts along the slice are understood.
    e0 : array_like
        Initial ab - 2, below 2.

    References
    ----------
    theory/04 (eq:escape-law).

    Examples
    --------
    >>> print(escape_survival(1000, d0=1e-3, e0=0.0).round(4))
    0.7446
    """
    n, d0, room = finite("n", n), finite("d0", d0), 2 - finite("e0", e0)
    _check_room(room)
    return erfc(n * np.abs(d0) / np.sqrt(3 * np.pi * room))[()]


def mean_escape_time(d0, e0):
    """Mean number of steps for which a start near the slice at mu = 2 stays bounded: √(3 (2 - e0)) / |d0|.

    Heuristic, as `escape_survival`, whose integral it is.

    References
    ----------
    theory/04 (eq:escape-law).

    Examples
    --------
    >>> print(mean_escape_time(d0=1e-3, e0=0.0).round(1))
    2449.5
    """
    d0, room = finite("d0", d0), 2 - finite("e0", e0)
    _check_room(room)
    if not d0.all():
        raise ValueError("d0=0 lies on the slice, which is bounded at mu = 2; give d0 different from 0")
    return (np.sqrt(3 * room) / np.abs(d0))[()]


def _check_room(room) -> None:
    if not (room > 0).all():
        raise ValueError(f"e0={(2 - room[~(room > 0)]).flat[0]} must be below 2, inside the slice's interval")
