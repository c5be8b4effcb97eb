"""Simulated orbits where no closed form is known: noisy balanced orbits, random batches, escapes.

A batch changes the map to a' = a - (κ_B ab - mu_B) b. On the slice a = b the exponents of the random
product are averages of scalars, E log|1 + mu_B - 3 κ_B x²| along and E log|1 - mu_B + κ_B x²| across.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.stats import binomtest

from ._checks import finite, positive
from ._rng import stream

# Orbits side by side, from whose spread the standard errors come, and steps before averaging begins.
_ORBITS, _TRANSIENT = 64, 2000
# Logarithms are taken of products of this many factors, which stay within (1e-160, 1e160).
_FACTORS = 8
# Plain double-precision orbits fall into cycles of floats after some 1e8 steps, which biases exponents by
# 1e-4; relative kicks of a few ulp, this often, remove both the cycles and the bias.
_KICK, _KICK_EVERY = 2e-15, 16
# |a| + |b| beyond which every batch of the classes here makes the orbit grow for ever.
_FAR = 1e6
# An error of this size is rounding: the run has converged, perhaps to a minimum that only a part of the
# batches contracts to, outside the SAFE zone.
_ZERO_ERROR = 1e-14


@dataclass(frozen=True, eq=False)
class SliceExponents:
    """Lyapunov exponents of the balanced slice by simulation, nats per iteration.

    Parameters
    ----------
    along, across : float
        Growth of perturbations along the slice, and of the imbalance a - b.
    extra : float
        Growth of weights outside the plane of the reduction, ⟨log|1 - ρ κ_B x²|⟩ for relative curvature ρ.
    along_stderr, across_stderr, extra_stderr : float
        Standard errors from the spread of independent orbits.
    n : int
        Iterations in all.
    """

    along: float
    across: float
    extra: float
    along_stderr: float
    across_stderr: float
    extra_stderr: float
    n: int

    def __repr__(self) -> str:
        return (
            f"SliceExponents(along={self.along:.6f} ± {self.along_stderr:.1e}, "
            f"across={self.across:.6f} ± {self.across_stderr:.1e}, "
            f"extra={self.extra:.6f} ± {self.extra_stderr:.1e}): {self.n:.3g} iterations"
        )


class SliceEscaped(RuntimeError):
    """Orbits left the slice's bounded part while its exponents were being averaged.

    Attributes
    ----------
    escapes, n : int
        Escapes so far and iterations so far, so that n / escapes estimates the mean time.
    """

    def __init__(self, escapes: int, n: int):
        super().__init__(
            f"{escapes} orbits escaped in {n} iterations, about one in {n / escapes:.3g}; the slice has no exponents "
            "at these parameters, ask `slice_escape_time`"
        )
        self.escapes, self.n = escapes, n


def slice_exponents(
    mu: float,
    *,
    curvatures=(1.0,),
    couplings=(1.0,),
    ratio: float = 1.0,
    n: int = 10_000_000,
    seed: int = 0,
) -> SliceExponents:
    """Lyapunov exponents of the balanced slice, under random batches or, by default, the full batch.

    Parameters
    ----------
    mu : float
        Full-batch effective step, positive.
    curvatures, couplings : array_like, shape (m,)
        κ_B and mu_B/mu of each batch, drawn with equal probability at every step (`batch_means`).
    ratio : float, optional
        ρ of the `extra` weight direction, as in `Reduction.transverse_ratios`, the same in every batch.
    n : int, optional
        Iterations averaged over, shared by 64 orbits.
    seed : int, optional

    Returns
    -------
    SliceExponents
        Of the map with relative noise 2e-15: exact decimal parameters may lie in windows too narrow for
        doubles, of which this takes the average.

    Notes
    -----
    On an attracting cycle the error is that of an incomplete turn, of order 64/n, which the standard error
    need not show; `balanced_cycle` is exact there.

    Raises
    ------
    SliceEscaped
        If an orbit escapes; `.escapes` and `.n` say how often.

    References
    ----------
    theory/06 (eq:slice-exponents).

    Examples
    --------
    >>> found = slice_exponents(1.2, n=100_000)
    >>> print(f"{found.along:.6f} {found.across:.6f}")
    -0.192831 -0.255413
    """
    mu, kappa, nu = _batches(mu, curvatures, couplings)
    steps = max(n // _ORBITS, 1)
    rng = stream(seed, "batches")
    x = np.sqrt(mu) * (0.5 + 0.5 * rng.random(_ORBITS))
    edge = np.sqrt((2 + nu.max() * mu) / kappa.min())
    ratio = float(positive("ratio", ratio))
    _, escapes, done = _slice_sums(x, kappa, nu * mu, ratio, _TRANSIENT, edge, rng)
    if not escapes:
        sums, escapes, done = _slice_sums(x, kappa, nu * mu, ratio, steps, edge, rng)
    if escapes:
        raise SliceEscaped(escapes, done)
    means = sums / steps
    errors = means.std(axis=1, ddof=1) / np.sqrt(_ORBITS)
    along, across, extra, *stderr = np.concatenate([means.mean(axis=1), errors]).tolist()
    return SliceExponents(along, across, extra, stderr[0], stderr[1], stderr[2], n=steps * _ORBITS)


def _batches(mu, curvatures, couplings):
    mu = float(positive("mu", mu))
    kappa, nu = positive("curvatures", curvatures), finite("couplings", couplings)
    if kappa.ndim != 1 or kappa.shape != nu.shape:
        raise ValueError(
            f"curvatures {kappa.shape} and couplings {nu.shape} must have one and the same length"
        )
    return mu, kappa, nu


@njit
def _slice_sums(x, kappa, mu, ratio, steps, edge, rng):
    """Advance the orbits `x` in place; sums of the three logarithms, number of escapes, iterations done.

    The transient stops at the first escape, so that an escaping slice costs nothing more.
    """
    lanes = x.shape[0]
    sums = np.zeros((3, lanes))
    along, across, extra = np.ones(lanes), np.ones(lanes), np.ones(lanes)
    for step in range(steps):
        escapes = 0
        for lane in range(lanes):
            batch = int(rng.random() * mu.shape[0]) if mu.shape[0] > 1 else 0
            k, m = kappa[batch], mu[batch]
            square = k * x[lane] * x[lane]
            along[lane] *= 1 + m - 3 * square
            across[lane] *= 1 - m + square
            extra[lane] *= 1 - ratio * square
            x[lane] *= 1 + m - square
            if not abs(x[lane]) <= edge:
                escapes += 1
        if escapes:
            return sums, escapes, (step + 1) * lanes
        if step % _FACTORS == _FACTORS - 1 or step == steps - 1:
            for lane in range(lanes):
                sums[0, lane] += np.log(abs(along[lane]))
                sums[1, lane] += np.log(abs(across[lane]))
                sums[2, lane] += np.log(abs(extra[lane]))
                along[lane] = across[lane] = extra[lane] = 1.0
        if step % _KICK_EVERY == 0:
            for lane in range(lanes):
                x[lane] *= 1 + _KICK * (2 * rng.random() - 1)
    return sums, 0, steps * lanes


@dataclass(frozen=True, eq=False)
class MeanTime:
    """Mean of simulated times, with its standard error and how many there were."""

    value: float
    stderr: float
    n: int

    def __repr__(self) -> str:
        return f"MeanTime({self.value:.4g} ± {self.stderr:.2g}): {self.n} escapes"


def slice_escape_time(
    mu: float, *, curvatures, couplings, n: int = 10_000, max_steps: int = 10_000_000, seed: int = 0
) -> MeanTime:
    """Mean number of steps before balanced orbits under random batches diverge.

    Parameters
    ----------
    mu : float
    curvatures, couplings : array_like, shape (m,)
        As in `slice_exponents`.
    n : int, optional
        Escapes awaited.
    max_steps : int, optional
        Limit for one escape.
    seed : int, optional

    Returns
    -------
    MeanTime
        From one escape to the next, each orbit starting near a minimum.

    Raises
    ------
    ValueError
        If an orbit does not escape within `max_steps`.

    References
    ----------
    theory/06 (eq:slice-exponents).

    Examples
    --------
    >>> time = slice_escape_time(1.6, curvatures=[0.8, 1.2], couplings=[0.7, 1.3], n=2000)
    >>> 1 < time.value < 100
    True
    """
    mu, kappa, nu = _batches(mu, curvatures, couplings)
    edge = np.sqrt((2 + nu.max() * mu) / kappa.min())
    times = _escape_times(np.sqrt(mu), kappa, nu * mu, edge, n, max_steps, stream(seed, "batches"))
    if (times < 0).any():
        raise ValueError(
            f"an orbit at mu={mu} stayed bounded for max_steps={max_steps}; the slice may not escape there"
        )
    return MeanTime(float(times.mean()), float(times.std(ddof=1) / np.sqrt(n)), n)


@njit
def _escape_times(centre, kappa, mu, edge, n, max_steps, rng):
    times = np.full(n, -1)
    for i in range(n):
        x = centre * (0.5 + 0.5 * rng.random())
        for step in range(1, max_steps + 1):
            batch = int(rng.random() * mu.shape[0])
            x *= 1 + mu[batch] - kappa[batch] * x * x
            if not abs(x) <= edge:
                times[i] = step
                break
        if times[i] < 0:
            break
    return times


@dataclass(frozen=True, eq=False)
class Probability:
    """A simulated probability with its 95 % interval (Wilson)."""

    value: float
    interval: tuple[float, float]
    n: int

    def __repr__(self) -> str:
        low, high = self.interval
        return f"Probability({self.value:.4f}, 95 % in [{low:.4f}, {high:.4f}]): {self.n} runs"

    @property
    def stderr(self) -> float:
        """Binomial standard error."""
        return float(np.sqrt(self.value * (1 - self.value) / self.n))


def divergence_probability(
    mu: float, a: float, b: float, *, curvatures, n: int = 100_000, max_steps: int = 10_000, seed: int = 0
) -> Probability:
    """Probability that random batches of interpolating data make a start diverge.

    Between the zones SAFE and LOST the order of batches decides: it carries iterates across the full
    batch's ellipse in both directions.

    Parameters
    ----------
    mu, a, b : float
        Of the full batch.
    curvatures : array_like, shape (m,)
        κ_B of each batch, drawn with equal probability at every step.
    n : int, optional
        Runs.
    max_steps : int, optional
        Runs end earlier: in the SAFE or the LOST zone of the batches, or on zero loss.
    seed : int, optional

    Raises
    ------
    ValueError
        If a run is still between the zones after `max_steps`.

    References
    ----------
    theory/06 (eq:zones).

    Examples
    --------
    >>> from trainability.minibatch import batch_means
    >>> squares = np.array([0.6, 0.8, 1.0, 1.2]) ** 2
    >>> curvatures = batch_means(squares / squares.mean(), batch_size=2)
    >>> probability = divergence_probability(0.6, 1.9, 0.9, curvatures=curvatures, n=20_000)
    >>> abs(probability.value - 0.325) < 0.02
    True
    """
    mu, kappa, _ = _batches(mu, curvatures, np.ones(np.shape(curvatures)))
    if not kappa.max() * mu < 2:
        raise ValueError(
            f"mu={mu} with curvatures up to {kappa.max():.6g}: no zone is safe; needs curvature · mu < 2"
        )
    a, b = float(finite("a", a)), float(finite("b", b))
    diverged, undecided = _grey_runs(a, b, mu, kappa, n, max_steps, stream(seed, "batches"))
    if undecided:
        raise ValueError(f"{undecided} of {n} runs are undecided after max_steps={max_steps}; raise it")
    interval = binomtest(diverged, n).proportion_ci(method="wilson")
    return Probability(diverged / n, (float(interval.low), float(interval.high)), n)


@njit
def _grey_runs(a0, b0, mu, kappa, n, max_steps, rng):
    """Numbers of runs that diverged and that stayed between the zones."""
    least, greatest = kappa.min(), kappa.max()
    diverged, undecided = 0, 0
    for _ in range(n):
        a, b = a0, b0
        decided = False
        for _ in range(max_steps):
            e, P = a * b - mu, a * a + b * b
            if greatest * P - greatest * greatest * mu * e < 4 or abs(e) < _ZERO_ERROR:  # bounded for ever
                decided = True
                break
            if least * P - least * least * mu * e > 4 or not P < _FAR:  # lost, whatever follows
                diverged += 1
                decided = True
                break
            r = kappa[int(rng.random() * kappa.shape[0])] * e
            a, b = a - r * b, b - r * a
        if not decided:
            undecided += 1
    return diverged, undecided
