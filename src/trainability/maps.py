"""Maps of training dynamics: one step and its Jacobian, compiled, with their symbolic form.

The product map is gradient descent on a two-factor linear transformer, reduced to two numbers
(theory/01); `gradient_descent` makes a map of any loss that sympy can differentiate.
"""

import re
from collections.abc import Mapping, Sequence
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
        u, p = (tuple(sp.Symbol(n, real=True) for n in names) for names in (self.variables, self.parameters))
        try:
            return tuple(sp.sympify(new) for new in self.step.py_func(u, p))
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


@njit
def _apply(step, columns, u_like, p):
    for lane in range(columns.shape[1]):
        put(columns, lane, step(take(columns, lane, u_like), p))


@njit
def _product_step(u, p):
    a, b = u
    e = a * b - p[0]
    return (a - e * b, b - e * a)


@njit
def _product_jacobian(u, p):
    a, b = u
    k = p[0] - 2 * a * b
    return ((1 - b * b, k), (k, 1 - a * a))


@njit
def _product_loss(u, p):
    a, b = u
    e = a * b - p[0]
    return e * e / 2


def product_map(mu: float = 1.0) -> Map:
    """Gradient descent on a two-factor linear transformer, in reduced units.

    (a, b) -> (a - e b, b - e a) with e = ab - mu: one step of learning rate 1 on the loss e²/2. `mu` is
    the effective step, learning rate times gain times target (`effective_step`).

    References
    ----------
    arXiv:2605.21292; theory/01 (eq:map).

    Examples
    --------
    >>> product_map(mu=1.1)([0.5, 0.5])
    array([0.925, 0.925])
    """
    return Map(
        _product_step, _product_jacobian, ("a", "b"), {"mu": mu}, loss=_product_loss, name="product map"
    )


@njit
def _minibatch_step(u, p):
    a, b = u
    e = p[1] * a * b - p[0]
    return (a - e * b, b - e * a)


@njit
def _minibatch_jacobian(u, p):
    a, b = u
    k = p[0] - 2 * p[1] * a * b
    return ((1 - p[1] * b * b, k), (k, 1 - p[1] * a * a))


def minibatch_map(mu: float = 1.0, curvature: float = 1.0) -> Map:
    """The product map of one mini-batch: (a, b) -> (a - e b, b - e a) with e = curvature·ab - mu.

    `mu` is the batch's own effective step and `curvature` its mean squared gain over that of all data, so
    that the full batch is `product_map(mu)`. Hand it to a `RandomMap` to draw a batch at each step. It has
    no loss, because the loss to watch is that of all data.

    References
    ----------
    arXiv:2605.21292; theory/06.

    Examples
    --------
    >>> minibatch_map(mu=1.1, curvature=2.0)([0.5, 0.5])
    array([0.8, 0.8])
    """
    return Map(
        _minibatch_step,
        _minibatch_jacobian,
        ("a", "b"),
        {"mu": mu, "curvature": curvature},
        name="mini-batch map",
    )


@njit
def _cubic_step(u, p):
    (x,) = u
    return (x * (1 + p[0] - x * x),)


@njit
def _cubic_jacobian(u, p):
    (x,) = u
    return ((1 + p[0] - 3 * x * x,),)


@njit
def _cubic_loss(u, p):
    (x,) = u
    e = x * x - p[0]
    return e * e / 2


def cubic_map(mu: float = 1.0) -> Map:
    """The product map on its balanced slice a = b = x: x -> x (1 + mu - x²).

    References
    ----------
    arXiv:2605.21292, arXiv:2310.01687; theory/02 (eq:cubic).

    Examples
    --------
    >>> cubic_map(mu=1.1)([0.5])
    array([0.925])
    """
    return Map(_cubic_step, _cubic_jacobian, ("x",), {"mu": mu}, loss=_cubic_loss, name="cubic map")


@njit
def _error_step(u, p):
    (z,) = u
    mu = p[0]
    return (z * (z * z + (mu - 2) * z + 1 - 2 * mu),)


@njit
def _error_jacobian(u, p):
    (z,) = u
    mu = p[0]
    return ((3 * z * z + 2 * (mu - 2) * z + 1 - 2 * mu,),)


@njit
def _error_loss(u, p):
    (z,) = u
    return z * z / 2


def error_map(mu: float = 1.0) -> Map:
    """The residual z = ab - mu on the balanced slice: z -> z³ + (mu - 2) z² + (1 - 2 mu) z.

    Closed in z alone, because on the slice x² = z + mu.

    References
    ----------
    arXiv:2605.21292, arXiv:2310.01687; theory/02 (eq:error).

    Examples
    --------
    >>> error_map(mu=0.5)([0.25])
    array([-0.078125])
    """
    return Map(_error_step, _error_jacobian, ("z",), {"mu": mu}, loss=_error_loss, name="error map")


