"""Long-run outcomes of orbits: one start or a whole grid of starts and parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import xarray as xr
from numba import njit, prange

from ._checks import not_negative
from ._lanes import push, put, take
from ._layout import as_columns, lay_out
from ._map import Map
from ._tangent import orthonormalise
from .dynamics import ESCAPE, LANES, mark_escaped

# Two states closer than this, relative to their size, are the same point of a cycle. Far above rounding
# (1e-16), far below the spacing of points in the cascade up to its eighth doubling (about 1e-5).
CYCLE_TOL = 1e-9

# A loss that rises by less than this, relative to the first, is rounding and no catapult.
RISE_TOL = 1e-12

# Growth of a tangent vector, in nats per iteration over the second half of the run, that counts as chaos.
# A cycle that is still being approached has a negative rate; 0.005 over 2000 steps is e^10.
CHAOS_RATE = 5e-3


class Outcome(IntEnum):
    """Long-run outcome of an orbit; int8 codes in arrays."""

    UNDECIDED = 0
    CONVERGED = 1
    CATAPULT = 2
    CYCLE = 3
    CHAOTIC = 4
    DIVERGED = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcomes:
    """Outcomes of many orbits.

    Attributes
    ----------
    outcome : ndarray of int8, shape (...)
        `Outcome` codes. CONVERGED: to a fixed point, the loss never rising. CATAPULT: to a fixed point
        after the loss rose. CYCLE: period at least 2. CHAOTIC: nearby orbits part. DIVERGED: escaped.
    period : ndarray of int32, shape (...)
        1 for a fixed point, k for a cycle, 0 otherwise.
    step : ndarray of int64, shape (...)
        Step of escape; or the first step with the loss (without one: the distance moved) at most
        `loss_tol`; -1 if neither.
    rate : ndarray, shape (...)
        Growth rate of a tangent vector over the second half of the run, nats per iteration.
    """

    outcome: np.ndarray
    period: np.ndarray
    step: np.ndarray
    rate: np.ndarray

    def __repr__(self) -> str:
        if self.outcome.ndim == 0:
            tail = (
                f", period {self.period}"
                if self.period > 1
                else f" at step {self.step}"
                if self.step >= 0
                else ""
            )
            return f"{Outcome(int(self.outcome)).name.lower()}{tail}"
        codes, counts = np.unique(self.outcome, return_counts=True)
        parts = (f"{Outcome(code).name.lower()} {count}" for code, count in zip(codes, counts, strict=True))
        return f"Outcomes({', '.join(parts)})"


def classify(
    map: Map,
    u0,
    *,
    n: int = 4000,
    max_period: int = 64,
    loss_tol: float = 1e-12,
    escape: float = ESCAPE,
    **parameters,
) -> Outcomes:
    """Say what becomes of orbits: converged, catapulted, cycle, chaotic, diverged or undecided.

    Parameters
    ----------
    map : Map
        With its `loss`, convergence after a rise of the loss is told from monotone convergence.
    u0 : array_like, shape (..., d)
    n : int, optional
        Iterations before the search for a period.
    max_period : int, optional
    loss_tol : float, optional
        Loss at which `Outcomes.step` calls the run finished.
    escape : float, optional
    **parameters : array_like
        Parameter values, broadcast against the starts.

    Returns
    -------
    Outcomes
        Arrays of the broadcast shape.

    Raises
    ------
    ValueError
        If a start or parameter is not finite, or the map lacks the parameter.

    Notes
    -----
    A finite run is judged: slow convergence (near mu = 1 it is algebraic) and long periods come out as
    UNDECIDED, orbits that would escape later as what they look like now.

    Examples
    --------
    >>> from trainability import product_map
    >>> classify(product_map(), [0.3, 0.3], mu=1.1)
    cycle, period 2
    >>> classify(product_map(), [1.2, 1.21], mu=[0.5, 0.95, 1.9, 2.5])
    Outcomes(converged 1, catapult 1, chaotic 1, diverged 1)
    """
    not_negative(n=n, max_period=max_period)
    u = map.check_states(u0)
    for name, value in parameters.items():
        map.parameter_index(name)
        if not np.isfinite(value).all():
            raise ValueError(
                f"{name} must be finite; found {np.ravel(value)[~np.isfinite(np.ravel(value))][0]}"
            )
    shape = np.broadcast_shapes(u.shape[:-1], *(np.shape(v) for v in parameters.values()))
    u = np.broadcast_to(u, (*shape, map.d))
    found = _classify(map, *as_columns(map, u, parameters), n, max_period, loss_tol, escape)
    return Outcomes(**{name: values.reshape(shape)[()] for name, values in found.items()})


def basins(
    map: Map | Callable[..., Map],
    axes: Mapping[str, np.ndarray],
    *,
    u0=None,
    n: int = 4000,
    max_period: int = 64,
    loss_tol: float = 1e-12,
    escape: float = ESCAPE,
) -> xr.Dataset:
    """Outcome of orbits over a grid of starting coordinates and parameters.

    Parameters
    ----------
    map : Map or callable
    axes : mapping of str to array_like, shape (m_i,)
        Variables or parameters of the map, in the order of the dims; a `Grid` fits.
    u0 : array_like, shape (d,), optional
        The start of the variables that are not axes.
    n, max_period, loss_tol, escape
        As in `classify`.

    Returns
    -------
    Dataset, dims axes
        `outcome` (int8 `Outcome` codes with flag_meanings), `period`, `step`, `rate` as in `Outcomes`.

    Raises
    ------
    ValueError
        For an axis that is empty, not increasing, not finite, or not of the map.

    Examples
    --------
    >>> from trainability import product_map
    >>> found = basins(product_map(0.7), {"a": [0.5, 2.5], "b": [-0.5, 0.5]})
    >>> found["outcome"].values
    array([[1, 1],
           [5, 5]], dtype=int8)
    """
    map, states, parameters, coords = lay_out(map, axes, u0)
    not_negative(n=n, max_period=max_period)
    shape, dims = tuple(len(c) for c in coords.values()), tuple(coords)
    found = _classify(map, states, parameters, n, max_period, loss_tol, escape)
    ds = xr.Dataset(
        {name: (dims, values.reshape(shape)) for name, values in found.items()},
        coords=coords,
        attrs={"map": map.name, "n": n, "max_period": max_period},
    )
    ds["outcome"].attrs = {
        "flag_values": [int(o) for o in Outcome],
        "flag_meanings": " ".join(o.name.lower() for o in Outcome),
    }
    return ds


def _classify(map, states, parameters, n, max_period, loss_tol, escape) -> dict[str, np.ndarray]:
    pixels = states.shape[1]
    found = {
        "outcome": np.zeros(pixels, np.int8),
        "period": np.zeros(pixels, np.int32),
        "step": np.full(pixels, -1),
        "rate": np.full(pixels, np.nan),
    }
    has_loss = map.loss is not None
    _follow(
        map.step,
        map.jacobian,
        map.loss if has_loss else _no_loss,
        has_loss,
        states,
        parameters,
        map.u_like,
        map.p_like,
        n,
        max_period,
        loss_tol,
        escape,
        *found.values(),
    )
    return found


@njit
def _no_loss(u, p):
    return 0.0


@njit
def _distance(u, v, lane):
    """Largest coordinate difference of two blocks at `lane`, relative to the size of the state."""
    far, size = 0.0, 1.0
    for i in range(u.shape[0]):
        far = max(far, abs(u[i, lane] - v[i, lane]))
        size = max(size, abs(u[i, lane]))
    return far / size


@njit(parallel=True)
def _follow(
    step,
    jacobian,
    loss,
    has_loss,
    states,
    parameters,
    u_like,
    p_like,
    n,
    max_period,
    loss_tol,
    escape,
    outcome,
    period,
    finished,
    rate,
):
    """Run every pixel for `n` steps, watching loss, tangent growth and escape; then look for a period."""
    pixels = states.shape[1]
    half = n // 2
    for block in prange((pixels + LANES - 1) // LANES):
        lanes = slice(block * LANES, min((block + 1) * LANES, pixels))
        u, p = states[:, lanes].copy(), parameters[:, lanes].copy()
        before = u.copy()
        width = u.shape[1]
        stop, reached = np.full(width, -1), np.full(width, -1)
        first, last, rose = np.zeros(width), np.zeros(width), np.zeros(width, np.bool_)
        frame = np.full((1, u.shape[0], width), 1.0 / np.sqrt(u.shape[0]))
        mantissa, exponent = np.ones((1, width)), np.zeros((1, width), np.int64)
        growth = np.zeros(width)
        for t in range(n):
            mark_escaped(u, t, escape, stop)
            for lane in range(width):
                if has_loss:
                    now = loss(take(u, lane, u_like), take(p, lane, p_like))
                    if t == 0:
                        first[lane] = now
                    elif now > last[lane] + RISE_TOL * first[lane]:
                        rose[lane] = True
                    last[lane] = now
                else:
                    now = _distance(u, before, lane) if t > 0 else np.inf
                if reached[lane] < 0 and now <= loss_tol:
                    reached[lane] = t
            before[:] = u
            for lane in range(width):
                if t >= half:
                    push(step, jacobian, u, frame, p, lane, u_like, p_like, (0.0,), (0.0,))
                else:
                    put(u, lane, step(take(u, lane, u_like), take(p, lane, p_like)))
            if t >= half:
                orthonormalise(frame, mantissa, exponent)
                if t % 512 == 0 or t == n - 1:
                    for lane in range(width):
                        growth[lane] += np.log(mantissa[0, lane]) + exponent[0, lane] * np.log(2.0)
                        mantissa[0, lane] = 1.0
                        exponent[0, lane] = 0
        reference = u.copy()
        cycle = np.zeros(width, np.int32)
        for k in range(1, max_period + 1):
            mark_escaped(u, n + k, escape, stop)
            for lane in range(width):
                put(u, lane, step(take(u, lane, u_like), take(p, lane, p_like)))
                if cycle[lane] == 0 and _distance(reference, u, lane) <= CYCLE_TOL:
                    cycle[lane] = k
        for lane in range(width):
            pixel = block * LANES + lane
            if stop[lane] >= 0:
                outcome[pixel], finished[pixel] = Outcome.DIVERGED, stop[lane]
                continue
            rate[pixel] = growth[lane] / max(n - half, 1)
            finished[pixel], period[pixel] = reached[lane], cycle[lane]
            if cycle[lane] == 1:
                outcome[pixel] = Outcome.CATAPULT if rose[lane] else Outcome.CONVERGED
            elif cycle[lane] > 1:
                outcome[pixel] = Outcome.CYCLE
            elif rate[pixel] > CHAOS_RATE:
                outcome[pixel] = Outcome.CHAOTIC
