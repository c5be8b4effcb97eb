"""The same runs as the vector kernels by batched matrix products, on NumPy arrays or torch tensors.

For processors on which the kernels do not compile, and for devices that they do not know. One ensemble of
fixed size at a time, so that the shapes of the products, and with them a pixel's rounding, are always the same.
"""

import numpy as np

from ._mlp_problem import Problem
from ._readout import (
    CAP,
    CAPPED,
    CAPPED_SINCE,
    FIRST,
    INVERSE_SUM,
    LAST,
    LEAST,
    SLOTS,
    START,
    STEP,
    SUM,
    TAIL,
    TAIL_CAPPED,
    TAIL_SUM,
)

# Pixels in an ensemble: what stays in a core's cache, and what fills another device.
CACHED, DEVICE = 32, 4096


def train_ensembles(
    problem: Problem,
    hyper: np.ndarray,
    *,
    n_steps: int,
    engine: str,
    device: str,
    early_exit: bool,
    trace: bool,
    **settings,
) -> tuple[np.ndarray, np.ndarray]:
    """Train n pixels; `hyper` (n, 7) in the kernels' order.

    Returns what they keep, shape (SLOTS, n), and the losses, (n, n_steps), empty without `trace`.
    """
    n, size = len(hyper), CACHED if device == "cpu" else DEVICE
    kept = np.empty((SLOTS, n))
    losses = np.empty((n, n_steps if trace else 0))
    for i in range(0, n, size):
        chosen = np.minimum(np.arange(i, i + size), n - 1)  # padded with the last pixel
        seen = np.empty((size, n_steps)) if trace else None
        early = early_exit and not trace
        found = _train(
            problem,
            hyper[chosen],
            n_steps=n_steps,
            engine=engine,
            device=device,
            early_exit=early,
            trace=seen,
            **settings,
        )
        kept[:, i : i + size] = found[:, : n - i]
        if seen is not None:
            losses[i : i + size] = seen[: n - i]
    return kept, losses


class _Arrays:
    """The few differences between NumPy and torch that matter here."""

    def __init__(self, engine: str, dtype: str, device: str):
        self.engine, self.device = engine, device
        if engine == "torch":
            import torch

            self.xp, self.dtype, self.double = torch, getattr(torch, dtype), torch.float64
        else:
            self.xp, self.dtype, self.double = np, np.dtype(dtype), np.dtype("float64")

    def array(self, values, dtype=None):
        values = np.ascontiguousarray(values)
        if self.engine == "torch":
            return self.xp.as_tensor(values, dtype=dtype or self.dtype, device=self.device)
        return values.astype(dtype or self.dtype)

    def doubles(self, values):
        return values.to(self.double) if self.engine == "torch" else values.astype(self.double)

    def numpy(self, values) -> np.ndarray:
        return values.cpu().numpy() if self.engine == "torch" else values


