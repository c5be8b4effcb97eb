"""Planes of linear transformers: predicted from the product map, trained, and compared."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from ._contract import Status
from .comparison import Comparison, compare
from .forecasts import ForecastComparison, compare_forecast
from .grid import Grid, linear_axis, log_axis
from .linear_predictions import (
    LOST,
    escape_probability,
    predict_driven,
    predict_linear_transformer,
    predict_run_exponents,
    relative_curvatures,
)
from .minibatch import batch_means, batch_zone
from .prompt import Prompt, random_prompt
from .trainers import LinearTransformer, LinearTransformerTangent

# The prompt and weights of the study: the first seeds whose effective step is positive and whose starting
# weights point far enough along the prompt's direction for the whole ellipse to fit the axes.
PROMPT_SEED, WEIGHT_SEED = 13, 1

# Prompts of one example for the mini-batches, each fitted by u v = 1: gains as different as two to one.
GAINS = (0.6, 0.8, 1.0, 1.2)

# Shape of the scheduled learning rate: shares of the run spent on the way up, at the peak and on the way down to
# this share of it.
WARMUP, PEAK, LAST = 0.1, 0.4, 0.3

# Longer runs given to the pixels on which prediction and training disagree, as a multiple of the steps.
LONGER = 8

# Standard errors allowed between exponents, and what rounding may add to them.
ERRORS, ROUNDING = 4.0, 1e-9


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One plane: prediction and observation on the same axes.

    Attributes
    ----------
    name, title : str
    trainer : LinearTransformer
    predicted, observed : Dataset
    diverged, converged : Comparison
        The two questions asked.
    exact : bool
        Whether theory says that the reduction holds.
    resolved : int or None
        Of the pixels wrong on convergence, how many agree after `LONGER` times as many steps; None where that was
        not asked.
    """

    name: str
    title: str
    trainer: LinearTransformer
    predicted: xr.Dataset
    observed: xr.Dataset
    diverged: Comparison
    converged: Comparison
    exact: bool = True
    resolved: int | None = None


def join_plane(panel: Panel) -> xr.Dataset:
    """Prediction and observation on the same axes, in one Dataset."""
    predicted = panel.predicted.rename(status="predicted_status")
    return panel.observed.merge(predicted).assign_attrs(panel.observed.attrs | {"title": panel.title})


