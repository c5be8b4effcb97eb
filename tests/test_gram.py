import sys
from pathlib import Path

import numpy as np
import pytest

from trainability.geometry import predict_exponents, propagate
from trainability.gram import draw_attention, propagate_gram, simplex_gram
from trainability.initialization import Initialization
from trainability.recursion import collapsed_norm, gains

sys.path.insert(0, str(Path(__file__).parent))  # the oracle is a module beside this file
torch = pytest.importorskip("torch")
from random_transformer import block, sample  # noqa: E402

INIT = Initialization(n_tokens=8, alpha_attn=0.8, alpha_mlp=0.6, sigma_attn=2.0, sigma_mlp=2.0)


@pytest.mark.parametrize(("residual", "n_heads"), [("sqrt", 1), ("normed", 2), ("one", 1)])
def test_one_block_agrees_with_the_symmetric_recursion(residual, n_heads):
    """Mean over 4000 draws of the weights against the exact overlaps, within four standard errors."""
    init = INIT.with_values(residual=residual, n_heads=n_heads)
    drawn = propagate_gram(init, simplex_gram(8, q=1.3, rho=0.4), 1, n_runs=4000)
    exact = propagate(init, 1, q=1.3, rho=0.4)
    q = drawn.q.values[:, 1]
    assert abs(q.mean() - float(exact.q[1])) <= 4 * q.std() / np.sqrt(4000) + 1e-12  # 0 if the norm is reset
    # The MLP and the angle see each draw's own norms: the symmetric recursion closes with an error of cv² ~ 1 %.
    assert drawn.epsilon.values[:, 1].mean() == pytest.approx(float(exact.epsilon[1]), rel=0.01)
    assert drawn.gradient_q.values[:, 0].mean() == pytest.approx(float(exact.gradient_q[0]), rel=0.03)


def test_gradients_through_attention_alone_agree_with_the_symmetric_recursion():
    init = INIT.with_values(alpha_mlp=0.0)
    drawn = propagate_gram(init, simplex_gram(8, q=1.3, rho=0.4), 1, n_runs=4000)
    exact = propagate(init, 1, q=1.3, rho=0.4)
    own = drawn.gradient_q.values[:, 0]
    assert abs(own.mean() - float(exact.gradient_q[0])) < 4 * own.std() / np.sqrt(4000)
    g = drawn.gradient_gram.values[0]
    other = (g.sum() - np.trace(g)) / 56
    assert other == pytest.approx(float(exact.gradient_p[0]), abs=4 * own.std() / np.sqrt(4000))


def test_drawn_back_signal_has_the_mean_of_the_averaged_one():
    means = [
        propagate_gram(INIT, simplex_gram(8, rho=0.3), 2, n_runs=3000, gradients=how).gradient_q.values[:, 0]
        for how in ("mean", "drawn")
    ]
    error = np.hypot(*(m.std() / np.sqrt(3000) for m in means))
    assert abs(means[0].mean() - means[1].mean()) < 4 * error
    assert means[1].std() > means[0].std()  # what drawing adds


@pytest.mark.parametrize("n_heads", [1, 4])
def test_causal_networks_entry_by_entry(n_heads):
    """Every dot product of tokens and gradients after two causal blocks, 120 networks of width 192."""
    torch.set_num_threads(1)
    init = INIT.with_values(n_tokens=6, causal=True, n_heads=n_heads, sigma_attn=1.5)
    found = sample(init, d=192, depth=2, q=1.0, epsilon=0.7, n_networks=120, full=True)
    drawn = propagate_gram(init, simplex_gram(6, rho=0.3), 2, n_runs=1500)
    for name, at in (("gram", 2), ("gradient_gram", 0)):
        values = found[name][:, at]
        error = values.std(0, ddof=1) / np.sqrt(120)
        gap = values.mean(0) - drawn[name].values[at]
        # One standard error of 1500 runs is a quarter of that of 120 networks; finite width: 2 / d for each block.
        assert (abs(gap) < 4.2 * error + 4 / 192 * abs(drawn[name].values[at])).all()


