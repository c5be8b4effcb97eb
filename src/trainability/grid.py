"""Grids of hyperparameters: named axes with coordinates at pixel centres."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ._checks import increasing

# Neighbouring coordinates nearer than this many units in the last place are not two experiments: a
# product with a gradient already rounds them together.
MIN_ULP = 4


@dataclass(frozen=True, eq=False)
class Axis:
    """Pixel centres along one hyperparameter; `scale` is "linear" or "log"."""

    values: np.ndarray
    scale: str = "linear"

    def positions(self, values) -> np.ndarray:
        """Place values on the axis in units in which pixels are even: as they are, or in decades."""
        return np.log10(values) if self.scale == "log" else np.asarray(values, dtype=float)

    @property
    def unit(self) -> str:
        """Unit of `positions`: "decades" on a logarithmic axis, "" on a linear one."""
        return "decades" if self.scale == "log" else ""


def linear_axis(low: float, high: float, n: int) -> Axis:
    """Cut [low, high] into `n` equal pixels and return their centres.

    Raises
    ------
    ValueError
        If the range is empty, reversed or not finite, or `n` is not positive.

    Examples
    --------
    >>> linear_axis(0, 1, 4).values
    array([0.125, 0.375, 0.625, 0.875])
    """
    _check_range(low, high, n)
    return Axis(low + (high - low) * (np.arange(n) + 0.5) / n)


def log_axis(low: float, high: float, n: int) -> Axis:
    """Cut [low, high], both positive, into `n` pixels of equal ratio and return their geometric centres.

    Raises
    ------
    ValueError
        If the range is empty, reversed, not finite or not positive, or `n` is not positive.

    Examples
    --------
    >>> log_axis(1, 100, 2).values
    array([ 3.162278, 31.622777])
    """
    _check_range(low, high, n)
    if low <= 0:
        raise ValueError(f"log_axis: low={low} must be positive; use linear_axis for ranges that hold zero")
    return Axis(10 ** linear_axis(math.log10(low), math.log10(high), n).values, scale="log")


def dyadic_axis(low: float, high: float, n: int, *, scale: str = "linear") -> Axis:
    """Lay `n` pixels on a lattice of spacing 2^-k around the middle of [low, high].

    Any two such axes of one scale lie on nested lattices: where they overlap, the finer contains the pixels of
    the coarser, to the last bit, so that a zoom need not train them again.

    Parameters
    ----------
    low, high : float
        Range to be covered, roughly: the spacing is the power of two nearest to (high - low) / n in ratio, so the
        axis spans between 1/√2 and √2 times as much.
    n : int
        Pixels.
    scale : {"linear", "log"}
        On a logarithmic axis the range must be positive, and the lattice is one of decades.

    Raises
    ------
    ValueError
        As `linear_axis` and `log_axis`, or if the scale is unknown.

    Examples
    --------
    >>> dyadic_axis(0, 1, 5).values
    array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    >>> dyadic_axis(0.4, 0.6, 5).values
    array([0.4375 , 0.46875, 0.5    , 0.53125, 0.5625 ])
    """
    if scale not in ("linear", "log"):
        raise ValueError(f"scale={scale!r} is unknown; use linear or log")
    _check_range(low, high, n)
    if scale == "log":
        if low <= 0:
            raise ValueError(f"low={low} must be positive on a logarithmic axis; use scale='linear'")
        low, high = math.log10(low), math.log10(high)
    spacing = 2.0 ** round(math.log2((high - low) / n))
    return lattice_axis(round((low + high) / 2 / spacing - (n - 1) / 2), n, spacing, scale)


def lattice_axis(first: int, n: int, spacing: float, scale: str) -> Axis:
    """Axis of the positions (first, ..., first + n - 1) * spacing; `spacing` a power of two.

    Examples
    --------
    >>> lattice_axis(-2, 4, 0.5, "log").values
    array([0.1     , 0.316228, 1.      , 3.162278])
    """
    positions = [k * spacing for k in range(first, first + n)]
    # One value at a time: a vectorised power may round a value by its place in the array.
    return Axis(np.array([10.0**p for p in positions] if scale == "log" else positions), scale=scale)


def _check_range(low: float, high: float, n: int) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"axis range ({low}, {high}) must be finite")
    if low >= high:
        raise ValueError(f"axis range ({low}, {high}) is empty or reversed; low must be below high")
    if n < 1:
        raise ValueError(f"axis has n={n} pixels; it needs at least 1")


class Grid(Mapping):
    """Named axes of a trainability map, first axis first.

    A mapping from names to pixel centres, so it can be handed to anything that takes axes.

    Parameters
    ----------
    **axes : Axis or array_like
        From `linear_axis` or `log_axis`, or the values themselves (taken as linear).

    Raises
    ------
    ValueError
        If an axis is empty, not finite, or not strictly increasing.

    Examples
    --------
    >>> grid = Grid(lr=log_axis(0.01, 10, 6), imbalance=linear_axis(-1, 1, 4))
    >>> grid
    Grid(lr: 6 in [0.0178, 5.62] log, imbalance: 4 in [-0.75, 0.75])
    >>> grid["imbalance"]
    array([-0.75, -0.25,  0.25,  0.75])
    """

    def __init__(self, **axes):
        if not axes:
            raise ValueError("a Grid needs at least one axis, as in Grid(lr=log_axis(1e-3, 1, 64))")
        self.axes: dict[str, Axis] = {}
        for name, axis in axes.items():
            axis = axis if isinstance(axis, Axis) else Axis(np.asarray(axis, dtype=float))
            self.axes[name] = Axis(increasing(name, axis.values), axis.scale)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.axes[name].values

    def __iter__(self) -> Iterator[str]:
        return iter(self.axes)

    def __len__(self) -> int:
        return len(self.axes)

    def __repr__(self) -> str:
        parts = []
        for name, axis in self.axes.items():
            scale = " log" if axis.scale == "log" else ""
            parts.append(
                f"{name}: {len(axis.values)} in [{axis.values[0]:.3g}, {axis.values[-1]:.3g}]{scale}"
            )
        return f"Grid({', '.join(parts)})"

    @property
    def shape(self) -> tuple[int, ...]:
        """Pixels along each axis."""
        return tuple(len(axis.values) for axis in self.axes.values())

    def pixels(self, tile: tuple[slice, ...] | None = None) -> dict[str, np.ndarray]:
        """Coordinates of every pixel of a tile (or of the grid), each of shape (n_pixels,), in C order."""
        tile = tile or (slice(None),) * len(self)
        mesh = np.meshgrid(*(self[name][cut] for name, cut in zip(self, tile, strict=True)), indexing="ij")
        return {name: values.ravel() for name, values in zip(self, mesh, strict=True)}

    def tiles(self, shape: tuple[int, ...]) -> list[tuple[slice, ...]]:
        """Cut the grid into tiles of at most `shape`, in C order."""
        cuts = [
            [slice(i, min(i + step, n)) for i in range(0, n, step)]
            for n, step in zip(self.shape, shape, strict=True)
        ]
        return list(itertools.product(*cuts))

    def coords(self) -> dict[str, tuple]:
        """Coordinates for a Dataset: name -> (dim, values, attrs with the scale)."""
        return {name: (name, axis.values, {"scale": axis.scale}) for name, axis in self.axes.items()}

    def check_resolution(self, dtype: str) -> None:
        """Raise a `ValueError` where neighbouring coordinates are one number, or nearly, in `dtype`.

        Examples
        --------
        >>> Grid(lr=0.1 + 1e-11 * np.arange(3)).check_resolution("float32")
        Traceback (most recent call last):
        ...
        ValueError: lr: neighbouring values 0.1 and 0.1 are 0 ulp apart in float32 ...
        """
        for name in self:
            apart = self._ulp_apart(name, dtype)
            if len(apart) and apart.min() < MIN_ULP:
                i = int(apart.argmin())
                raise ValueError(
                    f"{name}: neighbouring values {self[name][i]:.6g} and {self[name][i + 1]:.6g} are "
                    f"{apart[i]:.0f} ulp apart in {dtype} and need {MIN_ULP}; widen the axis, use fewer pixels "
                    "or a wider dtype"
                )

    def decades_left(self, dtype: str) -> float:
        """How many decades one can zoom into this grid before neighbours are one number, or nearly, in `dtype`.

        Negative where `check_resolution` already raises; infinite if every axis has one pixel.

        Examples
        --------
        >>> grid = Grid(lr=linear_axis(1, 2, 512))
        >>> round(grid.decades_left("float64"), 1), round(grid.decades_left("float32"), 1)
        (12.3, 3.6)
        """
        closest = min((self._ulp_apart(name, dtype).min(initial=np.inf) for name in self), default=np.inf)
        return float(np.log10(closest / MIN_ULP)) if closest > 0 else -math.inf

    def _ulp_apart(self, name: str, dtype: str) -> np.ndarray:
        """Distances between neighbouring coordinates, in units in the last place of the larger."""
        rounded = self[name].astype(dtype)
        size = np.maximum(np.abs(rounded[1:]), np.abs(rounded[:-1]))
        return np.diff(rounded).astype(float) / np.spacing(size)
