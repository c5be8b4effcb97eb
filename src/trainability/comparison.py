"""Predicted against trained: agreement with an interval, and the distance between boundaries."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from contourpy import contour_generator
from scipy import stats
from scipy.spatial import cKDTree

# Neighbouring pixels err together. Agreement is counted by blocks of this many pixels a side, wider than
# the band along a boundary in which predictions fail.
BLOCK = 8

# Spacing of the points by which a boundary line is represented, in pixels: half of it is the error of a distance.
SPACING = 0.05

# Observed codes of which nothing is known (`Status.PENDING`, `Status.FAILED`), or nothing was trained
# (`Status.INFERRED`).
_UNKNOWN = (0, 4, 5)


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
        Components of the first distances along each axis, in its own unit.
    units : dict of str to str
        "decades" for a logarithmic axis, "" for a linear one.
    """

    pixels: np.ndarray
    missed: np.ndarray
    offsets: dict[str, np.ndarray]
    units: dict[str, str]

    @property
    def median(self) -> float:
        """Median distance of the observed boundary, pixels."""
        return float(np.median(self.pixels))

    @property
    def q95(self) -> float:
        """95th percentile of the distance, pixels."""
        return float(np.quantile(self.pixels, 0.95))

    @property
    def max(self) -> float:
        """Largest distance either way, pixels."""
        return float(max(self.pixels.max(), self.missed.max()))

    def __repr__(self) -> str:
        axes = ", ".join(
            f"{name} {np.abs(off).max():.2g} {self.units[name]}".rstrip()
            for name, off in self.offsets.items()
        )
        return f"boundary off by {self.median:.2f} px (median), {self.q95:.2f} (95 %), {self.max:.2f} (max; {axes})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Comparison:
    """A predicted map beside an observed one.

    Attributes
    ----------
    outcome : str
        What was asked, as "diverged": is the outcome this one or another?
    confusion : DataArray, dims (predicted, observed)
        Pixel counts.
    agreement : float
        Share of known pixels on which both say the same.
    agreement_interval : tuple of float
        95 %, Wilson's with the design effect of pixels in blocks of 8 × 8; honest while errors cluster
        over fewer pixels than that.
    balanced_accuracy : float
        Mean over observed outcomes of the share predicted right; NaN if none was observed.
    balanced_accuracy_interval : tuple of float
        95 % at least: the mean of the outcomes' Wilson bounds.
    boundary : BoundaryDistance or None
        None where one of the maps has no boundary, or the grid is not two-dimensional.
    wrong : DataArray of bool
        Where the two disagree.
    n_unknown : int
        Observed pixels that are pending, failed or inferred; they count nowhere.
    """

    outcome: str
    confusion: xr.DataArray
    agreement: float
    agreement_interval: tuple[float, float]
    balanced_accuracy: float
    balanced_accuracy_interval: tuple[float, float]
    boundary: BoundaryDistance | None
    wrong: xr.DataArray
    n_unknown: int

    def __repr__(self) -> str:
        low, high = self.agreement_interval
        lines = [
            f"{self.outcome}: {self.agreement:.2%} of {int(self.confusion.sum())} pixels agree "
            f"(95 % interval {low:.2%} to {high:.2%}), balanced accuracy {self.balanced_accuracy:.2%}"
        ]
        if self.boundary is not None:
            lines.append(repr(self.boundary))
        if self.n_unknown:
            lines.append(f"{self.n_unknown} pixels unknown")
        return "; ".join(lines)


