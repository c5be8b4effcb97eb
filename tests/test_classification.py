"""What is claimed of the product map, against iteration, symbols and rational arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from trainability import product_map
from trainability.classification import (
    Fate,
    critical_lr,
    critical_lr_from,
    ellipse_function,
    fate,
    phase,
    safe_lr,
    thresholds,
)
from trainability.ellipse import invariant_ellipse, tangential_exponent, transverse_exponent
from trainability.prompt import random_prompt
from trainability.reduction import effective_step, gain, reduced_start

mus = st.floats(-3, 3)
coordinates = st.floats(-3, 3)


@njit
def run(mu, a, b, n_steps):
    """Last state of each orbit, inf once it is beyond 1e6."""
    for i in range(mu.size):
        x, y = a[i], b[i]
        for _ in range(n_steps):
            e = x * y - mu[i]
            x, y = x - e * y, y - e * x
            if not abs(x) + abs(y) < 1e6:
                x = y = np.inf
                break
        a[i], b[i] = x, y


def test_thresholds_exact_and_float_agree():
    exact = thresholds(exact=True)
    assert thresholds().keys() == exact.keys()
    for name, value in thresholds().items():
        assert abs(value - exact[name]) < 1e-15


def test_catapult_threshold_is_where_loss_may_rise():
    """z'/z = z² + (mu - 2) z + 1 - 2 mu has minimum -1 over z exactly at 2√2 - 2."""
    z, mu = sp.symbols("z mu", real=True)
    ratio = z**2 + (mu - 2) * z + 1 - 2 * mu
    lowest = ratio.subs(z, sp.solve(sp.diff(ratio, z), z)[0])
    assert sp.simplify(lowest.subs(mu, thresholds(exact=True)["catapult"]) + 1) == 0


@pytest.mark.parametrize(
    ("mu", "name"),
    [
        (0.0, "monotone"),
        (0.8284, "monotone"),
        (0.8285, "catapult"),
        (1.0, "catapult"),
        (1.0001, "2-cycle"),
        (1.236, "2-cycle"),
        (1.2361, "cascade"),
        (1.3022, "cascade"),
        (1.3023, "chaos"),
        (1.598, "chaos"),
        (1.5981, "merged chaos"),
        (np.nextafter(2, 1), "merged chaos"),
        (2.0, "full chaos"),
        (np.nextafter(2, 3), "divergence"),
        (-1.1, "2-cycle"),
    ],
)
def test_phase(mu, name):
    assert phase(mu) == name
    assert phase([mu, mu]).tolist() == [name, name]


@pytest.mark.parametrize(("mu", "rises"), [(0.82, False), (0.84, True)])
def test_phase_tells_whether_balanced_loss_rises(mu, rises):
    x = np.linspace(1e-3, np.sqrt(2 + mu) - 1e-3, 4001)
    e = x * x - mu
    new = x * (1 + mu - x * x)
    assert ((new * new - mu) ** 2 > e * e * (1 + 1e-12)).any() == rises


@given(mus, coordinates, coordinates)
def test_cofactor_identity(mu, a, b):
    """H' = H (1 + mu e + e²), to rounding of the largest term."""
    e = a * b - mu
    new = product_map(mu)([a, b])
    size = 1 + (a * a + b * b + mu * mu + 4) * (1 + abs(mu * e) + e * e)
    assert (
        abs(ellipse_function(mu, *new) - ellipse_function(mu, a, b) * (1 + mu * e + e * e))
        < 1e-13 * size**1.5
    )