def planes(sweep: Callable, pixels: int, n_steps: int) -> dict[str, Panel]:
    """Predict, train with `sweep(name, grid, trainer)`, and compare each plane."""
    base = LinearTransformer(random_prompt(12, 4, seed=PROMPT_SEED), seed=WEIGHT_SEED, n_steps=n_steps)
    large = replace(base, init_scale=2.0)

    def imbalances(n: int, low: float = 0.03, high: float = 0.6) -> Grid:
        return Grid(lr=log_axis(low, high, n), imbalance=linear_axis(-1, 1, n))

    scales = Grid(lr=log_axis(0.03, 0.6, pixels), init_scale=log_axis(0.1, 10.0, pixels))
    less, closed = max(pixels // 2, 8), predict_linear_transformer
    two, every = "one prompt, two factors", "every weight"
    plans: dict[str, tuple[str, LinearTransformer, Grid, Callable, bool]] = {
        "imbalance": (two, large, imbalances(pixels), closed, True),
        "scale": (two, replace(base, imbalance=-0.3), scales, closed, True),
        "pair": (f"pair of prompts, {every}", replace(large, mode="pair"), imbalances(less), closed, True),
        "all": (f"one prompt, {every}", replace(large, mode="all"), imbalances(less), closed, False),
        "mini-batch": ("one of four prompts a step", minibatch_trainer(n_steps), imbalances(pixels, 0.05, 1.4),
                       predict_driven, True),
        "schedule": ("warm-up, peak and decay", replace(large, schedule=schedule(n_steps)), scales,
                     predict_driven, True),
    }  # fmt: skip
    return {name: _panel(sweep, name, *plan) for name, plan in plans.items()}


def _panel(sweep, name, title, trainer, grid, predict, exact) -> Panel:
    predicted, observed = predict(grid, trainer), sweep(name, grid, trainer)
    if name == "mini-batch":
        predicted["zone"] = (tuple(grid), _zones(predicted, trainer))
    converged = compare(predicted, observed, outcome="converged")
    known = predict is predict_linear_transformer and exact  # in closed form, for runs of any length
    score = "boundary" if predict is predict_linear_transformer else None
    return Panel(
        name=name,
        title=title,
        trainer=trainer,
        predicted=predicted,
        observed=observed,
        diverged=compare(predicted, observed, outcome="diverged", score=score),
        converged=converged,
        exact=exact,
        resolved=_resolve(grid, trainer, predicted, converged) if known else None,
    )


def minibatch_trainer(n_steps: int, **changes: Any) -> LinearTransformer:
    """Four prompts of one example that u v = 1 fits, one drawn for each step."""
    one = np.ones(1)
    prompts = [Prompt(x=one[:, None], y=one, x_query=gain * one, y_query=gain) for gain in GAINS]
    return LinearTransformer(
        prompts, seed=WEIGHT_SEED, init_scale=2.0, n_steps=n_steps, batch_size=1, **changes
    )


def schedule(n_steps: int) -> tuple[float, ...]:
    """Factors of the learning rate: a linear warm-up, a peak of 1, a linear decay, and the last value held."""
    up, peak = round(WARMUP * n_steps), round(PEAK * n_steps)
    down = (n_steps - up - peak) // 3
    decay = np.linspace(1, LAST, down + 1)[1:]
    held = np.full(n_steps - up - peak - down, LAST)
    return tuple(np.concatenate([np.arange(1, up + 1) / up, np.ones(peak), decay, held]).tolist())


def _zones(predicted: xr.Dataset, trainer: LinearTransformer) -> np.ndarray:
    """`Zone` of each pixel; 0 where the steps are too large for the theorem."""
    kappa = batch_means(relative_curvatures(trainer), trainer.batch_size or len(trainer.prompts))
    mu, a, b = (predicted[name].values for name in ("mu", "a", "b"))
    zones = np.zeros(mu.shape, np.int8)
    valid = kappa.max() * mu < 2
    zones[valid] = batch_zone(mu[valid], a[valid], b[valid], curvature_range=(kappa.min(), kappa.max()))
    return zones


def _resolve(grid: Grid, trainer: LinearTransformer, predicted: xr.Dataset, found: Comparison) -> int:
    """Train the pixels that are wrong on convergence for longer; count those that then agree."""
    wrong = found.wrong.values.ravel()
    if not wrong.any():
        return 0
    longer = replace(trainer, n_steps=LONGER * trainer.n_steps)
    status = longer.status(longer({name: values[wrong] for name, values in grid.pixels().items()}))
    expected = predicted["status"].values.ravel()[wrong]
    return int(((status == Status.CONVERGED) == (expected == Status.CONVERGED)).sum())


def run_exponents(sweep: Callable, n: int, n_steps: int) -> xr.Dataset:
    """Measured and predicted exponents on one plane; `kind` says which pixels are compared.

    0: regular or chaotic, compared; 1: divergent, without exponents; 2: chaotic transient, regular in the end but
    only after rounding errors have grown to where they choose the minimum.
    """
    trainer = LinearTransformerTangent(
        random_prompt(12, 4, seed=PROMPT_SEED),
        seed=WEIGHT_SEED,
        init_scale=0.5,
        n_steps=n_steps,
        transient=n_steps * 3 // 5,
    )
    grid = Grid(lr=log_axis(0.03, 0.43, n), imbalance=linear_axis(-1, 1, n))
    runs = sweep("exponents", grid, trainer).merge(predict_run_exponents(grid, trainer))
    transient = (runs["growth"] > LOST) & (runs["predicted_1"] < ERRORS * runs["predicted_stderr_1"])
    compared = np.isfinite(runs["exponent_1"]) & np.isfinite(runs["predicted_1"])
    runs["kind"] = xr.where(compared, xr.where(transient, 2, 0), 1).astype(np.int8)
    for i in (1, 2):
        error = np.hypot(runs[f"stderr_{i}"], runs[f"predicted_stderr_{i}"])
        away = np.maximum(abs(runs[f"exponent_{i}"] - runs[f"predicted_{i}"]) - ROUNDING, 0)
        runs[f"z_{i}"] = xr.where(away > 0, away / error, 0.0)
    return runs.assign_attrs(title="Lyapunov exponents of training")


def order_odds(sweep: Callable, n: int, n_steps: int, n_orders: int) -> tuple[xr.Dataset, ForecastComparison]:
    """Predicted chance of divergence over orders of batches beside the share seen in `n_orders` of them."""
    grid = Grid(lr=log_axis(0.3, 1.3, n), imbalance=linear_axis(-1, 1, n))
    trainer = minibatch_trainer(n_steps)
    probability = escape_probability(grid, trainer)
    orders = Grid(batch_seed=np.arange(n_orders), **grid.axes)
    status = sweep("orders", orders, trainer, (1, n, n))["status"]
    predicted = predict_linear_transformer(grid, trainer)
    runs = xr.Dataset(
        {
            "probability": probability,
            "share": (status == Status.DIVERGED).mean("batch_seed"),
            "zone": (tuple(grid), _zones(predicted, trainer)),
            "boundary": predicted["boundary"],
        },
        attrs={"title": "odds over orders of batches"},
    )
    observed = xr.Dataset({"status": status})
    return runs, compare_forecast(probability, observed, outcome="diverged", together="replicates")
