"""The sweep engine: tilings, interruption, stores and their errors."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from trainability import Grid, Status, linear_axis, log_axis, random_prompt, trainability_map
from trainability.trainers import LinearTransformer

sys.path.insert(0, str(Path(__file__).parent))
from toy_failures import ctrl_c_after
from toy_trainer import ToyTrainer

GRID = Grid(lr=log_axis(0.1, 10, 12), curvature=linear_axis(0.1, 2, 9))
TRAINER = ToyTrainer()


def contents(store: Path) -> dict[str, str]:
    """Digest of every file of a store; the commit, which may change while tests run, is left out."""
    files = sorted(p for p in store.rglob("*") if p.is_file())
    found = {str(p.relative_to(store)): p.read_bytes() for p in files}
    for name in (name for name in found if name.endswith("zarr.json")):
        found[name] = re.sub(rb'"commit": "[^"]*"', b"", found[name])
    return {name: hashlib.sha256(content).hexdigest() for name, content in found.items()}


class Killed(Exception):
    pass


def interrupt_after(tiles):
    calls = []

    def report(done, total):
        calls.append(done)
        if done >= tiles and len(calls) > 1:
            raise Killed

    return report


@settings(max_examples=15)
@given(tile=st.tuples(st.integers(1, 12), st.integers(1, 12)), stop_after=st.integers(1, 30))
def test_tiling_and_interruption_do_not_matter(tile, stop_after, tmp_path_factory):
    store = tmp_path_factory.mktemp("s") / "map.zarr"
    try:
        trainability_map(GRID, TRAINER, store=store, tile=tile, progress=interrupt_after(stop_after))
    except Killed:
        partial = xr.open_zarr(store, consolidated=False)
        assert (partial["status"] == Status.PENDING).any() or stop_after >= len(GRID.tiles(tile))
    resumed = trainability_map(GRID, TRAINER, store=store, tile=tile)
    assert resumed.identical(trainability_map(GRID, TRAINER))
    assert xr.open_zarr(store, consolidated=False).load().equals(resumed)


@pytest.mark.parametrize("mode", ["blocks", "pair"])
def test_torch_runs_are_bit_identical_under_three_tilings(mode):
    """Ensembles have one shape, so a pixel's bits do not depend on its neighbours or its place among them."""
    grid = Grid(lr=log_axis(0.03, 0.6, 23), imbalance=linear_axis(-1, 1, 19))
    trainer = LinearTransformer(random_prompt(12, 4, seed=13), mode=mode, seed=1, init_scale=2.0, n_steps=60)
    maps = [trainability_map(grid, trainer, tile=tile) for tile in ((23, 19), (7, 5), (1, 19))]
    for other in maps[1:]:
        assert maps[0].identical(other)
    assert len(np.unique(maps[0]["status"])) > 1


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
from toy_trainer import ToyTrainer
from trainability import trainability_map
from test_sweep import GRID
if __name__ == "__main__":
    trainability_map(GRID, ToyTrainer(seconds={seconds}), store={store!r}, tile=(2, 3), workers={workers})
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_sweep_killed_in_the_middle_and_run_again_leaves_the_same_bytes(tmp_path, workers):
    tests = str(Path(__file__).parent)
    trainability_map(GRID, TRAINER, store=tmp_path / "whole.zarr", tile=(2, 3))
    store = tmp_path / "killed.zarr"
    script = tmp_path / "run.py"
    script.write_text(SCRIPT.format(tests=tests, store=str(store), seconds=0.25, workers=workers))
    run = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL)
    chunks = store / "status" / "c"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and (not chunks.exists() or len(list(chunks.rglob("?"))) < 6):
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    pending = int((xr.open_zarr(store, consolidated=False)["status"] == Status.PENDING).sum())
    assert 0 < pending < np.prod(GRID.shape)
    trainability_map(GRID, TRAINER, store=store, tile=(2, 3))
    assert contents(store) == contents(tmp_path / "whole.zarr")


def test_ctrl_c_leaves_a_valid_store_and_says_how_to_continue(tmp_path):
    with pytest.raises(KeyboardInterrupt) as caught:
        trainability_map(GRID, TRAINER, store=tmp_path / "m.zarr", tile=(3, 3), progress=ctrl_c_after(2))
    assert "stopped after 2 of 12 tiles" in caught.value.__notes__[0]
    assert "run the same command again" in caught.value.__notes__[0]
    assert trainability_map(GRID, TRAINER, store=tmp_path / "m.zarr").identical(
        trainability_map(GRID, TRAINER)
    )


