"""Finite-time Lyapunov exponents of a transformer's training as observables of a map."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._transformer_probes import mean_growth
from .transformer import Transformer


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformerTangent(Transformer):
    """Trainer whose observable is the finite-time Lyapunov exponent of the training run itself.

    Parameters as for `Transformer`; runs are those of that trainer, in double precision whatever `dtype`.

    Notes
    -----
    `exponent` is the mean growth of a small random change of all initial weights, in nats per step, over `steps`
    steps: all of them, or those before the run diverges. About ten times the cost of training.

    Examples
    --------
    >>> trainer = TransformerTangent.tiny(n_steps=20)
    >>> runs = trainer({"lr": np.array([1e-4, 0.3])})
    >>> (runs["exponent"] > 0.05).tolist(), runs["steps"].tolist()
    ([False, True], [20, 20])
    """

    @property
    def observables(self) -> dict[str, Any]:
        """Name of each observable -> its dtype and what it is."""
        return {
            "exponent": (
                "float64",
                "finite-time Lyapunov exponent of training, nats per step; NaN if lost at once",
            ),
            "steps": ("int32", "steps that the exponent is the mean over"),
        }

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Follow n pixels: hyperparameters (n,) in, observables (n,) out."""
        exponent, steps = mean_growth(self.tangent_growth(pixels))
        return {"exponent": exponent, "steps": steps.astype(np.int32)}

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Diverged where the run ended early, else undecided: convergence is not judged."""
        return np.where(np.asarray(observables["steps"]) < self.n_steps, 2, 3).astype(np.int8)
