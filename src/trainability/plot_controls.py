"""Figures of what of a map is chance: horizons, ladders, cut-offs, probabilities, each on its `ax`."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from .cutoffs import ThresholdAudit
from .horizon import PredictabilityHorizon
from .ladders import expected_flips
from .replicates import ReplicateFlips

_LINE, _COLORS = "#d7301f", ("#08519c", "#fd8d3c", "#31a354", "#756bb1")


def horizon_by_length(
    horizons: Mapping[str, PredictabilityHorizon], *, pixel: float | None = None, ax=None
) -> Axes:
    """Draw the finest step that runs resolve over their length; lengths at which none is resolved end the line.

    Parameters
    ----------
    horizons : mapping of label to PredictabilityHorizon
    pixel : float, optional
        Relative step between a map's pixels, drawn as a line.
    ax : Axes, optional
    """
    ax = ax or plt.subplots(layout="constrained")[1]
    for (label, found), color in zip(horizons.items(), _COLORS, strict=False):
        shown = np.isfinite(found.by_length)
        ax.semilogy(
            found.lengths[shown], found.by_length[shown], "o-", ms=3, lw=1.2, color=color, label=label
        )
    if pixel is not None:
        ax.axhline(pixel, color="grey", lw=1, ls="--", label="pixel of the map")
    ax.set(xlabel="steps of training", ylabel="finest step resolved (relative)")
    ax.legend(frameon=False, fontsize="small")
    return ax


def ladder(found: xr.Dataset, *, horizon: PredictabilityHorizon | None = None, ax=None) -> Axes:
    """Draw flips between twins and between neighbours over the size of a pixel, and what the horizon lets one expect.

    Parameters
    ----------
    found : Dataset
        From `trainability.zoom_ladder`.
    horizon : PredictabilityHorizon, optional
        Drawn with its interval, and the flips expected from it.
    ax : Axes, optional
    """
    ax = ax or plt.subplots(layout="constrained")[1]
    pixel = found["pixel"].values
    for name, label, color, marker in (
        ("flips", "rounding twins of a pixel", _COLORS[0], "o"),
        ("neighbours", "neighbouring pixels", _COLORS[1], "s"),
    ):
        rate = found[name].values
        error = np.stack([rate - found[f"{name}_low"].values, found[f"{name}_high"].values - rate])
        ax.errorbar(
            pixel, rate, np.maximum(error, 0), fmt=marker, ms=4, color=color, label=label, elinewidth=0.8
        )
    if horizon is not None and np.isfinite(horizon.step):
        fine = np.geomspace(pixel.min(), pixel.max(), 200)
        widths = fine * float(found["width"][0] / found["pixel"][0])
        ax.plot(fine, expected_flips(horizon.step, widths), color=_COLORS[0], lw=1, label="expected of twins")
        low, high = horizon.interval
        ax.axvspan(low, min(high, fine[-1]), color="grey", alpha=0.25, lw=0)
        ax.axvline(horizon.step, color="grey", lw=1, ls="--", label="horizon")
    ax.axhline(0.5, color="grey", lw=0.8, ls=":")
    ax.set_xscale("log")
    ax.set(xlabel="size of a pixel (relative step)", ylabel="share that ends unlike", ylim=(0, 0.72))
    ax.invert_xaxis()
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def cutoff(audit: ThresholdAudit, *, ax=None) -> Axes:
    """Draw the histogram of what a rule cuts, and the cut-off."""
    ax = ax or plt.subplots(layout="constrained")[1]
    ax.stairs(audit.counts, audit.edges, fill=True, color="#9ecae1")
    ax.axvline(audit.cut, color=_LINE, lw=1.4, label="cut-off")
    ax.set(xlabel="last losses over the first", ylabel="runs")
    ax.legend(frameon=False, fontsize="small")
    return ax


def flip_rates(flips: Mapping[str, ReplicateFlips], *, ax=None) -> Axes:
    """Draw the flip rate of each kind of replicate, near the boundary and away from it, with intervals."""
    ax = ax or plt.subplots(layout="constrained")[1]
    for offset, where, color in ((-0.12, "near", _LINE), (0.12, "away", _COLORS[0])):
        rates = np.array([getattr(f, where) for f in flips.values()])
        ends = np.array([getattr(f, f"{where}_interval") for f in flips.values()]).T
        error = np.maximum(np.stack([rates - ends[0], ends[1] - rates]), 0)
        label = {"near": "near the boundary", "away": "away from it"}[where]
        ax.errorbar(np.arange(len(flips)) + offset, rates, error, fmt="o", ms=4, color=color, label=label)
    ax.set_xticks(range(len(flips)), list(flips))
    ax.set(ylabel="two runs of a pixel end unlike", ylim=(0, None), xlim=(-0.5, len(flips) - 0.5))
    ax.legend(frameon=False, fontsize="small")
    return ax


def probability(found: xr.Dataset, *, ax=None) -> Axes:
    """Draw the probability of an outcome, pixels whose interval holds one half dotted.

    Parameters
    ----------
    found : Dataset
        From `trainability.probability_map`, of two dims.
    ax : Axes, optional
    """
    ax = ax or plt.subplots(layout="constrained")[1]
    x, y = found["probability"].dims
    values = found["probability"].transpose(y, x)
    image = ax.pcolormesh(found[x], found[y], values, vmin=0, vmax=1, cmap="cividis", rasterized=True)
    ax.figure.colorbar(image, ax=ax, label=f"probability: {found.attrs.get('outcome', '')}")
    even = ((found["low"] < 0.5) & (found["high"] > 0.5)).transpose(y, x).values
    rows, columns = np.nonzero(even)
    ax.plot(found[x].values[columns], found[y].values[rows], ".", color="white", ms=1.5)
    for which, dim in (("x", x), ("y", y)):
        if found[dim].attrs.get("scale") == "log":
            ax.set(**{f"{which}scale": "log"})
    ax.set(xlabel=str(x), ylabel=str(y))
    return ax
