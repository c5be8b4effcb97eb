"""What a sweep would cost, from a few pixels that are trained and thrown away."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ._contract import Trainer, check_axes
from ._crew import fair_share
from .grid import Grid
from .progress import duration

# Seconds spent measuring, once the trainer is compiled: clocks and processors wander by some percent in less.
BUDGET = 1.0

# Pixels measured first, spread over the grid; doubled until the budget is spent.
FIRST_SAMPLE = 64

# Seconds that a tile should take: long against handing it over (milliseconds), short against what a kill loses.
TILE_SECONDS = 10.0

# Pixels in a tile at least and at most: a batch that trainers fill their ensembles with, and a chunk of a megabyte.
TILE_RANGE = 16, 131072


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a sweep would take.

    Attributes
    ----------
    runs : int
        Trainings of a dense map; a refined one needs fewer, by a factor that depends on its boundary.
    seconds : float
        Of the workers together in parallel.
    stderr : float
        Of `seconds`: half the range over the last three samples, which differ by what their pixels cost and by
        what else the machine does.
    seconds_per_run : float
        Of one worker.
    bytes : int
        On disk before compression, which typically saves some tens of percent.
    tile : tuple of int
        Pixels in a tile along each axis that would take about ten seconds, or fewer where workers share the grid.
    flops : float or None
        Floating-point operations, where the trainer counts its own (`flops_per_run`).
    """

    runs: int
    seconds: float
    stderr: float
    seconds_per_run: float
    bytes: int
    tile: tuple[int, ...]
    flops: float | None

    def __repr__(self) -> str:
        parts = [
            f"{duration(self.seconds)} ± {duration(self.stderr)}",
            f"{self.runs} runs of {1e3 * self.seconds_per_run:.3g} ms",
            f"{self.bytes / 1e6:.3g} MB",
            f"tile={self.tile}",
        ]
        return ", ".join(parts + ([f"{self.flops:.2g} FLOPs"] if self.flops is not None else []))


def estimate_cost(
    grid: Grid, trainer: Trainer, *, workers: int = 1, steps: tuple[int, int] | None = None
) -> Cost:
    """Dry run: train a sample of the grid's pixels for about a second, and scale up.

    Parameters
    ----------
    grid : Grid
    trainer : Trainer
    workers : int, optional
        Taken to share the work evenly and not to slow each other down.
    steps : (int, int), optional
        Train for these two numbers of steps instead of the trainer's `n_steps`, and extend the line through both: for
        trainers whose single run takes longer than one cares to wait.

    Returns
    -------
    Cost

    Raises
    ------
    ValueError
        If `workers` is not positive, `steps` do not increase from at least 1, an axis is no hyperparameter of the
        trainer, or its coordinates are too close for the dtype.

    Examples
    --------
    >>> from trainability import log_axis, random_prompt, trainers
    >>> trainer = trainers.LinearTransformer(random_prompt(6, 2, seed=0), n_steps=20)
    >>> estimate_cost(Grid(lr=log_axis(0.01, 10, 100)), trainer).runs
    100
    """
    if workers < 1:
        raise ValueError(f"workers={workers} must be a positive number of processes")
    if steps is not None and not 1 <= steps[0] < steps[1]:
        raise ValueError(f"steps={steps} must be two numbers that increase from at least 1, as (2, 8)")
    check_axes(grid, trainer)
    runs = int(np.prod(grid.shape))
    per_run, spread = _seconds_per_run(grid, trainer) if steps is None else _extended(grid, trainer, steps)
    sizes = (
        np.dtype(dtype).itemsize * (extra[0][1] if extra else 1)
        for dtype, _, *extra in trainer.observables.values()
    )
    itemsize = sum(sizes) + 1
    flops = getattr(trainer, "flops_per_run", None)
    return Cost(
        runs=runs,
        seconds=runs * per_run / workers,
        stderr=runs * spread / workers / 2,
        seconds_per_run=per_run,
        bytes=runs * itemsize + 8 * sum(grid.shape),
        tile=_tile(grid.shape, per_run, workers),
        flops=None if flops is None else runs * float(flops()),
    )


def _seconds_per_run(grid: Grid, trainer: Trainer, n: int = FIRST_SAMPLE) -> tuple[float, float]:
    """Seconds of a run, and the range of the last three samples; from `n` pixels on, doubled at each."""
    runs = int(np.prod(grid.shape))
    trainer(_sample(grid, n))  # compiles
    times, pixels = list[float](), list[int]()
    while sum(times) < BUDGET and (not pixels or pixels[-1] < runs):
        sample = _sample(grid, n)
        start = time.perf_counter()
        trainer(sample)
        times.append(time.perf_counter() - start)
        pixels.append(len(next(iter(sample.values()))))
        n *= 2
    rates = np.array(times[-3:]) / np.array(pixels[-3:])
    return times[-1] / pixels[-1], float(np.ptp(rates)) if len(rates) > 1 else times[-1] / pixels[-1]


def _extended(grid: Grid, trainer: Any, steps: tuple[int, int]) -> tuple[float, float]:
    """The same from runs of two lengths: what a step takes, and what a run takes besides.

    The first sample is one full ensemble, where the trainer says how many runs it trains together.
    """
    (low, low_spread), (high, high_spread) = (
        _seconds_per_run(grid, replace(trainer, n_steps=n), getattr(trainer, "ensemble", FIRST_SAMPLE))
        for n in steps
    )
    times = (trainer.n_steps - steps[0]) / (steps[1] - steps[0])
    return max(low + times * (high - low), high), times * float(np.hypot(low_spread, high_spread))


def _sample(grid: Grid, n: int) -> dict[str, np.ndarray]:
    """Return `n` pixels from all over the grid, the same at every call; all of them if there are no more."""
    runs = int(np.prod(grid.shape))
    chosen = np.arange(runs) if n >= runs else np.sort(np.random.default_rng(n).integers(runs, size=n))
    places = np.unravel_index(chosen, grid.shape)
    return {name: grid[name][place] for name, place in zip(grid, places, strict=True)}


def _tile(shape: tuple[int, ...], seconds_per_run: float, workers: int) -> tuple[int, ...]:
    pixels = np.clip(min(TILE_SECONDS / seconds_per_run, fair_share(math.prod(shape), workers)), *TILE_RANGE)
    side = max(1, 2 ** round(np.log2(pixels) / len(shape)))
    return tuple(min(side, n) for n in shape)
