"""Maps on the command line: a bar, and a picture that fills in as tiles finish."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

# Seconds between two pictures, and how many times as long as drawing one takes: it must not slow the training down.
EVERY, PATIENCE = 2.0, 20.0

Picture = Annotated[
    Path | None, typer.Option(help="Draw the map to this file, again and again while it fills in.")
]

Draw = Callable[[Any, Any], None]  # a map, and the axes to draw it on


def train_map(
    grid, trainer, store: Path, *, picture: Path | None, bar: bool, draw: Draw | None = None, **options: Any
):
    """`trainability_map` with a bar, if wanted, and a picture that fills in; `draw` is `draw_status` by default."""
    from .sweep import trainability_map

    if picture:
        check_picture(picture)
    draw = draw or draw_status
    with watched(store, picture, draw, bar=bar) as report:
        runs = trainability_map(grid, trainer, store=store, progress=report, **options)
    if picture:
        put(runs, picture, draw)
    return runs


def check_picture(picture: Path) -> None:
    """Make the folder of a picture; raise a `ValueError` if nothing draws pictures of its ending.

    Before any training: what is found at the end of it is found late.
    """
    from matplotlib.backend_bases import FigureCanvasBase

    known = sorted(FigureCanvasBase.get_supported_filetypes())
    if picture.suffix[1:].lower() not in known:
        raise ValueError(f"picture {picture} ends in {picture.suffix!r}; use one of {', '.join(known)}")
    picture.parent.mkdir(parents=True, exist_ok=True)


@contextmanager
def watched(
    store: Path, picture: Path | None, draw: Draw, *, bar: bool = True
) -> Iterator[Callable[[int, int], None]]:
    """Yield a progress callback for `trainability_map` that moves a bar and redraws the picture of a store."""
    from ._bar import progress_bar

    with ExitStack() as stack:
        advance = stack.enter_context(progress_bar()) if bar else None
        due = time.monotonic() + EVERY

        def report(done: int, total: int) -> None:
            nonlocal due
            if advance:
                advance(done, total)
            if picture and 0 < done < total and time.monotonic() >= due:
                start = time.monotonic()
                put_store(store, picture, draw)
                due = time.monotonic() + max(EVERY, PATIENCE * (time.monotonic() - start))

        yield report


def put_store(store: Path, picture: Path, draw: Draw) -> None:
    """Draw what a store holds so far, pixels that are not trained yet in white."""
    import xarray as xr

    with xr.open_zarr(store, consolidated=False) as runs:
        put(runs, picture, draw)


def put(runs, picture: Path, draw: Draw) -> None:
    """Draw a map to a file, put in place whole, so that a viewer never sees half of it."""
    from matplotlib import pyplot as plt

    from . import plot

    figure, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    draw(runs, ax)
    half = picture.with_name(f".{picture.stem}.{os.getpid()}{picture.suffix}")
    plot.save(figure, half)
    half.replace(picture)


def draw_status(runs, ax, *, predicted=None) -> None:
    """Draw the outcomes of a map of two axes, inferred pixels as what is inferred of them, and predicted lines."""
    from . import plot
    from ._contract import Status
    from .refinement import infer_status

    runs = runs[["status"]].load()
    if (runs["status"] == Status.INFERRED).any():
        runs = runs.assign(status=infer_status(runs))
    plot.trainability(runs, predicted=predicted, ax=ax)
    handles = plot.status_legend(lines=predicted is not None)
    ax.figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=8)


def losses_beside(predicted, blind: float) -> Draw:
    """Draw held-out losses of transformers, with the lines that their exponents predict."""
    return partial(_draw_losses, predicted=predicted, blind=blind)


def _draw_losses(runs, ax, *, predicted, blind: float) -> None:
    from . import plot

    plot.loss_map(runs[["test_loss"]].load(), predicted=predicted, blind=blind, ax=ax)
