"""Shares over replicates against draws of known probability, and the test for structure against draws without any."""

import numpy as np
import pytest
import xarray as xr

from trainability import probability_map, share_variation
from trainability._contract import STATUS_ATTRS


def a_map(status, dims=("x", "y")):
    coords = {name: np.arange(n) for name, n in zip(dims, status.shape, strict=True)}
    return xr.Dataset({"status": (dims, status.astype(np.int8), STATUS_ATTRS)}, coords=coords)


def test_intervals_cover_the_probability():
    """Wilson's interval of 8 draws covers between 0.88 and 1 of the time for these p; 4000 pixels each."""
    rng = np.random.default_rng(0)
    for p in (0.1, 0.3, 0.5, 0.9):
        status = np.where(rng.random((4000, 8)) < p, 1, 3)
        found = probability_map(a_map(status, ("x", "seed")), over="seed")
        covered = float(((found["low"] <= p) & (p <= found["high"])).mean())
        assert 0.88 < covered <= 1
        assert float(found["probability"].mean()) == pytest.approx(p, abs=0.01)  # standard error 0.003


def test_replicates_that_are_not_trained_do_not_count():
    status = np.array([[1, 1, 3, 4], [0, 0, 0, 0], [1, 2, 3, 1]])
    found = probability_map(a_map(status, ("x", "seed")), over="seed")
    np.testing.assert_allclose(found["probability"], [2 / 3, np.nan, 0.5])
    np.testing.assert_array_equal(found["n"], [3, 0, 4])
    assert (found["low"][1], found["high"][1]) == (0, 1)
    assert (
        float(
            probability_map(a_map(status, ("x", "seed")), over="seed", outcome="diverged")["probability"][2]
        )
        == 0.25
    )


def test_independent_draws_are_found_to_vary_as_often_as_the_level_says():
    """200 windows without structure: p-values are uniform, so 10 ± 3 lie below 0.05."""
    rng = np.random.default_rng(1)
    found = [
        share_variation(a_map(np.where(rng.random((12, 12)) < 0.3, 1, 3)), permutations=99)
        for _ in range(200)
    ]
    for name in ("p_value", "neighbours_p_value"):
        below = sum(getattr(f, name) <= 0.05 for f in found)
        assert below < 20  # 3.2 standard deviations above
    assert np.mean([f.ratio for f in found]) == pytest.approx(1, abs=0.1)


def test_a_front_of_chances_is_found():
    rng = np.random.default_rng(2)
    chance = np.linspace(0.2, 0.8, 24)[:, None]
    found = share_variation(a_map(np.where(rng.random((24, 24)) < chance, 1, 3)))
    assert found.p_value == 0.001
    assert found.ratio > 2
    assert found.neighbours > 0.05


def test_bad_input_is_named_and_one_outcome_says_nothing():
    assert share_variation(a_map(np.ones((8, 8)))).p_value == 1
    with pytest.raises(ValueError, match="over='seed' is no axis of the map; it has x, y"):
        probability_map(a_map(np.ones((2, 2))), over="seed")
    with pytest.raises(ValueError, match="outcome 'won' is unknown"):
        probability_map(a_map(np.ones((2, 2))), over="y", outcome="won")
    with pytest.raises(ValueError, match="two blocks of 4"):
        share_variation(a_map(np.ones((4, 4))))
    with pytest.raises(ValueError, match="not trained"):
        share_variation(a_map(np.zeros((8, 8))))
