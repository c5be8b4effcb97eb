"""Scores and verdicts of other authors, as functions of the observables that maps store."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr


def published_score(runs: xr.Dataset | Mapping[str, Any]):
    """Score of a run as in the published maps: minus the sum of v if it converged, the sum of 1 / v if not.

    v = loss / first loss, capped at 1e6; a run has converged if the mean of its last 20 v is below 1. The sign
    is the phase, the size the speed: a run that converges fast scores near 0 from below, one that diverges
    fast near 0 from above.

    Parameters
    ----------
    runs : Dataset or mapping of arrays
        Observables `sum_ratio`, `sum_inverse_ratio` and `tail_ratio`, as `trainers.MLP` leaves them.

    Returns
    -------
    DataArray or ndarray
        Of the observables' shape; a DataArray if they are in a Dataset. NaN where a pixel is pending or failed,
        as the observables are.

    Raises
    ------
    ValueError
        If an observable is missing.

    Notes
    -----
    The released code counts a loss that is not finite as 1e6 before dividing by the first loss, so as
    1e6 / first loss after; here it counts as the cap. The difference is at most first loss · 1e-6 a step in the
    score of runs that diverge, and changes no sign while the first loss is below 5e4.

    References
    ----------
    Sohl-Dickstein, arXiv:2402.06184, section 2.

    Examples
    --------
    >>> published_score({"sum_ratio": [40.0, 1e8], "sum_inverse_ratio": [900.0, 3.0], "tail_ratio": [0.1, 1e6]})
    array([-40.,   3.])
    """
    names = ("sum_ratio", "sum_inverse_ratio", "tail_ratio")
    missing = [name for name in names if name not in runs]
    if missing:
        raise ValueError(f"runs have no {', '.join(missing)}; the score needs {', '.join(names)}")
    total, inverse, tail = (runs[name] for name in names)
    if isinstance(tail, xr.DataArray):
        score = xr.where(tail < 1, -total, inverse).rename("published_score")
        return score.assign_attrs(long_name="published score: -Σv if converged, Σ1/v if not")
    return np.where(np.asarray(tail) < 1, -np.asarray(total), np.asarray(inverse))
