import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainability._gaussian import mlp_kernel
from trainability.critical import critical_initialization, critical_line
from trainability.geometry import predict_exponents
from trainability.initialization import Initialization

INIT = Initialization(n_tokens=64, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.5)

# Critical sigma_mlp and the gradient exponent there at equal residual strengths, found by an independent solver.
CRITICAL = {
    "tanh": {0.01: (3.377498, 0.000113), 0.5: (4.065343, 0.317959), 0.8: (6.910068, 1.078816)},
    "erf": {0.01: (2.841557, 0.000112), 0.2: (2.913952, 0.045695), 0.7: (4.456501, 0.722722)},
}  # fmt: skip


@pytest.mark.parametrize("activation", CRITICAL)
def test_critical_gains(activation):
    for alpha, (sigma, gradient) in CRITICAL[activation].items():
        init = INIT.with_values(activation=activation, alpha_mlp=alpha)
        found = critical_line(init, "sigma_mlp", alpha_attn=[alpha])
        assert float(found.sigma_mlp[0]) == pytest.approx(sigma, abs=6e-7)
        assert float(found.gradient[0]) == pytest.approx(gradient, abs=6e-7)
        assert abs(float(found.angle[0])) < 1e-12


@given(
    alpha_attn=st.floats(0.05, 0.8),
    alpha_mlp=st.floats(0.2, 0.95),
    value=st.floats(0.5, 1.5),
    residual=st.sampled_from(["sqrt", "normed"]),
)
@settings(max_examples=25, deadline=None)
def test_edge_in_closed_form(alpha_attn, alpha_mlp, value, residual):
    """χ - K = A σ_v² / (M (1 - A)) with the skip on the stream; theory/24 (eq:edge) for the other convention."""
    init = INIT.with_values(activation="erf", alpha_mlp=alpha_mlp, sigma_value=value, residual=residual)
    found = critical_line(init, "sigma_mlp", alpha_attn=[alpha_attn], bounds=(0.05, 500.0))
    sigma = float(found.sigma_mlp[0])
    A, M, V = alpha_attn**2, alpha_mlp**2, value**2
    if math.isnan(sigma):  # the slope grows without bound, so that erf has an edge within any large range
        assert mlp_kernel("erf", 0.0, sigma_mlp=500.0)[2] < 1 + A * V / (M * (1 - A))
        return
    norm, _, slope = mlp_kernel("erf", 0.0, sigma_mlp=sigma)
    if residual == "sqrt":
        assert slope - norm == pytest.approx(A * V / (M * (1 - A)), rel=1e-10)
    else:
        assert (1 - A) * (1 - M + M * slope) == pytest.approx((1 - A + A * V) * (1 - M + M * norm), rel=1e-10)
    assert float(found.gradient[0]) > 0  # angle and gradient never vanish together while attention acts


def test_gradient_line_is_free_of_attention():
    init = INIT.with_values(sigma_bias=0.8)
    found = critical_line(
        init, "sigma_mlp", exponent="gradient", alpha_attn=[0.1, 0.5, 0.9], alpha_mlp=[0.3, 0.7]
    )
    assert found.sigma_mlp.shape == (3, 2)
    assert np.ptp(found.sigma_mlp.values) < 1e-10
    norm, _, slope = mlp_kernel("tanh", 0.0, sigma_mlp=float(found.sigma_mlp[0, 0]), sigma_bias=0.8)
    assert slope == pytest.approx(norm, rel=1e-10)


def test_relu_has_no_edge():
    found = critical_line(INIT.with_values(activation="relu"), "sigma_mlp", alpha_attn=[0.2, 0.5])
    assert np.isnan(found.sigma_mlp).all()
    steady = critical_line(
        INIT.with_values(activation="relu"), "sigma_mlp", exponent="gradient", alpha_attn=[0.2]
    )
    assert np.isnan(steady.sigma_mlp).all()  # zero throughout, and not a line of rounding errors


def test_one_point_needs_no_axis():
    found = critical_line(INIT, "sigma_mlp")
    assert float(found.sigma_mlp) == pytest.approx(4.065343, abs=6e-7)


def test_causal_edge_lies_lower():
    """A causal mask contracts less, so that less MLP keeps tokens apart."""
    full, causal = (
        float(critical_line(INIT.with_values(causal=c), "sigma_mlp", alpha_attn=[0.5]).sigma_mlp[0])
        for c in (False, True)
    )
    assert causal < full


@pytest.mark.parametrize("activation", ["tanh", "erf", "relu", "gelu", "swiglu"])
@pytest.mark.parametrize(
    "options", [{}, {"residual": "normed"}, {"norm": "post", "residual": "one"}, {"causal": True}]
)
def test_deep_enough_for_64_blocks(activation, options):
    init = INIT.with_values(activation=activation, **options)
    found = critical_initialization(init, depth=64)
    assert found.kind == "deep enough"
    exponents = predict_exponents(found.initialization)
    assert max(abs(exponents.angle), abs(exponents.gradient)) * 64 <= 0.25
    before = predict_exponents(init)
    assert max(abs(before.angle), abs(before.gradient)) * 64 > 0.25


