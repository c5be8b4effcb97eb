"""Curves of a bifurcation in the plane of two parameters."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ._branch import FLIP, FOLD, TORUS, has_complex_pair, jacobian_by_differences, newton_by_differences
from ._checks import check_interval
from ._follow import follow
from ._map import Map
from ._shooting import Linearization, linearize, multipliers, orbit, parameter_values
from .continuation import SpecialPoint
from .dynamics import settle_map

_PAIR_LOST = "the pair becomes real"


@dataclass(frozen=True, eq=False, kw_only=True)
class BifurcationCurve:
    """A bifurcation followed through two parameters, in order along the curve.

    `values` (n, 2) of the two `parameters`, `states` (n, period, d), `multipliers` (n, d) complex. `ends`
    says why the curve ends at its first and last point.
    """

    kind: str
    parameters: tuple[str, str]
    values: np.ndarray
    states: np.ndarray
    multipliers: np.ndarray
    ends: tuple[str, str]

    def __repr__(self) -> str:
        first, second = self.parameters
        period = self.states.shape[1]
        return f"{self.kind} of period {period} over {first} and {second}: {len(self.values)} points"


@dataclass(frozen=True, eq=False)
class _Point:
    z: np.ndarray
    t: np.ndarray
    states: np.ndarray
    multipliers: np.ndarray


def bifurcation_curve(
    map: Map | Callable[..., Map],
    start: SpecialPoint,
    parameters: tuple[str, str],
    limits: tuple[tuple[float, float], tuple[float, float]],
    *,
    max_step: float = 0.02,
) -> BifurcationCurve:
    """Follow a flip, fold or Neimark–Sacker point through the plane of two parameters.

    Parameters
    ----------
    map : Map, or a function that makes one
        With the values of the parameters at which `start` was found; `start` itself knows the first one.
    start : SpecialPoint
    parameters : (str, str)
        First the parameter that `start` was found over, then the one that is freed.
    limits : ((float, float), (float, float))
        Where the two parameters may run.
    max_step : float, optional
        In units of the limits and of the states' size.

    Returns
    -------
    BifurcationCurve

    Raises
    ------
    ValueError
        If the kind is not one of the three, a parameter is unknown or named twice, or the start lies
        outside the limits or is not a bifurcation of this map.

    Notes
    -----
    Solves the cycle's equation together with det(M + 1) = 0, det(M - 1) = 0 or the product of m_i m_j - 1
    over pairs of multipliers; every point is corrected to rounding error, derivatives of these are
    differences. Meant for short periods: the cycle is one orbit of its first point. Branch points form
    no curve unless a symmetry keeps them. A Neimark–Sacker curve ends where its pair becomes real.
    Kuznetsov, Elements of Applied Bifurcation Theory (2004), sec. 10.4; theory/10 (eq:curves).

    Examples
    --------
    >>> from trainability.continuation import bifurcation_diagram
    >>> from trainability.maps import gradient_descent
    >>> descent = gradient_descent("h * u**2 / 2 + u**4 / 4", "u", lr=0.5, momentum=0.5, h=1.0)
    >>> stability = bifurcation_diagram(descent, "lr", (0.5, 4), start=[0, 0], max_period=1)
    >>> curve = bifurcation_curve(descent, stability.points[0], ("lr", "momentum"), ((0, 4), (0, 0.9)))
    >>> lr, momentum = curve.values.T
    >>> bool(abs(lr - 2 * (1 + momentum)).max() < 1e-12)  # lr h = 2 (1 + momentum)
    True
    """
    if start.kind not in (FLIP, FOLD, TORUS):
        raise ValueError(
            f"a {start.kind} forms no curve in general; start at a flip, fold or Neimark–Sacker point"
        )
    first, second = parameters
    map = settle_map(map, first, start.parameter).with_parameters(**{first: start.parameter})
    indices = map.parameter_index(first), map.parameter_index(second)
    if first == second:
        raise ValueError(f"parameters={parameters} must name two different parameters")
    box = np.array([check_interval(side, "limits") for side in limits])
    values = np.array([map.parameters[name] for name in parameters])
    if not ((box[:, 0] <= values) & (values <= box[:, 1])).all():
        raise ValueError(
            f"the start {dict(zip(parameters, values.tolist(), strict=True))} lies outside {limits}"
        )

    d, period = map.d, start.period
    size = 1 + np.abs(start.states).max()
    scale = np.concatenate([np.full(d, size), box[:, 1] - box[:, 0]])
    offset = np.concatenate([np.zeros(d), box[:, 0]])
    unit = np.ones(d + 2)

    def shot(z) -> tuple[np.ndarray, Linearization] | None:
        y = offset + scale * z
        p = list(parameter_values(map))
        for index, value in zip(indices, y[d:], strict=True):
            p[index] = float(value)
        states = orbit(map, y[:d], period, tuple(p), bound=1e150)
        system = None if states is None else linearize(map, states, tuple(p))
        return None if states is None or system is None else (states, system)

    def equations(z) -> np.ndarray:
        found = shot(z)
        if found is None:
            return np.full(d + 1, np.nan)
        _, system = found
        return np.append(system.residual[-1] / size, _test(start.kind, system.monodromy))

    def correct(z, t) -> _Point | None:
        solved = newton_by_differences(lambda x: np.append(equations(x), t @ (x - z)), z, unit)
        found = None if solved is None else shot(solved)
        if solved is None or found is None:
            return None
        J = jacobian_by_differences(equations, solved, unit)
        if not np.isfinite(J).all():
            return None
        tangent = np.linalg.svd(J)[2][-1]
        return _Point(
            solved, np.copysign(1, tangent @ t) * tangent, found[0], multipliers(found[1].monodromy)
        )

    def accept(old: _Point, new: _Point) -> str:
        pair_lost = start.kind == TORUS and not has_complex_pair(new.multipliers)
        return _PAIR_LOST if pair_lost else ""

    z = (np.concatenate([start.states[0], values]) - offset) / scale
    if not np.abs(equations(z)).max() < 1e-6:
        raise ValueError(f"the start is no {start.kind} of {map.name} with {dict(map.parameters)}")
    tangent = np.linalg.svd(jacobian_by_differences(equations, z, unit))[2][-1]
    head = correct(z, tangent)
    if head is None:
        raise ValueError(f"no curve could be found through the {start.kind}; two parameters may not move it")
    pieces, ends = [], []
    for sign in (-1, 1):
        piece, end = follow(
            correct,
            replace(head, t=sign * head.t),
            bounded=[d, d + 1],
            max_step=max_step,
            max_points=int(100 / max_step),
            accept=accept,
        )
        pieces.append(piece[:-1] if end == _PAIR_LOST else piece)
        ends.append(end)
    points = [*reversed(pieces[0]), *pieces[1][1:]]
    return BifurcationCurve(
        kind=start.kind,
        parameters=(first, second),
        values=np.array([offset[d:] + scale[d:] * point.z[d:] for point in points]),
        states=np.array([point.states for point in points]),
        multipliers=np.array([point.multipliers for point in points]),
        ends=(ends[0], ends[1]),
    )


def _test(kind: str, M: np.ndarray) -> float:
    """The function that vanishes at a bifurcation of the kind, of the monodromy matrix."""
    identity = np.eye(len(M))
    if kind == TORUS:
        m = np.linalg.eigvals(M)
        return float(np.prod([m[i] * m[j] - 1 for j in range(len(m)) for i in range(j)]).real)
    return float(np.linalg.det(M + identity if kind == FLIP else M - identity))
