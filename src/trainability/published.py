"""Dimension estimators as published for trainability boundaries, for comparison: they are biased, and say so here.

Their bias on sets of known dimension stands in `calibration_table`. None has an interval.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import ndimage

from .boundaries import boundary, outcome_codes

# Number of box sizes, and the smallest, of the log grid in porespy's `boxcount`, which the MLP paper uses.
_BINS, _SMALLEST = 10, 10


def published_dimension(runs: Any, *, estimator: str) -> float:
    """Estimate the dimension of a boundary as it was done in print.

    Parameters
    ----------
    runs
        As in `trainability.boundaries`. Must have no unknown pixel: these estimators do not know of them.
    estimator : str
        "median_local_slope": boxes that hold some but not only boundary cells, ten sizes from 10 cells to the
        side on a log grid, the median of the local slopes (arXiv:2402.06184, with porespy's `boxcount`).
        "power_of_two_fit": the same count at 4, 8, … cells, a least-squares line (a widespread recipe by
        N. Rougier). "dilation_edge_fit": that fit on dilation minus erosion of the largest outcome code, the frame
        counted as boundary (as in code for transformers). "area_mask_fit": that fit on the area itself,
        full boxes left out as before.

    Returns
    -------
    float
        NaN where two sizes have no box to count.

    Raises
    ------
    ValueError
        For an unknown estimator, an unknown pixel, or a side below 32 pixels.

    Notes
    -----
    Boxes that are full are left out and ragged ones at the frame kept, as published; this is where much of
    the bias comes from.

    Examples
    --------
    >>> half_plane = np.indices((256, 256))[0] < 100
    >>> round(published_dimension(half_plane, estimator="area_mask_fit"), 2)  # the truth is 1
    1.0
    """
    if estimator not in PUBLISHED:
        raise ValueError(f"estimator {estimator!r} is unknown; known are {', '.join(PUBLISHED)}")
    return PUBLISHED[estimator](_known(runs, estimator))


def published_slopes(runs: Any) -> np.ndarray:
    """Return the local slopes of box counts whose median was published as the dimension (arXiv:2402.06184).

    There the slopes of all frames of a zoom are taken together, from a window of 6 to 12 decades down to the last
    bits of double precision, each frame half as wide as the one before: wide frames count as much as deep ones.

    Parameters
    ----------
    runs
        As in `published_dimension`.

    Returns
    -------
    ndarray, shape (k,)
        One for each of up to ten box sizes; empty where fewer than two sizes have a box to count.

    Raises
    ------
    ValueError
        As `published_dimension`.

    Examples
    --------
    >>> rows, columns = np.indices((256, 256))
    >>> frames = [rows + columns / 3 < 130, rows + columns / 3 < 150]
    >>> round(float(np.median(np.concatenate([published_slopes(frame) for frame in frames]))), 1)
    1.0
    """
    return _local_slopes(_known(runs, "median_local_slope"))


def _known(runs: Any, estimator: str) -> np.ndarray:
    """Outcomes of a map that is complete and large enough."""
    outcome = outcome_codes(runs)
    if (outcome < 0).any():
        raise ValueError(f"runs has {(outcome < 0).sum()} unknown pixels and {estimator} takes none")
    if min(outcome.shape) < 32:
        raise ValueError(f"runs has shape {outcome.shape}; {estimator} needs 32 pixels each way")
    return outcome


def _median_local_slope(outcome: np.ndarray) -> float:
    slopes = _local_slopes(outcome)
    return float(np.median(slopes)) if len(slopes) else np.nan


def _local_slopes(outcome: np.ndarray) -> np.ndarray:
    """Slopes of the box count at each size; none where fewer than two sizes have a box to count."""
    cells = boundary(outcome)
    sizes = np.unique(np.logspace(np.log10(_SMALLEST), np.log10(min(cells.shape)), _BINS).astype(int))
    counts = _partly_filled(cells, sizes)
    sizes, counts = sizes[counts > 0], counts[counts > 0]
    if len(sizes) < 2:
        return np.empty(0)
    return -np.gradient(np.log(counts), np.log(sizes))


def _power_of_two_fit(outcome: np.ndarray) -> float:
    return _fit(boundary(outcome))


def _dilation_edge_fit(outcome: np.ndarray) -> float:
    area = outcome == outcome.max()
    return _fit(ndimage.binary_dilation(area) & ~ndimage.binary_erosion(area))


def _area_mask_fit(outcome: np.ndarray) -> float:
    return _fit(outcome == outcome.max())


def _fit(cells: np.ndarray) -> float:
    sizes = 2 ** np.arange(int(np.log2(min(cells.shape))), 1, -1)
    counts = _partly_filled(cells, sizes)
    sizes, counts = sizes[counts > 0], counts[counts > 0]
    if len(sizes) < 2:
        return np.nan
    return float(-np.polyfit(np.log(sizes), np.log(counts), 1)[0])


def _partly_filled(cells: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Number of boxes of each size, ragged ones too, that hold some cells but are not full of them."""
    counts = []
    for s in sizes:
        rows, columns = (np.arange(0, n, s) for n in cells.shape)
        held = np.add.reduceat(np.add.reduceat(cells, rows, axis=0, dtype=int), columns, axis=1)
        counts.append(((held > 0) & (held < s * s)).sum())
    return np.array(counts)


PUBLISHED: dict[str, Callable[[np.ndarray], float]] = {
    "median_local_slope": _median_local_slope,
    "power_of_two_fit": _power_of_two_fit,
    "dilation_edge_fit": _dilation_edge_fit,
    "area_mask_fit": _area_mask_fit,
}
