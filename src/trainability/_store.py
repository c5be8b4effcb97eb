"""A trainability map while it is filled: in memory, or on disk where several processes may write it at once.

On disk it is one Zarr group, one chunk a tile, the template written whole before any run. Chunks are written to a
temporary name and moved into place, observables before `status`, so a tile is whole or not there.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ._locks import Locks, failures_folder, pace_file
from ._template import Variable, check_same, is_whole, open_group, write_template
from .grid import Grid


class MapInMemory:
    """Arrays of one process; every tile is free.

    `tiles` are the slices of each tile, `status` the status of every pixel as this process last saw it, `failures`
    the folder that counts failures of tiles beyond this process.
    """

    def __init__(self, grid: Grid, variables: Mapping[str, Variable], *, tile: tuple[int, ...]):
        self.tiles = grid.tiles(tile)
        self.arrays: Mapping[str, Any] = {
            name: np.full((*grid.shape, *v.shape), v.fill, v.dtype) for name, v in variables.items()
        }
        self.status = self.arrays["status"]
        self.failures: Path | None = None
        self._attempts: dict[int, int] = {}

    def read(self, name: str, i: int) -> np.ndarray:
        """Copy of one array on tile `i`."""
        return np.array(self.arrays[name][self.tiles[i]])

    def read_all(self, name: str) -> np.ndarray:
        """One array, whole."""
        return np.asarray(self.arrays[name][...])

    def write(self, i: int, values: Mapping[str, np.ndarray]) -> None:
        """Write tile `i`, `status` last: the mark that the tile is whole."""
        for name in sorted(values, key="status".__eq__):
            self.arrays[name][self.tiles[i]] = values[name]
        self.status[self.tiles[i]] = values["status"]

    def refresh(self, i: int) -> np.ndarray:
        """Status of tile `i` as it is now, whoever wrote it."""
        self.status[self.tiles[i]] = self.read("status", i)
        return self.status[self.tiles[i]]

    def claim(self, i: int) -> bool:
        """Reserve tile `i` among the processes that write; False if another has it."""
        return True

    def release(self, i: int) -> None:
        """Give tile `i` free again."""

    def note_trained(self, pixels: int) -> None:
        """Tell those who ask for the rate that so many pixels more are trained, 0 as the sweep starts."""

    def attempts(self, i: int) -> int:
        """Count how often tile `i` has failed since it last succeeded."""
        return self._attempts.get(i, 0)

    def note_failure(self, i: int, reason: str) -> None:
        """Remember that tile `i` failed once more."""
        self._attempts[i] = self.attempts(i) + 1

    def forget_failure(self, i: int) -> None:
        """Forget that tile `i` ever failed."""
        self._attempts.pop(i, None)


class MapOnDisk(MapInMemory):
    """Arrays of a store, shared with other processes through `Locks`.

    `corrupted` are the tiles that were found damaged when it was opened, and made pending again.
    """

    def __init__(self, path: Path, grid: Grid, names, locks: Locks):
        group = open_group(path)
        # A chunk that holds nothing but fill is written too: its absence can then mean only that it was lost.
        self.arrays = {name: group[name].with_config({"write_empty_chunks": True}) for name in names}
        self.tile = tuple(self.arrays["status"].chunks)
        self.tiles = grid.tiles(self.tile)
        self._path, self._locks = path, locks
        self.failures = failures_folder(path)
        self.corrupted = self._drop_corrupted()
        self.status = self.read_all("status")
        self.note_trained(0)

    def claim(self, i: int) -> bool:
        return self._locks.acquire(i)

    def release(self, i: int) -> None:
        self._locks.release(i)

    def note_trained(self, pixels: int) -> None:
        # In one write, so that lines of several processes do not mix; a full disk only costs the rate.
        with suppress(OSError), open(pace_file(self._path), "a", buffering=1) as file:
            file.write(f"{time.time():.3f} {pixels}\n")

    def attempts(self, i: int) -> int:
        try:
            return json.loads(self._failure(i).read_text())["attempts"]
        except FileNotFoundError:
            return 0

    def note_failure(self, i: int, reason: str) -> None:
        self._failure(i).parent.mkdir(parents=True, exist_ok=True)
        replace_file(
            self._failure(i), json.dumps({"attempts": self.attempts(i) + 1, "reason": reason}).encode()
        )

    def forget_failure(self, i: int) -> None:
        self._failure(i).unlink(missing_ok=True)

    def _failure(self, i: int) -> Path:
        return failures_folder(self._path) / f"{i}.json"

    def _drop_corrupted(self) -> list[int]:
        """Check every chunk of a committed tile against its checksum; make the tiles that fail pending again.

        A chunk ends in the CRC-32C of the bytes before it, so nothing is decoded: a thousand chunks take some
        tens of milliseconds.
        """
        dropped = []
        for i, cut in enumerate(self.tiles):
            place = "/".join(str(c.start // size) for c, size in zip(cut, self.tile, strict=True))
            # A vector in each pixel is one chunk long.
            files = {
                name: self._path / name / "c" / (place + "/0" * (array.ndim - len(cut)))
                for name, array in self.arrays.items()
            }
            if not files["status"].exists():
                continue  # pending; whatever stands beside it is written again
            if all(is_whole(file) for file in files.values()) or not self.claim(i):
                continue
            # The commit mark goes first: a kill between the two leaves a pending tile.
            files.pop("status").unlink(missing_ok=True)
            for file in files.values():
                file.unlink(missing_ok=True)
            self.release(i)
            dropped.append(i)
        return dropped


@contextmanager
def writing(
    path: Path, grid: Grid, variables: Mapping[str, Variable], *, tile: tuple[int, ...], attrs: dict[str, str]
) -> Iterator[MapOnDisk]:
    """Open the store at `path` for a sweep, writing its template if there is none.

    Raises
    ------
    ValueError
        If the folder holds something else, or a sweep with other settings (the error names each difference), or
        this process is writing the store already.
    OSError
        If it cannot be written.
    """
    try:
        locks = Locks(path)
        try:
            if _is_empty(path):
                with locks.for_template():
                    if _is_empty(path):
                        write_template(path, grid, variables, tile, attrs)
        except BaseException:
            locks.close()
            raise
    except OSError as error:
        raise OSError(
            f"store {path} cannot be written ({error}); choose a folder that has room and that you may write to"
        ) from error
    try:
        check_same(path, grid, variables, attrs)
        yield MapOnDisk(path, grid, variables, locks)
    finally:
        locks.close()


def _is_empty(path: Path) -> bool:
    return not path.exists() or not any(path.iterdir())


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, and never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        part.write_bytes(content)
        part.replace(path)
    except OSError:  # a full disk should not be filled with parts
        part.unlink(missing_ok=True)
        raise
