"""Maps from the command line: what is trained, drawn, continued, and what it would cost."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import trainability as tr
from trainability import cost
from trainability.conditions import PublishedMLP

sys.path.insert(0, str(Path(__file__).parent))
from command_line import printed

AXES = ("--x", "lr_in:0.1:1e4:12:log", "--y", "lr_out:0.1:1e4:10:log")


@pytest.mark.parametrize("network", ["linear", "mlp"])
def test_help_teaches_and_names_the_function(network):
    text = printed("map", network, "--help")
    assert "In Python" in text
    assert "trainability_map" in text


def test_a_linear_map_trains_draws_and_continues(tmp_path):
    store, picture = tmp_path / "m.zarr", tmp_path / "m.png"
    axes = ("--x", "lr:0.03:0.6:12:log", "--y", "imbalance:-1:1:10")
    text = printed("map", "linear", store, *axes, "--n-steps", 50, "--picture", picture)
    assert "diverged" in text
    assert picture.stat().st_size > 5_000
    again = printed("map", "linear", store, *axes, "--n-steps", 50)
    assert again.splitlines()[-1] == text.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ((), {}),
        (("--condition", "relu", "--depth", 2), {"activation": "relu", "depth": 2}),
        (("--condition", "one point"), {"n_data": 1}),
        (("--batch-size", 3, "--dtype", "float32"), {"batch_size": 3, "dtype": "float32"}),
        (("--n-data", 1, "--engine", "numpy", "--seed", 3), {"n_data": 1, "engine": "numpy", "seed": 3}),
    ],
)
def test_a_map_of_small_networks_is_that_of_its_trainer(tmp_path, options, settings):
    store = tmp_path / "m.zarr"
    answer = json.loads(
        printed("map", "mlp", store, *AXES, "--width", 4, "--n-steps", 30, "--json", *options)
    )
    grid = tr.Grid(lr_in=tr.log_axis(0.1, 1e4, 12), lr_out=tr.log_axis(0.1, 1e4, 10))
    runs = tr.trainability_map(grid, PublishedMLP(width=4, n_steps=30, **settings))
    kept = xr.open_zarr(store, consolidated=False)
    for name in runs:
        np.testing.assert_array_equal(kept[name], runs[name])
    assert sum(answer.values()) == 120
    assert answer["converged"] == int((runs["status"] == tr.Status.CONVERGED).sum())


def test_the_window_of_the_offset_is_the_published_one(tmp_path):
    words = ("--condition", "offset", "--pixels", 6, "--width", 4, "--n-steps", 30)
    for mode in ("once", "per_step"):
        printed("map", "mlp", tmp_path / mode, *words, "--offset-mode", mode)
    once, per_step = (xr.open_zarr(tmp_path / mode, consolidated=False) for mode in ("once", "per_step"))
    assert dict(once.sizes) == {"offset": 6, "lr": 6}
    assert not once["sum_ratio"].equals(per_step["sum_ratio"])
    with pytest.raises(ValueError, match="'relu' has no offset"):
        printed("map", "mlp", tmp_path / "m", "--condition", "relu", "--offset-mode", "once")


def test_a_refined_map_says_what_was_inferred_and_is_drawn_whole(tmp_path):
    picture = tmp_path / "m.png"
    axes = ("--x", "lr_in:0.1:1e4:64:log", "--y", "lr_out:0.1:1e4:64:log")
    words = ("--width", 4, "--n-steps", 30, "--refine", "--picture", picture)
    assert " inferred" in printed("map", "mlp", tmp_path / "m.zarr", *axes, *words)
    assert picture.stat().st_size > 5_000


def test_two_axes_are_two(tmp_path):
    """The default axes are lr_in and lr_out: one of them for both would be a map of one axis."""
    for network, axis in (("mlp", "lr_out:1:10:4:log"), ("linear", "imbalance:0:1:4")):
        name = axis.split(":")[0]
        with pytest.raises(ValueError, match=f"both axes are '{name}'; give --x and --y two"):
            printed("map", network, tmp_path / "m.zarr", "--x", axis)
    assert not list(tmp_path.iterdir())


def test_a_picture_that_cannot_be_drawn_is_refused_before_training(tmp_path):
    for name in ("m.xyz", "m"):
        with pytest.raises(ValueError, match=f"picture .*{name} ends in .* use one of .*pdf, .*png"):
            printed("map", "mlp", tmp_path / "m.zarr", *AXES, "--width", 3, "--picture", tmp_path / name)
    assert not list(tmp_path.iterdir())
    printed("map", "mlp", tmp_path / "m.zarr", *AXES, "--width", 3, "--picture", tmp_path / "new" / "m.png")
    assert (tmp_path / "new" / "m.png").exists()


def test_tiles_are_sized_by_measured_cost(tmp_path, monkeypatch):
    """All 120 pixels where they are cheap, the least there are in a tile where not, and a share for each of two."""
    words = ("map", "mlp", "--n-steps", 30, "--json", *AXES, "--width", 3)
    sizes = {}
    for name, seconds, workers in (("cheap", 10.0, 1), ("dear", 1e-9, 1), ("shared", 10.0, 2)):
        monkeypatch.setattr(cost, "TILE_SECONDS", seconds)
        printed(*words, tmp_path / name, "--workers", workers)
        sizes[name] = zarr.open_group(tmp_path / name, mode="r")["status"].chunks
    assert sizes == {"cheap": (12, 10), "dear": (4, 4), "shared": (4, 4)}


def test_a_dry_run_of_long_runs_trains_short_ones(tmp_path, monkeypatch):
    """Whole, 64 of them would take an hour: 3e14 operations at less than 1e11 a second."""
    words = ("map", "mlp", tmp_path / "m.zarr", "--width", 32, "--n-steps", 10**6, "--dry-run", "--json")
    found = json.loads(printed(*words))
    assert found["runs"] == 64**2
    assert found["flops"] == 64**2 * tr.trainers.MLP(width=32, n_steps=10**6).flops_per_run()
    assert found["seconds_per_run"] > 1
    with pytest.raises(ValueError, match="axis 'widht' is not a hyperparameter of PublishedMLP; it has lr,"):
        printed(*words, "--x", "widht:1:2:4")


def test_a_dry_run_counts_and_writes_nothing(tmp_path):
    words = ("map", "mlp", tmp_path / "m.zarr", *AXES, "--width", 4, "--n-steps", 30, "--dry-run")
    assert json.loads(printed(*words, "--json"))["runs"] == 120
    assert "120 runs of" in printed(*words)
    assert not list(tmp_path.iterdir())
