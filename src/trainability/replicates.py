"""Replicates of a map: what changes when only what should not matter is changed, seeds, data order, rounding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
import xarray as xr

from ._contract import Status, Trainer, is_trained
from ._question import wilson
from ._rng import stream
from .scores import beside_boundary

# Relative gap at which twins count as parted, and above which growth is no longer that of a small change.
PARTED, SMALL = 1e-3, 1e-2

# Draws of the bootstrap over twins.
BOOTSTRAP = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplicateFlips:
    """How often replicates of one pixel disagree, near the boundary and away from it.

    Attributes
    ----------
    near, away : float
        Chance that two runs of one pixel, the map's own among them, end with unlike status; NaN without pixels.
    near_interval, away_interval : tuple of float
        95 %, Wilson's with each pixel as one observation however many replicates it has: at least as wide as
        is right while pixels are drawn independently.
    status : ndarray of int8, shape (n, 1 + k)
        Of each sampled pixel: in the map, then in each replicate.
    pixels : dict of str to ndarray, shape (n,)
        Their hyperparameters.
    at_boundary : ndarray of bool, shape (n,)
    """

    near: float
    near_interval: tuple[float, float]
    away: float
    away_interval: tuple[float, float]
    status: np.ndarray
    pixels: dict[str, np.ndarray]
    at_boundary: np.ndarray

    def __repr__(self) -> str:
        parts = []
        for where, rate, (low, high) in (
            ("near the boundary", self.near, self.near_interval),
            ("away from it", self.away, self.away_interval),
        ):
            parts.append(f"{rate:.1%} {where} (95 % interval {low:.1%} to {high:.1%})")
        return f"replicates flip {' and '.join(parts)}; {len(self.status)} pixels, {self.status.shape[1]} runs each"


def replicate_flips(
    runs: xr.Dataset, replicates: Sequence[Trainer], *, n_pixels: int = 24, reach: int = 1, seed: int = 0
) -> ReplicateFlips:
    """Train a sample of a map's pixels again with each replicate, and count how often outcomes differ.

    Parameters
    ----------
    runs : Dataset
        A map; pending, failed and inferred pixels are not sampled.
    replicates : sequence of Trainer
        The trainer of the map with what should not matter replaced, as
        `[dataclasses.replace(trainer, order_seed=s) for s in range(1, 9)]`.
    n_pixels : int, optional
        Sampled at most near the boundary, and as many away from it.
    reach : int, optional
        Near is at most so many pixels from a trained one of another status, along each axis.
    seed : int, optional
        Of the sample.

    Returns
    -------
    ReplicateFlips

    Raises
    ------
    ValueError
        If there is no replicate, a count is not positive, or no pixel is trained.

    Examples
    --------
    >>> from trainability import Grid, log_axis, trainability_map, trainers
    >>> trainer = trainers.MLP(width=4, n_steps=30)
    >>> runs = trainability_map(Grid(lr=log_axis(1, 1e4, 24)), trainer)
    >>> replicate_flips(runs, [trainer, trainer]).near
    0.0
    """
    if not replicates:
        raise ValueError("replicates is empty; pass trainers, as [replace(trainer, order_seed=1)]")
    for name, value in (("n_pixels", n_pixels), ("reach", reach)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    status = runs["status"].values
    trained = is_trained(status)
    if not trained.any():
        raise ValueError("runs have no trained pixel; finish the map first")
    edge = beside_boundary(status, known=trained, reach=reach)
    rng = stream(seed, "replicates")
    chosen = []
    for mask in (trained & edge, trained & ~edge):
        places = np.argwhere(mask)
        chosen.append(np.sort(rng.permutation(len(places))[:n_pixels]))
        chosen[-1] = places[chosen[-1]]
    places = np.concatenate(chosen)
    at_boundary = np.arange(len(places)) < len(chosen[0])
    pixels = {
        str(dim): runs[dim].values[places[:, k]].astype(float) for k, dim in enumerate(runs["status"].dims)
    }
    columns = [status[tuple(places.T)], *(trainer.status(trainer(pixels)) for trainer in replicates)]
    found = np.stack(columns, axis=1).astype(np.int8)
    rates = pair_flips(found)
    near, near_interval = rate_of(rates[at_boundary])
    away, away_interval = rate_of(rates[~at_boundary])
    return ReplicateFlips(
        near=near,
        near_interval=near_interval,
        away=away,
        away_interval=away_interval,
        status=found,
        pixels=pixels,
        at_boundary=at_boundary,
    )


def pair_flips(status: np.ndarray) -> np.ndarray:
    """Share of pairs of runs of each pixel that end unlike, from (n, runs)."""
    n = status.shape[1]
    alike = sum(c * (c - 1) for c in ((status == s).sum(axis=1) for s in Status))
    return 1 - alike / (n * (n - 1))


def rate_of(rates: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Mean over pixels and its interval."""
    n = len(rates)
    if not n:
        return np.nan, (np.nan, np.nan)
    mean = float(rates.mean())
    # The bounds at the whole numbers beside the mean contain those at the mean.
    return mean, (wilson(np.floor(mean * n) / n, n)[0], wilson(np.ceil(mean * n) / n, n)[1])


