"""Checks of arguments that several modules share: each error names the argument, the value and the remedy."""

import numpy as np

from ._finite import finite


def increasing(name: str, values) -> np.ndarray:
    """Return `values` as a 1-D, finite, strictly increasing float array, or raise a `ValueError`."""
    values = finite(name, values)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"{name}: values of shape {values.shape} are no axis; pass at least one value in one dimension"
        )
    if (np.diff(values) <= 0).any():
        i = int(np.argmax(np.diff(values) <= 0))
        raise ValueError(f"{name}: axis must increase strictly; {values[i]} is followed by {values[i + 1]}")
    return values


def not_negative(**counts: int) -> None:
    """Raise a `ValueError` naming the first count below 0."""
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name}={count} must not be negative")
