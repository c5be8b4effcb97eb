"""Branch switching: the branches of cycles that leave a flip or a branch point."""

from dataclasses import dataclass, replace

import numpy as np

from ._branch import FLIP, TORUS, Point

# Distances along a new direction, in scaled coordinates, at which a branch is sought beside a
# bifurcation. The first at which the corrector moves the guess by less than the given part of the
# distance is taken, so that the new point lies on the branch tangent to that direction. A direction
# whose cosine with the old branch exceeds the last number is the old branch.
_ASIDE, _ASIDE_MOVES, _OTHER = np.geomspace(1e-2, 1e-7, 11), 0.2, 0.999


@dataclass(frozen=True, eq=False)
class Seed:
    """Where to start a branch: one or two directions, and the bifurcation (cycle and parameter) between them."""

    starts: tuple[Point, ...]
    origin: int | None = None
    head: Point | None = None


def doubled(point: Point) -> Seed | None:
    """The branch of twice the period that leaves a flip, or None if none is found beside it."""
    family = replace(point.family, period=2 * point.family.period)
    d = family.map.d
    values, vectors = np.linalg.eig(point.system.monodromy)
    critical = vectors[:, np.argmin(np.abs(values + 1))].real
    half = point.system.P[:-1, :, :d] @ critical
    t = family.direction(np.concatenate([half, -half]), 0.0)
    states = np.concatenate([point.states, point.states])
    z = family.pack(states, point.parameter)
    system = family.linearize(states, point.parameter)
    if system is None:
        return None
    head = Point(family, states, point.parameter, z, t, system)
    new = _beside(head, t)
    return None if new is None else Seed((new,), head=head)


def crossing(point: Point) -> Seed | None:
    """The other branch through a branch point, or None if none is found beside it."""
    family = point.family
    d = family.map.d
    unit, width = family.units
    columns = family.column_units
    # Null vectors w = (du_1, dλ) of the condensed equations, in units in which states and λ compare.
    null = np.linalg.svd(point.system.closing / columns)[2][-2:]
    along = np.append(point.t[:d] * unit, point.t[-1] * width) * columns
    along = null @ along
    other = np.array([-along[1], along[0]]) / np.linalg.norm(along) @ null / columns
    t = family.direction(point.system.P[:-1] @ other, other[d])
    starts = [_beside(point, s * t, point.t) for s in (-1, 1)]
    found = tuple(start for start in starts if start is not None)
    return Seed(found, head=point) if found else None


def _beside(point: Point, t: np.ndarray, old: np.ndarray | None = None) -> Point | None:
    """The solution on the branch that leaves `point` along t, at the longest distance that works.

    With `old`, the tangent of the branch that is crossed, t is only near the new branch's tangent: a first
    try finds that, and must not find `old` again.
    """
    family = point.family
    for distance in _ASIDE:
        towards, new = t, None
        for _ in range(1 if old is None else 2):
            new = family.correct(point.z + distance * towards, towards)
            if new is None:
                break
            moved = np.linalg.norm(new.z - point.z - distance * towards)
            towards = (new.z - point.z) / np.linalg.norm(new.z - point.z)
        if new is None or moved > _ASIDE_MOVES * distance or not 0 <= new.z[-1] <= 1:
            continue
        jumped = any(new.tests[kind] * point.tests[kind] <= 0 for kind in (FLIP, TORUS))
        if not jumped and (old is None or abs(towards @ old) < _OTHER):
            return new
    return None
