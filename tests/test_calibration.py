"""The shipped table: the script makes it, and it keeps what the documentation promises."""

import sys
from pathlib import Path

import numpy as np
import pytest

from trainability.calibration import calibration_table
from trainability.known_sets import KNOWN_SETS
from trainability.published import PUBLISHED, published_dimension

TABLE = calibration_table()
OURS = TABLE.sel(estimator="fractal_dimension", pixels=1025)


def test_table_has_every_set_and_estimator():
    assert set(TABLE["set"].values) == {known.name for known in KNOWN_SETS}
    assert set(TABLE["estimator"].values) == {"fractal_dimension", "box_counts", *PUBLISHED}
    for known in KNOWN_SETS:
        np.testing.assert_allclose(TABLE["dimension"].sel(set=known.name), known.dimension, atol=1e-3)


def test_intervals_cover_at_the_calibrated_size():
    covered = OURS["coverage"].where(OURS["kind"] != "noise", drop=True)
    assert (covered >= 0.9).all(), covered


def test_bias_is_below_what_is_promised():
    """0.03 up to dimension 1.5, 0.06 above."""
    known = OURS.where(OURS["kind"] != "noise", drop=True)
    assert (known["draws"] == 100).all()
    assert (abs(known["bias"]) < np.where(known["dimension"] > 1.5, 0.06, 0.03)).all(), known["bias"]


def test_noise_is_never_called_fractal_nor_rough_sets_smooth():
    for name in (n for n in OURS["set"].values if "flat" in n or "independent" in n or "tilted" in n):
        assert OURS["fractal"].sel(set=name) == 0
    assert (OURS["smooth"].where(OURS["dimension"] > 1.25, 0) == 0).all()


def test_script_makes_the_same_rows(tmp_path, monkeypatch):
    """A small table of its own: one size, two draws; smooth sets agree with the shipped table within 0.05."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import calibrate_dimension as script

    rows = script.rows_of(KNOWN_SETS[0], 257, [script.measure((0, 257, seed)) for seed in (0, 1)])
    assert [row["estimator"] for row in rows] == list(TABLE["estimator"].values)
    assert float(rows[0]["bias"]) == pytest.approx(
        TABLE["bias"].sel(estimator="fractal_dimension", set="straight line", pixels=257).item(), abs=0.05
    )
    sys.modules.pop("calibrate_dimension")


def test_published_estimators_follow_their_formulas():
    """Rougier's fit and porespy's median, written out plainly, on a small picture."""
    labels = np.random.default_rng(0).random((97, 90)) < np.linspace(0, 1, 97)[:, None]
    corners = np.stack([labels[:-1, :-1], labels[1:, :-1], labels[:-1, 1:], labels[1:, 1:]]).sum(axis=0)
    edge = (corners > 0) & (corners < 4)

    def count(s):
        boxes = [edge[i : i + s, j : j + s] for i in range(0, 96, s) for j in range(0, 89, s)]
        return sum(0 < box.sum() < s * s for box in boxes)

    sizes = np.array([64, 32, 16, 8, 4])
    slope = -np.polyfit(np.log(sizes), np.log([count(s) for s in sizes]), 1)[0]
    assert published_dimension(labels, estimator="power_of_two_fit") == pytest.approx(slope, rel=1e-9)
    sizes = np.unique(np.logspace(1, np.log10(89), 10).astype(int))
    slopes = -np.gradient(np.log([count(s) for s in sizes]), np.log(sizes))
    assert published_dimension(labels, estimator="median_local_slope") == pytest.approx(
        np.median(slopes), rel=1e-9
    )


def test_published_estimators_read_what_is_not_there():
    """The frame alone reads about 1 with the dilation edge, and the area of noise about 2."""
    assert published_dimension(np.ones((256, 256)), estimator="dilation_edge_fit") > 0.8
    with pytest.raises(ValueError, match="unknown; known are"):
        published_dimension(np.eye(64), estimator="other")
    with pytest.raises(ValueError, match="unknown pixels"):
        published_dimension(np.full((64, 64), np.nan), estimator="area_mask_fit")
    with pytest.raises(ValueError, match="32 pixels"):
        published_dimension(np.eye(16), estimator="area_mask_fit")
