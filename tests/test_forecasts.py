"""Scores of predicted probabilities against draws whose law is known."""

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from trainability import compare_forecast

sys.path.insert(0, str(Path(__file__).parent))
from maps_with_status import GRID, N, X, as_map


def forecast(p):
    return xr.DataArray(np.broadcast_to(p, (N, N)), dims=tuple(GRID), coords=GRID.coords())


def replicated(rng, p, n):
    maps = [as_map(rng.random((N, N)) < p) for _ in range(n)]
    return xr.concat(maps, dim="seed", data_vars="all").assign_coords(seed=np.arange(n))


def test_calibrated_forecasts_score_as_they_must():
    """Drawn with the probability said: Brier E p(1-p), skill 1 - E p(1-p) / p̄(1-p̄), curve on the diagonal."""
    p = X / N
    found = compare_forecast(forecast(p), replicated(np.random.default_rng(0), p, 8), outcome="diverged")
    exact = (p * (1 - p)).mean()
    assert found.brier == pytest.approx(exact, abs=4 * 0.25 / np.sqrt(8 * N * N))
    assert found.brier_interval[0] < exact < found.brier_interval[1]
    assert found.skill == pytest.approx(1 - exact / 0.25, abs=0.02)
    assert found.calibration_error < 0.02
    inside = (found.curve["low"] <= found.curve["predicted"]) & (
        found.curve["predicted"] <= found.curve["high"]
    )
    assert inside.mean() >= 0.7  # ten bins at 95 %
    assert int(found.curve["count"].sum()) == 8 * N * N


def test_overconfidence_shows_in_the_curve_and_the_score():
    p, said = np.full((N, N), 0.7), np.full((N, N), 0.95)
    found = compare_forecast(forecast(said), replicated(np.random.default_rng(1), p, 4), outcome="diverged")
    assert found.calibration_error == pytest.approx(0.25, abs=4 * 0.46 / np.sqrt(4 * N * N))
    assert found.brier == pytest.approx(0.7 * 0.3 + 0.25**2, abs=0.01)
    assert found.skill < 0
    assert found.curve["high"].item() < 0.95


def test_certain_and_right_is_perfect_and_certain_and_wrong_is_worst():
    right = compare_forecast(forecast((X > 32) * 1.0), as_map(X > 32), outcome="diverged")
    assert (right.brier, right.skill, right.calibration_error) == (0, 1, 0)
    wrong = compare_forecast(forecast((X <= 32) * 1.0), as_map(X > 32), outcome="diverged")
    assert (wrong.brier, wrong.calibration_error) == (1, 1)


def test_interval_covers_when_blocks_err_together():
    """Whole blocks of 8 × 8 share one draw: the interval must count 64 of them, not 4096 pixels."""
    rng, covered = np.random.default_rng(2), []
    for _ in range(150):
        lost = np.kron(rng.random((N // 8, N // 8)) < 0.3, np.ones((8, 8), bool))
        low, high = compare_forecast(forecast(0.3), as_map(lost), outcome="diverged").brier_interval
        covered.append(low <= 0.3 * 0.7 <= high)
    assert np.mean(covered) >= 0.88


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"between 0 and 1; found 1\.5"):
        compare_forecast(forecast(1.5), as_map(X > 3), outcome="diverged")
    with pytest.raises(ValueError, match="outcome 'lost' is unknown"):
        compare_forecast(forecast(0.5), as_map(X > 3), outcome="lost")
    with pytest.raises(ValueError, match="axis 'x' differs"):
        compare_forecast(forecast(0.5), as_map(X > 3).isel(x=slice(5)), outcome="diverged")
