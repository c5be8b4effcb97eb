"""Basin entropy against its formula, and the test of log 2."""

import numpy as np
import pytest

from trainability.entropy import basin_entropy
from trainability.known_sets import koch_snowflake


def test_entropy_follows_its_formula_box_by_box():
    labels = np.random.default_rng(0).integers(0, 4, (23, 31))
    found, values = basin_entropy(labels, size=4), []
    for i in range(0, 20, 4):
        for j in range(0, 28, 4):
            share = np.bincount(labels[i : i + 4, j : j + 4].ravel()) / 16
            values.append(-(share[share > 0] * np.log(share[share > 0])).sum())
    assert found.value == pytest.approx(np.mean(values), rel=1e-12)
    assert found.n_boxes == found.n_boundary == 35


def test_two_outcomes_never_pass_and_many_interleaved_ones_do():
    assert not basin_entropy(koch_snowflake(257, 0)).is_fractal
    thirds = np.random.default_rng(0).integers(0, 3, (200, 200))
    found = basin_entropy(thirds)
    assert found.is_fractal
    assert found.boundary_value == pytest.approx(np.log(3) - 2 / (2 * 25), abs=0.01)  # less (k - 1) / 2n


def test_one_outcome_has_no_boundary_value():
    found = basin_entropy(np.zeros((20, 20)))
    assert found.value == 0
    assert np.isnan(found.boundary_value)
    assert not found.is_fractal


def test_boxes_with_unknown_pixels_are_left_out():
    labels = np.zeros((20, 20))
    labels[0, 0] = np.nan
    assert basin_entropy(labels, size=5).n_boxes == 15
    with pytest.raises(ValueError, match="no known box"):
        basin_entropy(np.full((20, 20), np.nan))
    with pytest.raises(ValueError, match="size=1"):
        basin_entropy(labels, size=1)
