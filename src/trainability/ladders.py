"""Zoom ladders: windows that shrink around a point, and in each how often rounding twins disagree."""

from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.special import ndtr

from ._checks import positive, whole
from ._contract import STATUS_ATTRS, is_trained
from ._question import wilson
from .grid import Axis, Grid
from .replicates import pair_flips, rate_of
from .sweep import trainability_map


def zoom_ladder(
    trainer: Any,
    point: Mapping[str, float],
    *,
    widths,
    pixels: int = 12,
    twin: str = "rounding_seed",
    twins: int = 3,
    store: str | Path | None = None,
    workers: int | Executor = 1,
) -> xr.Dataset:
    """Train windows around a point, each with rounding twins: flips between twins against the size of a pixel.

    Where pixels are far apart against the predictability horizon, twins agree but at the boundary itself. Below it
    the whole window is chance, twins disagree as often as two tosses of one coin, and so do neighbours: the picture
    shows noise, however it is coloured.

    Parameters
    ----------
    trainer : Trainer
        With a hyperparameter that changes rounding alone.
    point : mapping of str to float
        On the boundary; positive. Its names are the axes.
    widths : array_like, shape (w,)
        Half-widths, relative: a window reaches from x e^-width to x e^width along each axis.
    pixels : int, optional
        Along each axis, at least 2.
    twin : str, optional
        The hyperparameter that numbers the twins 0, 1, …
    twins : int, optional
        At least 2.
    store : path, optional
        Folder with a store for each window, `window-0.zarr` and so on.
    workers : int or Executor, optional
        As in `trainability_map`.

    Returns
    -------
    Dataset, dim width
        `pixel`, the relative step between neighbours; `flips`, the chance that two twins of a pixel end unlike, and
        `neighbours`, the share of neighbouring pixels that do, each with `_low` and `_high`, 95 %, counted as if each
        pixel were one observation; `converged`, the share; and `status` of every run, (width, each axis, twin),
        without coordinates.

    Raises
    ------
    ValueError
        If the point or a width is not positive, or a count is too small.

    Examples
    --------
    >>> from trainability import trainers
    >>> trainer = trainers.Transformer.tiny(n_steps=2)
    >>> found = zoom_ladder(trainer, {"lr_attn": 0.05}, widths=[0.1, 0.01], pixels=3, twins=2)
    >>> found["pixel"].values, found["flips"].values
    (array([0.1 , 0.01]), array([0., 0.]))
    """
    whole(2, pixels=pixels, twins=twins)
    widths = np.atleast_1d(positive("widths", widths))
    for name, value in point.items():
        positive(name, value)
    position = np.linspace(-1, 1, pixels)
    names, rows = list(point), []
    for i, width in enumerate(widths):
        axes: dict[str, Any] = {k: Axis(v * np.exp(width * position), "log") for k, v in point.items()}
        runs = trainability_map(
            Grid(**axes, **{twin: np.arange(twins)}),
            trainer,
            store=None if store is None else Path(store) / f"window-{i}.zarr",
            tile=(*(min(4, pixels) for _ in names), twins),
            workers=workers,
        )
        rows.append(runs["status"].values)
    status = np.stack(rows)
    found = [_row(s) for s in status]
    columns = {name: ("width", np.array([row[name] for row in found])) for name in found[0]}
    return xr.Dataset(
        {
            "pixel": ("width", widths * (position[1] - position[0])),
            **columns,
            "status": (("width", *names, twin), status, STATUS_ATTRS),
        },
        coords={"width": widths},
        attrs={f"point_{name}": float(value) for name, value in point.items()},
    )


def _row(status: np.ndarray) -> dict[str, float]:
    """Rates of one window from its status, (axes…, twins)."""
    known = np.all(is_trained(status), axis=-1)
    flips, (low, high) = rate_of(pair_flips(status[known]))
    unlike = [_unlike(status, known, axis) for axis in range(known.ndim)]
    neighbours = float(np.concatenate(unlike).mean())
    n = int(known.sum())
    between = wilson(neighbours, n)
    return {
        "flips": flips, "flips_low": low, "flips_high": high,
        "neighbours": neighbours, "neighbours_low": between[0], "neighbours_high": between[1],
        "converged": float((status[known] == 1).mean()),
    }  # fmt: skip


def _unlike(status: np.ndarray, known: np.ndarray, axis: int) -> np.ndarray:
    """Whether neighbours along an axis differ, in each twin, where both are known; flat."""
    n = known.shape[axis]
    both = np.take(known, range(n - 1), axis) & np.take(known, range(1, n), axis)
    return (np.diff(status, axis=axis) != 0)[both].ravel()


def expected_flips(horizon: float, widths) -> np.ndarray:
    """Flips of twins in windows of relative half-widths, centred on a boundary that lies across one axis.

    If outcomes near the boundary are those of noise of a standard deviation `horizon` along the axis, two twins at a
    distance x differ with chance 2 Φ(x/h) Φ(-x/h): a half in windows far below the horizon, h / (√π width) far above.

    Examples
    --------
    >>> expected_flips(0.01, [1e-5, 1.0])
    array([0.5     , 0.005642])
    """
    widths = np.atleast_1d(np.asarray(widths, dtype=float))
    # Midpoints, dense within some standard deviations of the boundary: the integrand is nothing beyond.
    inner = np.minimum(widths, 8 * horizon)
    x = inner[:, None] * (np.arange(4000) + 0.5) / 4000
    return (2 * ndtr(x / horizon) * ndtr(-x / horizon)).mean(axis=1) * inner / widths
