"""The null of shifts against brute force, and its level on maps that have nothing to do with each other."""

import sys
from pathlib import Path

import numpy as np
import pytest

from trainability import Status, shift_null

sys.path.insert(0, str(Path(__file__).parent))
from maps_with_status import N, X, Y, as_map


def test_null_is_what_rolling_gives():
    rng = np.random.default_rng(0)
    said, seen = as_map(rng.random((N, N)) < 0.3), as_map(rng.random((N, N)) < 0.6)
    seen["status"][:5] = Status.PENDING
    found = shift_null(said, seen, outcome="diverged")
    lost, known = seen["status"].values == Status.DIVERGED, seen["status"].values != Status.PENDING
    for shift in ((0, 0), (3, 0), (60, 17)):
        there, counted = (np.roll(mask, [-s for s in shift], (0, 1)) for mask in (lost, known))
        right = (said["status"].values == Status.DIVERGED) == there
        assert found.null[shift] == pytest.approx(right[counted].mean(), abs=1e-12)
    assert found.agreement == found.null[0, 0]


def test_p_value_of_unrelated_periodic_maps_is_uniform():
    """Smooth periodic random maps: below 0.1 one time in ten, within four standard errors of 300 draws."""
    rng = np.random.default_rng(1)
    k = np.hypot(*np.meshgrid(np.fft.fftfreq(N), np.fft.rfftfreq(N), indexing="ij"))

    def smooth():
        return np.fft.irfft2(np.fft.rfft2(rng.standard_normal((N, N))) * np.exp(-((k * 20) ** 2))) > 0

    low = [
        shift_null(as_map(smooth()), as_map(smooth()), outcome="diverged").p_value < 0.1 for _ in range(300)
    ]
    assert np.mean(low) == pytest.approx(0.1, abs=4 * np.sqrt(0.1 * 0.9 / 300))


def test_a_right_prediction_is_not_luck():
    found = shift_null(
        as_map(np.hypot(X - 20, Y - 40) < 9), as_map(np.hypot(X - 21, Y - 40) < 9), outcome="diverged"
    )
    assert found.p_value < 0.01
    assert found.agreement > 0.98
