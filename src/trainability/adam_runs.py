"""Runs of the study of Adam: its sizes, the map, sharpness, Lyapunov exponents, and runs followed."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from .adam_stability import adam_sharpness, adam_threshold
from .grid import Axis, Grid, log_axis
from .studies import store_of
from .sweep import trainability_map
from .trainers import Transformer, TransformerTangent

# Fixed before the comparison, as are the sizes below: learning rates of both groups; the convergence rule, a mean
# loss over the last twentieth below half of the first; the small rate.
LOW, HIGH, TAIL, SMALL = 1e-2, 1.0, 0.5, 0.003

# The state whose threshold is the study's prediction and the others it is set beside, with the name of the sharpness.
MAIN = "initialization"
STATES = {"first batch": "sharpness_first_batch", MAIN: "sharpness", "small rates": "sharpness_small_rates"}

# Runs followed are drawn among pixels whose sharpness at initialization over the threshold is in this range.
FOLLOWED, SEED = (0.1, 10.0), 0

# Networks trained and probed together: bounds the memory to about half a gigabyte, and changes no number.
TOGETHER, PROBED = 32, 8


@dataclass(frozen=True)
class Plan:
    pixels: int
    n_steps: int
    every: int  # pixels along an axis from one exponent to the next
    followed: int
    times: int  # steps at which the sharpness of the runs followed is taken
    ratios: int  # of the learning rates, at which the sharpness of a state is taken
    windows: int  # of text, that a Hessian is the mean over: its eigenvalue settles to a few percent at 256


PLANS = {
    "quick": Plan(pixels=12, n_steps=100, every=4, followed=3, times=2, ratios=7, windows=64),
    "standard": Plan(pixels=32, n_steps=150, every=4, followed=12, times=4, ratios=25, windows=256),
    "full": Plan(pixels=128, n_steps=300, every=2, followed=200, times=9, ratios=49, windows=1024),
}


def plane(plan: Plan) -> Grid:
    """Learning rates of the attention and of all else."""
    axis = log_axis(LOW, HIGH, plan.pixels)
    return Grid(lr_attn=axis, lr_rest=axis)


def trainer_of(plan: Plan) -> Transformer:
    """A decoder of two blocks that keeps every loss."""
    return Transformer.tiny(
        n_steps=plan.n_steps, n_records=plan.n_steps, converged_below=TAIL, members=TOGETHER
    )


def train_plane(plan: Plan, stores: str | Path | None, **options: Any) -> xr.Dataset:
    """The map, with the largest loss of each run over its first in the place of its trace, and the sharpness."""
    grid, trainer = plane(plan), trainer_of(plan)
    observed = trainability_map(grid, trainer, store=store_of(stores, "map"), tile=(8, 8), **options)
    largest = observed["trace"].max("record").assign_attrs(long_name="largest loss over the first")
    return observed.drop_vars("trace").assign({"largest_ratio": largest, **_sharpness(plan, grid, trainer)})


def _sharpness(plan: Plan, grid: Grid, trainer: Transformer) -> dict[str, xr.DataArray]:
    """Largest eigenvalue of (D/P)^½ H (D/P)^½ at each pixel, by the names of `STATES`."""
    trainer = replace(trainer, members=PROBED)
    options: dict[str, Any] = {"n_ratios": plan.ratios, "n_windows": plan.windows}
    at = {"first batch": (0.0, 1), MAIN: (0.0, plan.n_steps), "small rates": (SMALL, plan.n_steps)}
    return {
        name: adam_sharpness(grid, trainer, lr=at[state][0], step=at[state][1], **options)
        for state, name in STATES.items()
    }


def take_exponents(plan: Plan, runs: xr.Dataset, stores: str | Path | None, **options: Any) -> xr.Dataset:
    """Every few of the runs, with their finite-time Lyapunov exponents."""
    axis = log_axis(LOW, HIGH, plan.pixels)
    few = Axis(axis.values[:: plan.every], axis.scale)
    trainer = TransformerTangent.tiny(n_steps=plan.n_steps, converged_below=TAIL, members=TOGETHER)
    grid, store = Grid(lr_attn=few, lr_rest=few), store_of(stores, "tangent")
    found = trainability_map(grid, trainer, store=store, tile=(4, 8), **options).drop_vars("status")
    return runs.isel(dict.fromkeys(grid, slice(None, None, plan.every))).merge(found)


def follow(plan: Plan, runs: xr.Dataset) -> xr.Dataset:
    """Sharpness over the threshold along training of a random sample of runs; dims (run, step)."""
    trainer = trainer_of(plan)
    threshold = adam_threshold(trainer.beta1)
    ratio = runs["sharpness"].values / threshold
    near = np.argwhere((ratio > FOLLOWED[0]) & (ratio < FOLLOWED[1]))
    order = np.random.default_rng(SEED).permutation(len(near))
    chosen = near[np.sort(order[: plan.followed])]
    pixels = {name: runs[name].values[chosen[:, k]] for k, name in enumerate(("lr_attn", "lr_rest"))}
    steps = np.unique(np.geomspace(1, plan.n_steps, plan.times).round().astype(int))
    found = replace(trainer, members=PROBED).sharpness(
        pixels, steps=steps.tolist(), preconditioned=True, rates=pixels, n_windows=plan.windows
    )
    return xr.Dataset(
        {
            "ratio": (
                ("run", "step"),
                found.value / threshold,
                {"long_name": "sharpness over the threshold"},
            ),
            "status": ("run", runs["status"].values[tuple(chosen.T)], runs["status"].attrs),
            **{name: ("run", values) for name, values in pixels.items()},
        },
        coords={"step": steps},
        attrs={"title": "sharpness along training"},
    )
