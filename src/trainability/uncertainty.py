"""How the share of uncertain outcomes falls with distance: the uncertainty exponent, from maps and from fresh runs.

Two runs a distance ε apart end differently with a probability that falls like ε^α. The boundary of outcomes in
d dimensions then has dimension d - α (theory/30). Outcomes of a map are samples at points, so this curve has no
bias at the scale of the pixel, where box counts have their largest.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from ._checks import finite, increasing
from ._rng import stream
from .boundaries import outcome_codes

# Groups that a standard error leaves out one at a time. An outcome near a boundary shares its fate with its
# neighbours, so a map is cut into squares, this many a side.
BLOCKS = 8

# Groups of starts for the same purpose; these are independent.
GROUPS = 40

# Fewest changed pairs at the smallest offset that say anything of a slope: its error is then about 0.3 an octave.
FEWEST = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class UncertaintyExponent:
    """How the probability of unlike outcomes falls with distance.

    Attributes
    ----------
    value : float
        α in f(ε) ~ ε^α.
    stderr : float
        From leaving out one group of starts (one block of a map) at a time.
    offsets : ndarray, shape (k,)
        ε, in the unit of the starts; pixels for a map.
    fractions : ndarray, shape (k,)
        Share f of pairs whose outcomes differ.
    fraction_errors : ndarray, shape (k,)
    dimension : float
        Of the boundary: the dimension of the space less the exponent.
    n_pairs : int
        At each offset; the fewest.
    """

    value: float
    stderr: float
    offsets: np.ndarray
    fractions: np.ndarray
    fraction_errors: np.ndarray
    dimension: float
    n_pairs: int

    def __repr__(self) -> str:
        return f"α = {self.value:.3f} ± {self.stderr:.3f} (boundary of dimension {self.dimension:.3f})"


def uncertainty_exponent(
    label: Callable[[np.ndarray], np.ndarray], starts, offsets, *, seed: int = 0
) -> UncertaintyExponent:
    """Measure the uncertainty exponent by fresh runs: the outcome at each start and at each distance from it.

    Parameters
    ----------
    label : callable
        ``label(points) -> outcomes``: points (n, d) in, n labels out. Any rule will do: the basin that an orbit
        of a map ends in, the status of a training run.
    starts : array_like, shape (n, d)
        Spread evenly over the region asked about. At least 80.
    offsets : array_like, shape (k,)
        Distances ε, increasing, at least two; chosen far below the size of the region and above the rounding
        of the starts.
    seed : int, optional
        Of the directions, one for each start.

    Returns
    -------
    UncertaintyExponent

    Raises
    ------
    ValueError
        For too few starts, offsets that the starts' floats cannot resolve, or fewer than 20 pairs that end
        differently at the smallest offset (the error says how many starts would do).

    Notes
    -----
    The line through log f over log ε is fitted with equal weights; the standard error is a jackknife over 40 groups
    of starts, which knows that the offsets share them. The fit is only as good as the power law: look at
    `fractions`.

    References
    ----------
    Grebogi, McDonald, Ott and Yorke, Phys. Lett. A 99, 415 (1983); theory/30 (eq:uncertain).

    Examples
    --------
    >>> starts = np.random.default_rng(0).uniform(-1, 1, (20_000, 2))
    >>> disc = uncertainty_exponent(lambda x: np.hypot(*x.T) < 0.7, starts, [0.01, 0.02, 0.04])
    >>> bool(abs(disc.value - 1) < 3 * disc.stderr)
    True
    """
    starts = finite("starts", starts)
    if starts.ndim != 2 or len(starts) < 2 * GROUPS:
        raise ValueError(f"starts has shape {starts.shape}; it must be (n, d) with n at least {2 * GROUPS}")
    offsets = increasing("offsets", offsets)
    _check_offsets(offsets)
    n, d = starts.shape
    if offsets[0] < 16 * np.spacing(np.abs(starts).max()):
        raise ValueError(
            f"offsets: the smallest, {offsets[0]:.3g}, is within 16 ulp of starts as large as "
            f"{np.abs(starts).max():.3g}; use larger offsets"
        )
    direction = stream(seed, "directions").standard_normal((n, d))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    here = np.asarray(label(starts))
    if here.shape != (n,):
        raise ValueError(f"label gave shape {here.shape} for {n} points; it must give ({n},)")
    unlike = np.stack([np.asarray(label(starts + e * direction)) != here for e in offsets])
    groups = np.array_split(np.arange(n), GROUPS)
    changed = np.stack([unlike[:, g].sum(axis=1) for g in groups], axis=1).astype(float)  # (offset, group)
    if changed[0].sum() < FEWEST:
        need = int(FEWEST * n / max(changed[0].sum(), 1))
        raise ValueError(
            f"only {changed[0].sum():.0f} of {n} starts are uncertain at offset {offsets[0]:.3g}; "
            f"a slope needs {FEWEST}: take {need} starts or larger offsets"
        )
    pairs = np.broadcast_to([len(g) for g in groups], changed.shape)
    slope, stderr = jackknife(lambda c, p: fit_slope(offsets, c / p), changed, pairs)
    fractions = changed.sum(axis=1) / n
    return UncertaintyExponent(
        value=float(slope),
        stderr=float(stderr),
        offsets=offsets,
        fractions=fractions,
        fraction_errors=np.sqrt(fractions * (1 - fractions) / n),
        dimension=float(d - slope),
        n_pairs=n,
    )


def map_uncertainty(runs: Any, offsets) -> UncertaintyExponent:
    """Measure the uncertainty exponent of a stored map from pairs of its pixels, along the rougher axis.

    Parameters
    ----------
    runs
        As in `trainability.boundaries`.
    offsets : array_like of int, shape (k,)
        Distances in pixels, increasing.

    Returns
    -------
    UncertaintyExponent
        Of both axes together where they agree, of the rougher one where they do not: the boundary is as rough
        as in its roughest direction.

    Examples
    --------
    >>> x, y = np.indices((128, 128))
    >>> map_uncertainty(np.hypot(x - 64, y - 64) < 40, [1, 2, 4, 8])
    α = 1.027 ± 0.041 (boundary of dimension 0.973)
    """
    offsets = increasing("offsets", offsets)
    _check_offsets(offsets)
    changed, pairs = pair_changes(outcome_codes(runs), offsets)
    axis = rougher_axis(offsets, changed, pairs)
    changed, pairs = changed[axis].sum(axis=0), pairs[axis].sum(axis=0)
    if changed[0].sum() < FEWEST:
        raise ValueError(
            f"runs: only {changed[0].sum():.0f} pairs {offsets[0]:.0f} pixels apart differ and a slope needs {FEWEST}"
        )
    slope, stderr = jackknife(lambda c, p: fit_slope(offsets, c / p), changed, pairs)
    fractions = changed.sum(axis=1) / pairs.sum(axis=1)
    spread = jackknife(lambda c, p: c / p, changed, pairs)[1]
    return UncertaintyExponent(
        value=float(slope),
        stderr=float(stderr),
        offsets=offsets,
        fractions=fractions,
        fraction_errors=spread,
        dimension=float(2 - slope),
        n_pairs=int(pairs.sum(axis=1).min()),
    )


def pair_changes(outcome: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Count pairs of pixels along each axis, by offset and block: (changed, known), each (2, k, BLOCKS²).

    Parameters
    ----------
    outcome : ndarray of int, shape (h, w)
        From `outcome_codes`; a pair with an unknown pixel is not counted.
    offsets : ndarray, shape (k,)
        Whole numbers of pixels, below both sides.

    Examples
    --------
    >>> changed, known = pair_changes(np.array([[0, 0, 1], [0, 0, 1]], np.int16), np.array([1.0]))
    >>> changed.sum(axis=2).ravel(), known.sum(axis=2).ravel()
    (array([0., 2.]), array([3., 4.]))
    """
    steps = offsets.astype(np.int64)
    if (steps != offsets).any() or steps[0] < 1 or steps[-1] >= min(outcome.shape):
        raise ValueError(
            f"offsets {offsets} must be whole numbers of pixels from 1 to {min(outcome.shape) - 1}"
        )
    along = _count_changes(outcome, steps)
    across = _count_changes(np.ascontiguousarray(outcome.T), steps)
    return np.stack([across[0], along[0]]), np.stack([across[1], along[1]])


