"""Boxes that a set of cells occupies: counts by size, lacunarity, and the correlation of its points."""

import numpy as np
from numba import njit, prange

from ._checks import increasing

# Placements of the grid tried along each axis; a box of s cells has s of them.
PLACEMENTS = 8


def box_counts(cells, sizes, *, placements: int = PLACEMENTS) -> np.ndarray:
    """Number of boxes of each size that hold a cell of the set, the least over placements of the grid.

    Parameters
    ----------
    cells : array_like of bool, shape (h, w)
        As from `boundary`. Any shape: no part is cut off.
    sizes : array_like of int, shape (k,)
        Box sides in cells, increasing, at most the longer side.
    placements : int, optional
        Shifts of the grid tried along each axis, evenly spaced; 1 leaves it at the corner.

    Returns
    -------
    ndarray of float, shape (k,)
        An occupied box that sticks out of the frame counts by the share of it inside: a set that fills the
        frame then counts exactly h w / s² at any size, and one that ends inside it is not touched.

    Raises
    ------
    ValueError
        For sizes that are not increasing whole numbers in range.

    Notes
    -----
    A summed-area table answers for a box in four reads; the time hardly depends on how many cells are set.

    Examples
    --------
    >>> box_counts(np.ones((6, 9), bool), [1, 2, 3])
    array([54. , 13.5,  6. ])
    >>> box_counts(np.eye(8, dtype=bool), [1, 2, 4])
    array([8. , 3.5, 1.5])
    """
    cells = _as_cells(cells)
    sizes = _as_sizes(sizes, max(cells.shape))
    if placements < 1:
        raise ValueError(f"placements={placements} must be at least 1")
    table = _summed_area(cells)
    counts = np.empty(len(sizes))
    for i, size in enumerate(sizes):
        shifts = np.unique(np.arange(min(size, placements)) * size // min(size, placements))
        counts[i] = _counts_by_shift(table, size, shifts).min()
    return counts


def lacunarity(cells, sizes) -> np.ndarray:
    """Mean square over squared mean of the number of cells in a gliding box of each size: 1 for an even set.

    Parameters
    ----------
    cells : array_like of bool, shape (h, w)
    sizes : array_like of int, shape (k,)
        Increasing, at most the shorter side.

    References
    ----------
    Allain and Cloitre, Phys. Rev. A 44, 3552 (1991).

    Examples
    --------
    >>> lacunarity(np.eye(64, dtype=bool), [1, 4]).round(2)
    array([64.  , 10.76])
    """
    cells = _as_cells(cells)
    sizes = _as_sizes(sizes, min(cells.shape))
    if not cells.any():
        raise ValueError("cells holds no cell of the set; lacunarity needs at least one")
    table = _summed_area(cells).astype(float)
    found = np.empty(len(sizes))
    for i, s in enumerate(sizes):
        mass = table[s:, s:] - table[:-s, s:] - table[s:, :-s] + table[:-s, :-s]
        found[i] = (mass**2).mean() / mass.mean() ** 2
    return found


def correlation_sums(cells, radii) -> np.ndarray:
    """Mean number of other cells of the set within each distance of one of its cells.

    The number grows like r^D₂, the correlation dimension. Pairs are weighted by how much of the frame both
    can be moved in (translation correction), so that the frame does not bend the curve.

    Parameters
    ----------
    cells : array_like of bool, shape (h, w)
    radii : array_like of float, shape (k,)
        In cells, increasing, at most half the shorter side.

    References
    ----------
    Grassberger and Procaccia, Phys. Rev. Lett. 50, 346 (1983); Ohser, Math. Operationsforsch. 14, 63 (1983).

    Examples
    --------
    >>> row = np.zeros((65, 65), bool)
    >>> row[32] = True
    >>> correlation_sums(row, [1, 4, 16]).round(6)
    array([ 2.,  8., 32.])
    """
    from scipy import fft

    cells = _as_cells(cells)
    radii = increasing("radii", radii)
    h, w = cells.shape
    if radii[0] < 1 or radii[-1] > min(h, w) / 2:
        raise ValueError(
            f"radii from {radii[0]} to {radii[-1]} must lie between 1 and {min(h, w) / 2}, half the shorter side"
        )
    if not cells.any():
        raise ValueError("cells holds no cell of the set; a correlation needs at least one")
    reach = int(radii[-1])
    shape = [fft.next_fast_len(n + reach, real=True) for n in (h, w)]
    power = np.abs(fft.rfft2(cells.astype(float), shape)) ** 2
    pairs = fft.irfft2(power, shape)
    lag = np.arange(-reach, reach + 1)
    pairs = np.rint(pairs[np.ix_(lag, lag)])
    pairs *= (h / (h - np.abs(lag)))[:, None] * (w / (w - np.abs(lag)))[None, :]
    distance = np.hypot(lag[:, None], lag[None, :])
    pairs[reach, reach] = 0
    return np.array([pairs[distance <= r].sum() for r in radii]) / cells.sum()


def _as_cells(cells) -> np.ndarray:
    cells = np.asarray(cells)
    if cells.dtype != bool or cells.ndim != 2 or cells.size == 0:
        raise ValueError(f"cells is {cells.dtype} of shape {cells.shape}; it must be bool of two dimensions")
    return np.ascontiguousarray(cells)


def _as_sizes(sizes, most: int) -> np.ndarray:
    values = increasing("sizes", sizes)
    whole = values.astype(np.int64)
    if (whole != values).any() or whole[0] < 1 or whole[-1] > most:
        raise ValueError(f"sizes {values} must be whole numbers between 1 and {most}")
    return whole


@njit(parallel=True, cache=True)
def _summed_area(cells):
    """Number of cells above and left of each corner, shape (h + 1, w + 1)."""
    h, w = cells.shape
    table = np.zeros((h + 1, w + 1), np.int32)
    for i in prange(h):
        total = np.int32(0)
        for j in range(w):
            total += np.int32(cells[i, j])
            table[i + 1, j + 1] = total
    strip = 256  # columns summed at once: they stay in cache
    for block in prange((w + strip) // strip):
        start, stop = block * strip, min((block + 1) * strip, w + 1)
        for i in range(1, h + 1):
            for j in range(start, stop):
                table[i, j] += table[i - 1, j]
    return table


@njit(parallel=True, cache=True)
def _counts_by_shift(table, size, shifts):
    """Occupied boxes for each pair of shifts, boxes that stick out counted by their share inside."""
    h, w = table.shape[0] - 1, table.shape[1] - 1
    n = len(shifts)
    counts = np.zeros(n * n)
    for pair in prange(n * n):
        count = 0.0
        for top in range(-shifts[pair // n], h, size):
            i, k = max(top, 0), min(top + size, h)
            partial = 0
            for left in range(-shifts[pair % n], w, size):
                j, m = max(left, 0), min(left + size, w)
                if table[k, m] - table[i, m] - table[k, j] + table[i, j] > 0:
                    partial += m - j
            count += partial * (k - i)
        counts[pair] = count / (size * size)
    return counts
