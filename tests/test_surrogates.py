"""Surrogates keep what they promise and lose the rest; p-values are uniform where the map is its own surrogate."""

import numpy as np
import pytest
from scipy import ndimage

from trainability.known_sets import iid_noise, jittered, koch_snowflake
from trainability.surrogates import surrogate, surrogate_test

X, Y = np.indices((128, 128)) / 128


def test_shuffle_keeps_counts_and_unknown_pixels():
    labels = np.random.default_rng(0).integers(0, 3, (50, 40)).astype(float)
    labels[:5] = np.nan
    drawn = surrogate(labels, kind="shuffle", seed=0)
    assert (drawn[:5] == -1).all()
    np.testing.assert_array_equal(np.bincount(drawn[5:].ravel()), np.bincount(labels[5:].astype(int).ravel()))


def test_local_surrogate_keeps_the_local_share():
    """Binomial: the mean of a column of 128 draws within 5 standard errors of the smoothed share."""
    labels = X + 0 * Y > 0.5
    share = np.mean([surrogate(labels, kind="local", seed=s) for s in range(20)], axis=(0, 2))
    smooth = np.clip(ndimage.gaussian_filter(labels.astype(float), 8.0).mean(axis=1), 0, 1)
    error = np.sqrt(smooth * (1 - smooth) / (20 * 128)) + 1e-9
    assert (abs(share - smooth) < 5 * error).all()


def test_phase_surrogate_keeps_values_and_nearly_the_spectrum():
    score = (
        ndimage.gaussian_filter(np.random.default_rng(1).standard_normal((128, 128)), 3, mode="wrap") + 0.01
    )
    drawn = surrogate(score, kind="phases", seed=0)
    assert drawn.sum() == (score > 0).sum()
    assert 0.3 < (drawn == (score > 0)).mean() < 0.7


def test_p_values_of_noise_are_those_of_chance():
    """A shuffled map among its shuffles is any of them: of 30 p-values, the mean is 0.5 to 4 errors of 1/√(12·30)."""
    p = [surrogate_test(iid_noise(64, s), kind="shuffle", draws=19, seed=100 * s).p_value for s in range(30)]
    assert np.mean(p) == pytest.approx(0.525, abs=4 / np.sqrt(12 * 30))


def test_structure_is_told_from_local_noise():
    assert surrogate_test(koch_snowflake(128, 0), draws=19).p_value == 0.05
    assert surrogate_test(X + 0.3 * Y > 0.6, draws=19).p_value == 0.05


def test_jittered_front_is_not():
    """Jitter of an amplitude beyond the window is what local draws are; p must not always be the least."""
    p = [
        surrogate_test(jittered(X - 0.5, 0.2, s), draws=19, seed=50 * s, width=6.0).p_value for s in range(6)
    ]
    assert max(p) > 0.2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: surrogate(np.eye(8), kind="other", seed=0), "unknown; known are"),
        (lambda: surrogate(np.eye(8), kind="local", seed=0, width=0), "width"),
        (lambda: surrogate(np.zeros(8), kind="phases", seed=0), "two dimensions"),
        (lambda: surrogate_test(np.zeros((80, 80))), "no neighbouring pixels differ"),
        (lambda: surrogate_test(np.eye(80), draws=0), "draws=0"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
