"""The product map against trained linear transformers: full batches, mini-batches, schedules, and exponents."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from ._contract import Status
from ._study_tables import agreement_table, distance_table, share_of_pixels
from .claims import Claim, Verdict
from .classification import thresholds
from .forecasts import ForecastComparison
from .grid import Grid
from .linear_planes import (
    ERRORS,
    LONGER,
    PROMPT_SEED,
    WEIGHT_SEED,
    Panel,
    join_plane,
    order_odds,
    planes,
    run_exponents,
)
from .minibatch import Zone
from .studies import Study, check_size, store_of
from .sweep import trainability_map

PAPER = "arXiv:2605.21292"

# Fixed before the comparison: agreement and shares that support the claims.
AGREEMENT, SHARE = 0.99, 0.95

# Pixels a side of the main planes, steps of a run; pixels a side and steps of the exponents; pixels a side, steps and
# orders of batches of the probabilities.
_SIZES = {
    "quick": (64, 1000, 32, 1640, 24, 300, 40),
    "standard": (256, 2000, 64, 6560, 32, 500, 400),
    "full": (512, 8000, 256, 26_000, 128, 1000, 1000),
}


def product_map_study(
    *,
    size: str = "quick",
    stores: str | Path | None = None,
    workers: int = 1,
    progress: bool | Callable[[int, int], None] = False,
) -> Study:
    """Ask whether theory predicts where, how and how chaotically a linear transformer trains.

    Six planes of training runs cross the learning rate with the imbalance or the size of the initial weights: two
    with two factors trained on one prompt; "pair" trains every weight on a sign-symmetrised pair of prompts, "all"
    every weight on one prompt, where the reduction is not exact; "mini-batch" draws one of four prompts a step;
    "schedule" warms up, holds and decays the learning rate. Two more measure Lyapunov exponents of the training
    itself, and the odds of divergence over orders of batches.

    Parameters
    ----------
    size : "quick", "standard" or "full", optional
    stores : path, optional
        Folder in which the maps are stored; a second call continues or reuses them.
    workers : int, optional
        Processes.
    progress : bool or callable, optional
        As in `trainability_map`.

    Returns
    -------
    Study

    Raises
    ------
    ValueError
        If the size is unknown.

    References
    ----------
    arXiv:2605.21292; theory/01 and theory/04 to theory/07.

    Examples
    --------
    >>> from trainability import product_map_study
    >>> product_map_study(size="huge")
    Traceback (most recent call last):
        ...
    ValueError: size='huge' is none of quick, standard, full; choose one of them
    """
    check_size(size)
    pixels, n_steps, n_exponents, exponent_steps, n_odds, odds_steps, n_orders = _SIZES[size]

    def sweep(name: str, grid: Grid, trainer, tile=None) -> xr.Dataset:
        store = store_of(stores, name)
        return trainability_map(grid, trainer, store=store, tile=tile, workers=workers, progress=progress)

    panels = planes(sweep, pixels, n_steps)
    exponents = run_exponents(sweep, n_exponents, exponent_steps)
    odds, forecast = order_odds(sweep, n_odds, odds_steps, n_orders)
    claims = _claims(
        panels, exponents, forecast, odds, f"trainability validate --study product-map --size {size}"
    )
    return Study(
        name="product-map",
        title="Product map and linear transformer",
        question="Does theory predict where a linear transformer trains, from its prompt and initial weights alone?",
        answer=_answer(panels, exponents, forecast),
        runs={name: join_plane(panel) for name, panel in panels.items()}
        | {"exponents": exponents, "orders": odds},
        tables={
            "Agreement of predicted and trained maps": agreement_table(
                {f"{p.name}: {p.title}": (p.diverged, p.converged) for p in panels.values()}
            ),
            "Distance of the observed boundary from the predicted one": distance_table(
                {p.name: p.diverged for p in panels.values()}
            ),
        },
        claims=claims,
        settings={
            "size": size,
            "pixels": pixels,
            "n_steps": n_steps,
            "exponents": {"pixels": n_exponents, "n_steps": exponent_steps, "standard errors": ERRORS},
            "orders": {"pixels": n_odds, "n_steps": odds_steps, "replicates": n_orders},
            "prompt_seed": PROMPT_SEED,
            "weight_seed": WEIGHT_SEED,
            "converged": "the mean of the last losses, by the trainer's own rule, fixed before the comparison",
            "supported": {"agreement": AGREEMENT, "share": SHARE},
        },
        notes=_disagreements(panels, exponents),
    )


def _answer(panels: dict[str, Panel], exponents: xr.Dataset, forecast: ForecastComparison) -> str:
    worst = min(
        (p for p in panels.values() if p.exact and p.name != "schedule"), key=lambda p: p.diverged.agreement
    )
    low, high = worst.diverged.agreement_interval
    within, (least, most), _ = _within(exponents)
    plane, sure = panels["schedule"], ~panels["schedule"].predicted["delicate"].values
    followed, _ = share_of_pixels(~plane.diverged.wrong.values, sure)
    or_more = "" if worst.diverged.agreement == 1 else "at least "
    return (
        f"With nothing fitted, bounded or divergent is predicted right on {or_more}"
        f"{worst.diverged.agreement:.2%} of the pixels of every plane where the reduction is exact (plane "
        f"{worst.name}, 95 % interval {low:.2%} to {high:.2%}), with full batches and with mini-batches of "
        f"known order. Under a schedule {plane.diverged.agreement:.2%} agree, and {followed:.2%} of the "
        f"{sure.mean():.0%} of the pixels where rounding does not decide. Both Lyapunov exponents of the "
        f"training, measured on the full weight matrices, lie within {ERRORS:g} standard errors of the map's "
        f"on {within:.2%} of the pixels ({least:.2%} to {most:.2%}). Where the order of batches decides, the "
        f"predicted chance of divergence has a Brier score of {forecast.brier:.3f} (skill "
        f"{forecast.skill:.0%}) and is off by {forecast.calibration_error:.3f} on average. With every weight "
        f"trained on one prompt, where the reduction is not exact, {panels['all'].diverged.agreement:.1%} "
        "agree."
    )


def _near(exponents: xr.Dataset) -> np.ndarray:
    """Where both exponents are within `ERRORS` standard errors of the map's."""
    return (exponents["z_1"].values <= ERRORS) & (exponents["z_2"].values <= ERRORS)


