"""One branch of cycles as a curve: the corrector, test functions, and the bifurcations between two points."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.optimize import brentq

from ._map import Map
from ._shooting import Linearization, linearize, minimal_period, multipliers, orbit, parameter_values

# Newton's corrector: rounds, and the scaled correction below which it must end.
_ROUNDS, _CONVERGED = 14, 1e-10
# A multiplier counts as complex, and a cycle as one of a shorter period, beyond and within this.
_COMPLEX, _SAME = 1e-7, 1e-5
# Half-width, as a part of the chord, of the bracket left by bisection around a branch point: nearer the
# corrector is singular, and Newton on the regularised equations takes over.
_NEAR = 1e-7

FLIP, FOLD, BRANCH, TORUS, DEGENERATE = "flip", "fold", "branch point", "Neimark–Sacker", "degenerate"
SHRINKS = "shrinks onto a shorter period"


@dataclass(frozen=True, eq=False)
class Family:
    """The cycles of one period of a map, with one parameter free, in scaled coordinates.

    z holds the states divided by `size` √period and the parameter mapped from `interval` to [0, 1].
    """

    map: Map
    vary: int
    period: int
    interval: tuple[float, float]
    size: float

    @property
    def units(self) -> tuple[float, float]:
        return self.size * np.sqrt(self.period), self.interval[1] - self.interval[0]

    def pack(self, states: np.ndarray, parameter: float) -> np.ndarray:
        """Scaled coordinates of a cycle."""
        unit, width = self.units
        return np.append(states.ravel() / unit, (parameter - self.interval[0]) / width)

    def unpack(self, z: np.ndarray) -> tuple[np.ndarray, float]:
        """States (period, d) and parameter; the interval's ends come back exactly."""
        unit, width = self.units
        parameter = self.interval[1] if z[-1] == 1 else self.interval[0] + width * z[-1]
        return z[:-1].reshape(self.period, self.map.d) * unit, float(parameter)

    def direction(self, states: np.ndarray, parameter: float) -> np.ndarray:
        """Scaled unit vector of a displacement of the states and the parameter."""
        unit, width = self.units
        t = np.append(states.ravel() / unit, parameter / width)
        return t / np.linalg.norm(t)

    def parameters(self, parameter: float) -> tuple[float, ...]:
        """All parameters of the map, as the step takes them."""
        values = list(parameter_values(self.map))
        values[self.vary] = parameter
        return tuple(values)

    def linearize(self, states: np.ndarray, parameter: float) -> Linearization | None:
        """Linearize the cycle's equations about a guess."""
        return linearize(self.map, states, self.parameters(parameter), self.vary)

    def correct(self, z: np.ndarray, t: np.ndarray) -> "Point | None":
        """The cycle in the plane through z across t, by Newton's method, or None."""
        unit, width = self.units
        d = self.map.d
        states, parameter = self.unpack(z)
        across = t[:-1].reshape(self.period, d) / unit
        last = np.inf
        for _ in range(_ROUNDS):
            system = self.linearize(states, parameter)
            if system is None:
                return None
            # across · (du, dλ) = how far the guess has left the plane, with du_i = P_i w + c_i
            row = np.einsum("id,idk->k", across, system.P[:-1])
            row[d] += t[-1] / width
            drift = t @ (self.pack(states, parameter) - z) + np.sum(across * system.c[:-1])
            try:
                w = np.linalg.solve(np.vstack([system.closing, row]), -np.append(system.c[-1], drift))
            except np.linalg.LinAlgError:
                return None
            change = system.P[:-1] @ w + system.c[:-1]
            states, parameter = states + change, parameter + float(w[d])
            moved = max(np.abs(change).max() / self.size, abs(w[d]) / width)
            if not moved < 1:
                return None
            if moved < 1e-15 or (last < _CONVERGED and moved > 0.3 * last):
                break
            last = moved
        if not moved < _CONVERGED:
            return None
        system = self.linearize(states, parameter)
        return None if system is None else self._point(states, parameter, system, across, t[-1] / width)

    def _point(self, states, parameter, system: Linearization, across, along) -> "Point | None":
        d = self.map.d
        row = np.einsum("id,idk->k", across, system.P[:-1])
        row[d] += along
        try:
            w = np.linalg.solve(np.vstack([system.closing, row]), np.eye(d + 1)[d])
        except np.linalg.LinAlgError:
            return None
        if not np.isfinite(w).all():
            return None
        t = self.direction(system.P[:-1] @ w, w[d])
        return Point(self, states, parameter, self.pack(states, parameter), t, system)

    def fixed(self, states: np.ndarray, parameter: float) -> "Point | None":
        """The cycle at a given parameter near a guess, tangent towards larger parameters."""
        t = np.zeros(states.size + 1)
        t[-1] = 1
        return self.correct(self.pack(states, parameter), t)

    def near(self, states: np.ndarray, parameter: float) -> "Point | None":
        """The cycle nearest a guess, across the branch through it."""
        system = self.linearize(states, parameter)
        if system is None:
            return None
        w = np.linalg.svd(system.closing / self.column_units)[2][-1] / self.column_units
        return self.correct(self.pack(states, parameter), self.direction(system.P[:-1] @ w, w[-1]))

    def shows_freedom(self, point: "Point", tolerance: float = 1e-8) -> bool:
        """Whether more than a curve of cycles passes here, so that the cycle is not isolated."""
        singular = np.linalg.svd(point.system.closing / self.column_units, compute_uv=False)
        return bool(singular[-1] < tolerance * max(1.0, singular[0]))

    @property
    def column_units(self) -> np.ndarray:
        return np.append(np.ones(self.map.d), self.size / (self.interval[1] - self.interval[0]))


