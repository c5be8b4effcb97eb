"""The sweep engine: a million pixels through every executor, what a store costs to open, and what tracing saves.

    python benchmarks/sweep.py [--pixels 1000] [--microseconds 20] [--refine-to 1024]

The trainer of the first part sleeps for a time in proportion to its pixels, so its work is known exactly and whatever
comes on top is the engine: pickling, scheduling, writing. The second part trains real networks (one data point, the
cheapest of `trainers.MLP`), densely and along the boundary, at several resolutions.
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

import trainability as tr
from trainability.progress import sweep_status
from trainability.refinement import infer_status
from trainability.sweep import is_trained
from trainability.trainers import MLP


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


def engine(side: int, microseconds: float) -> None:
    grid = tr.Grid(x=tr.linear_axis(-1, 1, side), y=tr.linear_axis(-1, 1, side))
    trainer = Sleeper(microseconds)
    work = 1e-6 * microseconds * side**2
    tile = (128, 128)
    print(f"{side**2} pixels, {work:.1f} s of work, tiles of {tile}, a store each")
    with ExitStack() as stack, tempfile.TemporaryDirectory() as folder:
        for name, workers, share in executors(stack):
            store = Path(folder) / f"{name}.zarr"
            warm = tr.Grid(x=[-1.0, 1.0], y=[-1.0, 1.0])
            tr.trainability_map(warm, trainer, workers=workers, tile=(1, 1))  # starts the workers
            start = time.perf_counter()
            runs = tr.trainability_map(grid, trainer, store=store, workers=workers, tile=tile)
            took = time.perf_counter() - start
            assert is_trained(runs["status"]).all()
            print(
                f"  {name:20} {took:7.2f} s   overhead {100 * (took * share / work - 1):5.1f} % of the work"
            )
        files = sum(f.is_file() for f in store.rglob("*"))
        print(f"{files} files, {sum(f.stat().st_size for f in store.rglob('*') if f.is_file()) / 1e6:.1f} MB")
        for name, ask in (
            ("xarray.open_zarr", lambda: xr.open_zarr(store, consolidated=False)),
            ("sweep_status", lambda: sweep_status(store)),
            ("verified and read whole", lambda: tr.trainability_map(grid, trainer, store=store)),
        ):
            start = time.perf_counter()
            ask()
            print(f"  {name:24} {time.perf_counter() - start:6.3f} s")


def edge_cells(status: np.ndarray) -> np.ndarray:
    corner = status[:-1, :-1]
    return (status[1:, :-1] != corner) | (status[:-1, 1:] != corner) | (status[1:, 1:] != corner)


def tracing(finest: int) -> None:
    trainer = MLP(n_data=1)
    print("one data point, full window: dense against traced")
    print("   side  trained  share   recall  seconds dense, traced   edge cells")
    sides, trained, edges = [], [], []
    side = 128
    while side <= finest:
        axis = tr.log_axis(1e-3, 1e6, side)
        grid = tr.Grid(lr_in=axis, lr_out=axis)
        times = []
        for refine in (False, True):
            start = time.perf_counter()
            runs = tr.trainability_map(grid, trainer, refine=refine, tile=(side, side))
            times.append(time.perf_counter() - start)
            if not refine:
                true = edge_cells(runs["status"].values)
        found = edge_cells(infer_status(runs).values)
        sides.append(side)
        trained.append(int(is_trained(runs["status"]).sum()))
        edges.append(int(true.sum()))
        print(
            f"  {side:5} {trained[-1]:8} {trained[-1] / side**2:6.3f}  {(true & found).sum() / true.sum():7.4f}"
            f"  {times[0]:8.2f} {times[1]:8.2f}       {edges[-1]:8}"
        )
        side *= 2
    if len(sides) > 1:
        grows, dimension = (np.polyfit(np.log(sides), np.log(counts), 1)[0] for counts in (trained, edges))
        print(
            f"trained pixels grow like side^{grows:.2f}, edge cells of the dense map like side^{dimension:.2f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pixels", type=int, default=1000, help="pixels a side of the first part")
    parser.add_argument("--microseconds", type=float, default=20.0, help="time of a pixel in the first part")
    parser.add_argument("--refine-to", type=int, default=1024, help="finest resolution of the second part")
    options = parser.parse_args()
    engine(options.pixels, options.microseconds)
    tracing(options.refine_to)
