"""What a sweep and a trainer agree on: the status of a pixel, and what a trainer can do."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Protocol

import numpy as np

from .grid import Grid


class Status(IntEnum):
    """What became of a pixel; int8 codes in arrays.

    An inferred pixel was not trained: the boundary, as traced, does not come near it. `infer_status` says what
    its neighbours say of it.
    """

    PENDING = 0
    CONVERGED = 1
    DIVERGED = 2
    UNDECIDED = 3
    FAILED = 4
    INFERRED = 5


STATUS_ATTRS = {
    "flag_values": [int(s) for s in Status],
    "flag_meanings": " ".join(s.name.lower() for s in Status),
}


class Trainer(Protocol):
    """What a sweep asks of a trainer: pixels in, raw observables out.

    A trainer is picklable and does not change. A pixel's observables depend on its hyperparameters and on
    `settings` alone, to the last bit, not on the pixels it is trained with.
    """

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names that can be axes."""
        ...

    @property
    def observables(self) -> Mapping[str, tuple]:
        """Name of each observable -> its dtype and what it is; of a vector in each pixel also (dim, size)."""
        ...

    @property
    def dtype(self) -> str:
        """Floating-point type in which the hyperparameters act."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything a pixel depends on besides its hyperparameters, as JSON values."""
        ...

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Train n pixels: hyperparameters (n,) in, each observable (n,) out, or (n, size)."""
        ...

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Verdict on each pixel, from its observables alone: int8 `Status` codes."""
        ...


def is_trained(status) -> np.ndarray:
    """Whether pixels were trained to an outcome: not pending, failed or inferred.

    Examples
    --------
    >>> is_trained([Status.CONVERGED, Status.INFERRED])
    array([ True, False])
    """
    return np.isin(status, (Status.CONVERGED, Status.DIVERGED, Status.UNDECIDED))


def check_axes(grid: Grid, trainer: Trainer) -> None:
    """Raise a `ValueError` for an axis that the trainer does not have, or that is too fine for its dtype."""
    for name in grid:
        if name not in trainer.hyperparameters:
            raise ValueError(
                f"axis {name!r} is not a hyperparameter of {type(trainer).__name__}; "
                f"it has {', '.join(trainer.hyperparameters)}"
            )
    grid.check_resolution(trainer.dtype)
