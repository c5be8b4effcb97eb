"""Distance between two boundaries of maps, with intervals from resampling stretches of them."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from contourpy import contour_generator
from scipy.spatial import cKDTree

from ._question import BLOCK, POWER_80, resampled_counts

# Spacing of the points by which a boundary line is represented, in pixels: half of it is the error of a distance.
SPACING = 0.05

# Points taken into a bootstrap, at most: a distance does not change much between neighbours.
_BOOTSTRAP_POINTS = 2000

# A stretch is at least this many times as long as distances stay correlated along the boundary.
_CORRELATIONS = 2.0

# With fewer stretches than this a bootstrap says little; they are then cut shorter.
_LEAST_STRETCHES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class BoundaryDistance:
    """Distance from each point of one boundary to the nearest point of another.

    Attributes
    ----------
    pixels : ndarray, shape (n,)
        Distances in pixels, sampled evenly along the observed boundary.
    missed : ndarray, shape (m,)
        The other way round: from the predicted boundary to the observed one.
    offsets : dict of str to ndarray, shape (n,)
        Components of the first distances along each axis, in its own unit; positive where the observed boundary
        lies at larger values.
    units : dict of str to str
        "decades" for a logarithmic axis, "" for a linear one.
    stretches : ndarray of int, shape (n,)
        Which stretch of the observed boundary each point is on. Bootstrap intervals draw whole stretches: at
        least 8 pixels long and twice the length over which distances stay correlated.
    """

    pixels: np.ndarray
    missed: np.ndarray
    offsets: dict[str, np.ndarray]
    units: dict[str, str]
    stretches: np.ndarray

    @property
    def median(self) -> float:
        """Median distance of the observed boundary, pixels."""
        return float(np.median(self.pixels))

    @property
    def median_interval(self) -> tuple[float, float]:
        """95 % interval of the median, by bootstrap over stretches of the boundary."""
        low, high = np.quantile(self._resampled(self.pixels), (0.025, 0.975))
        return float(low), float(high)

    @property
    def q95(self) -> float:
        """95th percentile of the distance, pixels."""
        return float(np.quantile(self.pixels, 0.95))

    @property
    def max(self) -> float:
        """Largest distance either way, pixels."""
        return float(max(self.pixels.max(), self.missed.max()))

    def offset(self, axis: str) -> tuple[float, tuple[float, float]]:
        """Median offset of the observed boundary along an axis, in its unit, with its 95 % interval."""
        low, high = np.quantile(self._resampled(self.offsets[axis]), (0.025, 0.975))
        return float(np.median(self.offsets[axis])), (float(low), float(high))

    def smallest_shift(self, axis: str) -> float:
        """Smallest shift along an axis, in its unit, that a 5 % test would have found with a power of 80 %."""
        return float(POWER_80 * self._resampled(self.offsets[axis]).std(ddof=1))

    def share_within(self, distance: float, axis: str | None = None) -> tuple[float, tuple[float, float]]:
        """Share of the observed boundary nearer to the predicted one than `distance`, with its 95 % interval.

        `distance` is in pixels, or, given an axis, in its unit and along it alone.
        """
        near = np.abs(self.pixels if axis is None else self.offsets[axis]) <= distance
        stretches = np.unique(self.stretches, return_inverse=True)[1]
        n, hits = np.bincount(stretches), np.bincount(stretches, weights=near)
        counts = resampled_counts(len(n), np.random.default_rng(0))
        low, high = np.quantile(counts @ hits / (counts @ n), (0.025, 0.975))
        return float(near.mean()), (float(low), float(high))

    def _resampled(self, values: np.ndarray) -> np.ndarray:
        """Medians of `values` over resampled stretches."""
        thin = slice(None, None, -(-len(values) // _BOOTSTRAP_POINTS))
        order = np.argsort(values[thin])
        names, stretch = np.unique(self.stretches[thin][order], return_inverse=True)
        weights = np.cumsum(resampled_counts(len(names), np.random.default_rng(0))[:, stretch], axis=1)
        middle = (2 * weights >= weights[:, -1:]).argmax(axis=1)
        return values[thin][order][middle]

    def __repr__(self) -> str:
        axes = ", ".join(
            f"{name} {np.abs(off).max():.2g} {self.units[name]}".rstrip()
            for name, off in self.offsets.items()
        )
        low, high = self.median_interval
        return (
            f"boundary off by {self.median:.2f} px (median, {low:.2f} to {high:.2f}), {self.q95:.2f} (95 %), "
            f"{self.max:.2f} (max; {axes})"
        )


def boundary_distance(
    predicted: np.ndarray, observed: np.ndarray, coords: dict[str, xr.DataArray]
) -> BoundaryDistance | None:
    """Compare the zero lines of two fields on one grid, both of shape (n0, n1); None if one has none."""
    lines, reference = zero_lines(observed), np.concatenate([np.empty((0, 2)), *zero_lines(predicted)])
    if not lines or len(reference) == 0:
        return None
    points = np.concatenate(lines)
    pixels, nearest = map(np.asarray, cKDTree(reference).query(points))
    offsets, units = {}, {}
    for axis, (name, coord) in enumerate(coords.items()):
        values, decades = coord.values, coord.attrs.get("scale") == "log"
        positions, index = np.log10(values) if decades else values, np.arange(len(values))
        here, there = (np.interp(p[:, axis], index, positions) for p in (points, reference[nearest]))
        offsets[name], units[name] = here - there, "decades" if decades else ""
    return BoundaryDistance(
        pixels=pixels,
        missed=np.asarray(cKDTree(points).query(reference)[0]),
        offsets=offsets,
        units=units,
        stretches=_stretches([len(line) for line in lines], pixels),
    )


def zero_lines(field: np.ndarray) -> list[np.ndarray]:
    """Zero lines of a field, each as points (n, 2) in pixel indices, `SPACING` apart at most."""
    lines: list[np.ndarray] = []
    if min(np.shape(field)) < 2:  # a single row has pixels but no line
        return lines
    for line in contour_generator(z=np.asarray(field, dtype=float)).lines(0.0):
        lengths = np.hypot(*np.diff(line, axis=0).T)
        along = np.concatenate([[0.0], np.cumsum(lengths)])
        at = np.linspace(0, along[-1], int(np.ceil(along[-1] / SPACING)) + 1)
        lines.append(np.column_stack([np.interp(at, along, line[:, 1]), np.interp(at, along, line[:, 0])]))
    return lines


def _stretches(lengths: list[int], distances: np.ndarray) -> np.ndarray:
    """Cut lines, one after another in `distances`, into stretches; number them."""
    wanted = max(BLOCK / SPACING, _CORRELATIONS * _correlation_points(distances))
    size = max(min(wanted, len(distances) / _LEAST_STRETCHES), 1.0)
    parts, first = [], 0
    for n in lengths:
        pieces = max(round(n / size), 1)
        parts.append(first + np.arange(n) * pieces // n)
        first += pieces
    return np.concatenate(parts)


def _correlation_points(values: np.ndarray) -> float:
    """Integrated autocorrelation time of a sequence, in points, with the window of five times itself (Sokal)."""
    x = values - values.mean()
    if not (x * x).sum() > 0:
        return 1.0
    spectrum = np.fft.rfft(x, 2 * len(x))
    covariance = np.fft.irfft(np.abs(spectrum) ** 2)[: len(x)]
    times = 2 * np.cumsum(covariance / covariance[0]) - 1
    return float(times[np.argmax(np.arange(len(times)) >= 5 * times)])
