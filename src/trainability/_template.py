"""The form of a store on disk: one Zarr group, one chunk a tile, each chunk with its checksum.

Nothing in a store depends on when or by whom it was written.
"""

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .grid import Grid


class Variable(NamedTuple):
    """One array of a map before anything is known of it; `dim` and `size` are of a vector in each pixel."""

    dtype: str
    fill: float
    attrs: dict[str, Any]
    dim: str = ""
    size: int = 1

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions after the grid's."""
        return (self.dim,) if self.dim else ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions after the grid's."""
        return (self.size,) if self.dim else ()


def open_group(path: Path):
    """The group of a store, to read and to write."""
    import zarr

    return zarr.open_group(path, mode="r+", zarr_format=3)


def write_template(path: Path, grid: Grid, variables: Mapping[str, Variable], tile, attrs) -> None:
    """Write a store whose pixels are all pending, whole or not at all."""
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    building = path.with_name(path.name + ".template")  # renamed when whole: a kill leaves no half template
    building.parent.mkdir(parents=True, exist_ok=True)
    # The checksum is taken last, of the compressed bytes: it can be verified without decoding them.
    codecs = [ZstdCodec(level=0), Crc32cCodec()]
    group = zarr.create_group(building, zarr_format=3, overwrite=True, attributes=attrs)
    for name, (dim, values, extra) in grid.coords().items():
        group.create_array(
            name,
            data=values,
            chunks=values.shape,
            compressors=codecs,
            dimension_names=[dim],
            attributes=extra,
        )
    for name, variable in variables.items():
        group.create_array(
            name,
            shape=(*grid.shape, *variable.shape),
            chunks=(*(min(t, n) for t, n in zip(tile, grid.shape, strict=True)), *variable.shape),
            dtype=variable.dtype,
            compressors=codecs,
            fill_value=variable.fill,
            dimension_names=[*grid, *variable.dims],
            attributes=variable.attrs,
        )
    if path.exists():
        path.rmdir()
    building.rename(path)


def check_same(path: Path, grid: Grid, variables: Mapping[str, Variable], attrs: Mapping[str, str]) -> None:
    """Raise a `ValueError` that names every difference between a store and the sweep that found it."""
    try:
        group = open_group(path)
        status = group["status"]
        ours = "settings" in group.attrs and all(name in group for name in variables)
    except (FileNotFoundError, KeyError, ValueError):
        ours = False
    if not ours:
        raise ValueError(f"store {path} exists and is no map of this trainer; choose another folder")
    if not any(codec.to_dict()["name"] == "crc32c" for codec in status.metadata.codecs):
        raise ValueError(
            f"store {path} was written by an older version, without checksums; choose another folder"
        )
    there = dict(group.attrs)
    differences = differing(there, attrs)
    dims = list(status.metadata.dimension_names)
    if dims != list(grid):
        differences.append(f"axes are {', '.join(dims)} there and {', '.join(grid)} here")
    else:
        for name in grid:
            if not is_whole(path / name / "c" / "0"):
                raise ValueError(
                    f"store {path}: axis {name} is corrupted, so its pixels cannot be placed; "
                    f"restore {name}/c/0 from a copy or choose another folder"
                )
            old, new = group[name][...], grid[name]
            if not np.array_equal(old, new):
                differences.append(f"axis {name} holds {_span(old)} there and {_span(new)} here")
    if differences:
        raise ValueError(
            f"store {path} belongs to another sweep: {'; '.join(differences)}. "
            "Choose another store, or the same settings"
        )
    if there["commit"] != attrs["commit"]:
        warnings.warn(
            f"store {path} was begun by commit {there['commit']}; this is {attrs['commit']}", stacklevel=6
        )


def differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Say in what the attributes of two maps differ, setting by setting, versions aside."""
    there, here = ({**attrs, **json.loads(attrs.get("settings", "{}"))} for attrs in (there, here))
    ignored = {"settings", "commit", "package_version"}
    return [
        f"{name} is {_short(there.get(name))} there and {_short(here.get(name))} here"
        for name in sorted((there.keys() | here.keys()) - ignored)
        if there.get(name) != here.get(name)
    ]


def _span(values: np.ndarray) -> str:
    return f"{len(values)} values from {values[0]:.6g} to {values[-1]:.6g}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."


def is_whole(file: Path) -> bool:
    """Whether a chunk is there and ends in the checksum of the bytes before it."""
    import google_crc32c  # the one that zarr itself uses

    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return False
    return len(content) > 4 and google_crc32c.value(content[:-4]) == int.from_bytes(content[-4:], "little")
