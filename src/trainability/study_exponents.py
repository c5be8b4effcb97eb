"""Two exponents at initialization against the test loss of trained transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from ._study_tables import difference_table
from .claims import Claim, judged
from .initialization_runs import (
    LR,
    OTHER_LRS,
    PLANS,
    Plan,
    capped_losses,
    join_runs,
    measure_first,
    train_all,
)
from .initialization_sample import LOGARITHMIC, RANGES
from .loss_prediction import (
    RESAMPLES,
    Lead,
    Prediction,
    SurfaceMinimum,
    cross_validate,
    lead,
    surface_minimum,
)
from .studies import Study, check_size

PAPER = "arXiv:2403.02579"
COMMAND = "trainability validate --study exponents --size {}"

# "Well predicted" means more than half of the variance, out of sample; "vanishes" means less than one e-fold
# over the whole depth.
WELL, FLAT = 0.5, 1.0


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What the maps of one study say."""

    exponents: Prediction  # of the loss, from both
    others: dict[str, Prediction]
    leads: dict[str, Lead]  # of both exponents over each of the others
    depths: dict[int, Prediction]
    rates: dict[float, Prediction]  # at other learning rates
    best_rate: Prediction
    least: SurfaceMinimum  # in exponents x depth
    ceiling: float  # R² of the mean loss over weights, from pairs of runs that differ in their weights alone
    ceiling_interval: tuple[float, float]


def exponents_study(
    *,
    size: str = "quick",
    stores: str | Path | None = None,
    workers: int = 1,
    progress: Any = False,
) -> Study:
    """Ask whether two exponents at initialization predict how well a transformer learns.

    Transformers over a low-discrepancy design of alpha_attn, alpha_mlp, sigma_attn and sigma_mlp are trained for
    the same number of steps; their test losses are predicted, out of sample, from the angle and the gradient exponent
    alone, from either, and from the four hyperparameters.

    Parameters
    ----------
    size : "quick", "standard" or "full", optional
        40 points and 4 blocks; 320 and 12 (15 minutes of one core); 2048 and 24.
    stores, workers, progress
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
    arXiv:2403.02579; theory/22 (eq:angle), theory/23 (eq:gradient).

    Examples
    --------
    >>> from trainability import exponents_study
    >>> exponents_study(size="huge")
    Traceback (most recent call last):
        ...
    ValueError: size='huge' is none of quick, standard, full; choose one of them
    """
    check_size(size)
    plan = PLANS[size]
    maps = train_all(plan, stores=stores, workers=workers, progress=progress)
    runs = {f"depth-{n}": join_runs(plan, n, maps[f"depth-{n}"]) for n in plan.depths}
    main = runs[f"depth-{plan.depths[-1]}"]
    for lr in OTHER_LRS:
        main[f"test_loss_lr_{lr}"] = maps[f"lr-{lr}"]["test_loss"]
    found = _find(plan, runs, maps)
    measured = measure_first(plan, main)
    main["predicted_loss"] = ("initialization", found.exponents.predicted)
    return Study(
        name="exponents",
        title="Two exponents and trained transformers",
        question="Do the angle and the gradient exponent at initialization predict the test loss after training?",
        answer=_answer(plan, found),
        runs={**runs, "measured": measured, "explained": _explained(found)},
        tables={
            "Test loss predicted out of sample": _table(found),
            "Where the fitted loss is least, exponents x depth": _place_table(found),
            "Measured less predicted exponent, nats per block": difference_table(
                measured, {name: measured[f"predicted_{name}"].values for name in ("angle", "gradient")}
            ),
        },
        claims=_claims(size, plan, found),
        settings=_settings(size, plan),
        notes=_notes(plan, main, found),
    )


def loss_coordinates(exponents: xr.Dataset, depth: int) -> np.ndarray:
    """Both exponents as the fit sees them, (n, 2): asinh of the e-folds that each makes over the whole depth.

    Linear within an e-fold of zero, logarithmic beyond it: once a signal is lost in e^10 it cannot be more lost in
    e^20, and the zero lines, which the claim is about, keep their places.

    Examples
    --------
    >>> ds = xr.Dataset({"angle": ("initialization", [0.0, 0.5]), "gradient": ("initialization", [-0.5, 0.0])})
    >>> loss_coordinates(ds, 10).round(2)
    array([[ 0.  , -2.31],
           [ 2.31,  0.  ]])
    """
    return np.arcsinh(depth * np.column_stack([exponents["angle"], exponents["gradient"]]))


