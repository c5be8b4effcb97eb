"""Figures of a boundary, its scaling curve and the verdict. Functions draw on `ax` and return it."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from .boundaries import boundary, outcome_codes
from .verdict import FractalDimension

# Outcomes in order, light to dark, distinct in grey; unknown pixels are white.
_SHADES = ("#ffffff", "#9ecae1", "#3b3b4f", "#fdd49e", "#e6550d", "#4292c6", "#31a354", "#756bb1")
_LINE = "#d7301f"


def labels(runs: Any, *, ax=None) -> Axes:
    """Draw the outcomes of a map or picture, first axis upwards in its own pixels, unknown ones white."""
    ax = ax or plt.subplots(layout="constrained")[1]
    outcome = outcome_codes(runs)
    shown = np.where(outcome < 0, 0, 1 + outcome % (len(_SHADES) - 1))
    ax.imshow(shown, cmap=ListedColormap(_SHADES), vmin=0, vmax=len(_SHADES) - 1, origin="lower",
              interpolation="nearest")  # fmt: skip
    ax.set(xlabel="pixel", ylabel="pixel")
    return ax


def boundary_cells(runs: Any, *, ax=None) -> Axes:
    """Draw the cells that hold more than one outcome."""
    ax = ax or plt.subplots(layout="constrained")[1]
    ax.imshow(boundary(runs), cmap="Greys", origin="lower", interpolation="antialiased")
    ax.set(xlabel="pixel", ylabel="pixel")
    return ax


def scaling_curve(found: FractalDimension, *, ax=None) -> Axes:
    """Draw the share of unlike pairs over their distance, the range used, and the slopes of a line and of noise.

    Parameters
    ----------
    found : FractalDimension
        With a value.
    ax : Axes, optional
    """
    if np.isnan(found.value):
        raise ValueError(f"found has no scaling curve to draw: {found!r}")
    ax = ax or plt.subplots(layout="constrained")[1]
    x, y, used = found.offsets, found.fractions, slice(*found.fit_range)
    ax.loglog(x, y, "o", color="grey", mfc="white", ms=4)
    ax.loglog(x[used], y[used], "o", color="black", ms=4, label="range used")
    middle = np.exp(np.log(x[used]).mean()), np.exp(np.log(y[used]).mean())
    low, high = found.interval
    ax.loglog(
        x, middle[1] * (x / middle[0]) ** (2 - found.value), color=_LINE, label=f"D = {found.value:.3f}"
    )
    ends = [middle[1] * (x / middle[0]) ** (2 - d) for d in (low, high)]
    ax.fill_between(x, np.minimum(*ends), np.maximum(*ends), color=_LINE, alpha=0.2, lw=0)
    for dimension, name, style in ((1, "smooth", ":"), (2, "noise", "--")):
        ax.loglog(x, y[0] * (x / x[0]) ** (2 - dimension), color="grey", lw=0.8, ls=style, label=name)
    ax.set(xlabel="distance (pixels)", ylabel="share of pairs with unlike outcomes")
    ax.legend(frameon=False, fontsize="small")
    return ax


def dimension_report(runs: Any, found: FractalDimension) -> Figure:
    """Draw the map, its boundary and its scaling curve, with the verdict above."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 4.4), layout="constrained")
    labels(runs, ax=axes[0])
    boundary_cells(runs, ax=axes[1])
    if np.isnan(found.value):
        axes[2].axis("off")
    else:
        scaling_curve(found, ax=axes[2])
    value = "" if np.isnan(found.value) else (
        f", dimension {found.value:.3f} ({found.interval[0]:.3f} to {found.interval[1]:.3f})"
    )  # fmt: skip
    figure.suptitle(f"{found.verdict}{value}\n{found.reason}", fontsize="medium")
    return figure
