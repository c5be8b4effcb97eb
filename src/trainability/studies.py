"""Theory against experiment: each study predicts a trainability map, trains it, and compares the two."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from .classification import Fate, ellipse_function, fate
from .comparison import Comparison, compare
from .grid import Grid, linear_axis, log_axis
from .prompt import random_prompt
from .reduction import effective_step, reduced_start
from .sweep import STATUS_ATTRS, Status, trainability_map
from .trainers import LinearTransformer

# The prompt and weights of the study: the first seeds whose effective step is positive and whose starting
# weights point far enough along the prompt's direction for the whole ellipse to fit the axes.
PROMPT_SEED, WEIGHT_SEED = 13, 1

# Longer runs given to the pixels on which prediction and training disagree, as a multiple of the steps.
LONGER = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """One plane of a study: prediction and observation on the same axes.

    Attributes
    ----------
    name, title : str
    trainer : LinearTransformer
    predicted, observed : Dataset
    diverged, converged : Comparison
        The two questions asked.
    resolved : int or None
        Of the pixels wrong on convergence, how many agree after `LONGER` times as many steps;
        None where the reduction is not exact and nothing is expected.
    """

    name: str
    title: str
    trainer: LinearTransformer
    predicted: xr.Dataset
    observed: xr.Dataset
    diverged: Comparison
    converged: Comparison
    resolved: int | None


def predict_linear_transformer(grid: Grid, trainer: LinearTransformer) -> xr.Dataset:
    """Predict the trainability map of a linear transformer from its prompt and initial weights alone.

    Nothing is trained: the exact reduction gives mu, a and b of each pixel, the sign of H and mu give its fate.

    Parameters
    ----------
    grid : Grid
    trainer : LinearTransformer
        Asked only for its prompt and its initial weights.

    Returns
    -------
    Dataset, dims the grid's axes
        `status` (`Status`: converged, diverged, or undecided for bounded and not converging), `mu`, `a`, `b`,
        and `boundary`: negative where bounded, positive where divergent.

    Notes
    -----
    Exact in the modes "blocks" and "pair"; in mode "all" it is what the reduction would say.

    Examples
    --------
    >>> from trainability import trainers
    >>> trainer = trainers.LinearTransformer(random_prompt(12, 4, seed=PROMPT_SEED), seed=WEIGHT_SEED)
    >>> predicted = predict_linear_transformer(Grid(lr=[0.1, 0.3, 1.0]), trainer)
    >>> predicted["status"].values
    array([1, 3, 2], dtype=int8)
    """
    pixels = grid.pixels()
    lr = np.broadcast_to(pixels.get("lr", trainer.lr), math.prod(grid.shape))
    a, b = reduced_start(trainer.prompt, lr, *trainer.initial_weights(pixels))
    mu = effective_step(trainer.prompt, lr)
    fates = fate(mu, a, b)
    known = {Fate.CONVERGES: Status.CONVERGED, Fate.DIVERGES: Status.DIVERGED}
    status = np.select([fates == f for f in known], list(known.values()), Status.UNDECIDED).astype(np.int8)
    # At |mu| = 2 the ellipse closes; beyond, H < 0 is divergent too.
    boundary = np.maximum(ellipse_function(mu, a, b), np.abs(mu) - 2)
    found = {"mu": mu, "a": a, "b": b, "boundary": boundary, "status": status}
    ds = xr.Dataset({n: (tuple(grid), v.reshape(grid.shape)) for n, v in found.items()}, coords=grid.coords())
    ds["status"].attrs = STATUS_ATTRS
    return ds


def linear_transformer_study(
    *,
    pixels: int = 128,
    n_steps: int = 2000,
    stores: str | Path | None = None,
    workers: int = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> dict[str, Panel]:
    """Set the product map's prediction beside trained linear transformers, on four planes.

    "imbalance" and "scale" cross the learning rate with the imbalance and with the size of the initial
    weights, where the reduction is exact; "pair" trains every weight on a sign-symmetrised pair of prompts,
    where it still is; "all" trains every weight on one prompt, where it is not. The last two have half the
    pixels a side.

    Parameters
    ----------
    pixels : int, optional
        Pixels a side; at least 8.
    n_steps : int, optional
        Steps of gradient descent; the pixels that disagree on convergence get eight times as many, afterwards.
    stores : path, optional
        Folder in which the maps are stored; a second call continues or reuses them.
    workers : int, optional
        Processes.
    progress : bool or callable, optional
        As in `trainability_map`.

    Returns
    -------
    dict of str to Panel

    References
    ----------
    arXiv:2605.21292; theory/01 and theory/04.

    Examples
    --------
    >>> panels = linear_transformer_study(pixels=8, n_steps=200)
    >>> bool(panels["imbalance"].diverged.agreement > 0.95)
    True
    """
    prompt = random_prompt(12, 4, seed=PROMPT_SEED)
    base = LinearTransformer(prompt, seed=WEIGHT_SEED, n_steps=n_steps)
    half = pixels // 2

    def imbalance_plane(n: int) -> Grid:
        return Grid(lr=log_axis(0.03, 0.6, n), imbalance=linear_axis(-1, 1, n))

    plans = {
        "imbalance": ("one prompt, two factors", replace(base, init_scale=2.0), imbalance_plane(pixels)),
        "scale": (
            "one prompt, two factors",
            replace(base, imbalance=-0.3),
            Grid(lr=log_axis(0.03, 0.6, pixels), init_scale=log_axis(0.1, 10.0, pixels)),
        ),
        "pair": (
            "pair of prompts, every weight",
            replace(base, init_scale=2.0, mode="pair"),
            imbalance_plane(half),
        ),
        "all": ("one prompt, every weight", replace(base, init_scale=2.0, mode="all"), imbalance_plane(half)),
    }
    panels = {}
    for name, (title, trainer, grid) in plans.items():
        store = Path(stores) / f"{name}.zarr" if stores else None
        predicted = predict_linear_transformer(grid, trainer)
        observed = trainability_map(grid, trainer, store=store, workers=workers, progress=progress)
        converged = compare(predicted, observed, outcome="converged")
        panels[name] = Panel(
            name=name,
            title=title,
            trainer=trainer,
            predicted=predicted,
            observed=observed,
            diverged=compare(predicted, observed, outcome="diverged", score="boundary"),
            converged=converged,
            resolved=None if trainer.mode == "all" else _resolve(grid, trainer, predicted, converged),
        )
    return panels


def _resolve(grid: Grid, trainer: LinearTransformer, predicted: xr.Dataset, found: Comparison) -> int:
    """Train the pixels that are wrong on convergence for longer; count those that then agree."""
    wrong = found.wrong.values.ravel()
    if not wrong.any():
        return 0
    longer = replace(trainer, n_steps=LONGER * trainer.n_steps)
    status = longer.status(longer({name: values[wrong] for name, values in grid.pixels().items()}))
    expected = predicted["status"].values.ravel()[wrong]
    return int(((status == Status.CONVERGED) == (expected == Status.CONVERGED)).sum())
