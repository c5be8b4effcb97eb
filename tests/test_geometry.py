"""Predictions against real random transformers, and the limits that must hold exactly.

Tolerance of every comparison with networks: four standard errors, plus the finite-width term. Its size is
measured in `test_finite_width_term_falls_as_one_over_d`: the log of a gain over one block is off by at most
WIDTH / d (layer normalisation's E[1/q] > 1/E[q], heads of d / n_heads dimensions), gated MLPs by more
because their branch is a product of two fluctuating layers.
"""

import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.stats import qmc

from trainability._gaussian import mlp_kernel
from trainability.geometry import fixed_points, predict_exponents, propagate
from trainability.gram import propagate_gram, simplex_gram
from trainability.initialization import ACTIVATIONS, Exponents, Initialization
from trainability.recursion import (
    attention_step,
    attention_transfer,
    collapsed_exponents,
    collapsed_norm,
    gains,
    mlp_step,
    mlp_transfer,
    stack_exponents,
)
from trainability.softmax import one_row_moments, overlap_table

sys.path.insert(0, str(Path(__file__).parent))  # the oracle is a module beside this file
torch = pytest.importorskip("torch")
from random_transformer import run, sample  # noqa: E402

N_SETTINGS, DEPTH = 64, 3
WIDTH, WIDTH_GATED = 2.0, 6.0  # per block, in units of 1/d
COLLAPSED = 1e-7  # ε at which a run counts as collapsed: corrections are of this order
# A run is marked as limited by the closure where the symmetric recursion leaves the n × n one, which is exact, by
# more than this in the log of a gain, beyond the latter's sampling error. The n × n one is the prediction there.
CLOSURE = 0.01
LIMITED = [5]  # four tokens at sigma_attn = 3.7
CONVENTIONS = [("sqrt", "pre"), ("normed", "pre"), ("one", "pre"), ("one", "post"), ("sqrt", "post")]


def spread_settings():
    """64 settings spread by a Sobol sequence over all hyperparameters; names and switches take turns."""
    ranges = {  # (low, high), logarithmic
        "sigma_attn": (0.2, 5.0),
        "sigma_mlp": (0.5, 4.0),
        "sigma_value": (0.6, 1.6),
        "sigma_out": (0.6, 1.6),
    }
    found = []
    for k, u in enumerate(qmc.Sobol(10, seed=5).random(N_SETTINGS)):
        residual, norm = CONVENTIONS[k % 5]
        gains_drawn = {
            name: round(float(low * (high / low) ** u[3 + i]), 2)
            for i, (name, (low, high)) in enumerate(ranges.items())
        }
        init = Initialization(
            n_tokens=(4, 8, 16, 32)[int(4 * u[0])],
            alpha_attn=round(0.1 + 0.8 * u[1], 2),
            alpha_mlp=round(0.1 + 0.8 * u[2], 2),
            sigma_bias=round(0.5 * u[7], 2) if k % 3 == 0 else 0.0,
            activation=ACTIVATIONS[k % 9],
            n_heads=(1, 2, 4)[k % 3],
            causal=k % 4 == 3,
            residual=residual,
            norm=norm,
            **gains_drawn,
        )
        q = float(collapsed_norm(gains(init))) if init.normed_skip else float(0.4 * 6 ** u[8])
        found.append((init, q, float(0.05 + 0.9 * u[9])))
    return found


def agree(samples, predicted, *, width, spread=0.0):
    """Whether log E of the samples lies within four standard errors plus `width` of log `predicted`."""
    mean = samples.mean()
    error = np.hypot(samples.std(ddof=1) / np.sqrt(len(samples)) / mean, spread)
    return abs(np.log(mean / predicted)) <= 4 * error + width


