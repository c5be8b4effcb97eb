"""The steps of `Optimizer` in place, member after member, each parameter read and written once."""

import numpy as np
import torch
from numba import njit

from ._optimizers import CLIP_EPS, Optimizer

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


def descend(
    optimizer: Optimizer,
    t: int,
    W: torch.Tensor,
    gradient: torch.Tensor,
    memory: tuple[torch.Tensor, ...],
    running: torch.Tensor,
) -> None:
    """Step number t, the first being 1, of the members that run; W, gradient and memory are overwritten."""
    values, kind = optimizer.values, optimizer.kind
    arrays = [W.numpy(), gradient.numpy(), optimizer.rates.numpy(), *(m.numpy() for m in memory)]
    factor, running = optimizer.warmed(t), running.numpy()

    def numbers(*columns):
        return np.stack(np.broadcast_arrays(*columns), axis=1).astype(arrays[0].dtype)

    if optimizer.clips:
        _clip(arrays[1], np.where(values["clip"] > 0, values["clip"], np.inf))
    decoupled = kind == "adamw"
    if optimizer.decays:
        _decay(arrays[0], arrays[1], arrays[2], running, numbers(factor, values["weight_decay"]), decoupled)
    if kind == "sgd":
        _sgd(*arrays, running, numbers(factor))
    elif kind == "momentum":
        _momentum(*arrays, running, numbers(factor, values["momentum"]))
    else:
        beta1, beta2 = values["beta1"], values["beta2"]
        unbias, root = factor / (1 - beta1**t), 1 / np.sqrt(1 - beta2**t)
        _adam(*arrays, running, numbers(unbias, root, beta1, 1 - beta1, beta2, 1 - beta2, values["eps"]))


@njit(**_OPTIONS)
def _clip(G, most):
    for member in range(len(G)):
        g, total = G[member], 0.0
        for i in range(len(g)):
            total += np.float64(g[i]) * g[i]
        factor = most[member] / (np.sqrt(total) + CLIP_EPS)
        if factor < 1:
            for i in range(len(g)):
                g[i] *= factor


@njit(**_OPTIONS)
def _decay(W, G, rates, running, numbers, decoupled):
    for member in range(len(W)):
        if not running[member]:
            continue
        w, g, rate = W[member], G[member], rates[member]
        factor, decay = numbers[member]
        if decoupled:
            for i in range(len(w)):
                w[i] -= rate[i] * factor * decay * w[i]
        else:
            for i in range(len(w)):
                g[i] += decay * w[i]


@njit(**_OPTIONS)
def _sgd(W, G, rates, running, numbers):
    for member in range(len(W)):
        if running[member]:
            w, g, rate, factor = W[member], G[member], rates[member], numbers[member, 0]
            for i in range(len(w)):
                w[i] -= rate[i] * factor * g[i]


@njit(**_OPTIONS)
def _momentum(W, G, rates, totals, running, numbers):
    for member in range(len(W)):
        if not running[member]:
            continue
        w, g, rate, total = W[member], G[member], rates[member], totals[member]
        factor, keep = numbers[member]
        for i in range(len(w)):
            total[i] = keep * total[i] + g[i]
            w[i] -= rate[i] * factor * total[i]


@njit(**_OPTIONS)
def _adam(W, G, rates, means, squares, running, numbers):
    for member in range(len(W)):
        if not running[member]:
            continue
        w, g, rate, mean, square = W[member], G[member], rates[member], means[member], squares[member]
        unbias, root, keep1, fresh1, keep2, fresh2, eps = numbers[member]
        for i in range(len(w)):
            mean[i] = keep1 * mean[i] + fresh1 * g[i]
            square[i] = keep2 * square[i] + fresh2 * (g[i] * g[i])
            w[i] -= rate[i] * unbias * mean[i] / (np.sqrt(square[i]) * root + eps)
