"""Cycles of a map: all of them in a box, their multipliers and stability."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _balls
from ._checks import check_box, positive_whole
from ._map import Map
from ._shooting import (
    largest_residual,
    linearize,
    map_tuples,
    minimal_period,
    multipliers,
    newton,
    orbit,
    parameter_values,
    same_cycle,
)

# How far, relative to the box, Newton's method may run before it is given up.
_FAR = 10.0
# Two points closer than this, relative to their size, are one: far above Newton's error, far below the
# distance of distinct cycles except within about 1e-12 of a fold or flip in the parameter.
_SAME = 1e-6
# A multiplier this close to 1 asks whether the cycle is isolated; then a neighbour is sought at `_ASIDE`.
_NEUTRAL, _ASIDE = 1e-6, 1e-3
# A continuum is sampled no more densely than this, relative to the size of its points.
_THIN = 0.05
_STARTS = 600  # starts of the uncertified search; on the maps of the tests a tenth of them found every cycle


class NotFound(RuntimeError):
    """Newton's method found no cycle near the guess; `states` is where it stopped, `residual` how far off."""

    def __init__(self, message: str, states: np.ndarray, residual: float):
        super().__init__(message)
        self.states = states
        self.residual = residual


@dataclass(frozen=True, eq=False, kw_only=True)
class Cycle:
    """A cycle u_1 -> u_2 -> … -> u_1, or a fixed point (period 1).

    `states` (period, d) begin at the point with the smallest first coordinate; `multipliers` (d,) are the
    eigenvalues of the Jacobian's product along it, largest modulus first. `error` bounds the distance of
    the first state from the exact one: rigorously if `certified`, else the last Newton correction.
    `isolated` is False where the cycle belongs to a continuum of cycles.
    """

    states: np.ndarray
    multipliers: np.ndarray
    error: float
    certified: bool = False
    isolated: bool = True

    @property
    def period(self) -> int:
        """Number of points."""
        return len(self.states)

    @property
    def stable(self) -> bool:
        """Whether every multiplier lies inside the unit circle."""
        return bool(np.abs(self.multipliers).max() < 1)

    def __repr__(self) -> str:
        kind = "stable" if self.stable else "unstable" if self.isolated else "not isolated"
        values = ", ".join(f"{m.real:.6g}" if m.imag == 0 else f"{m:.6g}" for m in self.multipliers)
        point = ", ".join(f"{x:.6g}" for x in self.states[0])
        proof = ", certified" if self.certified else ""
        return f"Cycle(period {self.period}, {kind}, multipliers {values}, through ({point}){proof})"


@dataclass(frozen=True, eq=False, kw_only=True)
class Cycles:
    """The cycles found in a box, by period, then by first state.

    `complete` is True where it is proved that the box holds no others up to `max_period`. Else `undecided`
    (k, d, 2) holds the cells that a proof left open, if one was tried. `continua` are points of cycles
    that are not isolated: samples, not a list.
    """

    cycles: tuple[Cycle, ...]
    max_period: int
    complete: bool
    undecided: np.ndarray
    continua: tuple[Cycle, ...] = ()

    def __len__(self) -> int:
        return len(self.cycles)

    def __iter__(self):
        return iter(self.cycles)

    def __getitem__(self, index):
        return self.cycles[index]

    def __repr__(self) -> str:
        if self.complete:
            scope = "all of them (proved)"
        elif len(self.undecided):
            scope = f"complete except in {len(self.undecided)} undecided cells"
        else:
            scope = "not proved complete"
        lines = [f"{len(self.cycles)} cycles up to period {self.max_period}, {scope}"]
        if self.continua:
            lines.append(f"and a continuum of cycles that are not isolated ({len(self.continua)} samples)")
        return "\n  ".join([*lines, *map(repr, self.cycles)])


