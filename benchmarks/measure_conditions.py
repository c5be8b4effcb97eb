"""Measure the boundaries of the six published conditions: maps, dimensions with intervals, refinement, page, figures.

python benchmarks/measure_conditions.py --out maps                everything: hours on one core; resumable
python benchmarks/measure_conditions.py --out maps --stage measure          from the maps that are there: minutes
python benchmarks/measure_conditions.py --out maps --windows below above          these windows alone
python benchmarks/measure_conditions.py --out maps --pixels 64 --only identity --data d.json --stage train,measure

Trains the maps of `condition_maps.PLAN` with the weights, data and batches that the published code draws (needs JAX),
measures them, writes the numbers to src/trainability/data/measured_dimensions.json, and from them the tables of
docs/measured-dimensions.md and the figures. Maps are stores in the folder `--out`; a run that was stopped goes on
where it was. Numbers of maps that are not in the folder stay as they are.
"""

import argparse
import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

import trainability as tr
from boundary_places import place_folder, place_maps, stored, train_places
from condition_maps import (
    BLOCK,
    FRAME_PIXELS,
    FRAMES,
    PLAN,
    WINDOWS,
    Job,
    block_store,
    drawn_blocks,
    edge_cells,
    finest,
    frame_folder,
    inferred_from,
    is_complete,
    trace,
    train,
    train_frames,
)
from trainability import fractal_dimension, infer_status
from trainability._question import wilson
from trainability.conditions import CONDITIONS
from trainability.published import published_dimension, published_slopes
from trainability.sweep import is_trained

DOCS = Path(__file__).parents[1] / "docs"
DATA = DOCS.parent / "src/trainability/data/measured_dimensions.json"

# Coarsest resolution at which pixels and edges are counted to see how they grow.
COARSEST = 64

# Windows of this side give the local dimension over a full window.
LOCAL = 64

# Side from which on the published estimator, with boxes of 10 pixels and more, has a decade of box sizes.
LEAST_BOXES = 128

# Resamplings for an interval: of blocks, and of the frames of a zoom.
RESAMPLINGS = 2000


def measure(job: Job, out: Path) -> dict:
    """Everything about one map: JSON values."""
    runs = stored(job.store(out))
    whole = runs.assign(status=infer_status(runs)) if job.blocks else runs
    status = whole["status"].values
    traced = is_trained(runs["status"].values) if job.blocks else trace(status)
    low, recall, high = sampled_recall(runs, job, out) if job.blocks else (recalled(status, traced),) * 3
    found = fractal_dimension(whole, replicate=replicate(job, "rounding", whole, out))
    counts = scaling(status)
    return {
        **summary(whole, found),
        "dense": not job.blocks,
        "trained": float(traced.mean()),
        "recall": recall,
        "recall_interval": [low, high],
        "reason": found.reason,
        "flip_rate": None if np.isnan(found.flip_rate) else found.flip_rate,
        "replicates": {
            kind: flips(whole, other)
            for kind in ("rounding", "batches")
            if (other := replicate(job, kind, whole, out)) is not None
        },
        "scaling": counts,
        "edge_growth": growth(counts["pixels"], counts["edges"]),
        "trained_growth": growth(counts["pixels"], counts["trained"]),
        "local": local_quantiles(whole) if job.window == "full" else None,
    }


def measure_places(name: str, out: Path) -> dict[str, list]:
    """Dimension, with its interval, and share of unlike neighbours at each place along the boundary."""
    places = [summary(runs, fractal_dimension(runs)) for runs in place_maps(name, out)]
    return {key: [place[key] for place in places] for key in ("dimension", "interval", "neighbour_rate")}


def summary(runs: xr.Dataset, found: tr.FractalDimension) -> dict:
    """What is told of every window: where it is, its dimension by two estimators, and how unlike neighbours are."""
    published = np.nan
    if found.verdict != "not applicable" and min(runs["status"].shape) >= LEAST_BOXES:
        published = published_dimension(runs, estimator="median_local_slope")
    centre = {str(d): float(np.sqrt(runs[d].values[0] * runs[d].values[-1])) for d in runs["status"].dims}
    return {
        "pixels": min(runs["status"].shape),
        "centre": centre,
        "half_widths": [float(np.ptp(np.log10(runs[d].values))) / 2 for d in runs["status"].dims],
        "dimension": number(found.value),
        "interval": [number(end) for end in found.interval],
        "verdict": found.verdict,
        "neighbour_rate": number(found.neighbour_rate),
        "published_estimator": number(published),
    }


def number(value: float) -> float | None:
    """For JSON, which has no NaN."""
    return None if np.isnan(value) else float(value)


