"""How far a sweep is and what it would cost, against counts and clocks."""

import os
import signal
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from trainability import Grid, linear_axis, log_axis, trainability_map
from trainability._locks import pace_file
from trainability.cost import TILE_SECONDS, estimate_cost
from trainability.progress import _rate, duration, sweep_status

sys.path.insert(0, str(Path(__file__).parent))
from test_store import start_writer, wait_for
from test_sweep import GRID, TRAINER, contents
from toy_failures import ctrl_c_after


def test_status_of_a_finished_a_failed_and_a_stopped_sweep(tmp_path):
    store = tmp_path / "m.zarr"
    with pytest.raises(KeyboardInterrupt):
        trainability_map(GRID, TRAINER, store=store, tile=(3, 9), progress=ctrl_c_after(3))
    before = contents(store)
    found = sweep_status(store)
    assert (found.tiles, found.tiles_done, found.tiles_busy) == (4, 3, 0)
    assert (found.pixels["pending"], found.pending) == (27, 27)
    assert not found.running
    assert found.rate is found.seconds_left is None
    assert repr(found).startswith("stopped: 81 of 108 pixels done (75.0 %), ")
    assert contents(store) == before
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainability_map(GRID, replace(TRAINER, fail_above=5.0), store=store)
    found = sweep_status(store)
    assert found.pixels["failed"] == found.pending == 27
    assert found.failures == {"[9:12, 0:9]": "RuntimeError: out of memory, say"}
    assert "tile [9:12, 0:9]: RuntimeError" in repr(found)
    runs = trainability_map(GRID, TRAINER, store=store)
    found = sweep_status(store)
    assert found.pixels == {**dict.fromkeys(found.pixels, 0), **_counts(runs)}
    assert repr(found).startswith("finished: 108 of 108 pixels done (100.0 %)")


def _counts(runs):
    names = dict(zip(runs["status"].flag_values, runs["status"].flag_meanings.split(), strict=True))
    return {name: int((runs["status"] == code).sum()) for code, name in names.items()}


def test_status_of_a_running_sweep(tmp_path):
    """Tiles of 6 pixels take 0.25 s and some milliseconds for writing: the rate is below 24, and not far."""
    store = tmp_path / "m.zarr"
    with start_writer(store, seconds=0.25) as writer:
        wait_for(lambda: store.exists() and sweep_status(store).tiles_done >= 6)
        found = sweep_status(store)
        assert found.running
        assert found.tiles_busy == 1
        assert 8 < found.rate < 24
        assert found.seconds_left == pytest.approx(found.pixels["pending"] / found.rate)
        assert "running: " in repr(found)
        assert " left" in repr(found)
        os.killpg(writer.pid, signal.SIGKILL)
    assert not sweep_status(store).running


def test_status_may_be_asked_by_the_sweep_itself(tmp_path):
    """Probing the locks from the process that holds them would let them go."""
    store, seen = tmp_path / "m.zarr", []
    trainability_map(
        GRID, TRAINER, store=store, tile=(3, 9), progress=lambda *_: seen.append(sweep_status(store))
    )
    assert [found.tiles_done for found in seen] == [0, 1, 2, 3, 4]
    assert all(found.running for found in seen)


def test_a_damaged_status_is_pending_and_said_so(tmp_path):
    store = tmp_path / "m.zarr"
    trainability_map(GRID, TRAINER, store=store, tile=(3, 9))
    for chunk, content in (("1", b"no status"), ("2", b"")):
        (store / "status" / "c" / chunk / "0").write_bytes(content)
    found = sweep_status(store)
    assert found.pending == found.pixels["pending"] == 54
    assert list(found.failures) == ["[3:6, 0:9]", "[6:9, 0:9]"]
    assert "corrupted; the next call on the store trains it again" in repr(found)
    with pytest.warns(UserWarning, match="2 of 4 tiles were corrupted and are trained again"):
        trainability_map(GRID, TRAINER, store=store)
    assert sweep_status(store).failures == {}


