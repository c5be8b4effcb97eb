"""Many initializations as one axis of a grid: a trainer that is asked for them by their number."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.stats import qmc

from .initialization import Initialization
from .sweep import Trainer

# Ranges of the four hyperparameters of a sample, and which of them are spread by their logarithm.
RANGES = {
    "alpha_attn": (0.05, 0.9),
    "alpha_mlp": (0.05, 0.9),
    "sigma_attn": (0.3, 6.0),
    "sigma_mlp": (0.5, 10.0),
}
LOGARITHMIC = ("sigma_attn", "sigma_mlp")


@dataclass(frozen=True, kw_only=True, eq=False)
class InitializationSample:
    """Trainer whose axis `initialization` counts the points of a low-discrepancy design.

    The points are those of a scrambled Sobol' sequence over `RANGES`: any first n of them cover the ranges evenly.

    Parameters
    ----------
    trainer : Trainer
        With the hyperparameters alpha_attn, alpha_mlp, sigma_attn and sigma_mlp; its others remain possible axes.
    size : int
        Points, at most 4096.
    seed : int, optional
        Of the scrambling.

    Raises
    ------
    ValueError
        If the size is outside 1 … 4096, or, when called, a number is not that of a point.

    Examples
    --------
    >>> from trainability.trainers import Transformer
    >>> sample = InitializationSample(trainer=Transformer.tiny(), size=4)
    >>> sample.values["alpha_attn"].round(2)
    array([0.4 , 0.61, 0.76, 0.12])
    """

    trainer: Trainer
    size: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise ValueError(f"size={self.size} must lie in [1, 4096]")

    @cached_property
    def values(self) -> dict[str, np.ndarray]:
        """The four hyperparameters of each point, (size,) each."""
        points = qmc.Sobol(len(RANGES), rng=self.seed).random(4096)[: self.size].T
        found = {}
        for (name, (low, high)), share in zip(RANGES.items(), points, strict=True):
            log = name in LOGARITHMIC
            found[name] = low * (high / low) ** share if log else low + (high - low) * share
        return found

    def initializations(self, like: Initialization) -> list[Initialization]:
        """The points as initializations that are in all else like one."""
        return [
            like.with_values(**{name: float(values[i]) for name, values in self.values.items()})
            for i in range(self.size)
        ]

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The trainer's but for those of the design, and the number of the point."""
        return ("initialization", *(name for name in self.trainer.hyperparameters if name not in RANGES))

    @property
    def observables(self) -> Mapping[str, Any]:
        """The trainer's."""
        return self.trainer.observables

    @property
    def dtype(self) -> str:
        """The trainer's."""
        return self.trainer.dtype

    def settings(self) -> dict[str, Any]:
        """The trainer's, and those of the design; not its size, which changes no pixel."""
        own = {name: value for name, value in self.trainer.settings().items() if name not in RANGES}
        return {
            **own,
            "ranges": {name: list(ends) for name, ends in RANGES.items()},
            "design_seed": self.seed,
        }

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Train n pixels."""
        number = np.asarray(pixels.get("initialization", np.zeros(len(next(iter(pixels.values()))))))
        if ((number != np.floor(number)) | (number < 0) | (number >= self.size)).any():
            raise ValueError(f"initialization must be whole numbers from 0 to {self.size - 1}")
        others = {name: values for name, values in pixels.items() if name != "initialization"}
        chosen = {name: values[number.astype(int)] for name, values in self.values.items()}
        return self.trainer({**others, **chosen})

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """The trainer's verdict."""
        return self.trainer.status(observables)
