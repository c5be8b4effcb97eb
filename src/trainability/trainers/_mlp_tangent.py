"""Growth of a small change of the weights along a training run: the tangent map of gradient descent.

Beside every quantity of a step stands its derivative along the change, written `…_dot`: gradient descent is
differentiated exactly, by the product rule, not by differences. The change is scaled back to norm 1 after every
step, and the logarithms of its growth are summed.
"""

import numpy as np

from ._mlp_problem import Problem

# Runs taken together; what stays in a core's cache.
ENSEMBLE = 16


def finite_time_exponents(
    problem: Problem,
    hyper: np.ndarray,
    change: list[np.ndarray],
    *,
    activation: str,
    per_step: bool,
    n_steps: int,
) -> np.ndarray:
    """Mean growth per step, in nats, of a change of the weights: shape (n,) for n rows of `hyper`.

    `change` has the shapes of `problem.weights`. Norms are of the change in all weights, as the problem has
    them. The mean is over the n_steps - 1 steps between the losses seen, or over those before the run overflows;
    NaN if that is none.
    """
    out = np.empty(len(hyper))
    for i in range(0, len(hyper), ENSEMBLE):
        part = hyper[i : i + ENSEMBLE]
        out[i : i + len(part)] = _exponents(problem, part, change, activation, per_step, n_steps)
    return out


def _exponents(problem, hyper, change, activation, per_step, n_steps):
    lr_in, lr_hidden, lr_out, offset, weight_scale, momentum, decay = hyper.T[..., None, None]
    rates = [lr_in, *[lr_hidden] * (problem.depth - 1), lr_out]
    drift = offset * problem.offset_rows[:, None]
    W = [weight_scale * w for w in problem.weights]  # (pixel, unit below, unit)
    W[0] = W[0] + (0 if per_step else drift)
    W_dot = [np.repeat(c[None], len(hyper), axis=0) for c in change]
    size = _norm(W_dot)
    W_dot = [w / size for w in W_dot]
    M, M_dot = ([np.zeros_like(w) for w in W] for _ in range(2))
    total, steps, alive = np.zeros(len(hyper)), np.zeros(len(hyper)), np.ones(len(hyper), bool)

    with np.errstate(all="ignore"):
        for step in range(n_steps - 1):
            if per_step:
                W[0] = W[0] + drift
            rows = problem.batches[step] if problem.batches.size else slice(None)
            x, y = problem.x[rows], problem.y[rows]
            count = len(y) if problem.batches.size else problem.n_rows
            G, G_dot = gradients(W, W_dot, x, y, count, problem.scales, activation)
            for layer, rate in enumerate(rates):
                M[layer] = momentum * M[layer] + G[layer] + decay * W[layer]
                M_dot[layer] = momentum * M_dot[layer] + G_dot[layer] + decay * W_dot[layer]
                W[layer] = W[layer] - rate * M[layer]
                W_dot[layer] = W_dot[layer] - rate * M_dot[layer]
            size = _norm(W_dot)
            growth = np.log(size[:, 0, 0])
            alive &= np.isfinite(growth) & np.all([np.isfinite(w).all(axis=(1, 2)) for w in W], axis=0)
            if not alive.any():
                break
            total += np.where(alive, growth, 0.0)
            steps += alive
            W_dot, M_dot = [w / size for w in W_dot], [m / size for m in M_dot]
    return np.where(steps > 0, total / np.maximum(steps, 1), np.nan)


def _norm(tensors):
    return np.sqrt(sum((t * t).sum(axis=(1, 2), keepdims=True) for t in tensors))


def gradients(W, W_dot, x, y, count, scales, activation):
    """Gradients of the loss and their derivatives along W_dot."""
    h, h_dot = [x], [np.zeros_like(x)]
    for w, w_dot, s in zip(W[:-1], W_dot[:-1], scales[:-1], strict=True):
        z, z_dot = s * (h[-1] @ w), s * (h_dot[-1] @ w + h[-1] @ w_dot)
        h.append(_activate(z, activation))
        h_dot.append(_slope(h[-1], activation) * z_dot)
    s = scales[-1]
    d = 2 / count * (s * (h[-1] @ W[-1]) - y[:, None])  # (pixel, row, unit)
    d_dot = 2 / count * s * (h_dot[-1] @ W[-1] + h[-1] @ W_dot[-1])
    G, G_dot = [], []
    for layer in range(len(W) - 1, -1, -1):
        s, below, below_dot = scales[layer], h[layer], h_dot[layer]
        G.append(s * (_T(below) @ d))
        G_dot.append(s * (_T(below_dot) @ d + _T(below) @ d_dot))
        if layer:
            arriving = s * (d @ _T(W[layer]))
            arriving_dot = s * (d_dot @ _T(W[layer]) + d @ _T(W_dot[layer]))
            slope = _slope(below, activation)
            d, d_dot = arriving * slope, arriving_dot * slope
            if activation == "tanh":
                d_dot = d_dot - 2 * arriving * below * below_dot
    return G[::-1], G_dot[::-1]


def _T(a):
    return np.swapaxes(a, -1, -2)


def _activate(z, activation):
    return np.tanh(z) if activation == "tanh" else np.maximum(z, 0) if activation == "relu" else z


def _slope(h, activation):
    return 1 - h * h if activation == "tanh" else (h > 0) * 1.0 if activation == "relu" else np.ones_like(h)
