"""What a map stores of each run, from what the kernels keep."""

import numpy as np

from ._readout import (
    CAP,
    CAPPED,
    CAPPED_SINCE,
    FIRST,
    INVERSE_SUM,
    LAST,
    LEAST,
    SUM,
    TAIL,
    TAIL_CAPPED,
    TAIL_SUM,
)

OBSERVABLES = {
    "first_loss": ("float64", "loss before the first step, inf if not finite"),
    "final_loss": ("float64", "last loss, inf if diverged"),
    "min_loss": ("float64", "least loss of the run, inf if none was finite"),
    "tail_ratio": ("float64", "mean of the last 20 v; v = loss / first loss, at most 1e6"),
    "sum_ratio": ("float64", "sum of v over all steps"),
    "sum_inverse_ratio": ("float64", "sum of 1 / v over all steps, inf if a loss was zero"),
    "diverged_step": ("int32", "step from which v is 1e6 to the end, -1 if it is not"),
}


def observables(kept: np.ndarray, *, n_steps: int) -> dict[str, np.ndarray]:
    """Name -> (n,), from the kernels' slots (SLOTS, n)."""
    diverged = kept[CAPPED_SINCE] >= 0
    first = np.where(np.isfinite(kept[FIRST]), kept[FIRST], np.inf)
    return {
        "first_loss": first,
        "final_loss": np.where(diverged, np.inf, kept[LAST]),
        "min_loss": kept[LEAST],
        "tail_ratio": (kept[TAIL_SUM] + CAP * kept[TAIL_CAPPED]) / min(TAIL, n_steps),
        "sum_ratio": kept[SUM] + CAP * kept[CAPPED],
        "sum_inverse_ratio": kept[INVERSE_SUM] + kept[CAPPED] / CAP,
        "diverged_step": kept[CAPPED_SINCE].astype(np.int32),
    }
