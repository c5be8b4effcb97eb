"""A trainer of a few microseconds, importable by child processes."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np


@dataclass(frozen=True)
class ToyTrainer:
    """Gradient descent on ½ h x², in the time that a test can spare; leaves a file in `folder` for each call."""

    n_steps: int = 20
    seconds: float = 0.0
    lr: float = 0.1
    curvature: float = 1.0
    fail_above: float = np.inf
    folder: str = ""

    hyperparameters: ClassVar = ("lr", "curvature")
    dtype: ClassVar = "float64"
    observables: ClassVar = {
        "final_loss": ("float64", "loss after the last step"),
        "stop_step": ("int32", "step of divergence, -1 if none"),
    }

    def settings(self):
        return {"n_steps": self.n_steps, "lr": self.lr, "curvature": self.curvature}

    def __call__(self, pixels):
        if self.folder:
            (Path(self.folder) / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        time.sleep(self.seconds)
        n = len(next(iter(pixels.values())))
        lr, h = (np.broadcast_to(pixels.get(k, getattr(self, k)), n) for k in self.hyperparameters)
        if (lr > self.fail_above).any():
            raise RuntimeError("out of memory, say")
        x = (1 - lr * h) ** self.n_steps
        return {"final_loss": x**2 * h / 2, "stop_step": np.where(np.abs(1 - lr * h) > 1, 7, -1)}

    def status(self, observables):
        return np.where(observables["stop_step"] >= 0, 2, 1).astype(np.int8)