def _within(exponents: xr.Dataset) -> tuple[float, tuple[float, float], int]:
    """Share of compared pixels with both exponents near the map's, its interval, their number."""
    counted = exponents["kind"].values == 0
    return (*share_of_pixels(_near(exponents), counted), int(counted.sum()))


def _periods(panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """Where the period of the loss is as the thresholds say, and where they say one: mu up to the four-cycle."""
    mu, limits = panel.predicted["mu"].values, thresholds()
    asked = (panel.predicted["status"].values != Status.DIVERGED) & (mu < limits["four_cycle"])
    return panel.observed["loss_period"].values == np.where(mu <= limits["two_cycle"], 1, 2), asked


def _claims(panels, exponents, forecast, odds, command) -> tuple[Claim, ...]:
    found = []

    def add(name, text, measured, interval, verdict):
        found.append(
            Claim(
                name=name,
                paper=PAPER,
                text=text,
                measured=measured,
                interval=interval,
                verdict=verdict,
                command=command,
            )
        )

    def add_share(name, text, what, share, interval, least):
        add(name, text, f"{share:.2%} of {what}", interval, Verdict.of(interval, (least, 1.0)))

    for key, text in (
        ("imbalance", "Training stays bounded if and only if the start lies inside the invariant ellipse."),
        ("pair", "With a sign-symmetrised pair of prompts the same holds when every weight is trained."),
    ):
        d = panels[key].diverged
        name = {"imbalance": "ellipse-boundary", "pair": "ellipse-boundary-every-weight"}[key]
        add_share(
            name, text, f"{d.confusion.values.sum()} runs", d.agreement, d.agreement_interval, AGREEMENT
        )
    c = panels["imbalance"].converged
    add_share(
        "zero-loss-up-to-one",
        "A bounded run converges to zero loss if and only if the effective step is at most 1.",
        f"{c.confusion.values.sum()} runs",
        c.agreement,
        c.agreement_interval,
        AGREEMENT,
    )
    right, asked = _periods(panels["scale"])
    share, interval = share_of_pixels(right, asked)
    add_share(
        "period-two-beyond-one",
        "Up to the effective step √5 - 1 the loss settles to period 1, then from 1 on to period 2.",
        f"{asked.sum()} bounded runs",
        share,
        interval,
        SHARE,
    )
    share, interval, n = _within(exponents)
    add_share(
        "exponents-of-training",
        "The Lyapunov exponents of training are those of the product map.",
        f"{n} runs, both exponents within {ERRORS:g} standard errors",
        share,
        interval,
        SHARE,
    )
    chaotic = (exponents["kind"] == 0) & (exponents["exponent_1"] > ERRORS * exponents["stderr_1"])
    share, interval = share_of_pixels((exponents["exponent_2"] < 0).values, chaotic.values)
    add_share(
        "balanced-in-chaos",
        "Chaotic training stays near balanced factors: its second, transverse exponent is negative.",
        f"{int(chaotic.sum())} chaotic runs",
        share,
        interval,
        SHARE,
    )
    d = panels["mini-batch"].diverged
    add_share(
        "mini-batch-map",
        "Mini-batch training is the product map driven by its batches.",
        f"{d.confusion.values.sum()} runs",
        d.agreement,
        d.agreement_interval,
        AGREEMENT,
    )
    batch = panels["mini-batch"]
    zone, lost = batch.predicted["zone"].values, (batch.observed["status"] == Status.DIVERGED).values
    broken = int((lost & (zone == Zone.SAFE)).sum() + (~lost & (zone == Zone.LOST)).sum())
    n = int(np.isin(zone, (Zone.SAFE, Zone.LOST)).sum())
    add(
        "mini-batch-zones",
        "Inside the ellipse of the most curved batch no order of batches diverges, outside that of the least "
        "curved all do.",
        f"{broken} of {n} runs against it",
        None,
        Verdict.CONTRADICTED if broken else Verdict.SUPPORTED,
    )
    inside = (odds["boundary"] < 0) & (odds["zone"] == Zone.GREY)
    share = float(odds["share"].where(inside).mean())
    bounds = share_of_pixels((odds["share"] > 0).values, inside.values)
    add(
        "mini-batch-escape-in-training",
        "Atypical batches carry training across the full batch's boundary: some orders diverge from inside it.",
        f"{share:.1%} of the runs from the grey zone inside the full batch's ellipse diverge, at "
        f"{bounds[0]:.1%} of its pixels at least one order",
        bounds[1],
        Verdict.of(bounds[1], (np.nextafter(0, 1), 1.0)),
    )
    skill = forecast.skill_interval
    add(
        "mini-batch-odds",
        "The random product map gives the odds of divergence over orders of batches.",
        f"Brier score {forecast.brier:.4f}, skill {forecast.skill:.1%}, calibration error "
        f"{forecast.calibration_error:.4f} (supported if the error is at most 0.02 and the skill positive)",
        skill,
        Verdict.SUPPORTED if forecast.calibration_error <= 0.02 and skill[0] > 0 else Verdict.INCONCLUSIVE,
    )
    plane = panels["schedule"]
    delicate = plane.predicted["delicate"].values
    share, interval = share_of_pixels(~plane.diverged.wrong.values, ~delicate)
    safe = plane.predicted["boundary"].values < 0
    lost = plane.observed["status"].values == Status.DIVERGED
    add(
        "schedule-inside-peak-ellipse",
        "No schedule diverges from a start inside the ellipse of its peak learning rate.",
        f"{int((lost & safe).sum())} of {int(safe.sum())} runs diverge; outside it {np.mean(~lost[~safe]):.1%} of "
        f"{int((~safe).sum())} survive by the warm-up",
        None,
        Verdict.CONTRADICTED if (lost & safe).any() else Verdict.SUPPORTED,
    )
    add_share(
        "schedule-map",
        "Training under a schedule is the product map driven by it, where rounding does not decide.",
        f"{int((~delicate).sum())} runs; {plane.diverged.agreement:.2%} with {int(delicate.sum())} more, in "
        "which the map comes within rounding of zero loss and leaves it again",
        share,
        interval,
        AGREEMENT,
    )
    d = panels["all"].diverged
    add(
        "reduction-ends",
        "With every weight trained on one prompt the reduction to two factors is not exact.",
        f"{d.agreement:.2%} of {d.confusion.values.sum()} runs agree with it",
        d.agreement_interval,
        Verdict.of(d.agreement_interval, (0.0, AGREEMENT)),
    )
    return tuple(found)


def _disagreements(panels: dict[str, Panel], exponents: xr.Dataset) -> str:
    lines = []
    for name, panel in panels.items():
        wrong = panel.converged.wrong
        count, lost = int(wrong.sum()), int(panel.diverged.wrong.sum())
        if not panel.exact:
            lines.append(f"- **{name}**: {lost} + {count} pixels; the reduction does not hold here.")
            continue
        text = f"- **{name}**: {lost} pixels on bounded or diverged, {count} on converged or not."
        if name == "schedule" and lost:
            delicate = panel.predicted["delicate"].values & panel.diverged.wrong.values
            text += (
                f" On {int(delicate.sum())} of the {lost} the map comes within rounding of zero loss while the "
                "learning rate is small, and leaves it again when the growing rate has made that minimum unstable. "
                "Training in double precision cannot follow it there: it lands on a gradient of exactly 0 and "
                "stays, or leaves too soon."
            )
        if count and panel.resolved is not None:
            mu = panel.predicted["mu"].values[wrong.values]
            text += (
                f" Their effective steps lie between {mu.min():.3f} and {mu.max():.3f}. Near μ = 1, and wherever a "
                "run ends near a minimum of sharpness 2/η, convergence is slow, and a finite run does not show it. "
                f"With {LONGER} times as many steps {panel.resolved} of the {count} agree."
            )
        lines.append(text)
    kind = exponents["kind"].values
    far = (kind == 0) & ~_near(exponents)
    lines.append(
        f"- **exponents**: {int(far.sum())} of {int((kind == 0).sum())} pixels further apart than {ERRORS:g} "
        f"standard errors; {int((kind == 2).sum())} chaotic transients and {int((kind == 1).sum())} divergent runs "
        "are not compared. A chaotic transient is one in which, by the map, a rounding error of 1e-16 grows beyond "
        "1e-3 before the run becomes regular: which minimum it then ends in is not a matter of the start."
    )
    smallest = max(panel.diverged.smallest_disagreement for panel in panels.values() if panel.exact)
    return (
        "Intervals are Wilson's, with the number of pixels divided by a design effect, because neighbouring pixels "
        "err together; those of distances are bootstraps over stretches of the boundary. Nothing is excluded but "
        "what is said here. An observed boundary is itself known to half a pixel. Power: a disagreement on "
        f"{smallest:.2%} of the pixels, clustered as here, would have shown on every plane where the reduction is "
        "exact, with a probability of 95 %."
        "\n\n" + "\n".join(lines)
    )
