"""Numbers that must be finite, or positive too: checked once, with an error naming the argument and the value."""

import numpy as np


def finite(name: str, value) -> np.ndarray:
    """Return `value` as a float array, or raise a `ValueError` naming the first number that is not finite."""
    array = np.asarray(value, dtype=float)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; found {array[~np.isfinite(array)].flat[0]}")
    return array


def positive(name: str, value) -> np.ndarray:
    """Return `value` as a float array of finite numbers above 0, or raise a `ValueError` naming the first other."""
    array = finite(name, value)
    if not (array > 0).all():
        raise ValueError(f"{name} must be positive; found {array[~(array > 0)].flat[0]}")
    return array
