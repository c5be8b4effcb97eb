"""Prediction of losses from a few numbers, on data whose answer is known."""

import numpy as np
import pytest

from trainability.loss_prediction import cross_validate, lead, surface_minimum


@pytest.fixture(scope="module")
def bowl():
    """Losses with a minimum at (0.5, -0.25) of 500 points, and noise that leaves 3/4 of the variance."""
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, (500, 2))
    clean = ((x - [0.5, -0.25]) ** 2).sum(1)
    return x, clean + clean.std() / np.sqrt(3) * rng.standard_normal(500)


def test_r2_is_the_share_of_variance_that_is_not_noise(bowl):
    found = cross_validate(*bowl)
    assert found.r2_interval[0] < 0.75 < found.r2_interval[1]
    assert found.r2_interval[1] - found.r2_interval[0] < 0.12


def test_what_says_nothing_predicts_nothing(bowl):
    x, losses = bowl
    noise = np.random.default_rng(2).standard_normal(x.shape)
    for form in ("quadratic", "neighbours"):
        found = cross_validate(noise, losses, form=form)
        assert found.r2 < max(found.null_r2, 0.02)
        assert found.rank_interval[0] < 0.1


def test_lead_of_both_numbers_over_one(bowl):
    """By hand: the variance of (u - c)² for u uniform on (-1, 1) is 4/45 + 4c²/3, of which 3/4 is seen."""
    x, losses = bowl
    parts = 4 / 45 + 4 / 3 * np.array([0.5, -0.25]) ** 2
    found = lead(cross_validate(x, losses), cross_validate(x[:, 0], losses))
    assert found.interval[0] < 0.75 * parts[1] / parts.sum() < found.interval[1]
    assert 0 < found.smallest < found.value


def test_minimum_is_found_within_its_interval(bowl):
    found = surface_minimum(*bowl)
    assert ((found.interval[:, 0] < [0.5, -0.25]) & (found.interval[:, 1] > [0.5, -0.25])).all()
    assert np.abs(found.place - [0.5, -0.25]).max() < 0.25


@pytest.mark.parametrize(
    ("losses", "options", "names"),
    [
        (np.full(40, np.inf), {}, "losses must be finite"),
        (np.zeros(10), {}, "losses of 10 runs"),
        (np.zeros(40), {"form": "cubic"}, "form='cubic'"),
    ],
)
def test_bad_input(losses, options, names):
    with pytest.raises(ValueError, match=names):
        cross_validate(np.zeros(len(losses)), losses, **options)
