"""Fill a grid of hyperparameters with training runs, tile by tile, in memory or in a store that survives kills."""

import json
import multiprocessing
import pickle
import signal
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext, suppress
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import xarray as xr

from ._provenance import provenance
from ._store import MapInMemory, MapOnDisk, Variable, replace_file, run_folder, writing
from .grid import Axis, Grid

# Pixels in a tile when none is asked for: a few seconds of a small trainer.
TILE_PIXELS = 4096

# Tiles handed at once to an executor whose size we cannot know: enough to keep a small cluster busy.
IN_FLIGHT = 64

# Times a tile may fail, over all calls on a store, before it is left alone: three calls with one retry each.
QUARANTINE = 6

# File beside an unfinished store that `resume_sweep` reads.
TRAINER_FILE = "sweep.pickle"

# Times our processes may die before a first tile is finished: more, and no tile is to blame.
MAX_BREAKS = 4

# Seconds between looks at tiles that other processes are training.
POLL = 0.2

# Every how many pixels a refined map explores, along each axis. Islands that fit between are missed.
EXPLORE = 8


class Status(IntEnum):
    """What became of a pixel; int8 codes in arrays.

    An inferred pixel was not trained: the boundary, as traced, does not come near it. `infer_status` says what
    its neighbours say of it.
    """

    PENDING = 0
    CONVERGED = 1
    DIVERGED = 2
    UNDECIDED = 3
    FAILED = 4
    INFERRED = 5


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
    refine: bool | int = False,
    known: xr.Dataset | None = None,
    retries: int = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> xr.Dataset:
    """Train one network for each pixel of a grid, or only along the boundary between outcomes.

    Parameters
    ----------
    grid : Grid
        Its axes are hyperparameters of the trainer; the others keep the trainer's own values.
    trainer : Trainer
        From `trainability.trainers`, or any callable of that form.
    store : path, optional
        A Zarr folder. Tiles are written as they are done, `status` last; a sweep that finds its own
        store goes on where that one stopped, however it stopped. Several processes, also of several machines
        on one file system, may work on one store at once.
    tile : tuple of int, optional
        Pixels in a tile along each axis; about 4096 in all by default (`estimate_cost` proposes one by
        measured cost). Does not change any pixel, and an existing store keeps its own.
    workers : int or concurrent.futures.Executor, optional
        Processes to train in, or an executor: threads, processes, a Dask client's `get_executor()`.
    refine : bool or int, optional
        Train every 8th pixel (or every `refine`-th, a power of two) along each axis, then only pixels near a
        change of status, at each halving. The rest is `Status.INFERRED`. A later call without `refine` trains it.
    known : Dataset, optional
        A map of the same trainer over the same hyperparameters: pixels that it shares with the grid are copied.
    retries : int, optional
        Times a tile that raises is tried again before it counts as failed.
    progress : bool or callable, optional
        True draws a bar; a callable gets (tiles done, tiles in all), in a refined map of each pass.

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
    A tile that fails (its trainer raises, its worker dies, the disk is full) is marked `Status.FAILED`, reported
    in a warning at the end, and tried again by the next call on the same store; after six failures it is left
    alone. A tile whose checksums do not match is reported and trained again.

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
    if retries < 0:
        raise ValueError(f"retries={retries} must not be negative")
    explore = EXPLORE if refine is True else int(refine)
    if explore != refine is not True or (explore and (explore < 2 or explore & (explore - 1))):
        raise ValueError(f"refine={refine} must be a power of two above 1, or True for {EXPLORE}")

    attrs, variables = _attrs(trainer, grid), _variables(trainer)
    if known is not None:
        _check_known(known, grid, attrs)
    if store is None:
        opened: Any = nullcontext(MapInMemory(grid, variables, tile=tile))
    else:
        opened = writing(Path(store), grid, variables, tile=tile, attrs=attrs)
    with opened as sheet, _reporting(progress) as report, _crew(workers) as crew:
        if store is not None:
            _report_corrupted(Path(store), sheet)
            _leave_for_resume(Path(store), trainer, refine)
        if known is not None:
            _copy_known(sheet, grid, known)

        def train(wanted: np.ndarray) -> np.ndarray:
            failures.update(_fill(sheet, wanted, grid, trainer, crew, retries=retries, report=report))
            return np.where(is_trained(sheet.status), sheet.status, Status.PENDING)

        failures: dict[int, str] = {}
        try:
            if explore:
                from .refinement import trace_boundary

                trace_boundary(grid.shape, train, step=explore)
                _mark_inferred(sheet)
            else:
                train(np.ones(grid.shape, bool))
        except KeyboardInterrupt as stop:
            done = sum(bool(is_trained(sheet.status[cut]).all()) for cut in sheet.tiles)
            hint = (
                f"{store} keeps them; run the same command again to continue"
                if store
                else "pass store= to keep them"
            )
            stop.add_note(f"stopped after {done} of {len(sheet.tiles)} tiles; {hint}")
            raise
        if failures:
            i, reason = next(iter(failures.items()))
            warnings.warn(
                f"{len(failures)} of {len(sheet.tiles)} tiles failed; "
                f"first: tile {_describe(sheet.tiles[i])}: {reason}",
                stacklevel=2,
            )
        arrays = {name: (tuple(grid), sheet.read_all(name), v.attrs) for name, v in variables.items()}
    return xr.Dataset(arrays, coords=grid.coords(), attrs=attrs)


def resume_sweep(
    store: str | Path, *, workers: int | Executor = 1, progress: bool | Callable[[int, int], None] = False
) -> xr.Dataset:
    """Go on with the sweep of a store, with the trainer that began it.

    The trainer is unpickled from the folder beside the store: resume only what you began yourself.

    Parameters
    ----------
    store : path
        Of an unfinished sweep.
    workers, progress
        As in `trainability_map`.

    Returns
    -------
    Dataset
        As `trainability_map` returns it.

    Raises
    ------
    ValueError
        If nothing is left to do, or the trainer was not kept or cannot be loaded.

    Examples
    --------
    >>> resume_sweep("finished.zarr")
    Traceback (most recent call last):
    ...
    ValueError: store finished.zarr has no sweep to resume: ...
    """
    import zarr

    kept = run_folder(Path(store)) / TRAINER_FILE
    try:
        arguments = pickle.loads(kept.read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"store {store} has no sweep to resume: {kept} is not there, so it is finished, or its trainer "
            "could not be pickled; call trainability_map again with the same trainer"
        ) from None
    except (AttributeError, ImportError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the trainer of store {store} cannot be loaded ({error}); run the script that began it"
        ) from error
    group = zarr.open_group(store, mode="r")
    dims = group["status"].metadata.dimension_names
    grid = Grid(**{name: Axis(group[name][...], group[name].attrs["scale"]) for name in dims})
    return trainability_map(grid, **arguments, store=store, workers=workers, progress=progress)


def is_trained(status) -> np.ndarray:
    """Whether pixels were trained to an outcome: not pending, failed or inferred.

    Examples
    --------
    >>> is_trained([Status.CONVERGED, Status.INFERRED])
    array([ True, False])
    """
    return np.isin(status, (Status.CONVERGED, Status.DIVERGED, Status.UNDECIDED))


def _leave_for_resume(store: Path, trainer: Trainer, refine: bool | int) -> None:
    """Keep the trainer beside the store; one that does not pickle can still be swept, by calling again."""
    file = run_folder(store) / TRAINER_FILE
    with suppress(pickle.PicklingError, AttributeError, TypeError):
        replace_file(file, pickle.dumps({"trainer": trainer, "refine": refine}))


def _report_corrupted(store: Path, sheet: MapOnDisk) -> None:
    if sheet.corrupted:
        warnings.warn(
            f"store {store}: {len(sheet.corrupted)} of {len(sheet.tiles)} tiles were corrupted and are trained "
            f"again; first: tile {_describe(sheet.tiles[sheet.corrupted[0]])}",
            stacklevel=3,
        )


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


def _check_known(known: xr.Dataset, grid: Grid, attrs: Mapping[str, str]) -> None:
    if known["status"].dims != tuple(grid):
        raise ValueError(
            f"known has axes {', '.join(map(str, known['status'].dims))}; this grid has {', '.join(grid)}"
        )
    for name in ("trainer", "dtype", "settings"):
        if known.attrs.get(name) != attrs[name]:
            raise ValueError(
                f"known is a map of other runs: {name} is {known.attrs.get(name)} there and {attrs[name]} here"
            )


def _copy_known(sheet: MapInMemory, grid: Grid, known: xr.Dataset) -> None:
    """Copy the trained pixels whose coordinates are the grid's, to the last bit."""
    pairs = [np.intersect1d(grid[name], known[name], return_indices=True)[1:] for name in grid]
    here, there = np.ix_(*(p[0] for p in pairs)), np.ix_(*(p[1] for p in pairs))
    source = {name: np.zeros(grid.shape, array.dtype) for name, array in sheet.arrays.items()}
    for name, values in source.items():
        values[here] = known[name].values[there]
    shared = is_trained(source["status"])
    for i, cut in enumerate(sheet.tiles):
        if (shared[cut] & ~is_trained(sheet.status[cut])).any() and sheet.claim(i):
            mask = shared[cut] & ~is_trained(sheet.refresh(i))
            _commit(sheet, i, mask, {name: values[cut][mask] for name, values in source.items()})
            sheet.release(i)