def test_unequal_tokens():
    """Norms and angles all different: the recursion against networks fed with tokens of that very geometry."""
    torch.set_num_threads(1)
    d, n, networks = 192, 5, 150
    init = INIT.with_values(n_tokens=n, residual="one", activation="gelu")
    generator = torch.Generator().manual_seed(3)
    basis = torch.linalg.qr(torch.randn(d, n, generator=generator, dtype=torch.float64))[0].T * np.sqrt(d)
    mixing = torch.randn(n, n, generator=generator, dtype=torch.float64)
    x = mixing @ basis
    gram = (x @ x.T / d).numpy()
    after = np.array([_gram_after(x, init, seed) for seed in range(networks)])
    predicted = propagate_gram(init, gram, 1, n_runs=3000).gram.values[1]
    error = after.std(0, ddof=1) / np.sqrt(networks)
    scale = np.sqrt(np.outer(predicted.diagonal(), predicted.diagonal()))
    assert (abs(after.mean(0) - predicted) < 4.2 * error + 2 / d * scale).all()


def _gram_after(x, init, seed):
    _, after = block(x, init, torch.Generator().manual_seed(seed))
    return (after @ after.T / x.shape[1]).numpy()


def test_causal_collapse_approaches_the_closed_rate():
    """Uniform causal attention contracts differences by the eigenvalue 1/2, other differences by less."""
    init = INIT.with_values(alpha_attn=0.9, sigma_attn=1.0, causal=True)
    q = float(collapsed_norm(gains(init)))
    layers = propagate_gram(init, simplex_gram(8, q=q, rho=1 - 1e-9), 90, n_runs=1)
    rates = np.diff(np.log(layers.epsilon.values[0]))
    assert rates[-1] == pytest.approx(predict_exponents(init).angle, abs=2e-3)
    assert abs(rates[-1] - rates[0]) > 0.05  # the mask's matrix is not normal: the rate is reached slowly
    assert layers.epsilon.values[0, -1] < 1e-30  # what subtraction from cosines would have lost


def test_causal_gradient_gathers_at_the_first_token():
    """Diagonal of the gradients' dot products after 3 collapsed causal blocks, n = 12."""
    init = INIT.with_values(n_tokens=12, alpha_attn=0.9, causal=True)
    diagonal = (
        propagate_gram(init, simplex_gram(12, rho=1 - 1e-9), 3, n_runs=1).gradient_gram.values[0].diagonal()
    )
    assert (np.diff(diagonal) < 0).all()
    total = np.exp(3 * predict_exponents(init, depth=3, q=1.0).gradient)
    everything = (
        propagate_gram(init, simplex_gram(12, rho=1 - 1e-9), 3, n_runs=1).gradient_gram.values[0].sum()
    )
    assert everything / 12 == pytest.approx(total, rel=1e-6)  # the sum over tokens obeys the closed form


def test_averaged_attention_is_the_symmetric_recursion():
    layers = propagate_gram(INIT, simplex_gram(8, rho=0.2), 6, n_runs=600, attention="averaged")
    exact = propagate(INIT, 6, rho=0.2)
    np.testing.assert_allclose(
        layers.epsilon.values.mean(0), exact.epsilon, rtol=0.05
    )  # 600 draws at each layer
    assert layers.epsilon.values.std(0).max() < 1e-12


def test_attention_weights_follow_their_law():
    """Logits of orthogonal tokens are independent N(0, σ²): log-ratios of weights have variance 2 σ²."""
    rng = np.random.default_rng(0)
    epsilon = np.broadcast_to(1 - np.eye(3), (20_000, 3, 3))
    w = draw_attention(epsilon, 1.5, causal=False, rng=rng)
    ratio = np.log(w[:, 0, 1] / w[:, 0, 2])
    assert ratio.var() == pytest.approx(2 * 1.5**2, rel=4 * np.sqrt(2 / 20_000))
    causal = draw_attention(epsilon[:5], 1.5, causal=True, rng=rng)
    assert (causal[:, np.triu_indices(3, 1)[0], np.triu_indices(3, 1)[1]] == 0).all()
    np.testing.assert_allclose(causal.sum(-1), 1)


