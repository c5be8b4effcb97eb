"""Figures draw what they are given, on the axes they are given, and leave global settings alone."""

import matplotlib as mpl
import numpy as np
import pytest

import trainability as tr
from trainability import plot

pytestmark = pytest.mark.usefixtures("settings_unchanged")


def test_orbit_diagram_puts_iterates_where_they_are():
    diagram = tr.orbit_diagram(tr.product_map, "mu", np.linspace(0.2, 0.8, 50), u0=[0.3, 0.3], n=16)
    ax = plot.orbit_diagram(diagram, "a", bins=100, bounds=(0.0, 1.0))
    image = ax.images[0].get_array()
    rows = np.argmax(~np.ma.getmaskarray(image), axis=0)
    np.testing.assert_allclose(rows / 100, np.sqrt(np.linspace(0.2, 0.8, 50)), atol=0.011)  # one row
    plot.mark_thresholds(ax)
    assert len(ax.lines) == 0  # 0.828 lies beyond 0.8
    ax.set_xlim(0, 2.1)
    plot.mark_thresholds(ax)
    np.testing.assert_allclose([line.get_xdata()[0] for line in ax.lines], list(tr.thresholds().values()))
    assert len(ax.texts) == 5


def test_exponents_are_drawn_with_their_names():
    spectrum = tr.lyapunov_map(tr.product_map, {"mu": [0.5, 1.1, 1.9]}, u0=[0.3, 0.31], n=1280)
    ax = plot.exponents(spectrum, labels=("along", "across"))
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["along", "across"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), spectrum["exponent"].sel(index=0))
    assert ax.get_ylabel().startswith("exponent")


def test_phase_portrait_shows_the_ellipse():
    side = tr.linear_axis(-3, 3, 20)
    ax = plot.phase_portrait(tr.basins(tr.product_map(0.7), tr.Grid(a=side, b=side), n=200), 0.7)
    a, b = ax.lines[0].get_data()
    np.testing.assert_allclose(tr.ellipse_function(0.7, a, b), 0, atol=1e-12)
    assert len(plot.outcome_legend([tr.Outcome.CYCLE])) == 1


def test_trainability_map_uses_the_grid_and_its_scale():
    grid = tr.Grid(lr=tr.log_axis(0.03, 0.6, 12), imbalance=tr.linear_axis(-1, 1, 10))
    trainer = tr.trainers.LinearTransformer(
        tr.random_prompt(12, 4, seed=13), seed=1, init_scale=2.0, n_steps=50
    )
    predicted = tr.predict_linear_transformer(grid, trainer)
    runs = tr.trainability_map(grid, trainer)
    _, given = mpl.pyplot.subplots()
    ax = plot.trainability(runs, predicted=predicted, ax=given)
    assert ax is given
    assert ax.get_xscale() == "log"
    assert ax.get_xlabel() == "learning rate"
    assert ax.get_ylabel() == "initial imbalance"
    np.testing.assert_array_equal(ax.collections[0].get_array().ravel(), runs["status"].T.values.ravel())
    assert len(plot.status_legend()) == 5
    assert len(plot.status_legend(lines=False)) == 3


def test_boundary_distances_are_a_distribution():
    distance = tr.BoundaryDistance(
        pixels=np.array([0.3, 0.1, 0.2]), missed=np.zeros(1), offsets={}, units={}, stretches=np.zeros(3, int)
    )
    line = plot.boundary_distances({"map": distance}).lines[0]
    np.testing.assert_allclose(line.get_xdata(), [0.1, 0.2, 0.3])
    np.testing.assert_allclose(line.get_ydata(), [1 / 3, 2 / 3, 1])


def test_unnamed_hyperparameters_are_spelled_out():
    assert plot.name("weight_decay") == "weight decay"


def test_branches_are_solid_where_stable_and_marked_where_they_meet():
    diagram = tr.bifurcation_diagram(tr.cubic_map, "mu", (0.5, 1.25), start=[0.7], max_period=4)
    ax = plot.branches(diagram)
    solid = [line for line in ax.lines if line.get_linestyle() == "-"]
    x = np.concatenate([line.get_xdata()[np.isfinite(line.get_ydata())] for line in solid])
    assert x.max() <= 1.25
    fixed = next(line for line in solid if np.nanmin(line.get_xdata()) < 0.6)
    stable = fixed.get_xdata()[np.isfinite(fixed.get_ydata())]
    np.testing.assert_allclose([stable.min(), stable.max()], [0.5, 1.0], atol=1e-9)
    flips = next(line for line in ax.lines if line.get_label() == "flip")
    np.testing.assert_allclose(np.unique(flips.get_xdata()), [1.0, np.sqrt(5) - 1], atol=1e-12)


def test_cobweb_climbs_between_graph_and_diagonal():
    ax = plot.cobweb(tr.cubic_map(0.5), 0.2, n=5)
    x, y = ax.lines[2].get_data()
    np.testing.assert_allclose(y[1::2], tr.cubic_map(0.5)(x[1::2, None])[:, 0])
    np.testing.assert_allclose(x[::2], y[::2])
    with pytest.raises(ValueError, match="one variable"):
        plot.cobweb(tr.product_map(), 0.1)


@pytest.mark.parametrize("colored", ["outcome", "period", "rate"])
def test_parameter_plane_draws_what_was_found(colored):
    found = tr.basins(tr.cubic_map(), {"mu": [0.5, 1.1, 1.9, 2.5], "x": [0.1, 0.3, 0.4]}, n=500)
    ax = plot.parameter_plane(found, colored)
    values = np.ma.filled(ax.collections[0].get_array().astype(float), np.nan)
    expected = found[colored].where(found["period"] > 0) if colored == "period" else found[colored]
    np.testing.assert_allclose(values, expected.T)
    with pytest.raises(ValueError, match="colored='taste'"):
        plot.parameter_plane(found, "taste")
