"""Lyapunov exponents of maps, with standard errors: one orbit, or a grid of parameters and starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numba import njit
from scipy import stats
from scipy.linalg import null_space

from ._checks import finite, not_negative
from ._lanes import multiply
from ._layout import as_columns, lay_out
from ._map import Map
from ._tangent import accumulate_logs
from .dynamics import ESCAPE, Escaped

# Batch means need enough windows for a stable variance and windows long enough to be nearly
# independent; 64 is in the range recommended for steady-state simulation (Law & Kelton, ch. 9).
WINDOWS = 64

# On a grid, tangent vectors are made orthogonal every so many steps. Between two times their
# directions may differ in growth by e^(8 Δλ), of which double precision keeps e^36.
GRID_RENORMALISE = 8

# A start this far out of an invariant subspace, relative to its size, is in it up to rounding.
_SUBSPACE_TOL = 1e-12


@dataclass(frozen=True, kw_only=True, eq=False)
class LyapunovSpectrum:
    """Lyapunov exponents of one orbit.

    Attributes
    ----------
    exponents : ndarray, shape (m,)
        Nats per iteration, descending.
    stderr : ndarray, shape (m,)
        Standard errors by batch means over `windows`.
    windows : ndarray, shape (n_windows, m)
        Mean exponents of consecutive windows of `window_length` iterations: the curve behind the value.
    window_length : int
    state : ndarray, shape (d,)
        Where the orbit stands now; `resume` goes on from here.
    frame : ndarray, shape (m, d)
        Orthonormal tangent vectors there.
    """

    exponents: np.ndarray
    stderr: np.ndarray
    windows: np.ndarray
    window_length: int
    state: np.ndarray
    frame: np.ndarray

    @property
    def n(self) -> int:
        """Iterations averaged over."""
        return len(self.windows) * self.window_length

    @property
    def history(self) -> np.ndarray:
        """Running estimate after each window, shape (n_windows, m)."""
        return np.cumsum(self.windows, axis=0) / np.arange(1, len(self.windows) + 1)[:, None]

    @property
    def intervals(self) -> np.ndarray:
        """95 % intervals, shape (m, 2), from Student's t with n_windows - 1 degrees of freedom."""
        half = stats.t.ppf(0.975, len(self.windows) - 1) * self.stderr
        return np.stack([self.exponents - half, self.exponents + half], axis=-1)

    def __repr__(self) -> str:
        pairs = zip(self.exponents, self.stderr, strict=True)
        values = ", ".join(
            f"λ{i} = {value:.6g} ± {error:.1g}" for i, (value, error) in enumerate(pairs, start=1)
        )
        top, error = self.exponents[0], self.stderr[0]
        kind = "chaotic" if top > 4 * error else "regular" if top < -4 * error else "undecided"
        return f"{values} ({kind}, n = {self.n})"


