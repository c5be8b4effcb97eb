"""Ladders against a boundary of known width, whose flips at every window are an integral."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import integrate, stats

from trainability import expected_flips, zoom_ladder


@dataclass(frozen=True)
class Front:
    """Converges where log(lr / 0.1) plus Gaussian noise of one rounding seed is below zero."""

    width: float = 0.01
    hyperparameters = ("lr", "other", "rounding_seed")
    observables = {"score": ("float64", "log(lr / 0.1) with noise")}  # noqa: RUF012
    dtype = "float64"

    def settings(self):
        return {"width": self.width}

    def __call__(self, pixels):
        keys = np.stack([pixels["lr"], pixels["other"], pixels["rounding_seed"] + 0.5], axis=1).view(
            np.uint64
        )
        draws = np.array([np.random.default_rng(list(map(int, key))).standard_normal() for key in keys])
        return {"score": np.log(pixels["lr"] / 0.1) + self.width * draws}

    def status(self, observables):
        return np.where(np.asarray(observables["score"]) < 0, 1, 3).astype(np.int8)


def test_flips_rise_to_the_toss_of_a_coin_as_the_windows_shrink():
    """24² pixels of 6 twins: the standard error of a rate is below 0.02, 4 of them the tolerance."""
    widths = [1.0, 0.1, 0.03, 0.01, 0.003, 1e-4]
    found = zoom_ladder(Front(), {"lr": 0.1, "other": 1.0}, widths=widths, pixels=24, twins=6)
    np.testing.assert_allclose(found["flips"], expected_flips(0.01, widths), atol=0.08)
    assert found["flips"][0] < 0.03
    assert found["flips"][-1] == pytest.approx(0.5, abs=0.03)
    assert found["converged"][-1] == pytest.approx(0.5, abs=0.05)
    # Far below, neighbours are as unlike as twins; far above they differ at the front alone, one pair in 23 of a row.
    assert found["neighbours"][-1] == pytest.approx(0.5, abs=0.05)
    assert found["neighbours"][0] == pytest.approx(0.5 / 23, abs=0.02)
    np.testing.assert_allclose(found["pixel"], 2 * np.array(widths) / 23)
    assert (found["flips_low"] <= found["flips"]).all()
    assert (found["flips"] <= found["flips_high"]).all()
    assert found["status"].dims == ("width", "lr", "other", "rounding_seed")


def test_expected_flips_are_the_integral():
    for width in (0.001, 0.02, 0.5):
        exact, _ = integrate.quad(
            lambda x: 2 * stats.norm.cdf(x / 0.01) * stats.norm.sf(x / 0.01),
            -width,
            width,
            points=[0],
            limit=200,
        )
        np.testing.assert_allclose(expected_flips(0.01, width), exact / (2 * width), rtol=1e-6)


def test_a_ladder_goes_on_from_its_stores(tmp_path):
    first = zoom_ladder(Front(), {"lr": 0.1, "other": 1.0}, widths=[0.1], pixels=4, store=tmp_path)
    again = zoom_ladder(Front(), {"lr": 0.1, "other": 1.0}, widths=[0.1, 0.01], pixels=4, store=tmp_path)
    np.testing.assert_array_equal(again["status"][0], first["status"][0])
    assert sorted(p.name for p in tmp_path.glob("*.zarr")) == ["window-0.zarr", "window-1.zarr"]


def test_bad_input_is_named():
    for options, message in (
        ({"widths": [0.1, 0.0]}, "widths must be positive"),
        ({"widths": [0.1], "pixels": 1}, "pixels=1 must be a whole number, at least 2"),
        ({"widths": [0.1], "twins": 1}, "twins=1"),
    ):
        with pytest.raises(ValueError, match=message):
            zoom_ladder(Front(), {"lr": 0.1}, **options)
    with pytest.raises(ValueError, match="lr must be positive"):
        zoom_ladder(Front(), {"lr": -1.0}, widths=[0.1])
