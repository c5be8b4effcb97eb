"""Maps: step, Jacobian and symbols agree with each other and with independent forms."""

import numpy as np
import pytest
import sympy as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trainability as tr

finite = st.floats(-2, 2)
from_loss = tr.gradient_descent("(a*b - mu)**2 / 2", "a b", lr=1.0, mu=1.0)


def ulps(x, y, size):
    return np.abs(x - y) / np.spacing(size)


@given(a=finite, b=finite, mu=st.floats(-3, 3))
def test_product_map_by_hand_is_gradient_descent_on_its_loss(a, b, mu):
    """Each form rounds about five times, each by half an ulp of its largest intermediate."""
    size = 1 + abs(a) + abs(b) + (abs(a * b) + abs(mu)) * max(abs(a), abs(b))
    by_hand = tr.product_map(mu)([a, b])
    assert ulps(by_hand, from_loss.with_parameters(mu=mu)([a, b]), size).max() <= 4
    u = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    ((u[0] * u[1] - mu) ** 2 / 2).backward()
    assert ulps(by_hand, (u - u.grad).detach().numpy(), size).max() <= 4


def test_compiled_map_is_its_symbolic_form_evaluated_in_high_precision():
    rng = np.random.default_rng(0)
    m = tr.product_map(1.3)
    for a, b in rng.uniform(-2, 2, (50, 2)):
        values = {"a": sp.Float(a, 40), "b": sp.Float(b, 40), "mu": sp.Float(1.3, 40)}
        exact = [float(e.subs({s: values[s.name] for s in e.free_symbols})) for e in m.expressions]
        assert ulps(m([a, b]), np.array(exact), 8.0).max() <= 2  # intermediates stay below 8


@pytest.mark.parametrize("m", [tr.product_map(0.9), tr.cubic_map(1.2), tr.error_map(0.6), from_loss])
def test_jacobian_is_the_derivative_of_the_symbolic_step(m):
    symbols = [sp.Symbol(n, real=True) for n in m.variables]
    at = np.linspace(0.3, 0.8, m.d)
    values = {**dict(zip(m.variables, at, strict=True)), **m.parameters}
    exact = sp.Matrix(m.expressions).jacobian(symbols)
    exact = np.array(exact.subs({s: values[s.name] for s in exact.free_symbols}), dtype=float)
    np.testing.assert_allclose(
        m.jacobian_at(at), exact, rtol=0, atol=1e-14
    )  # a few roundings of numbers near 1


@given(x=finite, mu=st.floats(0, 2))
def test_balanced_slice_and_error_map_are_the_product_map_there(x, mu):
    new = tr.product_map(mu)([x, x])
    np.testing.assert_allclose(new, np.repeat(tr.cubic_map(mu)([x]), 2), atol=1e-14)
    np.testing.assert_allclose(new[0] ** 2 - mu, tr.error_map(mu)([x * x - mu])[0], atol=1e-12)


@pytest.mark.parametrize(("momentum", "weight_decay"), [(None, None), (0.9, None), (None, 0.1), (0.5, 0.01)])
def test_gradient_descent_is_torch_sgd(momentum, weight_decay):
    m = tr.gradient_descent(
        "(u*tanh(v) - y)**2 / 2", "u v", lr=0.3, momentum=momentum, weight_decay=weight_decay, y=0.7
    )
    u = torch.tensor([0.8, -0.4], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([u], lr=0.3, momentum=momentum or 0.0, weight_decay=weight_decay or 0.0)
    state = np.array([0.8, -0.4] + [0.0] * (m.d - 2))
    for _ in range(20):
        optimizer.zero_grad()
        ((u[0] * torch.tanh(u[1]) - 0.7) ** 2 / 2).backward()
        optimizer.step()
        state = m(state)
    np.testing.assert_allclose(state[:2], u.detach().numpy(), atol=1e-13)  # 20 contracting steps of rounding


def test_gradient_descent_on_losses_with_kinks_uses_derivatives_almost_everywhere():
    hinge = tr.gradient_descent("Max(0, 1 - x*y)", "x", lr=0.5, y=2.0)
    np.testing.assert_allclose(hinge([[0.1], [3.0]]), [[1.1], [3.0]])
    absolute = tr.gradient_descent("Abs(x - c)", "x", lr=0.25, c=1.0)
    np.testing.assert_allclose(absolute([[0.1], [3.0]]), [[0.35], [2.75]])


def test_gradient_descent_takes_expressions_and_names_that_sympy_would_read_as_functions():
    beta, x = sp.symbols("beta x")
    descent = tr.gradient_descent((x - beta) ** 2 / 2, ["x"], lr=0.5, beta=2.0)
    assert descent([0.0]) == [1.0]
    assert tr.gradient_descent("(x - gamma)**2 / 2", "x", lr=0.5, gamma=2.0)([0.0]) == [1.0]
    assert "\\gamma" in tr.gradient_descent("(x - gamma)**2 / 2", "x", lr=0.5, gamma=2.0).latex()


def test_map_is_applied_to_any_batch_and_leaves_its_argument_alone():
    m, u = tr.product_map(1.1), np.random.default_rng(1).normal(size=(3, 4, 2))
    before = u.copy()
    new = m(u)
    assert new.shape == u.shape
    np.testing.assert_array_equal(u, before)
    np.testing.assert_array_equal(new[1, 2], m(u[1, 2]))


def test_user_functions_without_symbols_work_and_say_so():
    import math

    m = tr.Map(lambda u, p: (math.sin(u[0]),), lambda u, p: ((math.cos(u[0]),),), ("x",), {})
    np.testing.assert_allclose(m([0.5]), np.sin([0.5]))
    assert m.expressions == ()
    with pytest.raises(ValueError, match="no LaTeX form"):
        m.latex()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tr.product_map(float("nan")), "mu must be finite; found nan"),
        (
            lambda: tr.product_map(1.0).with_parameters(nu=1.0),
            "'nu' is not a parameter of product map; it has mu",
        ),
        (lambda: tr.product_map(1.0)([1.0, 2.0, 3.0]), r"u has shape \(3,\)"),
        (lambda: tr.product_map(1.0)([1.0, np.inf]), "u must be finite; found inf"),
        (lambda: tr.Map(lambda u, p: (u[0] ** 2,), lambda u, p: ((u[0],),), ("x",), {}), "disagree"),
        (lambda: tr.Map(lambda u, p: (u[0], 1), lambda u, p: ((1.0,),), ("x",), {}), "must give 1 values"),
        (lambda: tr.gradient_descent("(x - y)**2", "x", lr=1), "pass y=... as a keyword"),
        (lambda: tr.gradient_descent("x**2", "x w", lr=1), "variable 'w' does not appear"),
        (lambda: tr.gradient_descent("x**2", "x", lr=1, c=2), "parameter 'c' does not appear"),
        (lambda: tr.gradient_descent("x**", "x", lr=1), "not an expression"),
        (lambda: tr.gradient_descent("x**2", "x", lr=np.inf), "lr must be finite"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@settings(max_examples=25)
@given(mu=st.floats(0.1, 1.9), x=finite, y=finite)
def test_product_map_commutes_with_swapping_factors_exactly(mu, x, y):
    m = tr.product_map(mu)
    np.testing.assert_array_equal(m([x, y]), m([y, x])[::-1])
