"""Maps of training dynamics: those with names, and gradient descent on any loss that sympy can differentiate.

The product map is gradient descent on a two-factor linear transformer, reduced to two numbers (theory/01).
"""

import re
from collections.abc import Sequence
from typing import Any

from numba import njit

from ._map import Map


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
