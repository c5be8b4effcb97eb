import numpy as np
import pytest

from trainability.geometry import predict_exponents
from trainability.initialization import Initialization
from trainability.phase_diagrams import phase_diagram

INIT = Initialization(
    n_tokens=16, alpha_attn=0.4, alpha_mlp=0.6, sigma_attn=1.5, sigma_mlp=2.0, activation="erf"
)
AXES = {"sigma_mlp": np.linspace(0.5, 6.0, 12), "alpha_attn": np.linspace(0.0, 0.9, 7)}


@pytest.mark.parametrize("options", [{}, {"residual": "normed"}, {"residual": "one"}, {"causal": True}])
def test_every_pixel_is_the_scalar_prediction(options):
    init = INIT.with_values(**options)
    depth = 12 if options.get("residual") == "one" else None
    diagram = phase_diagram(init, depth=depth, **AXES)
    assert diagram.angle.dims == ("sigma_mlp", "alpha_attn")
    for i, j in np.random.default_rng(0).integers((12, 7), size=(10, 2)):
        point = init.with_values(sigma_mlp=AXES["sigma_mlp"][i], alpha_attn=AXES["alpha_attn"][j])
        exact = predict_exponents(point, depth=depth)
        assert diagram.angle.values[i, j] == pytest.approx(exact.angle, rel=1e-12, abs=1e-14)
        assert diagram.gradient.values[i, j] == pytest.approx(exact.gradient, rel=1e-12, abs=1e-14)
        assert diagram.phase.values[i, j] == (exact.angle > 0)


@pytest.mark.parametrize("options", [{}, {"residual": "normed"}, {"activation": "tanh"}, {"norm": "post"}])
def test_stable_states_are_those_of_the_scalar_search(options):
    init = INIT.with_values(**options)
    axes = {"sigma_mlp": [1.0, 3.0, 5.0], "alpha_attn": [0.2, 0.5]}
    diagram = phase_diagram(init, at="stable", **axes)
    for i, sigma_mlp in enumerate(axes["sigma_mlp"]):
        for j, alpha_attn in enumerate(axes["alpha_attn"]):
            exact = predict_exponents(
                init.with_values(sigma_mlp=sigma_mlp, alpha_attn=alpha_attn), at="stable"
            )
            pixel = diagram.isel(sigma_mlp=i, alpha_attn=j)
            # Cubic interpolation of the tables, and differences of step 1e-4 for the relaxation rate.
            assert float(pixel.angle) == pytest.approx(exact.angle, abs=1e-6)
            assert float(pixel.gradient) == pytest.approx(exact.gradient, abs=1e-6)
            assert (float(pixel.epsilon) > 0) == (int(pixel.phase) == 1)


def test_coexistence_under_strong_attention():
    init = Initialization(n_tokens=64, alpha_attn=0.7, alpha_mlp=0.9, sigma_attn=12.0, sigma_mlp=3.6)
    diagram = phase_diagram(init, at="stable", sigma_mlp=[1.0, 3.6, 6.0])
    np.testing.assert_array_equal(diagram.phase, [0, 2, 1])
    assert diagram.epsilon[0] == 0
    assert diagram.angle_collapsed[1] < 0 < diagram.epsilon[1]


def test_number_of_tokens_and_attention_gain_as_axes():
    diagram = phase_diagram(INIT, at="stable", n_tokens=[4, 16], sigma_attn=[0.5, 1.0, 2.0])
    assert dict(diagram.sizes) == {"n_tokens": 2, "sigma_attn": 3}
    exact = predict_exponents(INIT.with_values(n_tokens=4, sigma_attn=2.0), at="stable")
    assert float(diagram.gradient[0, 2]) == pytest.approx(exact.gradient, abs=1e-6)
    collapsed = phase_diagram(INIT, n_tokens=[4, 16], sigma_attn=[0.5, 1.0, 2.0])
    assert np.ptp(collapsed.angle.values) == 0  # at collapse both are without effect


def test_orthogonal_tokens_stay_without_attention():
    diagram = phase_diagram(INIT.with_values(alpha_attn=0.0), at="stable", sigma_mlp=[2.0])
    assert float(diagram.epsilon[0]) == 1.0


@pytest.mark.parametrize("at", ["collapsed", "stable"])
def test_a_dying_stream_is_one_pixel_and_not_an_error(at):
    diagram = phase_diagram(
        INIT.with_values(sigma_value=0.0), at=at, sigma_mlp=[0.0, 1.0], alpha_mlp=[0.3, 0.6]
    )
    np.testing.assert_array_equal(diagram.phase.values[0], [-1, -1])
    assert np.isnan(diagram.angle.values[0]).all()
    assert np.isfinite(diagram.angle.values[1]).all()
    with pytest.raises(ValueError, match="dies out"):
        phase_diagram(INIT.with_values(sigma_value=0.0), at=at, sigma_mlp=[0.0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "at least one axis"),
        ({"width": [1.0]}, "hyperparameter 'width' is unknown"),
        ({"alpha_attn": [0.5, 1.5]}, "use residual='one'"),
        ({"sigma_mlp": [1.0, np.nan]}, "sigma_mlp=nan"),
        ({"sigma_mlp": [[1.0]]}, "line of values"),
        ({"n_tokens": [2.5, 3.0]}, "n_tokens=2.5"),
        ({"sigma_mlp": [1.0], "at": "top"}, "known are collapsed, stable"),
    ],
)
def test_bad_requests(options, message):
    with pytest.raises(ValueError, match=message):
        phase_diagram(INIT, **options)


def test_what_has_no_stable_state_is_refused():
    with pytest.raises(ValueError, match="propagate_gram"):
        phase_diagram(INIT.with_values(causal=True), at="stable", sigma_mlp=[1.0])
    with pytest.raises(ValueError, match="grows with depth"):
        phase_diagram(INIT.with_values(residual="one"), sigma_mlp=[1.0])
