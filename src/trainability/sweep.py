"""Fill a grid of hyperparameters with training runs, tile by tile, in memory or in a store that survives kills."""

import itertools
import json
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from ._provenance import provenance
from ._store import Variable, open_store
from .grid import Grid

# Pixels in a tile when none is asked for: a few seconds of a small trainer.
TILE_PIXELS = 4096

# Tiles handed at once to an executor whose size we cannot know: enough to keep a small cluster busy.
IN_FLIGHT = 64


class Status(IntEnum):
    """What became of a pixel; int8 codes in arrays."""

    PENDING = 0
    CONVERGED = 1
    DIVERGED = 2
    UNDECIDED = 3
    FAILED = 4


STATUS_ATTRS = {
    "flag_values": [int(s) for s in Status],
    "flag_meanings": " ".join(s.name.lower() for s in Status),
}


class Trainer(Protocol):
    """What a sweep asks of a trainer: pixels in, raw observables out.

    A trainer is picklable and does not change. A pixel's observables depend on its hyperparameters and on
    `settings` alone, to the last bit, not on the pixels it is trained with.
    """

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names that can be axes."""
        ...

    @property
    def observables(self) -> Mapping[str, tuple[str, str]]:
        """Name of each observable -> its dtype and what it is."""
        ...

    @property
    def dtype(self) -> str:
        """Floating-point type in which the hyperparameters act."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything a pixel depends on besides its hyperparameters, as JSON values."""
        ...

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Train n pixels: hyperparameters (n,) in, each observable (n,) out."""
        ...

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Verdict on each pixel, from its observables alone: int8 `Status` codes."""
        ...


