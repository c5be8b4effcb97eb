"""Orbits of maps and orbit diagrams over a parameter."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from numba import njit, prange

from ._checks import increasing, not_negative
from ._lanes import put, take
from ._layout import as_columns
from ._map import Map

# States advanced together: enough independent chains to hide the latency of a fused multiply-add
# (16 vectors of 8 doubles), few enough that a block stays in the first-level cache.
LANES = 128

# Beyond this the maps of training never return; polynomial maps overflow a few steps later.
ESCAPE = 1e8


class Escaped(RuntimeError):
    """An orbit left every bounded set; `step` says when, `found` holds what was accumulated before."""

    def __init__(self, message: str, *, step: int, found=None):
        super().__init__(message)
        self.step = step
        self.found = found


def orbit(map: Map, u0, *, n: int, transient: int = 0, escape: float = ESCAPE) -> np.ndarray:
    """Iterate a map from one or many starts.

    Parameters
    ----------
    map : Map
    u0 : array_like, shape (..., d)
    n : int
        Iterations recorded after the transient.
    transient : int, optional
        Iterations run first and not recorded.
    escape : float, optional
        A coordinate beyond this ends the orbit.

    Returns
    -------
    ndarray, shape (..., n + 1, d)
        The first row is the state after the transient. Rows after an escape are NaN: the orbit is not
        defined there.

    Raises
    ------
    ValueError
        If `u0` is not finite or has the wrong shape, or a count is negative.

    Examples
    --------
    >>> from trainability import product_map
    >>> orbit(product_map(0.5), [0.5, 0.5], n=2)
    array([[0.5     , 0.5     ],
           [0.625   , 0.625   ],
           [0.693359, 0.693359]])
    """
    not_negative(n=n, transient=transient)
    u = map.check_states(u0)
    columns, parameters = as_columns(map, u)
    out = np.empty((n + 1, *columns.shape))
    _record(map.step, columns, parameters, map.u_like, map.p_like, transient, escape, out)
    return np.moveaxis(out, -1, 0).reshape(*u.shape[:-1], n + 1, map.d)


def orbit_diagram(
    map: Map | Callable[..., Map],
    parameter: str,
    values,
    *,
    u0,
    n: int = 256,
    transient: int = 2000,
    carry: str | None = None,
    escape: float = ESCAPE,
) -> xr.Dataset:
    """Last iterates of a map over a range of one parameter.

    Parameters
    ----------
    map : Map or callable
        A map, or a function such as `product_map` that makes one from the named parameter.
    parameter : str
    values : array_like, shape (m,)
        Strictly increasing.
    u0 : array_like, shape (d,)
        The start at every value, or with `carry` at the first.
    n : int, optional
        Iterates kept at each value.
    transient : int, optional
        Iterates run first and discarded.
    carry : {None, "forward", "backward"}, optional
        Start each value where the one before it ended, going up or down. The two directions differ where
        attractors coexist. A value whose orbit escapes hands `u0` on.
    escape : float, optional

    Returns
    -------
    Dataset, dims (parameter, iterate)
        One variable for each of the map's, NaN from the step of escape on, and `escape_step` (parameter),
        counted from the start of the transient, -1 where the orbit stayed.

    Raises
    ------
    ValueError
        If `values` is empty, not finite or not increasing, or the map lacks the parameter.

    Examples
    --------
    >>> from trainability import product_map
    >>> diagram = orbit_diagram(product_map, "mu", [0.5, 1.1], u0=[0.3, 0.3], n=4)
    >>> diagram["a"].sel(mu=0.5).values
    array([0.707107, 0.707107, 0.707107, 0.707107])
    >>> diagram["a"].sel(mu=1.1).values.round(3)
    array([0.854, 1.171, 0.854, 1.171])
    """
    values = increasing(parameter, values)
    map = settle_map(map, parameter, values[0])
    not_negative(n=n, transient=transient)
    start = map.check_states(u0)
    columns, parameters = as_columns(map, np.broadcast_to(start, (len(values), map.d)), {parameter: values})
    out = np.empty((n, *columns.shape))
    if carry is None:
        stop = _record(map.step, columns, parameters, map.u_like, map.p_like, transient, escape, out)
    elif carry in ("forward", "backward"):
        order = np.arange(len(values))[:: 1 if carry == "forward" else -1]
        stop = np.empty(len(values), np.int64)
        state = start
        for i in order:
            one = np.ascontiguousarray(state[:, None]), np.ascontiguousarray(parameters[:, i : i + 1])
            stop[i] = _record(
                map.step, *one, map.u_like, map.p_like, transient, escape, out[:, :, i : i + 1]
            )[0]
            state = start if stop[i] >= 0 else out[-1, :, i]
    else:
        raise ValueError(f"carry={carry!r} is not a direction; use None, 'forward' or 'backward'")
    data = {name: ((parameter, "iterate"), out[:, i].T) for i, name in enumerate(map.variables)}
    return xr.Dataset(
        {**data, "escape_step": (parameter, stop, {"long_name": "step of escape, -1 if none"})},
        coords={parameter: values, "iterate": np.arange(n)},
        attrs={"map": map.name, "u0": start.tolist(), "transient": transient, "carry": carry or "none"},
    )


def orbit_density(
    map: Map | Callable[..., Map],
    parameter: str,
    values,
    variable: str,
    *,
    u0,
    bins: int,
    bounds: tuple[float, float],
    n: int,
    transient: int = 2000,
    escape: float = ESCAPE,
) -> xr.Dataset:
    """Count where the iterates of a map fall, over a range of one parameter, without storing them.

    The orbit diagram of as many iterates as one likes, at the size of its picture.

    Parameters
    ----------
    map, parameter, values, u0, transient, escape
        As in `orbit_diagram`.
    variable : str
        Whose values are counted.
    bins : int
    bounds : (float, float)
        Range cut into `bins` equal bins.
    n : int
        Iterates counted at each value of the parameter.

    Returns
    -------
    Dataset, dims (parameter, variable)
        `counts`; a row sums to `n` less the iterates out of bounds or escaped. `escape_step` as in
        `orbit_diagram`.

    Raises
    ------
    ValueError
        As `orbit_diagram`; or for bounds that are empty or reversed, no bins, or an unknown variable.

    Examples
    --------
    >>> from trainability import product_map
    >>> found = orbit_density(product_map, "mu", [1.1], "a", u0=[0.3, 0.3], bins=8, bounds=(0, 2), n=1000)
    >>> found["counts"].values
    array([[  0,   0,   0, 500, 500,   0,   0,   0]])
    """
    values = increasing(parameter, values)
    map = settle_map(map, parameter, values[0])
    not_negative(n=n, transient=transient)
    low, high = bounds
    if not (np.isfinite([low, high]).all() and low < high and bins > 0):
        raise ValueError(
            f"bounds={bounds} with bins={bins} cut nothing; give low < high and at least one bin"
        )
    if variable not in map.variables:
        raise ValueError(f"{variable!r} is not a variable of {map.name}; it has {', '.join(map.variables)}")
    start = map.check_states(u0)
    columns, parameters = as_columns(map, np.broadcast_to(start, (len(values), map.d)), {parameter: values})
    counts = np.zeros((len(values), bins), np.int64)
    stop = _count(
        map.step,
        columns,
        parameters,
        map.u_like,
        map.p_like,
        map.variables.index(variable),
        transient,
        n,
        float(low),
        bins / (high - low),
        escape,
        counts,
    )
    return xr.Dataset(
        {
            "counts": ((parameter, variable), counts),
            "escape_step": (parameter, stop, {"long_name": "step of escape, -1 if none"}),
        },
        coords={parameter: values, variable: low + (high - low) * (np.arange(bins) + 0.5) / bins},
        attrs={"map": map.name, "u0": start.tolist(), "transient": transient, "n": n},
    )


def settle_map(map: Map | Callable[..., Map], parameter: str, value: float) -> Map:
    """Return a map that has `parameter`: `map` itself, or what the function `map` makes."""
    if not isinstance(map, Map):
        try:
            map = map(**{parameter: float(value)})
        except TypeError as error:
            raise ValueError(f"{parameter!r} is not a parameter of {map!r}: {error}") from error
    map.parameter_index(parameter)
    return map


@njit
def advance(step, u, p, u_like, p_like, n):
    """Iterate all lanes of the block `u` (d, lanes) `n` times in place."""
    for _ in range(n):
        for lane in range(u.shape[1]):
            put(u, lane, step(take(u, lane, u_like), take(p, lane, p_like)))


@njit
def mark_escaped(u, t, escape, stop):
    """Write `t` into `stop` (lanes) where a lane of `u` is beyond `escape` or not finite for the first time."""
    for i in range(u.shape[0]):
        for lane in range(u.shape[1]):
            out = not abs(u[i, lane]) <= escape
            stop[lane] = t if out and stop[lane] < 0 else stop[lane]


@njit(parallel=True)
def _record(step, columns, parameters, u_like, p_like, transient, escape, out):
    """Fill `out` (n, d, pixels) with the iterates after the transient; return the steps of escape."""
    pixels = columns.shape[1]
    stop = np.full(pixels, -1)
    for block in prange((pixels + LANES - 1) // LANES):
        lanes = slice(block * LANES, min((block + 1) * LANES, pixels))
        u, p = columns[:, lanes].copy(), parameters[:, lanes].copy()
        for t in range(transient + out.shape[0]):
            if t >= transient:
                out[t - transient, :, lanes] = u
            mark_escaped(u, t, escape, stop[lanes])
            advance(step, u, p, u_like, p_like, 1)
        for lane in range(u.shape[1]):
            first = stop[lanes][lane]
            if first >= 0:
                out[max(first - transient, 0) :, :, block * LANES + lane] = np.nan
    return stop


# Counting is bound by one increment an iterate, so its blocks are small: 16 rows of counts stay in the
# first-level cache. Escapes are looked for, and counts carried over from 32 bits, once a stretch.
_COUNT_LANES, _STRETCH = 16, 4096


@njit(parallel=True, error_model="numpy")
def _count(step, columns, parameters, u_like, p_like, variable, transient, n, low, per_unit, escape, counts):
    """Histogram one variable of every pixel into `counts` (pixels, bins); return the steps of escape.

    Escapes are dated by the first stretch that ends in one.
    """
    pixels, bins = counts.shape
    stop = np.full(pixels, -1)
    for block in prange((pixels + _COUNT_LANES - 1) // _COUNT_LANES):
        lanes = slice(block * _COUNT_LANES, min((block + 1) * _COUNT_LANES, pixels))
        u, p = columns[:, lanes].copy(), parameters[:, lanes].copy()
        width = u.shape[1]
        rows = np.zeros((width, bins + 1), np.int32)  # the last bin takes what is out of bounds
        bin_of = np.empty(width, np.int32)
        for t in range(0, transient, _STRETCH):
            advance(step, u, p, u_like, p_like, min(_STRETCH, transient - t))
            mark_escaped(u, min(t + _STRETCH, transient), escape, stop[lanes])
        for t in range(0, n, _STRETCH):
            for _ in range(min(_STRETCH, n - t)):
                for lane in range(width):
                    x = (u[variable, lane] - low) * per_unit
                    bin_of[lane] = np.int32(x) if 0 <= x < bins else np.int32(bins)
                    put(u, lane, step(take(u, lane, u_like), take(p, lane, p_like)))
                for lane in range(width):
                    rows[lane, np.uint32(bin_of[lane])] += 1
            mark_escaped(u, transient + min(t + _STRETCH, n), escape, stop[lanes])
            for lane in range(width):
                for i in range(bins):
                    counts[lanes.start + lane, i] += rows[lane, i]
            rows[:] = 0
    return stop
