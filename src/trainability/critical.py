"""Where the exponents vanish: critical lines, and initializations critical for a depth.

In every convention the gradient exponent exceeds the angle exponent at a collapsed stack whenever attention acts,
because attention averages differences away but not their mean. Both vanish together only without attention's
branch; a finite stack needs no more than that both be small against 1/depth (theory/24).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq, minimize

from ._checks import positive
from .initialization import Exponents, Initialization, check_name
from .recursion import collapsed_exponents, collapsed_norm, gains, resting_norm, stack_exponents

# Ranges searched unless told otherwise. Residual strengths stop short of 0, where a branch is off, and of 1, where a
# skip is (it stays 1 with residual="one"); gains span what networks are initialised with, and ten times more.
_BOUNDS = {
    "alpha_attn": (1e-3, 0.999),
    "alpha_mlp": (1e-3, 0.999),
    "sigma_mlp": (0.05, 50.0),
    "sigma_value": (0.05, 20.0),
    "sigma_out": (0.05, 20.0),
    "sigma_bias": (1e-3, 10.0),
}
_UNSCALED_ALPHA = (1e-4, 10.0)
_LINE_POINTS = 400  # of the scan for a sign change along a critical line
_GRID_POINTS = {1: 2001, 2: 161, 3: 41, 4: 17}  # by the number of hyperparameters varied
# How many times the depth both depth scales are to reach: predicted |λ| depth ≤ 1/4. Means over draws of width 64 at
# 64 blocks then stay within 1/2, a change by e^(1/2); a margin of 2 would put them on that limit.
_MARGIN = 4.0
_ROUNDING = 1e-13
_EXACT = 1e-9  # exponents below this count as zero: what the optimiser resolves
_SLACK = 1e-6  # relative; keeps the optimiser's solution inside the limit


def critical_line(
    init: Initialization,
    vary: str,
    *,
    exponent: str = "angle",
    bounds: tuple[float, float] | None = None,
    depth: int | None = None,
    q: float | None = None,
    **axes,
):
    """Values of one hyperparameter at which an exponent of the collapsed stack vanishes, along others.

    Parameters
    ----------
    init : Initialization
    vary : str
        The hyperparameter solved for: alpha_attn, alpha_mlp, sigma_mlp, sigma_value, sigma_out or sigma_bias.
    exponent : {"angle", "gradient"}, optional
    bounds : (float, float), optional
        Where to look, both positive; the smallest solution is returned.
    depth, q : optional
        As in `predict_exponents`: average over a stack, needed where the stream's norm grows.
    **axes : array_like, shape (m,)
        One or more other hyperparameters and their values.

    Returns
    -------
    xarray.Dataset
        Dims named after `axes`: the critical value of `vary` to 1e-12, and both exponents there. NaN where the
        exponent keeps its sign within the bounds, or is 0 throughout.

    Raises
    ------
    ValueError
        If a name is unknown, bounds are not positive and increasing, or the exponents need a depth.

    References
    ----------
    theory/24 (eq:edge).

    Examples
    --------
    >>> init = Initialization(n_tokens=16, alpha_attn=0.3, alpha_mlp=0.3, sigma_attn=1.0, sigma_mlp=1.0)
    >>> critical_line(init, "sigma_mlp", alpha_attn=[0.1, 0.2, 0.3]).sigma_mlp.values.round(3)
    array([1.18 , 2.184, 3.584])
    """
    import xarray as xr

    check_name("exponent", exponent, ("angle", "gradient"))
    low, high = _checked_bounds(init, (vary,), {vary: bounds} if bounds else {})[vary]
    axes = {name: checked_axis(init, name, values) for name, values in axes.items()}
    if vary in axes:
        raise ValueError(f"{vary} is solved for, so it cannot be an axis")

    shape = tuple(len(values) for values in axes.values())
    mesh = dict(zip(axes, np.meshgrid(*axes.values(), indexing="ij"), strict=True))
    scan = np.geomspace(low, high, _LINE_POINTS)
    column = scan.reshape(-1, *(1 for _ in shape))
    which = ("angle", "gradient").index(exponent)
    curves = np.broadcast_to(
        _exponents(init, {vary: column, **mesh}, depth, q)[which], (_LINE_POINTS, *shape)
    )

    def exponents(value, index):
        point = {name: values[index] for name, values in mesh.items()}
        return _exponents(init, {vary: np.asarray(value), **point}, depth, q)

    found = np.full((3, *shape), np.nan)
    for index in np.ndindex(shape):
        curve = curves[(slice(None), *index)]
        clear = np.flatnonzero(np.abs(curve) > _ROUNDING)  # an exponent that is 0 throughout has no line
        change = np.flatnonzero(np.diff(np.sign(curve[clear])))
        if len(change):
            left, right = scan[clear[change[0] : change[0] + 2]].tolist()
            root = brentq(lambda x, i=index: float(exponents(x, i)[which]), left, right, xtol=1e-13)
            found[(slice(None), *index)] = (root, *exponents(root, index))
    names = (vary, "angle", "gradient")
    return xr.Dataset(
        {name: (tuple(axes), values) for name, values in zip(names, found, strict=True)},
        coords=axes,
        attrs={"initialization": repr(init), "vanishing": exponent},
    )


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class CriticalInitialization:
    """The answer of `critical_initialization`.

    Parameters
    ----------
    initialization : Initialization
    exponents : Exponents
        Predicted for it at collapse.
    kind : {"exact", "deep enough", "trade-off"}
        Both exponents zero; both depth scales at least margin x depth; or neither possible, and
        `initialization` has the smallest larger exponent.
    depth : int
    margin : float
    vary : tuple of str
    frontier : mapping of str to ndarray
        The trade-off: initializations of the searched grid that no other beats in both |angle| and |gradient|,
        by rising |angle|; keys are `vary`, "angle" and "gradient".
    """

    initialization: Initialization
    exponents: Exponents
    kind: str
    depth: int
    margin: float
    vary: tuple[str, ...]
    frontier: Mapping[str, np.ndarray]

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={getattr(self.initialization, name):.4g}" for name in self.vary)
        e = self.exponents
        reached = min(e.depth_scales) / self.depth
        text = {
            "exact": "both exponents vanish",
            "deep enough": f"both depth scales exceed {self.margin:g} x {self.depth} blocks",
            "trade-off": f"the shorter depth scale reaches {reached:.2g} x {self.depth} blocks, not {self.margin:g}",
        }[self.kind]
        return f"{values}: {text} (angle={e.angle:+.2g}, gradient={e.gradient:+.2g})"


def critical_initialization(
    init: Initialization,
    *,
    vary: Sequence[str] = ("sigma_mlp", "alpha_attn", "alpha_mlp"),
    depth: int,
    margin: float = _MARGIN,
    q: float | None = None,
    bounds: Mapping[str, tuple[float, float]] | None = None,
) -> CriticalInitialization:
    """Tune an initialization until signals and gradients pass a stack of given depth.

    Among initializations whose two depth scales 1/|λ| both exceed margin x depth, the one nearest to `init` is
    returned, in the sum of squared log ratios of what may vary. If none exists in the bounds, the one whose larger
    exponent is smallest.

    Parameters
    ----------
    init : Initialization
    vary : sequence of str, optional
        Up to four of alpha_attn, alpha_mlp, sigma_mlp, sigma_value, sigma_out, sigma_bias. sigma_attn and n_tokens
        are not among them: at collapse both exponents are free of them.
    depth : int
        Blocks.
    margin : float, optional
        How many times the depth both depth scales shall reach. 4 keeps the predicted |λ| depth below 1/4, and so
        leaves networks of finite width room within 1/2.
    q : float, optional
        Norm² per dimension of the embedded tokens; matters where the stream's norm grows (residual="one" with
        norm="pre"), and is 1 there if left out.
    bounds : mapping of str to (float, float), optional
        Ranges searched.

    Returns
    -------
    CriticalInitialization

    Raises
    ------
    ValueError
        If depth or margin is not positive, or a name or a range is not one to search.

    Notes
    -----
    Searches a logarithmic grid, then refines by sequential quadratic programming from its best point; a feasible
    region narrower than the grid's spacing can be missed. theory/24 (eq:edge) has the equations.

    Examples
    --------
    >>> init = Initialization(n_tokens=64, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.5)
    >>> found = critical_initialization(init, depth=64)
    >>> found.kind, max(abs(found.exponents.angle), abs(found.exponents.gradient)) * 64 <= 0.25
    ('deep enough', True)
    >>> critical_initialization(init, vary=("sigma_mlp", "alpha_mlp"), depth=64).kind  # attention is too strong
    'trade-off'
    """
    if depth < 1 or depth != int(depth):
        raise ValueError(f"depth={depth} must be a whole number of blocks, at least 1")
    positive("margin", margin)
    vary = (vary,) if isinstance(vary, str) else tuple(vary)
    ranges = _checked_bounds(init, vary, bounds or {})
    logs = np.log([ranges[name] for name in vary])  # (k, 2)
    own = np.log([max(getattr(init, name), np.finfo(float).tiny) for name in vary])
    start = np.clip(own, logs[:, 0], logs[:, 1])
    inside = bool((start == own).all())

    # Where the norm grows, exponents are means over the stack; elsewhere they are those of its resting state.
    over = depth if q is not None or not np.isfinite(collapsed_norm(gains(init))) else None

    def exponents(x):
        values = {name: np.exp(x[i]) for i, name in enumerate(vary)}
        return np.stack(np.broadcast_arrays(*_exponents(init, values, over, q)))

    lines = [np.linspace(low, high, _GRID_POINTS[len(vary)]) for low, high in logs]
    points = np.stack(np.meshgrid(*lines, indexing="ij")).reshape(len(vary), -1)
    # On open axes a kernel is averaged once for each sigma_mlp, not once for each point.
    on_grid = exponents(np.ix_(*lines)).reshape(2, -1)
    larger = np.abs(on_grid).max(0)
    silent = init.alpha_attn * init.sigma_value == 0 and not {"alpha_attn", "sigma_value"} & set(vary)
    x, kind = _choose(exponents, start, points, larger, logs, 1 / (margin * depth), may_vanish=silent)
    found = (
        init
        if x is start and inside
        else init.with_values(**dict(zip(vary, np.exp(x).tolist(), strict=True)))
    )
    angle, gradient = (float(value) for value in exponents(x))
    front = _frontier(np.abs(on_grid))
    return CriticalInitialization(
        initialization=found,
        exponents=Exponents(angle, gradient),
        kind=kind,
        depth=int(depth),
        margin=float(margin),
        vary=vary,
        frontier={
            **{name: np.exp(points[i, front]) for i, name in enumerate(vary)},
            "angle": on_grid[0, front],
            "gradient": on_grid[1, front],
        },
    )


def _choose(exponents, start, points, larger, logs, limit, *, may_vanish):
    """Logarithms of the answer and its kind, from the larger |exponent| at every point of the grid."""

    def size(x):
        return np.abs(exponents(x)).max()

    best = points[:, larger.argmin()]
    if may_vanish:  # without attention both exponents are one and the same function, which may have a zero
        x = start if size(start) < _EXACT else _smallest_larger(exponents, best, logs)
        if size(x) < _EXACT:
            return x, "exact"
    if size(start) <= limit:
        return start, "deep enough"
    if (larger <= limit).any():
        distance = ((points - start[:, None]) ** 2).sum(0)
        nearest = points[:, np.where(larger <= limit, distance, np.inf).argmin()]
        return _nearest_within(exponents, start, nearest, logs, limit), "deep enough"
    x = _smallest_larger(exponents, best, logs)
    return x, "deep enough" if size(x) <= limit else "trade-off"


def _nearest_within(exponents, start, guess, logs, limit):
    """The point nearest to `start` with both |exponents| ≤ limit, from a feasible guess."""
    inside = 1 - _SLACK
    found = _minimise(
        lambda x: float(((x - start) ** 2).sum()),
        lambda x: np.concatenate([inside - exponents(x) / limit, inside + exponents(x) / limit]),
        guess,
        list(logs),
    )
    within = np.abs(exponents(found)).max() <= limit
    return found if within and ((found - start) ** 2).sum() <= ((guess - start) ** 2).sum() else guess


def _smallest_larger(exponents, guess, logs):
    """The point at which the larger |exponent| is smallest: minimise s with both |exponents| ≤ s."""
    size = float(np.abs(exponents(guess)).max())
    found = _minimise(
        lambda x: float(x[-1]),
        lambda x: np.concatenate([x[-1] - exponents(x[:-1]) / size, x[-1] + exponents(x[:-1]) / size]),
        np.append(guess, 1.0),
        [*logs, (0.0, 2.0)],
    )[:-1]
    return found if np.abs(exponents(found)).max() <= size else guess


def _minimise(objective, room, guess, bounds):
    """Minimise `objective` where `room` ≥ 0, by sequential quadratic programming within the bounds."""
    constraint: Any = {"type": "ineq", "fun": room}
    result = minimize(
        objective, guess, method="SLSQP", bounds=bounds, constraints=constraint, options={"ftol": 1e-12}
    )
    return np.clip(result.x, *np.transpose(bounds))


def _frontier(sizes):
    """Indices of the columns of `sizes`, shape (2, m), that no other beats in both rows, by rising first row."""
    order = np.lexsort((sizes[1], sizes[0]))
    best = np.minimum.accumulate(sizes[1, order])
    return order[np.append(True, sizes[1, order[1:]] < best[:-1])]


def _exponents(init, values, depth, q):
    """Both exponents at collapse where some hyperparameters are arrays."""
    g = gains(init, **values)
    start = resting_norm(init, g, depth=depth, q=q)
    return collapsed_exponents(g, start)[:2] if depth is None else stack_exponents(g, depth, start)


def checked_axis(init: Initialization, name: str, values) -> np.ndarray:
    """Return the values of one hyperparameter as a 1-D array, or raise a `ValueError` as `Initialization` would."""
    check_name("hyperparameter", name, (*_BOUNDS, "sigma_attn", "n_tokens"))
    values = np.atleast_1d(getattr(values, "values", values))
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name}: an axis needs a line of values; got shape {values.shape}")
    for value in (values.min(), values.max()):
        init.with_values(**{name: value.item()})
    if np.isnan(values).any():
        raise ValueError(f"{name}: an axis must not hold NaN")
    return values


def _checked_bounds(init, vary, bounds):
    if not 1 <= len(vary) <= max(_GRID_POINTS):
        raise ValueError(f"vary={vary!r} must name one to four hyperparameters of {', '.join(_BOUNDS)}")
    ranges = {}
    for name in vary:
        check_name("hyperparameter to vary", name, tuple(_BOUNDS))
        usual = _UNSCALED_ALPHA if name.startswith("alpha") and init.residual == "one" else _BOUNDS[name]
        low, high = bounds.get(name, usual)
        if not 0 < low < high < math.inf:
            raise ValueError(f"bounds of {name}, ({low}, {high}), must be positive, finite and increasing")
        for value in (low, high):
            init.with_values(**{name: value})
        ranges[name] = (low, high)
    if unknown := sorted(set(bounds) - set(vary)):
        raise ValueError(f"bounds for {unknown[0]!r}, which is not varied; vary={vary!r}")
    return ranges