def test_nearest_initialization_is_on_the_limit():
    """No point of a fine grid satisfies the limit nearer to the start."""
    init = INIT.with_values(activation="erf", sigma_mlp=3.0)
    found = critical_initialization(init, vary=("sigma_mlp", "alpha_attn"), depth=16).initialization
    limit = 1 / 64
    cost = math.log(found.sigma_mlp / 3) ** 2 + math.log(found.alpha_attn / 0.5) ** 2
    for sigma in 3 * np.exp(np.linspace(-1.5, 1.5, 61)):
        for alpha in 0.5 * np.exp(np.linspace(-3, 0.5, 71)):
            e = predict_exponents(init.with_values(sigma_mlp=float(sigma), alpha_attn=float(alpha)))
            if max(abs(e.angle), abs(e.gradient)) <= limit:
                assert math.log(sigma / 3) ** 2 + math.log(alpha / 0.5) ** 2 >= cost - 1e-6


def test_growing_stream():
    init = Initialization.from_config({"n_embd": 256, "n_head": 4, "n_layer": 64, "block_size": 64})
    default = predict_exponents(init, depth=64, q=8e-4)
    found = critical_initialization(init, depth=64, q=8e-4)
    tuned = predict_exponents(found.initialization, depth=64, q=8e-4)
    assert found.kind == "deep enough"
    assert (
        max(abs(tuned.angle), abs(tuned.gradient)) * 64
        <= 0.25
        < max(abs(default.angle), abs(default.gradient)) * 64
    )
    assert "exceed 4 x 64 blocks" in repr(found)


def test_what_is_deep_enough_stays_as_it_is():
    init = INIT.with_values(alpha_attn=0.02, alpha_mlp=0.02)
    assert critical_initialization(init, depth=10).initialization == init


def test_trade_off_where_attention_is_too_strong():
    found = critical_initialization(INIT, vary="alpha_mlp", depth=64)
    assert found.kind == "trade-off"
    assert "not 4" in repr(found)
    e = found.exponents
    front = found.frontier
    assert (np.diff(np.abs(front["angle"])) > 0).all()
    assert (np.diff(np.abs(front["gradient"])) < 0).all()
    assert (
        max(abs(e.angle), abs(e.gradient))
        <= np.maximum(np.abs(front["angle"]), np.abs(front["gradient"])).min()
    )
    # Equal and opposite exponents are the best that can be had: their difference is attention's contraction.
    two = critical_initialization(INIT, vary=("sigma_mlp", "alpha_mlp"), depth=64).exponents
    assert two.angle == pytest.approx(-two.gradient, rel=1e-3)


def test_exact_where_attention_is_off():
    init = INIT.with_values(alpha_attn=0.0, sigma_bias=0.3, activation="erf")
    found = critical_initialization(init, vary=("sigma_mlp", "sigma_bias"), depth=64, margin=1e8)
    assert found.kind == "exact"
    assert abs(found.exponents.angle) < 1e-9
    assert abs(found.exponents.gradient) < 1e-9
    homogeneous = INIT.with_values(activation="relu", alpha_attn=0.0)
    found = critical_initialization(homogeneous, vary="sigma_mlp", depth=64)
    assert found.kind == "exact"
    assert found.initialization == homogeneous


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: critical_initialization(INIT, depth=0), "depth=0"),
        (lambda: critical_initialization(INIT, depth=8, margin=0.0), "margin must be positive"),
        (lambda: critical_initialization(INIT, depth=8, vary=("sigma_attn",)), "known are alpha_attn"),
        (lambda: critical_initialization(INIT, depth=8, vary=()), "one to four"),
        (lambda: critical_initialization(INIT, depth=8, bounds={"sigma_mlp": (2.0, 1.0)}), "increasing"),
        (lambda: critical_initialization(INIT, depth=8, vary="sigma_mlp", bounds={"alpha_mlp": (0.1, 1)}), "varied"),
        (lambda: critical_initialization(INIT, depth=8, q=-1.0), "q must be positive"),
        (lambda: critical_line(INIT, "sigma_mlp", sigma_mlp=[1.0]), "cannot be an axis"),
        (lambda: critical_line(INIT, "sigma_mlp", exponent="norm", alpha_attn=[0.1]), "known are angle, gradient"),
        (lambda: critical_line(INIT.with_values(residual="one"), "sigma_mlp", alpha_attn=[0.1]), "grows with depth"),
    ],
)  # fmt: skip
def test_bad_requests(call, message):
    with pytest.raises(ValueError, match=message):
        call()
