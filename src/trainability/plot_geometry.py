"""Figures of token geometry: models on the phase diagram, and their tokens and gradients layer by layer.

Drawn on `ax` (a new one if None), which is returned. Users find these functions in `trainability.plot`.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from scipy.ndimage import map_coordinates
from scipy.optimize import least_squares

from .initialization import Initialization

if TYPE_CHECKING:  # torch is needed to measure, not to draw
    from .measure import MeasuredExponents

__all__ = ["GEOMETRY_NAMES", "gradient_norms", "loss_map", "phase_diagram", "token_similarity"]

GEOMETRY_NAMES = {
    "alpha_attn": r"residual strength of attention $\alpha_\mathrm{attn}$",
    "alpha_mlp": r"residual strength of the MLP $\alpha_\mathrm{mlp}$",
    "sigma_attn": r"attention gain $\sigma_\mathrm{attn}$",
    "sigma_mlp": r"MLP gain $\sigma_\mathrm{mlp}$",
    "sigma_value": r"value gain $\sigma_\mathrm{value}$",
    "sigma_out": r"output gain $\sigma_\mathrm{out}$",
    "sigma_bias": r"bias scale $\sigma_\mathrm{bias}$",
    "n_tokens": "tokens",
}
_LINES = {"angle": "solid", "gradient": "dashed"}
_COLORS = ("#d7301f", "#08519c", "#238b45", "#6a51a3")
_CRITICAL = 0.5  # |λ| depth up to which a stack counts as critical: a change by e^(1/2)
_SHOWN = (
    98  # percentile of |exponent| at which the colours saturate, so that a corner does not flatten the rest
)
_ROUNDING = 1e-12  # a field smaller than this throughout has no zero line
_LEAST_ERROR = 1e-9  # keeps the weights of an exact exponent finite
_ERRORS = 2  # bars and bands span this many standard errors to either side
_LOG_SPACED = 0.01  # relative scatter of neighbouring ratios up to which an axis is drawn in decades


def phase_diagram(
    diagram: xr.Dataset,
    *,
    exponent: str = "angle",
    depth: int | None = None,
    models: Mapping[str, "MeasuredExponents | Initialization"] | None = None,
    ax=None,
) -> Axes:
    """Draw one exponent over two hyperparameters, the zero lines of both, and models.

    Parameters
    ----------
    diagram : Dataset
        From `trainability.phase_diagram` over two axes: the first is drawn to the right. Pixels where the stream
        dies out are grey.
    exponent : {"angle", "gradient"}, optional
        The exponent that is shaded.
    depth : int, optional
        Blocks; hatches where both exponents keep their size below 1/(2 depth).
    models : mapping of str to MeasuredExponents or Initialization, optional
        Drawn where their weights are (a cross). A measured model is drawn a second time where theory gives both
        measured exponents (a circle, with bars of two standard errors): the diagram's other hyperparameters,
        depth and q must be the model's. Where the diagram has no such place, it is the nearest in standard errors.
    ax : Axes, optional

    Raises
    ------
    ValueError
        If the diagram has not two axes, or a model has no theory or lies outside the diagram.

    Examples
    --------
    >>> from trainability import Initialization, phase_diagram as predict
    >>> init = Initialization(n_tokens=64, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=2.0)
    >>> diagram = predict(init, sigma_mlp=np.linspace(1, 5, 40), alpha_attn=np.linspace(0.05, 0.8, 40))
    >>> ax = phase_diagram(diagram, models={"mine": init})
    >>> ax.get_xlabel()
    'MLP gain $\\\\sigma_\\\\mathrm{mlp}$'
    """
    if len(diagram["angle"].dims) != 2:
        raise ValueError(f"a diagram over two hyperparameters can be drawn; this has {diagram['angle'].dims}")
    x, y = (str(dim) for dim in diagram["angle"].dims)
    diagram = diagram.sortby([x, y])
    drawn = {label: _placed(label, model, diagram) for label, model in (models or {}).items()}
    ax = ax or plt.subplots(layout="constrained")[1]
    edge = "angle_collapsed" if "angle_collapsed" in diagram else "angle"
    fields = {"angle": diagram[edge].transpose(y, x), "gradient": diagram["gradient"].transpose(y, x)}
    shown = diagram[exponent].transpose(y, x)
    limit = float(np.nanpercentile(np.abs(shown), _SHOWN)) or 1.0
    ax.set_facecolor("0.7")
    shades = ax.pcolormesh(
        diagram[x],
        diagram[y],
        shown,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        shading="nearest",
        rasterized=True,
    )
    ax.figure.colorbar(shades, ax=ax, label=f"{exponent} exponent (nats per block)")
    for name, field in fields.items():
        if float(field.min()) < -_ROUNDING and float(field.max()) > _ROUNDING:
            ax.contour(
                diagram[x], diagram[y], field, [0.0], colors="black", linestyles=_LINES[name], linewidths=1.4
            )
            ax.plot([], [], color="black", ls=_LINES[name], lw=1.4, label=f"{name} exponent = 0")
    if depth is not None:
        larger = np.maximum(np.abs(fields["angle"]), np.abs(fields["gradient"])) * depth
        ax.contourf(diagram[x], diagram[y], larger, [0, _CRITICAL], colors="none", hatches=[".."])
        ax.contour(diagram[x], diagram[y], larger, [_CRITICAL], colors="0.3", linestyles="dotted")
        ax.fill(
            [],
            [],
            fill=False,
            hatch="..",
            ec="0.3",
            ls=":",
            label=rf"both $|\lambda|\leq 1/2$ over {depth} blocks",
        )
    for color, (label, (weights, measured)) in zip(_COLORS * 9, drawn.items(), strict=False):
        cross = label if measured is None else f"{label}: weights"
        ax.plot(*weights, "x", color=color, mew=2, ms=8, label=cross, zorder=4)
        if measured is not None:
            place, low_bar, high_bar = measured
            bars = np.array([place - low_bar, high_bar - place])[:, :, None]
            style = {"fmt": "o", "color": color, "mfc": "none", "mew": 1.6, "capsize": 3, "zorder": 5}
            ax.errorbar(*place, xerr=bars[:, 0], yerr=bars[:, 1], label=f"{label}: measured", **style)
    _label_axes(ax, diagram, x, y)
    for limits, dim in ((ax.set_xlim, x), (ax.set_ylim, y)):
        limits(float(diagram[dim].min()), float(diagram[dim].max()))
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="upper left", bbox_to_anchor=(0, -0.18), ncols=2, frameon=False, fontsize="small")
    return ax


def loss_map(
    runs: xr.Dataset, *, predicted: xr.Dataset | None = None, blind: float | None = None, ax=None
) -> Axes:
    """Draw the held-out loss of trained transformers over two hyperparameters, and the lines their exponents predict.

    Parameters
    ----------
    runs : Dataset
        With `test_loss` (nats), dims two hyperparameters, the first drawn to the right; white where not trained.
    predicted : Dataset, optional
        From `trainability.predict_transformer`: where each exponent vanishes, and where the prediction ends.
    blind : float, optional
        Loss of a guess that looks at no input (`Task.blind_loss`): the top of the colours.
    ax : Axes, optional
    """
    ax = ax or plt.subplots(layout="constrained")[1]
    x, y = (str(dim) for dim in runs["test_loss"].dims)
    top = float(np.nanmax(runs["test_loss"])) if blind is None else blind
    loss = runs["test_loss"].transpose(y, x)
    shades = ax.pcolormesh(
        runs[x], runs[y], loss, cmap="viridis", vmax=top, shading="nearest", rasterized=True
    )
    ax.figure.colorbar(shades, ax=ax, label="held-out loss (nats)", extend="max")
    if predicted is not None:
        lines = {
            "angle": ("angle exponent = 0", _COLORS[0], _LINES["angle"]),
            "gradient": ("gradient exponent = 0", _COLORS[0], _LINES["gradient"]),
            "boundary": ("predicted limit of training", "black", "dotted"),
        }
        seen_on_all = [withStroke(linewidth=3.2, foreground="white")]
        for name, (label, color, style) in lines.items():
            field = predicted[name].transpose(y, x)
            if float(field.min()) < -_ROUNDING and float(field.max()) > _ROUNDING:
                drawn = ax.contour(predicted[x], predicted[y], field, [0.0], colors=color, linestyles=style)
                drawn.set(linewidths=1.8, path_effects=seen_on_all)
                ax.plot([], [], color=color, ls=style, lw=1.8, label=label)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper left", bbox_to_anchor=(0, -0.16), ncols=2, frameon=False, fontsize="small")
    _label_axes(ax, runs, x, y)
    return ax


def token_similarity(
    models: Mapping[str, "MeasuredExponents"], *, predicted: Mapping[str, xr.Dataset] | None = None, ax=None
) -> Axes:
    """Draw how alike a model's tokens are, p/q, after each block: as measured, and as predicted.

    Parameters
    ----------
    models : mapping of str to MeasuredExponents
        Lines are means over draws, bands two standard errors.
    predicted : mapping of str to Dataset, optional
        From `predict_profile` or `propagate`, under the labels of `models`; drawn dashed.
    ax : Axes, optional

    Examples
    --------
    >>> import torch
    >>> from trainability import measure_exponents
    >>> layer = torch.nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, norm_first=True)
    >>> model = torch.nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)
    >>> ax = token_similarity({"mine": measure_exponents(model, torch.randn(8, 4, 32))})
    >>> len(ax.lines[0].get_xdata())  # before the first block, and after each
    4
    """
    ax = ax or plt.subplots(layout="constrained")[1]
    measured = {label: model.profile["similarity"] for label, model in models.items()}
    theory = {label: _similarity(layers) for label, layers in (predicted or {}).items()}
    _draw_profiles(ax, measured, theory)
    ax.set(xlabel="block", ylabel="similarity of tokens p/q", ylim=(-0.05, 1.05))
    return ax


def gradient_norms(
    models: Mapping[str, "MeasuredExponents"], *, predicted: Mapping[str, xr.Dataset] | None = None, ax=None
) -> Axes:
    """Draw the norm of ∂L/∂x after each block, relative to the last: as measured, and as predicted.

    Parameters
    ----------
    models, predicted, ax
        As for `token_similarity`; `predicted` from `predict_profile`.

    Examples
    --------
    >>> import torch
    >>> from trainability import measure_exponents
    >>> layer = torch.nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, norm_first=True)
    >>> model = torch.nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)
    >>> ax = gradient_norms({"mine": measure_exponents(model, torch.randn(8, 4, 32))})
    >>> float(ax.lines[0].get_ydata()[-1])  # the last is the unit
    1.0
    """
    ax = ax or plt.subplots(layout="constrained")[1]
    measured = {label: model.profile["log_gradient"] / 2 for label, model in models.items()}
    theory = {label: layers["log_gradient"] / 2 for label, layers in (predicted or {}).items()}
    _draw_profiles(ax, measured, theory, logarithmic=True)
    ax.set(xlabel="block", ylabel="gradient norm, last = 1")
    return ax


def _draw_profiles(ax, measured, theory, *, logarithmic=False) -> None:
    """Lines with bands over `draw`, dashed lines of theory in the same colours; `logarithmic`: of exp(values)."""
    known = [*measured, *(label for label in theory if label not in measured)]
    colors = dict(zip(known, _COLORS * 9, strict=False))

    def scaled(values):
        return np.exp(values) if logarithmic else values

    for label, values in measured.items():
        mean, spread = values.mean("draw"), values.std("draw", ddof=1) / math.sqrt(values.sizes["draw"])
        layers = np.arange(values.sizes["layer"])
        ax.plot(layers, scaled(mean), color=colors[label], lw=1.4, label=label)
        low, high = scaled(mean - _ERRORS * spread), scaled(mean + _ERRORS * spread)
        ax.fill_between(layers, low, high, color=colors[label], alpha=0.25, lw=0)
    for label, values in theory.items():
        layers = np.arange(values.sizes["layer"])
        ax.plot(layers, scaled(values), color=colors[label], lw=1.6, ls=(0, (4, 2)), alpha=0.8)
    if theory:
        ax.plot([], [], color="grey", lw=1.6, ls=(0, (4, 2)), label="theory")
    if logarithmic:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
        ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False)


def _similarity(layers: xr.Dataset) -> xr.DataArray:
    return layers["similarity"] if "similarity" in layers else layers["rho"]


def _placed(label, model, diagram):
    """Where a model's weights are and, if measured, where theory gives what was measured, with both ends of bars."""
    measured = not isinstance(model, Initialization)
    init = model.theory if measured else model
    if isinstance(init, str):
        raise ValueError(f"models[{label!r}] has no place on the diagram: {init}")
    dims = [str(dim) for dim in diagram["angle"].dims]
    axes = [diagram[dim].values for dim in dims]
    weights = np.array([getattr(init, dim) for dim in dims], float)
    for dim, values, value in zip(dims, axes, weights, strict=True):
        if not values.min() <= value <= values.max():
            raise ValueError(
                f"models[{label!r}] has {dim}={value:.4g}, outside the diagram's {values.min():.4g} to "
                f"{values.max():.4g}; widen the axis"
            )
    if not measured:
        return weights, None
    start = np.array(
        [np.interp(v, values, np.arange(len(values))) for v, values in zip(weights, axes, strict=True)]
    )
    place, spread = _fit(diagram, model, start)
    ends = (place, place - _ERRORS * spread, place + _ERRORS * spread)
    return weights, tuple(
        np.array([np.interp(i, np.arange(len(values)), values) for i, values in zip(end, axes, strict=True)])
        for end in ends
    )


