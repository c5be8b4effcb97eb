"""Boundaries first: train an exploring lattice, then only pixels near a change of outcome, at each halving."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import ndimage

from ._contract import Status, is_trained

# Pixels around a change of outcome that are trained at each level: the estimate places the change up to one pixel
# off, and specks lie beside a rough boundary without touching it. Measured on maps of small networks: with 1, 2 and 3
# a full window of tanh (256²) gives 86, 98 and 99 % of the edges for 3, 5 and 6 % of the pixels; a zoom of the
# linear network full of specks 84 % with 2, 93 % with 3 and 96 % with 4, for 23, 31 and 36 %.
BAND = 3

# Specks lie around a rough boundary farther than the band reaches. Windows of this side are rough where outcomes
# change more often than `ROUGH` straight lines through them would (one line: up to √2 of its side, at an angle),
# and are trained whole, with as much around. On full windows of small networks (1024²) the edges found rise from 92
# to 96 % (relu) and from 98 to 99.6 % (tanh), for 4 and 5 % of the pixels instead of 3 and 4 %; a band of 4 instead
# gives 94 and 99 % for as many, and makes smooth boundaries dearer.
WINDOW, ROUGH = 17, 2

# A filament of one outcome thinner than a pixel shows as specks in a row, most of them between the pixels of the
# exploring lattice. Around each piece of fewer than `PIECE` pixels all within `REACH` are trained, and what lies
# ahead of a long one as far as it is long and `REACH` more. On zooms of small networks (1024²) with such filaments
# the edges found rise from 84 to 96 % and from 57 to 100 %, for 7 and 5 % of the pixels instead of 5 and 3 %; full
# windows cost up to half a percent of the pixels more.
PIECE, REACH = 64, 12

# On maps of a few pixels a piece is at most this part of all.
SHARE = 64

# Least ratio of the variances along and across a piece that has a direction.
LONG = 4


def trace_boundary(
    shape: tuple[int, ...], train: Callable[[np.ndarray], np.ndarray], *, step: int, widen: bool = True
) -> np.ndarray:
    """Train every `step`-th pixel, then follow the boundary at each halving of the step.

    At each level the outcome of an untrained pixel is taken from the pixel of the coarser lattice below it;
    untrained pixels within `BAND` lattice pixels of a change are trained, until none is left. Last come the places
    where the boundary is rough, with their surroundings (`WINDOW`), and those of small pieces (`REACH`). What is
    trained depends on outcomes alone: a trace that was interrupted, and runs again over the outcomes that were kept,
    is the same trace.

    Parameters
    ----------
    shape : tuple of int
        Of the grid.
    train : callable
        Takes the mask of wanted pixels and returns the outcome of every pixel, 0 where there is none. It may
        know outcomes that were not asked for; they are not looked at.
    step : int
        A power of two.
    widen : bool, optional
        Whether to train the surroundings of rough places and of small pieces. Without, a part of the same pixels is
        trained.

    Returns
    -------
    ndarray of bool
        The pixels asked for.

    Notes
    -----
    Islands that fit between the pixels of the exploring lattice and lie away from the boundary are missed; a
    smaller `step` is the only cure. Where a boundary dissolves into specks of a pixel there is nothing to trace:
    train all. A quadtree that refines cells with mixed corners misses far more, as it cannot follow a boundary into
    a cell whose corners agree.
    """
    asked = np.zeros(shape, bool)
    outcome = np.zeros(shape, np.int8)
    while True:
        lattice = (slice(None, None, step),) * len(shape)
        new = np.zeros(shape, bool)
        new[lattice] = ~asked[lattice] & (_near_change(_estimate(outcome[lattice])) if asked.any() else True)
        if widen and step == 1 and not new.any():
            new = ~asked & _near_rough(_estimate(outcome))
        if widen and step == 1 and not new.any():
            new = ~asked & _near_pieces(_estimate(outcome), ~asked)
        if new.any():
            asked |= new
            outcome = np.where(asked, train(asked), 0).astype(np.int8)
        elif step == 1:
            return asked
        else:
            step //= 2


def infer_status(runs: xr.Dataset) -> xr.DataArray:
    """Status of every pixel of a refined map: its own where trained, that of the pixels around where inferred.

    For drawings and for counting boxes; an agreement or a probability should count trained pixels only.

    Parameters
    ----------
    runs : Dataset
        From `trainability_map` with `refine`.

    Returns
    -------
    DataArray
        Int8 `Status`, as `status`, without inferred pixels; failed and pending ones stay as they are.

    Raises
    ------
    ValueError
        If no pixel of the map is trained.

    Examples
    --------
    >>> runs = xr.Dataset({"status": ("lr", np.array([1, 5, 5, 5, 2, 5, 5, 5], np.int8))})
    >>> infer_status(runs).values
    array([1, 1, 1, 1, 2, 2, 2, 2], dtype=int8)
    """
    status = runs["status"].values
    trained = is_trained(status)
    if not trained.any():
        raise ValueError("runs: no pixel is trained, so none can be inferred; run the sweep first")
    estimate = _estimate(np.where(trained, status, 0))
    return runs["status"].copy(data=np.where(status == Status.INFERRED, estimate, status).astype(np.int8))


def _estimate(outcome: np.ndarray) -> np.ndarray:
    """Fill zeros from the nearest coarser dyadic lattice that has an outcome, at the pixel towards the origin."""
    estimate = outcome.copy()
    step = 2
    while (estimate == 0).any() and step < 2 * max(outcome.shape):
        coarse = outcome
        for axis, n in enumerate(outcome.shape):
            coarse = np.take(coarse, np.arange(n) // step * step, axis)
        estimate = np.where(estimate == 0, coarse, estimate)
        step *= 2
    return estimate


def _near_rough(outcome: np.ndarray) -> np.ndarray:
    """Mark the windows in which the outcome changes oftener than along `ROUGH` lines, and as much around them."""
    changes = np.zeros(outcome.shape)
    for axis in range(outcome.ndim):
        pad = [(0, 0)] * outcome.ndim
        pad[axis] = (0, 1)
        changes += np.pad(np.diff(outcome, axis=axis) != 0, pad)
    inside = ndimage.uniform_filter(changes, WINDOW, mode="constant") * WINDOW**outcome.ndim
    # Counts are whole numbers but for rounding; the border counts as without changes.
    rough = inside > ROUGH * WINDOW ** (outcome.ndim - 1) + 0.5
    return ndimage.maximum_filter(rough, WINDOW, mode="constant")


def _near_pieces(outcome: np.ndarray, untrained: np.ndarray) -> np.ndarray:
    """Mark what lies around small pieces and ahead of long ones, of those near `untrained` pixels."""
    side = 2 * REACH + 1
    open_ = ndimage.maximum_filter(untrained, side)
    around, ahead = np.zeros(outcome.shape, bool), np.zeros(outcome.shape, bool)
    for value in np.unique(outcome):
        labels, _ = ndimage.label(outcome == value, structure=np.ones((3,) * outcome.ndim))
        sizes = np.bincount(labels.ravel())
        small = (
            (sizes < min(PIECE, outcome.size / SHARE))
            & (np.arange(len(sizes)) > 0)
            & (ndimage.maximum(open_, labels, range(len(sizes))) > 0)
        )
        around |= small[labels]
        pixels = np.argwhere(small[labels])
        order = np.argsort(labels[tuple(pixels.T)], kind="stable")
        pieces = labels[tuple(pixels[order].T)]
        for piece in np.split(pixels[order], np.flatnonzero(np.diff(pieces)) + 1):
            ahead[tuple(_ahead(piece, outcome.shape).T)] = True
    return ndimage.maximum_filter(around, side) | ndimage.maximum_filter(ahead, 2 * BAND + 1)


def _ahead(piece: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Pixels on the line through a long piece, (n, d), to both sides as far as it is long and `REACH` more."""
    if len(piece) < 3:
        return piece[:0]
    centre = piece.mean(axis=0)
    variances, directions = np.linalg.eigh(np.cov(piece.T).reshape(2 * (len(shape),)))
    across = max(*variances[:-1], 1 / 12) if len(shape) > 1 else np.inf  # a pixel's own width
    if variances[-1] < LONG * across:
        return piece[:0]
    half = int(1.5 * np.sqrt(12 * variances[-1])) + REACH
    line = np.rint(centre + np.arange(-half, half + 1)[:, None] * directions[:, -1]).astype(int)
    return line[((line >= 0) & (line < shape)).all(axis=1)]


def _near_change(outcome: np.ndarray) -> np.ndarray:
    """Mark the pixels within `BAND` of a change between neighbours along an axis."""
    near = np.zeros(outcome.shape, bool)
    for axis in range(outcome.ndim):
        change = np.diff(outcome, axis=axis) != 0
        pad = [(0, 0)] * outcome.ndim
        near |= np.pad(change, [*pad[:axis], (0, 1), *pad[axis + 1 :]])
        near |= np.pad(change, [*pad[:axis], (1, 0), *pad[axis + 1 :]])
    for axis in range(outcome.ndim):
        wide = np.moveaxis(near, axis, 0)  # a view: grows in place, one axis after the other
        for _ in range(BAND - 1):
            grown = wide.copy()
            grown[1:] |= wide[:-1]
            grown[:-1] |= wide[1:]
            wide[...] = grown
    return near