def test_executors_and_processes_give_the_same_map():
    expected = trainability_map(GRID, TRAINER)
    with ThreadPoolExecutor(3) as pool:
        assert trainability_map(GRID, TRAINER, workers=pool, tile=(1, 4)).identical(expected)
    assert trainability_map(GRID, TRAINER, workers=2, tile=(5, 5)).identical(expected)


def test_a_failing_tile_is_marked_reported_and_tried_again(tmp_path):
    store = tmp_path / "m.zarr"
    with pytest.warns(UserWarning, match="1 of 4 tiles failed; first: .*out of memory, say"):
        runs = trainability_map(GRID, replace(TRAINER, fail_above=5.0), store=store, tile=(3, 9))
    failed = (runs["status"] == Status.FAILED).values
    assert failed.sum() == 27
    assert np.isnan(runs["final_loss"].values[failed]).all()
    again = trainability_map(GRID, TRAINER, store=store)
    assert again.equals(trainability_map(GRID, TRAINER))


def test_attrs_hold_the_provenance_and_axes_keep_their_scale():
    runs = trainability_map(GRID, TRAINER)
    assert {"package_version", "commit", "trainer", "dtype", "settings"} <= set(runs.attrs)
    assert json.loads(runs.attrs["settings"]) == {"n_steps": 20}  # the axes are coordinates, not settings
    assert runs["lr"].attrs["scale"] == "log"
    assert runs["status"].attrs["flag_meanings"].split()[Status.DIVERGED] == "diverged"
    assert runs["status"].dtype == np.int8


def test_numbers_of_numpy_are_settings_like_any(tmp_path):
    """A loop over an array hands them to a trainer."""
    store, numpys = tmp_path / "m.zarr", replace(TRAINER, n_steps=np.int64(20))
    expected = trainability_map(GRID, TRAINER, store=store)
    assert trainability_map(GRID, numpys).identical(expected)
    assert trainability_map(GRID, numpys, store=store).identical(expected)
    with pytest.raises(TypeError, match="settings hold a ndarray; they must be JSON values"):
        trainability_map(GRID, replace(TRAINER, n_steps=np.arange(2)))


def test_a_finished_store_is_read_and_not_trained_again(tmp_path):
    store = tmp_path / "m.zarr"
    first = trainability_map(GRID, TRAINER, store=store)
    slow = replace(TRAINER, seconds=3600.0)
    assert trainability_map(GRID, slow, store=store).identical(first)


def test_a_store_of_another_sweep_is_refused_with_the_difference(tmp_path):
    store = tmp_path / "m.zarr"
    trainability_map(GRID, TRAINER, store=store)
    before = contents(store)
    other_axis = Grid(lr=log_axis(0.1, 20, 12), curvature=linear_axis(0.1, 2, 9))
    for grid, trainer, message in (
        (GRID, replace(TRAINER, n_steps=30), "n_steps is 20 there and 30 here"),
        (other_axis, TRAINER, "axis lr holds 12 values from .* there"),
        (Grid(lr=GRID["lr"]), TRAINER, "axes are lr, curvature there and lr here"),
    ):
        with pytest.raises(ValueError, match=message):
            trainability_map(grid, trainer, store=store)
    assert contents(store) == before


def test_folders_that_are_no_store_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is no map"):
        trainability_map(GRID, TRAINER, store=tmp_path / "full")
    assert (tmp_path / "full" / "thesis.tex").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot be written .* choose a folder"):
        trainability_map(GRID, TRAINER, store=tmp_path / "file" / "m.zarr")


def test_bad_input_is_named_before_any_work():
    slow = replace(TRAINER, seconds=3600.0)
    for grid, options, message in (
        (
            Grid(lr=[1.0], width=[2.0]),
            {},
            "axis 'width' is not a hyperparameter of ToyTrainer; it has lr, curvature",
        ),
        (Grid(lr=1 + 1e-16 * np.arange(2) + [0, 2.3e-16]), {}, "ulp apart in float64"),
        (GRID, {"tile": (3,)}, r"tile=\(3,\) does not fit"),
        (GRID, {"tile": (0, 3)}, "positive sizes"),
        (GRID, {"workers": 0}, "workers=0"),
    ):
        with pytest.raises(ValueError, match=message):
            trainability_map(grid, slow, **options)


def test_progress_counts_tiles():
    calls = []
    trainability_map(GRID, TRAINER, tile=(6, 9), progress=lambda done, total: calls.append((done, total)))
    assert calls == [(0, 2), (1, 2), (2, 2)]
    trainability_map(GRID, TRAINER, progress=True)  # draws a bar
