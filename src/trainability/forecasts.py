"""Predicted probabilities of an outcome beside what was observed: calibration and Brier score."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ._question import block_sums, check_axes, known_pixels, outcome_code, resampled_counts

# Bins of the calibration curve, of equal width in the predicted probability.
BINS = 10

ENDS = (0.025, 0.975)  # of a 95 % interval


@dataclass(frozen=True, kw_only=True, eq=False)
class ForecastComparison:
    """A predicted probability of an outcome beside observed outcomes.

    Attributes
    ----------
    outcome : str
    brier : float
        Mean of (probability - outcome)², 0 at best.
    brier_interval : tuple of float
        95 %, by bootstrap over what errs together; so are the others.
    skill : float
        1 - brier / that of the overall observed share, said everywhere: 1 at best, 0 without knowledge.
    skill_interval : tuple of float
    calibration_error : float
        Mean over pixels of |predicted - observed share| of their bin of the curve.
    curve : Dataset, dim bin
        `predicted` mean probability, `observed` share with `low` and `high`, and `count`, of each bin that holds
        pixels.
    """

    outcome: str
    brier: float
    brier_interval: tuple[float, float]
    skill: float
    skill_interval: tuple[float, float]
    calibration_error: float
    curve: xr.Dataset

    def __repr__(self) -> str:
        low, high = self.brier_interval
        return (
            f"{self.outcome}: Brier score {self.brier:.4f} (95 % interval {low:.4f} to {high:.4f}), skill "
            f"{self.skill:.1%}, calibration error {self.calibration_error:.4f} in {self.curve.sizes['bin']} bins"
        )


def compare_forecast(
    probability: xr.DataArray, observed: xr.Dataset, *, outcome: str, together: str = "blocks"
) -> ForecastComparison:
    """Judge predicted probabilities of an outcome by observed runs.

    Parameters
    ----------
    probability : DataArray
        Between 0 and 1, dims the axes of the grid.
    observed : Dataset
        With `status`, over the same axes; further dims (seeds, orders of batches) are replicates.
    outcome : str
        As in `compare`.
    together : {"blocks", "replicates"}, optional
        What errs together and is resampled as a whole: blocks of 8 pixels a side with all their replicates; or
        whole maps, where all pixels of a replicate share their luck, as one order of batches.

    Returns
    -------
    ForecastComparison

    Raises
    ------
    ValueError
        If the grids differ, the outcome or `together` is unknown, a probability is not one, or there is but one
        replicate to resample.

    References
    ----------
    Brier, Mon. Weather Rev. 78, 1 (1950).

    Examples
    --------
    >>> from trainability import Grid, linear_axis
    >>> grid = Grid(x=linear_axis(0, 1, 64), y=linear_axis(0, 1, 64))
    >>> p = xr.DataArray(np.broadcast_to(grid["x"][:, None], grid.shape), dims=("x", "y"), coords=grid.coords())
    >>> flags = {"flag_values": [1, 2], "flag_meanings": "converged diverged"}
    >>> lost = np.random.default_rng(0).random(grid.shape) < p
    >>> runs = xr.Dataset({"status": (p.dims, np.where(lost, 2, 1), flags)}, p.coords)
    >>> compare_forecast(p, runs, outcome="diverged")
    diverged: Brier score 0.1623 (95 % interval 0.1418 to 0.1831), skill 35.1%, calibration error 0.0171 in 10 bins
    """
    check_axes(probability, observed["status"])
    p = probability.values
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"probability must lie between 0 and 1; found {p[~((p >= 0) & (p <= 1))].flat[0]}")
    status = observed["status"].transpose(*probability.dims, ...)
    replicates = (*p.shape, -1)
    known = known_pixels(status).reshape(replicates)
    seen = (status.values == outcome_code(status, outcome)).reshape(replicates)
    if together not in ("blocks", "replicates"):
        raise ValueError(f"together={together!r} is unknown; use blocks or replicates")
    if together == "replicates" and known.shape[-1] < 2:
        raise ValueError("together='replicates' needs at least two replicates; with one map use blocks")
    bins = np.minimum((p * BINS).astype(int), BINS - 1)
    said = p[..., None]
    masks = [(bins == k)[..., None] & known for k in range(BINS)]
    columns = [known, known & seen, known * (said - seen) ** 2]
    columns += [part for mask in masks for part in (mask, mask & seen, mask * said)]
    sums = np.stack([_clusters(column, together) for column in columns])  # (column, cluster)
    sums = sums[:, sums[0] > 0]
    value = _statistics(sums.sum(axis=1))
    counts = resampled_counts(sums.shape[1], np.random.default_rng(0))
    drawn = _statistics(sums @ counts.T)
    brier, skill = (tuple(np.quantile(drawn[name], ENDS).tolist()) for name in ("brier", "skill"))
    filled = value["count"] > 0
    ends = np.nanquantile(drawn["observed"][filled], ENDS, axis=-1)
    columns = [value[name][filled] for name in ("predicted", "observed")] + [*ends, value["count"][filled]]
    names = ("predicted", "observed", "low", "high", "count")
    return ForecastComparison(
        outcome=outcome,
        brier=float(value["brier"]),
        brier_interval=brier,
        skill=float(value["skill"]),
        skill_interval=skill,
        calibration_error=float(value["calibration_error"]),
        curve=xr.Dataset({name: ("bin", v) for name, v in zip(names, columns, strict=True)}),
    )


def _clusters(column: np.ndarray, together: str) -> np.ndarray:
    """Sums over what errs together, of an array (*grid, replicate)."""
    if together == "replicates":
        return column.reshape(-1, column.shape[-1]).sum(axis=0, dtype=float)
    return block_sums(column.sum(axis=-1, dtype=float))


def _statistics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Scores and curve from sums of the columns, shape (3 + 3 BINS, ...)."""
    n, hits, squares = sums[:3]
    count, seen, said = sums[3:].reshape(BINS, 3, *sums.shape[1:]).swapaxes(0, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        base = hits / n
        predicted, observed = said / count, seen / count
        skill = 1 - squares / n / (base * (1 - base))
    return {
        "brier": squares / n,
        "skill": np.where(base * (1 - base) > 0, skill, np.nan),
        "predicted": predicted,
        "observed": observed,
        "count": count,
        "calibration_error": np.abs(said - seen).sum(axis=0) / n,
    }
