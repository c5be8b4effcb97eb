"""Figures of the study of the two exponents."""

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from .studies import Study

# Ticks of the planes, in e-folds over the whole depth; the axes are asinh of it.
_TICKS = (-30, -10, -3, -1, 0, 1, 3, 10)


def loss_over_exponents(study: Study) -> Figure:
    """Draw the test loss of each depth over the plane of both exponents, with both zero lines."""
    runs = [study.runs[f"depth-{n}"] for n in study.settings["depths"]]
    figure, axes = plt.subplots(
        1, len(runs), figsize=(4.7 * len(runs), 4.4), layout="constrained", sharey=True
    )
    top = max(float(np.quantile(run["test_loss"], 0.9)) for run in runs)
    for ax, run in zip(np.atleast_1d(axes), runs, strict=True):
        depth = run.attrs["depth"]
        x, y = (np.arcsinh(depth * run[name].values) for name in ("angle", "gradient"))
        order = np.argsort(-run["test_loss"].values)  # the best on top
        low = min(float(r["test_loss"].min()) for r in runs)
        dots = ax.scatter(
            x[order], y[order], c=run["test_loss"].values[order], s=22, cmap="viridis", vmin=low, vmax=top
        )
        ax.axvline(0, color="black", lw=1)
        ax.axhline(0, color="black", lw=1)
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_ticks(np.arcsinh(_TICKS), [f"{t:+d}" if t else "0" for t in _TICKS])
        ax.set_xlim(x.min() - 0.3, x.max() + 0.3)
        ax.set_ylim(y.min() - 0.5, y.max() + 0.5)
        ax.set_title(f"{depth} blocks")
        ax.set_xlabel("angle exponent × depth")
    np.atleast_1d(axes)[0].set_ylabel("gradient exponent × depth")
    figure.colorbar(dots, ax=axes, label="test loss, nats", extend="max")
    return figure


def explained_variance(study: Study) -> Figure:
    """Draw R² with its interval for each set of predictors, and predicted against observed loss."""
    explained = study.runs["explained"]
    main = study.runs[f"depth-{study.settings['depths'][-1]}"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=(1.5, 1))
    columns = (explained[name].values for name in ("r2", "low", "high"))
    for i, (value, low, high) in enumerate(zip(*columns, strict=True)):
        left.plot([low, high], [i, i], color="C0" if i == 0 else "grey", lw=2)
        left.plot(value, i, "o", color="C0" if i == 0 else "grey")
    left.axvline(study.settings["well_predicted_above_r2"], color="black", lw=0.8, ls=":")
    left.set_yticks(range(explained.sizes["predictors"]), explained["predictors"].values)
    left.invert_yaxis()
    left.set_xlabel("R² out of sample, 95 % interval; dotted: what counts as well predicted")
    _predicted_against_observed(main, right)
    return figure


def _predicted_against_observed(main: xr.Dataset, ax) -> None:
    ax.plot(main["test_loss"], main["predicted_loss"], ".", ms=4)
    ends = [float(main["predicted_loss"].min()), float(main["predicted_loss"].max())]
    ax.plot(ends, ends, color="black", lw=0.8)
    ax.set_xlim(ends[0] - 0.1, ends[1] + 0.1)
    ax.set_xlabel("test loss, nats")
    ax.set_ylabel("predicted from both exponents, nats")


def measured_against_predicted(study: Study) -> Figure:
    """Draw exponents measured on networks as drawn against those predicted."""
    measured = study.runs["measured"]
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.2), layout="constrained")
    for ax, name in zip(axes, ("angle", "gradient"), strict=True):
        x, y = measured[f"predicted_{name}"], measured[name]
        ax.errorbar(x, y, yerr=2 * measured[f"{name}_stderr"], fmt=".", capsize=2, lw=0.8)
        ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))]
        ax.plot(ends, ends, color="black", lw=0.8)
        ax.set_xlabel(f"{name} exponent predicted, nats per block")
        ax.set_ylabel("measured, ± 2 standard errors")
    return figure
