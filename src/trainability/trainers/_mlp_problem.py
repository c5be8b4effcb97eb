"""One network and its data as the kernels take them, in the smallest form that trains exactly alike."""

import math
from dataclasses import dataclass, replace

import numpy as np

# A singular value below this share of the largest is a direction that the data do not have.
RANK_TOL = 1e-13


@dataclass(frozen=True, eq=False)
class Problem:
    """Data, initial weights and rows of the batches.

    Parameters
    ----------
    x : ndarray, shape (n_rows, n_inputs)
    y : ndarray, shape (n_rows,)
    weights : tuple of ndarray
        (n_inputs, width), then depth - 1 of (width, width), then (width, 1).
    scales : ndarray, shape (depth + 1,)
        Of each layer's product: gain / √(rows) for the hidden layers, 1 / width for the output, whose
        mean-field factor is 1 / √width once more.
    batches : ndarray of int, shape (n_steps, size)
        Rows of each step's gradient; size 0 for all of them.
    offset_rows : ndarray, shape (n_inputs,)
        What one unit of the offset adds to each row of the first layer.
    n_rows : int
        Rows over which the loss is a mean; more than there are in `x` for a linear network in rotated form.
    extra : float
        Added to the loss: what no weights can fit.
    form : {"general", "linear", "point"}
        "linear": `x` is diagonal. "point": `x` is 1 x 1.
    """

    x: np.ndarray
    y: np.ndarray
    weights: tuple[np.ndarray, ...]
    scales: np.ndarray
    batches: np.ndarray
    offset_rows: np.ndarray
    n_rows: int
    extra: float = 0.0
    form: str = "general"

    @property
    def depth(self) -> int:
        """Hidden layers."""
        return len(self.weights) - 1

    @property
    def width(self) -> int:
        """Units of a hidden layer."""
        return len(self.weights[-1])


def problem(x, y, weights, *, activation: str, batches) -> Problem:
    """Put data and weights together with the scales of the mean-field parameterisation."""
    gain = 1.0 if activation == "identity" else math.sqrt(2)
    scales = [gain / math.sqrt(len(w)) for w in weights[:-1]] + [1 / len(weights[-1])]
    return Problem(x, y, tuple(weights), np.array(scales), batches, np.ones(x.shape[1]), len(x))


def reduced(whole: Problem, *, activation: str) -> Problem:
    """Leave out what training cannot see, by the singular value decomposition X = U S Vᵀ.

    The first layer moves within the span of the data's rows alone, so Vᵀ W0 carries all of it, with U S for
    data: fewer inputs wherever there are fewer rows than inputs. One row is left with one input. A network
    without activation also has outputs U (S Vᵀ W0 ...), and its loss is that of S Vᵀ W0 ... against Uᵀ y plus
    the part of y outside U: as many rows as inputs, where the gradient is of all rows.
    """
    linear = activation == "identity" and not whole.batches.size
    n_rows, n_inputs = whole.x.shape
    if not linear and n_rows >= n_inputs:
        return whole
    U, S, Vt = np.linalg.svd(whole.x, full_matrices=False)
    keep = max(int(np.sum(RANK_TOL * S[0] < S)), 1)
    U, S, Vt = U[:, :keep], S[:keep], Vt[:keep]
    less = replace(
        whole,
        x=U * S,
        weights=(Vt @ whole.weights[0], *whole.weights[1:]),
        offset_rows=Vt @ whole.offset_rows,
    )
    plain = whole.depth == 1 and not whole.batches.size
    if linear:
        t = U.T @ whole.y
        rest = float(np.sum((whole.y - U @ t) ** 2)) / n_rows
        return replace(less, x=np.diag(S), y=t, extra=rest, form="linear" if plain else "general")
    return replace(less, form="point" if plain and n_rows == 1 else "general")


def flops(given: Problem, *, n_steps: int) -> float:
    """Multiplications and additions in the products of a run: of the weights, forward and backward, at every step."""
    n_rows, n_inputs = given.x.shape
    if given.form == "linear":  # three products of the first layer with a vector
        return 6.0 * n_rows * given.width * n_steps
    first, others = n_inputs * given.width, (given.depth - 1) * given.width**2 + given.width
    forward, backward = 2 * (first + others), 2 * first + 4 * others
    size = given.batches.shape[1]
    return float(n_steps * (n_rows * forward + size * forward + (size or n_rows) * backward))
