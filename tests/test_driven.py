"""Driven and random maps against loops, closed forms, and real training on the same batches and schedules."""

import math

import numpy as np
import pytest

import trainability as tr
from trainability import Grid, RandomMap, Status
from trainability.trainers import LinearTransformer

KAPPA = np.array([0.36, 0.64, 1.0, 1.44]) / 0.86  # of the gains 0.6, 0.8, 1, 1.2


def interpolating(mu, batch_size):
    """The random map of mini-batches of four examples that one pair of weights fits."""
    kappa = tr.batch_means(KAPPA, batch_size)
    return RandomMap(tr.minibatch_map(), {"mu": mu * kappa, "curvature": kappa})


def test_driven_orbit_is_a_loop_over_steps():
    rng = np.random.default_rng(0)
    mu = rng.uniform(0.2, 1.2, (3, 40))
    starts = rng.uniform(0.2, 0.6, (3, 2))
    found = tr.driven_orbit(tr.product_map(), starts, {"mu": mu})
    for i in range(3):
        u = starts[i]
        for t in range(40):
            np.testing.assert_array_equal(found[i, t], u)
            u = tr.product_map(mu[i, t])(u)


def test_constant_drive_is_the_plain_orbit_and_escapes_alike():
    for mu in (1.3, 2.5):
        plain = tr.orbit(tr.product_map(mu), [0.3, 0.31], n=50)
        np.testing.assert_array_equal(
            tr.driven_orbit(tr.product_map(), [0.3, 0.31], {"mu": np.full(50, mu)}), plain
        )


# Short orbits, many of them: at the edge of stability log|e| walks at random, and must not reach from rounding
# (e⁻³⁶) to where the minimum is left.
SHORT = {"n": 25, "n_orbits": 80_000}


@pytest.mark.parametrize(("P", "batch_size"), [(1.0, 1), (1.0, 2), (1.0, 3), (2.4, 1)])
def test_exponent_at_a_common_minimum_is_the_closed_form(batch_size, P):
    """In the plane: the second exponent is E log|1 - κP|, the first the neutral one along the minima."""
    mu = P / 2
    found = tr.random_lyapunov(interpolating(mu, batch_size), [math.sqrt(mu)] * 2, n=4000)
    exact = tr.minimum_exponent(P, tr.batch_means(KAPPA, batch_size))
    across = found.exponents[np.argmax(np.abs(found.exponents))]
    error = found.stderr[np.argmax(np.abs(found.exponents))]
    assert abs(across - exact) < 4 * error + 1e-3  # the frame's start-up, O(1/n)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_finite_data_lose_stability_where_theory_says(batch_size):
    P = tr.almost_sure_limit(tr.batch_means(KAPPA, batch_size))
    slice_map = tr.restrict(tr.minibatch_map(), [[1, 1]])
    kappa = tr.batch_means(KAPPA, batch_size)
    random = RandomMap(slice_map, {"mu": P / 2 * kappa, "curvature": kappa})
    minimum = slice_minimum(slice_map, P / 2)
    found = tr.random_lyapunov(random, minimum, **SHORT)
    assert abs(found.exponents[0]) < 4 * found.stderr[0]
    assert tr.mean_contraction(random, minimum) == pytest.approx(0, abs=1e-9)


def slice_minimum(slice_map, mu):
    """The coordinate, on the slice, of the minimum a = b = √mu: where the full batch stays."""
    full = slice_map.with_parameters(mu=mu, curvature=1.0)
    for scale in (1.0, math.sqrt(2.0)):
        x = np.array([scale * math.sqrt(mu)])
        if np.allclose(full(x), x):
            return x
    raise AssertionError("no minimum found")


@pytest.mark.parametrize(
    ("sampler", "P"),
    [
        (lambda rng, size: rng.exponential(size=size), 2.6845103508207),
        (lambda rng, size: rng.chisquare(1, size), 2.4212495210368),
        (lambda rng, size: 1 + 0.4 * rng.choice([-1.0, 1.0], size), None),
    ],
)
def test_sampled_batches_lose_stability_where_theory_says(sampler, P):
    """Exponential, Gaussian and two-point gains; the last threshold is |(1 - P)² - P²σ²| = 1."""
    if P is None:
        P = 2 / (1 - 0.4**2)
    slice_map = tr.restrict(tr.minibatch_map(), [[1, 1]])

    def choices(rng, size):
        kappa = sampler(rng, size)
        return {"mu": P / 2 * kappa, "curvature": kappa}

    found = tr.random_lyapunov(
        RandomMap(slice_map, choices), slice_minimum(slice_map, P / 2), seed=3, **SHORT
    )
    assert abs(found.exponents[0]) < 4 * found.stderr[0]


