"""Pictures whose boundary has a known dimension: what an estimator must read right before it is believed.

Every function gives point samples, one at each pixel centre, of a set with detail far below the pixel, as a
trainability map does of its boundary. Where a set lies in the frame, how it is turned and which phases or steps
it draws follow from the seed, so that many seeds are many placements of one truth.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numba import njit, prange

from ._rng import stream
from .lattice_sets import brownian_frontier, percolation_hull

# Terms of a graph stop where they change less than this share of a pixel.
_SUBPIXEL = 1e-4

# Iterations after which a point of a Julia set's plane counts as bounded.
_MOST_STEPS = 400


@dataclass(frozen=True, eq=False)
class KnownSet:
    """A family of pictures with one known dimension.

    Attributes
    ----------
    name : str
    dimension : float
        Of the boundary; NaN where there is none to measure, as in noise.
    kind : str
        "smooth", "nearly smooth", "fractal" or "noise": what a verdict should not contradict.
    draw : callable
        ``draw(n, seed) -> ndarray`` of bool or int labels, shape (n, n).
    source : str
        Where the dimension is from.
    """

    name: str
    dimension: float
    kind: str
    draw: Callable = field(repr=False)
    source: str


def _pixel_centres(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of pixel centres in the unit square, each of shape (n, n)."""
    centre = (np.arange(n) + 0.5) / n
    return np.meshgrid(centre, centre, indexing="ij")


def straight_line(n: int, seed: int) -> np.ndarray:
    """Half plane at a random angle, its edge near the middle; dimension 1.

    Examples
    --------
    >>> straight_line(64, seed=0).shape
    (64, 64)
    """
    rng = stream(seed, "line")
    angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.2, 0.2)
    x, y = _pixel_centres(n)
    return np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) > offset


def circle(n: int, seed: int) -> np.ndarray:
    """Disc of a radius between a quarter and two fifths of the frame; dimension 1.

    Examples
    --------
    >>> bool(circle(64, seed=0)[32, 32])
    True
    """
    rng = stream(seed, "circle")
    radius, (a, b) = rng.uniform(0.25, 0.4), rng.uniform(0.45, 0.55, 2)
    x, y = _pixel_centres(n)
    return (x - a) ** 2 + (y - b) ** 2 < radius**2


def product_map_ellipse(n: int, seed: int) -> np.ndarray:
    """Starts of the product map inside the invariant ellipse, where orbits stay bounded; dimension 1.

    Examples
    --------
    >>> bool(product_map_ellipse(64, seed=0)[32, 32])
    True
    """
    rng = stream(seed, "ellipse")
    mu, (da, db) = rng.uniform(0.2, 1.8), rng.uniform(-0.1, 0.1, 2)
    x, y = _pixel_centres(n)
    s, d = (p * 6 - 3 for p in (x, y))
    a, b = s + da, d + db
    return a**2 + b**2 - mu * a * b + mu**2 - 4 < 0


@njit(cache=True)
def _under_koch(x, y, levels):
    """Whether a point lies between the segment from 0 to 1 and the Koch curve above it."""
    for _ in range(levels):
        if x > 0.5:
            x = 1 - x
        if y <= 0 or y * np.sqrt(3.0) > x:  # the curve lies in the triangle with angles of 30 degrees
            return False
        if y <= (x - 1 / 3) * np.sqrt(3.0):
            return True
        if x < 1 / 3:
            x, y = 3 * x, 3 * y
        else:  # onto the left side of the bump, turned by -60 degrees
            u, v = 3 * x - 1, 3 * y
            x, y = u / 2 + v * np.sqrt(3.0) / 2, v / 2 - u * np.sqrt(3.0) / 2
    return False


@njit(parallel=True, cache=True)
def _snowflake(n, a, b, radius, angle, levels):
    inside = np.zeros((n, n), np.bool_)
    side = radius * np.sqrt(3.0)
    for i in prange(n):
        for j in range(n):
            px, py = (i + 0.5) / n - a, (j + 0.5) / n - b
            within = True
            for k in range(3):
                # In the frame of side k: x along it from 0 to 1, y outwards.
                turn = angle + 2 * np.pi * k / 3
                out = px * np.cos(turn) + py * np.sin(turn) - radius / 2
                along = -px * np.sin(turn) + py * np.cos(turn)
                if out > 0:
                    within = False
                    if _under_koch(along / side + 0.5, out / side, levels):
                        inside[i, j] = True
            if within:
                inside[i, j] = True
    return inside


def _thirds(n: int) -> int:
    """How often a frame of n pixels is divided by three until its pieces are far below a pixel."""
    return int(np.ceil(np.log(n / _SUBPIXEL) / np.log(3)))


def koch_snowflake(n: int, seed: int) -> np.ndarray:
    """Koch's snowflake, turned and shifted; dimension log 4 / log 3.

    Examples
    --------
    >>> bool(koch_snowflake(64, seed=0)[32, 32])
    True
    """
    rng = stream(seed, "koch")
    (a, b), radius, angle = rng.uniform(0.47, 0.53, 2), rng.uniform(0.3, 0.45), rng.uniform(0, 2 * np.pi)
    return _snowflake(n, a, b, radius, angle, _thirds(n))