def test_the_rate_counts_each_pixel_once(tmp_path):
    """A refined map writes a tile at each pass, with all that it held before."""
    store, noted = tmp_path / "m.zarr", []

    def look(done, total):
        lines = pace_file(store).read_text().split()
        trained = sweep_status(store).pixels
        noted.append((sum(map(int, lines[1::2])), trained["converged"] + trained["diverged"]))

    grid = Grid(lr=log_axis(0.1, 10, 48), curvature=linear_axis(0.1, 2, 48))
    trainability_map(grid, TRAINER, store=store, tile=(16, 16), refine=True, progress=look)
    assert noted[-1][0] > 0
    assert all(said == trained for said, trained in noted)


def test_the_rate_from_notes(tmp_path):
    """By hand: since the last start, over 64 tiles at most, and nothing before a first tile."""
    store = tmp_path / "m.zarr"
    pace_file(store).parent.mkdir()

    def rate(*lines, now):
        pace_file(store).write_text("".join(f"{line}\n" for line in lines))
        return _rate(store, now)

    assert rate("5.0 0", now=9.0) is None
    assert rate("1.0 0", "2.0 700", "5.0 0", "6.0 30", "7.0 10", now=9.0) == 10.0
    assert rate("1.0 0", *(f"{t}.0 3" for t in range(2, 102)), "cut o f", now=101.0) == 3.0
    assert _rate(tmp_path / "gone.zarr", 9.0) is None


def test_who_may_only_read_sees_what_is_trained(tmp_path, monkeypatch):
    """The lock file of another's store cannot be opened for writing; claims of tiles show all the same."""
    store, opened = tmp_path / "m.zarr", os.open

    def read_only(path, flags, *mode):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied")
        return opened(path, flags, *mode)

    with start_writer(store, seconds=3600) as writer:
        wait_for(lambda: store.exists() and sweep_status(store).tiles_busy)
        monkeypatch.setattr(os, "open", read_only)
        found = sweep_status(store)
        assert found.running
        assert found.tiles_busy == 1
        os.killpg(writer.pid, signal.SIGKILL)
    assert not sweep_status(store).running


def test_a_folder_that_is_no_map_has_no_status(tmp_path):
    with pytest.raises(ValueError, match="is no trainability map"):
        sweep_status(tmp_path)


class PerPixel:
    """Takes 0.15 ms for each pixel, slept."""

    hyperparameters = ("lr",)
    dtype = "float64"
    observables = {"loss": ("float64", "nothing"), "step": ("int32", "nothing")}  # noqa: RUF012

    def __call__(self, pixels):
        time.sleep(1.5e-4 * len(pixels["lr"]))

    def flops_per_run(self):
        return 2.5


def test_the_cost_of_pixels_that_sleep():
    """The sleep is exact; what else the machine does adds to it, so the estimate is above, and by less than half."""
    grid = Grid(lr=linear_axis(0, 1, 500_000))
    cost = estimate_cost(grid, PerPixel(), workers=2)
    assert cost.runs == 500_000
    assert 37.5 <= cost.seconds < 56
    assert cost.stderr < 15
    assert cost.bytes == 500_000 * (8 + 4 + 1 + 8)
    assert cost.flops == 1.25e6
    assert cost.tile == (65536,)  # of 2 ** k pixels, the nearest to ten seconds
    assert TILE_SECONDS == 10
    assert "500000 runs of 0." in repr(cost)
    with pytest.raises(ValueError, match="workers=0"):
        estimate_cost(grid, PerPixel(), workers=0)


def test_a_small_grid_is_its_own_sample():
    cost = estimate_cost(GRID, TRAINER)
    assert cost.runs == 108
    assert cost.tile == GRID.shape
    assert cost.flops is None
    assert estimate_cost(Grid(lr=log_axis(0.1, 1, 3)), TRAINER).runs == 3


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.5, "0.5 s"), (80, "80 s"), (600, "10 min"), (7200, "2 h"), (4e5, "4.6 days")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
