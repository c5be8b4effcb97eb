"""Who trains the tiles of a sweep: this thread, processes of our own, or an executor that was handed in."""

import math
import multiprocessing
import signal
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager

import numpy as np

# Tiles handed at once to an executor whose size we cannot know: enough to keep a small cluster busy.
IN_FLIGHT = 64

# Tiles for each of our processes at least: all have work, and ensembles of trainers are not cut small.
SHARES = 2

# Times our processes may die before a first tile is finished: more, and no tile is to blame.
MAX_BREAKS = 4


class Crew:
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
        error.add_note(
            "the executor handed in as workers is broken: call again with a new one, or with a number of processes, "
            "where a tile that kills its process fails alone; what is in a store is kept"
        )
        raise error


def fair_share(pixels: int, workers: "int | Executor | Crew") -> float:
    """Pixels in a tile at most, for each worker to get a share of a grid; infinite where workers are not counted."""
    count = workers.workers if isinstance(workers, _Processes) else workers
    return pixels / (SHARES * count) if isinstance(count, int | np.integer) and count > 1 else math.inf


class _Processes(Crew):
    """Processes of our own."""

    def __init__(self, workers: int):
        self.workers = workers
        self._breaks, self._any_success = 0, False
        super().__init__(self._start(), 2 * workers)

    def _start(self) -> Executor:
        # Spawn, because a forked child of a process with threads (torch, numba) may hang.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_leave_interrupts_to_parent)

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


class _Here(Crew):
    """The calling thread, one tile at a time."""

    def __init__(self):
        self.in_flight = 1

    def submit(self, function, *arguments) -> Future:
        done: Future = Future()
        done.set_result(function(*arguments))
        return done


@contextmanager
def crew_of(workers: int | Executor | Crew):
    """Yield the `Crew` that `workers` stands for; one that is shared by several sweeps is left as it is."""
    if isinstance(workers, Crew):
        yield workers
    elif isinstance(workers, Executor):
        yield Crew(workers, IN_FLIGHT)
    elif workers == 1:
        yield _Here()
    elif isinstance(workers, int | np.integer) and workers > 1:
        processes = _Processes(int(workers))
        try:
            yield processes
        finally:
            processes.executor.shutdown(cancel_futures=True)
    else:
        raise ValueError(
            f"workers={workers!r} must be a positive number of processes or an Executor, such as that of a Dask "
            "client, client.get_executor()"
        )


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