def test_fate_against_iteration():
    """10⁵ random starts for every real mu: bounded or not, converged or balanced; none excepted."""
    rng = np.random.default_rng(0)
    n = 100_000
    mu, a, b = rng.uniform(-2.5, 2.5, n), rng.uniform(-3, 3, n), rng.uniform(-3, 3, n)
    predicted = fate(mu, a, b)
    H = np.abs(ellipse_function(mu, a, b))
    run(mu, a, b, 3000)
    bounded = np.isfinite(a)
    # A start within 1e-9 of the ellipse takes rounding across it.
    clear = H > 1e-9
    np.testing.assert_array_equal(bounded[clear], (predicted != Fate.DIVERGES)[clear])
    a, b, mu, predicted = a[bounded], b[bounded], mu[bounded], predicted[bounded]
    # Near |mu| = 1 the multiplier 1 - 2|mu| has modulus close to 1: 3000 steps shrink by 1e-5 for 2e-3 away.
    clear = np.abs(np.abs(mu) - 1) > 4e-3
    converged = np.abs(a * b - mu) < 1e-3
    np.testing.assert_array_equal(converged[clear], (predicted == Fate.CONVERGES)[clear])
    balanced = np.abs(a - np.sign(mu) * b) < 1e-3
    # Just below |mu| = 2 balancing is as slow as the transverse exponent -√((2 - |mu|)/3) is small.
    clear &= np.abs(mu) < 1.95
    assert balanced[clear & (predicted == Fate.BALANCES)].all()


@pytest.mark.parametrize(
    ("mu", "a", "b", "expected"),
    [
        (0.5, 0.5, 1.0, Fate.CONVERGES),  # on ab = mu, inside
        (0.5, 0.125, 4.0, Fate.CONVERGES),  # on ab = mu, far outside
        (1.5, 1.0, 1.5, Fate.CONVERGES),  # an unstable minimum, started on exactly
        (0.0, 0.0, 0.0, Fate.CONVERGES),
        (0.5, 0.0, 0.0, Fate.BALANCES),  # the saddle
        (3.0, 0.0, 0.0, Fate.BALANCES),
        (0.5, 1.0, -1.0, Fate.BALANCES),  # the line that leads to the saddle
        (-0.5, 1.0, 1.0, Fate.BALANCES),
        (0.5, 1.3, -1.3, Fate.DIVERGES),
        (0.25, 1.5, 1.5, Fate.BOUNDARY),
        (-0.25, -1.5, 1.5, Fate.BOUNDARY),
        (2.0, 1.7, 1.7, Fate.BALANCES),
        (2.0, 2.0, 2.0, Fate.BALANCES),
        (2.0, 2.1, 2.1, Fate.DIVERGES),
        (2.0, 1.7, 1.7000001, Fate.DIVERGES),
        (0.5, 1e200, 1e200, Fate.DIVERGES),
        (1e300, 1e300, 2.0, Fate.DIVERGES),
        (2.0, 1e-200, 1e-200, Fate.BALANCES),
    ],
)
def test_fate_of_special_starts(mu, a, b, expected):
    assert fate(mu, a, b) is expected


@given(st.floats(-1.999, 1.999), st.floats(0, 2 * np.pi), st.integers(-3, 3))
def test_sign_of_H_is_exact_beside_the_ellipse(mu, theta, ulps):
    """Starts a few ulp from the curve, against rational arithmetic on the same floats."""
    s, d = 2 * np.sqrt(2 + mu) * np.cos(theta), 2 * np.sqrt(2 - mu) * np.sin(theta)
    a, b = (s + d) / 2, (s - d) / 2
    a += ulps * np.spacing(a)
    m, x, y = Fraction(mu), Fraction(a), Fraction(b)
    H, e = x * x + y * y - m * x * y + m * m - 4, x * y - m
    found = fate(mu, a, b)
    if e == 0:
        assert found is Fate.CONVERGES
    elif H == 0:
        assert found is Fate.BOUNDARY
    else:
        assert (found is Fate.DIVERGES) == (H > 0)


def test_fate_broadcasts():
    found = fate(np.array([[0.5], [1.5]]), np.array([0.1, 5.0, 1.0]), 0.2)
    assert found.dtype == np.int8
    np.testing.assert_array_equal(found, [[1, 2, 1], [3, 2, 3]])


@given(st.floats(-1.99, 1.99))
def test_ellipse_is_invariant(mu):
    points = invariant_ellipse(mu, n=64)
    assert points.shape == (64, 2)
    np.testing.assert_allclose(ellipse_function(mu, *points.T), 0, atol=1e-14)
    # The map takes θ to π - 3θ: point k of 64 goes to point 32 - 3k.
    np.testing.assert_allclose(product_map(mu)(points), points[(32 - 3 * np.arange(64)) % 64], atol=1e-13)


