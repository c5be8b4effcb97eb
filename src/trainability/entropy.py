"""Basin entropy: how uncertain the outcome is in a small box, and a bound that only a fractal boundary breaks."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .boundaries import outcome_codes


@dataclass(frozen=True, kw_only=True, eq=False)
class BasinEntropy:
    """Entropy of outcomes in boxes of a map.

    Attributes
    ----------
    value : float
        Mean Gibbs entropy over all boxes, nats.
    boundary_value : float
        Mean over the boxes with more than one outcome; NaN if there is none.
    is_fractal : bool
        Whether `boundary_value` less two standard errors exceeds log 2. Sufficient and not necessary, and a
        statement about the pixels: noise among more than two outcomes passes it too.
    boundary_stderr : float
    n_boxes, n_boundary : int
    """

    value: float
    boundary_value: float
    is_fractal: bool
    boundary_stderr: float
    n_boxes: int
    n_boundary: int

    def __repr__(self) -> str:
        return (
            f"S_b = {self.value:.3f}, S_bb = {self.boundary_value:.3f} ± {self.boundary_stderr:.3f} nats "
            f"({'above' if self.is_fractal else 'not above'} log 2)"
        )


def basin_entropy(runs: Any, *, size: int = 5) -> BasinEntropy:
    """Measure the basin entropy and the boundary basin entropy of a map or a labelled picture.

    Parameters
    ----------
    runs
        As in `trainability.boundaries`.
    size : int, optional
        Side of a box in pixels; boxes that stick out of the frame or hold an unknown pixel are left out.

    Returns
    -------
    BasinEntropy

    Raises
    ------
    ValueError
        If no whole, known box fits.

    Notes
    -----
    In a box on a smooth boundary, far from points where three meet, two outcomes share it and the mean entropy stays
    below log 2. More than log 2 needs boxes with three outcomes at the boundary everywhere, so the
    boundary is fractal; with two outcomes alone the test never passes. The standard error takes boxes in a row
    of boxes as one: neighbours see one boundary.

    References
    ----------
    Daza, Wagemakers, Georgeot, Guéry-Odelin and Sanjuán, Sci. Rep. 6, 31416 (2016).

    Examples
    --------
    >>> basin_entropy(np.indices((100, 100))[0] < 52)
    S_b = 0.034, S_bb = 0.673 ± 0.000 nats (not above log 2)
    """
    outcome = outcome_codes(runs)
    if size < 2:
        raise ValueError(f"size={size} must be at least 2 pixels")
    rows, columns = (n // size for n in outcome.shape)
    boxes = outcome[: rows * size, : columns * size].reshape(rows, size, columns, size).swapaxes(1, 2)
    whole = (boxes >= 0).all(axis=(2, 3)) if boxes.size else np.zeros((rows, columns), bool)
    if not whole.any():
        raise ValueError(f"runs of shape {outcome.shape} has no known box of {size} × {size} pixels")
    entropy = np.zeros((rows, columns))
    for code in range(outcome.max() + 1):
        share = (boxes == code).mean(axis=(2, 3))
        entropy -= share * np.log(np.where(share > 0, share, 1))
    mixed = whole & (entropy > 0)
    n = mixed.sum(axis=1).astype(float)
    mean, error = np.nan, np.nan
    if mixed.any():
        mean = entropy[mixed].mean()
        # Ratio estimate over rows of boxes.
        residual = np.where(mixed, entropy, 0).sum(axis=1) - mean * n
        used = max((n > 0).sum(), 2)
        error = np.sqrt(used / (used - 1) * (residual**2).sum()) / n.sum()
    return BasinEntropy(
        value=float(entropy[whole].mean()),
        boundary_value=float(mean),
        is_fractal=bool(mean - 2 * error > np.log(2)),
        boundary_stderr=float(error),
        n_boxes=int(whole.sum()),
        n_boundary=int(mixed.sum()),
    )
