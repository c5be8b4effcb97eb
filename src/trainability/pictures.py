"""Pictures and films of trainability maps: arrays of colours, contact sheets, and zooms as MP4 or GIF."""

import json
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from ._checks import whole
from ._contract import Status
from .refinement import infer_status
from .scores import published_score

# Of the released notebook of arXiv:2402.06184: its colour map, and the middle of it that ranks leave out, so that
# the two phases meet in a jump of colour.
COLORMAP, GAP = "Spectral", 0.25

# Light to dark is trained, bounded, lost, as in the other figures.
PLAIN = {
    Status.PENDING: "#ffffff",
    Status.CONVERGED: "#9ecae1",
    Status.DIVERGED: "#3b3b4f",
    Status.UNDECIDED: "#fdd49e",
    Status.FAILED: "#ff00ff",
}

# How far the colour of an inferred pixel is moved towards white.
PALER = 0.5

Picture = Callable[[xr.Dataset], np.ndarray]

# A picture, and the place of the zoom's point in it, in pixels along each axis of the map.
Placed = tuple[np.ndarray, list[float]]


def equalise_ranks(score, *, reference=None) -> np.ndarray:
    """Replace scores by their ranks among those of their sign: from -1 to -1/4 above zero, from 1/4 to 1 below.

    Every shade then covers as many pixels, whatever the range of the score.

    Parameters
    ----------
    score : array_like
        NaN stays NaN.
    reference : array_like, optional
        Scores that ranks are taken among; those of `score` by default.

    Returns
    -------
    ndarray
        Of the shape of `score`; positive where the score is negative.

    Raises
    ------
    ValueError
        If no reference is a number.

    Examples
    --------
    >>> equalise_ranks([-30, -20, 0.2, 7, np.nan])
    array([ 1.  ,  0.25, -0.25, -1.  ,   nan])
    """
    score = np.asarray(score, dtype=float)
    ranked = np.sort(np.ravel(score if reference is None else np.asarray(reference, dtype=float)))
    ranked = ranked[~np.isnan(ranked)]
    if not len(ranked):
        raise ValueError("score: no value to rank; is any pixel trained?")
    negative = int((ranked < 0).sum())
    levels = np.concatenate([np.linspace(-1, -GAP, negative), np.linspace(GAP, 1, len(ranked) - negative)])
    return -np.interp(score, ranked, levels)


def published_picture(
    runs: xr.Dataset, *, score: xr.DataArray | None = None, reference: xr.DataArray | None = None
) -> np.ndarray:
    """Colours of a map as published: blue to green where training converges, yellow to red where it does not.

    Parameters
    ----------
    runs : Dataset
        Of two dims; the first runs to the right, the second upwards.
    score : DataArray, optional
        Negative where converged; `published_score` by default.
    reference : DataArray, optional
        Scores that ranks are taken among, such as those of the whole film.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        Inferred pixels have one pale colour for each phase, pending and failed ones are white.

    Examples
    --------
    >>> runs = xr.Dataset({"status": (("x", "y"), np.array([[1, 2]], np.int8))})
    >>> published_picture(runs, score=xr.DataArray([[-1.0, 1.0]], dims=("x", "y"))).shape
    (2, 1, 3)
    """
    score = published_score(runs) if score is None else score
    level = equalise_ranks(score.values, reference=reference)
    colors = colormaps[COLORMAP]((1 + level) / 2)[..., :3]
    status = runs["status"].values
    if (status == Status.INFERRED).any():
        phase = np.where(infer_status(runs).values == Status.CONVERGED, 1.0, -1.0) * (1 + GAP) / 2
        flat = colormaps[COLORMAP]((1 + phase) / 2)[..., :3]
        colors = np.where((status == Status.INFERRED)[..., None], _paler(flat), colors)
    colors[np.isin(status, (Status.PENDING, Status.FAILED))] = 1.0
    return _upright(colors)


