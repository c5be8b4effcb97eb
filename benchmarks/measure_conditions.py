"""Measure the boundaries of the six published conditions: maps, dimensions with intervals, refinement, page, figures.

python benchmarks/measure_conditions.py --out maps                everything: about two hours on one core; resumable
python benchmarks/measure_conditions.py --out maps --stage measure          from the maps that are there: a minute
python benchmarks/measure_conditions.py --out maps --pixels 64 --only identity --data d.json --stage train,measure

Trains the maps of `PLAN` with the weights, data and batches that the published code draws (needs JAX), measures them,
writes the numbers to src/trainability/data/measured_dimensions.json, and from them the table of
docs/measured-dimensions.md and the figures. Maps are stores in the folder `--out`; a run that was stopped goes on
where it was.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

import trainability as tr
from trainability import fractal_dimension, infer_status
from trainability.conditions import CONDITIONS, reference_draw
from trainability.published import published_dimension
from trainability.refinement import trace_boundary
from trainability.sweep import EXPLORE, is_trained

DOCS = Path(__file__).parents[1] / "docs"
DATA = DOCS.parent / "src/trainability/data/measured_dimensions.json"

# Side, in pixels, of the blocks in which a refined map is checked against one with every pixel trained.
BLOCK = 32

# Coarsest resolution at which pixels and edges are counted to see how they grow.
COARSEST = 64

# Windows of this side give the local dimension over a full window.
LOCAL = 64

# Resamplings of blocks for an interval.
RESAMPLINGS = 2000


@dataclass(frozen=True)
class Job:
    """A map to train. `blocks` are trained whole in each stratum of a refined map; of a dense map there are none."""

    condition: str
    window: str
    pixels: int
    blocks: int = 0

    def store(self, out: Path) -> Path:
        return out / f"{self.condition.replace(' ', '-')}-{self.window}-{self.pixels}.zarr"

    def grid(self) -> tuple[tr.Grid, tr.trainers.MLP]:
        """Grid, and trainer with the reference's draw."""
        condition = CONDITIONS[self.condition]
        if self.window == "full":
            grid, trainer = condition.full(self.pixels)
            return grid, reference_draw(trainer)
        # Zooms are trained at every fourth pixel, every second, and all: each takes over the pixels before.
        finest = max(job.pixels for job in PLAN if (job.condition, job.window) == (self.condition, "zoom"))
        finest = max(finest, self.pixels)
        grid, trainer = condition.zoom(pixels=finest)
        return every(grid, finest // self.pixels), trainer


# Cheap conditions whole, the others refined and checked in blocks; zooms whole.
PLAN = [
    Job("identity", "full", 1024),
    Job("one point", "full", 1024),
    Job("relu", "full", 1024, blocks=48),
    Job("tanh", "full", 1024, blocks=24),
    Job("mini-batch", "full", 1024, blocks=24),
    Job("offset", "full", 1024, blocks=24),
    Job("identity", "zoom", 1024),
    Job("one point", "zoom", 1024),
    *(Job(name, "zoom", n) for n in (128, 256, 512) for name in ("relu", "tanh", "offset", "mini-batch")),
]

# Conditions of which a whole zoom is cheap: frames of so many pixels, so many decades from the full window on.
FRAMES, FRAME_PIXELS, DECADES = ("identity", "one point"), 512, 10


def every(grid: tr.Grid, step: int, starts=(0, 0), stops=(None, None)) -> tr.Grid:
    """Part of a grid: every `step`-th pixel between the starts and the stops."""
    return tr.Grid(
        **{
            name: tr.Axis(axis.values[start:stop:step], axis.scale)
            for (name, axis), start, stop in zip(grid.axes.items(), starts, stops, strict=True)
        }
    )


# Training


def train(job: Job, out: Path) -> None:
    """Fill the store of a map, and those of its blocks."""
    grid, trainer = job.grid()
    coarser = replace(job, pixels=job.pixels // 2).store(out)
    known = stored(coarser) if job.window == "zoom" and coarser.exists() else None
    runs = tr.trainability_map(grid, trainer, store=job.store(out), refine=bool(job.blocks), known=known)
    for corner in drawn_blocks(runs, job.blocks)[0] if job.blocks else ():
        part = every(grid, 1, corner, corner + BLOCK)
        store = block_store(job.store(out), corner)
        store.parent.mkdir(exist_ok=True)
        tr.trainability_map(part, trainer, store=store, known=runs)


def train_frames(name: str, pixels: int, out: Path) -> None:
    """Zoom around the condition's point from the full window on, as published."""
    condition = CONDITIONS[name]
    grid, trainer = condition.full(pixels)
    frames = tr.zoom(
        grid,
        reference_draw(trainer),
        condition.zoom_point,
        decades=DECADES,
        store=frame_folder(name, pixels, out),
    )
    for _ in frames:
        pass


def train_replicate(job: Job, out: Path) -> None:
    """Train a map again with all weights moved to the next number: what rounding decides shows as a difference."""
    grid, trainer = job.grid()
    moved = replace(trainer, weights=tuple(np.nextafter(w, np.inf) for w in trainer.weights))
    tr.trainability_map(grid, moved, store=replicate_store(job.store(out)))


def drawn_blocks(runs: xr.Dataset, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Corners of the blocks to check, (n, 2), and how many blocks each stands for.

    Drawn apart among the blocks in which plain tracing has an edge, and among those in which it has none, where
    islands may have been missed.
    """
    status = infer_status(runs).values
    plain = trace(status, widen=False)
    held = in_blocks(edge_cells(inferred_from(status, plain))).any(axis=(1, 3))
    numbers = np.random.default_rng(seed)
    corners, weights = [], []
    for stratum in (held, ~held):
        places = np.argwhere(stratum)
        chosen = places[numbers.permutation(len(places))[:count]]
        corners.append(chosen * BLOCK)
        weights.append(np.full(len(chosen), len(places) / max(len(chosen), 1)))
    return np.concatenate(corners), np.concatenate(weights)


def in_blocks(mask: np.ndarray) -> np.ndarray:
    """Cut into blocks: (rows of blocks, BLOCK, columns of blocks, BLOCK)."""
    return mask.reshape(mask.shape[0] // BLOCK, BLOCK, mask.shape[1] // BLOCK, BLOCK)


def edge_cells(status: np.ndarray) -> np.ndarray:
    """Cells with more than one outcome at the pixel of their first corner; the last row and column have none."""
    edges = np.zeros(status.shape, bool)
    edges[:-1, :-1] = tr.boundary(status)
    return edges


# Stores


def stored(path: Path) -> xr.Dataset:
    return xr.open_zarr(path, consolidated=False).load()


def block_store(store: Path, corner: np.ndarray) -> Path:
    return store.with_suffix(".blocks") / f"{corner[0]:04d}-{corner[1]:04d}.zarr"


def replicate_store(store: Path) -> Path:
    return store.with_suffix(".replicate.zarr")


def frame_folder(name: str, pixels: int, out: Path) -> Path:
    return out / f"{name.replace(' ', '-')}-frames-{pixels}"


def is_complete(store: Path) -> bool:
    """Whether every pixel of a store is trained or inferred: nothing is left to do."""
    return store.exists() and not (stored(store)["status"] == tr.Status.PENDING).any()


# Measuring


def measure(job: Job, out: Path) -> dict:
    """Everything about one map: JSON values."""
    runs = stored(job.store(out))
    whole = runs.assign(status=infer_status(runs)) if job.blocks else runs
    status = whole["status"].values
    traced = is_trained(runs["status"].values) if job.blocks else trace(status)
    low, recall, high = sampled_recall(runs, job, out) if job.blocks else (recalled(status, traced),) * 3
    replicate = replicate_store(job.store(out))
    found = fractal_dimension(whole, replicate=stored(replicate) if is_complete(replicate) else None)
    counts = scaling(status)
    return {
        "pixels": job.pixels,
        "dense": not job.blocks,
        "half_widths": [float(np.ptp(np.log10(runs[d].values))) / 2 for d in runs["status"].dims],
        "trained": float(traced.mean()),
        "recall": recall,
        "recall_interval": [low, high],
        "dimension": found.value,
        "interval": list(found.interval),
        "verdict": found.verdict,
        "reason": found.reason,
        "flip_rate": None if np.isnan(found.flip_rate) else found.flip_rate,
        "published_estimator": published_dimension(whole, estimator="median_local_slope"),
        "scaling": counts,
        "edge_growth": growth(counts["pixels"], counts["edges"]),
        "trained_growth": growth(counts["pixels"], counts["trained"]),
        "local": local_quantiles(whole) if job.window == "full" else None,
    }


def trace(status: np.ndarray, *, widen: bool = True) -> np.ndarray:
    """Pixels that refinement would have trained on a map whose outcomes are known where it asks for them."""
    return trace_boundary(status.shape, lambda wanted: status, step=EXPLORE, widen=widen)


def inferred_from(status: np.ndarray, traced: np.ndarray) -> np.ndarray:
    """Status of all pixels as inferred from those that were traced."""
    kept = np.where(traced, status, tr.Status.INFERRED).astype(np.int8)
    return infer_status(xr.Dataset({"status": (("x", "y"), kept)})).values


def recalled(status: np.ndarray, traced: np.ndarray) -> float:
    """Share of the edge cells of a dense map that its refinement finds."""
    true = edge_cells(status)
    return float((true & edge_cells(inferred_from(status, traced))).sum() / true.sum())


def sampled_recall(runs: xr.Dataset, job: Job, out: Path) -> tuple[float, float, float]:
    """Low end, value and high end (95 %, blocks resampled in their strata) of the recall of a refined map."""
    inferred = infer_status(runs).values
    corners, weights = drawn_blocks(runs, job.blocks)
    counts = []  # of each block: edge cells, and those of them that the refined map has
    for i, j in corners:
        true = edge_cells(stored(block_store(job.store(out), np.array([i, j])))["status"].values)
        found = edge_cells(inferred[i : i + BLOCK, j : j + BLOCK])
        counts.append((true.sum(), (true & found).sum()))
    strata = [np.flatnonzero(weights == w) for w in np.unique(weights)]
    total = weights[:, None] * np.array(counts)
    numbers = np.random.default_rng(0)
    drawn = []
    for _ in range(RESAMPLINGS):
        again = np.concatenate([numbers.choice(s, len(s)) for s in strata])
        true, found = total[again].sum(axis=0)
        drawn.append(found / true if true else np.nan)
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    true, found = total.sum(axis=0)
    return float(low), float(found / true), float(high)


def scaling(status: np.ndarray) -> dict[str, list[float]]:
    """Edge cells, and pixels that refinement trains, on every pixel, every second, fourth, …"""
    found: dict[str, list[float]] = {"pixels": [], "edges": [], "trained": []}
    step = max(min(status.shape) // COARSEST, 2)  # two resolutions at least
    while step:
        coarse = [status[i::step, j::step] for i in {0, step // 2} for j in {0, step // 2}]
        found["pixels"].append(min(status.shape) // step)
        found["edges"].append(float(np.mean([tr.boundary(c).sum() for c in coarse])))
        found["trained"].append(float(trace(coarse[0]).sum()))
        step //= 2
    return found


def growth(pixels: list[float], counts: list[float]) -> dict[str, float]:
    """Exponent of counts against resolution: over all of the range, and least and largest over one octave."""
    x, y = np.log(pixels), np.log(np.maximum(counts, 1))
    octaves = np.diff(y) / np.diff(x)
    return {
        "exponent": float(np.polyfit(x, y, 1)[0]),
        "least": float(octaves.min()),
        "most": float(octaves.max()),
    }


def local_quantiles(runs: xr.Dataset) -> dict[str, float] | None:
    """Quantiles of the dimension in windows over the plane, of those that measure it within 0.1."""
    if min(runs["status"].shape) < 2 * LOCAL:
        return None
    local = tr.local_dimension(runs, window=LOCAL)
    values = local["dimension"].values[local["stderr"].values < 0.1]
    if not len(values):
        return None
    return {
        "windows": len(values),
        **{f"{q:.0%}": float(np.quantile(values, q)) for q in (0.05, 0.5, 0.95)},
    }


def measure_frames(name: str, pixels: int, out: Path) -> dict | None:
    """Measure each frame of a zoom by the published estimator and by ours; None where there is no zoom."""
    folder = frame_folder(name, pixels, out)
    frames = sorted(folder.glob("frame_*.zarr")) if folder.exists() else []
    rows = []
    for frame in frames:
        if not is_complete(frame):
            break
        runs = stored(frame)
        found = fractal_dimension(runs)
        slope = (
            np.nan
            if found.verdict == "not applicable"
            else published_dimension(runs, estimator="median_local_slope")
        )
        rows.append((slope, found.value))
    if not rows:
        return None
    slopes, values = np.array(rows).T
    return {
        "pixels": pixels,
        "decades": [round(i * np.log10(2), 3) for i in range(len(rows))],
        "published_estimator": [None if np.isnan(s) else float(s) for s in slopes],
        "dimension": [None if np.isnan(v) else float(v) for v in values],
        "median_published_estimator": float(np.nanmedian(slopes)),
    }


def finest(plan: list[Job], out: Path) -> Iterator[tuple[str, str, Job]]:
    """Of each window of each condition, the map of most pixels that is complete, blocks included."""
    for name in CONDITIONS:
        for window in ("full", "zoom"):
            jobs = [job for job in plan if (job.condition, job.window) == (name, window)]
            for job in sorted(jobs, key=lambda job: -job.pixels):
                store = job.store(out)
                if is_complete(store) and (
                    not job.blocks
                    or all(
                        is_complete(block_store(store, c)) for c in drawn_blocks(stored(store), job.blocks)[0]
                    )
                ):
                    yield name, window, job
                    break


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the maps")
    parser.add_argument(
        "--pixels", type=int, help="along each side, of every map; that of the plan by default"
    )
    parser.add_argument("--only", nargs="+", choices=list(CONDITIONS), default=list(CONDITIONS))
    parser.add_argument("--stage", default="train,measure,write", help="some of train, measure, write")
    parser.add_argument("--data", type=Path, default=DATA, help="where the numbers go")
    options = parser.parse_args(arguments)
    stages = options.stage.split(",")

    plan = [job for job in PLAN if job.condition in options.only]
    frame_pixels = FRAME_PIXELS
    if options.pixels:
        plan = list(dict.fromkeys(replace(job, pixels=options.pixels) for job in plan))
        frame_pixels = options.pixels
    zooms = [name for name in FRAMES if name in options.only]
    options.out.mkdir(parents=True, exist_ok=True)
    if "train" in stages:
        for job in plan:
            train(job, options.out)
            if job.window == "zoom" and job.condition in FRAMES:
                train_replicate(job, options.out)
            print("trained", job, flush=True)
        for name in zooms:
            train_frames(name, frame_pixels, options.out)
            print("trained the frames of", name, flush=True)
    if "measure" in stages:
        found: dict[str, dict] = {}
        for name, window, job in finest(plan, options.out):
            found.setdefault(name, {"published": CONDITIONS[name].dimension})[window] = measure(
                job, options.out
            )
            print("measured", job, flush=True)
        for name in zooms:
            frames = measure_frames(name, frame_pixels, options.out)
            if name in found and frames:
                found[name]["frames"] = frames
        options.data.parent.mkdir(parents=True, exist_ok=True)
        options.data.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
    if "write" in stages:
        from draw_conditions import write

        write(
            json.loads(options.data.read_text(encoding="utf8")),
            {
                (name, window): stored(job.store(options.out))
                for name, window, job in finest(plan, options.out)
            },
            DOCS,
        )


if __name__ == "__main__":
    warnings.simplefilter("once")
    main()
