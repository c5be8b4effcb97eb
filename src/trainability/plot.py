"""Figures. Every function draws on `ax` (a new one if None) and returns it; none calls `show`."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import BoundaryNorm, ListedColormap, LogNorm
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from ._contract import Status
from ._map import Map
from .classification import thresholds
from .continuation import BifurcationDiagram
from .distances import BoundaryDistance
from .dynamics import orbit
from .ellipse import invariant_ellipse
from .outcomes import Outcome
from .plot_controls import cutoff as cutoff
from .plot_controls import flip_rates as flip_rates
from .plot_controls import horizon_by_length as horizon_by_length
from .plot_controls import ladder as ladder
from .plot_controls import probability as probability
from .plot_geometry import GEOMETRY_NAMES
from .plot_geometry import gradient_norms as gradient_norms
from .plot_geometry import loss_map as loss_map
from .plot_geometry import phase_diagram as phase_diagram
from .plot_geometry import token_similarity as token_similarity

# Distinct for colour-blind readers and in grey: light to dark is trained, bounded, lost.
STATUS_COLORS = {
    Status.PENDING: "#ffffff",
    Status.CONVERGED: "#9ecae1",
    Status.DIVERGED: "#3b3b4f",
    Status.UNDECIDED: "#fdd49e",
    Status.FAILED: "#ff00ff",
    Status.INFERRED: "#d9d9d9",
}
STATUS_LABELS = {
    Status.PENDING: "pending",
    Status.CONVERGED: "converges",
    Status.DIVERGED: "diverges",
    Status.UNDECIDED: "bounded, does not converge",
    Status.FAILED: "failed",
    Status.INFERRED: "not trained: inferred",
}
OUTCOME_COLORS = {
    Outcome.UNDECIDED: "#ffffff",
    Outcome.CONVERGED: "#9ecae1",
    Outcome.CATAPULT: "#4292c6",
    Outcome.CYCLE: "#fdd49e",
    Outcome.CHAOTIC: "#e6550d",
    Outcome.DIVERGED: "#3b3b4f",
}
LINE = "#d7301f"

# Branches by the number of doublings of their period.
PERIOD_COLORS = ("#08519c", "#238b45", "#e6550d", "#6a51a3", "#b15928")
POINT_MARKERS = {"flip": "o", "fold": "s", "branch point": "D", "Neimark–Sacker": "^", "degenerate": "x"}

THRESHOLD_LABELS = {
    "catapult": r"$2\sqrt{2}-2$",
    "two_cycle": r"$1$",
    "four_cycle": r"$\sqrt{5}-1$",
    "merging_crisis": r"$3\sqrt{3}/2-1$",
    "escape": r"$2$",
}

_NAMES = {
    "lr": "learning rate",
    "init_scale": "initial scale",
    "imbalance": "initial imbalance",
    "mu": r"effective step $\mu$",
    **GEOMETRY_NAMES,
}


def name(variable: Hashable) -> str:
    """Return the axis label of a hyperparameter."""
    return _NAMES.get(str(variable), str(variable).replace("_", " "))


def orbit_diagram(
    diagram: xr.Dataset, variable: str, *, bins: int = 600, bounds: tuple[float, float] | None = None, ax=None
) -> Axes:
    """Draw an orbit diagram as the density of the last iterates, on a logarithmic grey scale.

    Parameters
    ----------
    diagram : Dataset
        From `trainability.orbit_diagram`; its parameter evenly spaced.
    variable : str
        Which of the map's variables.
    bins : int, optional
        Rows of the picture.
    bounds : (float, float), optional
        Range of the variable; that of the iterates by default.
    ax : Axes, optional
    """
    ax = ax or _new_axes()
    orbits = diagram[variable]
    parameter = orbits.dims[0]
    low, high = bounds or (float(orbits.min()), float(orbits.max()))
    counts = np.stack([np.histogram(column, bins, (low, high))[0] for column in orbits.values], axis=1)
    x = diagram[parameter].values
    image = np.ma.masked_equal(counts, 0)
    extent = (x[0], x[-1], low, high)
    even = orbits.shape[1] / bins  # what a uniform density would leave in each pixel
    norm = LogNorm(even / 6, 6 * even)
    ax.imshow(
        image,
        origin="lower",
        extent=extent,
        aspect="auto",
        cmap="Greys",
        norm=norm,
        interpolation="antialiased",
    )
    ax.set(xlabel=name(parameter), ylabel=f"${variable}$")
    return ax


def mark_thresholds(ax: Axes, *, labels: bool = True) -> Axes:
    """Draw the exact thresholds in mu as vertical lines, labelled above the axes."""
    left, right = ax.get_xlim()
    for key, mu in thresholds().items():
        if left <= mu <= right:
            ax.axvline(mu, color=LINE, lw=0.8, ls="--", alpha=0.8)
            if labels:
                ax.annotate(
                    THRESHOLD_LABELS[key],
                    (mu, 1.0),
                    (0, 3),
                    xycoords=("data", "axes fraction"),
                    textcoords="offset points",
                    ha="center",
                    va="bottom",
                    color=LINE,
                    fontsize="small",
                )
    return ax


def exponents(spectrum: xr.Dataset, *, labels: Sequence[str] | None = None, ax=None) -> Axes:
    """Draw Lyapunov exponents over one parameter, with bands of two standard errors.

    Parameters
    ----------
    spectrum : Dataset
        From `trainability.lyapunov_map` over one axis.
    labels : sequence of str, optional
        Names of the exponents, largest first.
    ax : Axes, optional
    """
    ax = ax or _new_axes()
    (parameter,) = (d for d in spectrum["exponent"].dims if d != "index")
    x = spectrum[parameter].values
    for i, color in zip(spectrum["index"].values, ("#08519c", "#e6550d", "#31a354"), strict=False):
        value, error = (spectrum[key].sel(index=i).values for key in ("exponent", "stderr"))
        label = labels[i] if labels else rf"$\lambda_{i + 1}$"
        ax.plot(x, value, color=color, lw=0.7, label=label)
        ax.fill_between(x, value - 2 * error, value + 2 * error, color=color, alpha=0.25, lw=0)
    ax.axhline(0, color="black", lw=0.6)
    ax.set(xlabel=name(parameter), ylabel="exponent (nats per step)")
    ax.legend(loc="lower left", frameon=False, ncols=2)
    return ax


def branches(diagram: BifurcationDiagram, variable: int = 0, *, points: bool = True, ax=None) -> Axes:
    """Draw the branches of a bifurcation diagram: solid where stable, dashed where not.

    Parameters
    ----------
    diagram : BifurcationDiagram
        From `trainability.bifurcation_diagram`.
    variable : int, optional
        Index of the state variable on the vertical axis.
    points : bool, optional
        Mark flips, folds, branch points and Neimark–Sacker points.
    ax : Axes, optional
        An orbit diagram drawn there before stays visible beneath.
    """
    ax = ax or _new_axes()
    for branch in diagram.branches:
        color = PERIOD_COLORS[(branch.period - 1).bit_length() % len(PERIOD_COLORS)]
        for stable, style in ((True, "-"), (False, (0, (4, 2)))):
            shown = np.where((branch.stable == stable)[:, None], branch.states[:, :, variable], np.nan)
            ax.plot(branch.parameter, shown, color=color, ls=style, lw=1.3 if stable else 0.9)
    if points:
        for kind, marker in POINT_MARKERS.items():
            found = [p for p in diagram.points if p.kind == kind]
            if found:
                x = np.concatenate([np.full(len(p.states), p.parameter) for p in found])
                y = np.concatenate([p.states[:, variable] for p in found])
                ax.plot(x, y, marker, color="black", mfc="white", ms=4.5, label=kind, zorder=3)
    ax.set(xlabel=name(diagram.parameter))
    return ax


def cobweb(map: Map, u0: float, *, n: int = 60, bounds: tuple[float, float] | None = None, ax=None) -> Axes:
    """Draw the graph of a one-dimensional map and the staircase of one of its orbits.

    Parameters
    ----------
    map : Map
        Of one variable.
    u0 : float
    n : int, optional
        Steps drawn.
    bounds : (float, float), optional
        Range of the axes; that of the orbit, widened, by default.
    ax : Axes, optional

    Raises
    ------
    ValueError
        If the map has more than one variable.
    """
    if map.d != 1:
        raise ValueError(f"a cobweb needs a map of one variable; {map.name} has {', '.join(map.variables)}")
    ax = ax or _new_axes()
    x = orbit(map, [u0], n=n)[:, 0]
    x = x[np.isfinite(x)]
    low, high = bounds or (x.min() - 0.2 * np.ptp(x) - 0.1, x.max() + 0.2 * np.ptp(x) + 0.1)
    grid = np.linspace(low, high, 800)
    ax.plot(grid, map(grid[:, None])[:, 0], color="#08519c", lw=1.4)
    ax.plot(grid, grid, color="grey", lw=0.8)
    ax.plot(np.repeat(x, 2)[:-1], np.repeat(x, 2)[1:], color=LINE, lw=0.7)
    label = map.variables[0]
    ax.set(xlim=(low, high), ylim=(low, high), xlabel=f"${label}$", ylabel=f"${label}'$", aspect="equal")
    return ax


def parameter_plane(found: xr.Dataset, colored: str = "outcome", *, ax=None) -> Axes:
    """Draw a plane of parameters or starts by outcome, period or growth rate, first axis to the right.

    Parameters
    ----------
    found : Dataset
        From `trainability.basins` over two axes.
    colored : {"outcome", "period", "rate"}, optional
    ax : Axes, optional
    """
    if colored not in ("outcome", "period", "rate"):
        raise ValueError(f"colored={colored!r} is unknown; use outcome, period or rate")
    ax = ax or _new_axes()
    x, y = found["outcome"].dims
    values = found[colored].transpose(y, x)
    if colored == "outcome":
        _categories(values, OUTCOME_COLORS, ax)
    elif colored == "period":
        image = ax.pcolormesh(
            found[x], found[y], values.where(values > 0), norm=LogNorm(1, 64), cmap="viridis", rasterized=True
        )
        ax.figure.colorbar(image, ax=ax, label="period", ticks=[1, 2, 4, 8, 16, 32, 64], format="%d")
    else:
        size = float(np.nanquantile(np.abs(values), 0.98))
        image = ax.pcolormesh(
            found[x], found[y], values, vmin=-size, vmax=size, cmap="RdBu_r", rasterized=True
        )
        ax.figure.colorbar(image, ax=ax, label="growth rate (nats per step)")
    ax.set(xlabel=name(x), ylabel=name(y))
    return ax


def phase_portrait(basins: xr.Dataset, mu: float, *, ax=None) -> Axes:
    """Draw outcomes over the (a, b) plane of the product map, with the invariant ellipse and the minima.

    Parameters
    ----------
    basins : Dataset
        From `trainability.basins` over the axes a and b.
    mu : float
        Effective step, between -2 and 2.
    ax : Axes, optional
    """
    ax = ax or _new_axes()
    _categories(basins["outcome"].transpose("b", "a"), OUTCOME_COLORS, ax)
    ellipse = invariant_ellipse(mu)
    ax.plot(*np.vstack([ellipse, ellipse[:1]]).T, color=LINE, lw=1.4, label="invariant ellipse")
    limits = ax.get_xlim(), ax.get_ylim()
    a = np.linspace(limits[0][0], limits[0][1], 2001)
    with np.errstate(divide="ignore"):
        b = mu / a
    b[np.abs(b) > np.abs(limits[1]).max()] = np.nan
    ax.plot(a, b, color="black", lw=0.9, label=r"zero loss, $ab=\mu$")
    ax.plot(a, a, color="black", lw=0.7, ls=":", label="balanced slice")
    ax.set(xlim=limits[0], ylim=limits[1], xlabel="$a$", ylabel="$b$", aspect="equal", title=rf"$\mu={mu:g}$")
    return ax


def outcome_legend(outcomes: Sequence[Outcome]) -> list[Patch]:
    """Handles for a legend of outcomes."""
    return [Patch(facecolor=OUTCOME_COLORS[o], edgecolor="grey", label=o.name.lower()) for o in outcomes]


def trainability(runs: xr.Dataset, *, predicted: xr.Dataset | None = None, ax=None) -> Axes:
    """Draw the status of a two-dimensional trainability map, first axis to the right.

    Parameters
    ----------
    runs : Dataset
        With `status`, dims two hyperparameters.
    predicted : Dataset, optional
        With `boundary`, which is zero on the predicted boundary between bounded and divergent runs, drawn as a
        solid line, and `mu`, whose level 1 (the limit of convergence) is drawn dashed inside it.
    ax : Axes, optional
    """
    ax = ax or _new_axes()
    x, y = runs["status"].dims
    _categories(runs["status"].transpose(y, x), STATUS_COLORS, ax)
    if predicted is not None:
        level = predicted["boundary"].transpose(y, x)
        ax.contour(predicted[x], predicted[y], level, [0.0], colors=LINE, linewidths=1.6)
        convergence = predicted["mu"].transpose(y, x).where(level < 0)
        ax.contour(
            predicted[x], predicted[y], convergence, [1.0], colors=LINE, linewidths=1.2, linestyles="--"
        )
    for which, dim in (("x", x), ("y", y)):
        if runs[dim].attrs.get("scale") == "log":
            ax.set(**{f"{which}scale": "log"})
    plain_log_ticks(ax)
    ax.set(xlabel=name(x), ylabel=name(y))
    return ax


def plain_log_ticks(ax: Axes) -> None:
    """Label logarithmic axes at 1, 2 and 5 of each decade, or at few decades of many, in plain numbers."""
    for axis in (ax.xaxis, ax.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            few = high / low < 1e4
            axis.set_major_locator(
                LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=12 if few else 6)
            )
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())


def status_legend(*, lines: bool = True) -> list:
    """Handles for a legend of statuses and of the predicted lines."""
    shown = (Status.CONVERGED, Status.UNDECIDED, Status.DIVERGED)
    handles: list = [
        Patch(facecolor=STATUS_COLORS[s], edgecolor="grey", label=STATUS_LABELS[s]) for s in shown
    ]
    if lines:
        handles.append(Line2D([], [], color=LINE, lw=1.6, label="predicted: bounded | divergent"))
        handles.append(Line2D([], [], color=LINE, lw=1.2, ls="--", label=r"predicted: $\mu=1$"))
    return handles


def boundary_distances(distances: Mapping[str, BoundaryDistance], *, ax=None) -> Axes:
    """Draw the share of each observed boundary that lies within a distance of the predicted one."""
    ax = ax or _new_axes()
    for label, distance in distances.items():
        values = np.sort(distance.pixels)
        ax.plot(values, np.arange(1, len(values) + 1) / len(values), label=label, lw=1.3)
    ax.axvline(0.5, color="grey", lw=0.8, ls=":")
    ax.set(
        xlabel="distance to the predicted boundary (pixels)",
        ylabel="share of the observed boundary",
        ylim=(0, 1.02),
    )
    ax.set_xlim(left=0)
    ax.legend(frameon=False, loc="lower right")
    return ax


def _new_axes() -> Axes:
    return plt.subplots(layout="constrained")[1]


def _categories(values: xr.DataArray, colors: Mapping[Any, str], ax: Axes) -> None:
    codes = sorted(int(code) for code in colors)
    shades = ListedColormap([colors[code] for code in codes])
    norm = BoundaryNorm(np.arange(-0.5, len(codes)), len(codes))
    y, x = values.dims
    ax.pcolormesh(values[x], values[y], values, cmap=shades, norm=norm, shading="nearest", rasterized=True)


def save(figure: Figure | SubFigure, path, *, dpi: int = 160) -> None:
    """Write a figure and free it."""
    whole = figure.get_figure(root=True)
    whole.savefig(path, dpi=dpi, bbox_inches="tight")
    plt.close(whole)
