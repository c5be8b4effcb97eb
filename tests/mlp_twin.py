"""The oracle of the kernels: gradient descent of small networks in plain NumPy, written from the formulas."""

import numpy as np

SQRT2 = np.sqrt(2)
PHI = {  # activation with its gain, and its slope as a function of its value
    "tanh": (lambda z: np.tanh(SQRT2 * z), lambda h: SQRT2 * (1 - h**2)),
    "relu": (lambda z: SQRT2 * np.maximum(z, 0), lambda h: SQRT2 * (h > 0)),
    "identity": (lambda z: z, lambda h: np.ones_like(h)),
}


def losses(
    weights,
    x,
    y,
    *,
    activation,
    lr,
    n_steps,
    offset=0.0,
    per_step=False,
    momentum=0.0,
    decay=0.0,
    batches=None,
):
    """Losses over all of the data before each step, shape (pixels, n_steps).

    `lr` has one array (pixels,) a layer, `offset` is one number or (pixels,), `batches` has the rows of each step.
    """
    phi, slope = PHI[activation]
    lr = [np.reshape(rate, (-1, 1, 1)) for rate in lr]
    W = [np.repeat(w[None], lr[0].size, axis=0) for w in weights]  # (pixel, unit below, unit)
    M, seen = [np.zeros_like(w) for w in W], []
    with np.errstate(all="ignore"):
        for step in range(n_steps):
            W[0] = W[0] + np.reshape(offset, (-1, 1, 1)) * (per_step or step == 0)
            h, error = forward(W, x, y, phi)
            seen.append(np.mean(error**2, axis=(1, 2)))
            if batches is not None:
                h, error = forward(W, x[batches[step]], y[batches[step]], phi)
            d = 2 * error / error.shape[1] / np.sqrt(W[-1].shape[1])  # the output is over √width twice
            for layer in reversed(range(len(W))):
                root = np.sqrt(W[layer].shape[1])
                M[layer] = momentum * M[layer] + h[layer].swapaxes(-1, -2) @ d / root + decay * W[layer]
                d = (
                    d @ W[layer].swapaxes(-1, -2) / root * slope(h[layer])
                )  # of the inputs, at last, and unused
                W[layer] = W[layer] - lr[layer] * M[layer]
    return np.stack(seen, axis=1)


def forward(W, x, y, phi):
    """What each layer takes in, (pixel, row, unit), and output minus target, (pixel, row, 1)."""
    h = [x]
    for w in W[:-1]:
        h.append(phi(h[-1] @ w / np.sqrt(w.shape[1])))
    return h, h[-1] @ W[-1] / W[-1].shape[1] - y[:, None]


def observables(trace):
    """What a run of these losses, (pixels, n_steps), leaves behind, from the definitions."""
    first = trace[:, :1]
    with np.errstate(all="ignore"):
        v = np.where(trace == 0, 0, trace / first)
        v = np.where(v < 1e6, v, 1e6)
        ended = v[:, -1] >= 1e6
        since = trace.shape[1] - np.argmax(v[:, ::-1] < 1e6, axis=1)
        since = np.where((v >= 1e6).all(axis=1), 0, since)
        return {
            "first_loss": np.where(np.isfinite(first[:, 0]), first[:, 0], np.inf),
            "final_loss": np.where(ended, np.inf, trace[:, -1]),
            "min_loss": np.nanmin(np.where(np.isfinite(trace), trace, np.inf), axis=1),
            "tail_ratio": v[:, -20:].mean(axis=1),
            "sum_ratio": v.sum(axis=1),
            "sum_inverse_ratio": (1 / v).sum(axis=1),
            "diverged_step": np.where(ended, since, -1).astype(np.int32),
        }
