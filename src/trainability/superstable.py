"""Parameters at which a critical point of a one-dimensional map is periodic."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _balls
from ._checks import check_box, positive_whole
from ._map import Map, symbols_of
from ._shooting import parameter_values


@dataclass(frozen=True, eq=False, kw_only=True)
class SuperstableCycles:
    """Parameters at which a critical point lies on a cycle, ascending: all of them, where `complete`.

    `parameter`, `critical` (the critical point), `period` and `error` (a rigorous bound of the error of the
    two) have shape (n,). `undecided` (k, 2, 2) are cells (critical point, parameter) that stayed open.
    """

    parameter: np.ndarray
    critical: np.ndarray
    period: np.ndarray
    error: np.ndarray
    complete: bool
    undecided: np.ndarray

    def __repr__(self) -> str:
        counts = ", ".join(f"{(self.period == n).sum()} of period {n}" for n in np.unique(self.period))
        scope = "proved complete" if self.complete else f"{len(self.undecided)} cells undecided"
        return f"SuperstableCycles({counts or 'none'}; {scope})"


def superstable_cycles(
    map: Map, parameter: str, interval: Any, *, max_period: int, box: Any, max_cells: int = 100_000
) -> SuperstableCycles:
    """Find all parameters at which a critical point of a one-dimensional family is periodic.

    Parameters
    ----------
    map : Map
        Of one variable; its other parameters keep their values.
    parameter : str
    interval : (float, float)
        Of the parameter.
    max_period : int
    box : array_like, shape (1, 2) or (2,)
        Where the critical point is looked for; the rest of the cycle may lie anywhere.
    max_cells : int, optional
        Work limit for each period.

    Returns
    -------
    SuperstableCycles

    Raises
    ------
    ValueError
        If the map is not one-dimensional or has no symbolic form, or an argument does not fit.
    ImportError
        If python-flint is missing.

    Notes
    -----
    Zeros of (f'(c), f^n(c) - c) in (c, parameter), by subdivision in ball arithmetic. Superstable
    parameters that accumulate within 1e-9 of the interval cannot be told apart. theory/10
    (eq:superstable).

    Examples
    --------
    >>> from trainability.maps import cubic_map
    >>> found = superstable_cycles(cubic_map(), "mu", (0.2, 1.3), max_period=2, box=(0.1, 2))
    >>> bool(abs(found.parameter - [1 / 2, 3 / 2**0.5 - 1]).max() < 1e-14)
    True
    """
    import sympy as sp

    flint = _balls.load_flint()
    if map.d != 1:
        raise ValueError(f"{map.name} has {map.d} variables; superstable parameters need a map of one")
    positive_whole("max_period", max_period)
    index = map.parameter_index(parameter)
    region = check_box(2, [np.ravel(check_box(1, np.atleast_2d(box))), interval])
    _balls.ball_map(map)  # refuses maps it cannot evaluate
    (f,) = map.expressions
    (x,), others = symbols_of(map)
    mu = others[index]
    slopes = [sp.diff(f, x), sp.diff(f, x, x), sp.diff(f, x, mu), f, sp.diff(f, mu)]
    evaluate = _balls.compile_balls(slopes, [x, *others])
    p = [flint.arb(value) for value in parameter_values(map)]

    def iterate(c, value, period):
        """f'(c), f^n(c) - c and their derivatives in (c, mu)."""
        q = [*p[:index], value, *p[index + 1 :]]
        critical, f_xx, f_xmu, _, _ = evaluate([c], q)
        u, by_c, by_mu = c, flint.arb(1), flint.arb(0)
        for _ in range(period):
            f_x, _, _, new, f_mu = evaluate([u], q)
            u, by_c, by_mu = new, f_x * by_c, f_x * by_mu + f_mu
        return [critical, u - c], [[f_xx, f_xmu], [by_c - 1, by_mu]]

    rows: list[tuple] = []
    undecided = []
    for period in range(1, max_period + 1):

        def function(cell, period=period):
            values, jacobian = iterate(cell[0], cell[1], period)
            if any(v.is_finite() and not v.contains(0) for v in values):
                return None
            matrix = flint.arb_mat(jacobian)
            if not all(entry.is_finite() for entry in matrix.entries()):
                return (None, None)
            return lambda center: iterate(center[0], center[1], period)[0], matrix

        zeros = _balls.zeros_in_box(function, region, min_width=2.0**-30, max_cells=max_cells)
        undecided.append(zeros.undecided)
        for enclosure, domain in zip(zeros.enclosures, zeros.domains, strict=True):
            c, value = (float(e.mid()) for e in enclosure)
            error = max(_balls.largest(e - e.mid()) for e in enclosure) + np.spacing(max(abs(c), abs(value)))
            point = [_balls.ball(z - error, z + error) for z in (c, value)]
            repeats = [r for r in rows if period % r[2] == 0 and _balls.contain(domain, r[4])]
            if not repeats and region[1, 0] <= value <= region[1, 1]:
                rows.append((value, c, period, error, point))
    rows.sort(key=lambda r: (r[0], r[1]))
    columns = [np.array([r[k] for r in rows]) for k in range(4)]
    left = np.concatenate(undecided)
    return SuperstableCycles(
        parameter=columns[0],
        critical=columns[1],
        period=columns[2].astype(int),
        error=columns[3],
        complete=not len(left),
        undecided=left,
    )