def test_ellipse_broadcasts_over_mu():
    assert invariant_ellipse([[0.1], [0.2]], n=5).shape == (2, 1, 5, 2)


@pytest.mark.parametrize("mu", [0.0, 0.3, 1.0, 1.5, 1.9, 1.99])
def test_exponents_on_the_ellipse_by_quadrature(mu):
    """Mean log growth along and across the ellipse over its invariant measure, from the Jacobian."""
    n = 20_000  # the trapezoidal rule converges like |w|^-2n, and |w| ≥ 1.06 here
    u = invariant_ellipse(mu, n=n)
    a, b = u.T
    k = mu - 2 * a * b
    determinant = (1 - b * b) * (1 - a * a) - k * k
    theta = 2 * np.pi * np.arange(n) / n
    tangent = np.stack([-np.sqrt(2 + mu) * np.sin(theta), np.sqrt(2 - mu) * np.cos(theta)])
    da, db = tangent[0] + tangent[1], tangent[0] - tangent[1]
    image = np.hypot((1 - b * b) * da + k * db, k * da + (1 - a * a) * db)
    along = np.mean(np.log(image / np.hypot(da, db)))
    assert along == pytest.approx(tangential_exponent(), abs=1e-10)
    assert np.mean(np.log(np.abs(determinant))) - along == pytest.approx(transverse_exponent(mu), abs=1e-10)


def test_transverse_exponent_known_values_and_limit():
    golden = (1 + np.sqrt(5)) / 2
    np.testing.assert_allclose(
        transverse_exponent([0, 1.5, -1.5, 2]), [2 * np.log(golden), np.log(2), np.log(2), 0], rtol=1e-15
    )
    gap = 1e-12  # where arccosh(1 + x) would have lost half its digits; next term is of order gap
    assert transverse_exponent(2 - gap) == pytest.approx(2 * np.sqrt((2 - (2 - gap)) / 3), rel=1e-11)


def diverges(mu, a, b, n_steps=20_000):
    a, b = np.array([a]), np.array([b])
    run(np.array([mu]), a, b, n_steps)
    return not np.isfinite(a[0])


@pytest.mark.parametrize("seed", range(20))
def test_critical_lr_by_bisection(seed):
    """Bisection on whether iteration diverges, from weights of a random prompt."""
    rng = np.random.default_rng(seed)
    prompt = random_prompt(6, 3, seed=seed)
    U, v = rng.standard_normal((3, 3)), rng.standard_normal()
    expected = critical_lr(prompt, U, v)
    lo, hi = 0.0, 4 * expected
    while hi - lo > 1e-9 * hi:
        lr = (lo + hi) / 2
        a, b = reduced_start(prompt, lr, U, v)
        lo, hi = (lo, lr) if diverges(float(effective_step(prompt, lr)), float(a), float(b)) else (lr, hi)
    # Starts within 1e-9 of the ellipse leave it within the steps taken, the exponent being positive.
    assert lo == pytest.approx(expected, rel=1e-7)


def test_critical_lr_formula_and_limits():
    prompt = random_prompt(6, 2, seed=1)
    g, y = gain(prompt), prompt.y_query
    U = np.zeros((2, 2))
    assert critical_lr(prompt, U, 0.0) == pytest.approx(2 / (g * abs(y)))  # small start
    u, v = 1.7, -0.4
    sharpness, residual = g**2 * (u * u + v * v), g * u * v - y
    found = critical_lr_from(g * g, g * y, u, v)
    assert found == pytest.approx(8 / (sharpness + np.sqrt(sharpness**2 - 16 * g**2 * y * residual)))
    assert critical_lr_from(1.0, 0.0, 0.3, 0.4) == pytest.approx(4 / 0.25)  # y = 0: the catapult threshold
    assert critical_lr_from(1.0, 0.0, 0.0, 0.0) == np.inf
    assert critical_lr_from(1.0, 1.0, 1.0, 1.0) == 2.0


@given(st.floats(-3, 3), st.floats(-3, 3), st.floats(-3, 3))
def test_critical_lr_is_where_H_changes_sign(k, u, v):
    lr = critical_lr_from(1.0, k, u, v)
    if not np.isfinite(lr) or lr > 1e100:
        return
    for factor, sign in ((1 - 1e-6, -1), (1 + 1e-6, 1)):
        step = lr * factor
        if abs(step * k) < 2:
            H = ellipse_function(step * k, np.sqrt(step) * u, np.sqrt(step) * v)
            assert H * sign > -1e-12


