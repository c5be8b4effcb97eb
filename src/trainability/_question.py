"""A yes-or-no question put to a predicted and an observed map, and intervals that know that pixels err together."""

from dataclasses import dataclass

import numpy as np
import xarray as xr
from scipy import stats

# Neighbouring pixels err together. Agreement is counted by blocks of this many pixels a side, wider than
# the band along a boundary in which predictions fail.
BLOCK = 8

# Resamples of a bootstrap: its 95 % bounds are then known to about a tenth of the interval's width.
RESAMPLES = 999

# Standard errors at which a difference is found in a test of level 5 % with a power of 80 %.
POWER_80 = float(stats.norm.ppf(0.975) + stats.norm.ppf(0.8))

# Observed codes of which nothing is known (`Status.PENDING`, `Status.FAILED`), or nothing was trained
# (`Status.INFERRED`).
_UNKNOWN = (0, 4, 5)


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """Answers of two maps to "is the outcome this one?", arrays of one shape in the predicted map's order.

    `said` by the prediction, `seen` by the observation where `known`; `dims` and `coords` of both.
    """

    said: np.ndarray
    seen: np.ndarray
    known: np.ndarray
    dims: tuple[str, ...]
    coords: dict[str, xr.DataArray]

    @property
    def right(self) -> np.ndarray:
        """Where both say the same."""
        return self.said == self.seen


def ask(predicted: xr.Dataset, observed: xr.Dataset, outcome: str) -> Question:
    """Put the question; raise a `ValueError` if the maps differ in grid or do not know the outcome."""
    dims = tuple(str(name) for name in predicted["status"].dims)
    check_axes(predicted["status"], observed["status"])
    status = observed["status"].transpose(*dims)
    known = known_pixels(status)
    return Question(
        said=predicted["status"].values == outcome_code(predicted["status"], outcome),
        seen=status.values == outcome_code(status, outcome),
        known=known,
        dims=dims,
        coords={name: observed[name] for name in dims},
    )


def check_axes(predicted: xr.DataArray, observed: xr.DataArray) -> None:
    """Raise a `ValueError` unless every axis of the prediction is one of the observation."""
    for name in predicted.dims:
        if name not in observed.dims or not np.array_equal(predicted[name], observed[name]):
            raise ValueError(
                f"axis {name!r} differs between the predicted and the observed map; use one grid for both"
            )


def known_pixels(status: xr.DataArray) -> np.ndarray:
    """Where a status says what a trained run did; raise a `ValueError` if nowhere."""
    known = ~np.isin(status.values, _UNKNOWN)
    if not known.any():
        raise ValueError("the observed map has no finished pixel; nothing can be compared")
    return known


def outcome_code(status: xr.DataArray, outcome: str) -> int:
    """Code of an outcome by its name."""
    meanings = status.attrs["flag_meanings"].split()
    if outcome not in meanings:
        raise ValueError(f"outcome {outcome!r} is unknown; the map has {', '.join(meanings)}")
    return status.attrs["flag_values"][meanings.index(outcome)]


def block_sums(values: np.ndarray, side: int = BLOCK) -> np.ndarray:
    """Sums over blocks of `side` pixels a side, flattened; ragged ones at the end count."""
    kind = int if values.dtype == bool else float
    for axis in range(values.ndim):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], side), axis=axis, dtype=kind)
    return values.ravel()


def share(right: np.ndarray, counted: np.ndarray) -> tuple[float, tuple[float, float], float]:
    """Share of `counted` pixels that are `right`, its 95 % interval, and as how many independent ones they count."""
    n, hits = block_sums(counted), block_sums(counted & right)
    n, hits = n[n > 0], hits[n > 0]
    total, found = n.sum(), hits.sum() / n.sum()
    # Kish: variance of the ratio estimate between blocks, over that of as many independent pixels. Few errors say
    # little of how they cluster; a boundary that is off by a pixel makes at least `BLOCK` of them in a row.
    effect = float(BLOCK)
    if 0 < found < 1 and len(n) > 1:
        between = len(n) / (len(n) - 1) * ((hits - found * n) ** 2).sum() / total**2
        effect = max(between / (found * (1 - found) / total), effect)
    return float(found), wilson(found, total / effect), float(total / effect)


def wilson(found: float, n: float) -> tuple[float, float]:
    """95 % interval of a share found in `n` independent draws."""
    z = stats.norm.ppf(0.975)
    centre = (found + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(found * (1 - found) / n + z**2 / (4 * n**2))
    # At 0 and 1 the bound is the share itself, up to rounding.
    low, high = (found if abs(end - found) < 1e-12 else end for end in (centre - half, centre + half))
    return max(float(low), 0.0), min(float(high), 1.0)


def resampled_counts(n: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of `n` clusters is drawn, shape (RESAMPLES, n)."""
    return rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