@dataclass(frozen=True, eq=False)
class Point:
    """A cycle on a branch, in plain and in scaled coordinates, with its linearization."""

    family: Family
    states: np.ndarray
    parameter: float
    z: np.ndarray
    t: np.ndarray
    system: Linearization

    @cached_property
    def multipliers(self) -> np.ndarray:
        """Eigenvalues of the monodromy matrix, complex (d,)."""
        return multipliers(self.system.monodromy)

    @property
    def stable(self) -> bool:
        """Whether all multipliers lie inside the unit circle."""
        return bool(np.abs(self.multipliers).max() < 1)

    @cached_property
    def tests(self) -> dict[str, float]:
        """Functions that change sign along the branch at a bifurcation of their name (theory/10, eq:tests)."""
        m = self.multipliers
        pairs = [m[i] * m[j] - 1 for j in range(len(m)) for i in range(j)]
        unit, width = self.family.units
        d = self.family.map.d
        tangent = np.append(self.t[:d] * unit, self.t[-1] * width)
        matrix = np.vstack([self.system.closing, tangent]) / self.family.column_units
        return {
            BRANCH: float(np.linalg.det(matrix)),
            FOLD: float(self.t[-1]),
            FLIP: float(np.prod(1 + m).real),
            TORUS: float(np.prod(pairs).real) if pairs else 1.0,
        }


def sign_changes(old: Point, new: Point) -> list[str]:
    """Kinds of bifurcation between two neighbours on a branch.

    At a branch point the parameter may turn as well (a pitchfork's outer branch): that is no fold.
    """
    changed = [kind for kind, value in new.tests.items() if value * old.tests[kind] < 0]
    return [kind for kind in changed if not (kind == FOLD and BRANCH in changed)]


def refine(old: Point, new: Point, kind: str) -> tuple[Point, str] | None:
    """Locate the bifurcation between two neighbours; return it with its kind ("" for none), or None to retry.

    The test function is a function of the position along the chord between them, and its zero is found
    by Brent's method.
    """
    family = old.family
    chord = new.z - old.z
    length = np.linalg.norm(chord)
    across = chord / length

    def at(part: float) -> Point:
        point = family.correct(old.z + part * chord, across)
        if point is None or np.linalg.norm(point.z - old.z - part * chord) > 0.5 * length:
            raise ArithmeticError
        return point

    if kind == BRANCH:
        return _branch_point(old, new, at)
    try:
        part = brentq(lambda x: at(x).tests[kind], 0, 1, xtol=1e-15, rtol=4 * np.finfo(float).eps)
        found = at(part)
    except (ArithmeticError, ValueError, RuntimeError):  # lost the branch, no sign change, or no convergence
        return None
    if kind == TORUS and not has_complex_pair(found.multipliers):
        return found, ""  # two real multipliers with product 1: a neutral saddle, no bifurcation
    return found, kind