def rougher_axis(offsets: np.ndarray, changed: np.ndarray, pairs: np.ndarray) -> list[int]:
    """Axes to count along: both where their slopes agree within errors, else the one whose curve is flatter."""
    enough = [a for a in (0, 1) if changed[a, 0].sum() >= FEWEST]
    if len(enough) < 2:
        return enough or [0, 1]

    def slopes(c, p):
        return np.stack([fit_slope(offsets, c[a] / p[a]) for a in (0, 1)])

    (first, second), _ = jackknife(slopes, changed, pairs)
    error = jackknife(lambda c, p: np.subtract(*slopes(c, p)), changed, pairs)[1]
    if abs(first - second) <= 3 * error + _SAME_SLOPE:
        return [0, 1]
    return [0] if first < second else [1]


# Slopes of two axes nearer than this are one slope: half the largest bias allowed to an estimate of dimension.
_SAME_SLOPE = 0.03


def fit_slope(offsets: np.ndarray, fractions: np.ndarray) -> float:
    """Slope of the line through log fraction over log offset; infinite where a fraction is zero."""
    if not (fractions > 0).all():
        return np.inf
    x = np.log(offsets) - np.log(offsets).mean()
    return float(x @ np.log(fractions) / (x @ x))


def jackknife(statistic: Callable, changed: np.ndarray, pairs: np.ndarray) -> tuple[Any, Any]:
    """Return a statistic of counts and its standard error, leaving out one group (last axis) at a time.

    Groups in which nothing changes are left out together with none: they say nothing of a slope but keep the
    count of pairs.

    Examples
    --------
    >>> changed, pairs = np.array([[8.0, 12.0, 10.0]]), np.full((1, 3), 100.0)
    >>> value, error = jackknife(lambda c, p: c / p, changed, pairs)
    >>> value, error.round(4)
    (array([0.1]), array([0.0115]))
    """
    total, all_pairs = changed.sum(axis=-1), pairs.sum(axis=-1)
    value = statistic(total, all_pairs)
    groups = np.flatnonzero(changed.reshape(-1, changed.shape[-1]).any(axis=0))
    m = len(groups)
    if m < 2:
        return value, np.full(np.shape(value), np.inf)[()]
    left_out = np.stack([statistic(total - changed[..., g], all_pairs - pairs[..., g]) for g in groups])
    if not np.isfinite(left_out).all():
        return value, np.full(np.shape(value), np.inf)[()]
    return value, np.sqrt((m - 1) / m * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))


