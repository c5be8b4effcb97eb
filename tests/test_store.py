"""Stores that several processes write, that lose bytes, run out of disk, and are killed; refined maps in them."""

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from trainability import Grid, Status, linear_axis, log_axis, trainability_map
from trainability._contract import is_trained
from trainability._crew import crew_of
from trainability._filling import QUARANTINE
from trainability._locks import Locks, run_folder
from trainability.progress import sweep_status
from trainability.refinement import infer_status
from trainability.sweep import _default_tile, resume_sweep
from trainability.trainers import MLP

sys.path.insert(0, str(Path(__file__).parent))
from test_sweep import GRID, TRAINER, contents
from toy_failures import DeadlyTrainer, Forgetful, Fractions, WrongShape, YesOrNo, ctrl_c_after

RUN = """
import sys
sys.path.insert(0, {tests!r})
from toy_trainer import ToyTrainer
from trainability import trainability_map
from test_sweep import GRID
if __name__ == "__main__":
    trainer = ToyTrainer(seconds={seconds}, folder={folder!r})
    trainability_map(GRID, trainer, store={store!r}, tile=(2, 3), refine={refine})
"""


def start_writer(store, *, seconds=0.05, refine=False, folder=""):
    tests = str(Path(__file__).parent)
    code = RUN.format(tests=tests, seconds=seconds, store=str(store), refine=refine, folder=str(folder))
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE)


def committed(store):
    return len([p for p in (store / "status" / "c").rglob("*") if p.is_file() and p.suffix != ".partial"])


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


@pytest.mark.parametrize("refine", [False, 2])
def test_two_writers_killed_at_random_moments_leave_the_bytes_of_one(tmp_path, refine):
    """The last generation is not killed; the store is then that of a sweep nobody disturbed."""
    kill_and_compare(tmp_path, refine, generations=1, moments=random.Random(0))


@pytest.mark.slow
@pytest.mark.parametrize("refine", [False, 2])
def test_many_generations_of_killed_writers(tmp_path, refine):
    for seed in range(3):
        (tmp_path / str(seed)).mkdir()
        kill_and_compare(tmp_path / str(seed), refine, generations=5, moments=random.Random(seed))