def test_mean_square_stability_is_the_closed_form():
    """E (1 - κP)² = 1 at P = 2/(1 + Var κ)."""
    slice_map = tr.restrict(tr.minibatch_map(), [[1, 1]])
    P = tr.mean_square_limit(np.var(KAPPA))
    random = RandomMap(slice_map, {"mu": P / 2 * KAPPA, "curvature": KAPPA})
    assert tr.mean_square_exponent(random, slice_minimum(slice_map, P / 2)) == pytest.approx(0, abs=1e-9)


def test_exponents_order_as_they_must():
    """Top exponent ≤ mean log norm, and ≤ mean-square exponent (Jensen)."""
    rng = np.random.default_rng(1)
    matrices = rng.normal(size=(5, 2, 2)) * 0.8
    linear = tr.Map(
        lambda u, p: (p[0] * u[0] + p[1] * u[1], p[2] * u[0] + p[3] * u[1]),
        lambda u, p: ((p[0], p[1]), (p[2], p[3])),
        ("x", "y"),
        {"p": 0.0, "q": 0.0, "r": 0.0, "s": 0.0},
    )
    names = dict(zip("pqrs", matrices.reshape(5, 4).T, strict=True))
    random = RandomMap(linear, names, probabilities=[0.1, 0.2, 0.3, 0.2, 0.2])
    top = tr.random_lyapunov(random, [0.0, 0.0], n=4000)
    assert top.exponents[0] - 4 * top.stderr[0] < tr.mean_contraction(random, [0.0, 0.0])
    assert top.exponents[0] - 4 * top.stderr[0] < tr.mean_square_exponent(random, [0.0, 0.0])
    dets = np.abs(np.linalg.det(matrices)) @ np.eye(5)
    mean_log_det = np.log(dets) @ random.probabilities
    assert abs(top.exponents.sum() - mean_log_det) < 4 * np.hypot(*top.stderr)


def prompts_of_gains(gains, targets):
    """One-dimensional prompts whose gains and query labels are given."""
    return [tr.Prompt([[1.0]], [g], [1.0], y) for g, y in zip(gains, targets, strict=True)]


@pytest.mark.parametrize("batch_size", [1, 2])
@pytest.mark.parametrize("fit", [True, False])
def test_mini_batch_training_follows_the_driven_map_on_the_same_batches(batch_size, fit):
    """64 × 64 linear transformers over learning rate and scale: outcomes agree on at least 99 % of pixels."""
    gains = np.array([0.6, 0.8, 1.0, 1.2])
    targets = gains * 1.1 if fit else np.array([0.7, 0.7, 1.2, 1.1])
    prompts = prompts_of_gains(gains, targets)
    trainer = LinearTransformer(
        prompts, batch_size=batch_size, batch_seed=4, seed=2, n_steps=400, imbalance=0.2
    )
    grid = Grid(lr=tr.log_axis(0.2, 4.0, 64), init_scale=tr.log_axis(0.3, 4.0, 64))
    runs = tr.trainability_map(grid, trainer)

    pixels, batches = grid.pixels(), trainer.batches()
    U, v = trainer.initial_weights(pixels)
    root = np.sqrt(pixels["lr"])
    start = np.column_stack([root * U[:, 0, 0], root * v])
    curvature = (gains**2)[batches].mean(axis=1)
    coupling = (gains * targets)[batches].mean(axis=1)
    orbit = tr.driven_orbit(
        tr.minibatch_map(),
        start,
        {"mu": pixels["lr"][:, None] * coupling, "curvature": curvature},
        escape=1e30,
    )
    product = orbit[:, -1].prod(axis=-1) / pixels["lr"]  # u v at the end
    loss = ((gains * product[:, None] - targets) ** 2).mean(axis=1) / 2
    diverged = np.isnan(loss)
    seen = runs["status"].values.ravel()
    assert np.mean(diverged == (seen == Status.DIVERGED)) >= 0.99
    assert 0.05 < diverged.mean() < 0.95
    converged = ~diverged & (loss < 1e-8 * (targets**2).mean() / 2)
    assert np.mean(converged == (seen == Status.CONVERGED)) >= 0.99
    assert converged.any() == fit
    both = ~diverged & (seen != Status.DIVERGED)
    same = np.isclose(loss[both], runs["final_loss"].values.ravel()[both], rtol=1e-6, atol=1e-20)
    assert same.mean() > 0.7  # the rest are chaotic and forget their last digits