def find_cycle(map: Map, guess: Any, *, period: int | None = None) -> Cycle:
    """Find the cycle near a guess by Newton's method on all of its points at once.

    Parameters
    ----------
    map : Map
    guess : array_like, shape (d,) or (period, d)
        One state, whose orbit is the guess, or all points of the cycle.
    period : int, optional
        Needed with a guess of shape (d,), where it is 1 unless given.

    Returns
    -------
    Cycle
        Of that period or, if Newton's method ran into a shorter cycle, of a divisor of it.

    Raises
    ------
    ValueError
        If the guess or the period does not fit.
    NotFound
        If Newton's method does not converge; the error carries where it stopped.

    Notes
    -----
    Accurate to a few units in the last place times 1/|1 - multiplier|. Cycles that are not isolated are
    found too, by least squares, and say so. Deuflhard, Computing 33, 127-146 (1984); theory/10
    (eq:shooting).

    Examples
    --------
    >>> from trainability.maps import cubic_map
    >>> find_cycle(cubic_map(1.1), [0.7], period=2)
    Cycle(period 2, stable, multipliers 0.18, through (0.854309))
    """
    states = guessed_states(map, guess, period)
    found = newton(map, states, bound=_FAR * (1 + np.abs(states).max()))
    if found is None:
        raise NotFound(
            f"no cycle of period {len(states)} of {map.name} near {states[0].tolist()}; "
            f"a closer guess may come from an orbit or from `find_cycles`",
            states,
            largest_residual(map, states),
        )
    return as_cycle(map, *found)


def guessed_states(map: Map, guess: Any, period: int | None) -> np.ndarray:
    """Turn a guess, one state or a whole cycle, into an array (period, d)."""
    if isinstance(guess, Cycle):
        guess = guess.states
    u = map.check_states(guess)
    if period is not None:
        positive_whole("period", period)
    if u.ndim == 2:
        if period not in (None, len(u)):
            raise ValueError(f"the guess has {len(u)} states, but period={period}")
        return u
    if u.ndim != 1:
        raise ValueError(
            f"the guess has shape {u.shape}; give one state ({map.d},) or a cycle (period, {map.d})"
        )
    states = orbit(map, u, period or 1, parameter_values(map), bound=1e150)
    if states is None:
        raise ValueError(
            f"the orbit of the guess {u.tolist()} escapes before {period} steps; guess every state"
        )
    return states


def as_cycle(map: Map, states: np.ndarray, error: float) -> Cycle:
    """Make a `Cycle` of minimal period from states that solve the equations."""
    scale = 1 + np.abs(states).max()
    states = states[: minimal_period(states, _SAME * scale)]
    states = np.roll(states, -int(np.lexsort(states.T[::-1])[0]), axis=0)
    monodromy = _monodromy(map, states)
    values = multipliers(monodromy)
    isolated = not _has_neighbour(map, states, monodromy, values)
    return Cycle(states=states, multipliers=values, error=error, isolated=isolated)


def _monodromy(map: Map, states: np.ndarray) -> np.ndarray:
    system = linearize(map, states, parameter_values(map))
    assert system is not None  # Newton has just evaluated the map here
    return system.monodromy


def _has_neighbour(map: Map, states: np.ndarray, monodromy: np.ndarray, values: np.ndarray) -> bool:
    """Whether Newton's method, started a little aside along the neutral direction, finds another cycle there."""
    if np.abs(values - 1).min() > _NEUTRAL:
        return False
    _, _, rows = np.linalg.svd(monodromy - np.eye(len(monodromy)))
    scale = 1 + np.abs(states).max()
    start = orbit(map, states[0] + _ASIDE * scale * rows[-1], len(states), parameter_values(map), bound=1e150)
    found = newton(map, start, bound=_FAR * scale) if start is not None else None
    if found is None:
        return False
    distance = np.linalg.norm(found[0][0] - states[0])
    return 0.5 * _ASIDE * scale < distance < 2 * _ASIDE * scale


