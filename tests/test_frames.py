"""Dyadic lattices and zooms: nesting to the last bit, the precision guard, and resuming."""

import itertools
import json
import math
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainability import Grid, linear_axis, log_axis, trainability_map
from trainability.frames import boundary_point, roughest_point, zoom
from trainability.grid import dyadic_axis

sys.path.insert(0, str(Path(__file__).parent))
from test_store import contents
from test_sweep import TRAINER

WINDOW = Grid(lr=log_axis(0.1, 10, 16), curvature=linear_axis(0.1, 2, 12))
POINT = {"lr": 2.0, "curvature": 1.0}  # on the boundary, lr * curvature = 2


@given(
    scale=st.sampled_from(["linear", "log"]),
    middle=st.floats(0.01, 100),
    width=st.floats(1e-9, 1e-1),
    n=st.integers(2, 60),
    deeper=st.integers(0, 8),
)
def test_a_finer_lattice_contains_the_coarser_one(scale, middle, width, n, deeper):
    low, high = middle * (1 - width), middle * (1 + width)
    coarse = dyadic_axis(low, high, n, scale=scale).values
    fine = dyadic_axis(low, high, n * 2**deeper, scale=scale).values
    inside = coarse[(coarse >= fine[0]) & (coarse <= fine[-1])]
    assert len(inside) >= n / 2 - 1  # their middles agree within a pixel, their widths within a factor of 2
    assert np.isin(inside, fine).all()
    assert len(coarse) == n


@given(st.floats(1e-3, 1e3), st.integers(2, 500))
def test_a_dyadic_axis_covers_its_range_within_root_two(width, n):
    axis = dyadic_axis(5.0, 5.0 + width, n).values
    step = np.diff(axis)
    assert (step == step[0]).all()
    assert math.frexp(step[0])[0] == 0.5  # a power of two
    assert 1 / np.sqrt(2) <= step[0] * n / width * (1 + 1e-12)
    assert step[0] * n / width <= np.sqrt(2) * (1 + 1e-12)
    assert abs(axis.mean() - (5 + width / 2)) <= step[0]


def test_bad_axes_are_named():
    with pytest.raises(ValueError, match="scale='cubic'"):
        dyadic_axis(0, 1, 4, scale="cubic")
    with pytest.raises(ValueError, match="low=-1 must be positive"):
        dyadic_axis(-1, 1, 4, scale="log")
    with pytest.raises(ValueError, match="empty or reversed"):
        dyadic_axis(1, 1, 4)


def test_frames_halve_share_pixels_and_keep_the_point():
    frames = list(zoom(WINDOW, TRAINER, POINT, decades=2.0))
    assert len(frames) == 8  # 2 decades are 6.6 halvings
    places = []
    for before, after in itertools.pairwise(frames):
        for name, of in (("lr", np.log10), ("curvature", np.asarray)):
            ratio = np.diff(of(before[name])).mean() / np.diff(of(after[name])).mean()
            assert ratio == pytest.approx(2)
            shared = np.isin(after[name], before[name]).sum()
            assert abs(shared - len(after[name]) / 2) <= 1
        places.append(json.loads(after.attrs["zoom"])["point"])
    assert np.ptp(places, axis=0).max() <= 1  # half a pixel to each side
    for runs in frames:
        grid = Grid(lr=runs["lr"].values, curvature=runs["curvature"].values)
        direct = trainability_map(grid, TRAINER)
        for name in ("status", "final_loss", "stop_step"):
            np.testing.assert_array_equal(runs[name], direct[name])
        assert len(np.unique(runs["status"])) == 2  # the boundary passes through every frame


def test_a_frame_trains_only_what_the_one_before_does_not_have(tmp_path):
    counted = CountingPixels()
    frames = list(zoom(WINDOW, counted, POINT, decades=1.5))
    fresh = 16 * 12
    shared = 7 * 5, 9 * 7  # half of each axis, more or less a pixel
    assert fresh + 5 * (fresh - shared[1]) <= sum(counted.counts) <= fresh + 5 * (fresh - shared[0])
    assert len(frames) == 6


class CountingPixels:
    """The toy trainer, with the number of pixels of each call."""

    hyperparameters, observables, dtype = TRAINER.hyperparameters, TRAINER.observables, TRAINER.dtype

    def __init__(self):
        self.counts = []

    def settings(self):
        return TRAINER.settings()

    def status(self, observables):
        return TRAINER.status(observables)

    def __call__(self, pixels):
        self.counts.append(len(pixels["lr"]))
        return TRAINER(pixels)


@dataclass(frozen=True)
class Single(type(TRAINER)):
    dtype: ClassVar = "float32"


def test_processes_are_started_once_for_all_frames(tmp_path):
    """A trainer that notes its process: two of them at most for five frames of several tiles."""
    noting = replace(TRAINER, folder=str(tmp_path))
    frames = list(zoom(WINDOW, noting, POINT, decades=1.2, workers=2))
    assert all(a.equals(b) for a, b in zip(frames, zoom(WINDOW, TRAINER, POINT, decades=1.2), strict=True))
    processes = [call.name.split("-")[0] for call in tmp_path.iterdir()]
    assert len(processes) >= 4 * len(frames)
    assert len(set(processes)) <= 2