def _fill(
    sheet: MapInMemory,
    wanted: np.ndarray,
    grid: Grid,
    trainer: Trainer,
    crew: "_Crew",
    *,
    retries: int,
    report,
) -> dict[int, str]:
    """Train the wanted pixels that are not trained yet, tile by tile; return why tiles failed, by index."""
    todo = [i for i, cut in enumerate(sheet.tiles) if (wanted[cut] & ~is_trained(sheet.status[cut])).any()]
    failures = {
        i: f"left alone after {sheet.attempts(i)} failures; remove {sheet.failures}/{i}.json to have it tried again"
        for i in todo
        if sheet.attempts(i) >= QUARANTINE
    }
    queue = deque(i for i in todo if i not in failures)
    attempts: Counter[int] = Counter()
    done, total = len(sheet.tiles) - len(todo), len(sheet.tiles)
    report(done, total)
    with closing(_results(queue, sheet, wanted, grid, trainer, crew)) as results:
        for i, mask, found in results:
            reason = _settle(sheet, i, mask, trainer, found)
            if reason:
                attempts[i] += 1
                if attempts[i] <= retries:
                    queue.append(i)
                    continue
                failures[i] = reason
            sheet.release(i)
            done += 1
            report(done, total)
    return failures


def _results(
    queue: deque[int], sheet: MapInMemory, wanted: np.ndarray, grid: Grid, trainer: Trainer, crew: "_Crew"
):
    """Yield (tile, mask of pixels trained, observables or the exception) as tiles finish, holding few in flight."""

    def submit(i: int, mask: np.ndarray) -> Future:
        pixels = {name: values[mask.ravel()] for name, values in grid.pixels(sheet.tiles[i]).items()}
        return crew.submit(_attempt, trainer, pixels)

    running: dict[Future, tuple[int, np.ndarray]] = {}
    elsewhere: list[int] = []  # tiles that other processes are training
    try:
        while queue or running or elsewhere:
            while queue and len(running) < crew.in_flight:
                i = queue.popleft()
                if not sheet.claim(i):
                    elsewhere.append(i)
                    continue
                mask = wanted[sheet.tiles[i]] & ~is_trained(sheet.refresh(i))
                if mask.any():
                    running[submit(i, mask)] = i, mask
                else:  # another process has finished it
                    yield i, mask, {}
            if not queue and elsewhere:
                queue.extend(elsewhere)
                elsewhere.clear()
                if not running:
                    time.sleep(POLL)
            for future in wait(running, POLL if queue else None, FIRST_COMPLETED).done if running else ():
                if future not in running:
                    continue
                i, mask = running.pop(future)
                found = _outcome(future)
                if not isinstance(found, BrokenExecutor):
                    yield i, mask, found
                    continue
                # A worker died, and with it every tile in flight: each runs alone, to find whose fault it was.
                crew.restart(found)
                lost = [(i, mask), *running.values()]
                running.clear()
                for i, mask in lost:
                    if len(lost) > 1:
                        found = _outcome(submit(i, mask))
                        if isinstance(found, BrokenExecutor):
                            crew.restart(found)
                    yield i, mask, found
    finally:
        for future in running:
            future.cancel()


