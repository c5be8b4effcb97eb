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
_CLIP_EPS = 1e-6


class Optimizer:
    """Steps of an ensemble (member, parameter), with its memory.

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
        self.kind, self.values, self.rates, self.step_number = kind, values, rates, 0
        self.decay = self._column(values["weight_decay"])
        self.clip = self._column(np.where(values["clip"] > 0, values["clip"], np.inf))
        self.clips, self.decays = bool(values["clip"].any()), bool(values["weight_decay"].any())
        if kind == "momentum":
            self.memory = torch.zeros_like(rates)
            self.keep = self._column(values["momentum"])
        elif kind != "sgd":
            self.mean, self.square = torch.zeros_like(rates), torch.zeros_like(rates)
            self.keep = self._column(values["beta1"]), self._column(values["beta2"])
            self.fresh = self._column(1 - values["beta1"]), self._column(1 - values["beta2"])
            self.eps = self._column(values["eps"])

    def _column(self, value: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(value[:, None]).to(self.rates)

    def step(self, W: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
        """The parameters after one step; the memory is changed in place."""
        self.step_number += 1
        t, values = self.step_number, self.values
        with np.errstate(divide="ignore"):
            factor = np.where(values["warmup"] > 0, np.minimum(1, t / values["warmup"]), 1.0)
        if self.clips:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            gradient = gradient * (self.clip / (norm + _CLIP_EPS)).clamp(max=1.0)
        if self.decays:
            if self.kind == "adamw":
                W = W * (1 - self.rates * self._column(factor) * self.decay)
            else:
                gradient = gradient + self.decay * W
        if self.kind == "sgd":
            return W - self.rates * self._column(factor) * gradient
        if self.kind == "momentum":
            self.memory.mul_(self.keep).add_(gradient)
            return W - self.rates * self._column(factor) * self.memory
        self.mean.mul_(self.keep[0]).add_(gradient * self.fresh[0])
        self.square.mul_(self.keep[1]).add_(gradient * gradient * self.fresh[1])
        unbias = self._column(factor / (1 - values["beta1"] ** t))
        root = self._column(1 / np.sqrt(1 - values["beta2"] ** t))
        return W - self.rates * unbias * self.mean / (self.square.sqrt() * root + self.eps)
