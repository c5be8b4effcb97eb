"""Adam against maps of transformers: linear stability, the boundary of trainability, and chaos of training."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ._question import BLOCK, wilson
from ._ranking import Estimate, auc, rank_correlation
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
from .adam_runs import (
    HIGH,
    LOW,
    MAIN,
    PLANS,
    SMALL,
    STATES,
    TAIL,
    Plan,
    follow,
    take_exponents,
    train_plane,
    trainer_of,
)
from .adam_stability import adam_threshold
from .baselines import compare_baselines
from .claims import Claim, judged
from .comparison import Comparison, compare
from .significance import ShiftNull, shift_null
from .studies import Study, check_size
from .sweep import Status

PAPER = "arXiv:2501.04286"
WITH_LITERATURE = f"{PAPER}, with the edge of stability of Adam, arXiv:2207.14484"

# Fixed before the comparison, as are the sizes and rates of `adam_runs`: a loss above 1.1 times the first as the mark
# of instability, the first losses of other batches lying within a few percent; shares that support the claims; the
# range of the sharpness over the threshold that counts as resting there.
ROSE, SHARE, MOST, AT_EDGE = 1.1, 0.95, 0.5, (0.5, 2.0)

# What a number that should tell runs apart is said to be where they are of one kind.
ALIKE = "all alike"


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the maps of one study say."""

    threshold: float
    converged: dict[str, Comparison]  # "does it converge?", by the state of the prediction
    stable: Comparison  # "does the loss stay below its first?"
    chaos: Comparison  # "does it converge?", predicted where the exponent is not positive
    rules: xr.Dataset
    null: ShiftNull
    best: tuple[float, float]  # the threshold fitted, over Adam's, and its agreement
    level: tuple[float, float]  # the exponent fitted, and its agreement
    orders: dict[str, dict[str, Estimate]]


