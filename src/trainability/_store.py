"""A trainability map while it is filled: in memory, or on disk where several processes may write it at once.

On disk it is one Zarr group, one chunk a tile, the template written whole before any run. Chunks are written to a
temporary name and moved into place, observables before `status`, so a tile is whole or not there. Nothing in the
store depends on when or by whom it was written; what does (locks, failures, the trainer to resume with) stands
beside it in a folder that goes away with the last pixel.
"""

import json
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .grid import Grid

try:
    import fcntl
except ImportError:  # Windows: a store has one writer at a time there
    fcntl = None  # type: ignore[assignment]

Tile = tuple[slice, ...]


class Variable(NamedTuple):
    """One array of a map before anything is known of it; `dim` and `size` are of a vector in each pixel."""

    dtype: str
    fill: float
    attrs: dict[str, Any]
    dim: str = ""
    size: int = 1

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions after the grid's."""
        return (self.dim,) if self.dim else ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the dimensions after the grid's."""
        return (self.size,) if self.dim else ()


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

    def __init__(self, path: Path, grid: Grid, names, locks: "Locks"):
        group = _open_group(path)
        # A chunk that holds nothing but fill is written too: its absence can then mean only that it was lost.
        self.arrays = {name: group[name].with_config({"write_empty_chunks": True}) for name in names}
        self.tile = tuple(self.arrays["status"].chunks)
        self.tiles = grid.tiles(self.tile)
        self._path, self._locks = path, locks
        self.failures = failures_folder(path)
        self.corrupted = self._drop_corrupted()
        self.status = self.read_all("status")

    def claim(self, i: int) -> bool:
        return self._locks.acquire(_FIRST_TILE + i)

    def release(self, i: int) -> None:
        self._locks.release(_FIRST_TILE + i)

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
            if all(_is_whole(file) for file in files.values()) or not self.claim(i):
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
            if not path.exists() or not any(path.iterdir()):
                with locks.waiting_for(_TEMPLATE):
                    if not path.exists() or not any(path.iterdir()):
                        _write_template(path, grid, variables, tile, attrs)
        except BaseException:
            locks.close()
            raise
    except OSError as error:
        raise OSError(
            f"store {path} cannot be written ({error}); choose a folder you may write to"
        ) from error
    try:
        _check_same(path, grid, variables, attrs)
        yield MapOnDisk(path, grid, variables, locks)
    finally:
        locks.close()


def run_folder(path: Path) -> Path:
    """Folder beside a store for what belongs to its runs and not to its result."""
    real = path.resolve()  # writers may know the store by different names
    return real.with_name(real.name + ".sweep")


def failures_folder(path: Path) -> Path:
    """Folder with one JSON file for each tile that failed: how often, and why."""
    return run_folder(path) / "failed"


def replace_file(path: Path, content: bytes) -> None:
    """Write a file so that a reader finds the old content or the new, and never a part."""
    part = path.with_name(f"{path.name}.{os.getpid()}.partial")
    part.write_bytes(content)
    part.replace(path)


# Bytes of the lock file: one that every writer shares, one for whoever writes the template, one for each tile.
_WRITERS, _TEMPLATE, _FIRST_TILE = 0, 1, 2

# POSIX locks belong to a process, not to a file handle: two sweeps of one store in one process would not see each
# other's, and the first to close would let go those of both. So each process opens the locks of a store once.
_open_here: dict[Path, "Locks"] = {}


