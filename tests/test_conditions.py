"""The published conditions: their windows, modes and zooms, and the reference's own draw."""

import numpy as np
import pytest

from trainability import Status, boundary_point, trainability_map
from trainability.conditions import CONDITIONS, published_condition, reference_draw
from trainability.trainers import MLP


@pytest.mark.parametrize("name", CONDITIONS)
def test_full_window_holds_a_boundary(name):
    """The axes are hyperparameters of the trainer, and some runs converge while others do not."""
    grid, trainer = published_condition(name).full(6)
    runs = trainability_map(grid, trainer)
    converged = runs["tail_ratio"].values < 1
    assert 0 < converged.sum() < converged.size


def test_published_numbers():
    assert [c.dimension for c in CONDITIONS.values()] == [1.66, 1.20, 1.17, 1.55, 1.41, 1.98]
    sizes = {name: (c.trainer.n_data, c.trainer.n_inputs, c.trainer.width) for name, c in CONDITIONS.items()}
    assert sizes["tanh"] == sizes["relu"] == sizes["mini-batch"] == (272, 16, 16)  # as many rows as weights
    assert sizes["identity"] == (16, 16, 16)
    assert sizes["one point"] == (1, 16, 16)


def test_zoom_is_centred_on_its_point_and_as_wide_as_asked():
    condition = published_condition("identity")
    low, high = ({"lr_in": 10.0, "lr_out": rate} for rate in condition.window["lr_out"])
    point = boundary_point(condition.trainer, low, high)
    grid, trainer = condition.zoom(point, pixels=8, half_width=1e-3)
    for name in grid:
        np.testing.assert_allclose(np.log10(grid[name]).mean(), np.log10(point[name]), atol=1e-12)
        assert np.ptp(np.log10(grid[name])) == pytest.approx(2e-3 * 7 / 8)  # between the outer centres
    converged = trainability_map(grid, trainer)["tail_ratio"].values < 1
    assert 0 < converged.sum() < converged.size


def test_runs_that_do_not_converge_have_diverged():
    """The published rule knows two outcomes: what `MLP` leaves undecided lies on the other side of the boundary."""
    trainer = published_condition("mini-batch").trainer
    losses = {"tail_ratio": np.array([0.5, 1.0, 2.0, 1e6]), "diverged_step": np.array([-1, -1, -1, 7])}
    np.testing.assert_array_equal(trainer.status(losses), [1, 2, 2, 2])
    np.testing.assert_array_equal(MLP.status(trainer, losses), [1, 3, 3, 2])


@pytest.mark.parametrize("name", ["identity", "one point"])  # the cheap ones
def test_zoom_without_a_point_holds_a_boundary_of_the_reference_draw(name):
    pytest.importorskip("jax")
    condition = published_condition(name)
    grid, trainer = condition.zoom(pixels=12)
    for axis, value in condition.zoom_point.items():
        assert np.log10(grid[axis]).mean() == pytest.approx(np.log10(value), abs=1e-12)
    np.testing.assert_array_equal(trainer.weights[0], reference_draw(condition.trainer).weights[0])
    converged = trainability_map(grid, trainer)["status"].values == Status.CONVERGED
    assert 0 < converged.sum() < converged.size


def test_offset_modes():
    assert published_condition("offset").trainer.offset_mode == "per_step"
    assert published_condition("offset", offset_mode="once").trainer.offset_mode == "once"
    with pytest.raises(ValueError, match="'tanh' has no offset"):
        published_condition("tanh", offset_mode="once")


def test_bad_input():
    with pytest.raises(ValueError, match="known are tanh, relu"):
        published_condition("gelu")
    with pytest.raises(ValueError, match="a value for each axis, offset, lr"):
        published_condition("offset").zoom({"lr_in": 1.0, "lr_out": 1.0})
    with pytest.raises(ValueError, match="half_width=0"):
        published_condition("relu").zoom({"lr_in": 1.0, "lr_out": 1.0}, half_width=0)


def test_reference_draw():
    """First weight of the published run, read off by running its notebook in the old layout of JAX."""
    pytest.importorskip("jax")
    drawn = reference_draw(published_condition("mini-batch").trainer)
    assert drawn.weights[0][0, 0] == pytest.approx(1.802035, abs=5e-7)
    assert drawn.data[0].shape == (272, 16)
    assert drawn.batches.shape == (500, 16)
    assert drawn.weights[1].shape == (16, 1)
