"""The reduction against gradient descent on the whole attention layer, gradients by hand-free autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trainability import product_map
from trainability.prompt import Prompt, random_prompt
from trainability.reduction import (
    Reduction,
    effective_step,
    gain,
    project_weights,
    reduce_population,
    reduce_prompts,
    reduce_width,
    reduced_start,
)


def layer_loss(prompts, W_PV, W_KQ):
    """Mean over prompts of ½(ŷ - y_q)² for E + W_PV E EᵀW_KQ E / N, read off at the query's label."""
    losses = []
    for prompt in prompts:
        E = torch.tensor(prompt.matrix)
        out = E + W_PV @ E @ (E.T @ W_KQ @ E) / len(prompt.y)
        losses.append((out[-1, -1] - prompt.y_query) ** 2 / 2)
    return sum(losses) / len(losses)


def train_layer(prompts, U, v, lr, n_steps, *, all_weights):
    """(U, v) after each step; the zero blocks are trained too if `all_weights`."""
    dim = U.shape[0]
    W_PV, W_KQ = np.zeros((dim + 1, dim + 1)), np.zeros((dim + 1, dim + 1))
    W_KQ[:dim, :dim], W_PV[-1, -1] = U, v
    blocks = [np.zeros_like(W_PV), np.zeros_like(W_KQ)]
    blocks[0][-1, -1], blocks[1][:dim, :dim] = 1, 1
    trace = []
    for _ in range(n_steps):
        weights = [torch.tensor(W, requires_grad=True) for W in (W_PV, W_KQ)]
        gradients = torch.autograd.grad(layer_loss(prompts, *weights), weights)
        W_PV, W_KQ = (
            W - lr * g.numpy() * (1 if all_weights else block)
            for W, g, block in zip((W_PV, W_KQ), gradients, blocks, strict=True)
        )
        trace.append((W_KQ[:dim, :dim].copy(), W_PV[-1, -1]))
    return trace


@pytest.mark.parametrize(("seed", "paired"), [(0, False), (1, False), (2, True), (3, True)])
@pytest.mark.parametrize("size", [0.6, 1.45])
def test_layer_follows_product_map(seed, paired, size):
    """One prompt with the zero blocks held, and a flipped pair with every weight trained."""
    prompt = random_prompt(12, 5, seed=seed)
    prompts = [prompt, prompt.flipped()] if paired else [prompt]
    data = reduce_prompts(prompts)
    lr = size / abs(data.coupling)
    rng = np.random.default_rng(seed)
    U, v = rng.standard_normal((5, 5)), 0.3
    U *= 0.3 / (gain(data) * np.sqrt(lr) * np.linalg.norm(U))
    v /= gain(data) * np.sqrt(lr)
    state = np.array(reduced_start(data, lr, U, v))
    expected = product_map(effective_step(data, lr))
    for U_now, v_now in train_layer(prompts, U, v, lr, 25, all_weights=paired):
        state = expected(state)
        # Chaos at |mu| = 1.45 grows rounding by e^0.5 a step: 25 steps leave eps e^12 = 4e-11, times a margin.
        np.testing.assert_allclose(np.array(reduced_start(data, lr, U_now, v_now)), state, atol=1e-9)


def test_all_weights_of_one_prompt_leave_the_plane():
    """The reduction is not exact there: other weights move and count."""
    prompt = random_prompt(12, 5, seed=0)
    lr = 0.6 / abs(reduce_prompts(prompt).coupling)
    U, v = np.full((5, 5), 0.1), 0.3
    state = np.array(reduced_start(prompt, lr, U, v))
    (U, v) = train_layer([prompt], U, v, lr, 5, all_weights=True)[-1]
    for _ in range(5):
        state = product_map(effective_step(prompt, lr))(state)
    assert np.abs(np.array(reduced_start(prompt, lr, U, v)) - state).max() > 1e-2


def test_prompts_in_one_dimension_always_reduce():
    """Any set: floor, coupling and curvature from the moments, and the trained path."""
    prompts = [random_prompt(6, 1, seed=seed, label_noise=0.3) for seed in range(7)]
    data = reduce_prompts(prompts)
    gains = np.array([float(p.moment[0] * p.x_query[0]) for p in prompts])
    labels = np.array([p.y_query for p in prompts])
    assert data.curvature == pytest.approx(np.mean(gains**2))
    assert abs(data.coupling) == pytest.approx(abs(np.mean(gains * labels)))
    best = np.mean(gains * labels) / np.mean(gains**2)
    assert data.floor == pytest.approx(np.mean((gains * best - labels) ** 2) / 2)
    lr = 0.7 / abs(data.coupling)
    U, v = np.array([[0.2]]), 0.4
    state = np.array(reduced_start(data, lr, U, v))
    for U_now, v_now in train_layer(prompts, U, v, lr, 30, all_weights=False):
        state = product_map(effective_step(data, lr))(state)
        np.testing.assert_allclose(np.array(reduced_start(data, lr, U_now, v_now)), state, atol=1e-12)


def test_target_of_zero_is_the_catapult_model():
    """y_q = 0: mu = 0 at every learning rate, and the direction is still that of M."""
    prompt = Prompt(x=[[1.0, 2.0]], y=[3.0], x_query=[0.5, -1.0], y_query=0.0)
    data = reduce_prompts(prompt)
    assert (data.coupling, data.floor) == (0.0, 0.0)
    assert effective_step(prompt, 0.7) == 0.0
    np.testing.assert_allclose(data.direction * gain(data), np.outer([3.0, 6.0], [0.5, -1.0]))