def adam_study(
    *,
    size: str = "quick",
    stores: str | Path | None = None,
    workers: int = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> Study:
    """Ask how much of the boundary of trainability of a small decoder Adam's linear stability explains, and chaos.

    A decoder of two blocks is trained by Adam for each pair of learning rates, of the attention and of all else.
    Predicted is a failure to converge where the largest eigenvalue of (D/P)^½ H (D/P)^½ exceeds Adam's
    threshold, D the learning rates; H and P are those of the initialization, and, beside it, those of the first
    batch alone and those after training at small rates. Of some of the runs the finite-time Lyapunov exponent is
    taken, and of some the sharpness along their own training.

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
    arXiv:2501.04286 for the map; Cohen et al., arXiv:2207.14484, for the threshold.

    Examples
    --------
    >>> from trainability import adam_study
    >>> adam_study(size="huge")
    Traceback (most recent call last):
        ...
    ValueError: size='huge' is none of quick, standard, full; choose one of them
    """
    check_size(size)
    plan = PLANS[size]
    options: dict[str, Any] = {"workers": workers, "progress": progress}
    runs = train_plane(plan, stores, **options)
    chaos = take_exponents(plan, runs, stores, **options)
    followed = follow(plan, runs)
    found = _find(plan, runs, chaos, adam_threshold(trainer_of(plan).beta1))
    converged = {f"threshold, {state}": asked for state, asked in found.converged.items()}
    asked = converged | {f"threshold, {MAIN}, and the loss": found.stable}
    return Study(
        name="adam",
        title="Adam and small transformers",
        question="Where does Adam train a transformer: how much of the boundary is linear stability, how much chaos?",
        answer=_answer(found, runs, chaos),
        runs={
            "map": runs.assign_attrs(title="a decoder of two blocks, trained by Adam"),
            "chaos": chaos.assign_attrs(title="Lyapunov exponents of training, every few pixels"),
            "training": followed,
        },
        tables={
            "Agreement of predicted and trained maps": agreement_table(
                {name: (one,) for name, one in asked.items()} | {"exponent not positive": (found.chaos,)}
            ),
            "Share of each boundary with the other one near it": explained_table(
                asked | {"exponent zero": found.chaos}, "line"
            ),
            "Distance of the observed boundary from the predicted one": distance_table(
                converged | {"exponent zero (wider pixels)": found.chaos}
            ),
            "Trivial rules, cross-validated": baseline_table(found.rules),
            "How well a number orders runs": _orders_table(found.orders),
            "Outcome by sharpness at initialization": _by_sharpness(runs, found.threshold),
            "Sharpness along training": _along(followed),
        },
        claims=_claims(found, runs, followed, f"trainability validate --study adam --size {size}"),
        settings=_settings(size, plan, found),
        notes=_notes(found),
    )


def _converged(runs: xr.Dataset) -> np.ndarray:
    return runs["status"].values == Status.CONVERGED


def _find(plan: Plan, runs: xr.Dataset, chaos: xr.Dataset, threshold: float) -> _Found:
    def ask(predicted: xr.Dataset, observed: xr.Dataset, outcome: str = "converged") -> Comparison:
        return compare(predicted, observed, outcome=outcome, score="boundary")

    scores = {state: xr.apply_ufunc(np.log10, runs[name] / threshold) for state, name in STATES.items()}
    predicted = {state: threshold_map(score, ("converged", "not")) for state, score in scores.items()}
    rose = threshold_map(runs["largest_ratio"] - ROSE, ("stable", "unstable"))
    grown = chaos["exponent"].fillna(np.inf).clip(max=float(chaos["exponent"].max()))
    main = predicted[MAIN]
    return _Found(
        threshold=threshold,
        converged={state: ask(one, runs) for state, one in predicted.items()},
        stable=ask(threshold_map(scores[MAIN], ("stable", "unstable")), rose, "stable"),
        chaos=ask(threshold_map(grown, ("converged", "not")), chaos),
        rules=compare_baselines(main, runs, outcome="converged"),
        null=shift_null(main, runs, outcome="converged"),
        best=best_threshold(runs["sharpness"].values / threshold, ~_converged(runs)),
        level=best_threshold(grown.values, ~_converged(chaos)),
        orders=_orders(plan, chaos, grown),
    )


def _orders(plan: Plan, chaos: xr.Dataset, grown: xr.DataArray) -> dict[str, dict[str, Estimate]]:
    """How well each number tells runs that do not converge, on the pixels that have an exponent."""
    shape, lost = grown.shape, ~_converged(chaos)
    side = max(BLOCK // plan.every, 1)  # as many decades as elsewhere
    tail = chaos["tail_ratio"].values
    numbers = {
        **{f"sharpness, {state}": chaos[name].values for state, name in STATES.items()},
        "Lyapunov exponent": grown.values,
        "lr_attn alone": np.broadcast_to(chaos["lr_attn"].values[:, None], shape),
        "lr_rest alone": np.broadcast_to(chaos["lr_rest"].values[None], shape),
    }
    return {
        name: {
            "auc": auc(values, lost, side),
            "with the loss": rank_correlation(values, tail, side),
            "with the exponent": rank_correlation(values, grown.values, side),
        }
        for name, values in numbers.items()
    }


def _orders_table(orders: dict[str, dict[str, Estimate]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "number": name,
            "area under the ROC curve, not converged": with_interval(found["auc"], missing=ALIKE),
            "rank correlation with the loss at the end": with_interval(found["with the loss"], missing=ALIKE),
            "with the exponent": with_interval(found["with the exponent"], missing=ALIKE),
        }
        for name, found in orders.items()
    )


def _by_sharpness(runs: xr.Dataset, threshold: float) -> pd.DataFrame:
    ratio, rose = runs["sharpness"].values / threshold, runs["largest_ratio"].values > ROSE
    rows = []
    for low, high in ((0, 0.25), (0.25, 0.5), (0.5, 1), (1, 2), (2, 4), (4, np.inf)):
        here = (ratio > low) & (ratio <= high)
        if here.any():
            converged, up = share_of_pixels(_converged(runs), here), share_of_pixels(rose, here)
            rows.append(
                {
                    "sharpness over the threshold": f"{low:g} to {high:g}",
                    "runs": int(here.sum()),
                    "converged": with_interval(converged, ".1%"),
                    f"loss above {ROSE:g} times the first": with_interval(up, ".1%"),
                }
            )
    return pd.DataFrame(rows)


def _along(followed: xr.Dataset) -> pd.DataFrame:
    rows, converged = [], _converged(followed)
    for text, here in (("converged", converged), ("not converged", ~converged)):
        if here.any():
            ratio = followed["ratio"].values[here]
            rows.append(
                {"outcome": text, "runs": int(here.sum())}
                | {
                    f"after {step} steps": _median(ratio[:, k])
                    for k, step in enumerate(followed["step"].values)
                }
            )
    return pd.DataFrame(rows)


def _median(ratio: np.ndarray) -> str:
    """Median of the runs that have not diverged, whose sharpness is a number."""
    known = ratio[~np.isnan(ratio)]
    return f"{np.median(known):.3g}" if len(known) else "all diverged"


def _answer(found: _Found, runs: xr.Dataset, chaos: xr.Dataset) -> str:
    main = found.converged[MAIN]
    low, high = main.agreement_interval
    line = ""
    if main.boundary is not None:
        pixel = decades_a_pixel(runs["lr_attn"])
        line = (
            f"{explained(main.boundary, pixel)} {near_observed(main.boundary, pixel):.0%} the other way round; the "
            f"median distance is {main.boundary.median * pixel:.2f} decades."
        )
    grown, converged = chaos["exponent"].values, _converged(chaos)
    chaotic = share_of_pixels(grown > 0, converged)
    (best, agreed), (level, told) = found.best, found.level
    aucs = [found.orders[name]["auc"] for name in ("Lyapunov exponent", f"sharpness, {MAIN}")]
    return (
        f"Adam's threshold at initialization, fitted to nothing, agrees with convergence on {main.agreement:.1%} of "
        f"the pixels ({low:.1%} to {high:.1%}); {best_trivial(found.rules)}.{line} Fitted, the best threshold is "
        f"{best:.2g} times Adam's and agrees on {agreed:.1%}. With the sharpness after the first batch the agreement "
        f"is {found.converged['first batch'].agreement:.1%}, with that after training at small rates "
        f"{found.converged['small rates'].agreement:.1%}. "
        + (
            f"Of the runs that converge {with_interval(chaotic, '.0%')} are chaotic: their finite-time Lyapunov "
            "exponent is positive. "
            if converged.any()
            else "No run whose Lyapunov exponent was taken converges. "
        )
        + f"The exponent that tells best which runs converge, fitted, is {level:.2g} nats per step and agrees on "
        f"{told:.1%}. "
        + (
            "All runs with an exponent end alike, so that no number can be said to tell them."
            if np.isnan(aucs[0][0])
            else "The exponent tells runs that do not converge with an area under the ROC curve of "
            f"{with_interval(aucs[0])}, the sharpness at initialization with {with_interval(aucs[1])}."
        )
    )


def _claims(found: _Found, runs: xr.Dataset, followed: xr.Dataset, command: str) -> tuple[Claim, ...]:
    def claim(name, paper, text, told, allowed) -> Claim:
        measured, interval = told
        return judged(
            allowed, interval, name=name, paper=paper, text=text, measured=measured, command=command
        )

    below = runs["sharpness"].values < found.threshold
    return (
        claim(
            "adam-beyond-linear-stability",
            PAPER,
            "The boundary of trainability of a transformer is not where linear stability at initialization ends.",
            _near(found.converged[MAIN]),
            (0.0, SHARE),
        ),
        claim(
            "adam-edge-of-chaos",
            PAPER,
            "The boundary of trainability is an edge of chaos: most of it lies where training turns chaotic.",
            _near(found.chaos),
            (MOST, 1.0),
        ),
        claim(
            "adam-stable-below-threshold",
            WITH_LITERATURE,
            "Below Adam's threshold at initialization training converges.",
            _converging(runs, below),
            (SHARE, 1.0),
        ),
        claim(
            "adam-trains-beyond-threshold",
            WITH_LITERATURE,
            "Adam trains beyond its threshold at initialization, as it adapts its preconditioner.",
            _converging(runs, ~below),
            (1 - SHARE, 1.0),
        ),
        claim(
            "adam-rests-at-threshold",
            WITH_LITERATURE,
            "The preconditioned sharpness of runs that train comes to rest at the threshold (said of large batches).",
            _resting(followed),
            (MOST, 1.0),
        ),
    )


# What was measured, in words, and its interval.
_Told = tuple[str, tuple[float, float]]


def _near(asked: Comparison) -> _Told:
    # Without the predicted line in the window none of the boundary lies near it.
    share, interval = 0.0, (0.0, 0.0)
    if asked.boundary is not None:
        share, interval = near_predicted(asked.boundary, decades_a_pixel(asked.wrong["lr_attn"]))
    return f"{share:.1%} of the boundary within {NEAR:g} decades", interval


def _converging(runs: xr.Dataset, counted: np.ndarray) -> _Told:
    share, interval = share_of_pixels(_converged(runs), counted)
    return f"{share:.1%} of {counted.sum()} runs converge" if counted.any() else "no such pixel", interval


def _resting(followed: xr.Dataset) -> _Told:
    last = followed["ratio"].values[_converged(followed), -1]
    if len(last) == 0:
        return "no run that was followed converges", (0.0, 1.0)
    share = float(((last >= AT_EDGE[0]) & (last <= AT_EDGE[1])).mean())
    text = f"{share:.1%} of {len(last)} runs within a factor of 2 at the end, median {np.median(last):.2g}"
    return text, wilson(share, len(last))


def _settings(size: str, plan: Plan, found: _Found) -> dict[str, Any]:
    return {
        "size": size,
        "pixels": plan.pixels,
        "n_steps": plan.n_steps,
        "learning rates": [LOW, HIGH],
        "threshold": found.threshold,
        "converged": f"mean loss of the last twentieth below {TAIL:g} of the first",
        "loss rose": f"above {ROSE:g} times the first",
        "small rate": SMALL,
        "exponents every": plan.every,
        "followed": plan.followed,
        "ratios of rates": plan.ratios,
        "windows of a Hessian": plan.windows,
        "near, decades": NEAR,
        "supported": {"share": SHARE, "most": MOST, "at the edge": list(AT_EDGE)},
    }


def _notes(found: _Found) -> str:
    main = found.converged[MAIN]
    shift = ""
    if main.boundary is not None:
        finest = ", ".join(
            f"{main.boundary.smallest_shift(name):.2f} along {name}" for name in main.boundary.units
        )
        shift = f" A shift of the boundary by {finest} decades would have shown in four of five such maps."
    return (
        f"{null_and_power(found.null, main)}{shift} Rules and thresholds were fixed before the comparison; the best "
        "threshold is fitted to the map and stands beside them as a measure of what the sharpness could explain. "
        "The threshold is that of a quadratic with Adam's preconditioner frozen and its means unbiased. The first "
        "step is neither: P is then the gradient of one batch, so that weights without a gradient count as "
        "infinitely steep, and the first steps are ten times as long as the means will make them. Training by "
        "batches adds noise, which the Hessian of many windows does not have. Exponents are of a small random "
        "change of all weights over the whole run."
    )
