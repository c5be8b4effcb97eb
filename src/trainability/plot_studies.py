"""Figures of the studies, each drawn from the Datasets of its `Study`."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import plot
from .classification import thresholds
from .dynamics import orbit_diagram
from .ellipse import transverse_exponent
from .grid import Grid, linear_axis
from .lyapunov import lyapunov_map
from .maps import product_map
from .outcomes import Outcome, basins
from .plot_study_adam import adam_map, adam_training
from .plot_study_exponents import explained_variance, loss_over_exponents, measured_against_predicted
from .studies import Study
from .sweep import Status

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
            "driven-maps",
            "Mini-batches and a scheduled learning rate. Left: predicted by the product map driven by the "
            "same batches and the same schedule. Right: trained. Lines: the ellipse of the full batch, and "
            "that of the peak learning rate, inside which no schedule diverges. The specks at the bottom "
            "right are rounding: training lands on exactly zero loss while the rate is small, and stays where "
            "exact arithmetic leaves.",
            _driven_maps(study.runs),
        ),
        Picture(
            "exponents-of-training",
            "Lyapunov exponents measured on the full weight matrices against those of the product map over the same "
            "steps, one point a training run.",
            _exponents(study.runs["exponents"]),
        ),
        Picture(
            "odds-of-divergence",
            "One of four prompts a step: predicted chance of divergence, share of "
            f"{study.settings['orders']['replicates']} orders of batches in which training diverged, and one "
            "against the other. White: the ellipse of the full batch.",
            _odds(study.runs["orders"]),
        ),
        Picture(
            "where-the-reduction-ends",
            "The reduction is exact for two factors on one prompt and for every weight on a sign-symmetrised "
            "pair of prompts. With every weight trained on one prompt more channels are active and the "
            "prediction fails, as theory says it must.",
            _three_ways_to_train(study.runs),
        ),
        Picture(
            "orbit-diagram",
            "Last iterates of a against the effective step, and both Lyapunov exponents, from the start (0.3, "
            "0.31). Dashed: the exact thresholds "
            f"{', '.join(f'{value:.4f}' for value in thresholds().values())}.",
            product_map_diagram(),
        ),
        Picture(
            "phase-portraits",
            "Every start by its outcome. Inside the invariant ellipse orbits stay bounded, outside they "
            "diverge; the ellipse repels with exponents "
            + ", ".join(f"{transverse_exponent(mu):.4f} (μ = {mu})" for mu in PORTRAITS)
            + " nats per step.",
            _portraits(),
        ),
    ]


def exponents_pictures(study: Study) -> list[Picture]:
    """Draw the study of the two exponents."""
    return [
        Picture(
            "loss-over-exponents",
            "Each dot is a network: its test loss after training over its two exponents, predicted at "
            "initialization and times the depth. Black lines: where an exponent vanishes. Between -1 and 1 the "
            "signal changes by less than a factor e through the whole network; beyond, the axes are logarithmic.",
            loss_over_exponents(study),
        ),
        Picture(
            "explained-variance",
            "Left: share of the variance of the test loss that is predicted for runs held out of the fit. Right: "
            "predicted against observed, one dot a network.",
            explained_variance(study),
        ),
        Picture(
            "measured-exponents",
            "Exponents measured on the weights that were trained, against those of infinitely wide networks.",
            measured_against_predicted(study),
        ),
    ]


def sharpness_pictures(study: Study) -> list[Picture]:
    """Draw the study of the sharpness of small networks."""
    return [
        Picture(
            "sharpness-map",
            "Outcome of training for each pair of learning rates. Lines: sharpness at initialization, in the "
            "metric of the learning rates, of 2 (solid, linear stability) and 4 (dashed).",
            _sharpness_map(study.runs["map"]),
        ),
        Picture(
            "sharpness-along-training",
            "Sharpness along a sample of runs that start near the thresholds; a line ends where the run overflows.",
            _sharpness_along(study.runs["training"]),
        ),
    ]


def adam_pictures(study: Study) -> list[Picture]:
    """Draw the study of Adam."""
    return [
        Picture(
            "adam-map",
            "Left: outcome of training for each pair of learning rates, and the lines beyond which linear stability "
            "says that Adam cannot rest, by the state whose sharpness is taken. Right: Lyapunov exponents of every "
            "few of the runs, red where a small change of the weights grows.",
            adam_map(study),
        ),
        Picture(
            "adam-training",
            "Loss at the end of each run (at most 2 is drawn) against its sharpness at initialization and its "
            "exponent; right, the sharpness along a sample of runs, each in the metric of its own rates.",
            adam_training(study),
        ),
    ]


# By the names in `studies.STUDIES`.
DRAWINGS: dict[str, Callable[[Study], list[Picture]]] = {
    "product-map": product_map_pictures,
    "exponents": exponents_pictures,
    "sharpness": sharpness_pictures,
    "adam": adam_pictures,
}


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


def _driven_maps(runs: dict[str, xr.Dataset]) -> Figure:
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained")
    for row, key in zip(axes, ("mini-batch", "schedule"), strict=True):
        plane = runs[key]
        lines = plane[["boundary", "mu"]].assign(mu=plane["mu"] * 0)  # convergence is not decided by mu here
        plot.trainability(plane.assign(status=plane["predicted_status"]), predicted=lines, ax=row[0])
        plot.trainability(plane, predicted=lines, ax=row[1])
        row[0].set_title(f"{plane.attrs['title']}: predicted", fontsize="medium")
        row[1].set_title(f"{plane.attrs['title']}: trained", fontsize="medium")
        row[1].set_ylabel("")
    line = Line2D([], [], color=plot.LINE, lw=1.6, label="invariant ellipse")
    figure.legend(
        handles=[*plot.status_legend(lines=False), line], loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def _exponents(runs: xr.Dataset) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.3), layout="constrained")
    kind = runs["kind"].values
    for i, (ax, label) in enumerate(zip(axes, ("largest", "second"), strict=True), start=1):
        x, y = runs[f"predicted_{i}"].values, runs[f"exponent_{i}"].values
        for code, text, color in ((0, "compared", "C0"), (2, "chaotic transient", "C3")):
            here = kind == code
            ax.plot(x[here], y[here], ".", ms=3, color=color, label=f"{text}, {here.sum()} runs")
        ends = np.nanquantile(x, (0.0, 1.0))
        ax.plot(ends, ends, color="grey", lw=0.8, zorder=0)
        ax.set(xlabel=f"{label} exponent of the map (nats per step)", ylabel="of training", title=label)
    axes[1].set(xlim=(-4, None), ylim=(-4, None))  # the superstable tail goes on without bound
    axes[0].legend(frameon=False, loc="upper left")
    return figure


def _odds(runs: xr.Dataset) -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.9), layout="constrained")
    x, y = runs["share"].dims
    for ax, name, title in zip(axes[:2], ("probability", "share"), ("predicted", "trained"), strict=True):
        shades = ax.pcolormesh(runs[x], runs[y], runs[name].transpose(y, x), vmin=0, vmax=1, cmap="magma")
        ax.contour(runs[x], runs[y], runs["boundary"].transpose(y, x), [0.0], colors="white", linewidths=1.4)
        ax.set(xscale="log", xlabel=plot.name(x), ylabel=plot.name(y), title=title)
        plot.plain_log_ticks(ax)
    figure.colorbar(shades, ax=axes[1], label="chance of divergence")
    axes[2].plot(runs["probability"].values.ravel(), runs["share"].values.ravel(), ".", ms=3)
    axes[2].plot([0, 1], [0, 1], color="grey", lw=0.8)
    axes[2].set(xlabel="predicted chance", ylabel="share of orders that diverged", title="one point a pixel")
    return figure


def _sharpness_map(runs: xr.Dataset) -> Figure:
    figure, ax = plt.subplots(figsize=(6.4, 5.2), layout="constrained")
    plot.trainability(runs, ax=ax)
    x, y = runs["status"].dims
    level = runs["sharpness"].transpose(y, x)
    ax.contour(
        runs[x], runs[y], level, [2.0, 4.0], colors=plot.LINE, linewidths=(1.6, 1.2), linestyles=("-", "--")
    )
    lines = [
        Line2D([], [], color=plot.LINE, lw=1.6, label="sharpness 2 at the start"),
        Line2D([], [], color=plot.LINE, lw=1.2, ls="--", label="sharpness 4"),
    ]
    figure.legend(
        handles=[*plot.status_legend(lines=False), *lines], loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def _sharpness_along(runs: xr.Dataset) -> Figure:
    figure, axes = plt.subplots(1, 2, figsize=(9, 4), layout="constrained", sharey=True)
    lost = (runs["status"] == Status.DIVERGED).values
    for ax, here, title in zip(axes, (~lost, lost), ("not diverged", "diverged"), strict=True):
        for values in runs["sharpness"].values[here]:
            ax.plot(runs["step"] + 1, values, lw=0.8, alpha=0.6, color="C3" if title == "diverged" else "C0")
        ax.axhline(2, color="black", lw=1.2)
        ax.axhline(4, color="black", lw=1.0, ls="--")
        ax.set(
            xscale="log",
            yscale="log",
            xlabel="step + 1",
            title=f"{title}, {here.sum()} runs",
            ylim=(0.05, 1e3),
        )
    axes[0].set_ylabel("sharpness in the metric of the rates")
    return figure


def _three_ways_to_train(runs: dict[str, xr.Dataset]) -> Figure:
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", sharey=True)
    for ax, key in zip(axes, ("imbalance", "pair", "all"), strict=True):
        plane = runs[key]
        plot.trainability(plane, predicted=plane, ax=ax)
        same = ((plane["status"] == Status.DIVERGED) == (plane["predicted_status"] == Status.DIVERGED)).mean()
        ax.set_title(f"{plane.attrs['title']}\n{float(same):.1%} as predicted", fontsize="medium")
        ax.label_outer()
    figure.legend(handles=plot.status_legend(), loc="outside lower center", ncols=5, frameon=False)
    return figure