@dataclass(frozen=True, kw_only=True, eq=False)
class TwinGrowth:
    """How fast runs part that differ by rounding alone.

    Attributes
    ----------
    rate : float
        Growth of the gap in nats per step while it is small; NaN where it never grows through that range.
    stderr : float
        From a bootstrap over twins.
    parted : float
        First step at which the median gap is above 1e-3; infinite if none.
    gap : ndarray, shape (N,)
        Median over twins of |a - b| / |a| at each record.
    steps : ndarray, shape (N,)
    """

    rate: float
    stderr: float
    parted: float
    gap: np.ndarray
    steps: np.ndarray

    def __repr__(self) -> str:
        return f"twins part by e^({self.rate:.3g} ± {self.stderr:.2g}) a step, beyond 1e-3 at step {self.parted:g}"


def twin_growth(traces, twins, *, steps=None, floor: float = 1e-6, seed: int = 0) -> TwinGrowth:
    """Measure how fast twins part: runs of one pixel that differ in the order of summation or in precision.

    Parameters
    ----------
    traces, twins : array_like, shape (n, N)
        Losses of n runs and of their twins, at the same N steps.
    steps : array_like, shape (N,), optional
        0, 1, … by default.
    floor : float, optional
        Gap below which rounding of the losses themselves is all there is: some ten units in the last place.
    seed : int, optional
        Of the bootstrap.

    Returns
    -------
    TwinGrowth

    Raises
    ------
    ValueError
        If shapes differ or steps do not increase.

    Notes
    -----
    The rate is the slope of the log of the median gap over the records from the first above `floor` to the last
    before one above 1e-2, where the gap begins to saturate; three records are the least. A gap that grows by chance
    and not in proportion to itself has no rate, though a slope is found: look at `gap`.

    Examples
    --------
    >>> t = np.arange(40)
    >>> loss = np.ones((3, 40))
    >>> found = twin_growth(loss, loss + 1e-7 * np.exp(0.3 * t))
    >>> round(found.rate, 3), found.parted
    (0.3, 31.0)
    """
    a, b = np.asarray(traces, dtype=float), np.asarray(twins, dtype=float)
    if a.ndim != 2 or a.shape != b.shape or not a.size:
        raise ValueError(f"traces and twins have shapes {a.shape} and {b.shape}; both need (n, N)")
    t = np.arange(a.shape[1]) if steps is None else np.asarray(steps, dtype=float)
    if t.shape != a.shape[1:] or (np.diff(t) <= 0).any():
        raise ValueError(f"steps of shape {t.shape} must increase, one for each of {a.shape[1]} records")
    with np.errstate(invalid="ignore", divide="ignore"):
        gaps = np.abs(a - b) / np.abs(a)
    gaps = np.where(np.isnan(gaps), 0.0, gaps)  # both lost, or both zero: no gap
    gap = np.median(gaps, axis=0)
    rng = stream(seed, "twins")
    drawn = [
        _slope(t, np.median(gaps[rng.integers(len(gaps), size=len(gaps))], axis=0), floor)
        for _ in range(BOOTSTRAP)
    ]
    rate = _slope(t, gap, floor)
    parted = gap > PARTED
    return TwinGrowth(
        rate=rate,
        stderr=float(np.nanstd(drawn)) if np.isfinite(rate) else np.nan,
        parted=float(t[parted.argmax()]) if parted.any() else np.inf,
        gap=gap,
        steps=t,
    )


def _slope(t: np.ndarray, gap: np.ndarray, floor: float) -> float:
    """Slope of log gap over the records where it is small and above the floor; NaN with fewer than three."""
    if not (gap > floor).any():
        return np.nan
    start = int((gap > floor).argmax())
    stop = int((gap > SMALL).argmax()) if (gap > SMALL).any() else len(gap)
    if stop - start < 3 or (gap[start:stop] <= 0).any():
        return np.nan
    return float(np.polyfit(t[start:stop], np.log(gap[start:stop]), 1)[0])


@dataclass(frozen=True)
class Scattered:
    """A trainer with a seed of its own at every pixel, drawn from the pixel's coordinates.

    What an experiment does that never seeds its data order or its weights: the map shows luck and hyperparameters
    together. Drawn from coordinates, so that it can still be reproduced and resumed.

    Parameters
    ----------
    trainer : Trainer
    name : str
        The hyperparameter that is scattered, as "order_seed"; no axis any more.
    seed : int, optional
        Another seed scatters otherwise.

    Examples
    --------
    >>> from trainability import trainers
    >>> trainer = Scattered(trainers.MLP(width=4, n_steps=30), "seed")
    >>> "seed" in trainer.hyperparameters, trainer.seeds({"lr": np.array([1.0, 2.0])}).shape
    (False, (2,))
    """

    trainer: Any
    name: str
    seed: int = 0

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Those of the trainer but the scattered one."""
        return tuple(name for name in self.trainer.hyperparameters if name != self.name)

    @property
    def observables(self) -> Mapping[str, tuple]:
        """Those of the trainer."""
        return self.trainer.observables

    @property
    def dtype(self) -> str:
        """That of the trainer."""
        return self.trainer.dtype

    def settings(self) -> dict[str, Any]:
        """Those of the trainer, and what is scattered."""
        return {**self.trainer.settings(), self.name: f"scattered by seed {self.seed}"}

    def seeds(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """The seed of each pixel, shape (n,)."""
        rows = np.stack([np.asarray(pixels[name], dtype=float) for name in sorted(pixels)], axis=1)
        key = f"{self.name} {self.seed}".encode()
        digests = [blake2b(row.tobytes(), digest_size=4, key=key).digest() for row in rows]
        return np.array([int.from_bytes(d, "little") for d in digests], dtype=float)

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Train n pixels."""
        return self.trainer({**pixels, self.name: self.seeds(pixels)})

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """As the trainer has it."""
        return self.trainer.status(observables)
