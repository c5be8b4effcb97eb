"""Tables that several studies show: agreement of maps, and distances of boundaries."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from ._question import share
from .comparison import Comparison
from .significance import ShiftNull


def share_of_pixels(right: np.ndarray, counted: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Share of `counted` pixels that are `right`, with its 95 % interval; NaN and (0, 1) if none is counted."""
    return share(right, counted)[:2] if counted.any() else (np.nan, (0.0, 1.0))


def with_interval(
    found: tuple[float, tuple[float, float]], form: str = ".2f", *, missing: str = "no such pixel"
) -> str:
    """A number and its interval in one format, as "0.50 (0.40 to 0.60)"; `missing` for what is not a number."""
    value, (low, high) = found
    if np.isnan(value):
        return missing
    return f"{value:{form}} ({low:{form}} to {high:{form}})"


def best_trivial(rules: xr.Dataset) -> str:
    """Words for the strongest rule of `compare_baselines`, and the prediction's lead over it."""
    trivial = rules.isel(rule=slice(1, None))
    best = trivial.isel(rule=int(trivial["agreement"].values.argmax()))
    lead = with_interval((float(best["lead"]), (float(best["lead_low"]), float(best["lead_high"]))), "+.1%")
    return (
        f"the best trivial rule, fitted to the map ({best['rule'].item()}), on {float(best['agreement']):.1%}, "
        f"a lead of {lead}"
    )


def null_and_power(null: ShiftNull, found: Comparison) -> str:
    """Words for the null of shifts, and for the disagreement that a comparison would have shown."""
    return (
        f"Null of shifts: {null}. Power: a disagreement on {found.smallest_disagreement:.2%} of the pixels, "
        "clustered as here, would have shown with a probability of 95 %."
    )


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


def difference_table(
    measured: xr.Dataset, predicted: Mapping[str, np.ndarray], *, unit: str = ""
) -> pd.DataFrame:
    """One row for each exponent by its name in `measured`, which has its standard errors as well."""
    rows = []
    for name, expected in predicted.items():
        found = measured[name].values.ravel()
        off = found - expected.ravel()
        spread = off.std(ddof=1)
        rows.append(
            {
                "exponent": name,
                f"mean difference{unit}": f"{off.mean():+.3f} ± {spread / np.sqrt(off.size):.3f}",
                "standard deviation": f"{spread:.3f}",
                "median standard error of one": f"{float(measured[f'{name}_stderr'].median()):.3f}",
                "rank correlation": f"{stats.spearmanr(found, expected.ravel()).statistic:.3f}",
            }
        )
    return pd.DataFrame(rows)


def distance_table(planes: Mapping[str, Comparison]) -> pd.DataFrame:
    """One row for each plane with a boundary: distances in pixels, median offsets along the axes in their units."""
    rows = []
    for plane, found in planes.items():
        if (line := found.boundary) is not None:
            row = {
                "plane": plane,
                "median, pixels": with_interval((line.median, line.median_interval)),
                "95 %": f"{line.q95:.2f}",
                "largest": f"{line.max:.2f}",
            }
            for name, unit in line.units.items():
                text = f"{name} {with_interval(line.offset(name), '+.2g')} {unit}".rstrip()
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
                "agreement": with_interval((row["agreement"], (row["low"], row["high"])), ".2%"),
                "lead of the prediction": "—"
                if rule == "prediction"
                else with_interval((row["lead"], (row["lead_low"], row["lead_high"])), "+.2%"),
                "smallest lead this grid finds": "—"
                if rule == "prediction"
                else f"{row['smallest_lead']:.2%}",
            }
        )
    return pd.DataFrame(rows)
