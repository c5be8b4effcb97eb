"""Is this boundary fractal? One dimension with a calibrated interval, its evidence, and a verdict with its reason."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .boundaries import outcome_codes
from .uncertainty import FEWEST, fit_slope, jackknife, pair_changes, rougher_axis

# Offsets between pixels in half octaves, up to this share of the shorter side: beyond, the frame and the largest
# features bend the curve (theory/30).
_FARTHEST = 32

# Smallest side of a map, and the range of offsets that is the least to call a line a line: three octaves.
LEAST_SIDE, _LEAST_RANGE = 64, 8

# Offsets up to here are the finest scale.
_FINE = 4

# Dimensions of the finer and the coarser half of the range that differ by more are no single power law. Sets of
# known dimension differ by 0.1 at most (theory/30).
_BENT = 0.12

# Dimension from which pixels are as unlike as if drawn one by one. Sets of dimension 1.9 read 1.89 ± 0.02 at the
# finest scale and 1.90 ± 0.01 over the whole range; noise reads 2.00, less only where its band ends.
_NOISE = 1.96

# A finest scale this much rougher than the coarsest is how independent noise of a few pixels begins.
_ONSET = 0.2

# Dimension up to which a boundary counts as smooth, and up to which its finest scale may read: twice the
# deviation of circles and lines.
_SMOOTH, _SMOOTH_FINE = 1.03, 1.08

# What remains of the bias, in units of dimension: that of the carpet, whose local slopes waver with the period of
# its construction and give no drift to correct. With it 95 % intervals cover at the stated rate for each set in
# the calibration table.
_REMAINING_BIAS = 0.02

# Share of unknown pixels above which nothing is concluded.
UNKNOWN_LIMIT = 0.05

# Flip rate between replicates, as a share of the rate between neighbours, from which noise makes the boundary
# (independent draws: 1), and below which it leaves it alone.
_NOISY_FLIPS, _FEW_FLIPS = 0.5, 0.1

# Units in the last place between neighbouring pixels below which rounding may draw the boundary.
_FEWEST_ULP = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class FractalDimension:
    """Dimension of a boundary, and whether to believe it.

    Attributes
    ----------
    verdict : str
        "fractal", "smooth", "noise", "unresolved" or "not applicable".
    reason : str
        One sentence.
    value : float
        Dimension from the uncertainty exponent, `fitted` carried half way to the pixel by `drift`; NaN where there
        is nothing to measure.
    interval : tuple of float
        95 %, calibrated on sets of known dimension (theory/30). Meaningless under the verdict "noise".
    offsets : ndarray, shape (k,)
        Distances between pixels, in pixels.
    fractions : ndarray, shape (k,)
        Share of pairs so far apart whose outcomes differ; it grows like offset^(2 - dimension).
    fit_range : tuple of int
        Slice of `offsets` that the value comes from.
    stderr : float
        Of the value, from where in the picture it was measured; a part of the interval.
    fitted, fitted_stderr : float
        Of the straight line over the range, as noise is judged by: it scatters less, and noise has no drift.
    finest, finest_stderr : float
        Dimension over offsets up to 4 pixels: 2 for noise.
    linearity : float
        Largest deviation of log fraction from the line, nats.
    coarsest : float
        Dimension over the coarser half of all offsets, in the fitted range or not.
    drift : float
        Dimension over the finer half of the range less that over the coarser one: what resolution changes.
    flip_rate : float
        Share of pixels that a replicate labels otherwise, NaN without one. `neighbour_rate` to compare.
    neighbour_rate : float
        Share of neighbouring pixels that differ.
    ulp : float
        Units in the last place between neighbouring pixels in the trainer's dtype, the least; NaN if unknown.
    unknown : float
        Share of pixels without an outcome.
    """

    verdict: str
    reason: str
    value: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)
    offsets: np.ndarray = field(default_factory=lambda: np.empty(0))
    fractions: np.ndarray = field(default_factory=lambda: np.empty(0))
    fit_range: tuple[int, int] = (0, 0)
    stderr: float = np.nan
    fitted: float = np.nan
    fitted_stderr: float = np.nan
    finest: float = np.nan
    finest_stderr: float = np.nan
    coarsest: float = np.nan
    linearity: float = np.nan
    drift: float = np.nan
    flip_rate: float = np.nan
    neighbour_rate: float = np.nan
    ulp: float = np.nan
    unknown: float = 0.0

    def __repr__(self) -> str:
        if np.isnan(self.value):
            return f"{self.verdict}: {self.reason}"
        low, high = self.interval
        return f"{self.verdict}, dimension {self.value:.3f} (95 % interval {low:.3f} to {high:.3f}): {self.reason}"


def fractal_dimension(runs: Any, *, replicate: Any = None, offsets=None) -> FractalDimension:
    """Measure the dimension of the boundary on a map or a labelled picture, and say whether it is fractal.

    Parameters
    ----------
    runs
        As in `trainability.boundaries`: a trainability map, a labelled picture, a colour picture.
    replicate : optional
        The same map trained again with what should not matter changed: another order of summation, another
        data order. Tells noise from structure finer than the pixel.
    offsets : array_like of int, optional
        Distances between pixels to compare at. By default 1, 2, 3, 4, 6, 8, 11, … up to 1/32 of the shorter
        side, at least 8; the range used is the longest from the finest on that is one power law.

    Returns
    -------
    FractalDimension

    Raises
    ------
    ValueError
        If a side is below 64 pixels, or the replicate has another shape.

    Notes
    -----
    Taken in this order. One outcome only: not applicable. Above 5 % unknown pixels, below 8 ulp between pixels,
    or under 20 neighbours that differ: unresolved. A replicate that flips pixels half as often as neighbours
    differ, or a finest-scale dimension that reaches 1.96 within two standard errors, the whole range either
    agreeing or bending down: noise; with a replicate that flips less often, that is unresolved: structure finer
    than the pixel. Finest scale within 0.08 of 1, and the interval reaching 1.03: smooth. A dimension that rises by
    0.2 towards the pixel (without a replicate that says otherwise), no power law over three octaves, or flips
    in between: unresolved. The rest is fractal.

    A boundary of dimension below about 1.1 cannot be told from a smooth one at 1000 pixels. Error rates are
    in theory/30.

    References
    ----------
    Grebogi et al., Phys. Lett. A 99, 415 (1983); theory/30 (eq:uncertain), (eq:interval).

    Examples
    --------
    >>> x, y = np.indices((256, 256))
    >>> fractal_dimension(np.hypot(x - 120, y - 130) < 80)
    smooth, dimension 0.993 (95 % interval 0.945 to 1.040): the curve is that of a smooth line at the finest scale
    >>> fractal_dimension(np.zeros((256, 256)))
    not applicable: there is one outcome only, so no boundary
    """
    outcome = outcome_codes(runs)
    if min(outcome.shape) < LEAST_SIDE:
        raise ValueError(
            f"runs has shape {outcome.shape}; a dimension needs at least {LEAST_SIDE} pixels each way"
        )
    if offsets is None:
        offsets = _default_offsets(min(outcome.shape))
    offsets = np.asarray(offsets, dtype=float)
    if offsets.ndim != 1 or len(offsets) < 4 or offsets[1] > _FINE:
        raise ValueError(f"offsets {offsets} must be at least four, two of them up to {_FINE} pixels")
    other = None if replicate is None else _matching_codes(runs, replicate, outcome)

    unknown, ulp = float((outcome < 0).mean()), _least_ulp(runs)
    if len(np.unique(outcome[outcome >= 0])) < 2:
        if unknown == 1:
            return FractalDimension(
                verdict="unresolved", reason="no pixel is known", unknown=unknown, ulp=ulp
            )
        return FractalDimension(
            verdict="not applicable",
            reason="there is one outcome only, so no boundary",
            unknown=unknown,
            ulp=ulp,
        )
    changed, pairs = pair_changes(outcome, offsets)
    axis = rougher_axis(offsets, changed, pairs)
    changed, pairs = changed[axis].sum(axis=0), pairs[axis].sum(axis=0)  # (offset, block)
    evidence: dict[str, Any] = {"unknown": unknown, "ulp": ulp, "offsets": offsets}
    if not (pairs.sum(axis=1) > 0).all() or (few := changed[0].sum()) < FEWEST:
        few = changed[0].sum()
        return FractalDimension(
            verdict="unresolved",
            reason=f"only {few:.0f} pairs of neighbours differ and a slope needs {FEWEST}",
            **evidence,
        )
    evidence |= _measure(offsets, changed, pairs)
    if other is not None:
        both = (outcome >= 0) & (other >= 0)
        evidence["flip_rate"] = float((outcome != other)[both].mean()) if both.any() else np.nan
    verdict, reason = _judge(**evidence)
    return FractalDimension(verdict=verdict, reason=reason, **evidence)


def _measure(offsets: np.ndarray, changed: np.ndarray, pairs: np.ndarray) -> dict[str, Any]:
    """Value, interval and diagnostics from counts of shape (offset, block)."""

    def dimension(start: int, stop: int):
        cut = slice(start, stop)
        return jackknife(lambda c, p: 2 - fit_slope(offsets[cut], c[cut] / p[cut]), changed, pairs)

    def corrected(stop: int):
        """Dimension with half the drift added, and the drift: that of the finer half less that of the coarser."""
        middle = np.searchsorted(offsets, np.sqrt(offsets[0] * offsets[stop - 1]), side="right")
        finer = slice(0, min(max(middle, 2), stop - 2))
        coarser = slice(finer.stop - 1, stop)

        def both(c, p):
            f = c / p
            drift = fit_slope(offsets[coarser], f[coarser]) - fit_slope(offsets[finer], f[finer])
            return np.array([2 - fit_slope(offsets[:stop], f[:stop]) + drift / 2, drift])

        return jackknife(both, changed, pairs)

    fractions = changed.sum(axis=1) / pairs.sum(axis=1)
    finest, finest_stderr = dimension(0, max(2, int((offsets <= _FINE).sum())))

    # From the finest scale on, as far as finer and coarser halves agree.
    for stop in range(len(offsets), 3, -1):
        (value, drift), (stderr, drift_stderr) = corrected(stop)
        if abs(drift) <= _BENT + 2 * drift_stderr:
            break
    fitted, fitted_stderr = dimension(0, stop)
    x, y = np.log(offsets[:stop]), np.log(fractions[:stop])
    line = y.mean() + (2 - fitted) * (x - x.mean())
    half = 2 * np.sqrt(stderr**2 + (drift / 2) ** 2 + _REMAINING_BIAS**2)
    return {
        "fractions": fractions,
        "fit_range": (0, stop),
        "value": float(value),
        "interval": (float(value - half), float(value + half)),
        "stderr": float(stderr),
        "fitted": float(fitted),
        "fitted_stderr": float(fitted_stderr),
        "finest": float(finest),
        "finest_stderr": float(finest_stderr),
        "coarsest": 2 - fit_slope(offsets[len(offsets) // 2 :], fractions[len(offsets) // 2 :]),
        "linearity": float(np.abs(y - line).max()),
        "drift": float(drift),
        "neighbour_rate": float(fractions[0]),
    }


def _judge(
    *, interval, fitted, fitted_stderr, finest, finest_stderr, coarsest, offsets, fit_range, neighbour_rate, unknown,
    ulp, flip_rate=np.nan, **_,
) -> tuple[str, str]:  # fmt: skip
    """Verdict and reason from the evidence; the order is told in `fractal_dimension`."""
    if unknown > UNKNOWN_LIMIT:
        return "unresolved", f"{unknown:.0%} of the pixels are unknown and {UNKNOWN_LIMIT:.0%} is the limit"
    if ulp < _FEWEST_ULP:
        return "unresolved", f"neighbouring pixels are {ulp:.0f} ulp apart, so rounding may draw the boundary"
    flips = flip_rate / neighbour_rate
    if flips >= _NOISY_FLIPS:
        return "noise", (
            f"a replicate flips {flip_rate:.2%} of the pixels, {flips:.1f} times as many as differ from a neighbour"
        )
    bent = finest - coarsest > _BENT
    if finest + 2 * finest_stderr >= _NOISE and (fitted + 2 * fitted_stderr >= _NOISE or bent):
        text = (
            f"neighbours are as unlike as pixels {_FINE} apart (dimension {finest:.2f} at the finest scale)"
        )
        if flips < _NOISY_FLIPS:  # not without a replicate
            return "unresolved", text + (
                f"; a replicate flips {flips:.0%} as many pixels: the rest is structure finer than the pixel"
            )
        return "noise", text
    if (
        interval[0] <= _SMOOTH
        and finest <= _SMOOTH_FINE + 2 * finest_stderr
        and finest_stderr < _SMOOTH_FINE - 1
    ):
        return "smooth", "the curve is that of a smooth line at the finest scale"
    if finest - coarsest > _ONSET and not flips <= _FEW_FLIPS:
        text = f"the dimension rises from {coarsest:.2f} to {finest:.2f} towards the pixel, as where noise begins"
        if np.isnan(flips):
            return "unresolved", text + "; a replicate would tell"
        return (
            "unresolved",
            text + f"; a replicate flips {flips:.0%} as many pixels as differ from a neighbour",
        )
    span = offsets[fit_range[1] - 1] / offsets[0]
    if span < _LEAST_RANGE:
        return (
            "unresolved",
            f"no power law from the pixel on holds over a factor of {_LEAST_RANGE}, only of {span:.0f}",
        )
    if flips > _FEW_FLIPS:
        return "unresolved", (
            f"a replicate flips {flip_rate:.2%} of the pixels, {flips:.1f} times as many as differ from a neighbour"
        )
    if interval[0] <= _SMOOTH:
        return "unresolved", "the interval reaches 1, but the finest scale is rougher than a smooth line"
    return (
        "fractal",
        f"one power law holds down to the pixel over a factor of {span:.0f}, and is not that of a line",
    )


def _default_offsets(side: int) -> np.ndarray:
    most = max(_LEAST_RANGE, side // _FARTHEST)
    return np.unique(np.rint(2 ** (np.arange(0, 2 * np.log2(most) + 1e-9) / 2)))


def _matching_codes(runs: Any, replicate: Any, outcome: np.ndarray) -> np.ndarray:
    """Codes of the replicate, numbered as those of the map."""
    other = outcome_codes(replicate)
    if other.shape != outcome.shape:
        raise ValueError(f"replicate has shape {other.shape}; the map has {outcome.shape}")
    values, others = (np.asarray(r["status"] if hasattr(r, "data_vars") else r) for r in (runs, replicate))
    if values.ndim != 2 or others.ndim != 2:
        raise ValueError("replicate: colour pictures have no replicates; pass labels")
    numbered = {values[outcome == code][0]: code for code in range(outcome.max() + 1)}
    matched = np.full(other.shape, -1, np.int16)
    for code in range(other.max() + 1):
        matched[other == code] = numbered.get(others[other == code][0], outcome.max() + 1 + code)
    return matched


def _least_ulp(runs: Any) -> float:
    """Least distance of neighbouring pixels in units in the last place of the trainer's dtype; NaN if unknown."""
    dtype = getattr(runs, "attrs", {}).get("dtype")
    if dtype not in ("float16", "float32", "float64") or not hasattr(runs, "coords"):
        return np.nan
    apart = [np.inf]
    for dim in runs["status"].dims if hasattr(runs, "data_vars") else runs.dims:
        if dim in runs.coords:
            values = np.asarray(runs[dim]).astype(dtype)
            size = np.maximum(np.abs(values[1:]), np.abs(values[:-1]))
            apart.append(float((np.abs(np.diff(values)) / np.spacing(size)).min()))
    return min(apart) if len(apart) > 1 else np.nan
