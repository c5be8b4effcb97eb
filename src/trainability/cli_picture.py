"""Progress of a map on the command line: a bar, and a picture that fills in as tiles finish."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds between two pictures, and how many times as long as drawing one takes: it must not slow the training down.
EVERY, PATIENCE = 2.0, 20.0


@contextmanager
def watched(
    store: Path, picture: Path | None, *, bar: bool = True, every: float = EVERY
) -> Iterator[Callable[[int, int], None]]:
    """Yield a progress callback for `trainability_map` that moves a bar and redraws the picture of a store.

    Parameters
    ----------
    store : path
    picture : path or None
        Rewritten whole, so that a viewer never sees half of it.
    bar : bool, optional
    every : float, optional
        Seconds between two pictures, at least.
    """
    from contextlib import ExitStack

    from ._bar import progress_bar

    with ExitStack() as stack:
        advance = stack.enter_context(progress_bar()) if bar else None
        due = time.monotonic() + every

        def report(done: int, total: int) -> None:
            nonlocal due
            if advance:
                advance(done, total)
            if picture and 0 < done < total and time.monotonic() >= due:
                start = time.monotonic()
                draw_store(store, picture)
                due = time.monotonic() + max(every, PATIENCE * (time.monotonic() - start))

        yield report


def draw_store(store: Path, picture: Path) -> None:
    """Draw what a store holds so far, pixels that are not trained yet in white."""
    import xarray as xr

    with xr.open_zarr(store, consolidated=False) as runs:
        draw(runs[["status"]].load(), picture)


def draw(runs, picture: Path) -> None:
    """Draw a map of two axes, inferred pixels as what is inferred of them, and put it in place whole."""
    from matplotlib import pyplot as plt

    from . import plot
    from ._contract import Status
    from .refinement import infer_status

    if (runs["status"] == Status.INFERRED).any():
        runs = runs.assign(status=infer_status(runs))
    figure, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    plot.trainability(runs, ax=ax)
    figure.legend(handles=plot.status_legend(lines=False), loc="outside lower center", ncols=3, fontsize=8)
    half = picture.with_name(f".{picture.stem}.{os.getpid()}{picture.suffix}")
    plot.save(figure, half)
    half.replace(picture)
