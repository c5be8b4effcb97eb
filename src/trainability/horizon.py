"""The predictability horizon: the finest step of a hyperparameter that a training run can resolve."""

import warnings
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ._checks import finite, positive, whole
from ._contract import Status
from ._rng import stream
from .grid import Axis, Grid
from .replicates import TwinGrowth, twin_growth
from .scores import CAP
from .sweep import trainability_map

# Share of a run, at its end, that its outcome is the mean over: a twentieth, as in `tail_ratio`.
TAIL = 0.05

# Steps tried by default: from this many times the dtype's epsilon up to this share, each so many times the last.
FINEST, WIDEST, FACTOR = 16, 0.64, 4.0

# Run lengths at which the horizon is told, besides the whole.
LENGTHS = 24

# Draws of the bootstrap.
DRAWS = 200


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictabilityHorizon:
    """The step of a hyperparameter that changes the outcome as much as rounding does; below it outcomes are chance.

    Attributes
    ----------
    axis : str
    step : float
        Relative: h means from x to x eʰ. Infinite if no step tried changes more than rounding does.
    interval : tuple of float
        95 %, from a bootstrap over points and twins.
    n_steps : int
        Length of the runs.
    dtype : str
    growth : TwinGrowth
        How fast the losses of twins part.
    steps, signal : ndarray, shape (k,)
        Relative steps tried, and what each changes in the outcome: root mean square over points of the change of the
        mean over twins, less what chance adds; 0 where chance explains all.
    noise : float
        Standard deviation of the outcome between twins.
    lengths, by_length : ndarray, shape (m,)
        Run lengths, and the horizon of runs that end there.
    """

    axis: str
    step: float
    interval: tuple[float, float]
    n_steps: int
    dtype: str
    growth: TwinGrowth
    steps: np.ndarray
    signal: np.ndarray
    noise: float
    lengths: np.ndarray
    by_length: np.ndarray

    def __repr__(self) -> str:
        low, high = (percent(h) for h in self.interval)
        what = f"no step of {self.axis} up to {percent(self.steps[-1])} is told from rounding"
        if np.isfinite(self.step):
            interval = f"95 % interval {low} to {high}"
            what = f"steps of {self.axis} below {percent(self.step)} ({interval}) drown in rounding"
        return f"{what} after {self.n_steps} steps in {self.dtype}; {self.growth!r}"


def predictability_horizon(
    trainer: Any,
    points: Mapping[str, Any],
    *,
    axis: str,
    twin: str = "rounding_seed",
    twins: int = 8,
    steps=None,
    store: str | Path | None = None,
    workers: int | Executor = 1,
) -> PredictabilityHorizon:
    """Measure the finest step of a hyperparameter that runs of this length resolve in this dtype.

    Around each point, pairs of runs a step apart are trained, each with all rounding twins. A step is resolved if it
    moves the outcome, the mean of the last twentieth of the losses over the first, by at least the standard
    deviation between twins. Where the outcome is s · log x plus rounding noise of standard deviation σ, that step
    is σ / s, and the chance to end below a cut-off rises with log x as a normal distribution function of this width.

    Short runs resolve steps of a few units in the last place: what a step changes and what rounding changes grow
    alike. When rounding twins have parted, `growth.parted`, only steps that move the mean over twins are left, and
    the horizon jumps to percents.

    Parameters
    ----------
    trainer : Trainer
        With a method `trace`, (n, n_steps) losses, and a hyperparameter that changes rounding alone.
    points : mapping of str to float or array_like, shape (m,)
        Where to measure; best on the boundary, where it matters.
    axis : str
        The hyperparameter that is stepped, positive at all points.
    twin : str, optional
        The hyperparameter that numbers the twins 0, 1, …
    twins : int, optional
        At least 3.
    steps : array_like, optional
        Relative steps, increasing. By default from 16 eps of the dtype up to 0.64, each four times the last.
    store : path, optional
        Folder with a store for each point, so that the measurement goes on where it was interrupted.
    workers : int or Executor, optional
        As in `trainability_map`.

    Returns
    -------
    PredictabilityHorizon

    Raises
    ------
    ValueError
        If the axis or the twin is no hyperparameter, a point is not positive, there are fewer than 3 twins, or steps
        do not increase from above 8 eps.

    Notes
    -----
    The step is the noise over the slope of the three finest resolved steps. From one point on a line with Gaussian
    noise the interval covered the truth in 87 to 92 % of 60 draws (8 twins) and 92 to 95 % (16 twins), and spans a
    factor of 1.5 and 1.3. Cost: 2 · twins runs for each point and step.

    Examples
    --------
    >>> from trainability import trainers
    >>> trainer = trainers.Transformer.tiny(n_steps=10)
    >>> found = predictability_horizon(
    ...     trainer, {"lr_attn": 0.05, "lr_rest": 0.02}, axis="lr_attn", twins=3, steps=[1e-4, 1e-2]
    ... )
    >>> found.step < 1e-4  # ten steps forget nothing
    True
    """
    whole(3, twins=twins)
    for name, of in (("axis", axis), ("twin", twin)):
        if of not in trainer.hyperparameters:
            raise ValueError(
                f"{name}={of!r} is no hyperparameter; the trainer has {', '.join(trainer.hyperparameters)}"
            )
    if axis not in points:
        raise ValueError(f"points have {', '.join(points)}; the axis {axis!r} is missing")
    named = {name: np.atleast_1d(finite(name, value)) for name, value in points.items()}
    positive(axis, named[axis])
    steps = _steps(trainer.dtype) if steps is None else np.asarray(steps, dtype=float)
    least = 8 * np.finfo(trainer.dtype).eps
    if steps.ndim != 1 or len(steps) < 2 or not (np.diff(steps) > 0).all() or steps[0] < least:
        raise ValueError(f"steps={steps} must be at least two and increase from above {least:.2g}")
    several = [
        dict(zip(named, values, strict=True))
        for values in zip(*np.broadcast_arrays(*named.values()), strict=True)
    ]
    losses, taken = [], []
    for i, point in enumerate(several):
        traced = Losses(replace(trainer, **{k: float(v) for k, v in point.items() if k != axis}))
        values = stepped(point[axis], steps)
        runs = trainability_map(
            Grid(**{axis: Axis(values, "log"), twin: np.arange(twins)}),
            traced,
            store=None if store is None else Path(store) / f"point-{i}.zarr",
            tile=(2, twins),
            workers=workers,
        )
        found = runs["losses"].values
        losses.append(np.stack([found[: len(steps)][::-1], found[len(steps) :]], axis=1))
        rounded = values.astype(trainer.dtype).astype(float)
        taken.append(np.log(rounded[len(steps) :] / rounded[: len(steps)][::-1]))
    return horizon_of(np.stack(losses), np.stack(taken).mean(axis=0), axis=axis, dtype=trainer.dtype)