def lyapunov_spectrum(
    map: Map,
    u0=None,
    *,
    n: int,
    transient: int = 0,
    n_exponents: int | None = None,
    transverse_to=None,
    target_stderr: float | None = None,
    resume: LyapunovSpectrum | None = None,
    escape: float = ESCAPE,
) -> LyapunovSpectrum:
    """Lyapunov exponents of one orbit, largest first.

    Averages log |R_ii| over successive QR factorisations of the tangent map, one at every step.

    Parameters
    ----------
    map : Map
    u0 : array_like, shape (d,)
        Where the orbit starts; not needed with `resume`.
    n : int
        Iterations averaged over; at least 128. Rounded down to whole windows.
    transient : int, optional
        Iterations run first and discarded.
    n_exponents : int, optional
        How many of the largest exponents; all d by default.
    transverse_to : array_like, shape (k, d), optional
        Basis of an invariant linear subspace in which the orbit lives; the exponents are then the d - k of
        perturbations out of it.
    target_stderr : float, optional
        Stop after the first eighth of `n` at which every standard error is at most this.
    resume : LyapunovSpectrum, optional
        Go on from an earlier result of the same map for `n` more iterations, and average over both.
    escape : float, optional

    Returns
    -------
    LyapunovSpectrum

    Raises
    ------
    Escaped
        If the orbit leaves every bounded set; `.step` says when, `.found` is the spectrum of the whole
        windows before (None if there are fewer than two).
    ValueError
        If the start is not finite or not in the subspace, or `n` is too small for a standard error.

    Notes
    -----
    The statistical error falls like 1/√n on a chaotic attractor, and faster where the logarithms are a
    coboundary (as on Chebyshev maps), where batch means overstate it. On a cycle it falls like 1/n.
    An exact zero in R counts as the smallest normal number, so a superstable exponent comes out large
    and negative instead of infinite. On a *repelling* set rounding pushes the orbit away: integrate
    over the invariant measure instead.

    References
    ----------
    Benettin et al., Meccanica 15, 9-30 (1980).

    Examples
    --------
    >>> from trainability import product_map
    >>> spectrum = lyapunov_spectrum(product_map(1.1), [0.3, 0.3], n=20_000, transient=2_000)
    >>> spectrum.exponents.round(3)
    array([-0.112, -0.857])
    """
    not_negative(n=n, transient=transient)
    jacobian, frame = map.jacobian, np.eye(map.d)
    if transverse_to is not None:
        jacobian, frame = _transverse(map, transverse_to)
    m = len(frame) if n_exponents is None else n_exponents
    if not 1 <= m <= len(frame):
        raise ValueError(
            f"n_exponents={n_exponents} must be between 1 and {len(frame)}, the directions there are"
        )
    if resume is None:
        if n < 2 * WINDOWS:
            raise ValueError(f"n={n} is too short for a standard error; use at least {2 * WINDOWS}")
        u = map.check_states(u0)
        if u.ndim != 1:
            raise ValueError(f"u0 has shape {u.shape}; one orbit needs ({map.d},) (lyapunov_map takes many)")
        if transverse_to is not None and np.abs(frame @ u).max() > _SUBSPACE_TOL * (1 + np.abs(u).max()):
            raise ValueError(
                f"u0={u} is not in the subspace transverse_to={np.asarray(transverse_to).tolist()}"
            )
        windows, length, frame = np.empty((0, m)), n // WINDOWS, frame[:m]
    else:
        u, frame, windows, length = resume.state, resume.frame, resume.windows, resume.window_length
        m = len(frame)
    state, frame = u[:, None].copy(), frame[:, :, None].copy()  # both move along in place
    parameters = np.array(list(map.parameters.values()))[:, None]
    wanted = max(n // length, 1)
    chunk = wanted if target_stderr is None else max(wanted // 8, 2)
    for first in range(0, wanted, chunk):
        lead = transient if first == 0 and resume is None else 0
        sums = np.zeros((min(chunk, wanted - first), m, 1))
        stop = np.full(1, -1)
        accumulate_logs(
            map.step,
            jacobian,
            state,
            frame,
            parameters,
            map.u_like,
            map.p_like,
            (0.0,) * m,
            lead,
            length,
            1,
            escape,
            stop,
            sums,
        )
        before = len(windows) * length
        whole = len(sums) if stop[0] < 0 else max(stop[0] - lead, 0) // length
        windows = np.concatenate([windows, sums[:whole, :, 0] / length])
        if stop[0] >= 0:
            averaging = stop[0] >= lead
            step, phase = (stop[0] - lead + before, "average") if averaging else (stop[0], "transient")
            raise Escaped(
                f"{map.name}: orbit left every bounded set at step {step} of the {phase}",
                step=int(step),
                found=_spectrum(windows, length, state, frame) if len(windows) > 1 else None,
            )
        if target_stderr is not None and (_stderr(windows) <= target_stderr).all():
            break
    return _spectrum(windows, length, state, frame)


def finite_time_exponents(
    map: Map, u0, *, n: int, transient: int = 0, n_exponents: int | None = None
) -> np.ndarray:
    """Lyapunov exponents over exactly `n` steps, from many starts.

    Their spread shows how uneven an attractor is; their mean over an invariant measure is the Lyapunov exponent.

    Parameters
    ----------
    map : Map
    u0 : array_like, shape (..., d)
    n : int
        Steps averaged over, at least 1.
    transient : int, optional
    n_exponents : int, optional
        How many of the largest; all d by default.

    Returns
    -------
    ndarray, shape (..., m)
        Nats per iteration, in the order of the QR factorisation started from the coordinate axes; NaN where
        the orbit escaped.

    Raises
    ------
    ValueError
        If a start is not finite or a count is too small.

    Examples
    --------
    >>> from trainability import product_map
    >>> finite_time_exponents(product_map(1.5), [[0.3, 0.3], [0.4, 0.4]], n=20, transient=100, n_exponents=1).round(2)
    array([[0.4 ],
           [0.48]])
    """
    not_negative(transient=transient)
    m = map.d if n_exponents is None else n_exponents
    if n < 1 or not 1 <= m <= map.d:
        raise ValueError(f"n={n} must be at least 1, and n_exponents={n_exponents} between 1 and {map.d}")
    u = map.check_states(u0)
    states, parameters = as_columns(map, u)
    frames = np.repeat(np.eye(map.d)[:m, :, None], states.shape[1], axis=2)
    sums, stop = np.zeros((1, m, states.shape[1])), np.full(states.shape[1], -1)
    likes = map.u_like, map.p_like, (0.0,) * m
    accumulate_logs(
        map.step, map.jacobian, states, frames, parameters, *likes, transient, n, 1, ESCAPE, stop, sums
    )
    sums[..., stop >= 0] = np.nan
    return (sums[0] / n).T.reshape(*u.shape[:-1], m)


def _transverse(map: Map, basis):
    """Jacobian projected out of the subspace spanned by `basis` (k, d), and a basis (d - k, d) across it."""
    basis = np.atleast_2d(finite("transverse_to", basis))
    across = null_space(basis).T if basis.shape[1] == map.d else np.empty((0, map.d))
    if len(across) == 0:
        raise ValueError(
            f"transverse_to of shape {basis.shape} leaves nothing across; give fewer than {map.d} rows of {map.d}"
        )
    projection, inner = tuple(tuple(float(x) for x in row) for row in across.T @ across), map.jacobian

    @njit
    def jacobian(u, p):
        return multiply(projection, inner(u, p))

    return jacobian, across


def _stderr(windows: np.ndarray) -> np.ndarray:
    return windows.std(axis=0, ddof=1) / np.sqrt(len(windows))


def _spectrum(windows, length, state, frame) -> LyapunovSpectrum:
    return LyapunovSpectrum(
        exponents=windows.mean(axis=0),
        stderr=_stderr(windows),
        windows=windows,
        window_length=length,
        state=state[:, 0].copy(),
        frame=frame[:, :, 0].copy(),
    )


def lyapunov_map(
    map: Map | Callable[..., Map],
    axes: Mapping[str, np.ndarray],
    *,
    u0=None,
    n: int,
    transient: int = 2000,
    n_exponents: int | None = None,
    renormalise: int = GRID_RENORMALISE,
    escape: float = ESCAPE,
) -> xr.Dataset:
    """Lyapunov exponents over a grid of parameters and starting coordinates.

    Parameters
    ----------
    map : Map or callable
        A map, or a function such as `product_map` that makes one with default parameters.
    axes : mapping of str to array_like, shape (m_i,)
        Parameters or variables of the map, in the order of the dims; a `Grid` fits.
    u0 : array_like, shape (d,), optional
        The start of the variables that are not axes.
    n : int
        Iterations averaged over; at least 128.
    transient : int, optional
    n_exponents : int, optional
        How many of the largest exponents; all d by default.
    renormalise : int, optional
        Steps between two QR factorisations.
    escape : float, optional

    Returns
    -------
    Dataset, dims (*axes, index)
        `exponent` and `stderr` in nats per iteration, descending in `index`; NaN where the orbit escaped,
        and `escape_step` (-1 where it stayed) says so.

    Raises
    ------
    ValueError
        For an axis that is empty, not increasing, not finite, or not of the map.

    Notes
    -----
    Accuracy as in `lyapunov_spectrum`. Exponents that differ by more than about 36 / `renormalise` from
    the largest drown in its rounding; lower `renormalise` to resolve them.

    Examples
    --------
    >>> from trainability import product_map
    >>> found = lyapunov_map(product_map, {"mu": [0.5, 1.1, 1.9]}, u0=[0.3, 0.31], n=20_000)
    >>> found["exponent"].sel(index=0).values.round(2)
    array([-0.  , -0.11,  0.88])
    """
    map, states, parameters, coords = lay_out(map, axes, u0)
    not_negative(n=n, transient=transient)
    m = map.d if n_exponents is None else n_exponents
    if n < 2 * WINDOWS:
        raise ValueError(f"n={n} is too short for a standard error; use at least {2 * WINDOWS}")
    if renormalise < 1:
        raise ValueError(f"renormalise={renormalise} must be at least 1")
    pixels = states.shape[1]
    frame = np.repeat(np.eye(map.d)[:m, :, None], pixels, axis=2)
    length = n // WINDOWS // renormalise * renormalise or renormalise
    sums = np.zeros((WINDOWS, m, pixels))
    stop = np.full(pixels, -1)
    accumulate_logs(
        map.step,
        map.jacobian,
        states,
        frame,
        parameters,
        map.u_like,
        map.p_like,
        (0.0,) * m,
        transient,
        length,
        renormalise,
        escape,
        stop,
        sums,
    )
    means = sums / length
    value, error = means.mean(axis=0), _stderr(means)
    value[:, stop >= 0] = error[:, stop >= 0] = np.nan
    shape = tuple(len(c) for c in coords.values())
    dims = (*coords, "index")
    return xr.Dataset(
        {
            "exponent": (dims, value.T.reshape(*shape, m), {"units": "nats per iteration"}),
            "stderr": (dims, error.T.reshape(*shape, m), {"units": "nats per iteration"}),
            "escape_step": (tuple(coords), stop.reshape(shape), {"long_name": "step of escape, -1 if none"}),
        },
        coords={**coords, "index": np.arange(m)},
        attrs={"map": map.name, "n": length * WINDOWS, "transient": transient, "renormalise": renormalise},
    )