def _fit(diagram, measured, start):
    """Pixel position at which the diagram's exponents are nearest to the measured ones, and its standard errors.

    Counted in pixels, so that evenly spaced axes of any kind are alike. Directions in which neither exponent
    changes are left as they were, and carry no error.
    """
    names = ("angle_collapsed" if "angle_collapsed" in diagram else "angle", "gradient")
    fields = [diagram[name].values for name in names]
    values = np.array([measured.angle, measured.gradient])
    errors = np.maximum([measured.angle_stderr, measured.gradient_stderr], _LEAST_ERROR)

    def misfit(position):
        at = np.array([map_coordinates(f, position[:, None], order=1, mode="nearest")[0] for f in fields])
        return (at - values) / errors

    bounds = (0, np.array(fields[0].shape) - 1.0)
    found: Any = least_squares(misfit, start, bounds=bounds, diff_step=[1e-3, 1e-3])
    covariance = np.linalg.pinv(found.jac.T @ found.jac, rcond=1e-8, hermitian=True)
    return found.x, np.sqrt(covariance.diagonal())


def _label_axes(ax: Axes, diagram: xr.Dataset, x: str, y: str) -> None:
    """Names and scales of both axes."""
    for axis, dim in (("x", x), ("y", y)):
        values = diagram[dim].values
        ax.set(**{f"{axis}label": GEOMETRY_NAMES.get(dim, dim)})
        if _is_log_spaced(values):
            ax.set(**{f"{axis}scale": "log"})


def _is_log_spaced(values: np.ndarray) -> bool:
    if len(values) < 3 or values.min() <= 0:
        return False
    ratios = np.diff(np.log(values))
    return bool(np.ptp(ratios) < _LOG_SPACED * abs(ratios.mean()))
