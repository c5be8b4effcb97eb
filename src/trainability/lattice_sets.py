"""Random sets of known dimension, grown on a lattice finer than the pixels that show them."""

import numpy as np
from scipy import ndimage

from ._rng import stream

# Sub-sites a pixel side of the sets grown on a lattice: their detail must go on below the pixel. Outside its
# frontier a random walk meets its lattice over more sites than percolation does.
FINER, FINER_WALK = 4, 8


def percolation_hull(n: int, seed: int) -> np.ndarray:
    """Side of the interface between occupied sites held by one edge and empty ones held by the other; 7/4.

    Critical site percolation on the triangular lattice, where 1/2 is critical and hulls have dimension 7/4,
    with `FINER`² sites to a pixel.

    References
    ----------
    Smirnov, C. R. Acad. Sci. 333, 239 (2001); Beffara, Ann. Probab. 36, 1421 (2008).

    Examples
    --------
    >>> percolation_hull(32, seed=0).shape
    (32, 32)
    """
    rng = stream(seed, "percolation")
    occupied = rng.random((FINER * n, FINER * n)) < 0.5
    occupied[0], occupied[-1] = True, False
    triangular = np.array([[0, 1, 1], [1, 1, 1], [1, 1, 0]])
    clusters = ndimage.label(occupied, triangular)[0]
    outside = ndimage.label(clusters != clusters[0, 0], triangular)[0]
    return (outside == outside[-1, 0])[FINER // 2 :: FINER, FINER // 2 :: FINER]


def brownian_frontier(n: int, seed: int) -> np.ndarray:
    """Points that a planar Brownian path separates from infinity, or visits; dimension 4/3.

    References
    ----------
    Lawler, Schramm and Werner, Math. Res. Lett. 8, 401 (2001).

    Examples
    --------
    >>> brownian_frontier(64, seed=0).any()
    np.True_
    """
    rng = stream(seed, "brownian")
    fine = FINER_WALK * n
    steps = (fine // 3) ** 2
    move = rng.integers(0, 4, steps)
    path = np.stack(
        [np.cumsum((move == 0).astype(int) - (move == 1)), np.cumsum((move == 2).astype(int) - (move == 3))]
    )
    low, high = path.min(axis=1), path.max(axis=1)
    visited = np.zeros(high - low + 3, bool)
    visited[tuple(path - low[:, None] + 1)] = True
    outside = ndimage.label(~visited)[0]
    filled = outside != outside[0, 0]
    picture = np.zeros((fine, fine), bool)
    start = (fine - np.array(filled.shape)) // 2  # a path longer than the frame is cut by it
    source = tuple(slice(max(0, -s), max(0, -s) + fine) for s in start)
    piece = filled[source]
    at = [max(0, s) for s in start]
    picture[at[0] : at[0] + piece.shape[0], at[1] : at[1] + piece.shape[1]] = piece
    return picture[FINER_WALK // 2 :: FINER_WALK, FINER_WALK // 2 :: FINER_WALK]