def _settle(sheet: MapInMemory, i: int, mask: np.ndarray, trainer: Trainer, found: Any) -> str:
    """Write what came of a tile; return why it failed, or "" if it did not."""
    if not mask.any():
        return ""
    if not isinstance(found, Exception):
        try:
            _commit(sheet, i, mask, {**found, "status": trainer.status(found)})
            sheet.forget_failure(i)
            return ""
        except Exception as error:  # a full disk, a damaged chunk, observables of another shape
            found = error
    reason = f"{type(found).__name__}: {found}"
    with suppress(OSError):  # on a full disk the tile stays as it was
        sheet.note_failure(i, reason)
        _commit(sheet, i, mask, {"status": Status.FAILED})
    return reason


def _commit(sheet: MapInMemory, i: int, mask: np.ndarray, found: Mapping[str, Any]) -> None:
    """Write what was found on the masked pixels of a tile, and the rest of the tile as it was."""
    written = (sheet.status[sheet.tiles[i]] != Status.PENDING).any()  # or its chunks are not there yet
    values = {}
    for name, array in sheet.arrays.items():
        if name in found:
            whole = mask.all()
            values[name] = np.empty(mask.shape, array.dtype) if whole else sheet.read(name, i)
            new = np.asarray(found[name])
            if new.shape not in ((), (int(mask.sum()),)):
                raise ValueError(f"the trainer returned {name} of shape {new.shape} for {mask.sum()} pixels")
            values[name][mask] = new
        elif not written:
            values[name] = sheet.read(name, i)
    sheet.write(i, values)


