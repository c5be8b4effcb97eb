"""Sharpness against maps of small networks: how much of the boundary does linear stability explain?"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from ._saturation import (
    SATURATED,
    activation_table,
    compare_activations,
    diverged_alone,
    first_layer_unstable,
    saturation_table,
)
from ._study_tables import (
    agreement_table,
    baseline_table,
    best_trivial,
    distance_table,
    null_and_power,
    share_of_pixels,
    with_interval,
)
from ._threshold_maps import (
    NEAR,
    best_threshold,
    decades_a_pixel,
    explained,
    explained_table,
    near_observed,
    near_predicted,
    threshold_map,
)
from .baselines import compare_baselines
from .claims import Claim, judged
from .comparison import Comparison, compare
from .grid import Grid, log_axis
from .sharpness import preconditioned_sharpness, sharpness_along_training
from .significance import ShiftNull, shift_null
from .studies import Study, check_size, store_of
from .sweep import STATUS_ATTRS, Status, trainability_map
from .trainers import MLP

PAPER = "arXiv:2402.06184"

# Fixed before the comparison. Thresholds on the sharpness at initialization: of linear stability, and the upper end
# of catapults to flatter minima (arXiv:2003.02218). Shares that support the claims. A run at the edge of stability
# swings about 2 by less than a tenth.
STABLE, CATAPULT, SHARE, MOST, EDGE = 2.0, 4.0, 0.95, 0.5, 2.2

# Learning rates of both layers, as published.
LOW, HIGH = 1e-3, 1e6

# Runs followed are drawn among pixels with a sharpness at initialization in this range, both sides of the thresholds.
FOLLOWED, SEED = (0.5, 16.0), 0

# Pixels a side, runs followed, steps at which their sharpness is taken, and pixels a side of the maps by activation.
_SIZES = {"quick": (48, 12, 5, 16), "standard": (256, 100, 9, 64), "full": (1024, 1000, 16, 256)}


def sharpness_study(
    *,
    size: str = "quick",
    stores: str | Path | None = None,
    workers: int = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> Study:
    """Ask how much of the boundary of trainability of a small network the sharpness at initialization explains.

    A tanh network of width 16 is trained by 500 full-batch steps for each pair of learning rates; predicted is
    divergence where the largest eigenvalue of D^½ H D^½ at initialization exceeds 2, D the learning rates. A sample
    of runs is followed to see what the eigenvalue does along training.

    Parameters
    ----------
    size, stores, workers, progress
        As in `product_map_study`.

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If the size is unknown.

    References
    ----------
    arXiv:2402.06184 for the map; Cohen et al., arXiv:2103.00065, for the threshold.

    Examples
    --------
    >>> from trainability import sharpness_study
    >>> sharpness_study(size="huge")
    Traceback (most recent call last):
        ...
    ValueError: size='huge' is none of quick, standard, full; choose one of them
    """
    check_size(size)
    n, n_followed, n_times, n_compared = _SIZES[size]
    trainer = MLP()
    grid = Grid(lr_in=log_axis(LOW, HIGH, n), lr_out=log_axis(LOW, HIGH, n))
    observed = trainability_map(
        grid, trainer, store=store_of(stores, "map"), workers=workers, progress=progress
    )
    sharpness = preconditioned_sharpness(grid, trainer)
    predicted = {
        f"{at:g}": threshold_map(xr.apply_ufunc(np.log10, sharpness / at), ("converged", "diverged"))
        for at in (STABLE, CATAPULT)
    }
    found = {
        name: compare(one, observed, outcome="diverged", score="boundary") for name, one in predicted.items()
    }
    rules = compare_baselines(predicted["2"], observed, outcome="diverged")
    null = shift_null(predicted["2"], observed, outcome="diverged")
    runs = observed.merge(predicted["2"].rename(status="predicted_status")).assign(sharpness=sharpness)
    followed = _follow(trainer, runs, n_followed, n_times)
    best = best_threshold(sharpness.values, _diverged(runs))
    coarse = Grid(lr_in=log_axis(LOW, HIGH, n_compared), lr_out=log_axis(LOW, HIGH, n_compared))
    twins = compare_activations(coarse, trainer, STABLE, stores, workers=workers, progress=progress)
    return Study(
        name="sharpness",
        title="Sharpness and small networks",
        question="How much of the boundary of trainability does the sharpness at initialization explain?",
        answer=_answer(found["2"], rules, runs, best) + _why(twins),
        runs={
            "map": runs.assign_attrs(observed.attrs | {"title": "a tanh network of width 16"}),
            "training": followed,
            **twins,
        },
        tables={
            "Agreement of predicted and trained maps": agreement_table(
                {f"sharpness above {name}": (c,) for name, c in found.items()}
            ),
            "Distance of the observed boundary from the predicted one": distance_table(
                {f"sharpness {name}": c for name, c in found.items()}
            ),
            "Share of each boundary with the other one near it": explained_table(found, "sharpness"),
            "Trivial rules, cross-validated": baseline_table(rules),
            "Outcome by sharpness at initialization": _by_sharpness(runs),
            "Sharpness along training": _along(followed),
            "Networks that differ in their units alone": activation_table(twins, STABLE),
            "Saturation of the units": saturation_table(runs, trainer, STABLE, n_followed),
        },
        claims=_claims(found["2"], runs, f"trainability validate --study sharpness --size {size}"),
        settings={
            "size": size,
            "pixels": n,
            "n_steps": trainer.n_steps,
            "followed": n_followed,
            "pixels by activation": n_compared,
            "saturated, above": SATURATED,
            "thresholds": [STABLE, CATAPULT],
            "near, decades": NEAR,
            "edge of stability": EDGE,
            "supported": {"share": SHARE, "most": MOST},
        },
        notes=_notes(found["2"], null, best),
    )


def _follow(trainer: MLP, runs: xr.Dataset, n: int, n_times: int) -> xr.Dataset:
    """Sharpness along training of a random sample of pixels near the thresholds; dims (run, step)."""
    low, high = FOLLOWED
    near = np.argwhere(((runs["sharpness"] > low) & (runs["sharpness"] < high)).values)
    chosen = near[np.sort(np.random.default_rng(SEED).choice(len(near), min(n, len(near)), replace=False))]
    pixels = {name: runs[name].values[chosen[:, axis]] for axis, name in enumerate(("lr_in", "lr_out"))}
    last = trainer.n_steps - 1
    steps = np.unique(np.concatenate([[0], np.geomspace(1, last, n_times - 1).round().astype(int)]))
    return xr.Dataset(
        {
            "sharpness": (("run", "step"), sharpness_along_training(trainer, pixels, steps.tolist())),
            "status": ("run", runs["status"].values[tuple(chosen.T)], STATUS_ATTRS),
            **{name: ("run", values) for name, values in pixels.items()},
        },
        coords={"step": steps},
        attrs={"title": "sharpness along training"},
    )


def _diverged(runs: xr.Dataset) -> np.ndarray:
    return runs["status"].values == Status.DIVERGED


def _by_sharpness(runs: xr.Dataset) -> pd.DataFrame:
    sharpness, lost = runs["sharpness"].values, _diverged(runs)
    rows = []
    for low, high in ((0, 1), (1, 2), (2, 4), (4, 16), (16, np.inf)):
        here = (sharpness > low) & (sharpness <= high)
        rows.append(
            {
                "sharpness": f"{low:g} to {high:g}",
                "runs": int(here.sum()),
                "not diverged": with_interval(share_of_pixels(~lost, here), ".1%"),
            }
        )
    return pd.DataFrame(rows)


def _along(followed: xr.Dataset) -> pd.DataFrame:
    rows, lost = [], followed["status"].values == Status.DIVERGED
    for text, here in (("not diverged", ~lost), ("diverged", lost)):
        values = followed["sharpness"].values[here]
        if len(values) == 0:
            continue
        finite = np.where(np.isfinite(values), values, -np.inf)
        last = [v[np.isfinite(v)][-1] for v in values]
        rows.append(
            {
                "outcome": text,
                "runs": len(values),
                "at the start, median": f"{np.median(values[:, 0]):.2f}",
                "largest, median": f"{np.median(finite.max(axis=1)):.2f}",
                "last finite, median": f"{np.median(last):.2f}",
                f"last at most {EDGE:g}": f"{np.mean(np.array(last) <= EDGE):.0%}",
            }
        )
    return pd.DataFrame(rows)


def _answer(found: Comparison, rules: xr.Dataset, runs: xr.Dataset, best: tuple[float, float]) -> str:
    line, pixel = found.boundary, decades_a_pixel(runs["lr_in"])
    low, high = found.agreement_interval
    where = ""
    if line is not None:
        where = (
            f"{explained(line, pixel)} and {near_observed(line, pixel):.0%} of the predicted boundary of the "
            "observed one."
        )
    return (
        f"Linear stability at initialization, fitted to nothing, agrees with training on {found.agreement:.1%} "
        f"of the pixels ({low:.1%} to {high:.1%}); {best_trivial(rules)}.{where}"
        f"{_where_it_fails(found, runs)} The best threshold on the sharpness, fitted, is {best[0]:.3g} and agrees "
        f"on {best[1]:.1%}."
    )


def _where_it_fails(found: Comparison, runs: xr.Dataset) -> str:
    """Words for the input rates at which the first layer alone is unstable, whatever the output rate."""
    alone = first_layer_unstable(runs["sharpness"], STABLE)
    wrong = found.wrong.values
    if not alone.any() or not wrong.any():
        return ""
    return (
        f" Of the wrong pixels {wrong[alone].sum() / wrong.sum():.0%} have an input rate of "
        f"{runs['lr_in'].values[alone][0]:.0f} or more, at which the first layer alone is unstable and "
        f"divergence is predicted at every output rate: {_diverged(runs)[alone].mean():.0%} of the runs there "
        f"diverge, and {_diverged(runs)[alone, 0].mean():.0%} of those at the least output rate."
    )


def _why(twins: dict[str, xr.Dataset]) -> str:
    """Words for whether networks whose units do not saturate survive where those of tanh do."""
    said = []
    for name, runs in twins.items():
        said.append(f"{with_interval(diverged_alone(runs, STABLE), '.0%')} with {name} units")
    return f" Where the first layer alone is unstable, {', '.join(said)} diverge: tanh saturates, the others do not."


def _notes(found: Comparison, null: ShiftNull, best: tuple[float, float]) -> str:
    return (
        f"{null_and_power(null, found)} Rules and thresholds were fixed before the comparison; the best threshold is "
        "fitted to the map and stands beside them as a measure of what sharpness could explain. Units of tanh "
        "saturate, which linear stability does not know: one large step of the first layer drives most of them to "
        "where they have no slope and the gradient that would drive them on is gone. That this is why runs survive "
        "large input rates was conjectured from the first map, and tested after it: by the share of saturated units, "
        "and by units that cannot saturate. Runs that end neither below their first loss nor at the cap count as not "
        "diverged."
    )


def _claims(found: Comparison, runs: xr.Dataset, command: str) -> tuple[Claim, ...]:
    sharpness, lost = runs["sharpness"].values, _diverged(runs)
    claims = []

    def add(name, text, what, share, interval, allowed):
        words = {"paper": PAPER, "text": text, "measured": f"{share:.1%} of {what}", "command": command}
        claims.append(judged(allowed, interval, name=name, **words))

    if found.boundary is not None:
        add(
            "beyond-linear-stability",
            "The boundary of trainability is not the smooth line on which linear stability at initialization ends.",
            f"the observed boundary within {NEAR:g} decades of that line",
            *near_predicted(found.boundary, decades_a_pixel(runs["lr_in"])),
            (0.0, SHARE),
        )
    for name, text, counted, allowed in (
        (
            "stable-below-two",
            "Below a sharpness of 2 at initialization training does not diverge.",
            sharpness < STABLE,
            (SHARE, 1.0),
        ),
        (
            "catapult-two-to-four",
            "From 2 to 4 most runs catapult to a flatter minimum and do not diverge.",
            (sharpness > STABLE) & (sharpness < CATAPULT),
            (MOST, 1.0),
        ),
        (
            "trainable-beyond-four",
            "Some networks train at learning rates far beyond linear stability, with a sharpness above 4.",
            sharpness > CATAPULT,
            (1 - SHARE, 1.0),
        ),
    ):
        add(name, text, f"{counted.sum()} runs", *share_of_pixels(~lost, counted), allowed)
    return tuple(claims)
