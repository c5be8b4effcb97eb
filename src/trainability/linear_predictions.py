"""What the product map predicts for the training of linear transformers: fates, driven runs, odds and exponents."""

import math

import numpy as np
import xarray as xr

from ._contract import STATUS_ATTRS, Status
from ._layout import as_columns
from ._rng import stream
from ._tangent import accumulate_logs
from .classification import Fate, ellipse_function, fate
from .dynamics import ESCAPE
from .grid import Grid
from .maps import product_map
from .minibatch import batch_means
from .reduction import effective_step, reduce_prompts, reduced_start
from .trainers import LinearTransformer, LinearTransformerTangent
from .trainers.linear_tangent import WINDOWS
from .trainers.linear_transformer import CONVERGED, TAIL

# An error below this share of mu is rounding in weights of double precision; above that, it is none.
NEAR, AWAY = 1e-15, 1e-3

# Steps over which growth in the transient is looked at.
_STRETCH = 8

# A rounding error of 1e-16 that grows by this much, in nats, moves the orbit by 1e-3: which minimum a run ends in
# is then not what the map says of the start, but of the last digits.
LOST = math.log(1e-3 / 1e-16)


def predict_linear_transformer(grid: Grid, trainer: LinearTransformer) -> xr.Dataset:
    """Predict the trainability map of a linear transformer from its prompt and initial weights alone.

    Nothing is trained: the exact reduction gives mu, a and b of each pixel, the sign of H and mu give its fate.

    Parameters
    ----------
    grid : Grid
    trainer : LinearTransformer
        Asked only for its prompt and its initial weights.

    Returns
    -------
    Dataset, dims the grid's axes
        `status` (`Status`: converged, diverged, or undecided for bounded and not converging), `mu`, `a`, `b`,
        and `boundary`: negative where bounded, positive where divergent.

    Notes
    -----
    Exact in the modes "blocks" and "pair" at one learning rate and with full batches; in mode "all" it is what the
    reduction would say.

    Examples
    --------
    >>> from trainability import random_prompt, trainers
    >>> trainer = trainers.LinearTransformer(random_prompt(12, 4, seed=13), seed=1)
    >>> predicted = predict_linear_transformer(Grid(lr=[0.1, 0.3, 1.0]), trainer)
    >>> predicted["status"].values
    array([1, 3, 2], dtype=int8)
    """
    mu, a, b = reduced_pixels(grid, trainer)
    fates = fate(mu, a, b)
    known = {Fate.CONVERGES: Status.CONVERGED, Fate.DIVERGES: Status.DIVERGED}
    status = np.select([fates == f for f in known], list(known.values()), Status.UNDECIDED)
    return _dataset(grid, status, mu=mu, a=a, b=b, boundary=_boundary(mu, a, b))


