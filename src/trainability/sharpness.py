"""Sharpness of small networks in the metric of their learning rates: where linear stability puts the boundary."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import xarray as xr

from .grid import Grid
from .trainers import MLP
from .trainers._mlp_problem import Problem
from .trainers._mlp_tangent import gradients

# Ratios of learning rates closer than this, relatively, have one largest eigenvalue.
_SAME_RATIO = 1e-9

# Directions differentiated along at once: what stays in a core's cache.
_TOGETHER = 16

_RATES = ("lr", "lr_in", "lr_hidden", "lr_out")


def preconditioned_sharpness(grid: Grid, trainer: MLP) -> xr.DataArray:
    """Largest eigenvalue of D^½ H D^½ at initialization, D the learning rate of each weight.

    On a quadratic loss gradient descent is stable up to 2; from there to about 4 networks may catapult to a flatter
    minimum, beyond they mostly diverge. The Hessian H of all weights is exact.

    Parameters
    ----------
    grid : Grid
        Axes among the trainer's learning rates.
    trainer : MLP
        With full batches and without momentum, weight decay or offset.

    Returns
    -------
    DataArray, dims the grid's axes

    Raises
    ------
    ValueError
        If an axis is no learning rate, or the trainer takes other than plain steps.

    Notes
    -----
    The eigenvalue is proportional to a common factor of the rates, so it is computed once for each ratio.

    References
    ----------
    Cohen et al., arXiv:2103.00065, for one learning rate; Lewkowycz et al., arXiv:2003.02218, for the catapult.

    Examples
    --------
    >>> from trainability import trainers
    >>> trainer = trainers.MLP(width=4)
    >>> found = preconditioned_sharpness(Grid(lr_in=[1.0, 10.0], lr_out=[1.0, 10.0]), trainer)
    >>> bool(np.isclose(found[1, 1], 10 * found[0, 0]))
    True
    """
    for name in grid:
        if name not in _RATES:
            raise ValueError(f"axis {name!r} is no learning rate; use {', '.join(_RATES)}")
    _check_plain(trainer)
    problem = trainer.draw(trainer.seed)
    weights = [w[None] * trainer.weight_scale for w in problem.weights]
    (hessian,) = hessians(problem, weights, trainer.activation)
    rates = layer_rates(trainer, grid.pixels())
    sizes = [w.size for w in problem.weights]
    ratios, place, scale = distinct_ratios(rates)
    largest = np.array([_largest(hessian, ratio, sizes) for ratio in ratios])
    values = (largest[place] * scale).reshape(grid.shape)
    return xr.DataArray(
        values,
        coords=grid.coords(),
        dims=tuple(grid),
        attrs={"long_name": "largest eigenvalue of D^½ H D^½"},
        name="sharpness",
    )


def sharpness_along_training(
    trainer: MLP, pixels: Mapping[str, np.ndarray], steps: Sequence[int]
) -> np.ndarray:
    """Largest eigenvalue of D^½ H D^½ after the given numbers of steps of training.

    Parameters
    ----------
    trainer : MLP
        With full batches and without momentum, weight decay or offset.
    pixels : mapping of str to array_like, shape (n,)
        Learning rates.
    steps : sequence of int
        Increasing.

    Returns
    -------
    ndarray, shape (n, len(steps))
        NaN from where a run has overflowed.

    Examples
    --------
    >>> from trainability import trainers
    >>> found = sharpness_along_training(trainers.MLP(width=4), {"lr": [0.5, 2.0]}, steps=[0, 20])
    >>> found.shape
    (2, 2)
    """
    _check_plain(trainer)
    problem = trainer.draw(trainer.seed)
    rates = layer_rates(trainer, {name: np.asarray(v, dtype=float) for name, v in pixels.items()})
    sizes = [w.size for w in problem.weights]
    found = np.full((len(rates), len(steps)), np.nan)
    for step, weights, _ in training_states(trainer, rates, max(steps)):
        if step not in steps:
            continue
        alive = np.flatnonzero(np.all([np.isfinite(w).all(axis=(1, 2)) for w in weights], axis=0))
        for pixel in alive:
            (hessian,) = hessians(problem, [w[pixel : pixel + 1] for w in weights], trainer.activation)
            if np.isfinite(hessian).all():
                found[pixel, list(steps).index(step)] = _largest(hessian, rates[pixel], sizes)
    return found


def training_states(
    trainer: MLP, rates: np.ndarray, last: int
) -> Iterator[tuple[int, list[np.ndarray], list[np.ndarray]]]:
    """Train runs at rates (n, layers); yield steps taken, 0 … last, weights and gradients, (n, …) for each layer."""
    problem = trainer.draw(trainer.seed)
    weights = [np.repeat(w[None] * trainer.weight_scale, len(rates), axis=0) for w in problem.weights]
    still = [np.zeros_like(w) for w in weights]
    with np.errstate(all="ignore"):  # a run that diverges overflows
        for step in range(last + 1):
            G, _ = gradients(
                weights, still, problem.x, problem.y, problem.n_rows, problem.scales, trainer.activation
            )
            yield step, weights, G
            weights = [w - rates[:, layer, None, None] * G[layer] for layer, w in enumerate(weights)]


def hessians(problem: Problem, weights: Sequence[np.ndarray], activation: str) -> np.ndarray:
    """Hessians of the loss in all weights, layer after layer in C order; shape (n, n_weights, n_weights).

    `weights` of the layers, each (n, rows, columns). A column is the exact derivative of the gradient along one
    weight, so that each Hessian is symmetric to rounding.
    """
    shapes = [w.shape[1:] for w in weights]
    ends = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])
    basis = np.eye(ends[-1])
    along = [
        basis[:, a:b].reshape(-1, *shape) for a, b, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
    ]
    found = np.empty((len(weights[0]), ends[-1], ends[-1]))
    for k in range(len(found)):
        for first in range(0, ends[-1], _TOGETHER):
            part = slice(first, min(first + _TOGETHER, ends[-1]))
            changes = [a[part] for a in along]
            here = [np.broadcast_to(w[k], change.shape) for w, change in zip(weights, changes, strict=True)]
            _, bent = gradients(
                here, changes, problem.x, problem.y, problem.n_rows, problem.scales, activation
            )
            found[k, part] = np.concatenate([b.reshape(len(changes[0]), -1) for b in bent], axis=1)
    return found


def layer_rates(trainer: MLP, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
    """Learning rate of each layer of weights at each pixel, shape (n, depth + 1)."""
    n = len(next(iter(pixels.values())))
    common = pixels.get("lr", trainer.lr)

    def rate(name: str) -> np.ndarray:
        own = pixels.get(name, getattr(trainer, name))
        return np.broadcast_to(np.asarray(common if own is None else own, dtype=float), n)

    inner = [rate("lr_hidden")] * (trainer.depth - 1)
    return np.stack([rate("lr_in"), *inner, rate("lr_out")], axis=1)


def distinct_ratios(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ratios of rates (n, groups) to their largest, each once; which one each of the n has, and its largest rate."""
    scale = rates.max(axis=1)
    logs = np.round(np.log(rates / scale[:, None]) / _SAME_RATIO)
    ratios, place = np.unique(logs, axis=0, return_inverse=True)
    return np.exp(ratios * _SAME_RATIO), place.ravel(), scale


def _largest(hessian: np.ndarray, rates: np.ndarray, sizes: Sequence[int]) -> float:
    root = np.sqrt(np.repeat(rates, sizes))
    return float(np.linalg.eigvalsh(root[:, None] * hessian * root)[-1])


def _check_plain(trainer: MLP) -> None:
    for name in ("momentum", "weight_decay", "offset", "batch_size"):
        if getattr(trainer, name):
            raise ValueError(
                f"{name}={getattr(trainer, name)}: the threshold 2 is of plain full-batch steps; leave {name} out"
            )