def check_setting(index, init, q, epsilon, *, d, n_networks):
    """All comparisons of one setting; returns whether the symmetric closure was good enough for its runs."""
    n = init.n_tokens
    per_block = (WIDTH_GATED if init.gated else WIDTH) / d
    options = {"d": d, "depth": DEPTH, "q": q, "n_networks": n_networks}
    apart = sample(init, epsilon=epsilon, seed=index, **options)
    close = sample(init, epsilon=COLLAPSED, seed=1000 + index, cotangent="common", **options)
    forward, runs = apart["forward"], 400
    drawn = propagate_gram(init, simplex_gram(n, q=q, rho=1 - epsilon), DEPTH, n_runs=runs, seed=index)
    for found, predicted in (
        (forward[:, -1, 2], drawn.epsilon.values[:, -1]),
        (apart["backward"][:, 0, 0], drawn.gradient_q.values[:, 0]),
    ):
        spread = predicted.std() / predicted.mean() / np.sqrt(runs)
        assert agree(found, predicted.mean(), width=DEPTH * per_block, spread=spread), (index, init)
    closed = True
    if init.causal:
        gram = drawn.gram.values[1]
        q_after, p_after = np.trace(gram) / n, (gram.sum() - np.trace(gram)) / (n * (n - 1))
        for found, value in ((forward[:, 2, 0], q_after), (forward[:, 2, 1], p_after)):
            spread = found.std() / found.mean() / np.sqrt(runs)  # runs scatter no more than networks do
            assert agree(found, value, width=per_block, spread=spread), (index, init)
    else:
        layers = propagate(init, DEPTH, q=q, rho=1 - epsilon)
        for found, predicted in (
            (forward[:, 1, 0], layers.q_mid[0]),
            (forward[:, 1, 1], layers.p_mid[0]),
            (forward[:, 2, 0], layers.q[1]),
            (forward[:, 2, 1], layers.p[1]),
        ):
            assert agree(found, float(predicted), width=per_block), (index, init)
        closed = closure_gap(layers, drawn) < CLOSURE
        if closed:
            width = DEPTH * per_block + CLOSURE
            assert agree(forward[:, -1, 2], float(layers.epsilon[-1]), width=width), (index, init)
            assert agree(apart["backward"][:, 0, 0], float(layers.gradient_q[0]), width=width), (index, init)
    angle, gradient = stack_exponents(gains(init), DEPTH, q)
    if init.causal:  # three blocks do not reach the asymptotic rate of a causal mask
        near = propagate_gram(init, simplex_gram(n, q=q, rho=1 - COLLAPSED), DEPTH, n_runs=1)
        angle = float(np.log(near.epsilon[0, -1] / COLLAPSED)) / DEPTH
    assert agree(close["forward"][:, -1, 2] / COLLAPSED, np.exp(DEPTH * angle), width=DEPTH * per_block)
    total = (close["backward"][:, 0, 0] + (n - 1) * close["backward"][:, 0, 1]) / n
    assert agree(total, np.exp(DEPTH * gradient), width=DEPTH * per_block), (index, init)
    return closed


def closure_gap(layers, drawn):
    """How far the symmetric recursion is from the mean of drawn runs, in the log, beyond three standard errors."""
    gaps = []
    for predicted, runs in (
        (layers.epsilon[-1], drawn.epsilon[:, -1]),
        (layers.gradient_q[0], drawn.gradient_q[:, 0]),
    ):
        mean, error = float(runs.mean()), float(runs.std()) / math.sqrt(runs.size)
        gaps.append(abs(math.log(float(predicted) / mean)) - 3 * error / mean)
    return max(gaps)


def norm_variance(init, q, epsilon):
    """Relative variance among tokens of the norm after attention (theory/25, eq:closure)."""
    table = overlap_table(init.sigma_attn, init.n_tokens)
    g = gains(init)
    q1, _ = attention_step(g, table, q, epsilon)
    s1, _, square = one_row_moments(init.sigma_attn * math.sqrt(epsilon), init.n_tokens)
    return float(g.branch_attn**2 * epsilon**2 * (square - s1**2) / q1**2) / init.n_heads