def _find(plan: Plan, runs: dict[str, xr.Dataset], maps: dict[str, xr.Dataset]) -> _Found:
    depth = plan.depths[-1]
    main = runs[f"depth-{depth}"]
    x, losses = loss_coordinates(main, depth), capped_losses(plan, main)
    raw = np.column_stack([np.log(main[name]) if name in LOGARITHMIC else main[name] for name in RANGES])
    both = cross_validate(x, losses)
    others = {
        "angle exponent alone": cross_validate(x[:, 0], losses),
        "gradient exponent alone": cross_validate(x[:, 1], losses),
        "four hyperparameters": cross_validate(raw, losses),
        "alpha_attn alone": cross_validate(raw[:, 0], losses),
        "both exponents, 10 neighbours": cross_validate(x, losses, form="neighbours"),
        "four hyperparameters, 10 neighbours": cross_validate(raw, losses, form="neighbours"),
    }
    rates = {lr: capped_losses(plan, maps[f"lr-{lr}"]) for lr in OTHER_LRS}
    ceiling, ceiling_interval = _ceiling(losses, capped_losses(plan, maps["seed-1"]))
    return _Found(
        exponents=both,
        others=others,
        leads={name: lead(both, other) for name, other in others.items()},
        depths={
            n: cross_validate(
                loss_coordinates(runs[f"depth-{n}"], n), capped_losses(plan, runs[f"depth-{n}"])
            )
            for n in plan.depths
        },
        rates={lr: cross_validate(x, found) for lr, found in rates.items()},
        best_rate=cross_validate(x, np.minimum(losses, np.min(list(rates.values()), axis=0))),
        least=surface_minimum(x, losses),
        ceiling=ceiling,
        ceiling_interval=ceiling_interval,
    )


def _ceiling(losses: np.ndarray, twins: np.ndarray) -> tuple[float, tuple[float, float]]:
    """R² of the mean loss over weights, from the first runs' twins; 95 % interval by bootstrap over pairs."""
    pairs = np.stack([losses[: len(twins)], twins])

    def explained(found: np.ndarray) -> np.ndarray:  # (pair of runs, ..., n)
        return 1 - ((found[1] - found[0]) ** 2).mean(axis=-1) / 2 / found[0].var(axis=-1)

    draws = np.random.default_rng(0).integers(len(twins), size=(RESAMPLES, len(twins)))
    low, high = np.quantile(explained(pairs[:, draws]), (0.025, 0.975))
    return float(explained(pairs)), (float(low), float(high))


def _efolds(least: SurfaceMinimum) -> tuple[np.ndarray, np.ndarray]:
    """Place and interval of the minimum in exponents x depth."""
    return np.sinh(least.place), np.sinh(least.interval)


def _span(interval, form: str = ".2f") -> str:
    low, high = interval
    return f"{low:{form}} to {high:{form}}"


def _answer(plan: Plan, found: _Found) -> str:
    both = found.exponents
    raw, single = found.others["four hyperparameters"], _best_single(found)
    place, interval = _efolds(found.least)
    return (
        f"The two exponents alone predict the test loss of {plan.points} transformers of {plan.depths[-1]} blocks "
        f"with R² {both.r2:.2f} ({_span(both.r2_interval)}) and rank correlation {both.rank:.2f} "
        f"({_span(both.rank_interval)}), out of sample. The better of them alone has "
        f"R² {found.others[single].r2:.2f}, the four hyperparameters by the same form {raw.r2:.2f}, shuffled "
        f"losses at most {both.null_r2:.2f} in 95 of 100 cases. The fitted loss is least where the angle exponent "
        f"times depth is {place[0]:+.2f} "
        f"({_span(interval[0], '+.2f')}) and the gradient exponent times depth {place[1]:+.2f} "
        f"({_span(interval[1], '+.2f')})."
    )


def _best_single(found: _Found) -> str:
    return max(("angle exponent alone", "gradient exponent alone"), key=lambda name: found.others[name].r2)


def _predictions(found: _Found) -> dict[str, Prediction]:
    """Every prediction by what it is made from, that from both exponents first."""
    return {
        "both exponents": found.exponents,
        **found.others,
        **{f"both exponents, {n} blocks": p for n, p in list(found.depths.items())[:-1]},
        **{f"both exponents, learning rate {lr}": p for lr, p in found.rates.items()},
        "both exponents, each point at its best learning rate": found.best_rate,
    }


def _explained(found: _Found) -> xr.Dataset:
    """R² of every prediction with its interval, dim `predictors`."""
    predictions = _predictions(found)
    columns = np.array([(p.r2, *p.r2_interval) for p in predictions.values()]).T
    return xr.Dataset(
        {name: ("predictors", values) for name, values in zip(("r2", "low", "high"), columns, strict=True)},
        coords={"predictors": list(predictions)},
        attrs={"title": "share of the variance of the test loss that is predicted out of sample"},
    )