def test_scheduled_training_follows_the_driven_map():
    """Warm-up to mu = 1.6, a spell there, decay below 1: bounded runs converge and end balanced.

    The warm-up is short, so that no run comes so near a minimum that rounding decides how it leaves.
    """
    prompt = tr.random_prompt(12, 4, seed=13)
    unit = tr.effective_step(prompt, 1.0)
    shape = np.concatenate([np.linspace(0.4, 1.6, 8), np.full(400, 1.6), np.full(500, 0.8)])
    trainer = LinearTransformer(prompt, seed=1, n_steps=len(shape), schedule=shape / unit, lr=1.0)
    scales = {"init_scale": np.geomspace(0.1, 6.0, 60)}
    runs = trainer(scales)
    U, v = trainer.initial_weights(scales)
    u, v = tr.project_weights(prompt, U, v)
    gamma = tr.gain(prompt)
    descent = tr.gradient_descent("(g*u*v - y)**2 / 2", "u v", lr=1.0, g=gamma, y=prompt.y_query)
    orbit = tr.driven_orbit(descent, np.column_stack([u, v]), {"lr": shape / unit}, escape=1e30)
    loss = (gamma * orbit[:, -1].prod(axis=-1) - prompt.y_query) ** 2 / 2
    np.testing.assert_array_equal(np.isnan(loss), runs["diverged_step"] >= 0)
    bounded = ~np.isnan(loss)
    assert 10 < bounded.sum() < 50
    assert (trainer.status(runs)[bounded] == Status.CONVERGED).all()
    final = orbit[bounded, -1]
    np.testing.assert_allclose(final[:, 0], final[:, 1], atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tr.driven_orbit(tr.product_map(), [1, 1], {"nu": [1.0]}), "'nu' is not a parameter"),
        (lambda: tr.driven_orbit(tr.product_map(), [1, 1], {"mu": 1.0}), "sequences of one length"),
        (lambda: tr.driven_orbit(tr.product_map(), [1, 1], {"mu": [1.0, np.nan]}), "mu must be finite"),
        (lambda: RandomMap(tr.minibatch_map(), {"mu": [1, 2], "curvature": [1]}), "choices need one length"),
        (lambda: RandomMap(tr.minibatch_map(), {"mu": [1, 2]}, probabilities=[0.5, 0.6]), "sum to 1"),
        (lambda: RandomMap(tr.minibatch_map(), lambda rng, size: {}, probabilities=[1.0]), "listed choices"),
        (lambda: tr.random_lyapunov(interpolating(0.5, 1), [[1, 1]], n=10), "share one start"),
        (lambda: tr.random_lyapunov(interpolating(0.5, 1), [1, 1], n=0), "n=0"),
        (lambda: tr.mean_contraction(interpolating(0.5, 1), [1.0, 0.6]), "must stay fixed"),
        (
            lambda: tr.mean_square_exponent(RandomMap(tr.cubic_map(), lambda rng, size: {}), [0.0]),
            "are sampled",
        ),
        (lambda: LinearTransformer([]), "is not a Prompt"),
        (lambda: LinearTransformer(prompts_of_gains([1], [1]), batch_size=2), "between 1 and 1"),
        (lambda: LinearTransformer(prompts_of_gains([1], [1]), schedule=[1.0]), "needs n_steps=1000 factors"),
        (
            lambda: LinearTransformer([tr.random_prompt(3, 1, seed=0), tr.random_prompt(4, 1, seed=0)]),
            "all must be equal",
        ),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_escaping_random_orbits_say_when():
    with pytest.raises(tr.Escaped) as caught:
        tr.random_lyapunov(interpolating(1.9, 1), [0.3, 0.3], n=5000)
    assert 0 < caught.value.step < 5000
