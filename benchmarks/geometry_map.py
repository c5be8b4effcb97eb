"""Do two exponents at initialization say where a deep transformer trains? The map, its controls, its page.

    python benchmarks/geometry_map.py           # train what is missing in --out, then write page and figure

The map is that of `trainability map transformer out/geometry-map/map.zarr --preset geometry`, which this script goes
on with. Everything is kept in --out, so that a run that is killed goes on where it was.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import geometry_page
import trainability as tr
from draw_geometry_map import draw
from trainability.cli_map import read_axis
from trainability.cli_transformer import AXES, preset_trainer
from trainability.trainers._transformer_module import initial_blocks

ROOT = Path(__file__).parents[1]

# Runs repeated with one thing changed, on every so many pixels along each axis: to tell luck from hyperparameters,
# and what a network learns from what its random blocks pass on.
TWINS: dict[str, tuple[int, dict[str, float]]] = {
    "the head alone trained": (4, {f"lr_{group}": 0.0 for group in ("attn", "mlp", "embed", "norm")}),
    "a learning rate of 0.003": (2, {"lr": 0.003}),
    "other weights": (2, {"seed": 1}),
    "other rounding": (2, {"rounding_seed": 0}),
}

# Other depths, on every so many pixels, at which a rule that was read off the map is put to the test. It was fixed
# before they were trained: `geometry_page.SMOOTHED`.
DEPTHS = {6: 2, 24: 4}

# Networks whose exponents are measured on the weights that were trained: every `MEASURED`-th pixel along each axis.
MEASURED = 8

TILE = (4, 4)  # some ten seconds


def grid_of(every: int = 1, first: int = 0) -> tr.Grid:
    """The preset's plane, or every so many of its pixels."""
    axes = dict(read_axis(text) for text in AXES["geometry"])
    return tr.Grid(**{name: tr.Axis(a.values[first::every], a.scale) for name, a in axes.items()})


def train_all(out: Path, *, workers: int) -> dict[str, xr.Dataset]:
    """The map and its twins."""
    trainer = preset_trainer("geometry")
    options: dict[str, Any] = {"tile": TILE, "workers": workers, "progress": True}
    maps = {"map": tr.trainability_map(grid_of(), trainer, store=out / "map.zarr", **options)}
    for depth, every in DEPTHS.items():
        deep = replace(trainer, n_layers=depth)
        maps[f"{depth} blocks"] = tr.trainability_map(
            grid_of(every), deep, store=out / f"depth-{depth}.zarr", **options
        )
    for name, (every, changed) in TWINS.items():
        store, twin = out / f"{name.replace(' ', '-')}.zarr", replace(trainer, **changed)
        maps[name] = tr.trainability_map(grid_of(every), twin, store=store, **options)
    return maps


def measured_exponents(out: Path) -> xr.Dataset:
    """Exponents of some of the networks, measured on the weights that they were trained from."""
    file = out / "measured.nc"
    if file.exists():
        return xr.load_dataset(file)
    trainer, grid = preset_trainer("geometry"), grid_of(MEASURED, MEASURED // 2)
    pixels = grid.pixels()
    rows = []
    for place in zip(*pixels.values(), strict=True):
        blocks, stream = initial_blocks(trainer, dict(zip(pixels, place, strict=True)), n_windows=4)
        found = tr.measure_exponents(blocks, stream, blocks=list(blocks))
        rows.append((found.angle, found.gradient, found.angle_stderr, found.gradient_stderr))
    names = ("angle", "gradient", "angle_stderr", "gradient_stderr")
    columns = {
        name: (tuple(grid), np.reshape(column, grid.shape))
        for name, column in zip(names, np.transpose(rows), strict=True)
    }
    measured = xr.Dataset(columns, coords={name: grid[name] for name in grid})
    measured.to_netcdf(file, engine="scipy")
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("out/geometry-map"))
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    maps = train_all(options.out, workers=options.workers)
    measured = measured_exponents(options.out)
    trainer = preset_trainer("geometry")
    found = tr.compare_exponents(maps["map"], trainer)
    print(found)
    slow = tr.compare_exponents(maps[geometry_page.SLOW], trainer)
    draw(found, slow, trainer, ROOT / "docs" / "figures" / "geometry-map.png")
    page = ROOT / "docs" / "geometry-map.md"
    page.write_text(geometry_page.text(found, slow, maps, measured, trainer), encoding="utf8")


if __name__ == "__main__":
    main()
