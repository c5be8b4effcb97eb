"""Predictions by the sign of a score: best thresholds and explained boundaries where they are known."""

import numpy as np
import pytest
import xarray as xr

from trainability import Grid, compare, log_axis
from trainability._threshold_maps import (
    best_threshold,
    decades_a_pixel,
    explained_table,
    near_observed,
    near_predicted,
    threshold_map,
)

GRID = Grid(x=log_axis(1e-2, 1, 40), y=log_axis(1e-2, 1, 40))  # 0.05 decades a pixel


def column(edge):
    """Score that is zero at a value of x, whatever y; in decades."""
    x = np.broadcast_to(np.log10(GRID["x"] / edge)[:, None], GRID.shape)
    return xr.DataArray(x, dims=("x", "y"), coords=GRID.coords())


def test_best_threshold_is_the_one_that_made_the_map():
    values = np.random.default_rng(0).random((30, 30))
    threshold, agreement = best_threshold(values, values > 0.7)
    assert agreement == 1
    assert threshold == np.sort(values[values > 0.7])[0]


def test_best_threshold_may_lie_beyond_all_values():
    assert best_threshold(np.arange(4.0), np.zeros(4, bool))[1] == 1


@pytest.mark.parametrize(("edge", "share"), [(0.1 * 10**0.2, 1.0), (0.1 * 10**0.3, 0.0)])
def test_a_line_explains_one_beside_it_up_to_a_quarter_of_a_decade(edge, share):
    one, other = (threshold_map(column(at), ("low", "high")) for at in (0.1, edge))
    found = compare(one, other, outcome="high", score="boundary")
    pixel = decades_a_pixel(found.wrong["x"])
    assert pixel == pytest.approx(0.05)
    assert near_predicted(found.boundary, pixel)[0] == share
    assert near_observed(found.boundary, pixel) == share
    (row,) = explained_table({"a": found}, "line").to_dict("records")
    assert row["line"] == "a"
    assert row["median distance, decades"].startswith(f"{np.log10(edge / 0.1):.2f} ")
