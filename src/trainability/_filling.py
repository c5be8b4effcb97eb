"""Fill the tiles of a map with runs: what is trained, what is written, and what becomes of tiles that fail."""

import time
from collections import Counter, deque
from collections.abc import Container, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from contextlib import closing, suppress
from typing import Any

import numpy as np
import xarray as xr

from ._contract import Status, Trainer, is_trained
from ._crew import Crew
from ._store import MapInMemory
from .grid import Grid

# Times a tile may fail, over all calls on a store, before it is left alone: three calls with one retry each.
QUARANTINE = 6

# Seconds between looks at tiles that other processes are training.
POLL = 0.2


def copy_known(sheet: MapInMemory, grid: Grid, known: xr.Dataset) -> None:
    """Copy the trained pixels whose coordinates are the grid's, to the last bit."""
    pairs = [np.intersect1d(grid[name], known[name], return_indices=True)[1:] for name in grid]
    here, there = np.ix_(*(p[0] for p in pairs)), np.ix_(*(p[1] for p in pairs))
    source = {name: np.zeros(array.shape, array.dtype) for name, array in sheet.arrays.items()}
    for name, values in source.items():
        values[here] = known[name].values[there]
    shared = is_trained(source["status"])
    for i, cut in enumerate(sheet.tiles):
        if (shared[cut] & ~is_trained(sheet.status[cut])).any() and sheet.claim(i):
            mask = shared[cut] & ~is_trained(sheet.refresh(i))
            with suppress(OSError):  # a full disk: these pixels are still to be trained
                _commit(sheet, i, mask, {name: values[cut][mask] for name, values in source.items()})
            sheet.release(i)


def fill(
    sheet: MapInMemory,
    wanted: np.ndarray,
    grid: Grid,
    trainer: Trainer,
    crew: Crew,
    *,
    retries: int,
    report,
    but: Container[int] = (),
) -> dict[int, str]:
    """Train the wanted pixels that are not trained yet, in all tiles `but` some; return why tiles failed."""
    todo = [
        i
        for i, cut in enumerate(sheet.tiles)
        if i not in but and (wanted[cut] & ~is_trained(sheet.status[cut])).any()
    ]
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
    queue: deque[int], sheet: MapInMemory, wanted: np.ndarray, grid: Grid, trainer: Trainer, crew: Crew
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
            _commit(sheet, i, mask, _checked(found, trainer))
            sheet.note_trained(int(mask.sum()))
            sheet.forget_failure(i)
            return ""
        except Exception as error:  # a full disk, a damaged chunk, observables of another shape
            found = error
    reason = f"{type(found).__name__}: {found}"
    with suppress(OSError):  # on a full disk the tile stays as it was
        sheet.note_failure(i, reason)
        _commit(sheet, i, mask, {"status": Status.FAILED})
    return reason


def _checked(found: Any, trainer: Trainer) -> dict[str, Any]:
    """Observables with the status that the trainer gives them; a `ValueError` where it breaks its contract."""
    missing = trainer.observables.keys() - found.keys() if isinstance(found, Mapping) else trainer.observables
    if missing:
        raise ValueError(
            f"the trainer returned no {', '.join(sorted(missing))}, which its observables promise"
        )
    status = np.asarray(trainer.status(found))
    wrong = ~(is_trained(status) | (status == Status.FAILED))
    if wrong.any():
        raise ValueError(
            f"the trainer's status is {status[wrong][0]}; it must be {Status.CONVERGED:d} (converged), "
            f"{Status.DIVERGED:d} (diverged) or {Status.UNDECIDED:d} (undecided)"
        )
    return {**found, "status": status}


def _commit(sheet: MapInMemory, i: int, mask: np.ndarray, found: Mapping[str, Any]) -> None:
    """Write what was found on the masked pixels of a tile, and the rest of the tile as it was."""
    written = (sheet.status[sheet.tiles[i]] != Status.PENDING).any()  # or its chunks are not there yet
    values = {}
    for name, array in sheet.arrays.items():
        if name in found:
            whole, vector = mask.all(), array.shape[mask.ndim :]
            values[name] = np.empty((*mask.shape, *vector), array.dtype) if whole else sheet.read(name, i)
            new = np.asarray(found[name])
            if new.shape not in ((), (int(mask.sum()), *vector)):
                raise ValueError(f"the trainer returned {name} of shape {new.shape} for {mask.sum()} pixels")
            if not np.can_cast(new.dtype, array.dtype, "same_kind"):
                raise ValueError(
                    f"the trainer returned {name} as {new.dtype}; its observables say {array.dtype}"
                )
            values[name][mask] = new
        elif not written:
            values[name] = sheet.read(name, i)
    sheet.write(i, values)


def replace_status(
    sheet: MapInMemory, old: Status, new: Status, *, wait: bool, but: Container[int] = ()
) -> dict[int, str]:
    """Give all pixels of a status that is none of training another, in all tiles `but` some; return why it failed.

    Where another process has a tile, `wait` for it or leave the tile alone.
    """
    failures = {}
    for i, cut in enumerate(sheet.tiles):
        if i in but or not (sheet.status[cut] == old).any():
            continue
        while not (claimed := sheet.claim(i)) and wait:
            time.sleep(POLL)
        if not claimed:
            continue
        mask = sheet.refresh(i) == old
        try:
            _commit(sheet, i, mask, {"status": new})
        except OSError as error:  # a full disk
            failures[i] = f"{type(error).__name__}: {error}"
        sheet.release(i)
    return failures


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