def test_predictions_match_random_transformers():
    torch.set_num_threads(1)
    closed = [check_setting(k, *s, d=96, n_networks=24) for k, s in enumerate(spread_settings()[:12])]
    assert [k for k, good in enumerate(closed) if not good] == LIMITED


@pytest.mark.slow
def test_predictions_match_random_transformers_at_all_settings():
    torch.set_num_threads(1)
    closed = [check_setting(k, *s, d=192, n_networks=60) for k, s in enumerate(spread_settings())]
    assert [k for k, good in enumerate(closed) if not good] == LIMITED


@pytest.mark.slow
def test_finite_width_term_falls_as_one_over_d():
    """Bias times d is constant, for the two settings whose bias is easiest to resolve."""
    torch.set_num_threads(1)
    for index, widest in ((1, WIDTH), (16, WIDTH_GATED)):
        init, q, epsilon = spread_settings()[index]
        layers = propagate(init, DEPTH, q=q, rho=1 - epsilon)
        scaled, errors = [], []
        for d, n_networks in ((32, 1500), (64, 1200), (128, 800)):
            gain = sample(init, d=d, depth=DEPTH, q=q, epsilon=epsilon, n_networks=n_networks, seed=7)[
                "backward"
            ][:, 0, 0]
            scaled.append(d * (np.log(gain.mean()) - float(np.log(layers.gradient_q[0]))))
            errors.append(d * gain.std() / gain.mean() / np.sqrt(n_networks))
        scaled, errors = np.array(scaled), np.array(errors)
        mean = np.average(scaled, weights=errors**-2)
        assert mean > 5 / np.sqrt((errors**-2).sum())  # resolved
        assert (abs(scaled - mean) < 3 * errors).all()  # and falling as 1/d, within its error
        assert mean < DEPTH * widest


def test_gradients_through_strong_attention_need_the_query_and_key_paths():
    """alpha_attn = 0.9, sigma_attn = 3, n = 32: measured 2.137 ± 0.018 with 300 networks of width 512."""
    init = Initialization(n_tokens=32, alpha_attn=0.9, alpha_mlp=0.3, sigma_attn=3.0, sigma_mlp=3.0)
    g, table = gains(init), overlap_table(3.0, 32)
    gain = attention_transfer(g, table, 0.6, 0.7, 32)[0, 0]
    assert gain == pytest.approx(2.164, abs=5e-4)
    s1, *_ = table(0.7)
    assert g.skip_attn + g.branch_attn / 0.6 * s1 == pytest.approx(0.620, abs=5e-4)  # value path alone
    assert norm_variance(init, 0.6, 0.7) == pytest.approx(0.041, abs=5e-4)


@pytest.mark.parametrize(("residual", "norm"), CONVENTIONS)
@pytest.mark.parametrize("activation", ["tanh", "erf", "gelu", "swiglu", "identity"])
def test_collapsed_exponents_are_limits_of_the_recursions(residual, norm, activation):
    """At ε = 1e-11 the recursions' rates are the closed forms, up to a multiple of ε."""
    init = Initialization(
        n_tokens=8, alpha_attn=0.4, alpha_mlp=0.7, sigma_attn=1.3, sigma_mlp=1.9, activation=activation,
        sigma_bias=0.2, sigma_value=1.2, residual=residual, norm=norm,
    )  # fmt: skip
    g, table, epsilon, n, q = gains(init), overlap_table(1.3, 8), 1e-11, 8, 1.7
    angle, gradient, after = collapsed_exponents(g, q)

    def kernel(epsilon):
        return mlp_kernel(activation, epsilon, sigma_mlp=1.9, sigma_bias=0.2)[1:]

    middle = attention_step(g, table, q, epsilon)
    q2, epsilon2 = mlp_step(g, kernel, *middle)
    assert q2 == pytest.approx(after, rel=1e-10)
    assert np.log(epsilon2 / epsilon) == pytest.approx(float(angle), abs=1e-10)
    transfer = attention_transfer(g, table, q, epsilon, n) @ mlp_transfer(g, kernel, *middle)
    total, difference = np.array([1, n - 1]) @ transfer, np.array([1, -1]) @ transfer
    np.testing.assert_allclose(total, np.exp(gradient) * np.array([1, n - 1]), rtol=1e-9)
    # The backward difference mode: the same squared singular values as the forward one, whose norms rescale ε.
    rate = float(angle) + np.log(after / q)
    np.testing.assert_allclose(difference, np.exp(rate) * np.array([1, -1]), rtol=1e-9)