def kill_and_compare(folder, refine, *, generations, moments):
    store, whole = folder / "m.zarr", folder / "whole.zarr"
    trainability_map(GRID, TRAINER, store=whole, tile=(2, 3), refine=refine)
    for generation in range(generations):
        writers = [start_writer(store, seconds=0.15, refine=refine) for _ in range(2)]
        wait_for(lambda n=3 + 10 * generation // generations: committed(store) >= n)
        for writer in writers:
            time.sleep(moments.uniform(0, 0.3))
            os.killpg(writer.pid, signal.SIGKILL)
        for writer in writers:
            writer.communicate()
    status = xr.open_zarr(store, consolidated=False)["status"]
    assert (status == Status.PENDING).any()
    writers = [start_writer(store, seconds=0.02, refine=refine) for _ in range(2)]
    for writer in writers:
        assert writer.wait(120) == 0, writer.stderr.read().decode()
    assert contents(store) == contents(whole)
    assert not run_folder(store).exists()


def test_two_writers_share_the_work(tmp_path):
    """Both train, and no tile is trained twice."""
    store, calls = tmp_path / "m.zarr", tmp_path / "calls"
    calls.mkdir()
    writers = [start_writer(store, seconds=0.3, folder=calls) for _ in range(2)]
    for writer in writers:
        assert writer.wait(120) == 0, writer.stderr.read().decode()
    processes = [call.name.split("-")[0] for call in calls.iterdir()]
    assert len(processes) == 18  # 12 x 9 pixels in tiles of 2 x 3
    assert len(set(processes)) == 2
    trainability_map(GRID, TRAINER, store=tmp_path / "whole.zarr", tile=(2, 3))
    assert contents(store) == contents(tmp_path / "whole.zarr")


def test_a_tile_claimed_elsewhere_is_awaited_and_not_trained_again(tmp_path):
    """A writer that finds the others' tiles claimed waits, and takes over those of a writer that is killed."""
    store, calls = tmp_path / "m.zarr", tmp_path / "calls"
    calls.mkdir()
    slow = start_writer(store, seconds=3600)  # claims the first tile and stays there
    wait_for(lambda: (store / "status" / "zarr.json").exists())
    time.sleep(1.0)
    seen = []

    def report(done, total):
        seen.append(done)
        if done == total - 1 and slow.poll() is None:
            os.killpg(slow.pid, signal.SIGKILL)
            slow.communicate()

    runs = trainability_map(GRID, replace(TRAINER, folder=str(calls)), store=store, progress=report)
    assert seen[-1] == 18
    assert len(list(calls.iterdir())) == 18
    assert runs.identical(trainability_map(GRID, TRAINER))


def test_one_process_does_not_open_a_store_twice(tmp_path):
    def nested(done, total):
        if done == 1:
            with pytest.raises(ValueError, match="being written by this process already"):
                trainability_map(GRID, TRAINER, store=tmp_path / "m.zarr")

    runs = trainability_map(GRID, TRAINER, store=tmp_path / "m.zarr", tile=(3, 3), progress=nested)
    assert is_trained(runs["status"]).all()


def test_leftovers_of_a_killed_writer_go_only_when_nobody_else_writes(tmp_path):
    store = tmp_path / "m.zarr"
    trainability_map(GRID, TRAINER, store=store)
    leftover = store / "status" / "c" / "0" / "0.abc.partial"
    code = (
        "import time; from pathlib import Path; from trainability._locks import Locks; "
        f"Locks(Path({str(store)!r})); print(flush=True); time.sleep(3600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as live:
        live.stdout.readline()
        leftover.touch()
        trainability_map(GRID, TRAINER, store=store)
        assert leftover.exists()  # it may be the live writer's
        live.kill()
    trainability_map(GRID, TRAINER, store=store)
    assert not leftover.exists()


@settings(max_examples=25)
@given(data=st.data())
def test_a_damaged_chunk_is_found_reported_and_trained_again(data, tmp_path_factory):
    """Any one byte changed, cut off, or the whole file lost, in any chunk but the axes'."""
    store = tmp_path_factory.mktemp("s") / "m.zarr"
    trainability_map(GRID, TRAINER, store=store, tile=(5, 4))
    before = contents(store)
    chunks = sorted(
        p
        for name in ("final_loss", "stop_step", "status")
        for p in (store / name / "c").rglob("*")
        if p.is_file()
    )
    chunk = data.draw(st.sampled_from(chunks))
    content = bytearray(chunk.read_bytes())
    damage = data.draw(st.sampled_from(["flip", "cut", "empty", "lose"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if damage == "flip":
        content[place] ^= 1 << data.draw(st.integers(0, 7))
        chunk.write_bytes(content)
    elif damage == "cut":
        chunk.write_bytes(content[:place])
    elif damage == "empty":
        chunk.write_bytes(b"")
    else:
        chunk.unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        runs = trainability_map(GRID, TRAINER, store=store)
    reported = [w for w in caught if "1 of 9 tiles were corrupted and are trained again" in str(w.message)]
    assert reported or (damage == "lose" and "status" in chunk.parts)  # then the tile is merely pending
    assert contents(store) == before
    assert runs.identical(trainability_map(GRID, TRAINER))


def test_a_damaged_axis_is_refused(tmp_path):
    store = tmp_path / "m.zarr"
    trainability_map(GRID, TRAINER, store=store)
    axis = store / "lr" / "c" / "0"
    axis.write_bytes(axis.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"axis lr is corrupted.*restore lr/c/0"):
        trainability_map(GRID, TRAINER, store=store)
    (store / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match="is no map"):
        trainability_map(GRID, TRAINER, store=store)


FULL_DISK = """
import resource, signal, sys, warnings
sys.path.insert(0, {tests!r})
from toy_trainer import ToyTrainer
from trainability import Grid, linear_axis, resume_sweep, trainability_map
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
grid = Grid(lr=linear_axis(0.1, 3, 64), curvature=linear_axis(0.1, 2, 64))
def limit(done, total):
    if done == 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, ({most}, {most}))
warnings.simplefilter("always")
trainability_map(grid, ToyTrainer(), store={store!r}, tile=(16, 64), refine={refine}, progress=limit)
if {resume}:
    resume_sweep({store!r})
"""


def sweep_on_a_full_disk(store, *, most, refine=False, resume=False):
    """What a process says on whose disk no file of over `most` bytes fits once two tiles are done.

    The limit on the size of files stands for the disk: the kernel refuses the write in the same call.
    """
    tests = str(Path(__file__).parent)
    code = FULL_DISK.format(tests=tests, store=str(store), most=most, refine=refine, resume=resume)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return run.stderr


def test_a_full_disk_fails_tiles_and_the_store_goes_on_when_there_is_room(tmp_path):
    store = tmp_path / "m.zarr"
    said = sweep_on_a_full_disk(store, most=500)
    assert "2 of 4 tiles failed; first: tile [32:48, 0:64]: OSError: [Errno 27] File too large" in said
    grid = Grid(lr=linear_axis(0.1, 3, 64), curvature=linear_axis(0.1, 2, 64))
    assert is_trained(xr.open_zarr(store, consolidated=False)["status"]).sum() == 2048
    trainability_map(grid, TRAINER, store=store)
    trainability_map(grid, TRAINER, store=tmp_path / "whole.zarr", tile=(16, 64))
    assert contents(store) == contents(tmp_path / "whole.zarr")
    assert not run_folder(store).exists()


def test_a_disk_that_stays_full_fails_tiles_of_a_refined_and_of_a_resumed_map_too(tmp_path):
    """Nothing fits, not the note of a failure, nor the mark of what is inferred, nor the trainer to resume with."""
    store = tmp_path / "m.zarr"
    said = sweep_on_a_full_disk(store, most=40, refine=True, resume=True)
    assert said.count("of 4 tiles failed; first: tile ") == 2
    assert "OSError: [Errno 27] File too large" in said
    assert not list(tmp_path.rglob("*.partial"))
    grid = Grid(lr=linear_axis(0.1, 3, 64), curvature=linear_axis(0.1, 2, 64))
    resume_sweep(store)
    trainability_map(grid, TRAINER, store=tmp_path / "whole.zarr", tile=(16, 64), refine=True)
    assert contents(store) == contents(tmp_path / "whole.zarr")
    assert not run_folder(store).exists()


def test_a_broken_executor_that_was_handed_in_says_what_to_do(tmp_path):
    trainer = DeadlyTrainer(deadly=float(GRID["lr"][7]))
    with (
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool,
        pytest.raises(BrokenExecutor) as caught,
    ):
        trainability_map(GRID, trainer, tile=(2, 9), workers=pool, store=tmp_path / "m.zarr")
    assert "handed in as workers is broken: call again with a new one" in caught.value.__notes__[0]
    runs = trainability_map(GRID, DeadlyTrainer(), store=tmp_path / "m.zarr")
    assert is_trained(runs["status"]).all()


def test_several_workers_each_get_tiles(tmp_path):
    """A map that is one tile by default is none for two processes."""
    assert len(Grid(lr=range(1, 65), curvature=range(1, 65)).tiles(_default_tile((64, 64), 1))) == 1
    for workers in (2, np.int64(2), 7):
        with crew_of(workers) as crew:
            assert crew.in_flight == 2 * workers
        tile = _default_tile((64, 64), workers)
        assert np.prod(tile) <= 64 * 64 / (2 * workers)
    with pytest.raises(ValueError, match="workers=0"):
        trainability_map(GRID, TRAINER, store=tmp_path / "m.zarr", workers=0)
    assert not list(tmp_path.iterdir())


def test_a_tile_that_kills_its_worker_fails_alone():
    trainer = DeadlyTrainer(deadly=float(GRID["lr"][7]))
    with pytest.warns(UserWarning, match=r"3 of 18 tiles failed; first: tile \[6:8, .*: BrokenProcessPool"):
        runs = trainability_map(GRID, trainer, tile=(2, 3), workers=2, retries=0)
    failed = (runs["status"] == Status.FAILED).values
    expected = np.zeros(GRID.shape, bool)
    expected[6:8] = True
    np.testing.assert_array_equal(failed, expected)


def test_retries_and_quarantine(tmp_path):
    trainer = DeadlyTrainer(marks=str(tmp_path / "marks"), failures=1)
    (tmp_path / "marks").mkdir()
    runs = trainability_map(GRID, trainer, tile=(6, 9))  # the second attempt succeeds, silently
    assert is_trained(runs["status"]).all()
    store = tmp_path / "m.zarr"
    failing = replace(TRAINER, fail_above=5.0)
    for _ in range(QUARANTINE // 2):
        with pytest.warns(UserWarning, match="out of memory, say"):
            trainability_map(GRID, failing, store=store, tile=(3, 9))
    with pytest.warns(UserWarning, match=r"left alone after 6 failures; remove .*failed/3.json"):
        trainability_map(GRID, TRAINER, store=store)
    (run_folder(store) / "failed" / "3.json").unlink()
    assert trainability_map(GRID, TRAINER, store=store).equals(trainability_map(GRID, TRAINER))
    assert not run_folder(store).exists()
    with pytest.raises(ValueError, match="retries=-1"):
        trainability_map(GRID, TRAINER, retries=-1)


def test_observables_of_another_shape_fail_the_tile():
    with pytest.warns(UserWarning, match="2 of 2 tiles failed; first: .*ValueError: .*final_loss of shape"):
        runs = trainability_map(GRID, WrongShape(), tile=(6, 9))
    assert (runs["status"] == Status.FAILED).all()


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Forgetful(), "ValueError: the trainer returned no final_loss, which its observables promise"),
        (Forgetful(nothing=True), "ValueError: the trainer returned no final_loss, stop_step, which"),
        (YesOrNo(), r"ValueError: the trainer's status is False; it must be 1 \(converged\), 2"),
        (Fractions(), "ValueError: the trainer returned stop_step as float64; its observables say int32"),
    ],
)
def test_a_trainer_that_breaks_its_contract_fails_and_leaves_no_fill_for_a_result(broken, message):
    with pytest.warns(UserWarning, match=message):
        runs = trainability_map(GRID, broken)
    assert (runs["status"] == Status.FAILED).all()


def test_every_executor_gives_the_same_map(tmp_path):
    """Threads, spawned processes, and Dask through its executor; in memory and in a store."""
    distributed = pytest.importorskip("distributed")
    expected = trainability_map(GRID, TRAINER)
    stores = []
    with (
        ThreadPoolExecutor(3) as threads,
        ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes,
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        for i, workers in enumerate((1, threads, processes, client.get_executor())):
            assert trainability_map(GRID, TRAINER, workers=workers, tile=(2, 4)).identical(expected)
            stores.append(tmp_path / f"{i}.zarr")
            trainability_map(GRID, TRAINER, workers=workers, tile=(2, 4), store=stores[-1])
    assert all(contents(store) == contents(stores[0]) for store in stores[1:])


def test_resume_takes_the_trainer_that_began(tmp_path):
    store = tmp_path / "m.zarr"
    for refine in (False, 4):
        with pytest.raises(KeyboardInterrupt):
            trainability_map(GRID, TRAINER, store=store, tile=(3, 3), progress=ctrl_c_after(3), refine=refine)
        assert resume_sweep(store).identical(trainability_map(GRID, TRAINER, refine=refine))
        with pytest.raises(ValueError, match="no sweep to resume"):
            resume_sweep(store)
        store = tmp_path / "refined.zarr"
    with pytest.raises(KeyboardInterrupt):
        trainability_map(GRID, TRAINER, store=tmp_path / "lost.zarr", tile=(3, 3), progress=ctrl_c_after(3))
    (run_folder(tmp_path / "lost.zarr") / "sweep.pickle").write_bytes(
        pickle.dumps(TRAINER).replace(b"Toy", b"Tox")
    )
    with pytest.raises(ValueError, match="cannot be loaded"):
        resume_sweep(tmp_path / "lost.zarr")
    (run_folder(tmp_path / "lost.zarr") / "sweep.pickle").write_bytes(b"")
    with pytest.raises(ValueError, match="cannot be loaded"):
        resume_sweep(tmp_path / "lost.zarr")
    with pytest.raises(ValueError, match="no sweep to resume: it does not exist"):
        resume_sweep(tmp_path / "never.zarr")


def test_a_store_whose_axes_are_damaged_is_named_when_resumed(tmp_path):
    store = tmp_path / "m.zarr"
    with pytest.raises(KeyboardInterrupt):
        trainability_map(GRID, TRAINER, store=store, tile=(3, 3), progress=ctrl_c_after(3))
    axis, form = store / "lr" / "c" / "0", store / "status" / "zarr.json"
    kept = axis.read_bytes(), form.read_text()
    axis.write_bytes(kept[0][:-1])
    form_message = r"store .*m\.zarr cannot be read \(.*\); restore its axes and zarr\.json files"
    with pytest.raises(ValueError, match=form_message):
        resume_sweep(store)
    axis.write_bytes(kept[0])
    form.write_text("{")
    with pytest.raises(ValueError, match=form_message):
        resume_sweep(store)
    with pytest.raises(ValueError, match=r"store .*m\.zarr exists and is no map"):
        trainability_map(GRID, TRAINER, store=store)
    form.write_text(kept[1])
    assert resume_sweep(store).identical(trainability_map(GRID, TRAINER))


def test_known_pixels_are_copied_and_not_trained(tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()
    coarse = Grid(lr=GRID["lr"][::2], curvature=GRID["curvature"][1::2])
    known = trainability_map(coarse, TRAINER)
    trainer = replace(TRAINER, folder=str(calls))
    with pytest.raises(ValueError, match="known is a map of other runs: n_steps is 20 there and 30 here"):
        trainability_map(GRID, replace(TRAINER, n_steps=30), known=known)
    runs = trainability_map(GRID, trainer, known=known, tile=(1, 1), store=tmp_path / "m.zarr")
    assert len(list(calls.iterdir())) == 12 * 9 - 6 * 4
    assert runs.identical(trainability_map(GRID, TRAINER))
    with pytest.raises(ValueError, match="known has axes lr; this grid has lr, curvature"):
        trainability_map(GRID, trainer, known=trainability_map(Grid(lr=GRID["lr"]), TRAINER))


def test_a_refined_map_trains_the_boundary_and_a_later_call_the_rest(tmp_path):
    grid = Grid(lr=log_axis(0.1, 10, 128), curvature=linear_axis(0.1, 2, 96))
    dense = trainability_map(grid, TRAINER)
    store = tmp_path / "m.zarr"
    refined = trainability_map(grid, TRAINER, store=store, tile=(40, 40), refine=True)
    trained = is_trained(refined["status"])
    assert (
        trained.mean() < 0.15
    )  # a smooth curve over 128 x 96 pixels: 1/64 explored, some ten pixels a column
    assert (refined["status"].values[~trained] == Status.INFERRED).all()
    np.testing.assert_array_equal(refined["status"].values[trained], dense["status"].values[trained])
    np.testing.assert_array_equal(refined["final_loss"].values[trained], dense["final_loss"].values[trained])
    assert np.isnan(refined["final_loss"].values[~trained]).all()
    np.testing.assert_array_equal(infer_status(refined), dense["status"])  # one smooth curve is found whole
    again = trainability_map(grid, replace(TRAINER, seconds=3600.0), store=store, refine=True)
    assert again.identical(refined)
    assert trainability_map(grid, TRAINER, store=store).equals(dense)


WIDE = Grid(lr=log_axis(0.1, 10, 64), curvature=linear_axis(0.1, 2, 48))


def test_a_tile_that_fails_in_a_refined_map_is_tried_again_by_the_next_call_only(tmp_path):
    """Each pass asks for more of it: tried at each, it would be left alone for good within one call."""
    store, failing = tmp_path / "m.zarr", replace(TRAINER, fail_above=5.0)
    for where in ({}, {"store": store}):
        with pytest.warns(UserWarning, match=r"3 of 12 tiles failed; first: .*out of memory, say"):
            runs = trainability_map(WIDE, failing, tile=(16, 16), refine=True, **where)
        status = runs["status"].values
        assert np.isin(status[48:], (Status.FAILED, Status.PENDING)).all()  # beyond lr = 10^(1/2)
        assert not np.isin(status[:48], (Status.FAILED, Status.PENDING)).any()
    kept = [json.loads(f.read_text()) for f in (run_folder(store) / "failed").iterdir()]
    assert [k["attempts"] for k in kept] == [2, 2, 2]
    repaired = trainability_map(WIDE, TRAINER, store=store, refine=True)
    plain = trainability_map(WIDE, TRAINER, refine=True)
    trained = is_trained(plain["status"])  # and a few more, along the edges of what had failed
    np.testing.assert_array_equal(repaired["status"].values[trained], plain["status"].values[trained])
    assert sweep_status(store).pending == 0
    assert not run_folder(store).exists()


def test_the_rest_of_a_refined_map_is_pending_until_it_is_trained(tmp_path):
    """Interrupted, the sweep is not finished, and it can be resumed; a refined call infers the rest again."""
    store = tmp_path / "m.zarr"
    refined = trainability_map(WIDE, TRAINER, store=store, tile=(16, 16), refine=True)
    before, seen = contents(store), []

    def stop(done, total):
        if seen:
            raise KeyboardInterrupt
        seen.append(sweep_status(store))

    for _ in range(2):
        seen.clear()
        with pytest.raises(KeyboardInterrupt):
            trainability_map(WIDE, TRAINER, store=store, progress=stop)
        assert seen[0].pixels["inferred"] == 0 < seen[0].pixels["pending"]
    assert "stopped: " in repr(sweep_status(store))
    again = trainability_map(WIDE, TRAINER, store=store, refine=True)
    whole = sweep_status(store).pixels
    assert whole["pending"] == 0 < whole["inferred"]
    trained = is_trained(refined["status"])
    np.testing.assert_array_equal(again["status"].values[trained], refined["status"].values[trained])
    assert contents(store).keys() == before.keys()
    with pytest.raises(KeyboardInterrupt):
        trainability_map(WIDE, TRAINER, store=store, progress=stop)
    assert resume_sweep(store).equals(trainability_map(WIDE, TRAINER))
    assert not run_folder(store).exists()


@pytest.mark.parametrize("refine", [3, 1.5, -2])
def test_a_refinement_step_is_a_power_of_two(refine):
    with pytest.raises(ValueError, match="power of two"):
        trainability_map(GRID, TRAINER, refine=refine)


def test_file_systems_without_locks_grant_every_claim(tmp_path, monkeypatch):
    """Sweeps then go on, at worst training a tile twice, and clear nothing that may be another's."""
    import fcntl

    def unsupported(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "lockf", unsupported)
    runs = trainability_map(GRID, TRAINER, store=tmp_path / "m.zarr")
    assert runs.identical(trainability_map(GRID, TRAINER))
    locks = Locks(tmp_path / "other.zarr")
    assert locks.acquire(5)
    locks.close()


def test_small_networks_are_bit_identical_however_they_are_swept(tmp_path):
    """Ten tilings, one and two threads, in memory and in a store: the same Dataset."""
    grid = Grid(lr_in=log_axis(0.1, 1e4, 13), lr_out=log_axis(0.1, 1e4, 11))
    trainer = MLP(width=4, n_steps=30)
    expected = trainability_map(grid, trainer, tile=(13, 11))
    assert len(np.unique(expected["status"])) > 1
    tilings = [(13, 11), (1, 1), (1, 11), (13, 1), (2, 3), (5, 5), (7, 2), (3, 11), (12, 10), (4, 8)]
    for i, tile in enumerate(tilings):
        other = replace(trainer, threads=1 + i % 2)
        store = tmp_path / f"{i}.zarr" if i % 3 else None
        assert trainability_map(grid, other, tile=tile, store=store).identical(expected)
