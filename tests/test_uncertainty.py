"""Uncertainty exponents against exact shares of pairs, and against the basins of the product map."""

import numpy as np
import pytest
from scipy import stats

from trainability import basin_uncertainty_exponent
from trainability.boundaries import outcome_codes
from trainability.known_sets import koch_snowflake, straight_line, weierstrass_graph
from trainability.uncertainty import map_uncertainty, pair_changes, uncertainty_exponent


def test_pairs_are_counted_as_defined():
    labels = np.random.default_rng(0).integers(0, 3, (40, 27)).astype(float)
    labels[labels == 2] = np.nan
    changed, known = pair_changes(outcome_codes(labels), np.array([1.0, 4.0, 9.0]))
    for k, e in enumerate((1, 4, 9)):
        for axis, (a, b) in enumerate(((labels[e:], labels[:-e]), (labels[:, e:], labels[:, :-e]))):
            both = np.isfinite(a) & np.isfinite(b)
            assert known[axis, k].sum() == both.sum()
            assert changed[axis, k].sum() == (both & (a != b)).sum()


def test_disc_in_a_square_is_exact():
    """A boundary of length L makes 2 ε L / (π A) of all pairs uncertain: directions are uniform (Crofton).

    Four binomial standard errors; the curvature takes off (ε/r)² at most, far less.
    """
    starts = np.random.default_rng(0).uniform(-1, 1, (200_000, 2))
    found = uncertainty_exponent(lambda u: np.hypot(*u.T) < 0.6, starts, [0.003, 0.01, 0.03])
    exact = 2 * found.offsets * (2 * np.pi * 0.6) / (np.pi * 4)
    np.testing.assert_array_less(abs(found.fractions - exact), 4 * found.fraction_errors)
    assert found.value == pytest.approx(1, abs=4 * found.stderr)


def test_stated_error_is_the_scatter_of_repeats():
    """Between independent draws the scatter equals the mean stated error; 40 repeats know it to 11 %, 4 σ."""
    rng = np.random.default_rng(1)

    def half_plane(u):
        return u[:, 0] + 0.3 * u[:, 1] > 0.1

    repeats = [
        uncertainty_exponent(half_plane, rng.uniform(-1, 1, (10_000, 2)), [0.02, 0.05, 0.1, 0.2], seed=s)
        for s in range(40)
    ]
    scatter = np.std([r.value for r in repeats], ddof=1)
    assert scatter == pytest.approx(np.mean([r.stderr for r in repeats]), rel=0.45)


def test_exponent_in_one_and_three_dimensions():
    rng = np.random.default_rng(2)
    for d in (1, 3):
        found = uncertainty_exponent(
            lambda u: (u**2).sum(axis=1) < 0.5, rng.uniform(-1, 1, (60_000, d)), [0.005, 0.01, 0.02, 0.04]
        )
        assert found.dimension == pytest.approx(d - 1, abs=4 * found.stderr)


def mirror_basin(u, mu=0.5, n=300):
    """Sign that a + b settles to on the product map, from angle and radius on the invariant ellipse (radius 1).

    Starts beyond the ellipse stand for those as far inside it, so that it is no boundary itself.
    """
    angle, radius = u.T
    radius = 1 - np.abs(1 - radius)
    half_sum, half_difference = np.sqrt(2 + mu) * np.cos(angle), np.sqrt(2 - mu) * np.sin(angle)
    a, b = radius * (half_sum + half_difference), radius * (half_sum - half_difference)
    for _ in range(n):
        e = a * b - mu
        a, b = a - e * b, b - e * a
    return a + b > 0


def test_basins_of_the_product_map():
    """theory/05 predicts 0.672, heuristically; its own fits deviate by up to 0.006.

    The basins interleave towards the ellipse only, so the starts lie in a strip beside it, up to it.
    """
    rng = np.random.default_rng(3)
    starts = np.column_stack([rng.uniform(0, 2 * np.pi, 200_000), rng.uniform(0.99, 1, 200_000)])
    found = uncertainty_exponent(mirror_basin, starts, np.geomspace(1e-7, 1e-4, 7))
    assert found.stderr < 0.02
    assert found.value == pytest.approx(basin_uncertainty_exponent(0.5), abs=3 * found.stderr + 0.006)


@pytest.mark.parametrize(
    ("draw", "dimension"),
    [
        (straight_line, 1.0),
        (koch_snowflake, np.log(4) / np.log(3)),
        (lambda n, seed: weierstrass_graph(n, seed, dimension=1.5), 1.5),
    ],
)
def test_maps_of_known_sets(draw, dimension):
    """Within 0.06 at 513 pixels: the largest deviation of a single placement in the calibration of these sets."""
    for seed in range(3):
        found = map_uncertainty(draw(513, seed), [1, 2, 3, 4, 6, 8, 11, 16])
        assert found.dimension == pytest.approx(dimension, abs=0.06)


def test_the_rougher_axis_is_taken():
    """A graph is smooth up and down, rough along: its dimension is that along, however the map is turned."""
    labels = weierstrass_graph(513, 0, dimension=1.8)
    along, across = (map_uncertainty(x, [1, 2, 4, 8, 16]).dimension for x in (labels, labels.T))
    assert along == across > 1.7


def test_independent_noise_has_exponent_zero():
    found = map_uncertainty(np.random.default_rng(0).random((400, 500)) < 0.3, [1, 2, 4, 8])
    assert abs(found.value) < stats.norm.ppf(0.9999) * found.stderr
    assert found.fractions == pytest.approx(2 * 0.3 * 0.7, rel=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: uncertainty_exponent(lambda u: u[:, 0] > 0, s[:10], [0.1, 0.2]), "n at least 80"),
        (lambda s: uncertainty_exponent(lambda u: u[:, 0] > 0, s, [0.2, 0.1]), "increase"),
        (lambda s: uncertainty_exponent(lambda u: u[:, 0] > 0, s, [0.1]), "at least two"),
        (lambda s: uncertainty_exponent(lambda u: u[:, 0] > 0, s, [1e-17, 1e-3]), "ulp"),
        (lambda s: uncertainty_exponent(lambda u: u[:, 0] > 9, s, [1e-3, 1e-2]), "take"),
        (lambda s: uncertainty_exponent(lambda u: u, s, [1e-3, 1e-2]), "label gave shape"),
        (lambda s: map_uncertainty(np.zeros((20, 20)), [1, 2]), "only 0 pairs"),
        (lambda s: map_uncertainty(np.eye(20), [1, 20]), "from 1 to 19"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.random.default_rng(0).uniform(-1, 1, (200, 2)))