def has_complex_pair(m: np.ndarray) -> bool:
    """Whether the multiplier nearest the unit circle is complex."""
    return bool(abs(m[np.argmin(np.abs(np.abs(m) - 1))].imag) > _COMPLEX)


def _branch_point(old: Point, new: Point, at) -> tuple[Point, str] | None:
    """Bisect while the corrector is regular, then solve the regularised equations."""
    lo, hi, sign = 0.0, 1.0, np.sign(old.tests[BRANCH])
    middle = None
    while hi - lo > _NEAR:
        part = 0.5 * (lo + hi)
        try:
            middle = at(part)
        except ArithmeticError:
            break
        if middle.tests[BRANCH] * sign > 0:
            lo = part
        else:
            hi = part
    if middle is None or hi - lo > 1e-2:
        return None
    family = old.family
    # Points of a cycle that merge do so at a steady rate along the branch, hence within the bracket.
    reach = _SAME + 4 * (hi - lo) * np.linalg.norm(new.z - old.z) * np.sqrt(family.period)
    shorter = minimal_period(middle.states, reach * family.size)
    if shorter < family.period:
        laps = family.period // shorter
        merged = np.tile(middle.states.reshape(laps, shorter, -1).mean(axis=0), (laps, 1))
        return replace(middle, states=merged), SHRINKS
    solved = _regularised(family, middle)
    if solved is None or np.linalg.norm(solved.z - middle.z) > 1e-3:
        return middle, DEGENERATE
    return solved, BRANCH


def _regularised(family: Family, guess: Point) -> Point | None:
    """Solve F + b q = 0, F_u' q = 0, q·F_λ = 0, |q| = 1 for (u, λ, q, b): regular at a simple branch point.

    Kuznetsov, Elements of Applied Bifurcation Theory, sec. 10.3. The residual is exact; only its
    derivative is taken by differences, so the solution is as accurate as the residual.
    """
    d = family.map.d

    def residual(y):
        states = _shot(family, y[:d], y[d])
        system = None if states is None else family.linearize(states, float(y[d]))
        if system is None:
            return np.full(2 * d + 2, np.nan)
        M, q = system.closing, y[d + 1 : 2 * d + 1]
        F = system.residual[-1]  # the shot satisfies every equation but the closing one
        return np.concatenate([F + y[-1] * q, M[:, :d].T @ q, [q @ M[:, d], q @ q - 1]])

    q = np.linalg.svd(guess.system.closing)[0][:, -1]
    scale = np.concatenate(
        [np.full(d, family.size), [family.interval[1] - family.interval[0]], np.ones(d + 1)]
    )
    y = newton_by_differences(residual, np.concatenate([guess.states[0], [guess.parameter], q, [0.0]]), scale)
    states = None if y is None else _shot(family, y[:d], y[d])
    if y is None or states is None:
        return None
    parameter = float(y[d])
    system = family.linearize(states, parameter)
    if system is None:
        return None
    return Point(family, states, parameter, family.pack(states, parameter), guess.t, system)


def _shot(family: Family, u: np.ndarray, parameter: float) -> np.ndarray | None:
    """The first `period` points of the orbit of u."""
    return orbit(family.map, u, family.period, family.parameters(float(parameter)), bound=1e150)


def newton_by_differences(residual, y: np.ndarray, scale: np.ndarray) -> np.ndarray | None:
    """Solve residual(y) = 0 with a derivative by central differences, or return None."""
    last = np.inf
    for _ in range(20):
        value, J = residual(y), jacobian_by_differences(residual, y, scale)
        if not (np.isfinite(value).all() and np.isfinite(J).all()):
            return None
        change = np.linalg.lstsq(J, -value, rcond=1e-14)[0]
        y = y + change * scale
        moved = np.abs(change).max()
        if moved < 1e-15 or (last < 1e-9 and moved > 0.3 * last):
            return y
        last = moved
    return y if last < 1e-10 else None


def jacobian_by_differences(residual, y: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Derivative of the residual in the scaled variables y / scale."""
    h = 1e-5 * scale  # balances h² of the truncation against rounding / h
    return np.array([(residual(y + e) - residual(y - e)) / 2e-5 for e in np.diag(h)]).T
