"""Zooms: sequences of maps around a point, each with half the pixel of the one before."""

import json
import math
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ._contract import Trainer, is_trained
from ._crew import crew_of
from .grid import Grid, lattice_axis
from .sweep import trainability_map

# Parts that a segment is cut into at each step of a search: the points between fill the lanes of vector kernels.
SECTIONS = 9

# Pixels to each side among which changes of status are counted to find the roughest place.
ROUGH = 4


def zoom(
    grid: Grid,
    trainer: Trainer,
    point: Mapping[str, float],
    *,
    decades: float,
    wider: Trainer | None = None,
    store: str | Path | None = None,
    **options: Any,
) -> Iterator[xr.Dataset]:
    """Train maps around a point, each with pixels half as far apart, until they are `decades` closer.

    Frames lie on nested dyadic lattices: each takes the pixels that it shares with the one before (a quarter, in
    two dimensions). The point stays where it is in the picture.

    Parameters
    ----------
    grid : Grid
        Window of the first frame. Its number of pixels is kept; its spacing becomes the nearest power of two, in
        decades on a logarithmic axis, so the frame spans between 1/√2 and √2 times as much.
    trainer : Trainer
    point : mapping of str to float
        The place to zoom into, for each axis, inside the window.
    decades : float
        How far, counted on the spacing of pixels.
    wider : Trainer, optional
        Takes over from the frame on where neighbouring coordinates come too close for the dtype of `trainer`:
        usually the same one in double precision. It trains all pixels of its first frame.
    store : path, optional
        Folder with one store a frame, `frame_000.zarr` and so on; a zoom that finds them goes on.
    **options
        Of `trainability_map`, for each frame: `tile`, `workers`, `refine`, `retries`, `progress`.

    Returns
    -------
    iterator of Dataset
        Each as `trainability_map` returns it; attrs hold `zoom`, JSON with the frame's number, the decades
        zoomed, the decades that remain in the frame's dtype, and the place of the point in pixels.

    Raises
    ------
    ValueError
        Before any work: if a coordinate of the point is missing or outside the window, `decades` is negative or
        not finite, or the first frame is too fine already.

    Warns
    -----
    UserWarning
        Before any work, if the dtype ends the zoom before `decades`: how far it goes, and which axis stops it.

    Notes
    -----
    Neighbours must stay `trainability.grid.MIN_ULP` units in the last place apart; nearer, they are one
    experiment. Near 0 a linear axis has no such end.

    Examples
    --------
    >>> from trainability import linear_axis, random_prompt, trainers
    >>> trainer = trainers.LinearTransformer(random_prompt(6, 2, seed=0), n_steps=20)
    >>> window = Grid(lr=linear_axis(0, 16, 8))
    >>> [runs["lr"].values[[0, -1]] for runs in zoom(window, trainer, {"lr": 4.0}, decades=0.5)]
    [array([ 0., 14.]), array([2., 9.]), array([3. , 6.5])]
    """
    frames = _guarded(_lattices(grid, point, decades), trainer, wider)

    def train() -> Iterator[xr.Dataset]:
        before, trained_by = None, None
        # One for all frames: processes take seconds to start.
        with crew_of(options.pop("workers", 1)) as crew:
            shared: Any = crew
            for i, (frame, place, suited) in enumerate(frames):
                runs = trainability_map(
                    frame,
                    suited,
                    store=None if store is None else Path(store) / f"frame_{i:03d}.zarr",
                    known=before if trained_by is suited else None,
                    workers=shared,
                    **options,
                )
                before, trained_by = runs, suited
                about = {
                    "frame": i,
                    "decades": round(i * math.log10(2), 6),
                    "decades_left": round(frame.decades_left(suited.dtype), 6),
                    "point": place,
                }
                yield runs.assign_attrs(zoom=json.dumps(about))

    return train()


def boundary_point(
    trainer: Trainer, start: Mapping[str, float], end: Mapping[str, float]
) -> dict[str, float]:
    """Find a point between two where the status changes, to the last bit of double precision.

    Cuts the segment into ninths and goes on with the first across which the status is no longer that of `start`,
    until no number is left between. On a rough boundary this is one of many changes.

    Parameters
    ----------
    trainer : Trainer
    start, end : mapping of str to float
        Hyperparameters of two runs whose statuses differ; the same names in both.

    Returns
    -------
    dict of str to float
        The last point found with the status of `start`.

    Raises
    ------
    ValueError
        If the names differ, or the statuses do not.

    Examples
    --------
    >>> from trainability import random_prompt, trainers
    >>> trainer = trainers.LinearTransformer(random_prompt(6, 2, seed=0), n_steps=100)
    >>> found = boundary_point(trainer, {"lr": 0.1}, {"lr": 100.0})
    >>> trainer.status(trainer({"lr": np.array([found["lr"], np.nextafter(found["lr"], np.inf)])}))
    array([1, 3], dtype=int8)
    """
    if set(start) != set(end):
        raise ValueError(
            f"start has {', '.join(start)} and end {', '.join(end)}; give both the same hyperparameters"
        )
    names = list(start)
    low, high = (np.array([float(p[name]) for name in names]) for p in (start, end))

    def status(points: np.ndarray) -> np.ndarray:
        return trainer.status(trainer({name: points[:, i].copy() for i, name in enumerate(names)}))

    here, there = status(np.stack([low, high]))
    if here == there:
        raise ValueError(
            f"start={dict(start)} and end={dict(end)} have one status, {here}; the boundary is elsewhere"
        )
    shares = np.linspace(0, 1, SECTIONS + 1)[1:-1, None]
    while True:
        between = np.unique(low + shares * (high - low), axis=0)
        between = between[(between != low).any(axis=1) & (between != high).any(axis=1)]
        if not len(between):
            return dict(zip(names, map(float, low), strict=True))
        along = np.argsort(np.abs(between - low).max(axis=1), kind="stable")
        between = between[along]
        changed = np.append(status(between) != here, True)
        first = int(changed.argmax())
        points = np.concatenate([low[None], between, high[None]])
        low, high = points[first], points[first + 1]


