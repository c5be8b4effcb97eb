"""The figure of the geometry map, from the map and its prediction. Drawn by `geometry_map.py`."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.patheffects import withStroke

from geometry_page import SMOOTHED, learns, numbers
from trainability import plot
from trainability.transformer_predictions import EFOLDS, ExponentComparison

# Colours of what was predicted and seen.
OUTCOMES = {
    "learned, as predicted": "#9ecae1",
    "did not, as predicted": "#3b3b4f",
    "learned, against prediction": "#31a354",
    "did not, against prediction": "#fd8d3c",
}

# Ticks of the plane of both exponents, in e-folds over the depth; its axes are asinh of it.
TICKS = (-30, -10, -3, -1, 0, 1, 3, 10)


def draw(found: ExponentComparison, slow: ExponentComparison, trainer: Any, file: Path) -> None:
    """Losses over the plane at both rates, with the lines of both exponents; outcomes; losses over both exponents."""
    figure, axes = plt.subplots(2, 2, figsize=(11.5, 10.6), layout="constrained")
    blind = trainer.task.blind_loss
    plot.loss_map(found.observed, predicted=found.predicted, blind=blind, ax=axes[0, 0])
    _outcomes(found, trainer, axes[0, 1])
    plot.loss_map(slow.observed, predicted=found.predicted, blind=blind, ax=axes[1, 0])
    _plane(slow, trainer, axes[1, 1])
    titles = (
        "learning rate 0.01",
        "learning rate 0.01: predicted and seen",
        "learning rate 0.003",
        "learning rate 0.003, over both exponents",
    )
    for ax, title in zip(axes.flat, titles, strict=True):
        ax.set_title(title)
    for ax in axes.flat[:3]:
        plot.plain_log_ticks(ax)
    plot.save(figure, file, dpi=120)


def _outcomes(found: ExponentComparison, trainer: Any, ax) -> None:
    said, seen = learns(found.predicted), learns(found.observed)
    codes = np.select([said & seen, ~said & ~seen, ~said & seen], [0, 1, 2], 3)
    x, y = found.predicted["status"].dims
    colors = ListedColormap(list(OUTCOMES.values()))
    ax.pcolormesh(found.observed[x], found.observed[y], codes.T, cmap=colors, vmin=0, vmax=3, rasterized=True)
    smoothed = numbers(found, trainer)["gradient less angle exponent"]
    ax.contour(
        found.observed[x], found.observed[y], smoothed.T, [SMOOTHED], colors="black", linewidths=1.8
    ).set(path_effects=[withStroke(linewidth=3.2, foreground="white")])
    ax.set(yscale="log", xlabel=plot.name(x), ylabel=plot.name(y))
    handles: list[Any] = [Patch(color=color, label=name) for name, color in OUTCOMES.items()]
    label = f"smoothed by {SMOOTHED:g} e-folds"
    handles.append(Line2D([], [], color="black", lw=1.8, label=label))
    place = {"loc": "upper left", "bbox_to_anchor": (-0.12, -0.16), "ncols": 2, "columnspacing": 1.0}
    ax.legend(handles=handles, fontsize="small", frameon=False, **place)


def _plane(found: ExponentComparison, trainer: Any, ax) -> None:
    depth, blind = trainer.n_layers, trainer.task.blind_loss
    angle, gradient = (np.arcsinh(depth * found.predicted[n].values) for n in ("angle", "gradient"))
    loss = found.observed["test_loss"].values
    order = np.argsort(-loss, axis=None)  # the best on top
    dots = ax.scatter(
        angle.flat[order], gradient.flat[order], c=loss.flat[order], s=12, cmap="viridis", vmax=blind
    )
    half = np.arcsinh(EFOLDS)
    ax.add_patch(Rectangle((-half, -half), 2 * half, 2 * half, fill=False, ls=":", lw=1.6, ec="black"))
    ax.axvline(0, color="#d7301f", lw=1.4)
    ax.axhline(0, color="#d7301f", lw=1.4, ls="--")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_ticks(np.arcsinh(TICKS), [f"{t:+d}" if t else "0" for t in TICKS])
    ax.set_xlim(angle.min() - 0.2, angle.max() + 0.2)
    ax.set_ylim(min(gradient.min(), -half) - 0.2, gradient.max() + 0.2)
    ax.set(xlabel="angle exponent × depth", ylabel="gradient exponent × depth")
    ax.figure.colorbar(dots, ax=ax, label="held-out loss (nats)", extend="max")
