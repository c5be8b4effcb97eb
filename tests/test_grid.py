import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainability import Axis, Grid, linear_axis, log_axis


def test_axes_hold_pixel_centres():
    np.testing.assert_allclose(linear_axis(-1, 1, 4).values, [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(np.log10(log_axis(1e-3, 1e5, 4).values), [-2, 0, 2, 4], atol=1e-12)
    assert log_axis(1, 10, 2).unit == "decades"
    assert linear_axis(0, 1, 2).unit == ""
    np.testing.assert_allclose(log_axis(1, 100, 2).positions([10.0]), [1.0])


@given(
    shape=st.lists(st.integers(1, 7), min_size=1, max_size=3),
    tile=st.lists(st.integers(1, 9), min_size=3, max_size=3),
)
def test_tiles_cover_the_grid_once_and_pixels_are_its_coordinates(shape, tile):
    grid = Grid(**{f"x{i}": linear_axis(0, 1, n) for i, n in enumerate(shape)})
    seen = np.zeros(grid.shape, int)
    values = np.full((*grid.shape, len(shape)), np.nan)
    for cut in grid.tiles(tuple(tile[: len(shape)])):
        seen[cut] += 1
        pixels = grid.pixels(cut)
        values[cut] = np.stack(list(pixels.values()), -1).reshape((*seen[cut].shape, len(shape)))
    assert (seen == 1).all()
    mesh = np.stack(np.meshgrid(*grid.values(), indexing="ij"), -1)
    np.testing.assert_array_equal(values, mesh)


def test_resolution_guard_knows_its_dtype():
    close = Axis(0.1 + 1e-11 * np.arange(150))
    Grid(lr=close).check_resolution("float64")
    with pytest.raises(ValueError, match=r"lr: neighbouring values 0.1 and 0.1 are 0 ulp apart in float32"):
        Grid(lr=close).check_resolution("float32")
    with pytest.raises(ValueError, match="need 4"):
        Grid(lr=1.0 + np.spacing(1.0) * 2 * np.arange(5)).check_resolution("float64")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Grid(), "at least one axis"),
        (lambda: Grid(lr=[]), "lr: values of shape"),
        (lambda: Grid(lr=[2.0, 1.0]), "lr: axis must increase strictly; 2.0 is followed by 1.0"),
        (lambda: Grid(lr=[1.0, np.inf]), "lr must be finite; found inf"),
        (lambda: linear_axis(1, 0, 4), "empty or reversed"),
        (lambda: linear_axis(0, np.nan, 4), "must be finite"),
        (lambda: linear_axis(0, 1, 0), "n=0 pixels"),
        (lambda: log_axis(-1, 1, 4), "low=-1 must be positive"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
