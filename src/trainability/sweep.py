"""Fill a grid of hyperparameters with training runs, tile by tile, in memory or in a store that survives kills."""

import json
import math
import pickle
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from ._contract import STATUS_ATTRS, Status, Trainer, check_axes, is_trained
from ._crew import crew_of, fair_share
from ._filling import copy_known, fill, replace_status
from ._locks import run_folder
from ._provenance import provenance
from ._store import MapInMemory, MapOnDisk, replace_file, writing
from ._template import Variable, differing
from .grid import Axis, Grid
from .refinement import trace_boundary

# Pixels in a tile when none is asked for: a few seconds of a small trainer.
TILE_PIXELS = 4096

# File beside an unfinished store that `resume_sweep` reads.
TRAINER_FILE = "sweep.pickle"

# Every how many pixels a refined map explores, along each axis. Islands that fit between are missed.
EXPLORE = 8


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
        Pixels in a tile along each axis; by default about 4096 in all, or two tiles for each of several
        `workers` if those are smaller (`estimate_cost` proposes one by measured cost). Does not change any pixel,
        and an existing store keeps its own.
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
        The trainer's raw observables, a vector in each pixel with a dim of its own last, and `status` (int8
        `Status`); attrs hold the provenance.

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
    check_axes(grid, trainer)
    tile = _default_tile(grid.shape, workers) if tile is None else tile
    if np.shape(tile) != (len(grid),) or not all(isinstance(n, int | np.integer) and n > 0 for n in tile):
        raise ValueError(
            f"tile={tile!r} does not fit the grid; it needs {len(grid)} positive sizes, one for each axis, as "
            f"{_default_tile(grid.shape, workers)}"
        )
    if retries < 0:
        raise ValueError(f"retries={retries} must not be negative")
    explore = EXPLORE if refine is True else int(refine)
    if explore != refine is not True or (explore and (explore < 2 or explore & (explore - 1))):
        raise ValueError(f"refine={refine} must be a power of two above 1, or True for {EXPLORE}")

    attrs, variables = _attrs(trainer, grid), _variables(trainer, grid)
    if known is not None:
        _check_known(known, grid, attrs)
    if store is None:
        opened: Any = nullcontext(MapInMemory(grid, variables, tile=tile))
    else:
        opened = writing(Path(store), grid, variables, tile=tile, attrs=attrs)
    with crew_of(workers) as crew, opened as sheet, _reporting(progress) as report:
        if store is not None:
            _report_corrupted(Path(store), sheet)
            _leave_for_resume(Path(store), trainer, refine)
        if known is not None:
            copy_known(sheet, grid, known)

        def train(wanted: np.ndarray) -> np.ndarray:
            # A tile that has failed is left to the next call: each pass would try it again.
            failures.update(
                fill(sheet, wanted, grid, trainer, crew, retries=retries, report=report, but=set(failures))
            )
            return np.where(is_trained(sheet.status), sheet.status, Status.PENDING)

        failures: dict[int, str] = {}
        try:
            if explore:
                trace_boundary(grid.shape, train, step=explore)
                untold = replace_status(sheet, Status.PENDING, Status.INFERRED, wait=True, but=set(failures))
                failures.update(untold)
            else:
                replace_status(sheet, Status.INFERRED, Status.PENDING, wait=False)  # until they are trained
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
        arrays = {name: ((*grid, *v.dims), sheet.read_all(name), v.attrs) for name, v in variables.items()}
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
        If nothing is left to do, the trainer was not kept or cannot be loaded, or the store is damaged beyond tiles.

    Examples
    --------
    >>> resume_sweep("finished.zarr")
    Traceback (most recent call last):
    ...
    ValueError: store finished.zarr has no sweep to resume: ...
    """
    import zarr

    kept = run_folder(Path(store)) / TRAINER_FILE
    if not Path(store).exists():
        raise ValueError(f"store {store} has no sweep to resume: it does not exist")
    try:
        arguments = pickle.loads(kept.read_bytes())
    except FileNotFoundError:
        raise ValueError(
            f"store {store} has no sweep to resume: {kept} is not there, so it is finished, or its trainer "
            "could not be pickled; call trainability_map again with the same trainer"
        ) from None
    except (AttributeError, EOFError, ImportError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"the trainer of store {store} cannot be loaded ({error}); run the script that began it"
        ) from error
    try:
        group = zarr.open_group(store, mode="r")
        dims = group["status"].metadata.dimension_names
        grid = Grid(**{name: Axis(group[name][...], group[name].attrs["scale"]) for name in dims})
    except (KeyError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(
            f"store {store} cannot be read ({error}); restore its axes and zarr.json files from a copy"
        ) from error
    return trainability_map(grid, **arguments, store=store, workers=workers, progress=progress)


def _leave_for_resume(store: Path, trainer: Trainer, refine: bool | int) -> None:
    """Keep the trainer beside the store; where it does not pickle, or the disk is full, calling again goes on."""
    file = run_folder(store) / TRAINER_FILE
    with suppress(pickle.PicklingError, AttributeError, TypeError, OSError):
        replace_file(file, pickle.dumps({"trainer": trainer, "refine": refine}))


def _report_corrupted(store: Path, sheet: MapOnDisk) -> None:
    if sheet.corrupted:
        warnings.warn(
            f"store {store}: {len(sheet.corrupted)} of {len(sheet.tiles)} tiles were corrupted and are trained "
            f"again; first: tile {_describe(sheet.tiles[sheet.corrupted[0]])}",
            stacklevel=3,
        )


def _default_tile(shape: tuple[int, ...], workers: int | Executor) -> tuple[int, ...]:
    pixels = min(TILE_PIXELS, fair_share(math.prod(shape), workers))
    side = max(int(pixels ** (1 / len(shape))), 1)
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
        "settings": json.dumps(settings, sort_keys=True, default=_as_json),
    }


def _as_json(value: Any) -> Any:
    """A number of NumPy as Python has it: a loop over an array hands them to trainers."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"the trainer's settings hold a {type(value).__name__}; they must be JSON values")


def _variables(trainer: Trainer, grid: Grid) -> dict[str, Variable]:
    """Describe the arrays of a map: the trainer's observables, then `status`."""
    variables = {}
    for name, (dtype, text, *extra) in trainer.observables.items():
        dim, size = extra[0] if extra else ("", 1)
        if dim in grid or size < 1:
            raise ValueError(
                f"observable {name!r} has the dimension {dim!r} of size {size}; it needs a size of at least 1 and "
                f"another name than the axes {', '.join(grid)}"
            )
        fill = np.nan if np.dtype(dtype).kind == "f" else -1
        variables[name] = Variable(dtype, fill, {"long_name": text}, dim, size)
    return {**variables, "status": Variable("int8", int(Status.PENDING), STATUS_ATTRS)}


def _check_known(known: xr.Dataset, grid: Grid, attrs: Mapping[str, str]) -> None:
    if known["status"].dims != tuple(grid):
        raise ValueError(
            f"known has axes {', '.join(map(str, known['status'].dims))}; this grid has {', '.join(grid)}"
        )
    names = ("trainer", "dtype", "settings")
    if differences := differing({name: known.attrs[name] for name in names if name in known.attrs}, attrs):
        raise ValueError(f"known is a map of other runs: {'; '.join(differences)}")


@contextmanager
def _reporting(progress: bool | Callable[[int, int], None]):
    """Yield a function of (tiles done, tiles in all): the caller's, a bar's, or one that does nothing."""
    if progress is not True:
        yield progress or (lambda done, total: None)
        return
    from ._bar import progress_bar

    with progress_bar() as advance:
        yield advance