def koch_curve(n: int, seed: int) -> np.ndarray:
    """One Koch curve across the frame, the frame seeing most of it; dimension log 4 / log 3.

    Examples
    --------
    >>> bool(0.3 < koch_curve(64, seed=0).mean() < 0.9)
    True
    """
    rng = stream(seed, "koch curve")
    (a, b), angle = rng.uniform(-0.05, 0.05, 2), rng.uniform(0, 2 * np.pi)
    # A snowflake so large that the frame holds the middle of one of its sides.
    radius = 0.9
    a, b = 0.5 - radius * 0.62 * np.cos(angle) + a, 0.5 - radius * 0.62 * np.sin(angle) + b
    return _snowflake(n, a, b, radius, angle, _thirds(n))


def weierstrass_graph(n: int, seed: int, *, dimension: float) -> np.ndarray:
    """Plane below Σ 2^(-nH) cos(2π 2^n x + φ_n), H = 2 - dimension, phases uniform.

    The box dimension is 2 - H for all phases, the Hausdorff dimension for almost all.

    References
    ----------
    Hunt, Proc. Amer. Math. Soc. 126, 791 (1998).

    Examples
    --------
    >>> weierstrass_graph(64, seed=0, dimension=1.5).shape
    (64, 64)
    """
    rng = stream(seed, "weierstrass")
    # A whole period on 2^k ± 1 pixels would fold frequencies onto each other: the frame sees a part of one.
    x, h = rng.uniform(0.6, 1.0) * (np.arange(n) + 0.5) / n, 2 - dimension
    terms = int(np.ceil(np.log2(n / _SUBPIXEL) / h))
    height = np.zeros(n)
    for k, phase in enumerate(rng.uniform(0, 2 * np.pi, terms)):
        # Beyond 2^50 the phase alone is left of the argument: independent at each column, as it should be.
        angle = 2 * np.pi * ((2.0**k * x) % 1.0) if k < 50 else rng.uniform(0, 2 * np.pi, n)
        height += 2.0 ** (-k * h) * np.cos(angle + phase)
    return _below(height, n, rng)


def takagi_graph(n: int, seed: int, *, dimension: float) -> np.ndarray:
    """Plane below Σ 2^(-nH) s(2^n x), s the distance to the nearest integer, H = 2 - dimension.

    References
    ----------
    Ledrappier, Contemp. Math. 135, 285 (1992); the box dimension is elementary.

    Examples
    --------
    >>> takagi_graph(64, seed=0, dimension=1.5).shape
    (64, 64)
    """
    rng = stream(seed, "takagi")
    width, start, h = rng.uniform(0.6, 1.0), rng.uniform(0, 1), 2 - dimension
    x = start + width * (np.arange(n) + 0.5) / n
    terms = int(np.ceil(np.log2(n / _SUBPIXEL) / h))
    height = np.zeros(n)
    for k in range(terms):
        position = (2.0**k * x) % 1.0 if k < 50 else rng.uniform(0, 1, n)
        height += 2.0 ** (-k * h) * np.minimum(position, 1 - position)
    return _below(height, n, rng)