def plain_picture(runs: xr.Dataset) -> np.ndarray:
    """Colours of a map by status alone; inferred pixels are a paler shade of what is inferred.

    Parameters
    ----------
    runs : Dataset
        Of two dims; the first runs to the right, the second upwards.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)

    Examples
    --------
    >>> plain_picture(xr.Dataset({"status": (("x", "y"), np.array([[0, 4]], np.int8))}))[:, 0]
    array([[255,   0, 255],
           [255, 255, 255]], dtype=uint8)
    """
    status = runs["status"].values
    inferred = status == Status.INFERRED
    palette = np.array([to_rgb(PLAIN[code]) for code in sorted(PLAIN)])
    colors = palette[infer_status(runs).values if inferred.any() else status]
    colors[inferred] = _paler(colors[inferred])
    return _upright(colors)


def _paler(colors: np.ndarray) -> np.ndarray:
    return colors + PALER * (1 - colors)


def _upright(colors: np.ndarray) -> np.ndarray:
    """(x, y, 3) from 0 to 1 -> bytes, (rows from above, columns, 3)."""
    if colors.ndim != 3:
        raise ValueError(f"runs has {colors.ndim - 1} dims; a picture needs 2 (select the others)")
    return np.round(255 * np.swapaxes(colors, 0, 1)[::-1]).astype(np.uint8)


def contact_sheet(
    frames: Iterable[xr.Dataset], *, picture: Picture = published_picture, columns: int = 6
) -> Figure:
    """Lay the frames of a zoom side by side, each with the decades zoomed so far.

    Parameters
    ----------
    frames : iterable of Dataset
        From `trainability.zoom`, or any maps of two dims.
    picture : callable, optional
        Dataset -> array of uint8, shape (rows, columns, 3).
    columns : int, optional
        At most so many side by side.

    Returns
    -------
    Figure
        Save it with `trainability.plot.save`.

    Raises
    ------
    ValueError
        If there is no frame, or `columns` is no positive number.

    Examples
    --------
    >>> runs = xr.Dataset({"status": (("x", "y"), np.ones((8, 8), np.int8))})
    >>> len(contact_sheet([runs, runs], picture=plain_picture).axes)
    2
    """
    whole(1, columns=columns)
    images, titles = [], []
    for runs in frames:
        images.append(picture(runs))
        about = _about(runs)
        titles.append(f"{about['decades']:.1f} decades" if about else "")
    if not images:
        raise ValueError("frames is empty; a contact sheet needs at least one")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    figure = plt.figure(figsize=(1.7 * columns, 1.9 * rows), layout="constrained")
    for i, (image, title) in enumerate(zip(images, titles, strict=True)):
        ax = figure.add_subplot(rows, columns, i + 1)
        ax.imshow(image, interpolation="nearest" if max(image.shape) < 300 else "antialiased")
        ax.set_axis_off()
        ax.set_title(title, fontsize="small")
    plt.close(figure)  # out of pyplot's list; the figure itself lives on
    return figure


def film(
    frames: Iterable[xr.Dataset],
    path: str | Path,
    *,
    picture: Picture = published_picture,
    pixels: int = 512,
    seconds_per_halving: float = 1.0,
    fps: int = 24,
) -> Path:
    """Write a zoom as a film: MP4, or GIF by the ending of the path.

    Between two frames the window shrinks steadily and the colours of one go over into those of the next.

    Parameters
    ----------
    frames : iterable of Dataset
        From `trainability.zoom`.
    path : path
        Ending in .mp4 or .gif.
    picture : callable, optional
        Dataset -> array of uint8, shape (rows, columns, 3).
    pixels : int, optional
        Width and height of the film; even.
    seconds_per_halving : float, optional
    fps : int, optional
        Pictures a second; at most 50 in a GIF.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        Before any work, if the ending is unknown or a number not positive; later, if frames are not of a zoom, or
        there is none.
    ImportError
        Before any work, for MP4 without imageio-ffmpeg.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from trainability import Grid, linear_axis, random_prompt, trainers
    >>> from trainability.frames import zoom
    >>> trainer = trainers.LinearTransformer(random_prompt(6, 2, seed=0), n_steps=20)
    >>> window = Grid(lr=linear_axis(0, 16, 8), init_scale=linear_axis(0, 2, 8))
    >>> frames = zoom(window, trainer, {"lr": 4.0, "init_scale": 1.0}, decades=0.6)
    >>> with TemporaryDirectory() as folder:
    ...     film(frames, f"{folder}/zoom.gif", picture=plain_picture, pixels=32, fps=4).name
    'zoom.gif'
    """
    path = Path(path)
    write = film_writer(path)
    for name, value in (("pixels", pixels), ("seconds_per_halving", seconds_per_halving), ("fps", fps)):
        if not value > 0:
            raise ValueError(f"{name}={value} must be positive")
    if pixels % 2:
        raise ValueError(f"pixels={pixels} must be even, or video players refuse the film")
    write(path, _in_between(frames, picture, pixels, round(seconds_per_halving * fps) or 1), pixels, fps)
    return path


