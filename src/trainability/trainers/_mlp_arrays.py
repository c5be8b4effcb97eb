"""Arrays that a caller hands in for those a network would draw: data, weights, rows of batches."""

import hashlib
from typing import Any

import numpy as np

from .._checks import finite


def checked_data(data, *, n_data: int | None, n_inputs: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Inputs (n_data, n_inputs) and targets (n_data,) as finite floats, of the sizes asked for, if any are.

    Copied, as weights are: a trainer does not change with the arrays of its caller.
    """
    if not (isinstance(data, tuple | list) and len(data) == 2):
        found = f"{len(data)} items" if isinstance(data, tuple | list) else f"one {type(data).__name__}"
        raise ValueError(f"data are {found}; pass inputs (n_data, n_inputs) and targets (n_data,), as (x, y)")
    x, y = (finite("data", a).copy() for a in data)
    if x.ndim != 2 or 0 in x.shape or y.shape != x.shape[:1]:
        raise ValueError(
            f"data have shapes {x.shape} and {y.shape}; they need (n_data, n_inputs) and (n_data,)"
        )
    for name, asked, found in (("n_data", n_data, x.shape[0]), ("n_inputs", n_inputs, x.shape[1])):
        if asked not in (None, found):
            raise ValueError(f"{name}={asked} but data have inputs of shape {x.shape}")
    return x, y


def checked_weights(weights, shapes: list[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """Initial weights of all layers as finite floats of these shapes."""
    given = tuple(finite("weights", w).copy() for w in weights)
    if [w.shape for w in given] != shapes:
        raise ValueError(f"weights have shapes {[w.shape for w in given]}; they need {shapes}")
    return given


def checked_batches(batches, *, n_steps: int, n_data: int, batch_size: int | None) -> np.ndarray:
    """Rows of the data for each step's gradient, (n_steps, batch_size)."""
    rows = np.asarray(batches)
    if rows.ndim != 2 or len(rows) != n_steps or rows.shape[1] < 1 or rows.dtype.kind not in "iu":
        raise ValueError(
            f"batches are {rows.dtype} of shape {rows.shape}; they need whole numbers of shape "
            f"({n_steps}, batch_size), one row a step"
        )
    if rows.min() < 0 or rows.max() >= n_data:
        raise ValueError(f"batches name rows {rows.min()} to {rows.max()}; data have 0 to {n_data - 1}")
    if batch_size not in (None, rows.shape[1]):
        raise ValueError(f"batch_size={batch_size} but batches have shape {rows.shape}")
    return rows.astype(np.int64)


def digest(arrays) -> dict[str, Any]:
    """Shapes and a checksum: what stands for arrays in the settings of a map."""
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return {"shapes": [list(np.shape(a)) for a in arrays], "sha256": total.hexdigest()}
