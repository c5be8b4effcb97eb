"""Predictions by the sign of a score, and how much of an observed boundary their zero line explains."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ._study_tables import with_interval
from .comparison import Comparison
from .distances import BoundaryDistance

# Decades within which a boundary counts as explained.
NEAR = 0.25


def threshold_map(score: xr.DataArray, meanings: tuple[str, str]) -> xr.Dataset:
    """The first outcome where the score is at most 0, the second beyond; `boundary` is the score itself."""
    status = np.where(score > 0, 2, 1).astype(np.int8)
    flags = {"flag_values": [1, 2], "flag_meanings": " ".join(meanings)}
    return xr.Dataset(
        {"status": (score.dims, status, flags), "boundary": (score.dims, score.values)}, coords=score.coords
    )


def best_threshold(values: np.ndarray, seen: np.ndarray) -> tuple[float, float]:
    """Threshold above which `seen` is predicted with the highest agreement, fitted, and that agreement."""
    order = np.argsort(values, axis=None)
    hits = seen.ravel()[order]
    right = np.concatenate([[0], np.cumsum(~hits)]) + hits.sum() - np.concatenate([[0], np.cumsum(hits)])
    i = int(right.argmax())
    return float(values.ravel()[order][min(i, hits.size - 1)]), float(right[i] / hits.size)


def decades_a_pixel(coord: xr.DataArray) -> float:
    """Width of the pixels of a logarithmic axis."""
    ends = np.log10(coord.values[[0, -1]])
    return float(ends[1] - ends[0]) / (len(coord) - 1)


def near_predicted(line: BoundaryDistance, pixel: float) -> tuple[float, tuple[float, float]]:
    """Share of the observed boundary within `NEAR` decades of the predicted one; pixels are square, in decades."""
    return line.share_within(NEAR / pixel)


def near_observed(line: BoundaryDistance, pixel: float) -> float:
    """Share of the predicted boundary within `NEAR` decades of the observed one."""
    return float((line.missed * pixel <= NEAR).mean())


def explained(line: BoundaryDistance, pixel: float) -> str:
    """Words for the share of the observed boundary near the predicted one, to be gone on with."""
    share, (least, most) = near_predicted(line, pixel)
    return (
        f" {share:.0%} of the observed boundary ({least:.0%} to {most:.0%}) lies within {NEAR:g} decades of the "
        "predicted one,"
    )


def explained_table(found: Mapping[str, Comparison], what: str) -> pd.DataFrame:
    """One row for each prediction that has a boundary, named in the column `what`."""
    rows = []
    for name, comparison in found.items():
        if (line := comparison.boundary) is None:
            continue
        pixel = decades_a_pixel(comparison.wrong[comparison.wrong.dims[0]])
        least, most = line.median_interval
        rows.append(
            {
                what: name,
                f"observed, within {NEAR:g} decades of predicted": with_interval(
                    near_predicted(line, pixel), ".1%"
                ),
                f"predicted, within {NEAR:g} decades of observed": f"{near_observed(line, pixel):.1%}",
                "median distance, decades": with_interval(
                    (line.median * pixel, (least * pixel, most * pixel))
                ),
            }
        )
    return pd.DataFrame(rows)