def find_cycles(
    map: Map,
    *,
    max_period: int,
    box: Any,
    prove: bool | None = None,
    max_cells: int = 20_000,
    seed: int = 0,
) -> Cycles:
    """Find all cycles up to a period whose points lie in a box.

    Parameters
    ----------
    map : Map
    max_period : int
    box : array_like, shape (d, 2)
        Lower and upper end for each variable.
    prove : bool, optional
        Prove that none is missing, in ball arithmetic. By default where python-flint is installed and
        the map has a symbolic form. Without it Newton's method runs from many starts, and the result says
        that it is not proved complete.
    max_cells : int, optional
        Work limit of the proof for each period; what is left then is reported as undecided, and searched
        by Newton's method. A cell takes about 0.1 ms × period.
    seed : int, optional
        Of the starts of Newton's method, which are a scrambled Sobol sequence.

    Returns
    -------
    Cycles

    Raises
    ------
    ValueError
        If the period or the box does not fit, or `prove=True` and the map has no symbolic form.
    ImportError
        If `prove=True` and python-flint is missing.

    Notes
    -----
    The proof subdivides the box. A cell is discarded when its image under f^n - 1 excludes zero, or when
    its orbit leaves the box; it holds exactly one cycle when Krawczyk's operator maps it into itself. It
    cannot decide cells around cycles with a multiplier equal to 1. The number of cells grows like the
    number of cycles, so exponentially with the period. theory/10 (eq:krawczyk).

    Examples
    --------
    >>> from trainability.maps import cubic_map
    >>> find_cycles(cubic_map(1.1), max_period=2, box=[(0.1, 2)])
    2 cycles up to period 2, all of them (proved)
      Cycle(period 1, unstable, multipliers -1.2, through (1.04881), certified)
      Cycle(period 2, stable, multipliers 0.18, through (0.854309), certified)
    """
    positive_whole("max_period", max_period)
    box = check_box(map.d, box)
    if prove is None:
        prove = _balls.has_balls(map)
    if not prove:
        found = _search(map, max_period, box, box[None], seed)
        return _collect(found, box, max_period, np.empty((0, map.d, 2)), complete=False)

    certified: list[Cycle] = []
    left: list[np.ndarray] = []
    for period in range(1, max_period + 1):
        new, undecided = _proved_cycles(map, period, box, certified, max_cells)
        certified += new
        left.append(undecided)
    undecided = np.concatenate(left)
    searched = _search(map, max_period, box, undecided, seed) if len(undecided) else []
    extra = [c for c in searched if not _is_among(c.states, certified)]
    return _collect(certified + extra, box, max_period, undecided, complete=not len(undecided))


def _collect(found: list[Cycle], box: np.ndarray, max_period: int, undecided: np.ndarray, *, complete: bool):
    slack = 1e-9 * (box[:, 1] - box[:, 0])
    inside = [c for c in found if ((c.states >= box[:, 0] - slack) & (c.states <= box[:, 1] + slack)).all()]
    inside.sort(key=lambda c: (c.period, *c.states[0]))
    return Cycles(
        cycles=tuple(c for c in inside if c.isolated),
        continua=tuple(c for c in inside if not c.isolated),
        max_period=int(max_period),
        complete=complete,
        undecided=undecided,
    )


def _is_among(states: np.ndarray, cycles: list[Cycle]) -> bool:
    """Whether the cycle through `states` is one of those."""
    near = _SAME * (1 + np.abs(states).max())
    return any(same_cycle(states, known.states, near) for known in cycles)


def _search(map: Map, max_period: int, box: np.ndarray, cells: np.ndarray, seed: int) -> list[Cycle]:
    """Newton's method from starts spread over `cells` (k, d, 2), for each period."""
    from scipy.stats import qmc

    unit = qmc.Sobol(map.d, seed=seed).random(1 << (_STARTS - 1).bit_length())[:_STARTS]
    pick = cells[np.linspace(0, len(cells) - 1, _STARTS).round().astype(int)]
    starts = pick[:, :, 0] + unit * (pick[:, :, 1] - pick[:, :, 0])
    bound = _FAR * (np.abs(box).max() + (box[:, 1] - box[:, 0]).max())
    found: list[Cycle] = []
    for period in range(1, max_period + 1):
        for start in starts:
            result = _cycle_from(map, start, period, bound)
            if result is None:
                continue
            first = result[0][0]
            scale = 1 + np.abs(first).max()
            distances = [np.abs(c.states - first).max(axis=1).min() / scale for c in found]
            if any(x <= (_SAME if c.isolated else _THIN) for x, c in zip(distances, found, strict=True)):
                continue
            found.append(as_cycle(map, *result))
    return found


