"""The maps of the six published conditions: what is trained, in which windows, in which stores.

Trained with the weights, data and batches that the published code draws (needs JAX). Each store goes on where it
stopped.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

import trainability as tr
from boundary_places import above_point, below_point, stored, typical_point
from trainability import infer_status
from trainability.conditions import CONDITIONS, ZOOM, reference_draw
from trainability.refinement import trace_boundary
from trainability.sweep import EXPLORE

# Side, in pixels, of the blocks in which a refined map is checked against one with every pixel trained.
BLOCK = 32

# Side of the lattice that zooms into the roughest place take their pixels from, where they are not finer.
LATTICE = 512


@dataclass(frozen=True)
class Job:
    """A map to train.

    `window`: "full"; "zoom", around the roughest place; "typical", around a place of the boundary drawn by chance;
    "below" and "above", around the places whose dimensions are next to the published one; or "path", around the
    roughest place but wider. `half_width` of all but the first in decades. `blocks` are trained whole in each stratum
    of a refined map; of a dense map there are none. `twins`: side of the lattice of pixels that is trained again by
    each replicate.
    """

    condition: str
    window: str
    pixels: int
    blocks: int = 0
    half_width: float = ZOOM
    twins: int = 128

    @property
    def name(self) -> str:
        width = f"-{self.half_width:g}" if self.window == "path" else ""
        return f"{self.condition.replace(' ', '-')}-{self.window}{width}"

    def store(self, out: Path) -> Path:
        return out / f"{self.name}-{self.pixels}.zarr"

    def replicate_store(self, kind: str, out: Path) -> Path:
        return out / f"{self.name}-{min(self.twins, self.pixels)}.{kind}.zarr"

    def grid(self, out: Path) -> tuple[tr.Grid, tr.trainers.MLP]:
        """Grid, and trainer with the reference's draw."""
        condition = CONDITIONS[self.condition]
        if self.window == "full":
            grid, trainer = condition.full(self.pixels)
            return grid, reference_draw(trainer)
        # Zooms are trained at every fourth pixel, every second, and all: each takes over the pixels before.
        finest = max(LATTICE, self.pixels) if self.window == "zoom" else self.pixels
        place = PLACES.get(self.window)
        point = place(self.condition, out) if place else condition.zoom_point
        grid, trainer = condition.zoom(point, pixels=finest, half_width=self.half_width)
        return every(grid, finest // self.pixels), reference_draw(trainer)


# Windows that are measured; a "path" is part of its zoom.
WINDOWS = ("full", "zoom", "typical", "below", "above")

# How the place is found, other than the roughest.
PLACES = {"typical": typical_point, "below": below_point, "above": above_point}

EXPENSIVE = ("relu", "tanh", "offset", "mini-batch")

# Cheap conditions and relu whole, the others refined and checked in blocks; zooms into the roughest place whole.
PLAN = [
    Job("identity", "full", 1024, twins=1024),
    Job("one point", "full", 1024, twins=1024),
    Job("relu", "full", 1024),
    Job("tanh", "full", 1024, blocks=24),
    Job("mini-batch", "full", 1024, blocks=24),
    Job("offset", "full", 1024, blocks=24),
    Job("identity", "zoom", 1024),
    Job("one point", "zoom", 1024),
    *(Job(name, "zoom", n) for n in (128, 256, 512) for name in EXPENSIVE),
    Job("identity", "typical", 1024),
    Job("one point", "typical", 1024),
    *(Job(name, "typical", 256, blocks=8, twins=64) for name in ("relu", "tanh", "offset")),
    Job("mini-batch", "typical", 128, blocks=8, twins=64),
    # Beside the published number; the zoom of the offset is published itself.
    *(Job(name, window, 1024) for name in ("identity", "one point") for window in ("below", "above")),
    Job("tanh", "below", 1024, blocks=24),
    *(Job(name, "below", 1024, blocks=8) for name in ("relu", "mini-batch")),
    *(Job(name, "above", 256, blocks=8, twins=64) for name in ("relu", "tanh", "mini-batch")),
    *(Job("relu", "path", 128, half_width=w) for w in (1, 1e-2, 1e-4, 1e-8)),
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
    """Fill the store of a map, those of its blocks and those of its replicates."""
    grid, trainer = job.grid(out)
    coarser = replace(job, pixels=job.pixels // 2).store(out)
    known = stored(coarser) if job.window == "zoom" and coarser.exists() else None
    runs = tr.trainability_map(grid, trainer, store=job.store(out), refine=bool(job.blocks), known=known)
    for corner in drawn_blocks(runs, job.blocks)[0] if job.blocks else ():
        part = every(grid, 1, corner, corner + BLOCK)
        store = block_store(job.store(out), corner)
        store.parent.mkdir(exist_ok=True)
        tr.trainability_map(part, trainer, store=store, known=runs)
    lattice = every(grid, max(job.pixels // job.twins, 1))
    for kind, other in replicates(trainer) if job.window != "path" else ():
        tr.trainability_map(lattice, other, store=job.replicate_store(kind, out))


def replicates(trainer: tr.trainers.MLP) -> Iterator[tuple[str, tr.trainers.MLP]]:
    """What should not matter, changed: every weight the next number up, and the same batches in another order."""
    yield "rounding", replace(trainer, weights=tuple(np.nextafter(w, np.inf) for w in trainer.weights))
    if trainer.batches is not None:
        yield "batches", replace(trainer, batches=np.random.default_rng(0).permutation(trainer.batches))


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


def trace(status: np.ndarray, *, widen: bool = True) -> np.ndarray:
    """Pixels that refinement would have trained on a map whose outcomes are known where it asks for them."""
    return trace_boundary(status.shape, lambda wanted: status, step=EXPLORE, widen=widen)


def inferred_from(status: np.ndarray, traced: np.ndarray) -> np.ndarray:
    """Status of all pixels as inferred from those that were traced."""
    kept = np.where(traced, status, tr.Status.INFERRED).astype(np.int8)
    return infer_status(xr.Dataset({"status": (("x", "y"), kept)})).values


# Stores


def block_store(store: Path, corner: np.ndarray) -> Path:
    return store.with_suffix(".blocks") / f"{corner[0]:04d}-{corner[1]:04d}.zarr"


def frame_folder(name: str, pixels: int, out: Path) -> Path:
    return out / f"{name.replace(' ', '-')}-frames-{pixels}"


def is_complete(store: Path) -> bool:
    """Whether every pixel of a store is trained or inferred: nothing is left to do."""
    if not store.exists():
        return False
    status = xr.open_zarr(store, consolidated=False, chunks=None)["status"].values
    return not (status == tr.Status.PENDING).any()


def finest(plan: list[Job], out: Path, window: str) -> Iterator[tuple[str, Job]]:
    """Of a window of each condition, the map of most pixels that is complete, blocks included."""
    for name in CONDITIONS:
        jobs = [job for job in plan if (job.condition, job.window) == (name, window)]
        for job in sorted(jobs, key=lambda job: -job.pixels):
            store = job.store(out)
            if is_complete(store) and (
                not job.blocks
                or all(is_complete(block_store(store, c)) for c in drawn_blocks(stored(store), job.blocks)[0])
            ):
                yield name, job
                break
