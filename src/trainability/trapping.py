"""Computer-assisted proofs that a map traps a box."""

from collections.abc import Callable
from typing import Any

import numpy as np

from . import _balls
from ._checks import check_box, positive_whole
from ._map import Map
from ._shooting import parameter_values
from .certificates import NARROWEST, Certificate, Verdict, outward, show


def certify_trapping(
    map: Map,
    box: Any,
    *,
    parameter: str | None = None,
    interval: tuple[Any, Any] | None = None,
    precision: int = 64,
    max_cells: int = 20_000,
) -> Certificate:
    """Prove that a box is mapped into itself, for every parameter of an interval if one is given.

    Parameters
    ----------
    map : Map
        With a symbolic form; parameters other than `parameter` keep their values.
    box : array_like, shape (d, 2)
        Lower and upper end for each variable, taken as exact.
    parameter, interval : optional
        Both or neither. The interval is widened by one ulp at each end.
    precision : int, optional
        Bits of the ball arithmetic.
    max_cells : int, optional
        The box (and interval) is subdivided where needed; after this many cells the rest is undecided.

    Returns
    -------
    Certificate
        Its `pieces` are the cells, of box and parameter, whose images were shown to lie inside.

    Raises
    ------
    ValueError
        If an argument does not fit or the map has no symbolic form.
    ImportError
        If python-flint is missing.

    Notes
    -----
    The image of a cell is enclosed twice, directly and by the mean value theorem. "refuted" names a point
    of the box whose image is proved to lie outside. Where the image touches the box's edge, nothing can
    be decided. theory/10 (eq:trapping).

    Examples
    --------
    >>> from trainability.maps import cubic_map
    >>> certify_trapping(cubic_map(1.5), [(-1.8, 1.8)]).verdict
    'proved'
    >>> certify_trapping(cubic_map(1.5), [(-1.9, 1.9)])
    refuted: the cubic map maps [-1.9, 1.9] into itself (x = -1.9 leaves it)
    """
    flint = _balls.load_flint()
    box = check_box(map.d, box)
    positive_whole("precision", precision)
    positive_whole("max_cells", max_cells)
    if (parameter is None) != (interval is None):
        raise ValueError(
            f"parameter={parameter!r} and interval={interval!r} belong together: give both or neither"
        )
    vary = None if parameter is None else map.parameter_index(parameter)
    balls = _balls.ball_map(map)
    by_parameter = None if parameter is None else _balls.parameter_slope(map, parameter)
    product = " × ".join(f"[{lo:g}, {hi:g}]" for lo, hi in box)
    statement = f"the {map.name} maps {product} into itself"
    cell = [(float(lo), float(hi)) for lo, hi in box]
    if interval is not None:
        cell.append(outward(interval))
        statement = f"for every {parameter} in [{interval[0]}, {interval[1]}] {statement}"
    widths = [hi - lo for lo, hi in cell]
    proved: list = []
    todo, tried = [cell], 0
    verdict: Verdict = "proved"
    reason = ""

    def parameters(values: list) -> list:
        p = [flint.arb(x) for x in parameter_values(map)]
        if vary is not None:
            p[vary] = values[map.d]
        return p

    def image(X: list) -> list:
        """Enclosure of f over a cell: the direct one cut with the mean value form."""
        center = [x.mid() for x in X]
        rows = balls.jacobian(X[: map.d], parameters(X))
        slope = None if by_parameter is None else by_parameter(X[: map.d], parameters(X))
        direct = balls.step(X[: map.d], parameters(X))
        result = []
        for j, value in enumerate(balls.step(center[: map.d], parameters(center))):
            derivative = [*rows[j], *([slope[j]] if slope is not None else [])]
            mean_value = sum((g * (x - c) for g, x, c in zip(derivative, X, center, strict=True)), value)
            both = direct[j].is_finite() and mean_value.is_finite()
            result.append(direct[j].intersection(mean_value) if both else direct[j])
        return result

    with flint.ctx.workprec(precision):
        sides = [(flint.arb(lo), flint.arb(hi)) for lo, hi in box.tolist()]
        while todo:
            cell = todo.pop()
            tried += 1
            if all(
                lo <= y <= hi
                for y, (lo, hi) in zip(image([_balls.ball(*c) for c in cell]), sides, strict=True)
            ):
                proved.append(cell)
                continue
            witness = _leaving_point(cell, lambda X: balls.step(X[: map.d], parameters(X)), sides)
            relative = [(hi - lo) / w for (lo, hi), w in zip(cell, widths, strict=True)]
            j = int(np.argmax(relative))
            if witness is not None:
                names = [*map.variables, *([parameter] if parameter else [])]
                place = ", ".join(f"{name} = {x:.10g}" for name, x in zip(names, witness, strict=True))
                verdict, reason = "refuted", f"{place} leaves it"
                break
            if tried + len(todo) >= max_cells or relative[j] < NARROWEST:
                verdict, reason = "undecided", f"a cell at {show(cell[0])} stayed open after {tried} cells"
                break
            lo, hi = cell[j]
            todo += [
                [*cell[:j], half, *cell[j + 1 :]] for half in ((lo, 0.5 * (lo + hi)), (0.5 * (lo + hi), hi))
            ]
    pieces = np.array(proved).reshape(-1, len(widths), 2)
    return Certificate(
        statement=statement, verdict=verdict, reason=reason, pieces=pieces, precision=precision
    )


def _leaving_point(cell: list, step: Callable, sides: list) -> list[float] | None:
    """A corner or the centre of the cell whose image is certainly outside the box, or None."""
    arb = _balls.load_flint().arb
    corners = [list(corner) for corner in zip(*cell, strict=True)]
    for point in [*corners, [0.5 * (lo + hi) for lo, hi in cell]]:
        image = step([arb(x) for x in point])
        if any(y < lo or y > hi for y, (lo, hi) in zip(image, sides, strict=True)):
            return point
    return None