def _below(height: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Label the pixels below a graph scaled to between a third and three fifths of the frame."""
    share = rng.uniform(0.35, 0.6)
    height = (height - height.min()) / np.ptp(height) * share + rng.uniform(0.05, 0.95 - share)
    return (np.arange(n) + 0.5)[None, :] / n < height[:, None]


@njit(parallel=True, cache=True)
def _bounded(real, imaginary, c, most):
    inside = np.zeros((len(real), len(imaginary)), np.bool_)
    for i in prange(len(real)):
        for j in range(len(imaginary)):
            z = complex(real[i], imaginary[j])
            k = 0
            while k < most and z.real * z.real + z.imag * z.imag < 16:
                z = z * z + c
                k += 1
            inside[i, j] = k == most
    return inside


def julia_set(n: int, seed: int, *, c: complex) -> np.ndarray:
    """Filled Julia set of z² + c, whole, shifted by less than a twentieth of the frame.

    Examples
    --------
    >>> bool(julia_set(33, seed=0, c=-1)[16, 16])
    True
    """
    rng = stream(seed, "julia")
    half = rng.uniform(1.75, 2.0)
    axes = [centre + half * (2 * (np.arange(n) + 0.5) / n - 1) for centre in rng.uniform(-0.1, 0.1, 2)]
    return _bounded(*axes, complex(c), _MOST_STEPS)


def sierpinski_carpet(n: int, seed: int) -> np.ndarray:
    """Holes of Sierpinski's carpet, each given one of two labels at random; dimension log 8 / log 3.

    Every point of the carpet has holes of both labels beside it: the boundary is the carpet.

    Examples
    --------
    >>> sierpinski_carpet(64, seed=0).shape
    (64, 64)
    """
    rng = stream(seed, "carpet")
    width, (a, b) = rng.uniform(0.55, 0.95), rng.uniform(0, 1, 2)
    x, y = _pixel_centres(n)
    x, y = a * (1 - width) + width * x, b * (1 - width) + width * y
    picture, row, column = np.zeros((n, n), bool), np.zeros((n, n), int), np.zeros((n, n), int)
    within = np.ones((n, n), bool)  # not yet in a hole
    coins = rng.random((1024, 1024)) < 0.5
    for _ in range(_thirds(n)):
        x, y = 3 * x, 3 * y
        i, j = x.astype(int), y.astype(int)
        x, y, row, column = x - i, y - j, 3 * row + i, 3 * column + j
        hole = within & (i == 1) & (j == 1)
        picture[hole] = coins[row[hole] % 1024, column[hole] % 1024]
        within &= ~hole
    return picture


def iid_noise(n: int, seed: int, *, share: float = 0.5) -> np.ndarray:
    """Independent draws, true with probability `share`.

    Examples
    --------
    >>> iid_noise(4, seed=0).dtype
    dtype('bool')
    """
    return stream(seed, "noise").random((n, n)) < share


def jittered(labels_below: np.ndarray, amplitude: float, seed: int) -> np.ndarray:
    """Move each pixel's own boundary by a normal step of `amplitude` frames: independent noise along an edge.

    Parameters
    ----------
    labels_below : ndarray of float, shape (n, n)
        Signed distance to the boundary, in frames.
    amplitude : float
    seed : int

    Examples
    --------
    >>> x, y = _pixel_centres(8)
    >>> jittered(x - 0.5, 0.0, seed=0).sum()
    np.int64(32)
    """
    return labels_below + amplitude * stream(seed, "jitter").standard_normal(labels_below.shape) > 0


def _jittered_flat(n: int, seed: int, *, amplitude: float) -> np.ndarray:
    return jittered(_pixel_centres(n)[1] - 0.5, amplitude, seed)


def _jittered_tilted(n: int, seed: int, *, amplitude: float) -> np.ndarray:
    angle = stream(seed, "tilt").uniform(0, 2 * np.pi)
    x, y = _pixel_centres(n)
    return jittered(np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5), amplitude, seed)


def _jittered_rough(n: int, seed: int, *, amplitude: float) -> np.ndarray:
    height = weierstrass_graph(n, seed, dimension=1.5).mean(axis=1)
    return jittered(height[:, None] - _pixel_centres(n)[1], amplitude, seed)


def _noise(name: str, draw: Callable) -> KnownSet:
    return KnownSet(name, np.nan, "noise", draw, "none to measure")


KNOWN_SETS: tuple[KnownSet, ...] = (
    KnownSet("straight line", 1.0, "smooth", straight_line, "exact"),
    KnownSet("circle", 1.0, "smooth", circle, "exact"),
    KnownSet("ellipse of the product map", 1.0, "smooth", product_map_ellipse, "exact, theory/03"),
    KnownSet(
        "Julia set, c = i/4",
        1.0231992890309691,
        "nearly smooth",
        partial(julia_set, c=0.25j),
        "Jenkinson and Pollicott, Amer. J. Math. 124, 495 (2002), rigorous",
    ),
    KnownSet("Koch snowflake", float(np.log(4) / np.log(3)), "fractal", koch_snowflake, "exact"),
    KnownSet("Koch curve", float(np.log(4) / np.log(3)), "fractal", koch_curve, "exact"),
    *(
        KnownSet(f"Weierstrass graph, {d}", d, "fractal", partial(weierstrass_graph, dimension=d), "exact")
        for d in (1.2, 1.3, 1.5, 1.8, 1.9)
    ),
    *(
        KnownSet(f"Takagi graph, {d}", d, "fractal", partial(takagi_graph, dimension=d), "exact")
        for d in (1.2, 1.5, 1.8, 1.9)
    ),
    KnownSet(
        "Julia set, c = -1",
        1.26835,
        "fractal",
        partial(julia_set, c=-1.0),
        "McMullen, Amer. J. Math. 120, 691 (1998), numerical",
    ),
    KnownSet("Brownian frontier", 4 / 3, "fractal", brownian_frontier, "Lawler, Schramm and Werner (2001)"),
    KnownSet("percolation hull", 7 / 4, "fractal", percolation_hull, "Smirnov (2001)"),
    KnownSet("Sierpinski carpet", float(np.log(8) / np.log(3)), "fractal", sierpinski_carpet, "exact"),
    _noise("independent noise", iid_noise),
    *(
        _noise(f"flat, jittered by {a:.1%}", partial(_jittered_flat, amplitude=a))
        for a in (0.002, 0.01, 0.02, 0.1)
    ),
    _noise("tilted, jittered by 1.0%", partial(_jittered_tilted, amplitude=0.01)),
    _noise("rough, jittered by 1.0%", partial(_jittered_rough, amplitude=0.01)),
)
"""Every family that `benchmarks/calibrate_dimension.py` measures, with its dimension and where that is from."""
