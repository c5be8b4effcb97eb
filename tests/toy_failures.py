"""Toy trainers that fail or kill their process; importable by child processes."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from toy_trainer import ToyTrainer


def ctrl_c_after(tiles):
    """A `progress` that presses Ctrl-C once so many tiles are done."""

    def report(done, total):
        if done == tiles:
            raise KeyboardInterrupt

    return report


@dataclass(frozen=True)
class DeadlyTrainer(ToyTrainer):
    """Kills the process that trains a certain pixel, and fails a few times at another."""

    deadly: float = np.inf
    marks: str = ""
    failures: int = 0

    def __call__(self, pixels):
        if (pixels["lr"] == self.deadly).any():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.failures:
            marks = Path(self.marks)
            name = f"{float(pixels['lr'][0])!r}-{float(pixels['curvature'][0])!r}"
            if len(list(marks.glob(name + "*"))) < self.failures:
                (marks / f"{name}-{time.monotonic_ns()}").touch()
                raise RuntimeError("not yet")
        return super().__call__(pixels)


@dataclass(frozen=True)
class WrongShape(ToyTrainer):
    def __call__(self, pixels):
        return {name: values[:1] for name, values in super().__call__(pixels).items()}


@dataclass(frozen=True)
class Forgetful(ToyTrainer):
    """Returns one of its two observables, or None."""

    nothing: bool = False

    def __call__(self, pixels):
        return None if self.nothing else {"stop_step": super().__call__(pixels)["stop_step"]}


@dataclass(frozen=True)
class YesOrNo(ToyTrainer):
    """Takes the status for a truth value."""

    def status(self, observables):
        return observables["stop_step"] < 0


@dataclass(frozen=True)
class Fractions(ToyTrainer):
    """Marks with NaN, in whole numbers, what did not diverge."""

    def __call__(self, pixels):
        found = super().__call__(pixels)
        return {**found, "stop_step": np.where(found["stop_step"] < 0, np.nan, found["stop_step"])}
