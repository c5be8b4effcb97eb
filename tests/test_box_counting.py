"""Box counts, lacunarity and correlation sums of sets where they are exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainability.box_counting import box_counts, correlation_sums, lacunarity


def carpet(level):
    cells = np.ones((1, 1), bool)
    for _ in range(level):
        full, hole = cells, np.zeros_like(cells)
        cells = np.block([[full, full, full], [full, hole, full], [full, full, full]])
    return cells


def test_carpet_is_counted_exactly():
    sizes = 3 ** np.arange(6)
    np.testing.assert_array_equal(box_counts(carpet(5), sizes), 8.0 ** np.arange(5, -1, -1))


@pytest.mark.parametrize("shape", [(64, 64), (100, 70), (37, 211)])
def test_lines_and_planes_are_exact_at_any_size_of_frame(shape):
    """A line along an axis takes length / s boxes, the plane h w / s², ragged edges or not."""
    h, w = shape
    sizes = np.array([1, 2, 3, 5, 8, 16])
    line = np.zeros(shape, bool)
    line[h // 2] = True
    np.testing.assert_allclose(box_counts(line, sizes), w / sizes, rtol=1e-12)
    np.testing.assert_allclose(box_counts(np.ones(shape, bool), sizes), h * w / sizes**2, rtol=1e-12)


@settings(max_examples=60, deadline=None)
@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.integers(1, 6))
def test_counts_are_the_least_over_placements(cells, size):
    """Oracle: boxes counted one by one at every shift, those that stick out by their share inside."""
    size = min(size, max(cells.shape))
    h, w = cells.shape
    least = np.inf
    for a in range(size):
        for b in range(size):
            count = 0.0
            for i in range(-a, h, size):
                for j in range(-b, w, size):
                    box = cells[max(i, 0) : i + size, max(j, 0) : j + size]
                    count += box.any() * box.size / size**2
            least = min(least, count)
    assert box_counts(cells, [size])[0] == pytest.approx(least, abs=1e-12)


def test_more_placements_never_count_more():
    cells = np.random.default_rng(0).random((90, 120)) < 0.02
    few, many = (box_counts(cells, [2, 5, 16, 32], placements=p) for p in (1, 8))
    assert (many <= few).all()
    assert (many < few).any()


def test_lacunarity_of_independent_cells():
    """For cells set with probability p, E[M²]/E[M]² = 1 + (1 - p)/(p s²); 4 standard errors by a second draw."""
    p, sizes = 0.1, np.array([1, 2, 4, 8])
    draws = np.array([lacunarity(np.random.default_rng(s).random((256, 256)) < p, sizes) for s in range(12)])
    error = draws.std(axis=0, ddof=1) / np.sqrt(len(draws))
    np.testing.assert_array_less(abs(draws.mean(axis=0) - 1 - (1 - p) / (p * sizes**2)), 4 * error)


def test_correlation_sums_match_pairs_counted_one_by_one():
    cells = np.random.default_rng(1).random((40, 30)) < 0.05
    points = np.argwhere(cells)
    lag = np.abs(points[:, None] - points[None])
    weight = (40 / (40 - lag[..., 0])) * (30 / (30 - lag[..., 1]))
    distance = np.hypot(*np.moveaxis(lag, -1, 0))
    for r, found in zip([1, 3, 7.5], correlation_sums(cells, [1, 3, 7.5]), strict=True):
        near = (distance <= r) & (distance > 0)
        assert found == pytest.approx(weight[near].sum() / len(points), rel=1e-12)


def test_correlation_dimension_of_line_and_plane():
    """Exponents 1 and 2; lattice points in a disc follow the area to a few per cent from radius 8."""
    radii = np.array([8.0, 16.0, 32.0])
    line, plane = np.zeros((129, 129), bool), np.ones((129, 129), bool)
    line[64] = True
    for cells, truth, tolerance in ((line, 1, 1e-9), (plane, 2, 0.02)):
        slope = np.polyfit(np.log(radii), np.log(correlation_sums(cells, radii)), 1)[0]
        assert slope == pytest.approx(truth, abs=tolerance)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: box_counts(np.ones((4, 4)), [1]), "must be bool"),
        (lambda: box_counts(np.ones((4, 4), bool), [1.5]), "whole numbers"),
        (lambda: box_counts(np.ones((4, 4), bool), [8]), "between 1 and 4"),
        (lambda: box_counts(np.ones((4, 4), bool), [1], placements=0), "placements"),
        (lambda: lacunarity(np.zeros((4, 4), bool), [1]), "no cell"),
        (lambda: correlation_sums(np.zeros((9, 9), bool), [1]), "no cell"),
        (lambda: correlation_sums(np.ones((9, 9), bool), [1, 8]), "half the shorter side"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
