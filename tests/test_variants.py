"""Schedules, weight decay and momentum, against training runs and the maps of the package."""

import numpy as np
import pytest
import sympy as sp
from hypothesis import given
from hypothesis import strategies as st

from trainability import gradient_descent
from trainability.classification import critical_lr, critical_lr_from, thresholds
from trainability.minibatch import Zone
from trainability.prompt import random_prompt
from trainability.reduction import gain, reduce_prompts
from trainability.variants import decayed_ellipse_function, heavy_ball_thresholds, schedule_zone


def train(u, v, y, schedule):
    """Descent on ½(uv - y)² for many starts; NaN and inf where it diverges."""
    with np.errstate(all="ignore"):
        for lr in schedule:
            step = lr * (u * v - y)
            u, v = u - step * v, v - step * u
    return u, v


def test_schedules_in_the_zones():
    prompt = random_prompt(6, 2, seed=2)
    data = reduce_prompts(prompt)
    rng = np.random.default_rng(0)
    U, v = rng.standard_normal((300, 2, 2)), rng.standard_normal(300)
    limit = critical_lr(prompt, U, v)
    u0 = np.sum(U * data.direction, axis=(-2, -1))
    g = gain(prompt)
    for low, high, expected in ((0.05, 0.97, Zone.SAFE), (1.03, 1.8, Zone.LOST)):
        np.testing.assert_array_equal(
            schedule_zone(prompt, U, v, lr_min=low * limit, lr_max=high * limit), expected
        )
        schedule = limit * rng.uniform(low, high, (3000, 300))
        # In √γ(u, v) the loss is ½(uv - y)² and the learning rate γ lr.
        u, w = train(np.sqrt(g) * u0, np.sqrt(g) * v, prompt.y_query, g * schedule)
        bounded = np.isfinite(u) & np.isfinite(w)
        assert bounded.all() if expected is Zone.SAFE else not bounded.any()
    assert schedule_zone(prompt, U[0], v[0], lr_min=0.5 * limit[0], lr_max=1.5 * limit[0]) is Zone.GREY


def test_what_survives_the_peak_is_known_when_it_begins():
    """Warm-up, 400 steps at the peak, decay below mu = 1: bounded exactly if inside the peak's ellipse."""
    rng = np.random.default_rng(1)
    peak = rng.uniform(1.05, 1.9, 500)
    u, v = rng.uniform(0.1, 1.5, (2, 500))
    u, v = train(u, v, 1.0, [peak * t for t in np.linspace(0.05, 1, 50)])
    arrived = np.isfinite(u) & (np.abs(u) < 1e3) & (np.abs(v) < 1e3)  # the warm-up lost the others
    peak, u, v = peak[arrived], u[arrived], v[arrived]
    survives = critical_lr_from(1.0, 1.0, u, v) > peak
    assert survives.sum() > 300
    assert (~survives).sum() > 3
    u, v = train(u, v, 1.0, [*[peak] * 400, *[0.8] * 400])
    np.testing.assert_array_equal(np.isfinite(u), survives)
    # The last multiplier is 1 - 1.6, so 400 steps leave only rounding.
    np.testing.assert_allclose((u * v)[survives], 1, atol=1e-12)
    # Balancing slows towards a peak of 2, where the transverse exponent vanishes.
    assert np.median(np.abs(u - v)[survives]) < 1e-12


@given(st.floats(0.0, 0.5), st.floats(-0.95, 0.95), st.floats(-3, 3), st.floats(-3, 3))
def test_decayed_ellipse_maps_into_itself(omega, fraction, a, b):
    mu = fraction * 2 * (1 - omega)
    before = decayed_ellipse_function(mu, a, b, decay=omega)
    if before >= 0:
        return
    e = a * b - mu
    after = decayed_ellipse_function(mu, (1 - omega) * a - e * b, (1 - omega) * b - e * a, decay=omega)
    assert after < 1e-12


def test_decay_shifts_thresholds():
    """The 2-cycle is born at mu = 1 + ω, on the package's own map with weight decay."""
    omega = 0.1
    for mu, cycles in ((1 + omega - 0.02, False), (1 + omega + 0.02, True)):
        descent = gradient_descent("(a*b - mu)**2 / 2", "a b", lr=1.0, weight_decay=omega, mu=mu)
        u = np.array([0.9, 0.9])
        for _ in range(5000):
            u = descent(u)
        new = descent(u)
        assert (np.abs(new - u).max() > 1e-3) == cycles
        if not cycles:
            np.testing.assert_allclose(u**2, mu - omega, rtol=1e-9)


def test_heavy_ball_without_momentum_is_gradient_descent():
    found = heavy_ball_thresholds()
    assert found["two_cycle"] == thresholds()["two_cycle"]
    assert found["four_cycle"] == pytest.approx(thresholds()["four_cycle"], rel=1e-15)
    assert found["transverse_flip"] == pytest.approx(thresholds()["escape"])


@given(st.floats(0, 0.999))
def test_heavy_ball_thresholds_are_ordered(beta):
    found = heavy_ball_thresholds(beta)
    assert found["two_cycle"] < found["four_cycle"] < found["transverse_flip"]


@pytest.mark.parametrize("beta", [0.1, 0.5, 0.7])
def test_heavy_ball_slice_changes_period_at_the_thresholds(beta):
    limits = heavy_ball_thresholds(beta)

    def period(mu, x, last):
        for _ in range(40_000):
            x, last = (1 + mu + beta) * x - x**3 - beta * last, x
        orbit = [x]
        for _ in range(8):
            x, last = (1 + mu + beta) * x - x**3 - beta * last, x
            orbit.append(x)
        return next(k for k in (1, 2, 4, 8) if abs(orbit[k] - orbit[0]) < 1e-6)

    for name, before in (("two_cycle", 1), ("four_cycle", 2)):
        for mu, expected in ((limits[name] - 0.003, before), (limits[name] + 0.003, 2 * before)):
            if name == "two_cycle":
                start = np.sqrt(mu) * np.array([1.001, 1.0])
            else:  # x y = 1 + β, x² + y² = 1 + β + mu, next to it: the basin is thin
                total, gap = np.sqrt(3 * (1 + beta) + mu), np.sqrt(mu - 1 - beta)
                start = np.array([total + gap, total - gap]) / 2 * [1.001, 1.0]
            assert period(mu, *start) == expected


def test_heavy_ball_in_symbols():
    beta = sp.Symbol("beta", positive=True)
    for name, expression in heavy_ball_thresholds(beta, exact=True).items():
        assert float(expression.subs(beta, 0.3)) == pytest.approx(heavy_ball_thresholds(0.3)[name], rel=1e-15)


def test_heavy_ball_broadcasts():
    found = heavy_ball_thresholds(np.array([0.0, 0.5]))
    assert found["four_cycle"].shape == (2,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: schedule_zone(random_prompt(3, 1, seed=0), [[1.0]], 1.0, lr_min=0.2, lr_max=0.1),
            "must not exceed",
        ),
        (
            lambda: schedule_zone(random_prompt(3, 1, seed=0), [[1.0]], 1.0, lr_min=0.0, lr_max=0.1),
            "lr_min must be positive",
        ),
        (lambda: decayed_ellipse_function(0.5, 0.0, 0.0, decay=1.0), r"must lie in \[0, 1\)"),
        (lambda: decayed_ellipse_function(1.9, 0.0, 0.0, decay=0.1), r"\|mu\| < 2 \(1 - decay\)"),
        (lambda: heavy_ball_thresholds(1.0), r"momentum=1.0 must lie in \[0, 1\)"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
