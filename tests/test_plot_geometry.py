"""Figures of token geometry show the numbers they are given, where they belong."""

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from scipy.optimize import fsolve

import trainability as tr
from trainability import plot
from trainability.measure import MeasuredExponents

INIT = tr.Initialization(n_tokens=16, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=2.0)
AXES = {"sigma_mlp": np.linspace(1.0, 5.0, 81), "alpha_attn": np.geomspace(0.05, 0.8, 71)}


pytestmark = pytest.mark.usefixtures("settings_unchanged")


def measured(angle, gradient, *, stderr=(0.01, 0.02), theory=INIT, profile=None):
    exponents = tr.Exponents(angle, gradient, *stderr)
    profile = xr.Dataset() if profile is None else profile
    return MeasuredExponents(angle, gradient, *stderr, at_tokens=exponents, profile=profile, theory=theory)


def exponents_at(sigma_mlp, alpha_attn):
    found = tr.predict_exponents(INIT.with_values(sigma_mlp=float(sigma_mlp), alpha_attn=float(alpha_attn)))
    return found.angle, found.gradient


def drawn_bars(ax):
    """The marker of the measured model and both ends of its bars, (x, y) each."""
    (container,) = ax.containers
    marker, _, (horizontal, vertical) = container
    place = np.array(marker.get_xydata()[0])
    (across,), (up,) = horizontal.get_segments(), vertical.get_segments()
    return place, across[:, 0], up[:, 1]


def test_a_measured_model_stands_where_theory_gives_its_exponents():
    """Found to a hundredth of a pixel's width, the error of linear interpolation, from weights elsewhere."""
    hidden = (3.3, 0.21)
    ax = plot.phase_diagram(tr.phase_diagram(INIT, **AXES), models={"m": measured(*exponents_at(*hidden))})
    place, _, _ = drawn_bars(ax)
    np.testing.assert_allclose(place, hidden, rtol=2e-3)
    cross = next(line for line in ax.lines if line.get_label() == "m: weights")
    assert tuple(cross.get_xydata()[0]) == (2.0, 0.3)


def test_bars_are_two_standard_errors_of_the_place():
    """Beside 400 noisy measurements, each solved for its place: their scatter is known to 3.5 %, and the map is
    linear to a tenth over these errors."""
    hidden, stderr = np.array([3.0, 0.2]), np.array([0.004, 0.006])
    exact = np.array(exponents_at(*hidden))
    rng = np.random.default_rng(0)
    places = [
        fsolve(lambda at, e=noisy: np.array(exponents_at(*at)) - e, hidden)
        for noisy in exact + stderr * rng.standard_normal((400, 2))
    ]
    model = measured(*exact, stderr=stderr)
    _, across, up = drawn_bars(plot.phase_diagram(tr.phase_diagram(INIT, **AXES), models={"m": model}))
    half = np.array([np.ptp(across), np.ptp(up)]) / 4
    np.testing.assert_allclose(half, np.std(places, axis=0), rtol=0.2)


def test_zero_lines_are_the_critical_lines():
    """Contours interpolate linearly between pixels: off by a hundredth of the axis at most."""
    init = INIT.with_values(sigma_bias=0.8)
    axes = {"sigma_mlp": np.linspace(1, 8, 141), "alpha_attn": np.linspace(0.05, 0.6, 101)}
    ax = plot.phase_diagram(tr.phase_diagram(init, **axes))
    lines = [c for c in ax.collections if isinstance(c, mpl.contour.ContourSet)]
    assert len(lines) == 2
    for drawn, exponent in zip(lines, ("angle", "gradient"), strict=True):
        (path,) = drawn.get_paths()
        x, y = path.vertices.T
        exact = tr.critical_line(init, "sigma_mlp", exponent=exponent, alpha_attn=np.sort(y))
        np.testing.assert_allclose(np.sort(x), np.sort(exact.sigma_mlp), atol=0.07)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["angle exponent = 0", "gradient exponent = 0"]