def test_population_start_must_be_a_multiple_of_the_identity():
    data = reduce_population(10, 3)
    u, _ = project_weights(data, 0.4 * np.eye(3), 1.0)
    assert u == pytest.approx(0.4 * np.sqrt(3))
    with pytest.raises(ValueError, match="outside the plane"):
        project_weights(data, np.diag([0.4, 0.4, 0.5]), 1.0)


def test_generic_prompts_do_not_reduce():
    prompts = [random_prompt(8, 3, seed=seed) for seed in range(4)]
    with pytest.raises(ValueError, match="do not reduce"):
        reduce_prompts(prompts)


def test_symmetric_prompts_reduce_with_transverse_directions():
    """Unit vectors as only example and query: M are all e_i e_jᵀ, B = the identity, C a multiple of it."""
    basis = np.eye(3)
    prompts = [
        Prompt(x=[basis[i]], y=[1.0], x_query=basis[j], y_query=float(i == j))
        for i in range(3)
        for j in range(3)
    ]
    data = reduce_prompts(prompts)
    np.testing.assert_allclose(data.direction, np.eye(3) / np.sqrt(3), atol=1e-15)
    np.testing.assert_allclose(data.transverse_ratios, np.ones(8), rtol=1e-12)
    with pytest.raises(ValueError, match="outside the plane"):
        project_weights(data, basis[:1].T @ basis[1:2], 0.5)
    lr = 0.8 / data.coupling
    U, v = 0.3 * basis, 0.4
    state = np.array(reduced_start(data, lr, U, v))
    for U_now, v_now in train_layer(prompts, U, v, lr, 20, all_weights=False):
        state = product_map(effective_step(data, lr))(state)
        np.testing.assert_allclose(np.array(reduced_start(data, lr, U_now, v_now)), state, atol=1e-12)


@pytest.mark.parametrize(("n_examples", "dim", "noise"), [(5, 3, 0.0), (20, 2, 0.7), (3, 1, 0.0)])
def test_population_moments(n_examples, dim, noise):
    """Curvature and coupling against sampled prompts."""
    rng = np.random.default_rng(0)
    n = 200_000
    x, w = rng.standard_normal((n, n_examples, dim)), rng.standard_normal((n, dim))
    query = rng.standard_normal((n, dim))
    y = np.einsum("pnd,pd->pn", x, w) + noise * rng.standard_normal((n, n_examples))
    gains = np.einsum("pn,pnd,pd->p", y, x, query) / n_examples  # output at U = 1, v = 1
    labels = np.einsum("pd,pd->p", query, w)
    data = reduce_population(n_examples, dim, label_noise=noise)
    for found, expected in ((gains**2, dim * data.curvature), (gains * labels, np.sqrt(dim) * data.coupling)):
        assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(n)
    assert data.floor == pytest.approx((dim - data.coupling**2 / data.curvature) / 2)


@given(st.integers(1, 6), st.floats(-1.9, 1.9), st.integers(0, 2**32 - 1))
def test_width_folds_to_two_numbers(k, mu, seed):
    """(S, D) of vectors and of the folded pair agree step by step."""
    rng = np.random.default_rng(seed)
    u, v = rng.standard_normal((2, k)) * 0.6
    a, b = reduce_width(u, v)
    for _ in range(5):
        e = u @ v - mu
        u, v = u - e * v, v - e * u
        e = a * b - mu
        a, b = a - e * b, b - e * a
        np.testing.assert_allclose([a * b, a * a + b * b], [u @ v, u @ u + v @ v], rtol=1e-9, atol=1e-9)


@given(st.floats(0.01, 10), st.lists(st.floats(-2, 2), min_size=3, max_size=3))
def test_start_broadcasts_over_learning_rates(lr, v):
    prompt = random_prompt(6, 2, seed=5)
    a, b = reduced_start(prompt, np.array([[lr], [2 * lr]]), np.eye(2), np.array(v))
    assert a.shape == b.shape == (2, 3)
    one_a, one_b = reduced_start(prompt, 2 * lr, np.eye(2), v[1])
    assert (a[1, 1], b[1, 1]) == (one_a, one_b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reduce_prompts([]), "prompts is empty"),
        (
            lambda: reduce_prompts([random_prompt(3, 1, seed=0), random_prompt(3, 2, seed=0)]),
            r"dimensions \[1, 2\]",
        ),
        (lambda: reduce_prompts(Prompt([[1.0]], [0.0], [1.0], 1.0)), "nothing to train"),
        (lambda: effective_step(random_prompt(3, 1, seed=0), [0.1, np.nan]), "lr must be finite; found nan"),
        (lambda: effective_step(random_prompt(3, 1, seed=0), -0.1), "lr must be positive; found -0.1"),
        (lambda: reduced_start(random_prompt(3, 2, seed=0), 0.1, np.eye(3), 1.0), r"U has shape \(3, 3\)"),
        (lambda: reduced_start(random_prompt(3, 1, seed=0), 0.1, [[np.inf]], 1.0), "U must be finite"),
        (lambda: reduce_population(0, 3), "n_examples=0 must be at least 1"),
        (lambda: reduce_population(3, 3, label_noise=-1.0), "must not be negative"),
        (lambda: reduce_width([1.0], [1.0, 2.0]), "the same k"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_repr_leads_with_the_numbers():
    assert repr(Reduction(4.0, 2.0, np.eye(1))).startswith("Reduction(curvature=4, coupling=2, floor=0)")