@pytest.mark.parametrize(
    ("head_dim", "own", "other"),
    [(4, (0.4917, 0.0015), (0.1413, 0.0011)), (16, (0.5308, 0.0012), (0.1131, 0.0007))],
)
def test_narrow_heads_attend_less_sharply(head_dim, own, other):
    """Overlaps of rows sampled from real queries and keys at n = 16, cosine 0.2, sigma_attn = 4."""
    rng = np.random.default_rng(1)
    epsilon = np.broadcast_to(0.8 * (1 - np.eye(16)), (2000, 16, 16))
    w = draw_attention(epsilon, 4.0, causal=False, rng=rng, head_dim=head_dim)
    overlaps = w @ np.swapaxes(w, -1, -2)
    mine = np.einsum("rii->r", overlaps) / 16
    theirs = (overlaps.sum((1, 2)) - 16 * mine) / 240
    for found, (value, error) in ((mine, own), (theirs, other)):
        assert abs(found.mean() - value) < 4 * np.hypot(error, found.std() / np.sqrt(2000))


def test_causal_runs_carry_their_sampling_error():
    init = INIT.with_values(causal=True)
    run = predict_exponents(init, at="run", depth=4, q=1.0, rho=0.3)
    assert 0 < run.angle_stderr < 0.02
    many = propagate_gram(init, simplex_gram(8, rho=0.3), 4, n_runs=1500, seed=5)
    assert abs(run.angle - np.log(many.epsilon.values[:, -1].mean() / 0.7) / 4) < 4.5 * run.angle_stderr
    assert abs(run.gradient - np.log(many.gradient_q.values[:, 0].mean()) / 4) < 4.5 * run.gradient_stderr


@pytest.mark.parametrize(
    ("gram", "message"),
    [
        (np.eye(3), "it needs \\(8, 8\\)"),
        (np.full((8, 8), np.nan), "finite"),
        (np.triu(np.ones((8, 8))), "symmetric"),
        (np.diag([1.0] * 7 + [0.0]), "token 7 has norm 0.0"),
        (2 * np.ones((8, 8)) - np.eye(8) * 1.5, "not positive semidefinite"),
    ],
)
def test_bad_dot_products(gram, message):
    with pytest.raises(ValueError, match=message):
        propagate_gram(INIT, gram, 2)


@pytest.mark.parametrize("gradients", ["mean", "drawn"])
def test_exploding_gradients_end_at_infinity(gradients):
    init = INIT.with_values(n_tokens=2, sigma_value=40.0, sigma_attn=10.0, alpha_mlp=0.9, sigma_mlp=100.0,
                            activation="erf", residual="normed")  # fmt: skip
    layers = propagate_gram(init, simplex_gram(2), 300, n_runs=2, gradients=gradients)
    assert not np.isnan(layers.gradient_gram).any()
    assert np.isfinite(layers.epsilon).all()
    symmetric = propagate(init, 300)
    assert not np.isnan(symmetric.gradient_q).any()
    assert np.isinf(symmetric.gradient_q[0])
    assert np.isinf(layers.gradient_q[:, 0]).all()


def test_bad_options():
    gram = simplex_gram(8)
    for options, message in (
        ({"depth": 0}, "depth=0"),
        ({"depth": 1, "n_runs": 0}, "n_runs=0"),
        ({"depth": 1, "attention": "hard"}, "known are drawn, averaged"),
        ({"depth": 1, "gradients": "none"}, "known are mean, drawn"),
    ):
        with pytest.raises(ValueError, match=message):
            propagate_gram(INIT, gram, **options)
