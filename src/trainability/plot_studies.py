"""Figures of the studies, each drawn from the Datasets of its `Study`."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from . import plot
from .classification import thresholds, transverse_exponent
from .dynamics import orbit_diagram
from .grid import Grid, linear_axis
from .lyapunov import lyapunov_map
from .maps import product_map
from .outcomes import Outcome, basins
from .studies import Study

# Effective steps of the phase portraits: one that converges, one with a 2-cycle, one chaotic.
PORTRAITS = (0.7, 1.15, 1.8)


class Picture(NamedTuple):
    """A figure, the stem of its file, and what a reader should see in it."""

    name: str
    caption: str
    figure: Figure


def product_map_pictures(study: Study) -> list[Picture]:
    """Draw the study of the product map."""
    return [
        Picture(
            "predicted-and-trained",
            f"Left: predicted. Right: trained, {study.settings['n_steps']} steps a run, with the predicted lines on "
            "top.",
            _predicted_and_trained(study.runs),
        ),
        Picture(
            "where-the-reduction-ends",
            "The reduction is exact for two factors on one prompt and for every weight on a sign-symmetrised pair of "
            "prompts. With every weight trained on one prompt more channels are active and the prediction fails, as "
            "theory says it must.",
            _three_ways_to_train(study.runs),
        ),
        Picture(
            "orbit-diagram",
            "Last iterates of a against the effective step, and both Lyapunov exponents, from the start (0.3, 0.31). "
            f"Dashed: the exact thresholds {', '.join(f'{value:.4f}' for value in thresholds().values())}.",
            product_map_diagram(),
        ),
        Picture(
            "phase-portraits",
            "Every start by its outcome. Inside the invariant ellipse orbits stay bounded, outside they diverge; the "
            "ellipse repels with exponents "
            + ", ".join(f"{transverse_exponent(mu):.4f} (μ = {mu})" for mu in PORTRAITS)
            + " nats per step.",
            _portraits(),
        ),
    ]


# By the names in `studies.STUDIES`.
DRAWINGS: dict[str, Callable[[Study], list[Picture]]] = {"product-map": product_map_pictures}


def product_map_diagram(low: float = 0.2, high: float = 2.02, columns: int = 1800) -> Figure:
    """Draw the product map's orbit diagram over mu, with thresholds, and both exponents under it."""
    mu = linear_axis(low, high, columns).values
    start = [0.3, 0.31]
    diagram = orbit_diagram(product_map, "mu", mu, u0=start, n=3000, transient=4000)
    spectrum = lyapunov_map(product_map, {"mu": mu}, u0=start, n=12_800, transient=4000)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 6.5), height_ratios=(2, 1), sharex=True, layout="constrained"
    )
    plot.orbit_diagram(diagram, "a", bounds=(-2.1, 2.1), ax=top)
    plot.mark_thresholds(top)
    top.set_xlabel("")
    plot.exponents(spectrum, labels=(r"largest, $\lambda_1$", r"second, $\lambda_2$"), ax=bottom)
    bottom.set_ylim(-2.5, 1.25)
    bottom.axhline(np.log(3), color="grey", lw=0.7, ls=":")
    bottom.annotate(
        r"$\log 3$", (mu[0], np.log(3)), (3, -2), textcoords="offset points", va="top", color="grey"
    )
    plot.mark_thresholds(bottom, labels=False)
    return figure


def _portraits() -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained", sharey=True)
    # One pixel more along b, so that no centre lies on the saddle's line a = -b, which orbits never meet.
    plane = Grid(a=linear_axis(-3, 3, 360), b=linear_axis(-3, 3, 361))
    for mu, ax in zip(PORTRAITS, axes, strict=True):
        plot.phase_portrait(basins(product_map(mu), plane), mu, ax=ax)
        ax.label_outer()
    shown = (Outcome.CONVERGED, Outcome.CATAPULT, Outcome.CYCLE, Outcome.CHAOTIC, Outcome.DIVERGED)
    lines, _ = axes[0].get_legend_handles_labels()
    figure.legend(
        handles=[*plot.outcome_legend(shown), *lines], loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def _predicted_and_trained(runs: dict[str, xr.Dataset]) -> Figure:
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained", sharex=True)
    for row, key in zip(axes, ("imbalance", "scale"), strict=True):
        plane = runs[key]
        plot.trainability(plane.assign(status=plane["predicted_status"]), predicted=plane, ax=row[0])
        plot.trainability(plane, predicted=plane, ax=row[1])
        row[0].set_title("predicted" if key == "imbalance" else "")
        row[1].set_title("trained, predicted lines on top" if key == "imbalance" else "")
        for ax in row:
            ax.label_outer()
    figure.legend(handles=plot.status_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _three_ways_to_train(runs: dict[str, xr.Dataset]) -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", sharey=True)
    for ax, key in zip(axes, ("imbalance", "pair", "all"), strict=True):
        plane = runs[key]
        plot.trainability(plane, predicted=plane, ax=ax)
        same = ((plane["status"] == 2) == (plane["predicted_status"] == 2)).mean()
        ax.set_title(f"{plane.attrs['title']}\n{float(same):.1%} as predicted", fontsize="medium")
        ax.label_outer()
    figure.legend(handles=plot.status_legend(), loc="outside lower center", ncols=5, frameon=False)
    return figure