def reduced_pixels(grid: Grid, trainer: LinearTransformer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Effective step mu and start (a, b) of each pixel, in C order, at the trainer's or the axis' learning rate."""
    pixels = grid.pixels()
    lr = np.broadcast_to(pixels.get("lr", trainer.lr), math.prod(grid.shape))
    a, b = reduced_start(trainer.prompt, lr, *trainer.initial_weights(pixels))
    return effective_step(trainer.prompt, lr), a, b


def predict_driven(grid: Grid, trainer: LinearTransformer) -> xr.Dataset:
    """Predict a map under the trainer's schedule and batches by iterating the product map, driven by the same.

    As `predict_linear_transformer`, with `status` by the trainer's own rules; `boundary` is that of the greatest
    factor of the schedule: inside, no schedule below it diverges (theory/07). The map is iterated in its error e, by
    logarithm, and P = a² + b², so that an orbit that comes near zero loss and leaves it again is followed through any
    number of decades. Weights in floating point cannot follow closer than rounding: `delicate` is where they have to.

    Raises
    ------
    ValueError
        If no one pair of weights fits all prompts: e of a batch is then no multiple of e of all.
    """
    mu, a, b = reduced_pixels(grid, trainer)
    schedule = np.ones(trainer.n_steps) if trainer.schedule is None else np.asarray(trainer.schedule)
    factors = schedule * relative_curvatures(trainer)[trainer.batches()].mean(axis=1)
    status, delicate = _iterate(mu, a, b, factors)
    peak = schedule.max()
    boundary = _boundary(peak * mu, np.sqrt(peak) * a, np.sqrt(peak) * b)
    return _dataset(grid, status, mu=mu, a=a, b=b, boundary=boundary, delicate=delicate)


def relative_curvatures(trainer: LinearTransformer) -> np.ndarray:
    """Squared gain of each prompt over that of all of them, whose mean is 1; shape (n_prompts,).

    Raises
    ------
    ValueError
        If no one pair of weights fits all prompts.
    """
    reduction = reduce_prompts(trainer.prompts)
    gains = np.array([np.sum(reduction.direction * np.outer(p.moment, p.x_query)) for p in trainer.prompts])
    wanted = gains * reduction.coupling / reduction.curvature
    if np.abs(wanted - [p.y_query for p in trainer.prompts]).max() > 1e-9 * np.abs(wanted).max():
        raise ValueError(
            "prompt: no one pair of weights fits all of these; a batch's error is not that of all"
        )
    return np.square(gains) / reduction.curvature


def _iterate(mu, a, b, factors) -> tuple[np.ndarray, np.ndarray]:
    """Status of the driven map, e' = e (1 - f P + f² e (e + mu)), after all `factors`, and where it is delicate."""
    P, e, scale = a * a + b * b, a * b - mu, np.log(np.abs(mu))
    sign, size = np.sign(e), np.log(np.abs(e))
    near, delicate = np.zeros(mu.shape, bool), np.zeros(mu.shape, bool)
    tail = np.zeros(mu.shape)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for t, f in enumerate(factors, start=1):
            gain = 1 - f * P + f * f * e * (e + mu)
            P = P * (1 + f * f * e * e) - 4 * f * e * (e + mu)
            sign, size = sign * np.sign(gain), size + np.log(np.abs(gain))
            e = sign * np.exp(size)
            near |= size - scale < np.log(NEAR)
            delicate |= near & (size - scale > np.log(AWAY))
            if t > len(factors) - TAIL:
                tail += (e / mu) ** 2 / TAIL
    lost = ~(P < ESCAPE**2)
    return np.where(lost, Status.DIVERGED, np.where(tail < CONVERGED, Status.CONVERGED, Status.UNDECIDED)), (
        delicate | (near & lost)
    )


def escape_probability(
    grid: Grid, trainer: LinearTransformer, *, n_orders: int = 256, seed: int = 0
) -> xr.DataArray:
    """Chance over orders of batches that a run has diverged after the trainer's steps, by the random product map.

    Batches are drawn here, from a stream of their own, and not taken from the trainer. The standard error is at most
    1 / (2 √n_orders).

    Raises
    ------
    ValueError
        As `predict_driven`.
    """
    mu, a, b = reduced_pixels(grid, trainer)
    kappa = batch_means(relative_curvatures(trainer), trainer.batch_size or len(trainer.prompts))
    rng = stream(seed, "orders")
    a, b = np.repeat(a[None], n_orders, axis=0), np.repeat(b[None], n_orders, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(trainer.n_steps):
            e = rng.choice(kappa, n_orders)[:, None] * (a * b - mu)
            a, b = a - e * b, b - e * a
    lost = ~(np.abs(a * b) < ESCAPE)
    return xr.DataArray(lost.mean(axis=0).reshape(grid.shape), coords=grid.coords(), dims=tuple(grid))


def predict_run_exponents(grid: Grid, trainer: LinearTransformerTangent) -> xr.Dataset:
    """Lyapunov exponents of the product map's orbits over the very steps that the trainer measures.

    Dims the grid's axes: `predicted_1`, `predicted_2` nats per step with `predicted_stderr_1`, `…_2`; NaN where
    the orbit escapes; and `growth`, the most by which a small change grew at any time of the transient, in nats.
    """
    mu, a, b = reduced_pixels(grid, trainer)
    map = product_map()
    states, parameters = as_columns(map, np.stack([a, b], axis=-1), {"mu": mu})
    before, _ = _logs(map, states, parameters, trainer.transient // _STRETCH, _STRETCH)
    growth = np.cumsum(before[:, 0], axis=0).max(axis=0, initial=0.0)
    _logs(map, states, parameters, trainer.transient % _STRETCH, 1)
    length = (trainer.n_steps - trainer.transient) // WINDOWS
    windows, stop = _logs(map, states, parameters, WINDOWS, length)
    windows[..., (stop >= 0) | ~np.isfinite(states).all(axis=0)] = np.nan
    found = LinearTransformerTangent.exponents(windows / length)
    names = {"exponent": "predicted", "stderr": "predicted_stderr"}
    values = {f"{names[key[:-2]]}{key[-2:]}": v for key, v in found.items()} | {"growth": growth, "mu": mu}
    return xr.Dataset(
        {name: (tuple(grid), v.reshape(grid.shape)) for name, v in values.items()}, coords=grid.coords()
    )


def _logs(map, states, parameters, n_windows, length):
    """Sums of log growth (n_windows, 2, pixels) of frames begun at the states, which move along; and the escapes."""
    pixels = states.shape[1]
    frames = np.repeat(np.eye(2)[:, :, None], pixels, axis=2)
    sums, stop = np.zeros((n_windows, 2, pixels)), np.full(pixels, -1)
    likes = map.u_like, map.p_like, (0.0, 0.0)
    accumulate_logs(
        map.step, map.jacobian, states, frames, parameters, *likes, 0, length, 1, ESCAPE, stop, sums
    )
    return sums, stop


def _boundary(mu, a, b) -> np.ndarray:
    # At |mu| = 2 the ellipse closes; beyond, H < 0 is divergent too.
    return np.maximum(ellipse_function(mu, a, b), np.abs(mu) - 2)


def _dataset(grid: Grid, status, **values) -> xr.Dataset:
    values["status"] = status.astype(np.int8)
    ds = xr.Dataset(
        {n: (tuple(grid), np.reshape(v, grid.shape)) for n, v in values.items()}, coords=grid.coords()
    )
    ds["status"].attrs = STATUS_ATTRS
    return ds
