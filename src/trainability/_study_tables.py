"""Tables that several studies show: agreement of maps, and distances of boundaries."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import xarray as xr

from ._question import share
from .comparison import Comparison


def share_of_pixels(right: np.ndarray, counted: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Share of `counted` pixels that are `right`, with its 95 % interval; NaN and (0, 1) if none is counted."""
    return share(right, counted)[:2] if counted.any() else (np.nan, (0.0, 1.0))


def agreement_table(planes: Mapping[str, Iterable[Comparison]]) -> pd.DataFrame:
    """One row for each question put to each plane."""
    rows = []
    for plane, asked in planes.items():
        for found in asked:
            low, high = found.agreement_interval
            (both, only_predicted), (only_seen, neither) = found.confusion.values
            rows.append(
                {
                    "plane": plane,
                    "question": found.outcome,
                    "both yes": both,
                    "both no": neither,
                    "predicted only": only_predicted,
                    "seen only": only_seen,
                    "agreement": f"{found.agreement:.2%}",
                    "95 % interval": f"{low:.2%} to {high:.2%}",
                    "balanced accuracy": f"{found.balanced_accuracy:.2%}",
                }
            )
    return pd.DataFrame(rows)


def distance_table(planes: Mapping[str, Comparison]) -> pd.DataFrame:
    """One row for each plane with a boundary: distances in pixels, median offsets along the axes in their units."""
    rows = []
    for plane, found in planes.items():
        if (line := found.boundary) is not None:
            low, high = line.median_interval
            row = {
                "plane": plane,
                "median, pixels": f"{line.median:.2f} ({low:.2f} to {high:.2f})",
                "95 %": f"{line.q95:.2f}",
                "largest": f"{line.max:.2f}",
            }
            for name, unit in line.units.items():
                value, (low, high) = line.offset(name)
                text = f"{name} {value:+.2g} ({low:+.2g} to {high:+.2g}) {unit}".rstrip()
                row["median offsets along"] = ", ".join(filter(None, [row.get("median offsets along"), text]))
            rows.append(row)
    return pd.DataFrame(rows)


def baseline_table(rules: xr.Dataset) -> pd.DataFrame:
    """The prediction and each rule of `compare_baselines`, with the prediction's lead."""
    rows = []
    for rule in rules["rule"].values:
        row = {name: float(value) for name, value in rules.sel(rule=rule).data_vars.items()}
        rows.append(
            {
                "rule": str(rule),
                "agreement": f"{row['agreement']:.2%} ({row['low']:.2%} to {row['high']:.2%})",
                "lead of the prediction": "—"
                if rule == "prediction"
                else f"{row['lead']:+.2%} ({row['lead_low']:+.2%} to {row['lead_high']:+.2%})",
                "smallest lead this grid finds": "—"
                if rule == "prediction"
                else f"{row['smallest_lead']:.2%}",
            }
        )
    return pd.DataFrame(rows)
