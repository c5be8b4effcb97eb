"""The command line: answers, JSON, help that teaches, exit codes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import trainability as tr
from trainability import cli

sys.path.insert(0, str(Path(__file__).parent))
from command_line import main, run
from toy_trainer import ToyTrainer


def test_phase_answers_in_words_and_in_json():
    assert "mu = 1.1: 2-cycle" in run("phase", "1.1").stdout
    answer = json.loads(run("phase", "1.1", "--json").stdout)
    assert answer["phase"] == "2-cycle"
    assert answer["thresholds"] == tr.thresholds()


def test_critical_lr_is_the_closed_form_and_separates_trained_runs():
    words = ("critical-lr", "--gain", "1.5", "--target", "0.8", "--u", "1.1", "--v", "-0.4")
    answer = json.loads(run(*words, "--json").stdout)
    assert answer["critical_lr"] == tr.critical_lr_from(1.5**2, 1.5 * 0.8, 1.1, -0.4)
    assert answer["safe_lr"] == min(answer["critical_lr"], 1 / (1.5 * 0.8))
    assert f"bounded up to   {answer['critical_lr']:.10g}" in run(*words).stdout
    prompt = tr.Prompt([[1.0]], [1.5], [1.0], 0.8)
    for factor, fate in ((0.9, False), (1.1, True)):
        lr = factor * answer["critical_lr"]
        a, b = tr.reduced_start(prompt, lr, [[1.1]], -0.4)
        orbit = tr.orbit(tr.product_map(tr.effective_step(prompt, lr)), [float(a), float(b)], n=4000)
        assert bool(np.isnan(orbit[-1]).any()) == fate


@pytest.mark.parametrize("command", ["phase", "critical-lr", "diagram", "validate", "claim"])
def test_help_teaches_and_names_the_function(command):
    text = run(command, "--help").stdout
    assert "In Python" in text
    assert "trainability." in text
    assert len(text.splitlines()) > 10


def test_diagram_writes_a_picture(tmp_path):
    run("diagram", "--out", str(tmp_path / "d.png"), "--from", "0.5", "--to", "1.5", "--columns", "40")
    assert (tmp_path / "d.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("phase", "nan"), 2, "mu must be finite"),
        (
            ("map", "linear", "X", "--x", "width:1:2:4"),
            2,
            "axis 'width' is not a hyperparameter of LinearTransformer; it has lr",
        ),
        (("map", "linear", "X", "--x", "lr:1:4"), 2, "write name:low:high:pixels"),
        (("map", "linear", "X", "--x", "lr:4:1:4"), 2, "empty or reversed"),
        (("map", "linear", "X", "--mode", "most"), 2, "mode='most'"),
        (
            ("map", "mlp", "X", "--condition", "sine"),
            2,
            "condition 'sine' is unknown; known are tanh, relu",
        ),
        (("map", "mlp", "X", "--batch-size", "999"), 2, "batch_size=999 is more than the 272 rows"),
        (("validate", "--out", "/dev/null/demo"), 1, "cannot be written"),
        (("validate", "--size", "huge"), 2, "size='huge' is none of quick"),
        (("claim", "unheard-of"), 2, "claim 'unheard-of' is unknown"),
    ],
)
def test_bad_input_is_one_line_and_an_exit_code(monkeypatch, capsys, tmp_path, words, code, message):
    monkeypatch.chdir(tmp_path)
    assert main(monkeypatch, *words) == code
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_tiles_that_fail_are_one_line_and_an_exit_code(monkeypatch, capsys, tmp_path):
    """A script must not take such a map for finished; bad pixels of a new map are found before any is trained."""
    store, failing = tmp_path / "m.zarr", ToyTrainer(fail_above=5.0)
    grid = tr.Grid(lr=tr.log_axis(0.1, 10, 12))
    with pytest.warns(UserWarning, match="out of memory, say"):
        tr.trainability_map(grid, failing, store=store, tile=(3,))
    assert main(monkeypatch, "sweep", "resume", str(store)) == 1
    output = capsys.readouterr()
    assert (
        "trainability: warning: 1 of 4 tiles failed; first: tile [9:12]: RuntimeError: out of memory, say\n"
        in (output.err)
    )
    assert "cli_sweep.py" not in output.err
    assert ", 3 failed" in output.out
    words = ("map", "mlp", str(tmp_path / "n.zarr"), "--x", "batch_size:1:4:4", "--y", "lr:1:9:4")
    assert main(monkeypatch, *words) == 2
    assert "batch_size=1.375 must be a whole number" in capsys.readouterr().err
    assert not (tmp_path / "n.zarr").exists()


def test_ctrl_c_exits_130_and_says_how_to_continue(monkeypatch, capsys):
    def interrupted():
        stop = KeyboardInterrupt()
        stop.add_note("stopped after 2 of 4 tiles; run the same command again to continue")
        raise stop

    monkeypatch.setattr(cli, "app", interrupted)
    assert main(monkeypatch) == 130
    assert "run the same command again" in capsys.readouterr().err