def test_angle_exponents_measured_at_large_width():
    """Growth of log ε over 20 to 40 layers of width 1024, 5 networks; standard errors in the last column."""
    for (alpha_attn, alpha_mlp, sigma_attn, sigma_mlp), activation, options, measured, error in (
        ((0.5, 0.5, 1, 1), "tanh", {}, -0.3841, 0.0029),
        ((0.5, 0.5, 1, 2), "tanh", {}, -0.2363, 0.0026),
        ((0.3, 0.6, 1, 2), "tanh", {}, 0.0509, 0.0024),
        ((0.3, 0.6, 1, 4), "tanh", {}, 0.3285, 0.0053),
        ((0.5, 0.5, 2, 5), "tanh", {}, 0.0886, 0.0042),
        ((0.6, 0.8, 0.5, 3), "erf", {}, 0.0914, 0.0042),
        ((0.5, 0.7, 1, 2**0.5), "relu", {}, -0.2880, 0.0025),
        ((0.5, 0.5, 1, 2.5), "tanh", {"residual": "normed"}, -0.1417, 0.0042),
        ((0.5, 0.8, 1, 1.5), "tanh", {"sigma_bias": 0.3, "sigma_out": 1.5}, -0.0411, 0.0048),
    ):
        init = Initialization(
            n_tokens=8, alpha_attn=alpha_attn, alpha_mlp=alpha_mlp, sigma_attn=sigma_attn, sigma_mlp=sigma_mlp,
            activation=activation, **options,
        )  # fmt: skip
        assert abs(predict_exponents(init).angle - measured) < 3 * error


