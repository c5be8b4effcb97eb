"""Maps of transformers from the command line: what is trained, estimated, drawn while it fills in, and continued."""

import json
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import trainability as tr
from trainability import cli
from trainability.cli_picture import watched
from trainability.cli_transformer import named_task, preset_trainer
from trainability.plot import STATUS_COLORS

sys.path.insert(0, str(Path(__file__).parent))
from toy_trainer import ToyTrainer

AXES = ("--x", "lr_attn:0.01:1:3:log", "--y", "lr_rest:0.003:0.6:2:log")
SMALL = ("--d-model", 8, "--n-layers", 1, "--batch-size", 4, "--n-steps", 8, "--window", 8)


def run(*words):
    return CliRunner().invoke(cli.app, [str(w) for w in words], catch_exceptions=False).stdout


def test_a_map_is_that_of_its_trainer_and_goes_on(tmp_path):
    store, picture = tmp_path / "m.zarr", tmp_path / "m.png"
    words = ("map", "transformer", store, *AXES, *SMALL, "--seed", 2, "--order-seed", 3, "--n-records", 4)
    answer = json.loads(run(*words, "--picture", picture, "--json"))
    trainer = tr.trainers.Transformer.tiny(
        tr.trainers.text_task(window=8), d_model=8, n_layers=1, batch_size=4, n_steps=8, seed=2, order_seed=3,
        n_records=4,
    )  # fmt: skip
    grid = tr.Grid(lr_attn=tr.log_axis(0.01, 1, 3), lr_rest=tr.log_axis(0.003, 0.6, 2))
    runs = tr.trainability_map(grid, trainer)
    kept = xr.open_zarr(store, consolidated=False)
    for name in runs:
        np.testing.assert_array_equal(kept[name], runs[name])
    assert kept.attrs["settings"] == runs.attrs["settings"]  # with the digests of text and order
    assert sum(answer.values()) == 6
    assert picture.stat().st_size > 5_000
    text = run(*words)
    assert "6 undecided" in text
    assert "no audit of the cut-off: runs have 6 finite outcomes" in text
    assert "lr_attn: 3 pixels, 3 distinct in float32" in text


def test_the_horizon_is_measured_at_the_boundary(tmp_path):
    words = ("map", "transformer", tmp_path / "m.zarr", *AXES, *SMALL, "--horizon", "--converged-below")
    assert "the horizon is" not in run(*words, 0.1)  # one outcome only
    row = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)["tail_ratio"].values[:, 0]
    cut = (row.min() + row.max()) / 2
    assert "; the horizon is" in run(*words[:2], tmp_path / "n.zarr", *words[3:], cut)


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path):
    words = ("map", "transformer", tmp_path / "m.zarr", *AXES, *SMALL[:-4], "--n-steps", 200, "--dry-run")
    assert json.loads(run(*words, "--json"))["runs"] == 6
    assert "6 runs of" in run(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("preset", "task", "described"),
    [
        ("tiny", "sonnets", {"d_model": 16, "grouping": "attention", "causal": True}),
        ("torkamandi", "synthetic", {"d_model": 64, "batch_size": 256, "n_steps": 4200}),
        ("geometry", "sonnets", {"residual": "sqrt", "causal": False, "n_layers": 6}),
    ],
)
def test_presets_have_the_default_axes_as_hyperparameters(preset, task, described):
    from trainability.cli_map import read_axis
    from trainability.cli_transformer import AXES

    trainer = preset_trainer(preset, task, None)
    for name, value in described.items():
        assert getattr(trainer, name) == value
    assert {read_axis(text)[0] for text in AXES[preset]} <= set(trainer.hyperparameters)


def test_tasks_by_name_and_from_a_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be, or not to be " * 20)
    assert named_task(str(path), 8).n_inputs == len(set("to be, or not to be "))
    assert named_task("modular", 8).name == "modular"
    assert named_task("sonnets", 8, last=True).scored.sum() == 1
    with pytest.raises(ValueError, match="task='sonnet' is unknown; use sonnets, synthetic, copy"):
        named_task("sonnet", 8)
    with pytest.raises(ValueError, match="preset='big' is unknown; use tiny"):
        preset_trainer("big", "sonnets", 8)


def colors(path):
    return {
        tuple(c) for c in np.round(255 * matplotlib.image.imread(path)[..., :3]).astype(int).reshape(-1, 3)
    }


def test_the_picture_fills_in_from_the_store(tmp_path):
    """After the first tile it shows trained pixels and white ones; it is never half written."""
    store, picture = tmp_path / "m.zarr", tmp_path / "m.png"
    grid = tr.Grid(lr=tr.linear_axis(0.5, 1.5, 8), curvature=tr.linear_axis(0.5, 1, 8))
    seen = []
    with watched(store, picture, bar=False, every=0.0) as report:

        def looking(done, total):
            report(done, total)
            if picture.exists():
                seen.append(colors(picture))

        tr.trainability_map(grid, ToyTrainer(), store=store, tile=(4, 8), progress=looking)
    converged = tuple(int(STATUS_COLORS[tr.Status.CONVERGED][i : i + 2], 16) for i in (1, 3, 5))
    assert converged in seen[0]
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".png"] == ["m.png"]
