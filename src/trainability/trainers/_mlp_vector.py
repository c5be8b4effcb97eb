"""Hand problems to the vector kernels: pixels into blocks of lanes, blocks onto threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ._mlp_exact import train_linear, train_point
from ._mlp_kernel import MOMENTUM, ROW_TILE, WEIGHT_DECAY, padded, train_pixels
from ._mlp_problem import Problem
from ._readout import SLOTS
from ._tanh import STRETCH
from ._vector import ROWS, TANH

# Pixels trained in one call of a kernel: enough that few lanes wait for the last run of a call, few enough
# that Ctrl-C is heard within a second or so.
PIXELS = {"general": 256, "linear": 4096, "point": 4096}


def train_vectors(
    problem: Problem,
    hyper: np.ndarray,
    *,
    activation: int,
    per_step: bool,
    early_exit: bool,
    n_steps: int,
    dtype: str,
    threads: int,
    trace: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Train n pixels; `hyper` (n, 7) in the kernels' order.

    Returns what the kernels keep, shape (SLOTS, n), and the losses, (n, n_steps), empty without `trace`.
    """
    n = len(hyper)
    order = _neighbours_together(hyper)
    hyper = hyper[order]
    memory = bool(hyper[:, [MOMENTUM, WEIGHT_DECAY]].any())
    form = "general" if memory or trace else problem.form
    stretch = np.ones(problem.depth + 1)
    if activation == TANH:
        stretch[:-1] = STRETCH["double" if dtype == "float64" else "float"]
    start = (
        np.concatenate([w.ravel() for w in problem.weights]),
        problem.offset_rows,
        problem.scales * stretch,
        2 * problem.scales**2 * stretch,
    )
    mean = (problem.n_rows, problem.extra)
    exact = (int(per_step), int(early_exit))
    kept = np.empty((n, SLOTS))
    losses = np.full((n, n_steps) if trace else (0, 0), np.inf)

    if form == "linear":
        singular, targets = (_padded(v, ROWS, dtype) for v in (np.diag(problem.x), problem.y))
    elif form == "point":
        x, y = problem.x.ravel().astype(dtype), problem.y.astype(dtype)
    else:
        X = np.zeros((-(-len(problem.y) // ROW_TILE) * ROW_TILE, padded(problem.x.shape[1])), dtype)
        Y = np.zeros(len(X), dtype)
        repeated = np.minimum(np.arange(len(X)), len(problem.y) - 1)
        X[:, : problem.x.shape[1]], Y[:] = problem.x[repeated], problem.y[repeated]
        flags = (int(per_step), int(memory), int(early_exit and not trace))
        shape = (problem.width, problem.depth, activation)

    def train(part: slice) -> None:
        h = hyper[part]
        if form == "linear":
            kept[part] = train_linear(singular, targets, mean, start, h, problem.width, exact, n_steps)
        elif form == "point":
            kept[part] = train_point(x, y, start, h, problem.width, activation, exact, n_steps)
        else:
            rows = (X, Y, len(problem.y), mean)
            kept[part] = train_pixels(*rows, *start, h, problem.batches, shape, flags, n_steps, losses[part])

    size = min(PIXELS[form], max(-(-n // threads), 1))
    parts = [slice(first, first + size) for first in range(0, n, size)]
    if threads == 1:
        for part in parts:
            train(part)
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(train, part) for part in parts]:
                done.result()
    back = np.argsort(order)
    return kept[back].T, losses[back] if trace else np.empty((n, 0))


def _neighbours_together(hyper: np.ndarray) -> np.ndarray:
    """Order in which blocks of pixels are compact patches, by interleaving the bits of their ranks (Z-order).

    Where a block waits for its last run, runs that end at about the same step should share it.
    """
    ranks = [np.unique(column, return_inverse=True)[1] for column in hyper.T]
    varying = [rank for rank in ranks if rank.any()]
    keys = [
        rank >> bit & 1 for bit in range(len(hyper).bit_length()) for rank in varying
    ]  # lowest bits first
    return np.lexsort(keys) if keys else np.arange(len(hyper))


def _padded(values: np.ndarray, multiple: int, dtype: str) -> np.ndarray:
    out = np.zeros(-(-len(values) // multiple) * multiple, dtype)
    out[: len(values)] = values
    return out