def _check_offsets(offsets: np.ndarray) -> None:
    if len(offsets) < 2 or offsets[0] <= 0:
        raise ValueError(f"offsets {offsets} must be at least two positive distances")


@njit(cache=True)
def _count_changes(outcome, steps):
    """Changed and known pairs along the rows, by offset and block of the first pixel."""
    h, w = outcome.shape
    changed = np.zeros((len(steps), BLOCKS * BLOCKS))
    known = np.zeros((len(steps), BLOCKS * BLOCKS))
    for band in range(BLOCKS):
        for i in range((band * h + BLOCKS - 1) // BLOCKS, ((band + 1) * h + BLOCKS - 1) // BLOCKS):
            row = outcome[i]
            for k in range(len(steps)):
                for block in range(BLOCKS):
                    start = (block * w + BLOCKS - 1) // BLOCKS
                    stop = min(((block + 1) * w + BLOCKS - 1) // BLOCKS, w - steps[k])
                    n, m = 0, 0
                    for j in range(start, stop):
                        a, b = row[j], row[j + steps[k]]
                        both = (a >= 0) & (b >= 0)
                        n += both
                        m += both & (a != b)
                    changed[k, band * BLOCKS + block] += m
                    known[k, band * BLOCKS + block] += n
    return changed, known