def trainability_map(
    grid: Grid,
    trainer: Trainer,
    *,
    store: str | Path | None = None,
    tile: tuple[int, ...] | None = None,
    workers: int | Executor = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> xr.Dataset:
    """Train one network for each pixel of a grid.

    Parameters
    ----------
    grid : Grid
        Its axes are hyperparameters of the trainer; the others keep the trainer's own values.
    trainer : Trainer
        From `trainability.trainers`, or any callable of that form.
    store : path, optional
        A Zarr folder. Tiles are written as they are done, `status` last; a sweep that finds its own
        store goes on where that one stopped, however it stopped.
    tile : tuple of int, optional
        Pixels in a tile along each axis; about 4096 in all by default. Does not change any pixel, and an
        existing store keeps its own.
    workers : int or concurrent.futures.Executor, optional
        Processes to train in, or an executor that pickles (Dask's `get_executor` among them).
    progress : bool or callable, optional
        True draws a bar; a callable gets (tiles done, tiles in all).

    Returns
    -------
    Dataset, dims the grid's axes
        The trainer's raw observables and `status` (int8 `Status`); attrs hold the provenance.

    Raises
    ------
    ValueError
        Before any work: an axis that the trainer does not have, coordinates too close for its dtype, a
        tile that does not fit, or a store with other settings (the error names the difference).
    OSError
        If the store cannot be written.
    KeyboardInterrupt
        On Ctrl-C; the store is valid and the note on the exception says how to go on.

    Notes
    -----
    A tile that raises is marked `Status.FAILED`, reported in a warning at the end, and tried again by the
    next call on the same store. One process at a time writes a store.

    Examples
    --------
    >>> from trainability import Grid, log_axis, random_prompt, trainers
    >>> trainer = trainers.LinearTransformer(random_prompt(6, 2, seed=0), n_steps=50)
    >>> runs = trainability_map(Grid(lr=log_axis(0.01, 10, 4)), trainer)
    >>> runs["status"].dims
    ('lr',)
    """
    for name in grid:
        if name not in trainer.hyperparameters:
            raise ValueError(
                f"axis {name!r} is not a hyperparameter of {type(trainer).__name__}; "
                f"it has {', '.join(trainer.hyperparameters)}"
            )
    grid.check_resolution(trainer.dtype)
    tile = _default_tile(grid.shape) if tile is None else tuple(tile)
    if len(tile) != len(grid) or min(tile) < 1:
        raise ValueError(f"tile={tile} does not fit the grid; it needs {len(grid)} positive sizes")

    attrs, variables = _attrs(trainer, grid), _variables(trainer)
    arrays: Mapping[str, Any]
    if store is None:
        arrays = {name: np.full(grid.shape, v.fill, v.dtype) for name, v in variables.items()}
    else:
        arrays = open_store(Path(store), grid, variables, tile=tile, attrs=attrs)
        tile = arrays["status"].chunks
    tiles = grid.tiles(tile)
    status = np.asarray(arrays["status"][...])
    todo = [cut for cut in tiles if np.isin(status[cut], (Status.PENDING, Status.FAILED)).any()]

    failures = []
    with _reporting(progress) as report, _submitting(workers) as (submit, in_flight):
        done = len(tiles) - len(todo)
        report(done, len(tiles))
        try:
            for cut, found in _results(todo, grid, trainer, submit, in_flight):
                if isinstance(found, Exception):
                    failures.append(f"tile {_describe(cut)}: {type(found).__name__}: {found}")
                    arrays["status"][cut] = Status.FAILED
                else:
                    _commit(arrays, cut, trainer, found)
                done += 1
                report(done, len(tiles))
        except KeyboardInterrupt as stop:
            hint = (
                f"{store} keeps them; run the same command again to continue"
                if store
                else "pass store= to keep them"
            )
            stop.add_note(f"stopped after {done} of {len(tiles)} tiles; {hint}")
            raise
    if failures:
        warnings.warn(f"{len(failures)} of {len(tiles)} tiles failed; first: {failures[0]}", stacklevel=2)
    data = {name: (tuple(grid), np.asarray(arrays[name][...]), v.attrs) for name, v in variables.items()}
    return xr.Dataset(data, coords=grid.coords(), attrs=attrs)


def _default_tile(shape: tuple[int, ...]) -> tuple[int, ...]:
    side = max(int(TILE_PIXELS ** (1 / len(shape))), 1)
    return tuple(min(side, n) for n in shape)


def _describe(cut: tuple[slice, ...]) -> str:
    return "[" + ", ".join(f"{c.start}:{c.stop}" for c in cut) + "]"


def _attrs(trainer: Trainer, grid: Grid) -> dict[str, str]:
    # No clock and no host name: two runs of one sweep leave the same bytes.
    settings = {name: value for name, value in trainer.settings().items() if name not in grid}
    return {
        **provenance(),
        "trainer": type(trainer).__name__,
        "dtype": trainer.dtype,
        "settings": json.dumps(settings, sort_keys=True),
    }


def _variables(trainer: Trainer) -> dict[str, Variable]:
    """Describe the arrays of a map: the trainer's observables, then `status`."""
    variables = {
        name: Variable(dtype, np.nan if np.dtype(dtype).kind == "f" else -1, {"long_name": text})
        for name, (dtype, text) in trainer.observables.items()
    }
    return {**variables, "status": Variable("int8", int(Status.PENDING), STATUS_ATTRS)}


def _commit(arrays: Mapping[str, Any], cut: tuple[slice, ...], trainer: Trainer, found: Mapping) -> None:
    """Write a tile's observables, then its status: the mark that the tile is whole."""
    shape = tuple(c.stop - c.start for c in cut)
    for name in trainer.observables:
        arrays[name][cut] = np.asarray(found[name]).reshape(shape)
    arrays["status"][cut] = np.asarray(trainer.status(found), np.int8).reshape(shape)


def _results(
    tiles, grid: Grid, trainer: Trainer, submit, in_flight: int
) -> Iterator[tuple[tuple[slice, ...], Any]]:
    """Yield (tile, observables or the exception) as tiles finish, holding few in flight."""
    queue = iter(tiles)
    running: dict[Future, tuple[slice, ...]] = {}
    try:
        while True:
            for cut in itertools.islice(queue, in_flight - len(running)):
                running[submit(_attempt, trainer, grid.pixels(cut))] = cut
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()


def _attempt(trainer: Trainer, pixels: dict[str, np.ndarray]):
    """Train one tile; an exception is a result, so that one bad tile does not end a sweep."""
    try:
        return trainer(pixels)
    except Exception as error:
        return error


@contextmanager
def _submitting(workers: int | Executor):
    """Yield a function like `Executor.submit`, and how many tiles to hand it at once."""
    if isinstance(workers, Executor):
        yield workers.submit, IN_FLIGHT
    elif workers == 1:
        yield _run_here, 1
    elif isinstance(workers, int) and workers > 1:
        # Spawn, because a forked child of a process with threads (torch, numba) may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(
            workers, mp_context=context, initializer=_leave_interrupts_to_parent
        ) as pool:
            yield pool.submit, 2 * workers
    else:
        raise ValueError(f"workers={workers!r} must be a positive number of processes or an Executor")


def _run_here(function, *arguments) -> Future:
    done: Future = Future()
    done.set_result(function(*arguments))
    return done


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _reporting(progress: bool | Callable[[int, int], None]):
    """Yield a function of (tiles done, tiles in all): the caller's, a bar's, or one that does nothing."""
    if progress is not True:
        yield progress or (lambda done, total: None)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeRemainingColumn(),
    )
    with Progress(*columns) as bar:
        task = bar.add_task("training")
        yield lambda done, total: bar.update(task, completed=done, total=total)
