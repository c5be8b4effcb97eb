"""Why small networks survive rates beyond linear stability: do their units saturate, and do others survive too?"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ._study_tables import share_of_pixels, with_interval
from ._threshold_maps import threshold_map
from .comparison import compare
from .grid import Grid
from .sharpness import layer_rates, preconditioned_sharpness, training_states
from .studies import store_of
from .sweep import Status, trainability_map
from .trainers import MLP

# A unit of tanh is saturated above this: its slope is then below 2 %.
SATURATED = 0.99

# Activations that are compared; the others do not saturate.
ACTIVATIONS = ("tanh", "relu", "identity")

SEED = 0


def first_layer_unstable(sharpness: xr.DataArray, threshold: float) -> np.ndarray:
    """Input rates at which the sharpness is beyond the threshold even at the least output rate, shape (lr_in,)."""
    return (sharpness.isel(lr_out=0) > threshold).values


def compare_activations(
    grid: Grid, trainer: MLP, threshold: float, stores: str | Path | None, **options: Any
) -> dict[str, xr.Dataset]:
    """Maps of networks that differ in their activation alone, each with `sharpness` and `predicted_status`."""
    found = {}
    for name in ACTIVATIONS:
        twin = replace(trainer, activation=name)
        runs = trainability_map(grid, twin, store=store_of(stores, name), **options)
        sharpness = preconditioned_sharpness(grid, twin)
        predicted = threshold_map(xr.apply_ufunc(np.log10, sharpness / threshold), ("converged", "diverged"))
        found[name] = runs.assign(sharpness=sharpness, predicted_status=predicted["status"]).assign_attrs(
            runs.attrs | {"title": f"the same with {name} units, more coarsely"}
        )
    return found


def diverged_alone(runs: xr.Dataset, threshold: float) -> tuple[float, tuple[float, float]]:
    """Share of runs that diverge among those whose first layer alone is unstable."""
    alone = np.broadcast_to(first_layer_unstable(runs["sharpness"], threshold)[:, None], runs["status"].shape)
    return share_of_pixels(runs["status"].values == Status.DIVERGED, alone)


def activation_table(maps: Mapping[str, xr.Dataset], threshold: float) -> pd.DataFrame:
    """One row for each activation."""
    rows = []
    for name, runs in maps.items():
        found = compare(
            runs[["predicted_status"]].rename(predicted_status="status"), runs, outcome="diverged"
        )
        agreement, alone = (found.agreement, found.agreement_interval), diverged_alone(runs, threshold)
        rows.append(
            {
                "units": name,
                "agreement with the threshold": with_interval(agreement, ".1%"),
                "diverge where the first layer alone is unstable": with_interval(alone, ".1%"),
            }
        )
    return pd.DataFrame(rows)


def saturation_table(runs: xr.Dataset, trainer: MLP, threshold: float, n: int) -> pd.DataFrame:
    """Saturated units and gradients of the first layer along runs that survive, beyond its stability and below.

    Of `n` random survivors with an unstable first layer, and of `n` with a sharpness below the threshold.
    """
    rng = np.random.default_rng(SEED)
    survives = runs["status"].values != Status.DIVERGED
    alone = first_layer_unstable(runs["sharpness"], threshold)[:, None]
    rows = []
    for text, here in (
        ("first layer unstable", survives & alone),
        ("stable", survives & (runs["sharpness"].values < threshold)),
    ):
        pixels = np.argwhere(here)
        if len(pixels) == 0:
            continue
        chosen = pixels[rng.permutation(len(pixels))[:n]]
        at = {name: runs[name].values[chosen[:, axis]] for axis, name in enumerate(("lr_in", "lr_out"))}
        for step, share, gradient in _along(trainer, at, (0, 1, trainer.n_steps - 1)):
            low, median, high = np.quantile(share, (0.25, 0.5, 0.75))
            rows.append(
                {
                    "runs that survive": f"{len(chosen)}, {text}",
                    "after steps": step,
                    "saturated units, median (quartiles)": with_interval((median, (low, high)), ".0%"),
                    "gradient of the first layer, median": f"{np.median(gradient):.2g}",
                }
            )
    return pd.DataFrame(rows)


def _along(trainer: MLP, pixels: Mapping[str, np.ndarray], steps: tuple[int, ...]):
    """Share of saturated units and norm of the gradient of the first layer, (n,) each, after some steps."""
    problem = trainer.draw(trainer.seed)
    for step, weights, G in training_states(trainer, layer_rates(trainer, pixels), steps[-1]):
        if step in steps:
            hidden = np.tanh(problem.scales[0] * problem.x @ weights[0])
            yield step, (abs(hidden) > SATURATED).mean(axis=(1, 2)), np.linalg.norm(G[0], axis=(1, 2))