def _table(found: _Found) -> pd.DataFrame:
    rows = [(name, p, found.leads.get(name)) for name, p in _predictions(found).items()]
    return pd.DataFrame(
        {
            "predicted from": name,
            "R²": f"{p.r2:.3f} ({_span(p.r2_interval, '.3f')})",
            "rank correlation": f"{p.rank:.3f} ({_span(p.rank_interval, '.3f')})",
            "shuffled, 95th percentile of R²": f"{p.null_r2:.3f}",
            "lead of both exponents": f"{ahead.value:+.3f} ({_span(ahead.interval, '+.3f')})"
            if ahead
            else "",
            "lead seen with 80 %": f"{ahead.smallest:.3f}" if ahead else "",
        }
        for name, p, ahead in rows
    )


def _place_table(found: _Found) -> pd.DataFrame:
    place, interval = _efolds(found.least)
    return pd.DataFrame(
        {"exponent": name, "least loss at": f"{place[i]:+.2f}", "95 % interval": _span(interval[i], "+.2f")}
        for i, name in enumerate(("angle", "gradient"))
    )


def _claims(size: str, plan: Plan, found: _Found) -> tuple[Claim, ...]:
    both, single = found.exponents, _best_single(found)
    ahead, raw = found.leads[single], found.leads["four hyperparameters"]
    place, interval = _efolds(found.least)

    def claim(name: str, text: str, measured: str, span, allowed: tuple[float, float]) -> Claim:
        return judged(
            allowed, span, name=name, paper=PAPER, text=text, measured=measured, command=COMMAND.format(size)
        )

    of = f"{plan.points} initializations of {plan.depths[-1]} blocks"
    return (
        claim(
            "exponents-predict-loss",
            "The final test loss is well predicted by the angle and the gradient exponent at initialization.",
            f"R² {both.r2:.2f} out of sample, {of}; well means above {WELL}.",
            both.r2_interval,
            (WELL, 1.0),
        ),
        claim(
            "both-exponents-are-needed",
            "Both exponents together predict the final test loss better than either.",
            f"R² {ahead.value:+.2f} above the {single}, {of}; {ahead.smallest:.2f} would be seen with 80 %.",
            ahead.interval,
            (0.0, np.inf),
        ),
        claim(
            "exponents-hold-what-hyperparameters-say",
            "The two exponents predict the final test loss as well as the four hyperparameters do.",
            f"R² {raw.value:+.2f} above the hyperparameters, {of}; 0.05 less counts as equal, and "
            f"{raw.smallest:.2f} would be seen with 80 %.",
            raw.interval,
            (-0.05, np.inf),
        ),
        *(
            claim(
                f"loss-least-at-vanishing-{name}-exponent",
                f"The final test loss is least where the {name} exponent vanishes.",
                f"Least at {name} exponent x depth {place[i]:+.2f}, {of}; within {FLAT:g} counts as vanishing.",
                interval[i],
                (-FLAT, FLAT),
            )
            for i, name in enumerate(("angle", "gradient"))
        ),
    )


def _settings(size: str, plan: Plan) -> dict[str, Any]:
    return {
        "size": size,
        **{name: list(v) if isinstance(v, tuple) else v for name, v in vars(plan).items()},
        "lr": LR,
        "other_lrs": list(OTHER_LRS),
        "ranges": {name: list(ends) for name, ends in RANGES.items()},
        "coordinates": "asinh(exponent x depth)",
        "form": "quadratic least squares, 10 folds; hyperparameters: alphas and log sigmas",
        "loss": "test loss after the last step, at most that of a guess",
        "well_predicted_above_r2": WELL,
        "vanishing_within_efolds": FLAT,
    }


def _notes(plan: Plan, main: xr.Dataset, found: _Found) -> str:
    best = main["test_loss"].values <= np.quantile(main["test_loss"], 0.1)
    depth = plan.depths[-1]
    angle, gradient = (depth * main[name].values[best] for name in ("angle", "gradient"))
    across = ", ".join(f"{p.r2:.2f} ({_span(p.r2_interval)}) at {n} blocks" for n, p in found.depths.items())
    return (
        f"The tenth of runs with the least loss has angle exponents x depth from {angle.min():+.2f} to "
        f"{angle.max():+.2f} (median {np.median(angle):+.2f}) and gradient exponents x depth from "
        f"{gradient.min():+.2f} to {gradient.max():+.2f} (median {np.median(gradient):+.2f}). The least fitted "
        "loss is sought where there are runs, and there are none much below the line on which both exponents "
        "are equal. Both vanish together only as alpha_attn does; the design ends at alpha_attn = "
        f"{RANGES['alpha_attn'][0]}.\n\nThe luck of the weights leaves room for predictions up to an R² of "
        f"{found.ceiling:.2f} ({_span(found.ceiling_interval)}, {plan.replicates} pairs), which is the most "
        f"that a predictor blind to the weights can reach. R² of both exponents: {across}.\n\nEvery run has "
        f"{plan.n_steps} steps of Adam on a synthetic text. The claim is about trained networks; what is "
        "compared here are equal, short budgets, in which learning fast and learning well are not told apart. "
        f"Widths are {plan.d_model}, and theory's are infinite: exponents are off by the differences in the "
        "table."
    )
