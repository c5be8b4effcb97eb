"""Gradient descent with memory, of many members at once: hyperparameters of their own, one row each.

The formulas and their order are those of `torch.optim`: decay is added to the gradient, except in AdamW, where it
shrinks the weights by lr · weight_decay.
"""

from collections.abc import Mapping

import numpy as np
import torch

# Optimizers and the hyperparameters that they have besides the common ones.
OPTIMIZERS: dict[str, tuple[str, ...]] = {
    "sgd": (),
    "momentum": ("momentum",),
    "adam": ("beta1", "beta2", "eps"),
    "adamw": ("beta1", "beta2", "eps"),
}

# Added to the norm that a gradient is clipped by, as in `torch.nn.utils.clip_grad_norm_`.
CLIP_EPS = 1e-6


class Optimizer:
    """The step of an ensemble, as a function of parameters, gradient and memory (member, parameter).

    Parameters
    ----------
    kind : str
        One of `OPTIMIZERS`.
    values : mapping of (member,) float64
        Hyperparameters: weight_decay, warmup, clip and those of the optimizer.
    rates : (member, parameter)
        Learning rates.
    """

    def __init__(self, kind: str, values: Mapping[str, np.ndarray], rates: torch.Tensor):
        self.kind, self.values, self.rates = kind, values, rates
        self.decay = self._column(values["weight_decay"])
        self.clip = self._column(np.where(values["clip"] > 0, values["clip"], np.inf))
        self.clips, self.decays = bool(values["clip"].any()), bool(values["weight_decay"].any())
        if kind == "momentum":
            self.keep = self._column(values["momentum"])
        elif kind != "sgd":
            self.keep1, self.keep2 = self._column(values["beta1"]), self._column(values["beta2"])
            self.fresh1, self.fresh2 = self._column(1 - values["beta1"]), self._column(1 - values["beta2"])
            self.eps = self._column(values["eps"])

    def memory(self) -> tuple[torch.Tensor, ...]:
        """What is remembered before the first step: nothing, a running sum, or running means of g and g²."""
        number = {"sgd": 0, "momentum": 1}.get(self.kind, 2)
        return tuple(torch.zeros_like(self.rates) for _ in range(number))

    def step(
        self, t: int, W: torch.Tensor, gradient: torch.Tensor, memory: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """Parameters and memory after step number t, the first being 1."""
        factor, values = self.warmed(t), self.values
        if self.clips:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * (self.clip / (norm + CLIP_EPS)).clamp(max=1.0)
        if self.decays:
            if self.kind == "adamw":
                W = W * (1 - self.rates * self._column(factor) * self.decay)
            else:
                gradient = gradient + self.decay * W
        if self.kind == "sgd":
            return W - self.rates * self._column(factor) * gradient, ()
        if self.kind == "momentum":
            total = self.keep * memory[0] + gradient
            return W - self.rates * self._column(factor) * total, (total,)
        mean = self.keep1 * memory[0] + self.fresh1 * gradient
        square = self.keep2 * memory[1] + self.fresh2 * (gradient * gradient)
        unbias = self._column(factor / (1 - values["beta1"] ** t))
        return W - self.rates * unbias * mean / self.scale(t, square), (mean, square)

    def scale(self, t: int, square: torch.Tensor) -> torch.Tensor:
        """What Adam divides its steps by after step t: √(mean of g², unbiased) + eps."""
        return square.sqrt() * self._column(1 / np.sqrt(1 - self.values["beta2"] ** t)) + self.eps

    def warmed(self, t: int | np.ndarray) -> np.ndarray:
        """Share of its learning rate that each member has reached at step t, or at steps (step, 1)."""
        warmup = self.values["warmup"]
        with np.errstate(divide="ignore"):
            return np.where(warmup > 0, np.minimum(1, t / warmup), 1.0)

    def _column(self, value: np.ndarray) -> torch.Tensor:
        return torch.tensor(value[:, None]).to(self.rates)
