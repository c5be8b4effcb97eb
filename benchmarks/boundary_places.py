"""Places of the boundary of the six published conditions: by chance, one after another along it, and
those whose dimensions are next to the published one."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path

import numpy as np
import xarray as xr

import trainability as tr
from trainability.conditions import CONDITIONS, reference_draw

# Side of the full map on which places to zoom into are chosen, and of the map around each place along the boundary.
COARSE = 64

# Side, in pixels of that map, of the patches of which each has one place, and places at the most.
PATCH, PLACES = 4, 24

Point = dict[str, float]


def kept(find: Callable[[str, Path], Point]) -> Callable[[str, Path], Point]:
    """Keep what was found of a condition beside its maps."""

    @wraps(find)
    def found(name: str, out: Path) -> Point:
        path = out / f"{name.replace(' ', '-')}-{find.__name__.removesuffix('_point')}.json"
        if not path.exists():
            path.write_text(json.dumps(find(name, out)) + "\n", encoding="utf8")
        return json.loads(path.read_text(encoding="utf8"))

    return found


@kept
def typical_point(name: str, out: Path) -> Point:
    """A place of the boundary drawn by chance, the same at every call.

    Among the neighbouring pixels of a coarse full map that differ one pair is drawn, all alike; the place is where
    the outcome first changes between them.
    """
    runs, trainer = coarse_map(name)
    found = pairs(runs)
    return between(runs, trainer, *found[np.random.default_rng(0).integers(len(found))])


@kept
def below_point(name: str, out: Path) -> Point:
    """Of the places along the boundary that whose dimension is the next below the published one."""
    return nearest_place(name, out, above=False)


@kept
def above_point(name: str, out: Path) -> Point:
    """Of the places along the boundary that whose dimension is the next above the published one."""
    return nearest_place(name, out, above=True)


def nearest_place(name: str, out: Path, *, above: bool) -> Point:
    train_places(name, out)
    maps = list(place_maps(name, out))
    excess = np.array([tr.fractal_dimension(runs).value for runs in maps]) - CONDITIONS[name].dimension
    runs = maps[np.nanargmin(np.where((excess > 0) == above, abs(excess), np.nan))]
    return {str(d): float(np.sqrt(runs[d].values[0] * runs[d].values[-1])) for d in runs["status"].dims}


def train_places(name: str, out: Path) -> None:
    """Maps as narrow as the zooms around places that follow the boundary: one in each patch of a coarse full map.

    A patch counts once however rough the boundary is in it, so that the places are spread along its course; of more
    than PLACES patches some are drawn.
    """
    runs, trainer = coarse_map(name)
    numbers = np.random.default_rng(1)
    patches: dict[tuple[int, ...], list] = {}
    for axis, pixel in pairs(runs):
        patches.setdefault(tuple(pixel // PATCH), []).append((axis, pixel))
    drawn = numbers.permutation(len(patches))[:PLACES]
    for k, found in enumerate(list(patches.values())[i] for i in sorted(drawn)):
        point = between(runs, trainer, *found[numbers.integers(len(found))])
        grid, _ = CONDITIONS[name].zoom(point, pixels=COARSE)
        tr.trainability_map(grid, trainer, store=place_folder(name, out) / f"{k:02d}.zarr")


def place_folder(name: str, out: Path) -> Path:
    return out / f"{name.replace(' ', '-')}-places"


def place_maps(name: str, out: Path) -> Iterator[xr.Dataset]:
    """What `train_places` has trained."""
    for store in sorted(place_folder(name, out).glob("*.zarr")):
        yield stored(store)


def stored(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, consolidated=False, chunks=None).load()


def coarse_map(name: str) -> tuple[xr.Dataset, tr.trainers.MLP]:
    """The full window of the reference's draw, and the trainer of its zooms."""
    condition = CONDITIONS[name]
    trainer = reference_draw(replace(condition.trainer, n_steps=condition.zoom_steps))
    return tr.trainability_map(condition.full(COARSE)[0], trainer), trainer


def pairs(runs: xr.Dataset) -> list[tuple[int, np.ndarray]]:
    """Neighbouring pixels that differ: the axis along which they lie, and the first of the two."""
    status = runs["status"].values
    return [(axis, pixel) for axis in (0, 1) for pixel in np.argwhere(np.diff(status, axis=axis) != 0)]


def between(runs: xr.Dataset, trainer: tr.trainers.MLP, axis: int, pixel: np.ndarray) -> Point:
    """The point where the outcome first changes from a pixel to the next along an axis."""
    dims = [str(d) for d in runs["status"].dims]
    start = {dim: float(runs[dim].values[i]) for dim, i in zip(dims, pixel, strict=True)}
    end = {**start, dims[axis]: float(runs[dims[axis]].values[pixel[axis] + 1])}
    return tr.boundary_point(trainer, start, end)
