"""The equations of a cycle by multiple shooting: f(u_i) = u_(i+1), and the last point maps to the first.

Every point of the cycle is an unknown. The linear system is condensed: the correction of point i is an
affine function of the correction w = (du_1, dλ) of the first point and the parameter, so a Newton step
costs O(period) and the remaining system has d + 1 unknowns. Compared with iterating f from one point,
errors do not grow along the cycle before they are corrected (Deuflhard, Computing 33, 1984).
"""

from dataclasses import dataclass

import numpy as np

from ._map import Map

# Step of the fourth-order difference for ∂f/∂λ, relative to 1 + |λ|: truncation (1e-3)⁴/30 and rounding
# 1e-16/1e-3 are both near 1e-13, which only tilts tangents; no solved-for point depends on it.
_SLOPE_STEP = 1e-3
# Newton's method: rounds, and the relative correction at which it has converged.
_ROUNDS, _CONVERGED = 40, 1e-11
_OUTSIDE = (OverflowError, ZeroDivisionError, ValueError)  # what plain Python says where f is not finite


@dataclass(frozen=True, eq=False)
class Linearization:
    """A cycle's equations at a guess: P (period + 1, d, d + 1) and c (period + 1, d) give du_i = P_i w + c_i.

    `residual` (period, d) is f(u_i) - u_(i+1). P_period[:, :d] is the product of Jacobians along the cycle.
    """

    P: np.ndarray
    c: np.ndarray
    residual: np.ndarray

    @property
    def monodromy(self) -> np.ndarray:
        """Product of the Jacobians along the cycle, shape (d, d); its eigenvalues are the multipliers."""
        d = self.P.shape[1]
        return self.P[-1, :, :d]

    @property
    def closing(self) -> np.ndarray:
        """Matrix [M - 1, ∂F/∂λ] of the condensed equations, shape (d, d + 1)."""
        d = self.P.shape[1]
        return self.P[-1] - np.eye(d, d + 1)


def linearize(map: Map, states: np.ndarray, p: tuple, vary: int | None = None) -> Linearization | None:
    """Linearize the equations of a cycle about `states` (period, d); None where the map is not finite.

    `vary` is the index in `p` of the parameter λ; without it the last column of P is zero.
    """
    step, jacobian = map.step.py_func, map.jacobian.py_func
    period, d = states.shape
    residual = np.empty((period, d))
    P, c = np.zeros((period + 1, d, d + 1)), np.zeros((period + 1, d))
    P[0, :, :d] = np.eye(d)
    try:
        with np.errstate(all="ignore"):
            for i, u in enumerate(map_tuples(states)):
                residual[i] = np.array(step(u, p)) - states[(i + 1) % period]
                A = np.array(jacobian(u, p), dtype=float)
                P[i + 1] = A @ P[i]
                c[i + 1] = A @ c[i] + residual[i]
                if vary is not None:
                    P[i + 1, :, d] += parameter_slope(step, u, p, vary)
    except _OUTSIDE:
        return None
    if not (np.isfinite(P).all() and np.isfinite(c).all()):
        return None
    return Linearization(P, c, residual)


def parameter_values(map: Map) -> tuple[float, ...]:
    """The map's parameters, as its step takes them."""
    return tuple(map.parameters.values())


def parameter_slope(step, u: tuple, p: tuple, vary: int) -> np.ndarray:
    """∂f/∂λ by a fourth-order central difference, shape (d,)."""
    h = _SLOPE_STEP * (1 + abs(p[vary]))

    def at(shift):
        return np.array(step(u, (*p[:vary], p[vary] + shift, *p[vary + 1 :])))

    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


def map_tuples(states: np.ndarray) -> list[tuple]:
    """Rows of `states` as tuples of Python floats, which plain Python handles faster than numpy's."""
    return [tuple(row) for row in states.tolist()]


def orbit(map: Map, u, n: int, p: tuple, bound: float) -> np.ndarray | None:
    """Return the first `n` points of an orbit, shape (n, d), or None if it leaves |u| <= bound."""
    step = map.step.py_func
    u = tuple(float(x) for x in u)
    points = [u]
    try:
        for _ in range(n - 1):
            u = step(u, p)
            if not all(abs(x) <= bound for x in u):
                return None
            points.append(u)
    except _OUTSIDE:
        return None
    return np.array(points)


def newton(map: Map, states: np.ndarray, bound: float, p: tuple | None = None):
    """Return (states, last correction) of the cycle that Newton's method reaches, or None.

    Each round solves the condensed equations by least squares, so that a continuum of cycles is reached
    at its nearest point instead of being a singular system.
    """
    p = parameter_values(map) if p is None else p
    last = np.inf
    for _ in range(_ROUNDS):
        system = linearize(map, states, p)
        if system is None:
            return None
        d = states.shape[1]
        w = np.append(np.linalg.lstsq(system.closing[:, :d], -system.c[-1], rcond=1e-12)[0], 0.0)
        change = system.P[:-1] @ w + system.c[:-1]
        states = states + change
        size = float(np.abs(change).max())
        scale = 1 + float(np.abs(states).max())
        if not size <= bound or np.abs(states).max() > bound:
            return None
        if size <= 1e-15 * scale or (size >= 0.5 * last and last <= _CONVERGED * scale):
            break
        last = size
    closed = largest_residual(map, states, p) <= _CONVERGED * scale
    return (states, size) if closed and size <= 1e-6 * scale else None


def largest_residual(map: Map, states: np.ndarray, p: tuple | None = None) -> float:
    """How far the states are from a cycle, in one coordinate; infinite where the map is not finite."""
    system = linearize(map, states, parameter_values(map) if p is None else p)
    return np.inf if system is None else float(np.abs(system.residual).max())


def minimal_period(states: np.ndarray, tolerance: float) -> int:
    """Smallest divisor k of the period with u_(i+k) = u_i to the tolerance."""
    period = len(states)
    for k in range(1, period):
        if period % k == 0 and np.abs(np.roll(states, -k, axis=0) - states).max() <= tolerance:
            return k
    return period


def same_cycle(states: np.ndarray, others: np.ndarray, tolerance: float) -> bool:
    """Whether two cycles, both (period, d), agree to the tolerance, up to where they begin."""
    if len(states) != len(others):
        return False
    return any(np.abs(np.roll(states, k, axis=0) - others).max() <= tolerance for k in range(len(states)))


def multipliers(monodromy: np.ndarray) -> np.ndarray:
    """Eigenvalues of the monodromy matrix, complex (d,), largest modulus first."""
    values = np.linalg.eigvals(monodromy).astype(complex)
    return values[np.argsort(-np.abs(values), kind="stable")]
