"""Areas under ROC curves and rank correlations against scipy, with ties, and the width of their intervals."""

import numpy as np
import pytest
from scipy import stats

from trainability._ranking import auc, rank_correlation


def numbers(seed, digits):
    """Two correlated arrays, rounded so that there are ties."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((12, 9))
    return x.round(digits), (x + rng.standard_normal(x.shape)).round(digits)


@pytest.mark.parametrize("digits", [0, 8])
def test_auc_is_mann_whitney_s(digits):
    x, y = numbers(0, digits)
    seen = y > 0.5
    expected = stats.mannwhitneyu(x[seen], x[~seen]).statistic / (seen.sum() * (~seen).sum())
    assert auc(x, seen, 4)[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("digits", [0, 8])
def test_rank_correlation_is_spearman_s(digits):
    x, y = numbers(1, digits)
    assert rank_correlation(x, y, 4)[0] == pytest.approx(stats.spearmanr(x.ravel(), y.ravel())[0], rel=1e-12)


def test_interval_of_independent_pixels_is_that_of_theory():
    """Of 2 n independent pixels, half of them seen, without order: the variance of the area is (2 n + 1) / (12 n²).

    999 resamples know a standard error to 2 %; one draw of 400 pixels moves it by some 5 % more.
    """
    rng = np.random.default_rng(2)
    x, seen = rng.random((20, 20)), rng.permutation(400).reshape(20, 20) < 200
    value, (low, high) = auc(x, seen, 1)
    assert low < value < high
    assert (high - low) / (2 * 1.96) == pytest.approx(np.sqrt(401 / (12 * 200**2)), rel=0.15)
    assert rank_correlation(x, rng.random((20, 20)), 1)[1][1] == pytest.approx(1.96 / 20, abs=0.07)


def test_blocks_that_are_alike_widen_the_interval():
    rng = np.random.default_rng(3)
    small = rng.random((8, 8)), rng.random((8, 8)) < 0.5
    x, seen = (np.kron(a, np.ones((4, 4))).astype(a.dtype) for a in small)
    (_, (low, high)), (_, (least, most)) = auc(x, seen, 1), auc(x, seen, 4)
    assert most - least > 2 * (high - low)
    one, other = auc(*small, 1), auc(x, seen, 4)
    np.testing.assert_allclose(other[1], one[1], atol=1e-12)
    assert other[0] == pytest.approx(one[0])


def test_nothing_to_tell_apart():
    assert np.isnan(auc(np.arange(4.0), np.ones(4, bool), 1)[0])


def test_what_has_a_single_value_has_no_correlation():
    x, y = numbers(4, 8)
    for one, other in ((x, np.ones_like(x)), (np.full_like(x, np.inf), y)):
        value, interval = rank_correlation(one, other, 4)
        assert np.isnan(value)
        assert interval == (-1, 1)