def gradient_descent(
    loss: Any,
    variables: str | Sequence[str],
    *,
    lr: float,
    momentum: float | None = None,
    weight_decay: float | None = None,
    **parameters: float,
) -> Map:
    """Make a map of gradient descent on any loss that sympy can differentiate.

    The update is that of ``torch.optim.SGD``: g = ∇loss + weight_decay·u, v' = momentum·v + g,
    u' = u - lr·v'. Learning rate, momentum and weight decay are parameters of the map like any other,
    so a diagram can run over them.

    Parameters
    ----------
    loss : sympy expression or str
        A string is read by ``sympy.parse_expr``, which evaluates Python: do not pass untrusted text.
    variables : str or sequence of str
        Names of the trained variables, as in ``"u v"``.
    lr : float
    momentum : float, optional
        Given, the state is doubled: for each variable `u` a buffer `velocity_u` is appended.
    weight_decay : float, optional
    **parameters : float
        Values of all other symbols in the loss.

    Returns
    -------
    Map
        With exact Jacobian, common subexpressions computed once. Derivatives of `Abs`, `Max`, ... are
        those that hold almost everywhere.

    Raises
    ------
    ValueError
        If a symbol has no value, a parameter is not in the loss, or a variable is not in the loss.

    Examples
    --------
    >>> descent = gradient_descent("(u*v - y)**2 / 2", "u v", lr=0.5, y=2.0)
    >>> descent([1.0, 1.0])
    array([1.5, 1.5])
    >>> descent.expressions[0]
    -lr*v*(u*v - y) + u
    """
    import sympy as sp

    names = variables.replace(",", " ").split() if isinstance(variables, str) else list(variables)
    values: dict[str, float] = {"lr": lr}
    if momentum is not None:
        values["momentum"] = momentum
    if weight_decay is not None:
        values["weight_decay"] = weight_decay
    expression = _as_real_expression(loss, [*names, *values, *parameters])
    present = {symbol.name for symbol in expression.free_symbols}
    for name in names:
        if name not in present:
            raise ValueError(f"variable {name!r} does not appear in the loss {expression}")
    if unknown := sorted(set(parameters) - present):
        raise ValueError(f"parameter {unknown[0]!r} does not appear in the loss {expression}")
    if missing := sorted(present - set(names) - set(parameters) - set(values)):
        raise ValueError(f"the loss needs a value for {missing[0]!r}: pass {missing[0]}=... as a keyword")
    values |= parameters

    symbol = {name: sp.Symbol(name, real=True) for name in [*names, *values]}
    u = [symbol[name] for name in names]
    gradient = [_almost_everywhere(sp.diff(expression, x)) for x in u]
    if weight_decay is not None:
        gradient = [g + symbol["weight_decay"] * x for g, x in zip(gradient, u, strict=True)]
    state = list(u)
    if momentum is not None:
        velocity = [sp.Symbol(f"velocity_{name}", real=True) for name in names]
        state += velocity
        gradient = [symbol["momentum"] * v + g for v, g in zip(velocity, gradient, strict=True)]
    step = [x - symbol["lr"] * g for x, g in zip(u, gradient, strict=True)]
    if momentum is not None:
        step += gradient
    jacobian = [tuple(_almost_everywhere(sp.diff(new, x)) for x in state) for new in step]

    p = [symbol[name] for name in values]
    compiled = [
        sp.lambdify([state, p], body, modules="math", cse=True)
        for body in (tuple(step), tuple(jacobian), expression)
    ]
    return Map(
        compiled[0],
        compiled[1],
        variables=tuple(x.name for x in state),
        parameters=values,
        loss=compiled[2],
        name=f"gradient descent on {expression}",
        derived_from=tuple(step),
    )


def _as_real_expression(loss: Any, names: Sequence[str]):
    """Return `loss` as a sympy expression whose symbols are real; `names` are symbols, never functions."""
    import sympy as sp

    if isinstance(loss, str):
        written = set(re.findall(r"[A-Za-z_]\w*", loss))
        symbols = {n: sp.Symbol(n, real=True) for n in names if n in written}
        try:
            loss = sp.parse_expr(loss, local_dict=symbols)
        except (SyntaxError, TypeError, AttributeError) as error:
            raise ValueError(f"loss {loss!r} is not an expression that sympy can read: {error}") from error
    loss = sp.sympify(loss)
    return loss.xreplace({s: sp.Symbol(s.name, real=True) for s in loss.free_symbols})


def _almost_everywhere(derivative):
    """Drop point masses and write step functions as cases, so that the derivative can be compiled."""
    import sympy as sp

    return derivative.replace(sp.DiracDelta, lambda *_: sp.S.Zero).rewrite(sp.Heaviside, sp.Piecewise)
