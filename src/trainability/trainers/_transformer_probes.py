"""What can be measured along a training run besides its losses: norms, curvature, the growth of small changes.

All by torch, in double precision where a derivative of the gradient is taken. A run is stepped in the
trainer's own precision; what is measured on the way does not change it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .._rng import stream
from .._threads import one_thread
from ._curvature import Sharpness, hessian_product, largest_eigenvalues
from ._transformer_torch import Ensemble, Run, ensembles

# Lanczos stops at this relative residual, or after so many products.
LANCZOS_TOLERANCE, LANCZOS_ITERATIONS = 1e-3, 60


def _along_runs(
    run: Run,
    values: Mapping[str, np.ndarray],
    orders: Sequence[np.ndarray],
    *,
    members: int,
    steps: np.ndarray,
    probe: Callable[[Ensemble, int], Sequence[torch.Tensor]],
    names: int,
) -> list[np.ndarray]:
    """Results of `probe` after each of `steps` steps, (n, steps) for each of its `names`; NaN once diverged."""
    n = len(orders)
    found = [np.full((n, len(steps)), np.nan) for _ in range(names)]
    with one_thread(), torch.no_grad():
        for i, ensemble in ensembles(run, values, orders, members):
            for step, running in ensemble.states(until=int(steps.max())):
                for at in np.flatnonzero(steps == step):
                    for array, result in zip(found, probe(ensemble, step), strict=True):
                        seen = torch.where(running, result.double(), torch.nan)
                        array[i : i + members, at] = seen[: n - i].cpu().numpy()
    return found


def norms(run: Run, values, orders, *, members: int, steps: np.ndarray) -> dict[str, np.ndarray]:
    """Norms of all parameters and of the gradient that the next step uses."""

    def probe(ensemble: Ensemble, step: int):
        order = ensemble.orders[:, min(step, run.n_steps - 1)]  # after the last step, its batch again
        _, gradient = ensemble.loss_and_gradient(*ensemble.windows(order))
        return ensemble.W.norm(dim=1), gradient.norm(dim=1)

    parameter, gradient = _along_runs(run, values, orders, members=members, steps=steps, probe=probe, names=2)
    return {"parameter_norm": parameter, "gradient_norm": gradient}


def sharpness(
    run: Run, values, orders, *, members: int, steps: np.ndarray, preconditioned: bool, n_windows: int
) -> Sharpness:
    """Largest eigenvalue of the Hessian of the loss on `n_windows` training windows, the same for every run."""
    starts = run.task.starts
    if n_windows < len(starts):
        starts = np.sort(stream(0, "sharpness").choice(starts, n_windows, replace=False))
    double = run.in_double()

    def probe(ensemble: Ensemble, step: int):
        twin = ensemble.at_precision(double)
        every = np.tile(starts, (len(ensemble.orders), 1))
        batch = twin.windows(every)
        root = torch.ones_like(twin.W)
        if preconditioned:
            root = ensemble.optimizer.scale(step, ensemble.memory[1]).double().rsqrt()

        def apply(v: torch.Tensor) -> torch.Tensor:
            return root * hessian_product(lambda W: twin.loss(W, *batch), twin.W, root * v)

        numbers = stream(0, "lanczos").standard_normal(twin.W.shape[1])
        start = torch.from_numpy(numbers).to(twin.W).expand_as(twin.W)
        return largest_eigenvalues(apply, start, iterations=LANCZOS_ITERATIONS, tolerance=LANCZOS_TOLERANCE)

    value, error = _along_runs(run, values, orders, members=members, steps=steps, probe=probe, names=2)
    return Sharpness(value=value, error=error, steps=steps)


def tangent_growth(run: Run, values, orders, *, members: int) -> np.ndarray:
    """Log growth of a small random change of all weights after each step, (n, n_steps); NaN once diverged.

    The change and what it does to the optimizer's memory are carried along by the exact derivative of the
    step: a Hessian-vector product and the derivative of the optimizer's formula.
    """
    n, double = len(orders), run.in_double()
    grown = np.full((n, run.n_steps), np.nan)
    with one_thread(), torch.no_grad():
        for i, ensemble in ensembles(double, values, orders, members):
            numbers = stream(0, "change").standard_normal(ensemble.W.shape[1])
            dW = torch.from_numpy(numbers).to(ensemble.W).expand_as(ensemble.W)
            dW = dW / dW.norm(dim=1, keepdim=True)
            dmemory = tuple(torch.zeros_like(m) for m in ensemble.memory)
            total = torch.zeros(ensemble.n, dtype=torch.float64, device=run.device)
            before: Any = None
            for step, running in ensemble.states(until=run.n_steps):
                if before is not None:
                    dW, dmemory = _tangent_step(ensemble, step, before, dW, dmemory)
                    size = dW.norm(dim=1)
                    total = total + size.log()
                    dW = dW / size[:, None]
                    dmemory = tuple(m / size[:, None] for m in dmemory)
                    seen = torch.where(running & torch.isfinite(total), total, torch.nan)
                    grown[i : i + members, step - 1] = seen[: n - i].cpu().numpy()
                before = (ensemble.W, ensemble.memory)
    return grown


def _tangent_step(ensemble: Ensemble, t: int, before, dW, dmemory):
    """What step t makes of a change (dW, dmemory) of the parameters and memory before it."""
    W, memory = before
    batch = ensemble.batch(t - 1)
    _, gradient = ensemble.loss_and_gradient(*batch, W=W)
    dgradient = hessian_product(lambda at: ensemble.loss(at, *batch), W, dW)

    def step(W, gradient, *memory):
        W, memory = ensemble.optimizer.step(t, W, gradient, memory)
        return (W, *memory)

    (_, *after), (moved, *dmemory) = torch.func.jvp(step, (W, gradient, *memory), (dW, dgradient, *dmemory))
    if len(memory) == 2:
        # Where a gradient has always been 0, the root of its mean square has no slope; nothing moves there.
        moved = torch.where(after[1] == 0, dW, moved)
    return moved, tuple(dmemory)
