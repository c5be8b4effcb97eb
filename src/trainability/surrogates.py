"""Maps with the structure of a boundary taken out, and tests of whether it was there."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from ._checks import finite
from ._rng import stream
from .boundaries import outcome_codes
from .uncertainty import fit_slope, pair_changes, rougher_axis

# Offsets of the statistic: the finest scale, where noise and structure differ most.
_OFFSETS = np.array([1.0, 2.0, 3.0, 4.0])

KINDS = ("shuffle", "local", "phases")


@dataclass(frozen=True, kw_only=True, eq=False)
class SurrogateTest:
    """A map beside maps without its structure.

    Attributes
    ----------
    p_value : float
        Chance of a surrogate at least as far out, (1 + number) / (1 + draws); one-sided for "shuffle" and
        "local" (is the map smoother than its noise?), two-sided for "phases".
    value : float
        Finest-scale dimension of the map.
    surrogates : ndarray, shape (draws,)
        That of each surrogate.
    kind : str
    """

    p_value: float
    value: float
    surrogates: np.ndarray
    kind: str

    def __repr__(self) -> str:
        mean, spread, n = self.surrogates.mean(), self.surrogates.std(), len(self.surrogates)
        return (
            f"p = {self.p_value:.3g}: finest-scale dimension {self.value:.3f} against {mean:.3f} ± {spread:.3f} "
            f"of {n} surrogates ({self.kind})"
        )


def surrogate(runs: Any, *, kind: str, seed: int, width: float = 8.0) -> np.ndarray:
    """Draw one surrogate of a map: its coarse features kept, one kind of structure removed.

    Parameters
    ----------
    runs
        As in `trainability.boundaries`; for "phases" a score, shape (h, w), finite, whose sign is the label.
    kind : str
        "shuffle": the known pixels in random order; keeps how many have each outcome. "local": independent
        draws with the map's own outcome probabilities around each pixel (a normal window of `width` pixels); keeps
        a smooth front and makes its neighbourhood noise. "phases": the score with its Fourier phases drawn
        anew and its values put back by rank; keeps spectrum, values and share of each sign, and takes away
        all that aligns them.
    seed : int
    width : float, optional
        Pixels; for "local".

    Returns
    -------
    ndarray, shape (h, w)
        Outcome codes, int16, -1 where unknown; for "phases" bool, score > 0.

    References
    ----------
    Theiler et al., Physica D 58, 77 (1992); Schreiber and Schmitz, Phys. Rev. Lett. 77, 635 (1996).

    Examples
    --------
    >>> labels = np.indices((64, 64))[0] < 20
    >>> bool(surrogate(labels, kind="shuffle", seed=0).sum() == labels.sum())
    True
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} is unknown; known are {', '.join(KINDS)}")
    rng = stream(seed, f"surrogate {kind}")
    if kind == "phases":
        return _redraw_phases(finite("runs", np.asarray(runs)), rng) > 0
    outcome = outcome_codes(runs)
    known = outcome >= 0
    if kind == "shuffle":
        drawn = outcome.copy()
        drawn[known] = rng.permutation(outcome[known])
        return drawn
    if not width > 0:
        raise ValueError(f"width={width} must be positive")
    weight = np.maximum(ndimage.gaussian_filter(known.astype(float), width), 1e-12)
    cut, drawn = rng.random(outcome.shape), np.zeros(outcome.shape, np.int16)
    below = np.zeros(outcome.shape)
    for code in range(outcome.max()):
        below += ndimage.gaussian_filter((outcome == code).astype(float), width) / weight
        drawn += cut >= below
    return np.where(known, drawn, -1).astype(np.int16)


def surrogate_test(
    runs: Any, *, kind: str = "local", draws: int = 39, seed: int = 0, width: float = 8.0
) -> SurrogateTest:
    """Ask whether the finest scale of a map could be that of its surrogates.

    Parameters
    ----------
    runs, kind, width
        As in `surrogate`.
    draws : int, optional
        39 resolve p = 0.025.
    seed : int, optional

    Returns
    -------
    SurrogateTest

    Raises
    ------
    ValueError
        If no neighbouring pixels of the map differ.

    Examples
    --------
    >>> x, y = np.indices((128, 128))
    >>> surrogate_test(np.hypot(x - 60, y - 60) < 40, kind="shuffle", draws=19).p_value
    0.05
    """
    if draws < 1:
        raise ValueError(f"draws={draws} must be at least 1")
    labels = np.asarray(runs) > 0 if kind == "phases" else runs
    value = _finest(outcome_codes(labels))
    if not np.isfinite(value):
        raise ValueError("runs: no neighbouring pixels differ, so there is no boundary to test")
    found = np.array(
        [
            _finest(outcome_codes(_unknown_as_nan(surrogate(runs, kind=kind, seed=seed + i, width=width))))
            for i in range(draws)
        ]
    )
    below, above = int((found <= value).sum()), int((found >= value).sum())
    p = (1 + below) / (1 + draws)
    if kind == "phases":
        p = min(1.0, 2 * (1 + min(below, above)) / (1 + draws))
    return SurrogateTest(p_value=p, value=value, surrogates=found, kind=kind)


def _unknown_as_nan(outcome: np.ndarray) -> np.ndarray:
    return np.where(outcome < 0, np.nan, outcome) if outcome.dtype != bool else outcome


def _finest(outcome: np.ndarray) -> float:
    """Dimension over offsets up to 4 pixels; minus infinity without a boundary."""
    changed, pairs = pair_changes(outcome, _OFFSETS)
    axis = rougher_axis(_OFFSETS, changed, pairs)
    shares = changed[axis].sum(axis=(0, 2)) / pairs[axis].sum(axis=(0, 2))
    return 2 - fit_slope(_OFFSETS, shares)


def _redraw_phases(score: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if score.ndim != 2:
        raise ValueError(f"runs has shape {score.shape}; a score has two dimensions")
    # The phases of the transform of real noise have the symmetry that keeps the result real.
    spectrum = np.abs(np.fft.rfft2(score - score.mean()))
    noise = np.fft.rfft2(rng.standard_normal(score.shape))
    field = np.fft.irfft2(spectrum * noise / np.abs(noise), score.shape)
    ranked = np.empty(score.size)
    ranked[np.argsort(field, axis=None)] = np.sort(score, axis=None)
    return ranked.reshape(score.shape)
