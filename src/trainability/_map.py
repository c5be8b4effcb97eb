"""A map of training dynamics: one step and its Jacobian, compiled, with their symbolic form."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

import numpy as np
from numba import njit

from ._checks import finite
from ._lanes import put, take

# Where a user's Jacobian is compared with differences of the step: a point of no special meaning, and
# the largest relative disagreement that rounding in a central difference of step 1e-6 can explain.
_PROBE, _PROBE_STEP, _PROBE_TOL = 0.3571, 1e-6, 1e-5


@dataclass(frozen=True, eq=False)
class Map:
    """A map u -> step(u, p) of d real variables with named parameters.

    Both functions take two tuples, the state (length d) and the parameters (length k), and use
    arithmetic and `math` functions only. Plain Python functions are compiled with numba on creation;
    the Jacobian is compared with differences of the step at one point.

    Parameters
    ----------
    step : callable
        ``step(u, p) -> tuple`` of length d.
    jacobian : callable
        ``jacobian(u, p) -> tuple`` of d rows, each a tuple of length d; row i holds the derivatives
        of the i-th new variable.
    variables : tuple of str
    parameters : mapping of str to float
        Names and values, in the order of `p`.
    loss : callable, optional
        ``loss(u, p) -> float``, the quantity that training lowers; `classify` needs it to tell a
        catapult from a monotone descent.
    name : str, optional
    derived_from : tuple of sympy expressions, optional
        The step in symbols, where `step` was generated from them. Left out, `expressions` is found
        by applying `step` to symbols.

    Raises
    ------
    ValueError
        If lengths disagree, a parameter is not finite, or the Jacobian is not the step's.

    Examples
    --------
    >>> logistic = Map(lambda u, p: (p[0] * u[0] * (1 - u[0]),),
    ...                lambda u, p: ((p[0] * (1 - 2 * u[0]),),),
    ...                variables=("x",), parameters={"r": 3.2}, name="logistic")
    >>> logistic([0.5])
    array([0.8])
    >>> logistic.expressions
    (r*x*(1 - x),)
    """

    step: Any
    jacobian: Any
    variables: tuple[str, ...]
    parameters: Mapping[str, float]
    loss: Any = None
    name: str = "map"
    derived_from: tuple = field(default=(), repr=False)

    def __post_init__(self) -> None:
        variables = tuple(self.variables)
        parameters = {name: float(finite(name, value)) for name, value in self.parameters.items()}
        settle = object.__setattr__
        settle(self, "variables", variables)
        settle(self, "parameters", MappingProxyType(parameters))
        for attribute in ("step", "jacobian", "loss"):
            function = getattr(self, attribute)
            if function is not None and not hasattr(function, "py_func"):
                settle(self, attribute, njit(function, error_model="numpy"))  # 1/0 is inf, and escapes
        self._check_jacobian()

    @cached_property
    def expressions(self) -> tuple:
        """The step in sympy symbols, one expression for each variable.

        Empty where `step` was written with functions that take no symbols.
        """
        import sympy as sp

        if self.derived_from:
            return self.derived_from
        try:
            return tuple(sp.sympify(new) for new in self.step.py_func(*symbols_of(self)))
        except TypeError:  # `math` functions take no symbols
            return ()

    @property
    def d(self) -> int:
        """Number of state variables."""
        return len(self.variables)

    def with_parameters(self, **parameters: float) -> "Map":
        """Return the same map with other parameter values.

        Raises
        ------
        ValueError
            If the map has no parameter of that name; the error lists those it has.

        Examples
        --------
        >>> from trainability import product_map
        >>> product_map(0.5).with_parameters(mu=1.1).parameters["mu"]
        1.1
        """
        for name in parameters:
            self.parameter_index(name)
        return replace(self, parameters={**self.parameters, **parameters})

    def parameter_index(self, name: str) -> int:
        """Position of parameter `name` in `p`; an unknown name is a `ValueError` listing the known."""
        names = list(self.parameters)
        if name not in names:
            raise ValueError(
                f"{name!r} is not a parameter of {self.name}; it has {', '.join(names) or 'none'}"
            )
        return names.index(name)

    def __call__(self, u) -> np.ndarray:
        """Apply the map once to states of shape (..., d)."""
        u = self.check_states(u)
        columns = u.reshape(-1, self.d).T.copy()  # stepped in place
        _apply(self.step, columns, self.u_like, self._p)
        return np.ascontiguousarray(columns.T).reshape(u.shape)

    def jacobian_at(self, u) -> np.ndarray:
        """Jacobian matrix, shape (d, d), at one state of shape (d,)."""
        return np.array(self.jacobian(tuple(self.check_states(u)), self._p))

    def latex(self) -> str:
        """Return the step as LaTeX, one line for each variable.

        Examples
        --------
        >>> from trainability import product_map
        >>> print(product_map(1.1).latex())
        a' = a - b \\left(a b - \\mu\\right)\\\\
        b' = - a \\left(a b - \\mu\\right) + b
        """
        import sympy as sp

        if not self.expressions:
            raise ValueError(
                f"{self.name}: its step could not be applied to symbols, so it has no LaTeX form"
            )
        names = [sp.latex(sp.Symbol(name)) for name in self.variables]
        return "\\\\\n".join(f"{n}' = {sp.latex(e)}" for n, e in zip(names, self.expressions, strict=True))

    def check_states(self, u) -> np.ndarray:
        """Return `u` as a finite float array of shape (..., d), or raise a `ValueError` saying what is wrong."""
        u = finite("u", u)
        if u.ndim == 0 or u.shape[-1] != self.d:
            raise ValueError(
                f"u has shape {u.shape}; {self.name} needs (..., {self.d}) for {', '.join(self.variables)}"
            )
        return u

    @property
    def u_like(self) -> tuple[float, ...]:
        """A tuple of zeros as long as the state; tells compiled kernels the dimension."""
        return (0.0,) * self.d

    @property
    def p_like(self) -> tuple[float, ...]:
        """A tuple of zeros as long as the parameters; tells compiled kernels their number."""
        return (0.0,) * len(self.parameters)

    @cached_property
    def _p(self) -> tuple[float, ...]:
        return tuple(self.parameters.values())

    def _check_jacobian(self) -> None:
        """Compare the Jacobian with central differences of the step, in plain Python."""
        step, p = self.step.py_func, self._p
        u = tuple(_PROBE + 0.1 * i for i in range(self.d))
        new = step(u, p)
        rows = self.jacobian.py_func(u, p)
        if len(new) != self.d or len(rows) != self.d or any(len(row) != self.d for row in rows):
            raise ValueError(f"{self.name}: step and jacobian must give {self.d} values and {self.d} rows")
        for j in range(self.d):
            ahead, behind = (
                [u[i] + sign * _PROBE_STEP * (i == j) for i in range(self.d)] for sign in (1, -1)
            )
            for i, (up, down) in enumerate(zip(step(tuple(ahead), p), step(tuple(behind), p), strict=True)):
                slope = (up - down) / (2 * _PROBE_STEP)
                if abs(slope - rows[i][j]) > _PROBE_TOL * (1 + abs(slope)):
                    raise ValueError(
                        f"{self.name}: jacobian[{i}][{j}] is {rows[i][j]:.6g} at {u}, but the step changes there "
                        f"by {slope:.6g} per unit; the two functions disagree"
                    )


def symbols_of(map: Map) -> tuple[tuple, tuple]:
    """Variables and parameters as sympy symbols: those of `Map.expressions`."""
    import sympy as sp

    u, p = (tuple(sp.Symbol(n, real=True) for n in names) for names in (map.variables, map.parameters))
    return u, p


@njit
def _apply(step, columns, u_like, p):
    for lane in range(columns.shape[1]):
        put(columns, lane, step(take(columns, lane, u_like), p))