def horizon_of(losses: np.ndarray, steps: np.ndarray, *, axis: str, dtype: str) -> PredictabilityHorizon:
    """The horizon from losses of shape (points, steps, 2, twins, n_steps): of both ends of each step."""
    n_steps = losses.shape[-1]
    lengths = np.unique(np.geomspace(min(5, n_steps), n_steps, LENGTHS).round().astype(int))
    with np.errstate(invalid="ignore"):
        v = losses / losses[..., :1]
    v = np.where(np.isfinite(v), np.minimum(v, CAP), CAP)
    outcomes = np.stack([v[..., n - max(1, round(TAIL * n)) : n].mean(axis=-1) for n in lengths])
    floor = float(np.finfo(dtype).eps)
    rng, drawn = stream(0, "horizon"), []
    for _ in range(DRAWS):
        chosen = outcomes[-1][rng.integers(len(losses), size=len(losses))]
        again = rng.integers(chosen.shape[-1], size=chosen.shape)
        drawn.append(_crossing(np.take_along_axis(chosen, again, -1), steps, floor, means_of=2)[0])
    low, high = np.quantile(drawn, (0.025, 0.975), method="nearest")
    step, signal, noise = _crossing(outcomes[-1], steps, floor)
    pairs = losses.reshape(-1, *losses.shape[-2:])  # (points x steps x 2, twins, n_steps)
    half = pairs.shape[1] // 2
    a, b = (pairs[:, k : 2 * half : 2].reshape(-1, n_steps) for k in (0, 1))
    return PredictabilityHorizon(
        axis=axis,
        step=step,
        interval=(float(low), float(high)),
        n_steps=n_steps,
        dtype=dtype,
        growth=twin_growth(a, b, floor=10 * floor),
        steps=steps,
        signal=signal,
        noise=noise,
        lengths=lengths,
        by_length=np.array([_crossing(y, steps, floor)[0] for y in outcomes]),
    )