def test_safe_lr_converges_below_and_not_above():
    prompt = random_prompt(6, 2, seed=3)
    coupling = abs(effective_step(prompt, 1.0))
    for U, v in ((0.2 * np.eye(2), 0.1), (3 * np.eye(2), 2.0)):
        limit = safe_lr(prompt, U, v)
        assert limit == min(critical_lr(prompt, U, v), 1 / coupling)
        for factor, converges in ((0.98, True), (1.02, False)):
            lr = factor * limit
            a, b = (np.array([float(x)]) for x in reduced_start(prompt, lr, U, v))
            mu = float(effective_step(prompt, lr))
            run(np.array([mu]), a, b, 5000)
            assert (np.abs(a * b - mu) < 1e-8)[0] == converges


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: phase([0.5, np.nan]), "mu must be finite; found nan"),
        (lambda: fate(np.inf, 0.0, 0.0), "mu must be finite; found inf"),
        (lambda: fate(0.5, 0.0, np.nan), "b must be finite"),
        (lambda: ellipse_function(0.5, 1e200, 0.0), "overflows"),
        (lambda: invariant_ellipse(2.0), "mu=2.0 has no invariant ellipse"),
        (lambda: invariant_ellipse(1.0, n=0), "n=0"),
        (lambda: transverse_exponent([0.0, 2.1]), "mu=2.1 has no invariant ellipse"),
        (lambda: critical_lr_from(0.0, 1.0, 1.0, 1.0), "curvature must be positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.slow
def test_critical_lr_by_bisection_on_the_attention_layer():
    """100 random prompts and weights: 34 halvings, each a training run of the layer by autograd."""
    torch = pytest.importorskip("torch")
    n, dim, n_examples, n_steps = 100, 3, 6, 2500
    prompts = [random_prompt(n_examples, dim, seed=seed) for seed in range(n)]
    rng = np.random.default_rng(0)
    U, v = rng.standard_normal((n, dim, dim)), rng.standard_normal(n)
    expected = np.array([critical_lr(*each) for each in zip(prompts, U, v, strict=True)])

    E = torch.tensor(np.array([prompt.matrix for prompt in prompts]))
    label = torch.tensor([prompt.y_query for prompt in prompts], dtype=torch.float64)
    start_PV, start_KQ = (
        torch.zeros(n, dim + 1, dim + 1, dtype=torch.float64),
        torch.zeros(n, dim + 1, dim + 1, dtype=torch.float64),
    )
    start_PV[:, -1, -1], start_KQ[:, :dim, :dim] = torch.tensor(v), torch.tensor(U)
    masks = torch.zeros_like(start_PV), torch.zeros_like(start_KQ)
    masks[0][:, -1, -1], masks[1][:, :dim, :dim] = 1, 1

    def diverges(lr):
        lr = torch.tensor(lr)[:, None, None]
        weights = [start_PV.clone(), start_KQ.clone()]
        for _ in range(n_steps):
            for W in weights:
                W.requires_grad_()
            out = E + weights[0] @ E @ (E.mT @ weights[1] @ E) / n_examples
            loss = ((out[:, -1, -1] - label) ** 2 / 2).nan_to_num(nan=torch.inf)
            gradients = torch.autograd.grad(loss.sum(), weights)
            weights = [
                (W - lr * g * mask).detach() for W, g, mask in zip(weights, gradients, masks, strict=True)
            ]
        size = weights[0].abs().amax((1, 2)) + weights[1].abs().amax((1, 2))
        return ~(size < 1e6).numpy()

    lo, hi = np.zeros(n), 3 * expected
    for _ in range(34):
        lr = (lo + hi) / 2
        gone = diverges(lr)
        lo, hi = np.where(gone, lo, lr), np.where(gone, lr, hi)
    # Starts within 1e-6 of the ellipse, relatively, leave it in these steps unless mu is close to 2.
    np.testing.assert_allclose(lo, expected, rtol=1e-6)
