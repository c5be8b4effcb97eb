"""Pseudo-arclength continuation of any one-dimensional set of solutions.

The set is followed by a predictor along the tangent and a corrector in the plane across it, so folds are
points like any other (Keller 1977; Allgower & Georg, Numerical Continuation Methods, 1990).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

# Steps: the first one as a part of the largest, growth after success, and the length below which the
# curve is given up; tangents of neighbouring solutions differ by at most about 18 degrees, so that a
# chord stands in for the curve when a bifurcation between them is refined.
_FIRST, _GROWTH, _SHORTEST, _COSINE = 1 / 16, 1.6, 1e-12, 0.95


LOST = "no solution could be found further on"


class Solution(Protocol):
    """A solution in scaled coordinates z with the unit tangent t of the curve there."""

    z: np.ndarray
    t: np.ndarray


def follow(
    correct: Callable,
    start,
    *,
    bounded: Sequence[int],
    max_step: float,
    max_points: int,
    accept: Callable = lambda old, new: "",
) -> tuple[list, str]:
    """Follow a curve from `start` along its tangent; return the solutions and why they end.

    Parameters
    ----------
    correct : callable
        ``correct(z, t)`` returns the `Solution` in the plane through z across t, its tangent on the side
        of t, or None.
    start : Solution
    bounded : sequence of int
        Coordinates of z that stay in [0, 1]; the curve ends exactly at these bounds.
    max_step : float
        In scaled coordinates.
    max_points : int
    accept : callable, optional
        ``accept(old, new)`` sees each pair of neighbours: "" goes on, "retry" asks for a shorter step, any
        other text ends the curve with it.
    """
    solutions, step = [start], _FIRST * max_step
    while len(solutions) < max_points:
        old = solutions[-1]
        if step < _SHORTEST:
            return solutions, LOST
        new = correct(old.z + step * old.t, old.t)
        if new is None or new.t @ old.t < _COSINE or np.linalg.norm(new.z - old.z) > 1.5 * step:
            step /= 2
            continue
        crossed = [k for k in bounded if not 0 <= new.z[k] <= 1]
        if crossed:
            if abs(old.z[crossed[0]] - (new.z[crossed[0]] > 1)) < 1e-12:
                return solutions, "end of the interval"
            new = _at_bound(correct, old, new, crossed[0])
            if new is None or any(not -1e-12 <= new.z[k] <= 1 + 1e-12 for k in bounded):
                step /= 2
                continue
        verdict = accept(old, new)
        if verdict == "retry":
            step /= 2
            continue
        solutions.append(new)
        if verdict:
            return solutions, verdict
        if crossed:
            return solutions, "end of the interval"
        if len(solutions) > 8 and np.linalg.norm(new.z - start.z) < step and new.t @ start.t > _COSINE:
            return [*solutions, start], "closed curve"
        step = min(_GROWTH * step, max_step)
    return solutions, f"max_points={max_points} reached"


def _at_bound(correct: Callable, old, new, k: int):
    """The solution between two neighbours whose coordinate k is exactly at the bound that `new` has crossed."""
    bound = float(new.z[k] > 1)
    guess = old.z + (bound - old.z[k]) / (new.z[k] - old.z[k]) * (new.z - old.z)
    guess[k] = bound
    across = np.zeros_like(guess)
    across[k] = np.sign(new.z[k] - old.z[k])
    end = correct(guess, across)
    return end if end is not None and np.linalg.norm(end.z - guess) < np.linalg.norm(new.z - old.z) else None
