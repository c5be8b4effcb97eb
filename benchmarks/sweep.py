"""The sweep engine: a million pixels through every executor, and what the store costs to open.

    python benchmarks/sweep.py [--pixels 1000] [--microseconds 20] [--page docs/speed.md]

The trainer sleeps for a time in proportion to its pixels, so its work is known exactly and whatever comes on top is
the engine: pickling, scheduling, writing, checksums.
"""

import argparse
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import ClassVar

import numpy as np
import xarray as xr

import pages
import trainability as tr
from trainability.progress import sweep_status
from trainability.sweep import is_trained

TILE = (128, 128)


@dataclass(frozen=True)
class Sleeper:
    """A disc of converged runs, each of which takes so many microseconds."""

    microseconds: float

    hyperparameters: ClassVar = ("x", "y")
    dtype: ClassVar = "float64"
    observables: ClassVar = {
        "final_loss": ("float64", "distance from the middle"),
        "steps": ("int32", "none"),
    }

    def settings(self):
        return {}

    def __call__(self, pixels):
        start = time.perf_counter()
        radius = np.hypot(pixels["x"], pixels["y"])
        found = {"final_loss": radius, "steps": np.zeros(len(radius), np.int32)}
        time.sleep(max(1e-6 * self.microseconds * len(radius) - (time.perf_counter() - start), 0))
        return found

    def status(self, observables):
        return np.where(observables["final_loss"] < 0.5, 1, 2).astype(np.int8)


def executors(stack: ExitStack):
    """Name, executor or number of processes, and how many tiles at once, of each way to train."""
    yield "one process", 1, 1
    yield "two threads", stack.enter_context(ThreadPoolExecutor(2)), 2
    processes = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
    yield "two processes", stack.enter_context(processes), 2
    try:
        from distributed import Client, LocalCluster
    except ImportError:
        print("Dask is not installed; pip install '.[cluster]'")
        return
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    client = stack.enter_context(Client(stack.enter_context(cluster)))
    yield "Dask, two workers", client.get_executor(), 2


def sweeps(side: int, microseconds: float, folder: Path) -> tuple[Path, list[list[str]]]:
    """Sweep a store each; the last of them, and a row of the table for each executor."""
    grid, trainer = grid_and_trainer(side, microseconds)
    work = 1e-6 * microseconds * side**2
    rows = []
    with ExitStack() as stack:
        for name, workers, share in executors(stack):
            store = folder / f"{name}.zarr"
            warm = tr.Grid(x=[-1.0, 1.0], y=[-1.0, 1.0])
            tr.trainability_map(warm, trainer, workers=workers, tile=(1, 1))  # starts the workers
            start = time.perf_counter()
            runs = tr.trainability_map(grid, trainer, store=store, workers=workers, tile=TILE)
            took = time.perf_counter() - start
            assert is_trained(runs["status"]).all()
            rows.append([f"swept, {name}", f"{took:.2f} s", f"{took * share / work - 1:.1%}"])
    return store, rows


def openings(store: Path, side: int, microseconds: float) -> list[list[str]]:
    grid, trainer = grid_and_trainer(side, microseconds)
    asked = {
        "opened by `xarray.open_zarr`": lambda: xr.open_zarr(store, consolidated=False),
        "asked for its `sweep_status`": lambda: sweep_status(store),
        "verified and read whole": lambda: tr.trainability_map(grid, trainer, store=store),
    }
    rows = []
    for name, ask in asked.items():
        start = time.perf_counter()
        ask()
        rows.append([name, f"{time.perf_counter() - start:.3f} s", ""])
    return rows


def grid_and_trainer(side: int, microseconds: float) -> tuple[tr.Grid, Sleeper]:
    return tr.Grid(x=tr.linear_axis(-1, 1, side), y=tr.linear_axis(-1, 1, side)), Sleeper(microseconds)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pixels", type=int, default=1000, help="a side")
    parser.add_argument("--microseconds", type=float, default=20.0, help="work of a pixel")
    parser.add_argument("--page", type=Path, help="page of the documentation to write the table into")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, rows = sweeps(options.pixels, options.microseconds, Path(folder))
        rows += openings(store, options.pixels, options.microseconds)
        sizes = [f.stat().st_size for f in store.rglob("*") if f.is_file()]
    work = 1e-6 * options.microseconds * options.pixels**2
    text = pages.table(
        [f"{options.pixels**2:,} pixels", f"time, {work:.0f} s of work", "on top of the work"], rows
    )
    text += f"\n\nThe store: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, tiles of {TILE[0]} × {TILE[1]} pixels."
    print(text)
    if options.page:
        pages.fill(options.page, "sweep", text, script="sweep.py")


if __name__ == "__main__":
    main()
