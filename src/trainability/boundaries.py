"""The boundary between outcomes on a map, or on any labelled picture."""

from typing import Any

import numpy as np
from numba import njit

# More distinct values than this are a score or a photograph and no outcomes.
MOST_OUTCOMES = 64

# Meanings of status codes of which nothing is known.
_UNKNOWN = ("pending", "failed")


def outcome_codes(runs: Any) -> np.ndarray:
    """Return the outcome of each pixel as int16 codes 0, 1, …, shape (h, w); -1 where it is unknown.

    Parameters
    ----------
    runs : Dataset, DataArray or array_like
        A trainability map (its `status`), a labelled picture of shape (h, w), or a colour picture of shape
        (h, w, 3 or 4), each colour an outcome. NaN, pending and failed pixels are unknown.

    Raises
    ------
    ValueError
        If it is no picture, has inferred pixels (`infer_status` gives them a status), or has more than
        64 values.

    Examples
    --------
    >>> outcome_codes([[0.0, 7.0], [np.nan, 7.0]])
    array([[ 0,  1],
           [-1,  1]], dtype=int16)
    """
    status = runs["status"] if hasattr(runs, "data_vars") else runs
    attrs = getattr(status, "attrs", {})
    values = np.asarray(status)
    if values.ndim == 3 and values.shape[2] in (3, 4):
        values = _colour_codes(values)
    if values.ndim != 2 or values.size == 0:
        raise ValueError(f"runs has shape {values.shape}; it must be a picture of two dimensions")
    known = np.isfinite(values) if np.issubdtype(values.dtype, np.floating) else np.ones(values.shape, bool)
    codes = dict(zip(attrs.get("flag_meanings", "").split(), attrs.get("flag_values", ()), strict=True))
    if "inferred" in codes and (values == codes["inferred"]).any():
        raise ValueError("runs has inferred pixels; pass infer_status(runs)")
    for meaning in _UNKNOWN:
        if meaning in codes:
            known &= values != codes[meaning]
    if values.dtype == bool:  # no need to sort
        return np.subtract(values, values.min(), dtype=np.int16)
    found, inverse = np.unique(values[known], return_inverse=True)
    if len(found) > MOST_OUTCOMES:
        raise ValueError(
            f"runs has {len(found)} distinct values and at most {MOST_OUTCOMES} can be outcomes; "
            "pass labels, as score > 0"
        )
    outcome = np.full(values.shape, -1, np.int16)
    outcome[known] = inverse
    return outcome


def _colour_codes(picture: np.ndarray) -> np.ndarray:
    """Number the distinct colours of a picture; fully transparent pixels are NaN."""
    flat = picture.reshape(-1, picture.shape[2])
    codes = np.unique(flat, axis=0, return_inverse=True)[1].reshape(picture.shape[:2]).astype(float)
    if picture.shape[2] == 4:
        codes[picture[..., 3] == 0] = np.nan
    return codes


def boundary(runs: Any) -> np.ndarray:
    """Mark the cells between pixels that hold more than one outcome: bool, shape (h - 1, w - 1).

    A cell is the square between four neighbouring pixel centres, so that cells share corners and the frame of
    the picture is no boundary. Unknown corners are passed over: a cell counts if its known corners differ.
    Where the map has a score, `distances.zero_lines` draws the boundary between the pixels.

    Parameters
    ----------
    runs
        As in `outcome_codes`.

    Examples
    --------
    >>> boundary([[0, 0, 1], [0, 0, 1]])
    array([[False,  True]])
    """
    outcome = outcome_codes(runs)
    if min(outcome.shape) < 2:
        raise ValueError(f"runs has shape {outcome.shape}; a boundary needs at least 2 pixels each way")
    return _mixed(outcome)


@njit(cache=True)
def _mixed(outcome):
    """Whether the known corners of each cell differ."""
    h, w = outcome.shape
    mixed = np.empty((h - 1, w - 1), np.bool_)
    for i in range(h - 1):
        for j in range(w - 1):
            a, b, c, d = outcome[i, j], outcome[i, j + 1], outcome[i + 1, j], outcome[i + 1, j + 1]
            most = max(a, b, c, d)  # unknown corners, -1, never are
            mixed[i, j] = (
                ((a != most) & (a >= 0))
                | ((b != most) & (b >= 0))
                | ((c != most) & (c >= 0))
                | ((d != most) & (d >= 0))
            )
    return mixed
