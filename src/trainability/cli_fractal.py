"""The command `trainability dimension`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

# A picture of more colours is no drawing of outcomes but a photograph or smoothed: it is cut at a threshold.
MOST_COLOURS = 16


def dimension(
    source: Annotated[Path, typer.Argument(help="Zarr store of a map, or a picture (PNG, …).")],
    replicate: Annotated[
        Path | None, typer.Option(help="The same map trained again: tells noise from fine structure.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Cut a picture at this brightness, 0 to 1, into two outcomes.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(help="Draw map, boundary and scaling curve to this file.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Say whether the boundary of a map is fractal, with its dimension, a 95 % interval and the reason.

    In Python: `trainability.fractal_dimension`.
    """
    from .verdict import fractal_dimension

    runs = read_outcomes(source, threshold=threshold)
    other = None if replicate is None else read_outcomes(replicate, threshold=threshold)
    found = fractal_dimension(runs, replicate=other)
    if picture is not None:
        from . import plot_fractal
        from .plot import save

        save(plot_fractal.dimension_report(runs, found), picture)
    print(json.dumps({k: _plain(v) for k, v in asdict(found).items()}) if as_json else repr(found))


def read_outcomes(source: Path, *, threshold: float | None = None) -> Any:
    """Read a store of runs (inferred pixels filled in from their neighbours) or the outcomes on a picture.

    Parameters
    ----------
    source : Path
        A folder is a Zarr store with `status`; a file is a picture, each colour an outcome.
    threshold : float, optional
        Brightness, 0 to 1, at which a picture is cut in two; needed where it has more than 16 colours.

    Raises
    ------
    OSError
        If nothing is there.
    ValueError
        If a picture has many colours and no threshold is given.
    """
    if not source.exists():
        raise FileNotFoundError(f"{source} does not exist")
    if source.is_dir():
        import xarray as xr

        from ._contract import Status
        from .refinement import infer_status

        if threshold is not None:
            raise ValueError(f"threshold={threshold} is for pictures; {source} is a store")
        runs = xr.open_zarr(source, consolidated=False).load()
        return runs.assign(status=infer_status(runs)) if (runs["status"] == Status.INFERRED).any() else runs
    from matplotlib.image import imread

    pixels = imread(source)
    colours = pixels[..., :3] if pixels.ndim == 3 else pixels[..., None]
    if threshold is not None:
        bright = colours.mean(axis=2) / (255 if colours.dtype == np.uint8 else 1)
        return bright > threshold
    n = len(np.unique(colours.reshape(-1, colours.shape[2]), axis=0))
    if n > MOST_COLOURS:
        raise ValueError(
            f"{source} has {n} colours, more than {MOST_COLOURS} outcomes; cut it with --threshold 0.5"
        )
    return pixels


def _plain(value: Any) -> Any:
    """A JSON value; NaN becomes null."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
