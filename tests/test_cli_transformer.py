"""Maps of transformers from the command line: what is trained, estimated, drawn while it fills in, and continued."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import trainability as tr
from trainability.cli_transformer import boundary_pixel, hyperparameters, named_task, preset_trainer

sys.path.insert(0, str(Path(__file__).parent))
from command_line import printed

AXES = ("--x", "lr_attn:0.01:1:3:log", "--y", "lr_rest:0.003:0.6:2:log")
SMALL = ("--d-model", 8, "--n-layers", 1, "--batch-size", 4, "--n-steps", 8, "--window", 8)


def test_a_map_is_that_of_its_trainer_and_goes_on(tmp_path):
    store, picture = tmp_path / "m.zarr", tmp_path / "m.png"
    words = ("map", "transformer", store, *AXES, *SMALL, "--seed", 2, "--order-seed", 3, "--n-records", 4)
    answer = json.loads(printed(*words, "--picture", picture, "--json"))
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
    text = printed(*words)
    assert "6 undecided" in text
    assert "no audit of the cut-off: runs have 6 finite outcomes" in text
    assert "lr_attn: 3 pixels, 3 distinct in float32" in text


def test_the_horizon_is_measured_at_the_boundary(tmp_path):
    words = ("map", "transformer", tmp_path / "m.zarr", *AXES, *SMALL, "--horizon", "--converged-below")
    assert "the horizon is" not in printed(*words, 0.1)  # one outcome only
    row = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)["tail_ratio"].values[:, 0]
    cut = (row.min() + row.max()) / 2
    assert "; the horizon is" in printed(*words[:2], tmp_path / "n.zarr", *words[3:], cut)


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(tmp_path):
    words = ("map", "transformer", tmp_path / "m.zarr", *AXES, *SMALL[:-4], "--n-steps", 200, "--dry-run")
    assert json.loads(printed(*words, "--json"))["runs"] == 6
    assert "6 runs of" in printed(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("preset", "task", "described"),
    [
        ("tiny", None, {"d_model": 16, "grouping": "attention", "causal": True}),
        ("torkamandi", "synthetic", {"d_model": 64, "batch_size": 256, "n_steps": 4200}),
        ("geometry", "sonnets", {"residual": "sqrt", "causal": True, "n_layers": 12, "alpha_mlp": 0.7}),
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
    assert preset_trainer("geometry", "sonnets", causal=False, alpha_mlp=0.2).task.scored.sum() == 1


def test_hyperparameters_that_are_no_axes():
    assert hyperparameters(["lr=0.003", "alpha_mlp=1"]) == {"lr": 0.003, "alpha_mlp": 1.0}
    with pytest.raises(ValueError, match=r"--set 'lr': write name=number, as alpha_mlp=0\.5"):
        hyperparameters(["lr"])
    with pytest.raises(ValueError, match="'rate' is no option of a transformer; it has task, d_model"):
        preset_trainer("tiny", rate=1.0)


def test_the_geometry_preset_is_set_beside_its_exponents(tmp_path):
    """Also on axes over which no exponents are predicted, where it says so."""
    axes = ("--x", "alpha_attn:0.1:0.9:6", "--y", "sigma_mlp:0.5:9:8:log")
    small = (
        "--preset",
        "geometry",
        "--d-model",
        8,
        "--n-layers",
        2,
        "--n-steps",
        30,
        "--window",
        4,
        "--set",
        "lr=0.1",
    )
    picture = tmp_path / "m.png"
    words = ("map", "transformer", tmp_path / "m.zarr", *axes, *small)
    text = printed(*words, "--picture", picture)
    assert "learned from its input, predicted from both exponents:" in text
    assert "rank correlation of the loss with angle exponent:" in text
    assert picture.stat().st_size > 5_000
    settings = json.loads(xr.open_zarr(tmp_path / "m.zarr", consolidated=False).attrs["settings"])
    assert (settings["lr"], settings["alpha_mlp"], settings["n_layers"]) == (0.1, 0.7, 2)
    axes = ("--x", "lr:0.01:0.1:2:log", "--y", "sigma_mlp:0.5:9:2:log")
    other = printed("map", "transformer", tmp_path / "n.zarr", *axes, *small, "--picture", picture)
    assert "not set beside predicted exponents: axis 'lr'" in other


def test_the_pixel_of_the_horizon_lies_between_trained_ones():
    """In a refined map most changes of status along an axis are edges of what is inferred."""
    status = np.full((9, 5), tr.Status.INFERRED, np.int8)
    status[::4] = 1
    status[5:7, 2:] = [[1], [3]]
    runs = xr.Dataset(
        {"status": (("lr", "seed"), status)}, coords={"lr": np.arange(9.0), "seed": np.arange(5.0)}
    )
    assert boundary_pixel(runs) == {"lr": 5.0, "seed": 3.0}
    assert boundary_pixel(runs.isel(lr=slice(0, 5))) is None