def _train(
    problem: Problem,
    hyper: np.ndarray,
    *,
    activation: str,
    per_step: bool,
    early_exit: bool,
    n_steps: int,
    engine: str,
    dtype: str,
    device: str,
    trace: np.ndarray | None,
) -> np.ndarray:
    """Train one ensemble; write its losses into `trace`."""
    arrays = _Arrays(engine, dtype, device)
    xp = arrays.xp
    x, y = arrays.array(problem.x), arrays.array(problem.y)
    rates = [hyper[:, 0], *[hyper[:, 1]] * (problem.depth - 1), hyper[:, 2]]
    offset, weight_scale = hyper[:, 3, None, None], hyper[:, 4, None, None]
    size = problem.batches.shape[1]
    factors = 2 * problem.scales**2 / (size or problem.n_rows)
    drift = arrays.array(problem.scales[0] * offset * problem.offset_rows[:, None])
    W = [arrays.array(s * weight_scale * w) for s, w in zip(problem.scales, problem.weights, strict=True)]
    W[0] = W[0] + drift
    lr = [arrays.array((rate * f)[:, None, None]) for rate, f in zip(rates, factors, strict=True)]
    momentum = arrays.array(hyper[:, 5, None, None])
    decay = [arrays.array(hyper[:, 6, None, None] / f) for f in factors]
    memory = [w * 0 for w in W]
    kept = [arrays.array(np.full(len(hyper), value), arrays.double) for value in START]
    kept[STEP] = kept[STEP] + n_steps  # this engine counts its own

    with np.errstate(all="ignore"):
        for step in range(n_steps):
            if per_step and step:
                W[0] = W[0] + drift
            hidden, error = _forward(xp, W, x, y, activation)
            loss = arrays.doubles((error * error).sum(1)) / problem.n_rows + problem.extra
            if trace is not None:
                trace[:, step] = arrays.numpy(loss)
            below = _take_in(xp, kept, loss, step, step >= n_steps - TAIL)
            if early_exit and not bool(below.any()) and bool((~xp.isfinite(W[-1])).any(1).all()):
                kept[CAPPED] = kept[CAPPED] + (n_steps - 1 - step)
                kept[TAIL_CAPPED] = kept[TAIL_CAPPED] + min(n_steps - 1 - step, TAIL)
                break
            if size:
                rows = problem.batches[step]
                hidden, error = _forward(xp, W, x[rows], y[rows], activation)
            G = _gradients(xp, W, hidden, error, activation)
            for layer, gradient in enumerate(G):
                memory[layer] = momentum * memory[layer] + gradient + decay[layer] * W[layer]
                W[layer] = W[layer] - lr[layer] * memory[layer]
    return np.stack([arrays.numpy(values) for values in kept])


def _forward(xp, W, x, y, activation):
    """Inputs of every layer, (pixel, row, unit), and the residuals, (pixel, row)."""
    hidden = [x]
    for w in W[:-1]:
        z = xp.matmul(hidden[-1], w)
        hidden.append(
            xp.tanh(z) if activation == "tanh" else xp.where(z < 0, 0 * z, z) if activation == "relu" else z
        )
    return hidden, xp.matmul(hidden[-1], W[-1])[..., 0] - y


def _gradients(xp, W, hidden, error, activation):
    """Gradient of half the sum of squares with respect to each layer."""
    d = error[..., None]  # (pixel, row, unit)
    G = []
    for layer in range(len(W) - 1, -1, -1):
        below = hidden[layer]
        G.append(xp.matmul(below.swapaxes(-1, -2), d))
        if layer:
            d = xp.matmul(d, W[layer].swapaxes(-1, -2))
            if activation == "tanh":
                d = d * (1 - below * below)
            elif activation == "relu":
                d = xp.where(below > 0, d, 0 * d)
    return G[::-1]


def _take_in(xp, kept, loss, step: int, in_tail: bool):
    """Take in the losses of one step, as `_readout.take_in`; True where v is below the cap."""
    if step == 0:
        kept[FIRST] = loss
    kept[LAST] = loss
    kept[LEAST] = xp.where(loss < kept[LEAST], loss, kept[LEAST])
    zero = 0 * kept[CAPPED]
    v = xp.where(loss == 0, zero, loss / kept[FIRST])
    below = v < CAP
    counted = xp.where(below, v, zero)
    kept[SUM] = kept[SUM] + counted
    kept[INVERSE_SUM] = kept[INVERSE_SUM] + xp.where(below, 1 / v, zero)
    kept[CAPPED] = kept[CAPPED] + xp.where(below, zero, zero + 1)
    if in_tail:
        kept[TAIL_SUM] = kept[TAIL_SUM] + counted
        kept[TAIL_CAPPED] = kept[TAIL_CAPPED] + xp.where(below, zero, zero + 1)
    since = kept[CAPPED_SINCE]
    kept[CAPPED_SINCE] = xp.where(below, zero - 1, xp.where(since < 0, zero + step, since))
    return below
