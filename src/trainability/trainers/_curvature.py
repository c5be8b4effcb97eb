"""Largest eigenvalues of Hessians of many members at once, by Lanczos' method on Hessian-vector products."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Sharpness:
    """Largest eigenvalue of the Hessian of the training loss, at some steps of n runs.

    Parameters
    ----------
    value : ndarray, shape (n, len(steps))
        NaN where the run had diverged.
    error : ndarray, shape (n, len(steps))
        Norm of the residual |H u - value u| of the unit vector found: an eigenvalue lies within it.
    steps : ndarray of int
        Steps taken before the measurement.
    """

    value: np.ndarray
    error: np.ndarray
    steps: np.ndarray

    def __repr__(self) -> str:
        with np.errstate(all="ignore"):
            relative = self.error / abs(self.value)
        worst = np.nanmax(relative) if np.isfinite(relative).any() else np.nan
        values = np.array2string(self.value, precision=4, threshold=12)
        return f"Sharpness({values}, relative error up to {worst:.1g}, at steps {self.steps.tolist()})"


def largest_eigenvalues(
    apply: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, *, iterations: int, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Largest (most positive) eigenvalue of a symmetric matrix of each member, with its residual norm.

    Parameters
    ----------
    apply : callable
        (member, n) -> (member, n), each member's matrix times its vector.
    start : (member, n)
        Not orthogonal to the eigenvector sought; a random vector is not.
    iterations : int
        Products at most; fewer once every residual is below `tolerance` times its eigenvalue.

    Notes
    -----
    Each new vector is made orthogonal to all before, twice, so that rounding produces no copies of eigenvalues.
    The residual of the best vector is the last off-diagonal number times the last component of its coordinates.
    """
    iterations = min(iterations, start.shape[1])
    basis = [start / start.norm(dim=1, keepdim=True)]
    T = start.new_zeros(len(start), iterations, iterations)
    value = residual = start.new_zeros(len(start))
    for k in range(iterations):
        image = apply(basis[-1])
        Q = torch.stack(basis, dim=1)  # (member, k + 1, n)
        for _ in range(2):
            along = torch.einsum("mkn,mn->mk", Q, image)
            image = image - torch.einsum("mkn,mk->mn", Q, along)
            T[:, k, k] += along[:, -1]
        length = image.norm(dim=1)
        found, vectors = torch.linalg.eigh(torch.nan_to_num(T[:, : k + 1, : k + 1]))
        value, residual = found[:, -1], length * vectors[:, -1, -1].abs()
        if k + 1 == iterations or not (residual > tolerance * value.abs()).any():
            break
        T[:, k, k + 1] = T[:, k + 1, k] = length
        basis.append(image / length.clamp(min=torch.finfo(length.dtype).tiny)[:, None])
    return value, residual


def hessian_product(
    loss: Callable[[torch.Tensor], torch.Tensor], W: torch.Tensor, v: torch.Tensor
) -> torch.Tensor:
    """Hessian of each member's loss, (member, n) -> (member,), at W times its vector, by two backward passes."""
    with torch.enable_grad():
        leaf = W.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf, create_graph=True)
        along = (gradient * v).sum()
    return torch.autograd.grad(along, leaf)[0]
