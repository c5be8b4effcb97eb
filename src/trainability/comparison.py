"""Predicted against trained: agreement with an interval, and the distance between boundaries."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ._question import ask, share
from .distances import BoundaryDistance, boundary_distance

# Chance that a disagreement of `smallest_disagreement` falls on none of the clusters a grid amounts to.
UNSEEN = 0.05


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
    smallest_disagreement : float
        The power of this grid: a share of wrong pixels as large as this, clustered as here, leaves no trace at all
        with a probability of 5 %; smaller ones may go unseen.
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
    smallest_disagreement: float

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
boundary off by 1.00 px (median, 1.00 to 1.00), 1.00 (95 %), 1.00 (max; x 0.031, y 0)
    """
    asked = ask(predicted, observed, outcome)
    said, seen, known, right = asked.said, asked.seen, asked.known, asked.right

    names = [outcome, f"not {outcome}"]
    counts = [[int((known & (said == p) & (seen == o)).sum()) for o in (True, False)] for p in (True, False)]
    recalls = [share(right, known & (seen == o))[:2] for o in (True, False) if (known & (seen == o)).any()]
    agreement, interval, independent = share(right, known)
    lines = None
    if len(asked.dims) == 2:
        field = predicted[score].transpose(*asked.dims).values if score else said - 0.5
        lines = boundary_distance(field, seen - 0.5, asked.coords)
    return Comparison(
        outcome=outcome,
        confusion=xr.DataArray(counts, coords={"predicted": names, "observed": names}),
        agreement=agreement,
        agreement_interval=interval,
        balanced_accuracy=float(np.mean([found for found, _ in recalls])),
        balanced_accuracy_interval=(
            float(np.mean([low for _, (low, _) in recalls])),
            float(np.mean([high for _, (_, high) in recalls])),
        ),
        boundary=lines,
        wrong=xr.DataArray(known & ~right, coords=asked.coords, dims=asked.dims),
        n_unknown=int((~known).sum()),
        smallest_disagreement=float(1 - UNSEEN ** (1 / independent)),
    )