def compare(
    predicted: xr.Dataset, observed: xr.Dataset, *, outcome: str, score: str | None = None
) -> Comparison:
    """Ask one yes-or-no question of a predicted and an observed map: is the outcome `outcome`?

    Parameters
    ----------
    predicted, observed : Dataset
        With a `status` variable that carries flag_meanings, on the same grid.
    outcome : str
        One of the meanings, as "diverged" or "converged".
    score : str, optional
        Variable of `predicted` that is zero on the predicted boundary and changes sign across it; the
        boundary is then known between pixels. Without it, it runs halfway between unlike pixels.

    Returns
    -------
    Comparison

    Raises
    ------
    ValueError
        If the grids differ, or the outcome or score is unknown.

    Notes
    -----
    Distances are exact to about 0.05 pixels for the lines drawn, and the observed line itself is known
    to half a pixel.

    References
    ----------
    Wilson, J. Am. Stat. Assoc. 22, 209 (1927), with Kish's design effect for clustered samples.

    Examples
    --------
    >>> from trainability import Grid, linear_axis
    >>> grid = Grid(x=linear_axis(0, 1, 32), y=linear_axis(0, 1, 32))
    >>> flags = {"flag_values": [1, 2], "flag_meanings": "converged diverged"}
    >>> x, y = np.meshgrid(grid["x"], grid["y"], indexing="ij")
    >>> def half_plane(edge):
    ...     return xr.Dataset({"status": (("x", "y"), np.where(x > edge, 2, 1), flags)}, coords=grid.coords())
    >>> compare(half_plane(0.5), half_plane(0.531), outcome="diverged")
    diverged: 96.88% of 1024 pixels agree (95 % interval 92.24% to 98.78%), balanced accuracy 97.06%; \
boundary off by 1.00 px (median), 1.00 (95 %), 1.00 (max; x 0.031, y 0)
    """
    for name in predicted["status"].dims:
        if name not in observed.dims or not np.array_equal(predicted[name], observed[name]):
            raise ValueError(
                f"axis {name!r} differs between the predicted and the observed map; use one grid for both"
            )
    dims = predicted["status"].dims
    said = predicted["status"].values == _code(predicted["status"], outcome)
    status = observed["status"].transpose(*dims)
    seen = status.values == _code(status, outcome)
    known = ~np.isin(status.values, _UNKNOWN)
    if not known.any():
        raise ValueError("the observed map has no finished pixel; nothing can be compared")
    right = said == seen

    names = [outcome, f"not {outcome}"]
    counts = [[int((known & (said == p) & (seen == o)).sum()) for o in (True, False)] for p in (True, False)]
    recalls = [_share(right, known & (seen == o)) for o in (True, False) if (known & (seen == o)).any()]
    agreement, interval = _share(right, known)
    lines = None
    if len(dims) == 2:
        field = predicted[score].transpose(*dims).values if score else said - 0.5
        lines = _boundary_distance(field, seen - 0.5, observed, dims)
    return Comparison(
        outcome=outcome,
        confusion=xr.DataArray(counts, coords={"predicted": names, "observed": names}),
        agreement=agreement,
        agreement_interval=interval,
        balanced_accuracy=float(np.mean([share for share, _ in recalls])),
        balanced_accuracy_interval=(
            float(np.mean([low for _, (low, _) in recalls])),
            float(np.mean([high for _, (_, high) in recalls])),
        ),
        boundary=lines,
        wrong=xr.DataArray(known & ~right, coords={name: observed[name] for name in dims}, dims=dims),
        n_unknown=int((~known).sum()),
    )


def _code(status: xr.DataArray, outcome: str) -> int:
    meanings = status.attrs["flag_meanings"].split()
    if outcome not in meanings:
        raise ValueError(f"outcome {outcome!r} is unknown; the map has {', '.join(meanings)}")
    return status.attrs["flag_values"][meanings.index(outcome)]


def _share(right: np.ndarray, counted: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Share of `counted` pixels that are `right`, with a 95 % interval that knows that errors cluster."""
    n, hits = _block_sums(counted), _block_sums(counted & right)
    n, hits = n[n > 0], hits[n > 0]
    total, share = n.sum(), hits.sum() / n.sum()
    # Kish: variance of the ratio estimate between blocks, over that of as many independent pixels. Few errors say
    # little of how they cluster; a boundary that is off by a pixel makes at least `BLOCK` of them in a row.
    effect = float(BLOCK)
    if 0 < share < 1 and len(n) > 1:
        between = len(n) / (len(n) - 1) * ((hits - share * n) ** 2).sum() / total**2
        effect = max(between / (share * (1 - share) / total), effect)
    return float(share), _wilson(share, total / effect)


def _wilson(share: float, n: float) -> tuple[float, float]:
    z = stats.norm.ppf(0.975)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(float(centre - half), 0.0), min(float(centre + half), 1.0)


def _block_sums(mask: np.ndarray) -> np.ndarray:
    """Number of true pixels in each block of `BLOCK` pixels a side, flattened."""
    for axis in range(mask.ndim):
        mask = np.add.reduceat(mask, np.arange(0, mask.shape[axis], BLOCK), axis=axis, dtype=int)
    return mask.ravel()


def _boundary_distance(
    predicted: np.ndarray, observed: np.ndarray, ds: xr.Dataset, dims
) -> BoundaryDistance | None:
    """Compare the zero lines of two fields on one grid, both of shape (n0, n1)."""
    line, reference = zero_lines(observed), zero_lines(predicted)
    if len(line) == 0 or len(reference) == 0:
        return None
    pixels, nearest = map(np.asarray, cKDTree(reference).query(line))
    missed = np.asarray(cKDTree(line).query(reference)[0])
    offsets, units = {}, {}
    for axis, name in enumerate(dims):
        values, decades = ds[name].values, ds[name].attrs.get("scale") == "log"
        positions, index = np.log10(values) if decades else values, np.arange(len(values))
        here, there = (np.interp(points[:, axis], index, positions) for points in (line, reference[nearest]))
        offsets[name], units[name] = here - there, "decades" if decades else ""
    return BoundaryDistance(pixels=pixels, missed=missed, offsets=offsets, units=units)


def zero_lines(field: np.ndarray) -> np.ndarray:
    """Points along the zero lines of a field, shape (n, 2), in pixel indices, `SPACING` apart at most."""
    points = []
    for line in contour_generator(z=np.asarray(field, dtype=float)).lines(0.0):
        lengths = np.hypot(*np.diff(line, axis=0).T)
        along = np.concatenate([[0.0], np.cumsum(lengths)])
        at = np.linspace(0, along[-1], int(np.ceil(along[-1] / SPACING)) + 1)
        points.append(np.column_stack([np.interp(at, along, line[:, 1]), np.interp(at, along, line[:, 0])]))
    return np.concatenate(points) if points else np.empty((0, 2))