def test_the_dtype_ends_a_zoom_or_hands_over():
    """The last frame has neighbours at least MIN_ULP apart, and one more would not."""
    with pytest.warns(
        UserWarning, match=r"the zoom ends at frame \d+ of 50, \d+\.\d decades in: curvature: .* float32"
    ):
        frames = list(zoom(WINDOW, Single(), POINT, decades=15))
    left = [json.loads(runs.attrs["zoom"])["decades_left"] for runs in frames]
    # At 4 ulp and above, rounding to whole ulp moves a distance by up to a quarter: a tenth of a decade.
    assert 0 <= left[-1] < math.log10(2) + 0.1
    np.testing.assert_allclose(np.diff(left), -math.log10(2), atol=0.1)

    with pytest.warns(UserWarning, match="float64"):
        longer = list(zoom(WINDOW, Single(), POINT, decades=15, wider=TRAINER))
    assert [runs.attrs["dtype"] for runs in longer] == ["float32"] * len(frames) + ["float64"] * (
        len(longer) - len(frames)
    )
    assert json.loads(longer[-1].attrs["zoom"])["decades"] > 13
    for runs in longer:
        assert len(np.unique(runs["status"])) == 2


def test_a_zoom_near_zero_on_a_linear_axis_has_no_end():
    grid = Grid(lr=linear_axis(-1, 1, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        *_, last = zoom(grid, TRAINER, {"lr": 0.0}, decades=40)
    assert np.abs(last["lr"]).max() < 1e-39


def test_a_stored_zoom_goes_on_where_it_stopped(tmp_path):
    def stop(done, total):
        if done == 1:
            stop.left -= 1
            if not stop.left:
                raise KeyboardInterrupt

    stop.left = 3
    with pytest.raises(KeyboardInterrupt):
        list(zoom(WINDOW, TRAINER, POINT, decades=1.2, store=tmp_path / "a", progress=stop, tile=(8, 12)))
    resumed = list(zoom(WINDOW, TRAINER, POINT, decades=1.2, store=tmp_path / "a", tile=(8, 12)))
    whole = list(zoom(WINDOW, TRAINER, POINT, decades=1.2, store=tmp_path / "b", tile=(8, 12)))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert all(a.identical(b) for a, b in zip(resumed, whole, strict=True))
    slow = replace(TRAINER, seconds=3600.0)
    assert len(list(zoom(WINDOW, slow, POINT, decades=1.2, store=tmp_path / "a"))) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decades": -1.0}, "decades=-1.0"),
        ({"decades": math.inf}, "decades=inf"),
        ({"point": {"lr": 2.0}}, "point has lr; it needs a value for each axis, lr, curvature"),
        ({"point": {"lr": 20.0, "curvature": 1.0}}, "point lr=20.0 is outside the window"),
        ({"grid": Grid(lr=[1.0])}, "point has"),
        ({"grid": Grid(lr=[2.0], curvature=[1.0, 2.0])}, "axis lr has one pixel"),
        (
            {
                "grid": Grid(lr=1 + 2.3e-16 * np.arange(3), curvature=[1.0, 2.0]),
                "point": {"lr": 1.0, "curvature": 1.0},
            },
            "ulp apart|increase",
        ),
    ],
)
def test_bad_zooms_are_named_before_any_work(change, message):
    arguments = {
        "grid": WINDOW,
        "trainer": replace(TRAINER, seconds=3600.0),
        "point": POINT,
        "decades": 1.0,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        zoom(**arguments)


def test_decades_left():
    """A step of 2^-9 on [1, 2) is 2^43 ulp of double precision: log10(2^43 / 4) decades."""
    grid = Grid(lr=dyadic_axis(1.2, 1.8, 300))
    assert grid.decades_left("float64") == pytest.approx(41 * math.log10(2))
    assert grid.decades_left("float32") == pytest.approx(12 * math.log10(2))
    assert Grid(lr=[1.0]).decades_left("float64") == math.inf
    assert Grid(lr=1 + 1e-9 * np.arange(3)).decades_left("float32") == -math.inf


def test_boundary_point_of_the_toy():
    """Beyond lr * curvature = 2 the steps grow: the point is the last float on this side, rounding included."""
    found = boundary_point(TRAINER, {"lr": 0.5, "curvature": 1.5}, {"lr": 9.0, "curvature": 1.5})
    assert found["lr"] == pytest.approx(2 / 1.5, rel=1e-15)
    beyond = {"lr": np.array([found["lr"], np.nextafter(found["lr"], 9)]), "curvature": np.full(2, 1.5)}
    assert list(TRAINER.status(TRAINER(beyond))) == [1, 2]
    oblique = boundary_point(TRAINER, {"lr": 9.0, "curvature": 2.0}, {"lr": 0.3, "curvature": 0.2})
    assert oblique["lr"] * oblique["curvature"] == pytest.approx(2, rel=1e-14)
    with pytest.raises(ValueError, match="have one status, 1"):
        boundary_point(TRAINER, {"lr": 0.5}, {"lr": 0.6})
    with pytest.raises(ValueError, match="start has lr and end curvature"):
        boundary_point(TRAINER, {"lr": 0.5}, {"curvature": 0.6})


def test_the_roughest_point_lies_where_most_changes_are():
    """A fine comb of stripes in one corner of an otherwise smooth map."""
    grid = Grid(lr=linear_axis(0, 1, 40), curvature=linear_axis(0, 1, 40))
    runs = trainability_map(grid, Comb())
    found = roughest_point(runs, Comb())
    assert found["lr"] > 0.6
    assert found["curvature"] > 0.6
    with pytest.raises(ValueError, match="no two neighbours differ"):
        roughest_point(runs.isel(lr=slice(0, 3), curvature=slice(0, 3)), Comb())


class Comb(CountingPixels):
    """Changes at curvature = 1/2, and at every tenth in the upper right corner."""

    def __call__(self, pixels):
        lr, h = pixels["lr"], pixels["curvature"]
        stripes = np.where((lr > 0.7) & (h > 0.7), np.floor(20 * lr) % 2, h > 0.5)
        return {"final_loss": stripes, "stop_step": np.where(stripes > 0, 7, -1)}
