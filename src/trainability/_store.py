"""A trainability map on disk: one Zarr group, one chunk a tile, the template written whole before any run."""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .grid import Grid


class Variable(NamedTuple):
    """One array of a map before anything is known of it."""

    dtype: str
    fill: float
    attrs: dict[str, Any]


def open_store(
    path: Path, grid: Grid, variables: Mapping[str, Variable], *, tile: tuple[int, ...], attrs: dict[str, str]
) -> dict[str, Any]:
    """Open the store at `path`, or write its template there; return its arrays by name.

    Raises
    ------
    ValueError
        If the folder holds something else, or a sweep with other settings; the error names each difference.
    OSError
        If it cannot be written.
    """
    import zarr

    try:
        if not path.exists() or not any(path.iterdir()):
            _write_template(path, grid, variables, tile, attrs)
    except OSError as error:
        raise OSError(
            f"store {path} cannot be written ({error}); choose a folder you may write to"
        ) from error
    try:
        group = zarr.open_group(path, mode="r+", zarr_format=3)
    except (FileNotFoundError, ValueError):
        group = None
    if group is None or "settings" not in group.attrs or any(name not in group for name in variables):
        raise ValueError(f"store {path} exists and is no map of this trainer; choose another folder")
    _check_same(path, group, grid, attrs)
    for leftover in path.rglob("*.partial"):  # a write that was killed; its tile is still pending
        leftover.unlink()
    return {name: group[name] for name in variables}


def _write_template(path: Path, grid: Grid, variables: Mapping[str, Variable], tile, attrs) -> None:
    import zarr

    building = path.with_name(
        path.name + ".template"
    )  # renamed when whole, so a kill leaves no half template
    building.parent.mkdir(parents=True, exist_ok=True)
    group = zarr.create_group(building, zarr_format=3, overwrite=True, attributes=attrs)
    for name, (dim, values, extra) in grid.coords().items():
        group.create_array(name, data=values, chunks=values.shape, dimension_names=[dim], attributes=extra)
    for name, variable in variables.items():
        group.create_array(
            name,
            shape=grid.shape,
            chunks=tuple(min(t, n) for t, n in zip(tile, grid.shape, strict=True)),
            dtype=variable.dtype,
            fill_value=variable.fill,
            dimension_names=list(grid),
            attributes=variable.attrs,
        )
    if path.exists():
        path.rmdir()
    building.rename(path)


def _check_same(path: Path, group, grid: Grid, attrs: dict[str, str]) -> None:
    """Raise a `ValueError` that names every difference between a store and the sweep that found it."""
    there = {**group.attrs, **json.loads(group.attrs["settings"])}
    here = {**attrs, **json.loads(attrs["settings"])}
    ignored = {"settings", "commit", "package_version"}
    differences = [
        f"{name} is {_short(there.get(name))} there and {_short(here.get(name))} here"
        for name in sorted((there.keys() | here.keys()) - ignored)
        if there.get(name) != here.get(name)
    ]
    dims = list(group["status"].metadata.dimension_names)
    if dims != list(grid):
        differences.append(f"axes are {', '.join(dims)} there and {', '.join(grid)} here")
    else:
        for name in grid:
            old, new = group[name][...], grid[name]
            if not np.array_equal(old, new):
                differences.append(f"axis {name} holds {_span(old)} there and {_span(new)} here")
    if differences:
        raise ValueError(
            f"store {path} belongs to another sweep: {'; '.join(differences)}. "
            "Choose another store, or the same settings"
        )
    if there["commit"] != here["commit"]:
        warnings.warn(
            f"store {path} was begun by commit {there['commit']}; this is {here['commit']}", stacklevel=5
        )


def _span(values: np.ndarray) -> str:
    return f"{len(values)} values from {values[0]:.6g} to {values[-1]:.6g}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."