def _crossing(y: np.ndarray, steps: np.ndarray, floor: float, *, means_of: int = 1):
    """Horizon, signal (k,) and noise from outcomes (points, steps, 2, twins).

    What chance adds to a squared difference of two means over twins is subtracted; in a resample it is there twice.
    """
    twins, finest = y.shape[-1], slice(0, max(1, len(steps) // 2))  # near the point, whose noise is asked for
    noise2 = float(y[:, finest].var(axis=-1, ddof=1).mean())
    change2 = (np.diff(y.mean(axis=-1), axis=-1)[..., 0] ** 2).mean(axis=0) - means_of * 2 * noise2 / twins
    signal = np.sqrt(np.maximum(change2, 0))
    resolved = change2 >= max(noise2, 1e-300)
    if noise2 == 0:
        resolved = change2 > 0
    if not resolved[-1]:
        return np.inf, signal, np.sqrt(noise2)
    first = len(steps) - int((~resolved[::-1]).argmax()) if not resolved.all() else 0
    used = slice(first, first + 3)  # so that a finest step that passes by chance does not make the slope
    slope = np.sqrt(change2[used].sum() / (steps[used] ** 2).sum())
    # Nothing is finer than the numbers themselves.
    return max(float(np.sqrt(noise2) / slope), floor), signal, float(np.sqrt(noise2))


def _steps(dtype: str) -> np.ndarray:
    low = FINEST * float(np.finfo(dtype).eps)
    return np.geomspace(low, WIDEST, 1 + round(np.log(WIDEST / low) / np.log(FACTOR)))


def stepped(x: float, steps: np.ndarray) -> np.ndarray:
    """Both ends of every step around a value, increasing.

    Examples
    --------
    >>> stepped(1.0, np.array([0.01, 0.1]))
    array([0.951229, 0.995012, 1.005013, 1.051271])
    """
    return np.concatenate([x * np.exp(-steps[::-1] / 2), x * np.exp(steps / 2)])


def percent(share: float) -> str:
    """A relative step in words.

    Examples
    --------
    >>> percent(0.0312), percent(2e-7)
    ('3.1 %', '2e-05 %')
    """
    return f"{100 * share:.2g} %"


@dataclass(frozen=True, kw_only=True, eq=False)
class AxisResolution:
    """How far apart the pixels of an axis are, against what tells them apart.

    Attributes
    ----------
    axis : str
    pixel : float
        Least relative step between neighbours; NaN for one pixel, or where a value is not positive.
    pixels, distinct : int
        Values of the axis, and how many of them differ in the trainer's dtype.
    dtype : str
    horizon : PredictabilityHorizon or None
    """

    axis: str
    pixel: float
    pixels: int
    distinct: int
    dtype: str
    horizon: PredictabilityHorizon | None = None

    @property
    def below_horizon(self) -> bool:
        """Whether neighbours are nearer than the lower end of the horizon's interval."""
        return self.horizon is not None and self.pixel < self.horizon.interval[0]

    def __repr__(self) -> str:
        text = f"{self.axis}: {self.pixels} pixels, {self.distinct} distinct in {self.dtype}"
        text += f", {percent(self.pixel)} apart"
        if self.horizon is None:
            return text
        low, high = (percent(h) for h in self.horizon.interval)
        found = f"the horizon is {percent(self.horizon.step)} ({low} to {high})"
        if self.below_horizon:
            found += ": finer than runs can resolve, show probabilities and not outcomes"
        return f"{text}; {found}"


def axis_resolution(
    grid: Grid, dtype: str, *, horizons: Mapping[str, PredictabilityHorizon] | None = None
) -> dict[str, AxisResolution]:
    """Compare the pixels of each axis with the dtype's numbers and with the horizon; warn where they are finer.

    Parameters
    ----------
    grid : Grid
    dtype : str
        Of the trainer.
    horizons : mapping of str to PredictabilityHorizon, optional
        By axis.

    Warns
    -----
    UserWarning
        Where values of an axis coincide in the dtype, or pixels are finer than the horizon.

    Examples
    --------
    >>> from trainability import Grid, log_axis
    >>> axis_resolution(Grid(lr=log_axis(0.01, 1, 32)), "float32")["lr"]
    lr: 32 pixels, 32 distinct in float32, 14 % apart
    >>> grid = Grid(lr=0.025 + 1e-11 * np.arange(150))  # the deepest published zoom
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     axis_resolution(grid, "float32")["lr"].distinct
    2
    """
    found = {}
    for name in grid:
        values = grid[name]
        steps = np.diff(np.log(values)) if (values > 0).all() else np.empty(0)
        found[name] = AxisResolution(
            axis=name,
            pixel=float(steps.min()) if len(steps) else np.nan,
            pixels=len(values),
            distinct=len(np.unique(values.astype(dtype))),
            dtype=dtype,
            horizon=(horizons or {}).get(name),
        )
        if found[name].distinct < len(values) or found[name].below_horizon:
            warnings.warn(repr(found[name]), stacklevel=2)
    return found


@dataclass(frozen=True)
class Losses:
    """A trainer that leaves all losses of a run, in double precision."""

    trainer: Any

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Those of the trainer."""
        return self.trainer.hyperparameters

    @property
    def observables(self) -> dict[str, tuple]:
        """The losses."""
        return {"losses": ("float64", "loss before each step", ("step", self.trainer.n_steps))}

    @property
    def dtype(self) -> str:
        """That of the trainer."""
        return self.trainer.dtype

    def settings(self) -> dict[str, Any]:
        """Those of the trainer."""
        return self.trainer.settings()

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Train n pixels: losses (n, n_steps)."""
        return {"losses": self.trainer.trace(pixels)}

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """No verdict: all converged."""
        return np.full(len(observables["losses"]), Status.CONVERGED, np.int8)