@given(
    alpha=st.floats(0.05, 0.95), sigma=st.floats(0.0, 4.0), value=st.floats(0.2, 2.0), n=st.sampled_from([2, 16]),
    epsilon=st.floats(1e-6, 1.0), q=st.floats(0.1, 5.0), residual=st.sampled_from(["sqrt", "normed", "one"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_without_mlps_tokens_always_collapse(alpha, sigma, value, n, epsilon, q, residual):
    """Every block of attention alone brings tokens nearer to each other, whatever the hyperparameters."""
    init = Initialization(
        n_tokens=n, alpha_attn=alpha, alpha_mlp=0.0, sigma_attn=round(sigma, 1), sigma_mlp=1.0, sigma_value=value,
        residual=residual,
    )  # fmt: skip
    layers = propagate(init, 3, q=q, rho=1 - epsilon)
    # A token difference shrinks by a share of at least ε/n of the branch; rounding is 1e-15.
    assert (np.diff(layers.epsilon) < 0).all()


def test_transition_is_where_the_angle_exponent_vanishes():
    """Networks on both sides of the edge leave it in the predicted direction, from ε = 1e-4."""
    torch.set_num_threads(1)
    base = Initialization(n_tokens=8, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=1.0)

    def beyond(
        sigma_mlp,
    ):  # the edge in words: the kernel's slope exceeds its norm by attention's contraction
        norm, _, slope = mlp_kernel("tanh", 0.0, sigma_mlp=sigma_mlp)
        return float(slope - norm) - 0.3**2 / (0.6**2 * (1 - 0.3**2))

    edge = brentq(beyond, 1.0, 4.0, xtol=1e-13)
    assert predict_exponents(base.with_values(sigma_mlp=edge)).angle == pytest.approx(0.0, abs=1e-12)
    for factor, sign in ((0.75, -1), (1.4, 1)):
        init = base.with_values(sigma_mlp=factor * edge)
        q = float(collapsed_norm(gains(init)))
        epsilon = np.array(
            [run(init, d=128, depth=10, q=q, epsilon=1e-4, seed=s)["forward"][-1, 2] for s in range(16)]
        )
        rates = np.log(epsilon / 1e-4) / 10
        error = rates.std(ddof=1) / 4
        assert sign * rates.mean() > 4 * error
        # E log lies below log E by half the variance of ten blocks, about 2 WIDTH / d per block.
        assert abs(rates.mean() - predict_exponents(init).angle) < 4 * error + 2 * WIDTH / 128


def test_fixed_points_of_a_chaotic_initialization():
    for n, rho in ((16, 0.3013), (64, 0.2319), (256, 0.2037)):
        init = Initialization(n_tokens=n, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=4.0)
        collapse, rest = fixed_points(init)
        assert rest.rho == pytest.approx(rho, abs=5e-5)
        assert rest.stable
        assert not collapse.stable
        layers = propagate(init, 1, q=rest.q, rho=rest.rho)
        assert float(layers.epsilon[1]) == pytest.approx(rest.epsilon, rel=1e-11)
        assert float(layers.q[1]) == pytest.approx(rest.q, rel=1e-11)


def test_relaxation_rate_and_leading_gradient_mode():
    init = Initialization(n_tokens=16, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=4.0)
    rest = fixed_points(init)[-1]
    layers = propagate(init, 200, q=rest.q, rho=rest.rho - 1e-3)
    gap = np.abs(layers.epsilon.values - rest.epsilon)
    assert np.log(gap[100] / gap[50]) / 50 == pytest.approx(
        rest.angle, rel=1e-3
    )  # quadratic terms of size 1e-3
    gradient = np.log(layers.gradient_q.values)
    assert gradient[100] - gradient[101] == pytest.approx(rest.gradient, rel=1e-5)


def test_strong_attention_has_coexisting_states():
    """Strong attention: orthogonal tokens stay apart although the collapsed state attracts."""
    init = Initialization(n_tokens=64, alpha_attn=0.7, alpha_mlp=0.9, sigma_attn=12.0, sigma_mlp=3.6)
    collapse, barrier, rest = fixed_points(init)
    assert collapse.stable
    assert not barrier.stable
    assert rest.stable
    apart, close = (propagate(init, 60, q=rest.q, rho=rho).epsilon[-1] for rho in (0.05, 0.98))
    assert float(apart) > 0.5
    assert float(close) < 0.1 * 0.02  # a tenth of where it started
    assert "beside a stable collapse" in predict_exponents(init, at="stable").phase


def test_odd_activation_without_attention_keeps_orthogonal_tokens_orthogonal():
    init = Initialization(n_tokens=4, alpha_attn=0.0, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=2.0)
    collapse, rest = fixed_points(init)
    assert rest.epsilon == 1.0
    assert rest.stable
    assert collapse.angle == pytest.approx(collapse.gradient)  # attention alone tells the two exponents apart


def test_he_initialised_relu_neither_explodes_nor_vanishes():
    for alpha in (0.2, 0.9):
        init = Initialization(
            n_tokens=16, alpha_attn=alpha, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=2**0.5, activation="relu"
        )
        exponents = predict_exponents(init)
        assert exponents.gradient == pytest.approx(0.0, abs=1e-14)
        q1 = float(attention_step(gains(init), overlap_table(1.0, 16), collapsed_norm(gains(init)), 0.0)[0])
        assert exponents.angle == pytest.approx(np.log(1 - alpha**2 / q1), rel=1e-12)


def test_no_branches_no_exponents():
    init = Initialization(n_tokens=4, alpha_attn=0.0, alpha_mlp=0.0, sigma_attn=1.0, sigma_mlp=1.0)
    for at, depth in (("collapsed", None), ("stable", None), ("run", 5)):
        exponents = predict_exponents(init, at=at, depth=depth)
        assert (exponents.angle, exponents.gradient) == (0.0, 0.0)
        assert exponents.phase == "edge of chaos, steady"


def test_full_attention_branch_removes_every_difference():
    init = Initialization(n_tokens=4, alpha_attn=1.0, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.0)
    assert predict_exponents(init).angle == -math.inf
    assert predict_exponents(init).phase == "ordered, exploding"
    assert predict_exponents(init.with_values(sigma_attn=0.0), at="run", depth=2).angle == -math.inf


def test_growing_norm_makes_exponents_decay():
    """residual="one": ε follows a power law of the norm, with the exponent of theory/22 (eq:power)."""
    init = Initialization(
        n_tokens=16, alpha_attn=0.4, alpha_mlp=0.8, sigma_attn=1.0, sigma_mlp=3.0, residual="one"
    )
    g = gains(init)
    gain = g.branch_attn + g.branch_mlp * g.norm
    power = (g.branch_mlp * (g.slope - g.norm) - g.branch_attn) / gain
    q, logs = 1.0, []
    for _ in range(2000):
        angle, _, after = collapsed_exponents(g, q)
        logs.append((np.log(q), float(angle)))
        q = after
    found = sum(a for _, a in logs[500:]) / (np.log(q) - logs[500][0])
    assert found == pytest.approx(float(power), rel=2e-3)  # the next order is 1/500
    with pytest.raises(ValueError, match=r"pass depth=\.\.\. \(and q="):
        predict_exponents(init)
    shallow, deep = (predict_exponents(init, depth=depth).gradient for depth in (10, 100))
    assert 0 < deep < shallow / 2


def test_mean_over_a_stack_at_rest_is_the_exponent():
    init = Initialization(n_tokens=16, alpha_attn=0.4, alpha_mlp=0.8, sigma_attn=1.0, sigma_mlp=3.0)
    once, stack = predict_exponents(init), predict_exponents(init, depth=20)
    np.testing.assert_allclose((once.angle, once.gradient), (stack.angle, stack.gradient), rtol=1e-13)


def test_independent_gradients_cross_over_between_the_two_rates():
    """In a collapsed stack Q_0/Q_L = e^{Lλ_g}/n + (1 - 1/n) e^{Lλ_a}."""
    init = Initialization(n_tokens=16, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.0)
    q = float(collapsed_norm(gains(init)))
    exact, depth = predict_exponents(init), 12
    run = predict_exponents(init, at="run", depth=depth, q=q, rho=1 - 1e-12)
    expected = (np.exp(depth * exact.gradient) + 15 * np.exp(depth * exact.angle)) / 16
    assert run.gradient == pytest.approx(np.log(expected) / depth, abs=1e-10)
    assert run.angle == pytest.approx(exact.angle, abs=1e-10)


def test_causal_attention_changes_the_angle_exponent_only():
    full = Initialization(n_tokens=8, alpha_attn=0.9, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=2.0)
    causal = full.with_values(causal=True)
    assert predict_exponents(full).gradient == predict_exponents(causal).gradient
    assert predict_exponents(causal).angle == pytest.approx(-0.8293, abs=5e-5)
    assert predict_exponents(full).angle == pytest.approx(-1.6416, abs=5e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"alpha_attn": 1.5}, "use residual='one'"),
        ({"alpha_mlp": -0.1}, "alpha_mlp=-0.1"),
        ({"sigma_attn": -1.0}, "sigma_attn=-1.0"),
        ({"sigma_mlp": math.inf}, "sigma_mlp=inf"),
        ({"sigma_value": math.nan}, "sigma_value=nan"),
        ({"n_tokens": 1}, "n_tokens=1 must be a whole number of at least 2"),
        ({"n_heads": 0}, "n_heads=0"),
        ({"activation": "relu6"}, "known are tanh, erf, relu"),
        ({"residual": "two"}, "known are sqrt, normed, one"),
        ({"norm": "middle"}, "known are pre, post"),
        ({"residual": "normed", "norm": "post"}, "use residual='sqrt'"),
        ({"d_model": 10, "n_heads": 3}, "not a multiple"),
        ({"temperature": 1.0}, "hyperparameter 'temperature' is unknown"),
    ],
)
def test_bad_initializations(values, message):
    init = Initialization(n_tokens=4, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.0)
    with pytest.raises(ValueError, match=message):
        init.with_values(**values)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda init: propagate(init, 0), "depth=0"),
        (lambda init: propagate(init, 3, q=0.0), "q=0.0"),
        (lambda init: propagate(init, 3, rho=1.0), "rho=1.0"),
        (lambda init: propagate(init.with_values(causal=True), 3), "use propagate_gram"),
        (lambda init: fixed_points(init.with_values(causal=True)), "use propagate_gram"),
        (lambda init: predict_exponents(init, at="home"), "known are collapsed, stable, run"),
        (lambda init: predict_exponents(init, at="run"), "pass depth"),
        (lambda init: predict_exponents(init, at="run", depth=4000), "leaves the range of floats"),
        (lambda init: predict_exponents(init, q=-1.0), "q must be positive"),
        (lambda init: predict_exponents(init, depth=0), "depth=0"),
        (lambda init: predict_exponents(init.with_values(sigma_value=0.0, sigma_mlp=0.0)), "dies out"),
    ],
)
def test_bad_requests(call, message):
    with pytest.raises(ValueError, match=message):
        call(Initialization(n_tokens=4, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.0))


