"""Could the agreement be luck? A null that keeps both maps as they are and moves one against the other."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ._question import ask


@dataclass(frozen=True, kw_only=True, eq=False)
class ShiftNull:
    """Agreement of a prediction with the observed map, moved in every possible way.

    Attributes
    ----------
    agreement : float
        In place.
    null : ndarray, shape of the grid
        Agreement after each shift, wrapped round the edges; entry (0, …, 0) is the one in place.
    p_value : float
        Share of all shifts, the one in place among them, that agree at least as well.
    """

    agreement: float
    null: np.ndarray
    p_value: float

    def __repr__(self) -> str:
        low, high = np.quantile(self.null, (0.025, 0.975))
        return (
            f"{self.agreement:.2%} agree in place; of {self.null.size} shifts {self.p_value:.2%} agree as well "
            f"(95 % of them between {low:.2%} and {high:.2%})"
        )


def shift_null(predicted: xr.Dataset, observed: xr.Dataset, *, outcome: str) -> ShiftNull:
    """Compare the agreement in place with that after every toroidal shift of the observed map.

    Permuting pixels would break up both maps and make any smooth prediction look significant. Shifts keep the
    shares of the outcomes and how pixels hang together, and lose only where things are.

    Parameters
    ----------
    predicted, observed, outcome
        As in `compare`.

    Returns
    -------
    ShiftNull

    Raises
    ------
    ValueError
        As `compare`.

    Notes
    -----
    Every shift is counted, by one correlation in Fourier space. The p-value is exact for maps that are periodic
    and stationary; on others the seam of the wrap makes it approximate.

    References
    ----------
    Upton & Fingleton, Spatial Data Analysis by Example, vol. 1 (Wiley 1985), ch. 3.

    Examples
    --------
    >>> from trainability import Grid, linear_axis
    >>> grid = Grid(x=linear_axis(-1, 1, 32), y=linear_axis(-1, 1, 32))
    >>> flags = {"flag_values": [1, 2], "flag_meanings": "converged diverged"}
    >>> x, y = np.meshgrid(grid["x"], grid["y"], indexing="ij")
    >>> disc = xr.Dataset({"status": (("x", "y"), np.where(np.hypot(x, y) > 0.8, 2, 1), flags)}, coords=grid.coords())
    >>> shift_null(disc, disc, outcome="diverged")
    100.00% agree in place; of 1024 shifts 0.10% agree as well (95 % of them between 20.70% and 84.77%)
    """
    asked = ask(predicted, observed, outcome)

    def transformed(mask: np.ndarray) -> np.ndarray:
        return np.fft.rfftn(mask.astype(float))

    seen, unseen = transformed(asked.known & asked.seen), transformed(asked.known & ~asked.seen)
    product = np.conj(transformed(asked.said)) * seen + np.conj(transformed(~asked.said)) * unseen
    # Whole numbers of pixels; the transform leaves them off by rounding.
    right = np.rint(np.fft.irfftn(product, s=asked.said.shape, axes=range(asked.said.ndim)))
    null = right / asked.known.sum()
    return ShiftNull(agreement=float(null.flat[0]), null=null, p_value=float((right >= right.flat[0]).mean()))