def test_an_exponent_that_vanishes_everywhere_has_no_line():
    ax = plot.phase_diagram(tr.phase_diagram(INIT.with_values(activation="relu"), **AXES))
    assert not [c for c in ax.collections if isinstance(c, mpl.contour.ContourSet)]
    assert ax.get_legend() is None


def test_edge_beside_stable_states_is_that_of_collapse():
    axes = {"sigma_mlp": np.linspace(1.0, 5.0, 21), "alpha_attn": np.linspace(0.1, 0.5, 21)}
    collapsed, stable = (tr.phase_diagram(INIT, at=at, **axes) for at in ("collapsed", "stable"))
    first, second = (
        next(
            c for c in plot.phase_diagram(d).collections if isinstance(c, mpl.contour.ContourSet)
        ).get_paths()[0]
        for d in (collapsed, stable)
    )
    np.testing.assert_allclose(first.vertices, second.vertices, atol=1e-9)


def test_axes_shades_and_depth():
    diagram = tr.phase_diagram(INIT, **AXES)
    figure, given = mpl.pyplot.subplots()
    ax = plot.phase_diagram(diagram, exponent="gradient", depth=16, ax=given)
    assert ax is given
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "log")
    assert ax.get_xlim() == (1.0, 5.0)
    assert ax.get_ylabel().startswith("residual strength of attention")
    shades = next(c for c in ax.collections if isinstance(c, mpl.collections.QuadMesh))
    np.testing.assert_array_equal(shades.get_array(), diagram.gradient.T)
    assert figure.axes[1].get_ylabel() == "gradient exponent (nats per block)"
    assert "over 16 blocks" in ax.get_legend().get_texts()[-1].get_text()


def test_descending_axes_are_the_same_picture():
    backwards = {name: values[::-1] for name, values in AXES.items()}
    model = {"m": measured(*exponents_at(3.3, 0.21))}
    first, second = (
        drawn_bars(plot.phase_diagram(tr.phase_diagram(INIT, **axes), models=model))
        for axes in (AXES, backwards)
    )
    np.testing.assert_allclose(first[0], second[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("axes", "model", "message"),
    [
        ({"sigma_mlp": [1.0, 2.0]}, INIT, "over two hyperparameters"),
        (
            AXES,
            INIT.with_values(sigma_mlp=7.0),
            r"models\['m'\] has sigma_mlp=7, outside the diagram's 1 to 5",
        ),
        (AXES, measured(0.0, 0.0, theory="none at all"), "no place on the diagram: none at all"),
    ],
)
def test_what_cannot_be_drawn(axes, model, message):
    with pytest.raises(ValueError, match=message):
        plot.phase_diagram(tr.phase_diagram(INIT, **axes), models={"m": model})


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    profile = xr.Dataset(
        {
            "similarity": (("draw", "layer"), rng.random((4, 6))),
            "log_gradient": (("draw", "layer"), rng.standard_normal((4, 6)) * 3),
        }
    )
    return measured(0.1, 0.1, profile=profile)


def test_profiles_are_means_with_bands_of_two_standard_errors(model):
    similarity = model.profile.similarity.values
    ax = plot.token_similarity({"mine": model})
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_ydata(), similarity.mean(0))
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    top = (similarity.mean(0) + 2 * similarity.std(0, ddof=1) / 2).max()
    assert corners.max() == pytest.approx(top)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mine"]


def test_gradient_norms_are_roots_of_squares(model):
    ax = plot.gradient_norms({"mine": model})
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.exp(model.profile.log_gradient.mean("draw") / 2))
    assert ax.get_yscale() == "log"


def test_theory_is_dashed_and_has_its_model_s_colour(model):
    predicted = {"mine": tr.propagate(INIT, 5, rho=0.5)}
    ax = plot.token_similarity({"other": model, "mine": model}, predicted=predicted)
    _, mine, theory, _ = ax.lines
    assert theory.get_color() == mine.get_color()
    assert theory.is_dashed()
    np.testing.assert_array_equal(theory.get_ydata(), predicted["mine"].rho)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["other", "mine", "theory"]