def film_writer(path: Path) -> Callable[[Path, Iterator[np.ndarray], int, int], None]:
    """Return what writes a film of this ending, or say why nothing does.

    Examples
    --------
    >>> film_writer(Path("zoom.avi"))
    Traceback (most recent call last):
    ...
    ValueError: path=zoom.avi must end in .mp4 or .gif
    """
    if path.suffix not in (".mp4", ".gif"):
        raise ValueError(f"path={path} must end in .mp4 or .gif")
    if path.suffix == ".gif":
        return _write_gif
    if find_spec("imageio_ffmpeg") is None:
        raise ImportError("an MP4 needs imageio-ffmpeg: pip install 'trainability[film]', or write a GIF")
    return _write_mp4


def _in_between(
    frames: Iterable[xr.Dataset], picture: Picture, pixels: int, steps: int
) -> Iterator[np.ndarray]:
    """Images of a film, `steps` from each frame to the next."""
    outer: Placed | None = None
    for runs in frames:
        about = _about(runs)
        if not about:
            raise ValueError(
                "frames: a map is not of a zoom, so its window cannot be placed; use trainability.zoom"
            )
        inner = picture(runs), about["point"]
        if outer is not None:
            for k in range(steps):
                yield _blend(outer, inner, k / steps, pixels)
        outer = inner
    if outer is None:
        raise ValueError("frames is empty; a film needs at least one")
    yield _sample(outer, 1.0, pixels)[0]


def _blend(outer: Placed, inner: Placed, t: float, pixels: int) -> np.ndarray:
    """Image of the window 2^-t times as wide as the outer frame's; the inner frame is half as wide."""
    below, _ = _sample(outer, 2.0**-t, pixels)
    above, covered = _sample(inner, 2.0 ** (1 - t), pixels)
    share = np.where(covered, t, 0.0)[..., None]
    return np.round((1 - share) * below + share * above).astype(np.uint8)


def _sample(placed: Placed, width: float, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest colours in a window of a frame around its point, and whether the frame covers them.

    The window is `width` times the frame's, and the point keeps its share of each side.
    """
    image, point = placed
    places, inside = [], []
    for n, place in ((image.shape[0], image.shape[0] - 1 - point[1]), (image.shape[1], point[0])):
        share = (place + 0.5) / n
        at = place + 0.5 + ((np.arange(pixels) + 0.5) / pixels - share) * n * width
        places.append(np.clip(np.floor(at).astype(int), 0, n - 1))
        inside.append((at >= 0) & (at < n))
    return image[np.ix_(*places)], np.logical_and.outer(*inside)


def _about(runs: xr.Dataset) -> dict[str, Any]:
    return json.loads(runs.attrs.get("zoom", "{}"))


def _write_gif(path: Path, images: Iterator[np.ndarray], pixels: int, fps: int) -> None:
    from PIL import Image

    # One palette for all pictures, or colours flicker.
    first = next(images)
    palette = Image.fromarray(first).quantize(256)
    quantized = (Image.fromarray(i).quantize(palette=palette, dither=Image.Dither.NONE) for i in images)
    palette.save(
        path,
        save_all=True,
        append_images=quantized,
        duration=max(round(1000 / fps), 20),
        loop=0,
        optimize=False,
    )


def _write_mp4(path: Path, images: Iterator[np.ndarray], pixels: int, fps: int) -> None:
    from imageio_ffmpeg import write_frames  # type: ignore[import-not-found,import-untyped,unused-ignore]

    writer = write_frames(str(path), (pixels, pixels), fps=fps, macro_block_size=2, quality=8)
    writer.send(None)
    try:
        for image in images:
            writer.send(np.ascontiguousarray(image))
    finally:
        writer.close()
