"""Figures of the study of Adam."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from . import plot
from .studies import Study
from .sweep import Status

# Lines of thresholds, by the state whose sharpness they are of.
STYLES = {"initialization": "-", "small rates": "--", "first batch": ":"}
NAMES = {
    "initialization": "sharpness",
    "small rates": "sharpness_small_rates",
    "first batch": "sharpness_first_batch",
}

# Shades of exponents are linear below this, nats per step, and logarithmic beyond: they span two decades.
LINEAR = 0.03


def adam_map(study: Study) -> Figure:
    """Outcomes of training, and Lyapunov exponents, both with the lines on which stability ends."""
    runs, chaos = study.runs["map"], study.runs["chaos"]
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.9), layout="constrained")
    plot.trainability(runs, ax=axes[0])
    axes[0].set_title("outcome of training")
    lines = []
    for state, style in STYLES.items():
        if _contour(
            axes[0], runs[NAMES[state]], study.settings["threshold"], colors=plot.LINE, linestyles=style
        ):
            lines.append(Line2D([], [], color=plot.LINE, lw=1.6, ls=style, label=f"threshold, {state}"))
    exponent = chaos["exponent"]
    most = float(np.nanmax(np.abs(exponent)))
    shades = axes[1].pcolormesh(
        chaos["lr_attn"],
        chaos["lr_rest"],
        exponent.T,
        cmap="RdBu_r",
        norm=SymLogNorm(LINEAR, vmin=-most, vmax=most),
    )
    figure.colorbar(shades, ax=axes[1], label="exponent of training (nats per step)")
    axes[1].set(
        xscale="log", yscale="log", xlabel=plot.name("lr_attn"), title="finite-time Lyapunov exponent"
    )
    plot.plain_log_ticks(axes[1])
    seen = (runs["status"] == Status.CONVERGED).astype(float)
    _contour(axes[1], seen, 0.5, colors="limegreen")
    lines.append(Line2D([], [], color="limegreen", lw=1.6, label="boundary of convergence"))
    if _contour(axes[1], exponent, 0.0, colors="black"):
        lines.append(Line2D([], [], color="black", lw=1.6, label="exponent 0"))
    figure.legend(
        handles=[*plot.status_legend(lines=False), *lines], loc="outside lower center", ncols=4, frameon=False
    )
    return figure


def adam_training(study: Study) -> Figure:
    """Outcome against sharpness and against exponent, and the sharpness along training."""
    runs, chaos, followed = (study.runs[name] for name in ("map", "chaos", "training"))
    threshold = study.settings["threshold"]
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 4), layout="constrained")
    _losses(axes[0], runs["sharpness"] / threshold, runs)
    axes[0].axvline(1, color="black", lw=1.0)
    axes[0].set(
        xscale="log", xlabel="sharpness at initialization / threshold", ylabel="loss at the end / first loss"
    )
    _losses(axes[1], chaos["exponent"], chaos)
    axes[1].axvline(0, color="black", lw=1.0)
    axes[1].set(xlabel="exponent of training (nats per step)")
    axes[1].legend(frameon=False, loc="lower right")
    converged = followed["status"].values == Status.CONVERGED
    for here, color in ((converged, "C0"), (~converged, "C3")):
        for values in followed["ratio"].values[here]:
            axes[2].plot(followed["step"], values, lw=0.9, alpha=0.7, color=color)
    axes[2].axhline(1, color="black", lw=1.0)
    axes[2].set(xscale="log", yscale="log", xlabel="step", ylabel="sharpness of the run / threshold")
    return figure


def _losses(ax, x: xr.DataArray, runs: xr.Dataset) -> None:
    converged, tail = runs["status"].values == Status.CONVERGED, runs["tail_ratio"].values
    shown = np.minimum(tail, 2.0)  # the few that end far above the first loss are not told apart
    for here, text, color in ((converged, "converged", "C0"), (~converged, "not converged", "C3")):
        ax.plot(x.values[here], shown[here], ".", ms=3, color=color, label=text)


def _contour(ax, field: xr.DataArray, level: float, **style) -> bool:
    """Draw a line of the field, if it has one; say so."""
    x, y = field.dims
    crosses = float(field.min()) < level < float(field.max())
    if crosses:
        ax.contour(field[x], field[y], field.T, [level], linewidths=1.6, **style)
    return crosses
