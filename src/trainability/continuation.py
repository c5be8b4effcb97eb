"""Bifurcation diagrams in the true sense: branches of cycles followed through folds, flips and branch points."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._branch import BRANCH, DEGENERATE, FLIP, SHRINKS, TORUS, Family, Point, refine, sign_changes
from ._checks import check_interval, positive_whole
from ._follow import LOST, follow
from ._map import Map
from ._shooting import minimal_period, same_cycle
from ._switching import Seed, crossing, doubled
from .cycles import Cycle, Cycles, find_cycle, guessed_states
from .dynamics import settle_map

# A branch is given up where its largest multiplier exceeds this: the position of a cycle is then lost to
# rounding in the eighth digit, and what it bifurcates into can never be seen in an orbit.
_LARGEST_MULTIPLIER = 1e8
# A branch ends where a state exceeds this many times the size of the starting cycle, unless told otherwise.
_ESCAPE = 20.0
# Half-lengths of the bracket on the parent branch in which the flip is sought that a doubled branch closes on.
_AROUND = np.geomspace(1e-7, 1e-2, 11)
# Two bifurcations of a kind nearer than this, in units of the interval and of the states, are one.
_SAME_PARAMETER, _SAME_STATES = 1e-7, 1e-3
# A branch whose parameter changes more slowly than this along it stands still to rounding: the bifurcation
# that it left is degenerate, as in a linear or piecewise linear map.
_VERTICAL = 1e-9
# Neighbours closer than this between which a bifurcation cannot be refined: reported as degenerate.
_UNRESOLVED = 1e-6


class NotIsolated(RuntimeError):
    """The cycle to start from belongs to a continuum of cycles at the same parameter; `states` is it."""

    def __init__(self, message: str, states: np.ndarray):
        super().__init__(message)
        self.states = states


@dataclass(frozen=True, eq=False, kw_only=True)
class SpecialPoint:
    """A bifurcation: what happens, where, and to which cycle.

    `kind` is "flip" (multiplier -1: the period doubles), "fold" (multiplier 1, the branch turns), "branch
    point" (multiplier 1, branches cross), "Neimark–Sacker" (a complex pair on the unit circle; `angle` in
    radians) or "degenerate" (a test function changes sign, but no simple bifurcation fits; then the
    parameter is only good to about 1e-7 of the interval).
    """

    kind: str
    parameter: float
    states: np.ndarray
    multipliers: np.ndarray
    branch: int

    @property
    def period(self) -> int:
        """Of the cycle that bifurcates."""
        return len(self.states)

    @property
    def angle(self) -> float:
        """Argument in (0, π) of the critical pair at a Neimark–Sacker point; NaN elsewhere."""
        if self.kind != TORUS:
            return float("nan")
        m = self.multipliers
        return float(abs(np.angle(m[np.argmin(np.abs(np.abs(m) - 1))])))

    def __repr__(self) -> str:
        return f"{self.kind} of period {self.period} at {self.parameter:.15g}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Branch:
    """A curve of cycles of one period, in order along the curve.

    `parameter` (n,), `states` (n, period, d), `multipliers` (n, d) complex, `stable` (n,). A bifurcation
    stands in the arrays twice, with the stability on either side, so that solid and dashed lines meet
    there. `ends` says why the curve ends at its first and last point; `origin` is the index of the
    special point that it was switched to from, or None.
    """

    period: int
    parameter: np.ndarray
    states: np.ndarray
    multipliers: np.ndarray
    stable: np.ndarray
    ends: tuple[str, str]
    origin: int | None

    def __repr__(self) -> str:
        lo, hi = self.parameter.min(), self.parameter.max()
        return f"Branch(period {self.period}, {lo:.6g} to {hi:.6g}, {len(self.parameter)} points)"


@dataclass(frozen=True, eq=False, kw_only=True)
class BifurcationDiagram:
    """Branches of cycles over one parameter and the bifurcations on them.

    `unfollowed` counts bifurcations whose new branch was not followed, because of `max_period`,
    `max_branches` or because none could be found beside a degenerate one.
    """

    map: str
    parameter: str
    branches: tuple[Branch, ...]
    points: tuple[SpecialPoint, ...]
    unfollowed: int

    def parameters(self, kind: str) -> np.ndarray:
        """Parameter values of all special points of a kind, ascending."""
        return np.sort([point.parameter for point in self.points if point.kind == kind])

    def __repr__(self) -> str:
        lines = [f"{self.map} over {self.parameter}: {len(self.branches)} branches"]
        return "\n  ".join([*lines, *map(repr, sorted(self.points, key=lambda point: point.parameter))])


def bifurcation_diagram(
    map: Map | Callable[..., Map],
    parameter: str,
    interval: tuple[float, float],
    *,
    start: Any,
    start_at: float | None = None,
    max_period: int = 16,
    max_step: float = 0.02,
    max_branches: int = 100,
    escape: float | None = None,
) -> BifurcationDiagram:
    """Follow fixed points and cycles over a parameter, and every branch that bifurcates from them.

    Parameters
    ----------
    map : Map, or a function that makes one
    parameter : str
    interval : (float, float)
        Where the parameter may run; states are not bounded.
    start : array_like, Cycle, Cycles or list of Cycle
        Guess of the first cycle: one state (d,), all its states (period, d), or cycles that were found.
    start_at : float, optional
        Parameter value of the guess; the interval's lower end unless given.
    max_period : int, optional
        Flips are followed to double the period up to this; the last ones are still located.
    max_step : float, optional
        Longest step along a branch, in units of the interval and of the states' size. Two bifurcations
        of a kind within one step hide each other: use a smaller one where branches are crowded.
    max_branches : int, optional
    escape : float, optional
        A branch ends where a coordinate exceeds this in modulus; 20 (1 + the start's largest) unless given.

    Returns
    -------
    BifurcationDiagram

    Raises
    ------
    ValueError
        If an argument does not fit; an unknown parameter lists those the map has.
    NotFound
        If no cycle is near the guess.
    NotIsolated
        If it belongs to a continuum of cycles. `restrict` the map to an invariant subspace across it.

    Notes
    -----
    Pseudo-arclength continuation on all points of the cycle at once. Test functions change sign at flips,
    folds, branch points and Neimark–Sacker points, which are then refined to a few ulp of the parameter
    (times its sensitivity; below 1e-12 in every case with a closed form), and left in every direction.
    Only simple bifurcations are seen: an even number of multipliers through 1 at once changes no sign. A
    branch ends where its largest multiplier passes 1e8.
    Kuznetsov, Elements of Applied Bifurcation Theory (2004), ch. 10; theory/10 (eq:arclength), (eq:tests).

    Examples
    --------
    >>> from trainability.maps import cubic_map
    >>> bifurcation_diagram(cubic_map, "mu", (0.2, 1.25), start=[0.4], max_period=4)
    cubic map over mu: 3 branches
      flip of period 1 at 1
      flip of period 2 at 1.23606797749979
    """
    interval = check_interval(interval)
    positive_whole("max_period", max_period)
    positive_whole("max_branches", max_branches)
    if escape is not None and not escape > 0:
        raise ValueError(f"escape={escape} must be positive: the largest coordinate of interest")
    if not 0 < max_step <= 1:
        raise ValueError(f"max_step={max_step} must lie in (0, 1]: it is a part of the interval")
    value = interval[0] if start_at is None else float(start_at)
    if not interval[0] <= value <= interval[1]:
        raise ValueError(f"start_at={start_at} must lie in the interval {interval}")
    map = settle_map(map, parameter, value).with_parameters(**{parameter: value})
    seeds = [_first_seed(map, parameter, interval, guess, value) for guess in _guesses(start)]
    return _Explorer(map, parameter, interval, max_period, max_step, max_branches, escape).explore(seeds)


def _guesses(start: Any) -> Iterable:
    if isinstance(start, Cycles):
        return start.cycles
    if isinstance(start, (list, tuple)) and start and all(isinstance(s, Cycle) for s in start):
        return start
    return [start]


def _first_seed(map: Map, parameter: str, interval, guess, value: float) -> Seed:
    cycle = find_cycle(map, guessed_states(map, guess, None))
    size = 1 + np.abs(cycle.states).max()
    family = Family(map, map.parameter_index(parameter), cycle.period, interval, size)
    point = family.fixed(cycle.states, value)
    if not cycle.isolated or (point is not None and family.shows_freedom(point)):
        raise NotIsolated(
            f"the cycle of {map.name} through {cycle.states[0].tolist()} belongs to a continuum of cycles, so no "
            f"single branch starts there; `restrict` the map to an invariant subspace in which it is isolated",
            cycle.states,
        )
    if point is None:
        raise ValueError(f"start_at={value} is a bifurcation of the starting cycle; start beside it")
    return Seed((replace(point, t=-point.t), point))


@dataclass(eq=False)
class _Explorer:
    """Work in progress on one diagram: branches and special points found, and seeds yet to follow."""

    map: Map
    parameter: str
    interval: tuple[float, float]
    max_period: int
    max_step: float
    max_branches: int
    escape: float | None
    branches: list[Branch] = field(default_factory=list)
    points: list[SpecialPoint] = field(default_factory=list)
    unfollowed: int = 0
    queue: deque[Seed] = field(default_factory=deque)

    def explore(self, seeds: list[Seed]) -> BifurcationDiagram:
        self.queue.extend(seeds)
        while self.queue and len(self.branches) < self.max_branches:
            self._follow_seed(self.queue.popleft())
        return BifurcationDiagram(
            map=self.map.name,
            parameter=self.parameter,
            branches=tuple(self.branches),
            points=tuple(self.points),
            unfollowed=self.unfollowed + len(self.queue),
        )

    def _follow_seed(self, seed: Seed) -> None:
        """Follow a seed in its directions and join the pieces to one branch."""
        pieces = [self._follow_one(start) for start in seed.starts]
        if len(pieces) == 1:
            pieces.insert(0, ([], "bifurcation"))
        (backward, first_end), (forward, last_end) = pieces
        if seed.head is None:  # both directions begin at the same point
            rows = [*reversed(backward), *forward[1:]]
        else:
            head = [(seed.head, piece[0][1]) for piece in (backward[:1], forward[:1]) if piece]
            rows = [*reversed(backward), *head, *forward]
        points = [point for point, _ in rows]
        self.branches.append(
            Branch(
                period=points[0].family.period,
                parameter=np.array([point.parameter for point in points]),
                states=np.array([point.states for point in points]),
                multipliers=np.array([point.multipliers for point in points]),
                stable=np.array([stable for _, stable in rows]),
                ends=(first_end, last_end),
                origin=seed.origin,
            )
        )

    def _follow_one(self, start: Point) -> tuple[list[tuple[Point, bool]], str]:
        """Follow one direction; return its points, bifurcations included, each with its stability."""
        between: dict[int, list[Point]] = {}  # id of the point before -> bifurcations after it

        def accept(old: Point, new: Point) -> str:
            if max(abs(old.t[-1]), abs(new.t[-1])) < _VERTICAL:
                return "cycles fill an interval at one parameter"
            found = []
            for kind in sign_changes(old, new):
                result = refine(old, new, kind)
                if result is None:
                    if np.linalg.norm(new.z - old.z) > _UNRESOLVED:
                        return "retry"
                    result = old, DEGENERATE
                point, kind = result
                if kind:
                    found.append((point, kind))
            chord = new.z - old.z
            found.sort(key=lambda item: float((item[0].z - old.z) @ chord))
            for point, kind in found:
                between.setdefault(id(old), []).append(point)
                if kind == SHRINKS:
                    return self._closes(point)
                self._register(point, kind)
            if np.abs(new.multipliers).max() > _LARGEST_MULTIPLIER:
                return "too unstable to follow"
            return "escapes" if np.abs(new.states).max() > escape else ""

        n = start.z.size - 1
        escape = _ESCAPE * start.family.size if self.escape is None else self.escape
        solutions, end = follow(
            start.family.correct,
            start,
            bounded=[n],
            max_step=self.max_step,
            max_points=int(100 / self.max_step),
            accept=accept,
        )
        if end.startswith("closes"):
            solutions = solutions[:-1]  # beyond its end the branch retraces itself, half a cycle later
        last = solutions[-1]
        if end == LOST and last.family.shows_freedom(last, 1e-5):
            self._register(last, DEGENERATE)
            end = "runs into cycles that are not isolated"
        rows = []
        for i, point in enumerate(solutions):
            rows.append((point, point.stable))
            after = solutions[i + 1].stable if i + 1 < len(solutions) else point.stable
            for special in between.get(id(point), []):
                rows += [(special, point.stable), (special, after)]
        return rows, end

    def _closes(self, point: Point) -> str:
        """The branch has shrunk onto one of a shorter period: register the flip there if it is new."""
        family = point.family
        shorter = minimal_period(point.states, 1e-9 * family.size)
        if 2 * shorter != family.period:
            return f"closes on a cycle of period {shorter}"
        parent = replace(family, period=shorter).near(point.states[:shorter], point.parameter)
        if parent is None or parent.family.shows_freedom(parent):
            self._register(point, DEGENERATE)
            return f"closes on cycles of period {shorter} that are not isolated"
        for distance in _AROUND:
            low, high = (parent.family.correct(parent.z + s * distance * parent.t, parent.t) for s in (-1, 1))
            if low is None or high is None or low.tests[FLIP] * high.tests[FLIP] >= 0:
                continue
            result = refine(low, high, FLIP)
            if result is None:
                continue
            known = self._find(result[0], FLIP)
            self._register(result[0], FLIP, switch=False)
            if known is None:
                self.queue.append(Seed((replace(low, t=-low.t), low)))
            else:
                self._drop_seed(known)  # this branch is the one that leaves it
            return f"closes on a flip of period {shorter}"
        self._register(point, DEGENERATE)
        return f"closes on a cycle of period {shorter}"

    def _drop_seed(self, origin: int) -> None:
        self.queue = deque(seed for seed in self.queue if seed.origin != origin)

    def _register(self, point: Point, kind: str, *, switch: bool = True) -> None:
        """Record a bifurcation unless it is known; queue the branches that leave it."""
        known = self._find(point, kind)
        if known is not None:
            if kind == BRANCH and self.points[known].branch != len(self.branches):
                self._drop_seed(known)  # this branch is the one that crosses there
            return
        self.points.append(
            SpecialPoint(
                kind=kind,
                parameter=point.parameter,
                states=point.states,
                multipliers=point.multipliers,
                branch=len(self.branches),
            )
        )
        if not switch or kind not in (FLIP, BRANCH, DEGENERATE):
            return
        seed = None
        if kind == FLIP and 2 * point.family.period <= self.max_period:
            seed = doubled(point)
        elif kind == BRANCH:
            seed = crossing(point)
        if seed is None:
            self.unfollowed += 1
        else:
            self.queue.append(replace(seed, origin=len(self.points) - 1))

    def _find(self, point: Point, kind: str) -> int | None:
        """Index of a special point among those known."""
        beside = _SAME_PARAMETER * (self.interval[1] - self.interval[0])
        near = _SAME_STATES * point.family.size
        for i, known in enumerate(self.points):
            if (
                kind == known.kind
                and abs(point.parameter - known.parameter) <= beside
                and same_cycle(point.states, known.states, near)
            ):
                return i
        return None