def test_exponents_speak_for_themselves():
    assert repr(Exponents(-0.31, 0.08)) == "Exponents(angle=-0.31, gradient=+0.08): ordered, exploding"
    assert Exponents(0.01, 0.02, 0.006, 0.001).phase == "edge of chaos, exploding"
    assert Exponents(0.5, 0.0).depth_scales == (2.0, math.inf)
    with pytest.raises(ValueError, match="angle_stderr=-1"):
        Exponents(0.1, 0.1, angle_stderr=-1)


@pytest.mark.parametrize("style", ["gpt2", "llama", "bert"])
def test_configurations_and_weight_scales_are_inverse(style):
    config = {
        "gpt2": {"n_embd": 64, "n_head": 4, "n_layer": 6, "n_positions": 32, "n_inner": None},
        "llama": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 6, "intermediate_size": 172,
                  "hidden_act": "silu", "initializer_range": 0.03, "max_position_embeddings": 32},
        "bert": {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 6, "intermediate_size": 256,
                 "hidden_act": "gelu", "max_position_embeddings": 32},
    }[style]  # fmt: skip
    init = Initialization.from_config(type("Config", (), config)(), style=style)
    std = init.weight_std()
    expected = config.get("initializer_range", 0.02)
    for name in ("query", "key", "mlp_in"):
        assert std[name] == pytest.approx(expected, rel=1e-12)
    scaled = expected / np.sqrt(12) if style == "gpt2" else expected
    assert std["mlp_out"] == pytest.approx(scaled, rel=1e-12)
    assert std["value"] * std["attn_out"] == pytest.approx(expected * scaled, rel=1e-12)
    assert init.activation == {"gpt2": "gelu", "llama": "swiglu", "bert": "gelu"}[style]
    assert (init.causal, init.norm) == (style != "bert", "post" if style == "bert" else "pre")
    assert (init.n_tokens, init.residual) == (32, "one")


def test_configurations_that_say_too_little():
    with pytest.raises(ValueError, match="looked for n_layer"):
        Initialization.from_config({"n_embd": 64, "n_head": 4, "block_size": 16})
    with pytest.raises(ValueError, match="gate 'relu' is unknown"):
        Initialization.from_config(
            {"hidden_size": 64, "num_attention_heads": 4, "hidden_act": "relu"}, style="llama", n_tokens=8
        )
    with pytest.raises(ValueError, match="needs the widths"):
        Initialization(n_tokens=4, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.0).weight_std()
