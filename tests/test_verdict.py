"""Verdicts on known sets, noise, bad maps and replicates; the shipped calibration says the rest."""

import numpy as np
import pytest
import xarray as xr

from trainability import Grid, Status, log_axis
from trainability._contract import STATUS_ATTRS
from trainability.known_sets import (
    brownian_frontier,
    circle,
    iid_noise,
    jittered,
    koch_snowflake,
    percolation_hull,
    product_map_ellipse,
    sierpinski_carpet,
    straight_line,
    takagi_graph,
    weierstrass_graph,
)
from trainability.verdict import fractal_dimension

X, Y = np.indices((300, 300)) / 300


@pytest.mark.parametrize("draw", [straight_line, circle, product_map_ellipse])
def test_smooth_boundaries(draw):
    for seed in range(5):
        found = fractal_dimension(draw(257, seed))
        assert found.verdict == "smooth"
        assert found.interval[0] <= 1 <= found.interval[1]


@pytest.mark.parametrize(
    ("draw", "dimension"),
    [
        (koch_snowflake, np.log(4) / np.log(3)),
        (lambda n, s: weierstrass_graph(n, s, dimension=1.3), 1.3),
        (lambda n, s: takagi_graph(n, s, dimension=1.5), 1.5),
        (percolation_hull, 7 / 4),
        (brownian_frontier, 4 / 3),
        (sierpinski_carpet, np.log(8) / np.log(3)),
    ],
)
def test_fractal_boundaries(draw, dimension):
    """At half the calibrated resolution; 95 % intervals may miss one placement of four, not two."""
    found = [fractal_dimension(draw(513, seed)) for seed in range(4)]
    assert [f.verdict for f in found] == ["fractal"] * 4
    assert sum(f.interval[0] <= dimension <= f.interval[1] for f in found) >= 3


@pytest.mark.parametrize("amplitude", [0.002, 0.01, 0.02, 0.1])
def test_jittered_boundaries_are_never_fractal(amplitude):
    """Flat along an axis they are noise at any amplitude; tilted, they may be too few pixels to say."""
    rng = np.random.default_rng(0)
    for seed in range(6):
        assert fractal_dimension(jittered(Y - 0.5, amplitude, seed)).verdict == "noise"
        angle = rng.uniform(0, 2 * np.pi)
        tilted = np.cos(angle) * (X - 0.5) + np.sin(angle) * (Y - 0.5)
        assert fractal_dimension(jittered(tilted, amplitude, seed)).verdict != "fractal"


def test_independent_noise_is_noise():
    for share in (0.5, 0.25, 0.02):
        assert fractal_dimension(iid_noise(257, 0, share=share)).verdict == "noise"


def test_flips_on_a_fractal_are_not_measured_as_its_dimension():
    """1 % of flipped pixels lift the dimension of Koch's curve to 1.8; the rise towards the pixel gives it away."""
    found = fractal_dimension(koch_snowflake(1025, 0) ^ iid_noise(1025, 1, share=0.01))
    assert found.finest > 1.6
    assert found.verdict == "unresolved"


def test_replicate_decides_between_noise_and_structure_below_the_pixel():
    noise = iid_noise(257, 0)
    assert fractal_dimension(noise, replicate=iid_noise(257, 1)).verdict == "noise"
    same = fractal_dimension(noise, replicate=noise)
    assert (same.verdict, same.flip_rate) == ("unresolved", 0.0)
    assert "finer than the pixel" in same.reason
    # One in five pixels drawn again flips one in ten, a fifth of the neighbours that differ.
    part = np.where(np.random.default_rng(2).random((257, 257)) < 0.2, iid_noise(257, 1), noise)
    found = fractal_dimension(noise, replicate=part)
    assert found.verdict == "unresolved"
    assert "flips 20% as many" in found.reason


def test_replicate_that_flips_part_of_the_boundary_leaves_it_unresolved():
    rough = weierstrass_graph(513, 0, dimension=1.5)
    neighbours = fractal_dimension(rough).neighbour_rate
    some = iid_noise(513, 3, share=0.3 * neighbours)
    assert fractal_dimension(rough, replicate=rough ^ some).verdict == "unresolved"
    assert fractal_dimension(rough, replicate=rough).verdict == "fractal"


def test_one_outcome_is_not_applicable_and_nothing_known_unresolved():
    assert fractal_dimension(np.ones((64, 80))).verdict == "not applicable"
    assert fractal_dimension(np.full((64, 80), np.nan)).verdict == "unresolved"
    single = np.zeros((64, 64))
    single[30, 30] = 1
    assert fractal_dimension(single).verdict == "unresolved"


def test_unknown_pixels_are_passed_over_and_too_many_are_said():
    labels = koch_snowflake(513, 0).astype(float)
    lost = np.random.default_rng(0).random(labels.shape)
    few = fractal_dimension(np.where(lost < 0.03, np.nan, labels))
    assert few.verdict == "fractal"
    assert few.value == pytest.approx(fractal_dimension(labels).value, abs=0.01)  # 3 % fewer pairs
    assert few.unknown == pytest.approx(0.03, abs=0.002)
    assert fractal_dimension(np.where(lost < 0.08, np.nan, labels)).verdict == "unresolved"


@pytest.mark.parametrize("shape", [(300, 700), (257, 130), (64, 64)])
def test_any_shape_will_do(shape):
    x, y = np.indices(shape)
    found = fractal_dimension(0.6 * x + y < 0.8 * shape[1])
    assert found.verdict == "smooth"
    assert found.value == pytest.approx(1, abs=0.04)  # at 64 pixels offsets are up to an eighth of the side


def test_value_does_not_depend_on_the_names_of_outcomes_nor_on_turning_the_map():
    labels = weierstrass_graph(257, 1, dimension=1.5)
    value = fractal_dimension(labels).value
    for other in (~labels, labels.T, labels[::-1], labels * 7.0, labels.astype(np.uint8)):
        assert fractal_dimension(other).value == pytest.approx(
            value, abs=0.01
        )  # blocks and axes change places


def test_map_of_runs_and_pixels_that_rounding_merges():
    grid = Grid(lr_in=log_axis(1e-3, 1e3, 128), lr_out=log_axis(1e-3, 1e3, 128))
    x, y = np.meshgrid(np.log(grid["lr_in"]), np.log(grid["lr_out"]), indexing="ij")
    status = np.where(x + y > 0.1, Status.DIVERGED, Status.CONVERGED).astype(np.int8)
    runs = xr.Dataset(
        {"status": (tuple(grid), status, STATUS_ATTRS)}, coords=grid.coords(), attrs={"dtype": "float32"}
    )
    found = fractal_dimension(runs)
    assert found.verdict == "smooth"
    assert found.ulp > 1e5
    near = runs.assign_coords(lr_in=1 + 1e-15 * np.arange(128.0), lr_out=1 + 1e-15 * np.arange(128.0))
    assert "ulp" in fractal_dimension(near.assign_attrs(dtype="float64")).reason


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fractal_dimension(np.eye(40)), "at least 64"),
        (lambda: fractal_dimension(np.eye(80), offsets=[1, 2]), "at least four"),
        (lambda: fractal_dimension(np.eye(80), offsets=[1, 2, 4, 80]), "from 1 to 79"),
        (lambda: fractal_dimension(np.eye(80), replicate=np.eye(70)), "replicate has shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
