"""Checks of arguments that several modules share: each error names the argument, the value and the remedy."""

from collections.abc import Iterable, Mapping

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


def whole(least: int, **counts) -> None:
    """Raise a `ValueError` naming the first that is not a whole number, or is below `least`."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < least:
            raise ValueError(f"{name}={count!r} must be a whole number, at least {least}")


def not_negative(**counts: int) -> None:
    """Raise a `ValueError` naming the first count below 0."""
    for name, count in counts.items():
        if count < 0:
            raise ValueError(f"{name}={count} must not be negative")


def positive_whole(name: str, value) -> None:
    """Raise a `ValueError` unless `value` is a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name}={value!r} must be a positive whole number")


def check_interval(interval, name: str = "interval") -> tuple[float, float]:
    """Return (lo, hi) as floats, or raise a `ValueError` saying what is wrong."""
    ends = np.asarray(interval, dtype=float)
    if ends.shape != (2,) or not np.isfinite(ends).all() or not ends[0] < ends[1]:
        raise ValueError(f"{name}={interval} must be two finite numbers, the lower one first")
    return float(ends[0]), float(ends[1])


def check_box(d: int, box) -> np.ndarray:
    """Return `box` as an array (d, 2), or raise a `ValueError` saying what is wrong with it."""
    box = np.asarray(box, dtype=float)
    if box.shape != (d, 2):
        raise ValueError(
            f"box has shape {box.shape}; it needs ({d}, 2): lower and upper end of each variable"
        )
    if not np.isfinite(box).all() or (box[:, 0] >= box[:, 1]).any():
        raise ValueError(f"box {box.tolist()} needs finite ends, lower before upper")
    return box


def count_runs(pixels: Mapping[str, np.ndarray], hyperparameters: Iterable[str]) -> int:
    """Return how many runs pixels stand for, or raise a `ValueError` naming the first that is no hyperparameter.

    Also where they are not all arrays of one shape (n,), single numbers beside them aside.
    """
    for name in pixels:
        if name not in hyperparameters:
            raise ValueError(
                f"pixels: {name!r} is not a hyperparameter; known are {', '.join(hyperparameters)}"
            )
    shapes = {name: np.shape(values) for name, values in pixels.items()}
    found = set(shapes.values()) - {()}
    if [len(shape) for shape in found] != [1]:
        raise ValueError(
            f"pixels have the shapes {shapes}; pass at least one hyperparameter, all of one shape (n,), "
            "as {'lr': [0.01, 0.1]}"
        )
    return found.pop()[0]


def device_is_there(device: str) -> None:
    """Raise a `ValueError` if torch finds no such device."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on how it was built
        raise ValueError(
            f"device={device!r} is not there ({str(error).splitlines()[0]}); use 'cpu'"
        ) from None