def replicate(job: Job, kind: str, runs: xr.Dataset, out: Path) -> xr.Dataset | None:
    """A replicate's outcomes in the shape of the map, pending between the pixels of its lattice; None without one."""
    store = job.replicate_store(kind, out)
    if not is_complete(store):
        return None
    lattice = stored(store)["status"].values
    status = np.full(runs["status"].shape, tr.Status.PENDING, np.int8)
    step = status.shape[0] // lattice.shape[0]
    status[::step, ::step] = lattice
    return runs.assign(status=runs["status"].copy(data=status))


def flips(runs: xr.Dataset, other: xr.Dataset) -> dict:
    """Share of the pixels of a replicate that end otherwise, with a 95 % interval: its pixels lie far apart."""
    known = is_trained(other["status"].values)
    rate = float((runs["status"].values != other["status"].values)[known].mean())
    n = int(known.sum())
    return {"rate": rate, "interval": list(wilson(rate, n)), "pixels": n}


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


def measure_path(name: str, plan: list[Job], frame_pixels: int, out: Path) -> dict:
    """Windows around the zoom's place, and what the published procedure makes of them."""
    path = [job.store(out) for job in plan if (job.condition, job.window) == (name, "path")]
    ends = [job for window in ("full", "zoom") for n, job in finest(plan, out, window) if n == name]
    if name in FRAMES:
        path, ends = sorted(frame_folder(name, frame_pixels, out).glob("frame_*.zarr")), []
    maps = [stored(store) for store in path if is_complete(store)]
    if not maps:
        return {"path": [], "published_procedure": None}
    side = min(maps[0]["status"].shape)
    frames = [*maps, *(thinned(stored(job.store(out)), side) for job in ends)]
    slopes = [published_slopes(frame) for frame in frames]
    numbers = np.random.default_rng(0)
    drawn = [
        np.median(np.concatenate([slopes[i] for i in numbers.integers(len(slopes), size=len(slopes))]))
        for _ in range(RESAMPLINGS)
    ]
    return {
        "path": [summary(runs, fractal_dimension(runs)) for runs in maps],
        "published_procedure": {
            "value": float(np.median(np.concatenate(slopes))),
            "interval": np.quantile(drawn, [0.025, 0.975]).tolist(),
            "frames": len(frames),
            "pixels": side,
        },
    }


def thinned(runs: xr.Dataset, side: int) -> xr.Dataset:
    """Part of the pixels, so many along a side; on a refined map those of the exploring lattice."""
    step = min(runs["status"].shape) // side
    return runs.isel({dim: slice(None, None, step) for dim in runs["status"].dims})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the maps")
    parser.add_argument(
        "--pixels", type=int, help="along each side, of every map; that of the plan by default"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(CONDITIONS),
        default=list(CONDITIONS),
        help="numbers of others are kept",
    )
    parser.add_argument(
        "--windows",
        nargs="+",
        choices=[*WINDOWS, "path"],
        default=[*WINDOWS, "path"],
        help="numbers of others are kept; the frames of a zoom belong to its path",
    )
    parser.add_argument("--stage", default="train,measure,write", help="some of train, measure, write")
    parser.add_argument("--data", type=Path, default=DATA, help="where the numbers go")
    options = parser.parse_args(arguments)
    stages = options.stage.split(",")

    plan = [job for job in PLAN if job.window in options.windows]
    frame_pixels = FRAME_PIXELS
    if options.pixels:
        plan = list(dict.fromkeys(replace(job, pixels=options.pixels) for job in plan))
        frame_pixels = options.pixels
    options.out.mkdir(parents=True, exist_ok=True)
    if "train" in stages:
        for name in options.only if {"below", "above"} & {*options.windows} else ():
            train_places(name, options.out)
            print("trained places of", name, flush=True)
        for job in plan:
            if job.condition in options.only:
                train(job, options.out)
                print("trained", job, flush=True)
        for name in FRAMES if "path" in options.windows else ():
            if name in options.only:
                train_frames(name, frame_pixels, options.out)
                print("trained the frames of", name, flush=True)
    maps = {(name, window): job for window in WINDOWS for name, job in finest(plan, options.out, window)}
    if "measure" in stages:
        found = json.loads(options.data.read_text(encoding="utf8")) if options.data.exists() else {}
        for name in options.only:
            found.setdefault(name, {})["published"] = CONDITIONS[name].dimension
            if place_folder(name, options.out).exists():
                found[name]["places"] = measure_places(name, options.out)
        for (name, window), job in maps.items():
            if name not in options.only:
                continue
            found[name][window] = measure(job, options.out)
            if window == "zoom" and "path" in options.windows:
                found[name] |= measure_path(name, plan, frame_pixels, options.out)
            print("measured", job, flush=True)
        options.data.parent.mkdir(parents=True, exist_ok=True)
        options.data.write_text(json.dumps(found, indent=1) + "\n", encoding="utf8")
    if "write" in stages:
        from draw_conditions import write

        found = json.loads(options.data.read_text(encoding="utf8"))
        write(found, {key: stored(job.store(options.out)) for key, job in maps.items()}, DOCS)


if __name__ == "__main__":
    warnings.simplefilter("once")
    main()