def _mark_inferred(sheet: MapInMemory) -> None:
    """Mark the pixels that a refined map leaves untrained."""
    for i, cut in enumerate(sheet.tiles):
        if not (sheet.status[cut] == Status.PENDING).any():
            continue
        while not sheet.claim(i):
            time.sleep(POLL)
        mask = sheet.refresh(i) == Status.PENDING
        _commit(sheet, i, mask, {"status": Status.INFERRED})
        sheet.release(i)


def _attempt(trainer: Trainer, pixels: dict[str, np.ndarray]):
    """Train some pixels; an exception is a result, so that one bad tile does not end a sweep."""
    try:
        return trainer(pixels)
    except Exception as error:
        return error


def _outcome(future: Future):
    """Return what `_attempt` returned, or the exception that kept it from arriving."""
    try:
        return future.result()
    except Exception as error:  # a worker died, or the result did not pickle
        return error


class _Crew:
    """What trains tiles: `submit`, and how many tiles to hand it at once."""

    def __init__(self, executor: Executor, in_flight: int):
        self.executor, self.in_flight = executor, in_flight

    def submit(self, function, *arguments) -> Future:
        try:
            return self.executor.submit(function, *arguments)
        except BrokenExecutor as error:  # an idle worker died
            broken: Future = Future()
            broken.set_exception(error)
            return broken

    def restart(self, error: BrokenExecutor) -> None:
        """Start a broken executor anew; one that is not ours ends the sweep."""
        raise error


class _Processes(_Crew):
    """Processes of our own."""

    def __init__(self, workers: int):
        self._workers = workers
        self._breaks, self._any_success = 0, False
        super().__init__(self._start(), 2 * workers)

    def _start(self) -> Executor:
        # Spawn, because a forked child of a process with threads (torch, numba) may hang.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, mp_context=context, initializer=_leave_interrupts_to_parent)

    def submit(self, function, *arguments) -> Future:
        future = super().submit(function, *arguments)
        future.add_done_callback(self._note_success)
        return future

    def _note_success(self, future: Future) -> None:
        self._any_success |= not future.cancelled() and future.exception() is None

    def restart(self, error: BrokenExecutor) -> None:
        self._breaks += 1
        if not self._any_success and self._breaks == MAX_BREAKS:
            error.add_note(
                "no process has finished a tile: a script that sweeps needs `if __name__ == '__main__':`, and the "
                "trainer a module that other processes can import"
            )
            raise error
        self.executor.shutdown()
        self.executor = self._start()


class _Here(_Crew):
    """The calling thread, one tile at a time."""

    def __init__(self):
        self.in_flight = 1

    def submit(self, function, *arguments) -> Future:
        done: Future = Future()
        done.set_result(function(*arguments))
        return done


@contextmanager
def _crew(workers: int | Executor):
    """Yield the `_Crew` that `workers` stands for."""
    if isinstance(workers, Executor):
        yield _Crew(workers, IN_FLIGHT)
    elif workers == 1:
        yield _Here()
    elif isinstance(workers, int) and workers > 1:
        processes = _Processes(workers)
        try:
            yield processes
        finally:
            processes.executor.shutdown(cancel_futures=True)
    else:
        raise ValueError(f"workers={workers!r} must be a positive number of processes or an Executor")


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
