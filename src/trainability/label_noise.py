"""Label noise on the balanced slice: the hazard of escape, and the least noise that escapes.

With noisy labels the slice becomes x' = x (1 + mu - x² + τ ζ), ζ ~ N(0, 1), τ = σ/√B for labels of noise
σ in batches of B. Noise of any size lets |x| cross √(2 + mu) at last, beyond which the noiseless map
diverges (theory/06).
"""

from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np
from scipy.optimize import NonlinearConstraint, minimize
from scipy.sparse import csr_array
from scipy.special import ndtr

from ._checks import finite, positive

# The state is log|x| down to this depth below the edge; what falls deeper, about e^-26 of all, is put at the
# bottom, from where it is pushed up. Gauss panels shorter than the noise, with points enough for 1e-9.
_DEPTH, _PANEL_POINTS, _PANEL = 26.0, 15, 0.8
_SMALLEST_NOISE = 0.1  # the kernel then has 4900² entries
_NEGLIGIBLE = 1e-40  # entries that no escape needs: a kick of more than 13 standard deviations
_POWER_STEPS, _POWER_TOL = 20_000, 1e-14


def escape_hazard(mu: float, tau: float) -> float:
    """Hazard per step of first crossing |x| = √(2 + mu), for an orbit that has stayed inside for long.

    -log of the leading eigenvalue of the transition kernel killed at the edge, from the flux through it, so
    that tiny hazards keep their relative accuracy.

    Parameters
    ----------
    mu : float
        In (0, 2).
    tau : float
        Noise τ = σ/√B, at least 0.1.

    Returns
    -------
    float
        In nats per step; relative error below 1e-9.

    References
    ----------
    theory/06 (eq:hazard).

    Examples
    --------
    >>> print(f"{escape_hazard(1.5, 0.5):.10f}")
    0.1035453663
    """
    mu, tau = float(finite("mu", mu)), float(positive("tau", tau))
    if not 0 < mu < 2:
        raise ValueError(f"mu={mu} must lie in (0, 2)")
    if tau < _SMALLEST_NOISE:
        raise ValueError(
            f"tau={tau} is below {_SMALLEST_NOISE}; for smaller noise use the rate that `escape_action` gives"
        )
    log_x, weight = _panels(0.5 * np.log(2 + mu), tau)
    x = np.exp(log_x)
    drift = 1 + mu - x * x
    # log|x'| = log|x| + log|drift + τζ|: density of |drift + τζ| = q, times q for the logarithm.
    q = x[None, :] / x[:, None]
    z_plus, z_minus = (q - drift[:, None]) / tau, (q + drift[:, None]) / tau
    kernel = q / (tau * np.sqrt(2 * np.pi)) * (np.exp(-(z_plus**2) / 2) + np.exp(-(z_minus**2) / 2))
    kernel *= weight
    kernel[:, 0] += _within(np.exp(0.5 * np.log(2 + mu) - _DEPTH) / x, drift, tau)
    sparse = csr_array(np.where(kernel > _NEGLIGIBLE, kernel, 0.0))
    limit = np.sqrt(2 + mu) / x
    escape = ndtr((drift - limit) / tau) + ndtr((-drift - limit) / tau)  # |drift + τζ| > limit
    state = weight * np.exp(log_x - log_x.max())
    state /= state.sum()
    flux = 0.0
    for _ in range(_POWER_STEPS):
        new = state @ sparse
        new /= new.sum()
        last, flux = flux, float(new @ escape)
        settled = np.abs(new - state).sum() < _POWER_TOL and abs(flux - last) <= 1e-12 * flux
        state = new
        if settled:
            break
    else:
        raise ArithmeticError(f"the quasi-stationary state at mu={mu}, tau={tau} did not settle")
    return -float(np.log1p(-flux))


def _within(limit, drift, tau):
    """Probability of |drift + τζ| < limit."""
    return ndtr((limit - drift) / tau) - ndtr((-limit - drift) / tau)


def _panels(top: float, tau: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss–Legendre points and weights on (top - depth, top), in panels of a fixed fraction of the noise."""
    t, w = np.polynomial.legendre.leggauss(_PANEL_POINTS)
    edges = np.linspace(top - _DEPTH, top, 1 + int(np.ceil(_DEPTH / (_PANEL * tau))))
    half = np.diff(edges)[:, None] / 2
    return ((edges[:-1, None] + half) + half * t).ravel(), (half * w).ravel()


@dataclass(frozen=True, eq=False)
class EscapeAction:
    """Least action of noise that carries a balanced orbit over the edge.

    Parameters
    ----------
    value : float
        c: for small noise the hazard falls like exp(-c/τ²).
    kicks : ndarray, shape (n,)
        The sequence of τζ that does it.
    """

    value: float
    kicks: np.ndarray = field(repr=False)


def escape_action(mu: float, *, max_kicks: int = 6) -> EscapeAction:
    """Least ½ Σ kick² that carries the attractor of the balanced slice over |x| = √(2 + mu).

    Direct minimisation over the kicks, from every point of the attracting cycle. A numerical minimum over
    a finite number of kicks, so an upper bound of the true infimum.

    Parameters
    ----------
    mu : float
        In (0, √5 - 1): the attractor is a minimum or the balanced 2-cycle.
    max_kicks : int, optional

    References
    ----------
    Freidlin and Wentzell, Random Perturbations of Dynamical Systems, for the principle; theory/06 (eq:action).

    Examples
    --------
    >>> print(f"{escape_action(1.2).value:.3f}")
    0.162
    """
    mu = float(finite("mu", mu))
    if not 0 < mu < np.sqrt(5) - 1:
        raise ValueError(f"mu={mu} must lie in (0, √5 - 1), where the attractor is a point or a 2-cycle")
    if max_kicks < 1:
        raise ValueError(f"max_kicks={max_kicks} must be at least 1")
    r, edge = 1 + mu, np.sqrt(2 + mu)
    if mu <= 1:
        starts = [np.sqrt(mu)]
    else:
        starts = [(np.sqrt(r + 2) + np.sqrt(r - 2)) / 2, (np.sqrt(r + 2) - np.sqrt(r - 2)) / 2]

    def excess(kicks, x, side):
        """How far beyond the edge the last step lands; capped, so that wild guesses stay finite."""
        for kick in kicks:
            x = max(min(x * (r - x * x + kick), 10.0), -10.0)
        return side * x - edge

    best = EscapeAction(np.inf, np.empty(0))
    for start, n, side, last in product(starts, range(1, max_kicks + 1), (1, -1), (0.5, -0.5)):
        beyond = NonlinearConstraint(partial(excess, x=start, side=side), 0.0, np.inf)
        found = minimize(  # type: ignore[call-overload]  # the stubs know no NonlinearConstraint here
            lambda kicks: 0.5 * kicks @ kicks,
            np.append(np.full(n - 1, 0.1 * last), last),
            jac=lambda kicks: kicks,
            constraints=beyond,
            method="SLSQP",
            options={"maxiter": 500, "ftol": 1e-13},
        )
        if found.fun < best.value and excess(found.x, start, side) > -1e-9:
            best = EscapeAction(float(found.fun), found.x)
    return best
