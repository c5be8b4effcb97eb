"""The product map against a trained linear transformer."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from .classification import Fate, ellipse_function, fate
from .comparison import Comparison, compare
from .grid import Grid, linear_axis, log_axis
from .prompt import random_prompt
from .reduction import effective_step, reduced_start
from .studies import Study, check_size
from .sweep import STATUS_ATTRS, Status, trainability_map
from .trainers import LinearTransformer

# The prompt and weights of the study: the first seeds whose effective step is positive and whose starting
# weights point far enough along the prompt's direction for the whole ellipse to fit the axes.
PROMPT_SEED, WEIGHT_SEED = 13, 1

# Longer runs given to the pixels on which prediction and training disagree, as a multiple of the steps.
LONGER = 8

# Pixels a side of the main planes, and steps of gradient descent, for each size.
_SIZES = {"quick": (64, 1000), "standard": (256, 2000), "full": (512, 8000)}


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


def product_map_study(
    *,
    size: str = "quick",
    stores: str | Path | None = None,
    workers: int = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> Study:
    """Ask whether theory predicts where a linear transformer trains.

    Parameters
    ----------
    size : "quick", "standard" or "full", optional
    stores, workers, progress
        As in `linear_transformer_study`, whose four planes this is.

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If the size is unknown.

    Examples
    --------
    >>> from trainability import product_map_study
    >>> product_map_study(size="huge")
    Traceback (most recent call last):
        ...
    ValueError: size='huge' is none of quick, standard, full; choose one of them
    """
    check_size(size)
    pixels, n_steps = _SIZES[size]
    panels = linear_transformer_study(
        pixels=pixels, n_steps=n_steps, stores=stores, workers=workers, progress=progress
    )
    return Study(
        name="product-map",
        title="Product map and linear transformer",
        question="Does theory predict where a linear transformer trains, from its prompt and initial weights alone?",
        answer=_answer(panels),
        runs={name: _joined(panel) for name, panel in panels.items()},
        tables={
            "Agreement of predicted and trained maps": _agreement(panels),
            "Distance of the observed boundary from the predicted one, pixels": _distances(panels),
        },
        settings={
            "size": size,
            "pixels": pixels,
            "n_steps": n_steps,
            "prompt_seed": PROMPT_SEED,
            "weight_seed": WEIGHT_SEED,
            "converged": "the mean of the last losses, by the trainer's own rule, fixed before the comparison",
        },
        notes=_disagreements(panels),
    )


def _joined(panel: Panel) -> xr.Dataset:
    """Prediction and observation on the same axes, in one Dataset."""
    predicted = panel.predicted.rename(status="predicted_status")
    return panel.observed.merge(predicted).assign_attrs(panel.observed.attrs | {"title": panel.title})


def _answer(panels: dict[str, Panel]) -> str:
    exact = [panel for panel in panels.values() if panel.resolved is not None]
    worst = min((panel.diverged for panel in exact), key=lambda found: found.agreement)
    low, high = worst.agreement_interval
    rest = panels["all"].diverged
    return (
        f"Where the reduction is exact, bounded or divergent is predicted right on at least {worst.agreement:.2%} of "
        f"the pixels of every plane (95 % interval of that plane {low:.2%} to {high:.2%}), with nothing fitted. "
        f"With every weight trained on one prompt, where it is not exact, {rest.agreement:.1%} agree."
    )


def _agreement(panels: dict[str, Panel]) -> pd.DataFrame:
    rows = []
    for name, panel in panels.items():
        for question, found in (("diverged", panel.diverged), ("converged", panel.converged)):
            low, high = found.agreement_interval
            (both, only_predicted), (only_seen, neither) = found.confusion.values
            rows.append(
                {
                    "plane": f"{name}: {panel.title}",
                    "question": question,
                    "both yes": both,
                    "both no": neither,
                    "predicted only": only_predicted,
                    "seen only": only_seen,
                    "agreement": f"{found.agreement:.2%}",
                    "95 % interval": f"{low:.2%} to {high:.2%}",
                    "balanced accuracy": f"{found.balanced_accuracy:.2%}",
                }
            )
    return pd.DataFrame(rows)


def _distances(panels: dict[str, Panel]) -> pd.DataFrame:
    rows = []
    for name, panel in panels.items():
        if (line := panel.diverged.boundary) is not None:
            largest = (f"{n} {np.abs(o).max():.2g} {line.units[n]}".rstrip() for n, o in line.offsets.items())
            rows.append(
                {
                    "plane": name,
                    "median": f"{line.median:.2f}",
                    "95 %": f"{line.q95:.2f}",
                    "largest": f"{line.max:.2f}",
                    "largest offset along": ", ".join(largest),
                }
            )
    return pd.DataFrame(rows)


def _disagreements(panels: dict[str, Panel]) -> str:
    lines = []
    for name, panel in panels.items():
        wrong = panel.converged.wrong
        count, lost = int(wrong.sum()), int(panel.diverged.wrong.sum())
        if panel.resolved is None:
            lines.append(f"- **{name}**: {lost} + {count} pixels; the reduction does not hold here.")
            continue
        text = f"- **{name}**: {lost} pixels on bounded or diverged, {count} on converged or not."
        if count:
            mu = panel.predicted["mu"].values[wrong.values]
            text += (
                f" Their effective steps lie between {mu.min():.3f} and {mu.max():.3f}. Near μ = 1, and wherever a "
                "run ends near a minimum of sharpness 2/η, convergence is slow, and a finite run does not show it. "
                f"With {LONGER} times as many steps {panel.resolved} of the {count} agree."
            )
        lines.append(text)
    return (
        "Intervals are Wilson's, with the number of pixels divided by a design effect, because neighbouring pixels "
        "err together. Nothing is excluded. An observed boundary is itself known to half a pixel.\n\n"
        + "\n".join(lines)
    )
