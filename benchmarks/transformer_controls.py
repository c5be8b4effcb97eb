"""Where does a small transformer train, and which of its map's pixels are chance? The map, its controls, its page.

    python benchmarks/transformer_controls.py                 # everything, then the page and its figures
    python benchmarks/transformer_controls.py map flips       # these parts alone
    python benchmarks/transformer_controls.py page            # docs/transformer-map.md, its numbers and its figures

Parts: map, flips, horizon, ladder, unseeded, dimension, page. Every run is kept in --out, so that a part that is
killed goes on where it was.
"""

import argparse
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import trainability as tr
from trainability.trainers import Transformer, text_task

ROOT = Path(__file__).parents[1]
DATA = ROOT / "docs" / "transformer-map.json"

# As `trainability map transformer map.zarr --n-steps 150 --n-records 50 --converged-below 0.66` has them.
CUT, SIDE, FINE_SIDE = 0.66, 32, 64
AXES = {"lr_attn": (0.01, 1.0), "lr_rest": (0.003, 0.6)}
REPLICATES = 8

# Measured on one core, busy with nothing else.
BUDGET = "less than 3 minutes of one core"

# The ladder and the horizon are measured here, on a steep and straight part of the boundary along lr_attn.
LR_REST = 0.03
WIDTHS = (2.0, 0.7, 0.3, 0.1, 0.03, 1e-3, 1e-5)


def small(**options) -> Transformer:
    """The decoder of the page: 16 wide, two blocks, Adam, 16 characters of the Sonnets at a time."""
    settings = {"n_steps": 150, "n_records": 50, "converged_below": CUT, "members": 16}
    return Transformer.tiny(text_task(window=16), **{**settings, **options})


def window(side: int) -> tr.Grid:
    """The plane of both learning rates."""
    return tr.Grid(**{name: tr.log_axis(*ends, side) for name, ends in AXES.items()})


@dataclass(frozen=True)
class Kept:
    """A trainer that keeps what it has trained in a folder."""

    trainer: Any
    folder: Path

    def __call__(self, pixels):
        digest = hashlib.sha256(json.dumps(self.trainer.settings(), sort_keys=True).encode())
        for name in sorted(pixels):
            digest.update(name.encode() + np.ascontiguousarray(pixels[name], dtype=float).tobytes())
        file = self.folder / f"{digest.hexdigest()[:24]}.npz"
        if not file.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            half = file.with_suffix(".half.npz")
            np.savez(half, **self.trainer(pixels))
            half.replace(file)
        return dict(np.load(file))

    def status(self, observables):
        """As the trainer has it."""
        return self.trainer.status(observables)


def seeded_map(out: Path, **options) -> xr.Dataset:
    """The 32 x 32 map, one data order for all pixels."""
    return tr.trainability_map(window(SIDE), small(), store=out / "map.zarr", tile=(8, 8), **options)


def unseeded_map(out: Path, **options) -> xr.Dataset:
    """The same map with a data order of its own at each pixel."""
    trainer = tr.Scattered(small(), "order_seed")
    return tr.trainability_map(window(SIDE), trainer, store=out / "unseeded.zarr", tile=(8, 8), **options)


def flips(out: Path) -> dict[str, tr.ReplicateFlips]:
    """Flips of each kind of replicate on one sample of pixels near the boundary and away from it."""
    runs, trainer, seeds = seeded_map(out), small(n_records=0), range(1, 1 + REPLICATES)
    kinds = {
        "data order": [replace(trainer, order_seed=s) for s in seeds],
        "weights": [replace(trainer, seed=s) for s in seeds],
        "rounding": [replace(trainer, rounding_seed=s) for s in seeds],
        "float64": [replace(trainer, dtype="float64", rounding_seed=s) for s in seeds],
    }
    return {
        kind: tr.replicate_flips(runs, [Kept(t, out / "flips") for t in trainers], n_pixels=20)
        for kind, trainers in kinds.items()
    }


def centre(out: Path) -> dict[str, float]:
    """Where the mean outcome of rounding twins crosses the cut-off, along lr_attn."""
    rates = np.geomspace(0.03, 0.15, 25)
    grid = tr.Grid(lr_attn=tr.Axis(rates, "log"), rounding_seed=np.arange(4))
    runs = tr.trainability_map(
        grid, small(lr_rest=LR_REST, n_records=0), store=out / "scan.zarr", tile=(5, 4)
    )
    mean = runs["tail_ratio"].mean("rounding_seed").values
    near = np.abs(mean - CUT) < 0.03
    slope, level = np.polyfit(np.log(rates[near]), mean[near], 1)
    return {"lr_attn": float(np.exp((CUT - level) / slope)), "lr_rest": LR_REST}


def horizons(out: Path) -> dict[str, tr.PredictabilityHorizon]:
    """The horizon of both precisions at the centre, for lr_attn."""
    point, found = centre(out), {}
    for dtype, steps in (("float32", None), ("float64", np.geomspace(1e-14, 0.64, 12))):
        found[dtype] = tr.predictability_horizon(
            small(dtype=dtype, n_records=0),
            point,
            axis="lr_attn",
            steps=steps,
            store=out / f"horizon-{dtype}",
        )
    return found


def ladder(out: Path) -> xr.Dataset:
    """Windows that shrink around the centre."""
    return tr.zoom_ladder(
        small(n_records=0), centre(out), widths=WIDTHS, pixels=10, twins=2, store=out / "ladder"
    )


def dimension(out: Path) -> tr.FractalDimension:
    """The verdict on the plane at twice the resolution, with a rounding twin of the whole map as its replicate."""
    maps = [
        tr.trainability_map(
            window(FINE_SIDE), small(n_records=0, rounding_seed=seed), store=out / name, tile=(16, 16)
        )
        for name, seed in (("fine-map.zarr", -1), ("fine-twin.zarr", 1))
    ]
    return tr.fractal_dimension(maps[0], replicate=maps[1])


PARTS: dict[str, Any] = {
    "map": seeded_map,
    "flips": flips,
    "horizon": horizons,
    "ladder": ladder,
    "unseeded": unseeded_map,
    "dimension": dimension,
}


def page(out: Path) -> str:
    """Measure what is missing, keep the numbers, draw the figures and write the page from the numbers."""
    import transformer_page

    found = {name: part(out) for name, part in PARTS.items()} | {"fine": FINE_SIDE, "budget": BUDGET}
    numbers = transformer_page.numbers(found, cut=CUT, point=centre(out))
    DATA.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf8")
    transformer_page.draw(found, cut=CUT, folder=ROOT / "docs" / "figures")
    text = transformer_page.text(numbers)
    DATA.with_suffix(".md").write_text(text, encoding="utf8")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="; ".join([*PARTS, "page"]))
    parser.add_argument("--out", type=Path, default=Path("out/transformer-controls"))
    options = parser.parse_args()
    for part in options.parts or [*PARTS, "page"]:
        print(part, flush=True)
        print({**PARTS, "page": page}[part](options.out), flush=True)


if __name__ == "__main__":
    main()