class Locks:
    """Advisory locks of one process on a store and on its tiles: byte ranges of one file.

    The kernel lets them go when the process dies, however it dies, so no claim is ever stale. They spare double
    work and tell whose leftovers may be cleared; a tile trained twice would be the same tile. Where the file
    system has no locks every claim is granted and nothing is cleared.
    """

    def __init__(self, path: Path):
        self._store, self._folder = path, run_folder(path)
        if path.resolve() in _open_here:
            raise ValueError(
                f"store {path} is being written by this process already; let that sweep end, or give it more workers"
            )
        self.supported = fcntl is not None
        while True:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                self._file = os.open(self._folder / "locks", os.O_RDWR | os.O_CREAT, 0o666)
            except FileNotFoundError:
                continue  # the last writer has just cleared the folder away
            if self._alone():
                _clear_partial(path)
            self._lock(_WRITERS, shared=True, wait=True)
            if self._is_current():
                break
            os.close(self._file)
        _open_here[path.resolve()] = self

    def acquire(self, byte: int) -> bool:
        """Take a byte; False if another process has it."""
        return self._lock(byte)

    def release(self, byte: int) -> None:
        """Let a byte go."""
        if self.supported:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)

    @contextmanager
    def waiting_for(self, byte: int) -> Iterator[None]:
        """Hold a byte, waiting until it is free."""
        self._lock(byte, wait=True)
        try:
            yield
        finally:
            self.release(byte)

    def close(self) -> None:
        """Let go of everything; the last writer clears what killed ones left, and the folder once it is of no use."""
        self.release(
            _WRITERS
        )  # first, or two writers that end together would each wait for the other to clear
        if self._alone():
            _clear_partial(self._store)
            with suppress(FileNotFoundError):  # somebody has removed the folder
                if _is_complete(self._store) or os.listdir(self._folder) == ["locks"]:
                    shutil.rmtree(self._folder)
        os.close(self._file)
        del _open_here[self._store.resolve()]

    def _alone(self) -> bool:
        return self._lock(_WRITERS) and self.supported

    def _is_current(self) -> bool:
        """Whether the locks are on the file that others will open, not on one cleared away meanwhile."""
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._folder / "locks"))
        except FileNotFoundError:
            return False

    def _lock(self, byte: int, *, shared: bool = False, wait: bool = False) -> bool:
        if not self.supported:
            return True
        kind = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.lockf(self._file, kind, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            self.supported = False
        return True


def locked_elsewhere(path: Path, tiles: Iterable[int]) -> tuple[bool, int]:
    """Whether any process writes the store, and how many of `tiles` are being trained."""
    lock_file = run_folder(path) / "locks"
    if fcntl is None or not lock_file.exists():
        return False, 0
    if path.resolve() in _open_here:
        # Probing would let our own locks go.
        return True, 0
    file = os.open(lock_file, os.O_RDWR)
    try:
        busy = sum(not _is_free(file, _FIRST_TILE + i) for i in tiles)
        return not _is_free(file, _WRITERS), busy
    finally:
        os.close(file)


def _is_free(file: int, byte: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
    except OSError:
        return False
    fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)
    return True


def _is_complete(path: Path) -> bool:
    """Whether nothing is left to do in a store: no pixel pending, no tile failed."""
    if failures_folder(path).exists() and any(failures_folder(path).iterdir()):
        return False
    try:
        status = _open_group(path)["status"]
        return bool((status[...] != status.fill_value).all())
    except (OSError, ValueError, KeyError):
        return False


def _clear_partial(path: Path) -> None:
    """Remove what writes that were killed have left; their tiles are still pending."""
    for leftover in path.rglob("*.partial"):
        leftover.unlink(missing_ok=True)


def _is_whole(file: Path) -> bool:
    """Whether a chunk is there and ends in the checksum of the bytes before it."""
    import google_crc32c  # the one that zarr itself uses

    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return False
    return len(content) > 4 and google_crc32c.value(content[:-4]) == int.from_bytes(content[-4:], "little")


def _open_group(path: Path):
    import zarr

    return zarr.open_group(path, mode="r+", zarr_format=3)


def _write_template(path: Path, grid: Grid, variables: Mapping[str, Variable], tile, attrs) -> None:
    import zarr
    from zarr.codecs import Crc32cCodec, ZstdCodec

    building = path.with_name(
        path.name + ".template"
    )  # renamed when whole, so a kill leaves no half template
    building.parent.mkdir(parents=True, exist_ok=True)
    # The checksum is taken last, of the compressed bytes: it can be verified without decoding them.
    codecs = [ZstdCodec(level=0), Crc32cCodec()]
    group = zarr.create_group(building, zarr_format=3, overwrite=True, attributes=attrs)
    for name, (dim, values, extra) in grid.coords().items():
        group.create_array(
            name,
            data=values,
            chunks=values.shape,
            compressors=codecs,
            dimension_names=[dim],
            attributes=extra,
        )
    for name, variable in variables.items():
        group.create_array(
            name,
            shape=(*grid.shape, *variable.shape),
            chunks=(*(min(t, n) for t, n in zip(tile, grid.shape, strict=True)), *variable.shape),
            dtype=variable.dtype,
            compressors=codecs,
            fill_value=variable.fill,
            dimension_names=[*grid, *variable.dims],
            attributes=variable.attrs,
        )
    if path.exists():
        path.rmdir()
    building.rename(path)


def _check_same(path: Path, grid: Grid, variables: Mapping[str, Variable], attrs: Mapping[str, str]) -> None:
    """Raise a `ValueError` that names every difference between a store and the sweep that found it."""
    try:
        group = _open_group(path)
    except (FileNotFoundError, ValueError):
        group = None
    if group is None or "settings" not in group.attrs or any(name not in group for name in variables):
        raise ValueError(f"store {path} exists and is no map of this trainer; choose another folder")
    if not any(codec.to_dict()["name"] == "crc32c" for codec in group["status"].metadata.codecs):
        raise ValueError(
            f"store {path} was written by an older version, without checksums; choose another folder"
        )
    there = {**group.attrs, **json.loads(group.attrs["settings"])}
    here = {**attrs, **json.loads(attrs["settings"])}
    ignored = {"settings", "commit", "package_version"}
    differences = [
        f"{name} is {_short(there.get(name))} there and {_short(here.get(name))} here"
        for name in sorted((there.keys() | here.keys()) - ignored)
        if there.get(name) != here.get(name)
    ]
    dims = list(group["status"].metadata.dimension_names)
    if dims != list(grid):
        differences.append(f"axes are {', '.join(dims)} there and {', '.join(grid)} here")
    else:
        for name in grid:
            if not _is_whole(path / name / "c" / "0"):
                raise ValueError(
                    f"store {path}: axis {name} is corrupted, so its pixels cannot be placed; "
                    f"restore {name}/c/0 from a copy or choose another folder"
                )
            old, new = group[name][...], grid[name]
            if not np.array_equal(old, new):
                differences.append(f"axis {name} holds {_span(old)} there and {_span(new)} here")
    if differences:
        raise ValueError(
            f"store {path} belongs to another sweep: {'; '.join(differences)}. "
            "Choose another store, or the same settings"
        )
    if there["commit"] != here["commit"]:
        warnings.warn(
            f"store {path} was begun by commit {there['commit']}; this is {here['commit']}", stacklevel=6
        )


def _span(values: np.ndarray) -> str:
    return f"{len(values)} values from {values[0]:.6g} to {values[-1]:.6g}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 60 else text[:57] + "..."
