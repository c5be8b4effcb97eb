"""What can be measured along a training run besides its losses: norms, curvature, the growth of small changes.

All by torch, in double precision where a derivative of the gradient is taken. A run is stepped in the
trainer's own precision; what is measured on the way does not change it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from .._checks import whole
from .._rng import stream
from .._threads import one_thread
from ._curvature import Sharpness, hessian_product, largest_eigenvalues
from ._transformer_ensembles import ensembles
from ._transformer_settings import TransformerSettings
from ._transformer_torch import Ensemble, Run

# Lanczos stops at this relative residual, or after so many products.
LANCZOS_TOLERANCE, LANCZOS_ITERATIONS = 1e-3, 60


class TransformerProbes(TransformerSettings):
    """Measurements of `Transformer` along its training runs."""

    def norms(self, pixels: Mapping[str, np.ndarray], *, steps: Sequence[int]) -> dict[str, np.ndarray]:
        """Norms along n runs: `parameter_norm` and `gradient_norm`, (n, len(steps)) each; NaN once diverged.

        Parameters
        ----------
        pixels : mapping of (n,)
        steps : sequence of int
            Steps taken before the measurement, from 0 to n_steps. The gradient is that of the next batch (at the
            end, of the last one).

        Examples
        --------
        >>> from trainability.trainers import Transformer
        >>> found = Transformer.tiny(n_steps=5).norms({"seed": np.arange(2)}, steps=[0, 5])
        >>> found["gradient_norm"].shape
        (2, 2)
        """
        return norms(**self._probed(pixels), steps=self._checked_steps(steps))

    def sharpness(
        self,
        pixels: Mapping[str, np.ndarray],
        *,
        steps: Sequence[int],
        preconditioned: bool = False,
        rates: Mapping[str, np.ndarray] | None = None,
        n_windows: int = 64,
    ) -> Sharpness:
        """Largest eigenvalue of the Hessian of the training loss along n runs.

        By Lanczos' method, without forming the matrix, in double precision at the parameters of the run.

        Parameters
        ----------
        pixels : mapping of (n,)
        steps : sequence of int
            Steps taken before the measurement, from 0 to n_steps.
        preconditioned : bool, optional
            Of P^(-1/2) H P^(-1/2) instead, with P what Adam divides its steps by: √(unbiased mean of g²) + eps. Adam
            with learning rate lr is stable on a quadratic while this is below 2 (1 + beta1) / ((1 - beta1) lr).
        rates : mapping of (n,), optional
            A learning rate for each group, as "lr_attn": then of D^(1/2) H D^(1/2), or with P of
            (D/P)^(1/2) H (D/P)^(1/2), D the rates. They need not be those that the runs are trained with: gradient
            descent at these rates is stable below 2, Adam below 2 (1 + beta1) / (1 - beta1).
        n_windows : int, optional
            Training windows that the loss is the mean over, the same for every run.

        Returns
        -------
        Sharpness
            `value` and `error`, (n, len(steps)): an eigenvalue lies within the error, at most about one part in
            a thousand unless 60 products do not suffice.

        Raises
        ------
        ValueError
            If a step is outside the run, `preconditioned` is asked for without Adam or before its first step, or
            `rates` has other names than those of the groups.

        References
        ----------
        Cohen et al., arXiv:2103.00065 and, preconditioned, arXiv:2207.14484.

        Examples
        --------
        >>> from trainability.trainers import Transformer
        >>> trainer = Transformer.tiny(n_steps=5)
        >>> found = trainer.sharpness({"lr": np.array([0.01])}, steps=[0, 5], n_windows=4)
        >>> found.value.shape, bool((found.error < 0.01 * found.value).all())
        ((1, 2), True)
        """
        at = self._checked_steps(steps)
        whole(1, n_windows=n_windows)
        if preconditioned and self.optimizer not in ("adam", "adamw"):
            raise ValueError(f"preconditioned=True needs optimizer='adam' or 'adamw', not {self.optimizer!r}")
        if preconditioned and at.min() < 1:
            raise ValueError(
                "preconditioned=True needs steps of at least 1: before it Adam has no mean square"
            )
        probed = self._probed(pixels)
        if rates is not None:
            names = {f"lr_{group}" for group in self.groups}
            if set(rates) != names:
                raise ValueError(f"rates has {', '.join(sorted(rates))}; it needs {', '.join(sorted(names))}")
            full = self._complete(rates)
            if len(full["lr"]) != len(probed["orders"]):
                raise ValueError(f"rates are of {len(full['lr'])} runs and pixels of {len(probed['orders'])}")
            probed["values"] |= {f"metric_{name}": full[name] for name in names}
        return sharpness(
            **probed,
            steps=at,
            preconditioned=preconditioned,
            weighted=rates is not None,
            n_windows=n_windows,
        )

    def lyapunov_exponents(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Finite-time Lyapunov exponents of n training runs, shape (n,), in nats per step.

        Mean growth of a small random change of all initial weights over the n_steps steps, or over those before the
        run diverges: positive where a change of a last digit decides the outcome. Carried along by the derivative
        of the step itself (a Hessian-vector product, and the derivative of the optimizer's formula with that of its
        memory), in double precision. NaN for a run that diverges at once. About four times a training run.

        Examples
        --------
        >>> from trainability.trainers import Transformer
        >>> exponents = Transformer.tiny(n_steps=20).lyapunov_exponents({"lr": np.array([1e-4, 0.3])})
        >>> bool(exponents[0] < 0.05 < exponents[1])
        True
        """
        return mean_growth(self.tangent_growth(pixels))[0]

    def tangent_growth(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log growth of a small change of the weights after each step, shape (n, n_steps), in nats.

        As for `lyapunov_exponents`; NaN from divergence on.

        Examples
        --------
        >>> from trainability.trainers import Transformer
        >>> Transformer.tiny(n_steps=3).tangent_growth({"lr": np.array([0.01])}).shape
        (1, 3)
        """
        return tangent_growth(**self._probed(pixels))

    def _probed(self, pixels: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What the probes of a run take; all pixels must share a batch size."""
        full = self._complete(pixels)
        sizes = np.unique(full["batch_size"]).astype(int)
        if len(sizes) > 1:
            raise ValueError(f"batch_size={sizes.tolist()}: measure runs of one batch size at a time")
        run = self._run()
        # Twice the precision and a graph of the gradient: about eight times the memory of training.
        members = run.members(self.members, 8 * int(sizes[0])) if self.members is None else self.members
        return {
            "run": run,
            "values": full,
            "orders": self._orders(full),
            "members": min(members, len(full["lr"])),
        }

    def _checked_steps(self, steps: Sequence[int]) -> np.ndarray:
        found = np.asarray(steps)
        listed = found.dtype.kind in "iu" and found.ndim == 1 and found.size > 0
        if not (listed and found.min() >= 0 and found.max() <= self.n_steps):
            raise ValueError(f"steps={steps!r} must be whole numbers from 0 to n_steps={self.n_steps}")
        return found


def mean_growth(grown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Growth per step of n runs from their log growth (n, n_steps), and over how many steps; NaN over none."""
    steps = np.isfinite(grown).sum(axis=1)
    last = grown[np.arange(len(grown)), np.maximum(steps, 1) - 1]
    return last / np.maximum(steps, 1), steps


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
    run: Run,
    values,
    orders,
    *,
    members: int,
    steps: np.ndarray,
    preconditioned: bool,
    weighted: bool,
    n_windows: int,
) -> Sharpness:
    """Largest eigenvalue of the Hessian of the loss on `n_windows` training windows, the same for every run.

    Weighted by the rates metric_lr_<group> of `values`, where so asked.
    """
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
        if weighted:
            root = root * twin.of_groups("metric_lr_{}").sqrt()

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
                before = (ensemble.W.clone(), tuple(m.clone() for m in ensemble.memory))
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
