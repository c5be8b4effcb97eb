"""One layer of linear self-attention, trained by autograd on one prompt: a whole tile of pixels at once."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from .._checks import count_runs, finite
from .._rng import stream
from .._threads import one_thread
from ..prompt import Prompt

# Pixels trained together. Fixed, with the last ensemble padded, so that a pixel's arithmetic never
# depends on how many others a tile holds.
ENSEMBLE = 1024

# A loss above this multiple of the loss of a zero output ends a run as diverged. Inside the invariant
# ellipse it stays below 4/mu²; outside, each step multiplies the number of its digits by about three.
DIVERGED = 1e100

# A loss below this multiple is at the rounding of double precision; the run is complete.
FINISHED = 1e-30

# Verdict of convergence: the mean of the last losses, as a multiple of the loss of a zero output. A single
# last loss would take a chaotic run that happens to pass zero for one that converged.
CONVERGED = 1e-8

# Losses kept at the end of a run to read a period from, and the relative match that counts as a return.
TAIL, PERIOD_TOL = 64, 1e-6

_ROUNDING = 1e-9  # a rise of the loss by less than this, relative to the first, is not one

MODES = ("blocks", "pair", "all")


@dataclass(frozen=True, eq=False)
class LinearTransformer:
    """Trainer of f(E) = E + W_PV E (Eᵀ W_KQ E) / n on half the squared error of the query's label.

    Gradient descent by autograd, in double precision, on full weight matrices of shape (dim + 1, dim + 1).
    At the start only the key-query block U of W_KQ and the corner v of W_PV are not zero:
    U = init_scale √(1 + imbalance) · R and v = init_scale √(1 - imbalance), with R a random matrix of
    Frobenius norm 1 whose draw depends on `seed`. So ‖U‖² + v² = 2 init_scale² and
    ‖U‖² - v² = 2 init_scale² imbalance.

    Parameters
    ----------
    prompt : Prompt or sequence of Prompt
        With several, of one shape, the loss is their mean.
    mode : {"blocks", "pair", "all"}
        What is trained. "blocks": U and v, all else held at zero. "pair": every weight, on each prompt
        and its sign-flipped twin. "all": every weight, on the prompts as they are.
    lr : float
        Learning rate; like `init_scale`, `imbalance` and `seed` used where it is not an axis.
    init_scale : float
    imbalance : float
        Between -1 and 1.
    n_steps : int
    seed : int
    batch_size : int, optional
        Prompts drawn for each step, without repetition (each with its twin in mode "pair"); all by default.
        Every pixel of one `batch_seed` sees the same batches. The losses observed are those of all prompts.
    batch_seed : int
        Of the order of batches; used where it is not an axis.
    schedule : sequence of float, shape (n_steps,), optional
        Factors on the learning rate, step by step.

    Raises
    ------
    ValueError
        If the mode is unknown, a number is not finite, the imbalance is outside [-1, 1], the prompts differ
        in shape, the batch is larger than their number, or the schedule has another length than the run.

    References
    ----------
    arXiv:2605.21292; the first two modes reduce exactly to the product map, the third does not: theory/01.

    Examples
    --------
    >>> from trainability import random_prompt
    >>> trainer = LinearTransformer(random_prompt(6, 2, seed=0), n_steps=300)
    >>> runs = trainer({"lr": np.array([0.1, 50.0])})
    >>> trainer.status(runs)
    array([1, 2], dtype=int8)
    """

    prompt: Prompt | Sequence[Prompt]
    mode: str = "blocks"
    lr: float = 0.1
    init_scale: float = 0.5
    imbalance: float = 0.0
    n_steps: int = 1000
    seed: int = 0
    batch_size: int | None = None
    batch_seed: int = 0
    schedule: Sequence[float] | None = None

    hyperparameters: ClassVar[tuple[str, ...]] = ("lr", "init_scale", "imbalance", "seed", "batch_seed")
    dtype: ClassVar[str] = "float64"
    observables: ClassVar[dict[str, tuple[str, str]]] = {
        "first_loss": ("float64", "loss before the first step"),
        "final_loss": ("float64", "loss after the last step, inf if diverged"),
        "tail_loss": ("float64", "mean of the last 64 losses, inf if diverged"),
        "min_loss": ("float64", "least loss of the run"),
        "max_loss": ("float64", "greatest loss of the run, inf if diverged"),
        "zero_loss": ("float64", "loss of an output of zero, the scale of the verdicts"),
        "diverged_step": ("int32", "first step with a loss beyond the bound, -1 if none"),
        "rises": ("int32", "steps at which the loss rose"),
        "loss_period": ("int32", "period of the last losses, 0 if none was found"),
    }

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r} is unknown; use {', '.join(MODES)}")
        if self.n_steps < 1:
            raise ValueError(f"n_steps={self.n_steps} must be at least 1")
        prompts = self.prompts
        if not prompts or not all(isinstance(p, Prompt) for p in prompts):
            raise ValueError(
                f"prompt={self.prompt!r} is not a Prompt; make one with Prompt(x, y, x_query, y_query)"
            )
        if len(shapes := sorted({p.x.shape for p in prompts})) > 1:
            raise ValueError(f"prompts have examples of shapes {shapes}; all must be equal")
        if self.batch_size is not None and not 1 <= self.batch_size <= len(prompts):
            raise ValueError(
                f"batch_size={self.batch_size} must be between 1 and {len(prompts)}, the prompts given"
            )
        if self.schedule is not None and np.shape(self.schedule) != (self.n_steps,):
            raise ValueError(
                f"schedule has shape {np.shape(self.schedule)}; it needs n_steps={self.n_steps} factors"
            )
        self._check({name: np.array(getattr(self, name), dtype=float) for name in self.hyperparameters})

    def settings(self) -> dict[str, Any]:
        """Everything a pixel depends on besides its hyperparameters, as JSON values."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "prompt"}
        prompts = [
            {name: np.asarray(value).tolist() for name, value in vars(p).items()} for p in self.prompts
        ]
        schedule = None if self.schedule is None else np.asarray(self.schedule, dtype=float).tolist()
        return {**fields, "prompts": prompts, "schedule": schedule, "ensemble": ENSEMBLE, "device": "cpu"}

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """The prompts, one or several."""
        return (self.prompt,) if isinstance(self.prompt, Prompt) else tuple(self.prompt)

    def batches(self, batch_seed: int | None = None) -> np.ndarray:
        """Indices of the prompts that each step sees, shape (n_steps, batch_size), in increasing order."""
        batch_seed = self.batch_seed if batch_seed is None else batch_seed
        n = len(self.prompts)
        if self.batch_size is None:
            return np.broadcast_to(np.arange(n), (self.n_steps, n))
        order = stream(batch_seed, "batches").permuted(np.tile(np.arange(n), (self.n_steps, 1)), axis=1)
        return np.sort(order[:, : self.batch_size], axis=1)

    def initial_weights(self, pixels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Starting blocks U, shape (n, dim, dim), and v, shape (n,), of n pixels."""
        pixels = self._complete(pixels)
        dim = self.prompts[0].dim
        draws = {s: _unit_matrix(int(s), dim) for s in np.unique(pixels["seed"])}
        R = np.stack([draws[s] for s in pixels["seed"]])  # (pixel, dim, dim)
        scale, imbalance = pixels["init_scale"], pixels["imbalance"]
        return (scale * np.sqrt(1 + imbalance))[:, None, None] * R, scale * np.sqrt(1 - imbalance)

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Train n pixels: hyperparameters (n,) in, observables (n,) out."""
        pixels = self._complete(pixels)
        # Pixels of one ensemble see the same batches; without batches the order has no effect.
        orders = pixels["batch_seed"] if self.batch_size is not None else np.zeros(len(pixels["lr"]))
        found = {name: np.empty(len(orders), dtype) for name, (dtype, _) in self.observables.items()}
        with one_thread():
            for order in np.unique(orders):
                mine = np.flatnonzero(orders == order)
                for i in range(0, len(mine), ENSEMBLE):
                    # Padded with the last pixel.
                    chosen = mine[np.minimum(np.arange(i, i + ENSEMBLE), len(mine) - 1)]
                    part = self._train(
                        {name: values[chosen] for name, values in pixels.items()}, self.batches(int(order))
                    )
                    for name, values in found.items():
                        values[mine[i : i + ENSEMBLE]] = part[name][: len(mine) - i]
        return found

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Converged where the last losses average below 1e-8 of that of a zero output; diverged; undecided."""
        converged = np.asarray(observables["tail_loss"]) < CONVERGED * np.asarray(observables["zero_loss"])
        diverged = np.asarray(observables["diverged_step"]) >= 0
        return np.where(diverged, 2, np.where(converged, 1, 3)).astype(np.int8)

    def _complete(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fill in the trainer's own values for hyperparameters that are not axes."""
        n = count_runs(pixels, self.hyperparameters)
        full = {
            name: np.broadcast_to(pixels.get(name, getattr(self, name)), n) for name in self.hyperparameters
        }
        self._check(full)
        return full

    @staticmethod
    def _check(values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            finite(name, value)
        if (abs(values["imbalance"]) > 1).any():
            raise ValueError(
                f"imbalance={values['imbalance'].flat[abs(values['imbalance']).argmax()]} is outside [-1, 1]"
            )

    def _train(self, pixels: dict[str, np.ndarray], batches: np.ndarray) -> dict[str, np.ndarray]:
        """Train one ensemble of fixed size; tensors carry the pixel as their last axis."""
        weights, free, E, target, lr = self._setup(pixels)
        W_KQ, W_PV = weights
        # Under a schedule a run that has converged may be thrown out again.
        finished = FINISHED if self.schedule is None else 0.0
        watch = Watch(lr.shape[-1], zero_loss=float(target.square().mean() / 2), finished=finished)

        for factor, batch in zip(self._factors(), torch.tensor(batches), strict=True):
            loss = loss_of(W_KQ, W_PV, E[batch], target[batch])  # (pixel,)
            if self.batch_size is None:
                seen = loss.detach()
            else:
                with torch.no_grad():
                    seen = loss_of(W_KQ, W_PV, E, target)
            if not watch.see(seen):
                break
            gradients = torch.autograd.grad(loss.sum(), weights)
            with torch.no_grad():
                for weight, gradient, mask in zip(weights, gradients, free, strict=True):
                    weight.copy_(torch.where(watch.running, weight - factor * lr * gradient * mask, weight))
        with torch.no_grad():
            watch.see(loss_of(W_KQ, W_PV, E, target))
        return watch.observables()

    def _setup(
        self, pixels: dict[str, np.ndarray]
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Weights (W_KQ, W_PV), which of them are free, prompts, targets and learning rates, of an ensemble."""
        dim = self.prompts[0].dim
        U, v = self.initial_weights(pixels)
        W_KQ = torch.zeros(dim + 1, dim + 1, len(v), dtype=torch.float64)
        W_PV = torch.zeros_like(W_KQ)
        W_KQ[:dim, :dim], W_PV[dim, dim] = torch.from_numpy(np.moveaxis(U, 0, -1)), torch.from_numpy(v)
        free = torch.full((2, dim + 1, dim + 1, 1), float(self.mode != "blocks"), dtype=torch.float64)
        free[0, :dim, :dim] = free[1, dim, dim] = 1.0  # gradients elsewhere are dropped in mode "blocks"
        twins = [[p, p.flipped()] if self.mode == "pair" else [p] for p in self.prompts]
        E = torch.from_numpy(
            np.array([[p.matrix for p in pair] for pair in twins])
        )  # (prompt, twin, dim + 1, token)
        target = torch.tensor([[[p.y_query] for p in pair] for pair in twins], dtype=torch.float64)
        lr = torch.from_numpy(np.ascontiguousarray(pixels["lr"]))
        return (W_KQ.requires_grad_(), W_PV.requires_grad_()), free, E, target, lr

    def _factors(self) -> np.ndarray:
        """Factors on the learning rate, step by step."""
        return np.ones(self.n_steps) if self.schedule is None else np.asarray(self.schedule, dtype=float)


def loss_of(W_KQ: torch.Tensor, W_PV: torch.Tensor, E: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean over prompts (and twins) of half the squared error of the query's label, shape (pixel,).

    Of the attention output only the query's label is formed; nothing else enters the loss. Contractions are
    sums over an axis that is not the pixel's: a matrix product would group pixels, and round them by place.
    """
    E, target = E.flatten(0, 1), target.flatten(0, 1)
    query = E[:, :, -1]  # (prompt, d)
    keyed = (W_KQ * query[:, None, :, None]).sum(dim=2)  # (prompt, d, pixel)
    scores = (E[..., None] * keyed[:, :, None]).sum(dim=1) / (E.shape[-1] - 1)  # (prompt, token, pixel)
    mixed = (E[..., None] * scores[:, None]).sum(dim=2)  # (prompt, d, pixel)
    label = query[:, -1:] + (W_PV[-1] * mixed).sum(dim=1)  # (prompt, pixel)
    return (label - target).square().mean(dim=0) / 2


class Watch:
    """Follows the losses of an ensemble; says which members still run."""

    def __init__(self, size: int, *, zero_loss: float, finished: float):
        self.zero_loss, self.finished = zero_loss, finished * zero_loss
        self.running = torch.ones(size, dtype=torch.bool)
        self.step = 0
        self.first = self.last = self.least = self.most = torch.zeros(0)
        self.diverged_step = torch.full((size,), -1, dtype=torch.int32)
        self.rises = torch.zeros(size, dtype=torch.int32)
        self.tail = torch.full((TAIL, size), torch.nan, dtype=torch.float64)

    def see(self, loss: torch.Tensor) -> bool:
        """Take in the losses of one step; False when every member is done."""
        if self.step == 0:
            self.first = self.last = self.least = self.most = loss.clone()
        self.rises += self.running & (loss > self.last + _ROUNDING * self.first)
        self.last = torch.where(self.running, loss, self.last)
        self.least = torch.minimum(self.least, torch.nan_to_num(self.last, nan=torch.inf))
        self.most = torch.maximum(self.most, torch.nan_to_num(self.last, nan=torch.inf))
        self.tail[self.step % TAIL] = self.last
        lost = self.running & ~(loss <= DIVERGED * self.zero_loss)  # also where the loss is not a number
        self.diverged_step[lost] = self.step
        self.running &= ~lost & (loss > self.finished)
        self.step += 1
        return bool(self.running.any())

    def observables(self) -> dict[str, np.ndarray]:
        diverged = self.diverged_step >= 0
        infinite = torch.tensor(torch.inf, dtype=torch.float64)
        # How far the tail of a finished member was filled up with its last loss depends on its neighbours.
        finished = ~self.running & ~diverged
        tail = torch.where(finished, self.last, self.tail.nanmean(dim=0))
        found = {
            "first_loss": self.first,
            "final_loss": torch.where(diverged, infinite, self.last),
            "tail_loss": torch.where(diverged, infinite, tail),
            "min_loss": self.least,
            "max_loss": torch.where(diverged, infinite, self.most),
            "zero_loss": torch.full_like(self.first, self.zero_loss),
            "diverged_step": self.diverged_step,
            "rises": self.rises,
            "loss_period": torch.where(diverged, 0, torch.where(finished, 1, self._period())).to(torch.int32),
        }
        return {name: values.numpy() for name, values in found.items()}

    def _period(self) -> torch.Tensor:
        """Smallest shift under which the last losses repeat, twice over; 0 if none does."""
        order = (torch.arange(TAIL) + self.step) % TAIL
        tail = self.tail[order]  # oldest first
        size = tail.abs().amax(dim=0) + FINISHED * self.zero_loss
        period = torch.zeros(tail.shape[1], dtype=torch.int64)
        for k in range(TAIL // 2, 0, -1):
            same = (tail[k:] - tail[:-k]).abs().amax(dim=0) <= PERIOD_TOL * size
            period = torch.where(same, k, period)
        return period


def _unit_matrix(seed: int, dim: int) -> np.ndarray:
    R = stream(seed, "weights").standard_normal((dim, dim))
    return R / np.linalg.norm(R)
