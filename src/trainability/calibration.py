"""What estimators of dimension read on sets of known dimension: the stored table."""

import csv
from importlib.resources import files


def calibration_table():
    """Return the bias, spread and verdicts of every estimator on sets of known dimension.

    Returns
    -------
    Dataset, dims (estimator, set, pixels)
        `mean`, `spread` (standard deviation over placements) and `bias` of the estimate, `draws`; for the estimator
        "fractal_dimension" also `coverage` and `half_width` of its 95 % intervals and the shares of its
        verdicts `fractal`, `smooth`, `noise`, `unresolved`. NaN where a column does not apply. Coordinates
        `dimension` (NaN for noise) and `kind` belong to `set`.

    Notes
    -----
    Made by ``benchmarks/calibrate_dimension.py``; theory/30 says what it shows.

    Examples
    --------
    >>> table = calibration_table()
    >>> bias = table["bias"].sel(set="Weierstrass graph, 1.8", pixels=1025)
    >>> bool(abs(bias.sel(estimator="fractal_dimension")) < 0.02)
    True
    >>> bool(bias.sel(estimator="median_local_slope") < -0.1)
    True
    """
    import numpy as np
    import xarray as xr

    text = files("trainability").joinpath("data/dimension_calibration.csv").read_text(encoding="utf8")
    rows = list(csv.DictReader(text.splitlines()))
    dims = ("estimator", "set", "pixels")
    labels = {dim: list(dict.fromkeys(row[dim] for row in rows)) for dim in dims}
    known = {row["set"]: row for row in rows}
    columns = [name for name in rows[0] if name not in (*dims, "kind", "dimension")]
    tables = {name: np.full([len(labels[dim]) for dim in dims], np.nan) for name in columns}
    for row in rows:
        at = tuple(labels[dim].index(row[dim]) for dim in dims)
        for name in columns:
            tables[name][at] = float(row[name] or "nan")
    return xr.Dataset(
        {name: (dims, values) for name, values in tables.items()},
        coords={
            "estimator": labels["estimator"],
            "set": labels["set"],
            "pixels": [int(n) for n in labels["pixels"]],
            "dimension": ("set", [float(known[name]["dimension"]) for name in labels["set"]]),
            "kind": ("set", [known[name]["kind"] for name in labels["set"]]),
        },
    )