def roughest_point(runs: xr.Dataset, trainer: Trainer) -> dict[str, float]:
    """Find a point of the boundary in the part of a map where most neighbours differ in status: a place to zoom into.

    Parameters
    ----------
    runs : Dataset
        Of `trainer`.
    trainer : Trainer

    Returns
    -------
    dict of str to float
        For each axis, to the last bit of double precision.

    Raises
    ------
    ValueError
        If all trained pixels have one status.

    Examples
    --------
    >>> from trainability import log_axis, random_prompt, trainers
    >>> trainer = trainers.LinearTransformer(random_prompt(6, 2, seed=0), n_steps=100)
    >>> runs = trainability_map(Grid(lr=log_axis(0.1, 10, 16)), trainer)
    >>> 0.1 < roughest_point(runs, trainer)["lr"] < 10
    True
    """
    status = runs["status"].values
    trained = is_trained(status)
    changes = []  # of each axis: whether a pixel and the next differ
    for axis in range(status.ndim):
        low, high = (np.take(status, range(*cut), axis) for cut in _neighbours(status.shape[axis]))
        both = np.logical_and(
            *(np.take(trained, range(*cut), axis) for cut in _neighbours(status.shape[axis]))
        )
        changes.append((low != high) & both)
    if not any(change.any() for change in changes):
        raise ValueError(
            "runs: no two neighbours differ in status; widen the window until it holds a boundary"
        )
    axis, place = max(
        (
            (axis, tuple(map(int, place)))
            for axis, change in enumerate(changes)
            for place in np.argwhere(change)
        ),
        key=lambda spot: sum(
            int(change[tuple(slice(max(i - ROUGH, 0), i + ROUGH + 1) for i in spot[1])].sum())
            for change in changes
        ),
    )
    start = {str(d): float(runs[d][i]) for d, i in zip(runs["status"].dims, place, strict=True)}
    dim = str(runs["status"].dims[axis])
    return boundary_point(trainer, start, {**start, dim: float(runs[dim][place[axis] + 1])})


def _neighbours(n: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Ranges of the pixels that have a next one along an axis, and of those next ones."""
    return (0, n - 1), (1, n)


def _lattices(
    grid: Grid, point: Mapping[str, float], decades: float
) -> list[tuple[dict[str, tuple], list[float]]]:
    """Lattice of each frame of a zoom, axis by axis, and the place of the point in it, in pixels."""
    if not (math.isfinite(decades) and decades >= 0):
        raise ValueError(f"decades={decades} must be finite and not negative")
    if set(point) != set(grid):
        raise ValueError(f"point has {', '.join(point)}; it needs a value for each axis, {', '.join(grid)}")
    spots = []  # of each axis: position of the point, spacing of the first frame, place of the point in it
    for name, axis in grid.axes.items():
        if len(axis.values) < 2:
            raise ValueError(f"axis {name} has one pixel; a zoom needs at least 2")
        if not axis.values[0] <= point[name] <= axis.values[-1]:
            raise ValueError(
                f"point {name}={point[name]} is outside the window, {axis.values[0]:.6g} to {axis.values[-1]:.6g}"
            )
        ends = axis.values[0], point[name], axis.values[-1]
        low, position, high = map(float, axis.positions(ends))
        n = len(axis.values)
        spots.append(
            (
                position,
                2.0 ** round(math.log2((high - low) / (n - 1))),
                (position - low) / (high - low) * (n - 1),
            )
        )

    frames = []
    for i in range(1 + math.ceil(decades * math.log2(10))):
        axes, place = {}, []
        for (name, axis), (position, spacing, target) in zip(grid.axes.items(), spots, strict=True):
            step = spacing * 2.0**-i
            first = round(position / step - target)
            axes[name] = first, len(axis.values), step, axis.scale
            place.append(position / step - first)
        frames.append((axes, place))
    return frames


def _guarded(lattices, trainer: Trainer, wider: Trainer | None) -> list[tuple[Grid, list[float], Trainer]]:
    """Frames that floating point resolves, each with the trainer whose dtype does; warns where they end."""
    trainers = [trainer] if wider is None else [trainer, wider]
    frames: list[tuple[Grid, list[float], Trainer]] = []
    while len(frames) < len(lattices):
        axes, place = lattices[len(frames)]
        try:
            frame = Grid(**{name: lattice_axis(*spot) for name, spot in axes.items()})
            frame.check_resolution(trainers[0].dtype)
        except ValueError as error:
            if len(trainers) > 1:
                trainers.pop(0)
                continue
            if not frames:
                raise
            warnings.warn(
                f"the zoom ends at frame {len(frames) - 1} of {len(lattices) - 1}, "
                f"{(len(frames) - 1) * math.log10(2):.1f} decades in: {error}",
                stacklevel=3,
            )
            break
        frames.append((frame, place, trainers[0]))
    return frames