def _cycle_from(map: Map, u, period: int, bound: float):
    """What `newton` reaches from the orbit of one state."""
    states = orbit(map, u, period, parameter_values(map), bound)
    return None if states is None else newton(map, states, bound)


def _proved_cycles(map: Map, period: int, box: np.ndarray, known: list[Cycle], max_cells: int):
    """Cycles of minimal period `period`, each proved to exist and to be the only one near, and open cells."""
    flint = _balls.load_flint()
    balls = _balls.ball_map(map)
    p = [flint.arb(x) for x in parameter_values(map)]
    identity = flint.arb_mat(np.eye(map.d).tolist())
    margin = 0.05 * (box[:, 1] - box[:, 0])  # points on the box's edge are neither lost nor undecidable
    frame = [_balls.ball(lo - m, hi + m) for (lo, hi), m in zip(box, margin, strict=True)]

    def function(cell):
        """F = f^period - 1 on a cell, for the point of the cycle whose first coordinate is smallest."""
        u, jacobian, clipped = list(cell), identity, False
        for _ in range(period):
            if not clipped:
                jacobian = flint.arb_mat(balls.jacobian(u, p)) * jacobian
            u = balls.step(u, p)
            if not all(x.is_finite() for x in u):
                return (None, None)
            if not all(x.overlaps(side) for x, side in zip(u, frame, strict=True)):
                return None
            if u[0] < cell[0]:
                return None
            if not all(side.contains(x) for x, side in zip(u, frame, strict=True)):
                u, clipped = [x.intersection(side) for x, side in zip(u, frame, strict=True)], True
        if any(not x.overlaps(c) for x, c in zip(u, cell, strict=True)):
            return None
        if clipped or not all(x.is_finite() for x in jacobian.entries()):
            return (None, None)
        return values_at, jacobian - identity

    def values_at(point):
        u = point
        for _ in range(period):
            u = balls.step(u, p)
        return [x - y for x, y in zip(u, point, strict=True)]

    zeros = _balls.zeros_in_box(function, box, min_width=2.0**-30, max_cells=max_cells)
    new: list[Cycle] = []
    undecided = [zeros.undecided]
    for enclosure, domain in zip(zeros.enclosures, zeros.domains, strict=True):
        shorter = [c for c in known if period % c.period == 0]
        if any(_balls.contain(domain, _enclosure(c)) for c in shorter):
            continue  # the only zero there is a cycle of a shorter period
        first = [float(x.mid()) for x in enclosure]
        polished = _cycle_from(map, first, period, bound=1e150)
        if polished is None or any(_balls.overlap(enclosure, _enclosure(c)) for c in shorter):
            undecided.append(np.array([[_balls.bounds(x) for x in enclosure]]))
            continue
        states = polished[0]
        if _is_among(states, new):
            continue  # two of its points share the smallest first coordinate
        apart = [
            abs(x - flint.arb(s)).abs_upper() for x, s in zip(enclosure, map_tuples(states)[0], strict=True)
        ]
        new.append(
            Cycle(
                states=states,
                multipliers=multipliers(_monodromy(map, states)),
                error=max(_balls.largest(x) for x in apart),
                certified=True,
            )
        )
    return new, np.concatenate(undecided)


def _enclosure(cycle: Cycle) -> list:
    """Balls around the exact first state of a certified cycle."""
    return [_balls.ball(x - cycle.error, x + cycle.error) for x in map_tuples(cycle.states)[0]]
