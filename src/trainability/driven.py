"""Maps whose parameters change from step to step: by a schedule, or at random as mini-batches do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numba import njit, prange

from ._checks import finite, not_negative
from ._lanes import push, put, take
from ._map import Map
from ._rng import stream
from ._tangent import orthonormalise
from .dynamics import ESCAPE, LANES, Escaped, mark_escaped

# Steps for which parameters are drawn at once: bounds the memory, not the result.
_CHUNK = 512

# How far a fixed point may move in one step, relative to its size, and still count as one.
_FIXED_TOL = 1e-9


def driven_orbit(map: Map, u0, parameters: Mapping[str, np.ndarray], *, escape: float = ESCAPE) -> np.ndarray:
    """Iterate a map while its parameters follow a given sequence.

    Parameters
    ----------
    map : Map
        Parameters that are not driven keep their values.
    u0 : array_like, shape (..., d)
    parameters : mapping of str to array_like, shape (..., n)
        Value at each of n steps, the last axis; leading axes broadcast against the starts.
    escape : float, optional

    Returns
    -------
    ndarray, shape (..., n + 1, d)
        The first row is `u0`; rows from an escape on are NaN.

    Raises
    ------
    ValueError
        If a parameter is unknown or not finite, or the sequences differ in length.

    Examples
    --------
    A spell at mu = 1.5 between a warm-up and a decay balances the factors:

    >>> from trainability import product_map
    >>> mu = np.concatenate([np.linspace(0.1, 1.5, 50), np.full(200, 1.5), np.full(200, 0.8)])
    >>> orbit = driven_orbit(product_map(), [0.2, 0.6], {"mu": mu})
    >>> orbit[-1].round(6)
    array([0.894427, 0.894427])
    """
    u = map.check_states(u0)
    values = {name: finite(name, value) for name, value in parameters.items()}
    for name in values:
        map.parameter_index(name)
    lengths = {name: value.shape[-1] if value.ndim else 0 for name, value in values.items()}
    n = max(lengths.values(), default=0)
    if n == 0 or set(lengths.values()) != {n}:
        raise ValueError(f"driven parameters need sequences of one length; found {lengths}")
    shape = np.broadcast_shapes(u.shape[:-1], *(value.shape[:-1] for value in values.values()))
    full = np.empty((n, len(map.parameters), int(np.prod(shape))))
    for i, (name, constant) in enumerate(map.parameters.items()):
        value = np.broadcast_to(values.get(name, constant), (*shape, n))
        full[:, i] = value.reshape(-1, n).T
    columns = np.broadcast_to(u, (*shape, map.d)).reshape(-1, map.d).T.copy()
    out = np.empty((n + 1, *columns.shape))
    _drive(map.step, columns, full, map.u_like, map.p_like, escape, out)
    return np.moveaxis(out, -1, 0).reshape(*shape, n + 1, map.d)


@dataclass(frozen=True, eq=False)
class RandomMap:
    """A map that draws some of its parameters anew at each step, independently of the past.

    Parameters
    ----------
    map : Map
    choices : mapping of str to array_like, shape (m,)
        Values of the drawn parameters, jointly for each of m choices; or a callable ``(rng, size) -> dict``
        of arrays of shape `size` that samples them.
    probabilities : array_like, shape (m,), optional
        Of the choices; equal by default.

    Raises
    ------
    ValueError
        If a parameter is unknown, lengths differ, or the probabilities are negative or do not sum to 1.

    Examples
    --------
    >>> from trainability import minibatch_map
    >>> RandomMap(minibatch_map(), {"mu": [0.9, 1.1], "curvature": [0.9, 1.1]})
    RandomMap(mini-batch map, 2 choices of mu, curvature)
    """

    map: Map
    choices: Mapping[str, np.ndarray] | Callable
    probabilities: np.ndarray | None = None

    def __post_init__(self) -> None:
        if callable(self.choices):
            if self.probabilities is not None:
                raise ValueError("probabilities belong to listed choices; a sampler draws as it likes")
            return
        values = {name: np.atleast_1d(finite(name, value)) for name, value in self.choices.items()}
        for name in values:
            self.map.parameter_index(name)
        sizes = {name: len(value) for name, value in values.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"choices need one length; found {sizes}")
        (m,) = set(sizes.values())
        weights = (
            np.full(m, 1 / m) if self.probabilities is None else finite("probabilities", self.probabilities)
        )
        if weights.shape != (m,) or (weights < 0).any() or abs(weights.sum() - 1) > 1e-12:
            raise ValueError(f"probabilities={weights} must be {m} numbers of at least 0 that sum to 1")
        object.__setattr__(self, "choices", values)
        object.__setattr__(self, "probabilities", weights)

    def __repr__(self) -> str:
        if callable(self.choices):
            return f"RandomMap({self.map.name}, sampled)"
        sizes = [len(value) for value in self.choices.values()]
        return f"RandomMap({self.map.name}, {sizes[0]} choices of {', '.join(self.choices)})"

    def draw(self, rng: np.random.Generator, size: tuple[int, ...]) -> np.ndarray:
        """Draw all parameters, shape (size[0], k, *size[1:])."""
        if callable(self.choices):
            drawn = self.choices(rng, size)
        else:
            weights = np.asarray(self.probabilities)
            index = rng.choice(len(weights), size, p=weights)
            drawn = {name: values[index] for name, values in self.choices.items()}
        rows = [np.broadcast_to(drawn.get(name, value), size) for name, value in self.map.parameters.items()]
        return np.stack(rows, axis=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class RandomSpectrum:
    """Lyapunov exponents of a random product of Jacobians.

    Attributes
    ----------
    exponents, stderr : ndarray, shape (m,)
        Nats per step, descending; standard errors from the spread of independent orbits.
    orbits : ndarray, shape (n_orbits, m)
        The exponents of each orbit.
    n : int
        Steps of each orbit.
    """

    exponents: np.ndarray
    stderr: np.ndarray
    orbits: np.ndarray
    n: int

    def __repr__(self) -> str:
        pairs = zip(self.exponents, self.stderr, strict=True)
        values = ", ".join(
            f"λ{i} = {value:.6g} ± {error:.1g}" for i, (value, error) in enumerate(pairs, start=1)
        )
        return f"{values} ({len(self.orbits)} orbits of {self.n} steps)"


def random_lyapunov(
    random_map: RandomMap,
    u0,
    *,
    n: int,
    transient: int = 0,
    n_orbits: int = 64,
    n_exponents: int | None = None,
    seed: int = 0,
    escape: float = ESCAPE,
) -> RandomSpectrum:
    """Lyapunov exponents of a map with random parameters, over independent sequences of draws.

    At a point that every draw leaves fixed (a minimum common to all mini-batches) these are the exponents of
    a product of independent random matrices, and the sign of the top one decides almost-sure stability.

    Parameters
    ----------
    random_map : RandomMap
    u0 : array_like, shape (d,)
        Start of every orbit.
    n, transient : int
        Steps averaged over, and run first, by each orbit.
    n_orbits : int, optional
        At least 2.
    n_exponents : int, optional
        How many of the largest; all d by default.
    seed : int, optional
    escape : float, optional

    Returns
    -------
    RandomSpectrum

    Raises
    ------
    Escaped
        If an orbit leaves every bounded set; `.step` is the first such step of any orbit.
    ValueError
        If the start is not finite or a count too small.

    References
    ----------
    Furstenberg & Kesten, Ann. Math. Stat. 31, 457 (1960); theory/06.

    Examples
    --------
    Batches of one of two curvatures at the balanced minimum of mu = 1.1, where full batches would repel:

    >>> from trainability import minibatch_map
    >>> mu, kappa = 1.1, np.array([0.5, 1.5])
    >>> batches = RandomMap(minibatch_map(), {"mu": mu * kappa, "curvature": kappa})
    >>> found = random_lyapunov(batches, [mu**0.5, mu**0.5], n=10_000)
    >>> exact = np.mean(np.log(abs(1 - 2 * mu * kappa)))
    >>> bool(abs(found.exponents[1] - exact) < 4 * found.stderr[1]), bool(exact < 0)
    (True, True)
    """
    map = random_map.map
    not_negative(transient=transient)
    m = map.d if n_exponents is None else n_exponents
    if n < 1 or n_orbits < 2:
        raise ValueError(f"n={n} must be at least 1 and n_orbits={n_orbits} at least 2")
    if not 1 <= m <= map.d:
        raise ValueError(f"n_exponents={n_exponents} must be between 1 and {map.d}, the map's dimension")
    start = map.check_states(u0)
    if start.ndim != 1:
        raise ValueError(f"u0 has shape {start.shape}; all orbits share one start of shape ({map.d},)")
    u = np.repeat(start[:, None], n_orbits, axis=1)
    frame = np.repeat(np.eye(map.d)[:m, :, None], n_orbits, axis=2)
    sums = np.zeros((m, n_orbits))
    stop = np.full(n_orbits, -1)
    rng = stream(seed, "batches")
    done = 0
    for length, counts in ((transient, False), (n, True)):
        for first in range(0, length, _CHUNK):
            drawn = random_map.draw(rng, (min(_CHUNK, length - first), n_orbits))
            growth = _move(
                map.step, map.jacobian, u, frame, drawn, map.u_like, map.p_like, (0.0,) * m, escape, stop
            )
            if (stop >= 0).any():
                step = done + int(stop[stop >= 0].min())
                raise Escaped(f"{map.name}: an orbit left every bounded set at step {step}", step=step)
            done += len(drawn)
            if counts:
                sums += growth
    orbits = sums.T / n
    return RandomSpectrum(
        exponents=orbits.mean(axis=0),
        stderr=orbits.std(axis=0, ddof=1) / np.sqrt(n_orbits),
        orbits=orbits,
        n=n,
    )


def mean_square_exponent(random_map: RandomMap, u) -> float:
    """Half the growth rate of E‖δ‖² at a point that every draw leaves fixed, nats per step.

    ½ log of the spectral radius of E[J ⊗ J]; negative means stable in mean square, which is stronger than
    almost surely. Exact for listed choices.

    Parameters
    ----------
    random_map : RandomMap
        With listed choices.
    u : array_like, shape (d,)

    Raises
    ------
    ValueError
        If the map is sampled, or a choice moves the point (the error says how far).

    References
    ----------
    Arnold, Random Dynamical Systems (Springer 1998), ch. 6; theory/06.

    Examples
    --------
    >>> from trainability import cubic_map
    >>> random = RandomMap(cubic_map(), {"mu": [0.4, 0.8]})
    >>> round(mean_square_exponent(random, [0.0]), 6)  # ½ log E (1 + mu)²
    0.477756
    """
    jacobians, weights = _at_fixed_point(random_map, u)
    second = sum(w * np.kron(J, J) for w, J in zip(weights, jacobians, strict=True))
    return float(np.log(np.abs(np.linalg.eigvals(second)).max()) / 2)


def mean_contraction(random_map: RandomMap, u) -> float:
    """E log‖J‖ at a point that every draw leaves fixed, nats per step; an upper bound of the top exponent.

    Negative means contraction on average, which is enough for almost-sure stability. Exact for listed choices;
    in one dimension it is the exponent itself.

    Parameters
    ----------
    random_map : RandomMap
        With listed choices.
    u : array_like, shape (d,)

    Raises
    ------
    ValueError
        As `mean_square_exponent`.

    Examples
    --------
    >>> from trainability import cubic_map
    >>> round(mean_contraction(RandomMap(cubic_map(), {"mu": [-0.5, 0.5]}), [0.0]), 6)  # ½ log(½ · 1½)
    -0.143841
    """
    jacobians, weights = _at_fixed_point(random_map, u)
    return float(sum(w * np.log(np.linalg.norm(J, 2)) for w, J in zip(weights, jacobians, strict=True)))


def _at_fixed_point(random_map: RandomMap, u) -> tuple[list[np.ndarray], np.ndarray]:
    """Jacobians of all choices at a point that each leaves where it is, and their probabilities."""
    if callable(random_map.choices):
        raise ValueError("the choices are sampled; list them to take exact averages, or use random_lyapunov")
    u = random_map.map.check_states(u)
    jacobians = []
    for values in zip(*random_map.choices.values(), strict=True):
        one = random_map.map.with_parameters(**dict(zip(random_map.choices, values, strict=True)))
        moved = np.abs(one(u) - u).max()
        if moved > _FIXED_TOL * max(1.0, np.abs(u).max()):
            raise ValueError(
                f"u={u} moves by {moved:.2g} under the choice {dict(one.parameters)}; it must stay fixed"
            )
        jacobians.append(one.jacobian_at(u))
    return jacobians, np.asarray(random_map.probabilities)


@njit(parallel=True)
def _drive(step, columns, parameters, u_like, p_like, escape, out):
    """Fill `out` (n + 1, d, pixels) with the orbit under `parameters` (n, k, pixels)."""
    pixels = columns.shape[1]
    for block in prange((pixels + LANES - 1) // LANES):
        lanes = slice(block * LANES, min((block + 1) * LANES, pixels))
        u = columns[:, lanes].copy()
        stop = np.full(u.shape[1], -1)
        for t in range(out.shape[0]):
            mark_escaped(u, t, escape, stop)
            out[t, :, lanes] = u
            if t < parameters.shape[0]:
                p = parameters[t, :, lanes]
                for lane in range(u.shape[1]):
                    put(u, lane, step(take(u, lane, u_like), take(p, lane, p_like)))
        for lane in range(u.shape[1]):
            if stop[lane] >= 0:
                out[stop[lane] :, :, block * LANES + lane] = np.nan


@njit
def _move(step, jacobian, u, frame, parameters, u_like, p_like, frame_like, escape, stop):
    """Move states and frames along `parameters` (n, k, orbits); return the sums of log R_ii (m, orbits)."""
    m, orbits = frame.shape[0], u.shape[1]
    mantissa, exponent = np.ones((m, orbits)), np.zeros((m, orbits), np.int64)
    for t in range(parameters.shape[0]):
        p = parameters[t]
        for lane in range(orbits):
            push(step, jacobian, u, frame, p, lane, u_like, p_like, frame_like, (0.0,))
        orthonormalise(frame, mantissa, exponent)
        mark_escaped(u, t + 1, escape, stop)
    return np.log(mantissa) + exponent * np.log(2.0)
