"""What belongs to the runs of a store and not to its result: a folder beside it with the locks of its writers.

Failures of tiles and the trainer to resume with stand there too. The folder goes away with the last pixel.
"""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ._template import open_group

try:
    import fcntl
except ImportError:  # Windows: a store has one writer at a time there
    fcntl = None  # type: ignore[assignment]

# Bytes of the lock file: one that every writer shares, one for whoever writes the template, one for each tile.
_WRITERS, _TEMPLATE, _FIRST_TILE = 0, 1, 2

# POSIX locks belong to a process, not to a file handle: two sweeps of one store in one process would not see each
# other's, and the first to close would let go those of both. So each process opens the locks of a store once.
_open_here: dict[Path, "Locks"] = {}


def run_folder(path: Path) -> Path:
    """Folder beside a store for what belongs to its runs and not to its result."""
    real = path.resolve()  # writers may know the store by different names
    return real.with_name(real.name + ".sweep")


def failures_folder(path: Path) -> Path:
    """Folder with one JSON file for each tile that failed: how often, and why."""
    return run_folder(path) / "failed"


def pace_file(path: Path) -> Path:
    """File with a line for each tile trained, when and how many pixels of it; 0 of them as a writer starts."""
    return run_folder(path) / "pace"


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

    def acquire(self, tile: int) -> bool:
        """Claim a tile; False if another process has it."""
        return self._lock(_FIRST_TILE + tile)

    def release(self, tile: int) -> None:
        """Let a tile go."""
        self._unlock(_FIRST_TILE + tile)

    @contextmanager
    def for_template(self) -> Iterator[None]:
        """Hold the right to write the template, waiting until it is free."""
        self._lock(_TEMPLATE, wait=True)
        try:
            yield
        finally:
            self._unlock(_TEMPLATE)

    def close(self) -> None:
        """Let go of everything; the last writer clears what killed ones left, and the folder once it is of no use."""
        # First, or two writers that end together would each wait for the other to clear.
        self._unlock(_WRITERS)
        if self._alone():
            _clear_partial(self._store)
            with suppress(FileNotFoundError):  # somebody has removed the folder
                if _is_complete(self._store) or set(os.listdir(self._folder)) <= {"locks", "pace"}:
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

    def _unlock(self, byte: int) -> None:
        if self.supported:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, byte)


def locked_elsewhere(path: Path, tiles: Iterable[int]) -> tuple[bool, int]:
    """Whether any process writes the store, and how many of `tiles` are being trained."""
    lock_file = run_folder(path) / "locks"
    if fcntl is None or not lock_file.exists():
        return False, 0
    if path.resolve() in _open_here:
        # Probing would let our own locks go.
        return True, 0
    try:
        file, kind = os.open(lock_file, os.O_RDWR), fcntl.LOCK_EX
    except (
        PermissionError
    ):  # who may only read can ask for shared locks: these see claims of tiles, but no writers
        file, kind = os.open(lock_file, os.O_RDONLY), fcntl.LOCK_SH
    try:
        busy = sum(not _is_free(file, _FIRST_TILE + i, kind) for i in tiles)
        return busy > 0 or not _is_free(file, _WRITERS, kind), busy
    finally:
        os.close(file)


def _is_free(file: int, byte: int, kind: int) -> bool:
    try:
        fcntl.lockf(file, kind | fcntl.LOCK_NB, 1, byte)
    except OSError:
        return False
    fcntl.lockf(file, fcntl.LOCK_UN, 1, byte)
    return True


def _is_complete(path: Path) -> bool:
    """Whether nothing is left to do in a store: no pixel pending, no tile failed."""
    if any(failures_folder(path).glob("*.json")):
        return False
    try:
        status = open_group(path)["status"]
        return bool((status[...] != status.fill_value).all())
    except (OSError, ValueError, KeyError):
        return False


def _clear_partial(path: Path) -> None:
    """Remove what writes that were killed have left; their tiles are still pending."""
    for folder in (path, run_folder(path)):
        for leftover in folder.rglob("*.partial"):
            leftover.unlink(missing_ok=True)
