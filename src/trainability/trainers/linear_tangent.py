"""Lyapunov exponents of a linear transformer's training, from the tangent map of its full weight matrices."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from .linear_transformer import LinearTransformer, Watch, loss_of

# Consecutive windows whose means give the standard error (Law & Kelton, ch. 9: 64 is in the recommended range).
WINDOWS = 64

# Where a tangent vector shrinks to nothing: the smallest normal number, so that a superstable exponent is large,
# negative and finite.
_TINY = np.finfo(np.float64).tiny


@dataclass(frozen=True, eq=False)
class LinearTransformerTangent(LinearTransformer):
    """Trainer whose observables are the Lyapunov exponents of the training run itself.

    Two directions learn: U along the prompts' mean y_q g x_qᵀ, and v. Their plane is invariant, and the derivative of
    the gradient step on it is taken at every step by autograd on the full matrices. After the transient two small
    changes of the weights follow it; they are made orthonormal after every step, and the logarithms of their growth
    are averaged. Changes out of the plane are left out: they do not grow, they outlast those in it that shrink, and
    rounding would stir them up.

    Parameters
    ----------
    transient : int
        Steps trained before growth is measured; at least 128 fewer than `n_steps`. All other parameters as for
        `LinearTransformer`. Converged runs go on to the end, at their minimum.

    Raises
    ------
    ValueError
        As `LinearTransformer`; if too few steps are left for a standard error; in mode "all", without such a plane.

    Notes
    -----
    Observables are of all whole windows after the transient: `exponent_1` ≥ `exponent_2` nats per step, with
    standard errors by means over 64 windows; NaN where the run diverged. About three times the cost of training.

    References
    ----------
    Benettin et al., Meccanica 15, 9-30 (1980); in the modes "blocks" and "pair" the two exponents are those of the
    product map, theory/01.

    Examples
    --------
    >>> from trainability import random_prompt
    >>> trainer = LinearTransformerTangent(random_prompt(6, 2, seed=0), n_steps=600, transient=200)
    >>> runs = trainer({"lr": np.array([0.1, 50.0])})
    >>> bool(abs(runs["exponent_1"][0]) < 1e-3), bool(runs["exponent_2"][0] < 0)  # a curve of minima
    (True, True)
    >>> float(runs["exponent_1"][1])
    nan
    """

    transient: int = 0

    observables: ClassVar[dict[str, tuple[str, str]]] = {
        "exponent_1": ("float64", "largest Lyapunov exponent of the training run, nats per step"),
        "exponent_2": ("float64", "second Lyapunov exponent of the training run, nats per step"),
        "stderr_1": ("float64", "standard error of the largest exponent, by 64 windows"),
        "stderr_2": ("float64", "standard error of the second exponent, by 64 windows"),
        "zero_loss": ("float64", "loss of an output of zero, the scale of the verdicts"),
        "tail_loss": ("float64", "mean of the last 64 losses, inf if diverged"),
        "diverged_step": ("int32", "first step with a loss beyond the bound, -1 if none"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "all":
            raise ValueError("mode='all' moves weights out of the plane that learns; use blocks or pair")
        if self.transient < 0 or self.n_steps - self.transient < 2 * WINDOWS:
            raise ValueError(
                f"transient={self.transient} must be at least 0 and leave {2 * WINDOWS} of n_steps={self.n_steps}"
            )

    def _train(self, pixels: dict[str, np.ndarray], batches: np.ndarray) -> dict[str, np.ndarray]:
        weights, free, E, target, lr = self._setup(pixels)
        W_KQ, W_PV = weights
        watch = Watch(lr.shape[-1], zero_loss=float(target.square().mean() / 2), finished=0.0)
        plane = self._plane()
        frame = torch.eye(2, dtype=torch.float64)[..., None].repeat(
            1, 1, lr.shape[-1]
        )  # (change, direction, pixel)
        length = (self.n_steps - self.transient) // WINDOWS
        sums = torch.zeros(WINDOWS, 2, lr.shape[-1], dtype=torch.float64)
        steps = zip(self._factors(), torch.tensor(batches), strict=True)
        for step, (factor, batch) in enumerate(steps):
            window = (step - self.transient) // length if step >= self.transient else -1
            if window == WINDOWS:
                break
            with torch.no_grad():
                watch.see(loss_of(W_KQ, W_PV, E, target))
            loss = loss_of(W_KQ, W_PV, E[batch], target[batch])
            gradients = torch.autograd.grad(loss.sum(), weights, create_graph=window >= 0)
            gradients = [g * mask for g, mask in zip(gradients, free, strict=True)]
            if window >= 0:
                jacobian = _jacobian(gradients, weights, plane, factor * lr)
                sums[window] += _orthonormalise(frame, (jacobian[None] * frame[:, None]).sum(dim=2))
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight.copy_(torch.where(watch.running, weight - factor * lr * gradient, weight))
        with torch.no_grad():
            watch.see(loss_of(W_KQ, W_PV, E, target))
        return self.exponents(sums.numpy() / length) | watch.observables()

    def _plane(self) -> list[list[torch.Tensor]]:
        """Unit changes of (W_KQ, W_PV) in the two directions that learn, each (dim + 1, dim + 1, 1)."""
        dim = self.prompts[0].dim
        learns = np.sum([p.y_query * np.outer(p.moment, p.x_query) for p in self.prompts], axis=0)
        zero = torch.zeros(dim + 1, dim + 1, 1, dtype=torch.float64)
        along_U, along_v = zero.clone(), zero.clone()
        along_U[:dim, :dim, 0], along_v[dim, dim] = torch.from_numpy(learns / np.linalg.norm(learns)), 1.0
        return [[along_U, zero], [zero, along_v]]

    @staticmethod
    def exponents(windows: np.ndarray) -> dict[str, np.ndarray]:
        """Means (pixel,) over windows (WINDOWS, 2, pixel), with their standard errors, in descending order."""
        means, errors = windows.mean(axis=0), windows.std(axis=0, ddof=1) / np.sqrt(WINDOWS)
        order = np.argsort(-means, axis=0, kind="stable")
        found: dict[str, np.ndarray] = {}
        for name, values in (("exponent", means), ("stderr", errors)):
            largest, second = np.take_along_axis(values, order, axis=0)
            found |= {f"{name}_1": largest, f"{name}_2": second}
        return found

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Train n pixels: hyperparameters (n,) in, observables (n,) out."""
        found = super().__call__(pixels)
        for name in ("exponent_1", "exponent_2", "stderr_1", "stderr_2"):
            found[name] = np.where(found["diverged_step"] >= 0, np.nan, found[name])
        return found


def _jacobian(gradients, weights, plane, rate) -> torch.Tensor:
    """Derivative of the gradient step on the plane, (to, from, pixel)."""
    rows = []
    for i, direction in enumerate(plane):
        bent = torch.autograd.grad(_inner(gradients, direction).sum(), weights, retain_graph=i == 0)
        rows.append(
            torch.stack([float(i == j) - rate * _inner(bent, other) for j, other in enumerate(plane)])
        )
    return torch.stack(rows)


def _orthonormalise(frame: torch.Tensor, moved: torch.Tensor) -> torch.Tensor:
    """Put orthonormal changes for `moved` (change, direction, pixel) into `frame`; return the logs of their norms."""
    grown = []
    for k in range(len(moved)):
        change = moved[k]
        for earlier in frame[:k]:
            change = change - (change * earlier).sum(dim=0) * earlier
        size = change.square().sum(dim=0).sqrt().clamp_min(_TINY)
        frame[k] = change / size
        grown.append(size.log())
    return torch.stack(grown)


def _inner(one, other) -> torch.Tensor:
    return sum((a * b).sum(dim=(0, 1)) for a, b in zip(one, other, strict=True))
