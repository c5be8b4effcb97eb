"""How far a stored sweep is, read from the store itself while others write it."""

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ._contract import Status
from ._locks import failures_folder, locked_elsewhere, pace_file
from ._template import is_whole

# Tiles, newest first, that the rate is taken over: enough to even out tiles of unequal cost, few enough that the
# rate follows when a worker joins or leaves.
RECENT = 64

DAMAGED = "corrupted; the next call on the store trains it again"


@dataclass(frozen=True, kw_only=True)
class SweepStatus:
    """What became of the pixels of a stored sweep, and how fast it goes on.

    Attributes
    ----------
    pixels : dict of str to int
        Pixels by status: pending, converged, diverged, undecided, failed, inferred.
    tiles, tiles_done, tiles_busy : int
        Tiles in all, those with nothing pending, and those that a process is training now.
    running : bool
        Whether any process on this file system writes the store.
    rate : float or None
        Pixels per second over the last tiles; None while those that run have finished none.
    seconds_left : float or None
        Pending pixels over `rate`; None without one. A refined sweep usually needs less.
    failures : dict of str to str
        Why tiles failed, by their place, and which are damaged as far as their status tells.
    """

    pixels: dict[str, int]
    tiles: int
    tiles_done: int
    tiles_busy: int
    running: bool
    rate: float | None
    seconds_left: float | None
    failures: dict[str, str]

    @property
    def pending(self) -> int:
        """Pixels that are still to be trained, failed ones among them."""
        return self.pixels["pending"] + self.pixels["failed"]

    def __repr__(self) -> str:
        total = sum(self.pixels.values())
        done = total - self.pending
        state = "finished" if not self.pending else "running" if self.running else "stopped"
        parts = [f"{state}: {done} of {total} pixels done ({100 * done / total:.1f} %)"]
        parts += [f"{count} {name}" for name, count in self.pixels.items() if count and name != "pending"]
        if self.rate is not None:
            parts.append(f"{self.rate:.3g} pixels/s")
        if self.seconds_left is not None:
            parts.append(f"about {duration(self.seconds_left)} left")
        lines = [", ".join(parts)]
        lines += [f"  tile {place}: {reason}" for place, reason in self.failures.items()]
        return "\n".join(lines)


def sweep_status(store: str | Path) -> SweepStatus:
    """How far the sweep of a store is: done, failed, pending, rate and time left.

    Reads only; may be asked at any time, from any process. The rate comes from what the writers note of the last
    tiles, beside the store.

    Parameters
    ----------
    store : path
        Of a sweep, running or not.

    Returns
    -------
    SweepStatus

    Raises
    ------
    ValueError
        If there is no map at that place.

    Examples
    --------
    >>> sweep_status("nowhere.zarr")
    Traceback (most recent call last):
    ...
    ValueError: store nowhere.zarr is no trainability map; ...
    """
    import zarr

    store = Path(store)
    try:
        group = zarr.open_group(store, mode="r", zarr_format=3)
        array = group["status"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"store {store} is no trainability map; give the folder that a sweep wrote"
        ) from error
    cuts = [
        [(i, min(i + size, n)) for i in range(0, n, size)]
        for n, size in zip(array.shape, array.chunks, strict=True)
    ]
    tiles = [
        (tuple(slice(*c[k]) for c, k in zip(cuts, place, strict=True)), "/".join(map(str, place)))
        for place in np.ndindex(*(len(c) for c in cuts))
    ]
    places = ["[" + ", ".join(f"{c.start}:{c.stop}" for c in cut) + "]" for cut, _ in tiles]
    status, damaged = _read(array, [(cut, store / "status" / "c" / place) for cut, place in tiles])
    pixels = {s.name.lower(): int((status == s).sum()) for s in Status}
    unfinished = [
        i for i, (cut, _) in enumerate(tiles) if np.isin(status[cut], (Status.PENDING, Status.FAILED)).any()
    ]
    running, busy = locked_elsewhere(store, unfinished)
    rate = _rate(store, time.time()) if running else None
    left = pixels["pending"] / rate if rate else None
    return SweepStatus(
        pixels=pixels,
        tiles=len(places),
        tiles_done=len(places) - len(unfinished),
        tiles_busy=busy,
        running=running,
        rate=rate,
        seconds_left=left,
        failures={**{places[i]: DAMAGED for i in damaged}, **_reasons(store, places)},
    )


def _read(array: Any, tiles: Sequence[tuple[tuple[slice, ...], Path]]) -> tuple[np.ndarray, list[int]]:
    """Status of every pixel, pending in tiles whose chunk is damaged, and which these are."""
    try:
        return np.asarray(array[...]), []
    except (OSError, RuntimeError, ValueError):  # what a checksum or a codec raises
        damaged = [i for i, (_, file) in enumerate(tiles) if file.exists() and not is_whole(file)]
    status = np.full(array.shape, Status.PENDING, array.dtype)
    for i, (cut, _) in enumerate(tiles):
        if i not in damaged:
            status[cut] = array[cut]
    return status, damaged


def _reasons(store: Path, places: list[str]) -> dict[str, str]:
    """Why tiles failed, by their place."""
    found = {}
    for file in failures_folder(store).glob("*.json"):
        with suppress(FileNotFoundError):  # a writer has just trained it
            found[places[int(file.stem)]] = json.loads(file.read_text())["reason"]
    return found


def _rate(store: Path, now: float) -> float | None:
    """Pixels per second over the last tiles, since the latest writer started at the earliest."""
    try:
        lines = [line.split() for line in pace_file(store).read_text().splitlines()]
    except FileNotFoundError:  # the last writer has just left
        return None
    pace = [(float(line[0]), int(line[1])) for line in lines if len(line) == 2]
    starts = [i for i, (_, n) in enumerate(pace) if n == 0]
    recent = pace[max([len(pace) - RECENT, *starts[-1:], 0]) :]
    if len(recent) < 2:
        return None
    return sum(n for _, n in recent[1:]) / max(now - recent[0][0], 1e-9)


def duration(seconds: float) -> str:
    """Words for a length of time, to two digits.

    Examples
    --------
    >>> duration(42), duration(5000), duration(200_000)
    ('42 s', '1.4 h', '2.3 days')
    """
    for size, unit in ((86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 1.5 * size or (unit == "h" and seconds >= size):
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"
