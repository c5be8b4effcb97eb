"""A trainer that keeps the trace of each run, importable by child processes."""

from dataclasses import dataclass

import numpy as np

from toy_trainer import ToyTrainer


@dataclass(frozen=True)
class ToyTraces(ToyTrainer):
    """`ToyTrainer` with the first losses over the first of all, five of them."""

    dim: str = "record"

    @property
    def observables(self):
        return {**ToyTrainer.observables, "trace": ("float32", "loss over first loss", (self.dim, 5))}

    def __call__(self, pixels):
        found = super().__call__(pixels)
        n = len(found["final_loss"])
        lr, h = (np.broadcast_to(pixels.get(k, getattr(self, k)), n) for k in self.hyperparameters)
        return {**found, "trace": ((1 - lr * h)[:, None] ** (2 * np.arange(5))).astype(np.float32)}
