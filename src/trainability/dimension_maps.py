"""Where on a map the boundary is rough: dimension by window, and dimension joined over zooms."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .boundaries import outcome_codes
from .uncertainty import BLOCKS, FEWEST, fit_slope, jackknife, pair_changes, rougher_axis

# Offsets inside a window go up to this share of its side.
_SHARE = 8


def local_dimension(runs: Any, *, window: int = 64):
    """Measure the dimension of the boundary in windows over the plane.

    Parameters
    ----------
    runs
        As in `trainability.boundaries`.
    window : int, optional
        Side of a window in pixels, at least 32; windows overlap by half.

    Returns
    -------
    Dataset, dims those of the map (or "row", "column")
        Coordinates are the middles of windows. `dimension` and `stderr` (leaving out an eighth by an eighth of the
        window at a time), NaN where fewer than 20 pairs of neighbours differ; `pairs`, how many do.

    Raises
    ------
    ValueError
        If a window is below 32 pixels or does not fit into the map.

    Notes
    -----
    Offsets from 1 to an eighth of the window. The value of one window scatters by about 0.05 at 64 pixels; there is
    no calibrated interval at this size.

    Examples
    --------
    >>> x, y = np.indices((128, 128))
    >>> local = local_dimension(x + 0.5 * y < 100)
    >>> local["dimension"].shape, round(local["dimension"].median().item(), 1)
    ((3, 3), 1.0)
    """
    import xarray as xr

    outcome = outcome_codes(runs)
    if window < 32 or window > min(outcome.shape):
        raise ValueError(
            f"window={window} must be between 32 and {min(outcome.shape)}, the map's shorter side"
        )
    offsets = np.unique(np.rint(2 ** (np.arange(0, 2 * np.log2(window / _SHARE) + 1e-9) / 2)))
    starts = [np.arange(0, n - window + 1, window // 2) for n in outcome.shape]
    shape = tuple(len(s) for s in starts)
    dimension, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
    pairs = np.zeros(shape, int)
    for i, j in np.ndindex(shape):
        top, left = starts[0][i], starts[1][j]
        piece = np.ascontiguousarray(outcome[top : top + window, left : left + window])
        changed, known = pair_changes(piece, offsets)
        axis = rougher_axis(offsets, changed, known)
        changed, known = changed[axis].sum(axis=0), known[axis].sum(axis=0)
        pairs[i, j] = changed[0].sum()
        if pairs[i, j] >= FEWEST and (known.sum(axis=1) > 0).all():
            slope, error = jackknife(lambda c, p: fit_slope(offsets, c / p), changed, known)
            if np.isfinite(error):
                dimension[i, j], stderr[i, j] = 2 - slope, error

    status = runs["status"] if hasattr(runs, "data_vars") else runs
    dims = getattr(status, "dims", ("row", "column"))
    coords = {}
    for side, (dim, start) in zip(outcome.shape, zip(dims, starts, strict=True), strict=True):
        middle, attrs = start + (window - 1) / 2, {}
        if dim in getattr(status, "coords", {}):
            values, attrs = status[dim].values.astype(float), dict(status[dim].attrs)
            logarithmic = attrs.get("scale") == "log"
            at = np.interp(middle, np.arange(side), np.log(values) if logarithmic else values)
            middle = np.exp(at) if logarithmic else at
        coords[dim] = (dim, middle, attrs)
    return xr.Dataset(
        {
            "dimension": (dims, dimension, {"long_name": "dimension of the boundary"}),
            "stderr": (dims, stderr),
            "pairs": (dims, pairs, {"long_name": "neighbouring pixels that differ"}),
        },
        coords=coords,
        attrs={"window": window, "blocks": BLOCKS**2},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedDimension:
    """One dimension over the scales of several maps.

    Attributes
    ----------
    value, stderr : float
        Weighted mean over maps. The error grows with their disagreement.
    offsets : ndarray, shape (k,)
        Distance between pixels over all maps, in the unit of the axis (decades on a logarithmic one), ascending.
    fractions : ndarray, shape (k,)
        Share of pairs that differ, each map's curve shifted to lie on the line: a zoom sees more of the boundary.
    level : ndarray of int, shape (k,)
        Which map a point is from.
    dimensions, stderrs : ndarray, shape (maps,)
        Of each map alone.
    chi2 : float
        Sum of squared deviations of the maps from the value, in their standard errors; about maps - 1 if
        they agree.
    """

    value: float
    stderr: float
    offsets: np.ndarray
    fractions: np.ndarray
    level: np.ndarray
    dimensions: np.ndarray
    stderrs: np.ndarray
    chi2: float

    def __repr__(self) -> str:
        decades, n = np.log10(self.offsets[-1] / self.offsets[0]), len(self.dimensions)
        return f"dimension {self.value:.3f} ± {self.stderr:.3f} over {decades:.1f} decades, {n} maps"


def join_zooms(maps: Sequence[Any]) -> JoinedDimension:
    """Join the scaling of the boundary on a sequence of zooms into one curve over all their scales.

    Parameters
    ----------
    maps : sequence of Dataset
        Trainability maps over the same two hyperparameters, in any order, each with even pixels.

    Returns
    -------
    JoinedDimension

    Raises
    ------
    ValueError
        For fewer than two maps, other dims, uneven pixels, or a map with fewer than 20 neighbours that differ.

    Notes
    -----
    Each map counts pairs from 1 pixel to a thirty-second of its side. Zooms are usually centred on
    the boundary, hence not a fair sample of it: the joined value is that along the zoom.

    Examples
    --------
    >>> import xarray as xr
    >>> def half_plane(width):
    ...     at = width * (np.arange(256) / 256 - 0.5)
    ...     return xr.Dataset({"status": (("x", "y"), at[:, None] < 0.3 * at)}, coords={"x": at, "y": at})
    >>> join_zooms([half_plane(1.0), half_plane(0.01)])
    dimension 0.991 ± 0.028 over 2.9 decades, 2 maps
    """
    if len(maps) < 2:
        raise ValueError(f"maps holds {len(maps)} map; a joined curve needs at least 2")
    dims = maps[0]["status"].dims
    curves = []
    for i, runs in enumerate(maps):
        if runs["status"].dims != dims:
            raise ValueError(f"maps[{i}] has dims {runs['status'].dims}; the first has {dims}")
        outcome = outcome_codes(runs)
        most = max(8, min(outcome.shape) // 32)
        if min(outcome.shape) < 2 * most:
            raise ValueError(
                f"maps[{i}] has shape {outcome.shape}; it needs at least {2 * most} pixels each way"
            )
        offsets = np.unique(np.rint(2 ** (np.arange(0, 2 * np.log2(most) + 1e-9) / 2)))
        changed, known = pair_changes(outcome, offsets)
        axis = rougher_axis(offsets, changed, known)
        changed, known = changed[axis].sum(axis=0), known[axis].sum(axis=0)
        if changed[0].sum() < FEWEST:
            raise ValueError(f"maps[{i}]: {changed[0].sum():.0f} neighbours differ and {FEWEST} are needed")
        slope, error = jackknife(lambda c, p, x=offsets: fit_slope(x, c / p), changed, known)
        unit = float(np.sqrt(np.prod([_pixel(runs, dims[a], i) for a in axis]) ** (2 / len(axis))))
        curves.append((offsets * unit, changed.sum(axis=1) / known.sum(axis=1), slope, error))
    slopes, errors = np.array([(c[2], max(c[3], 1e-6)) for c in curves]).T
    weight = errors**-2 / (errors**-2).sum()
    slope = float(weight @ slopes)
    chi2 = float((((slopes - slope) / errors) ** 2).sum())
    disagreement = max(1.0, chi2 / (len(maps) - 1))
    # Shift each curve onto the line of slope `slope` that passes through the coarsest map's curve.
    heights = [np.mean(np.log(f) - slope * np.log(x)) for x, f, *_ in curves]
    base = heights[int(np.argmax([x[0] for x, *_ in curves]))]
    x = np.concatenate([c[0] for c in curves])
    y = np.concatenate([c[1] * np.exp(base - h) for c, h in zip(curves, heights, strict=True)])
    level = np.concatenate([np.full(len(c[0]), i) for i, c in enumerate(curves)])
    order = np.argsort(x, kind="stable")
    return JoinedDimension(
        value=2 - slope,
        stderr=float(np.sqrt(disagreement / (errors**-2).sum())),
        offsets=x[order],
        fractions=y[order],
        level=level[order],
        dimensions=2 - slopes,
        stderrs=errors,
        chi2=chi2,
    )


def _pixel(runs: Any, dim: str, i: int) -> float:
    """Width of a pixel along an axis; decades on a logarithmic one."""
    values = np.asarray(runs[dim], dtype=float)
    values = np.log10(values) if runs[dim].attrs.get("scale") == "log" else values
    steps = np.diff(values)
    # Deep zooms keep few digits in a step: the ends are known best.
    step = (values[-1] - values[0]) / (len(values) - 1)
    if np.abs(steps - step).max() > 0.1 * step + 4 * np.spacing(np.abs(values).max()):
        raise ValueError(f"maps[{i}]: pixels along {dim} are uneven; use linear_axis or log_axis")
    return float(step)
