"""The commands on sweeps and zooms: answers, JSON, files."""

import json
import sys
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from trainability import cli_sweep, trainability_map

sys.path.insert(0, str(Path(__file__).parent))
from test_store import GRID, TRAINER, contents
from toy_failures import ctrl_c_after

app = typer.Typer()
app.add_typer(cli_sweep.app, name="sweep")
app.command()(cli_sweep.zoom)


def run(*words):
    return CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)


def test_status_and_resume(tmp_path):
    store = tmp_path / "m.zarr"
    with pytest.raises(KeyboardInterrupt):
        trainability_map(GRID, TRAINER, store=store, tile=(3, 9), progress=ctrl_c_after(2))
    assert "stopped: 54 of 108 pixels done (50.0 %)" in run("sweep", "status", store).stdout
    answer = json.loads(run("sweep", "status", store, "--json").stdout)
    assert answer["pixels"]["pending"] == 54
    assert answer["running"] is False
    assert "finished: 108 of 108" in run("sweep", "resume", store).stdout
    trainability_map(GRID, TRAINER, store=tmp_path / "whole.zarr", tile=(3, 9))
    assert contents(store) == contents(tmp_path / "whole.zarr")
    with pytest.raises(ValueError, match="no sweep to resume"):
        run("sweep", "resume", store)


@pytest.mark.parametrize("options", [pytest.param([], marks=pytest.mark.slow), ["--refine", "--film", ""]])
def test_a_zoom_by_one_command(tmp_path, options):
    words = ["zoom", tmp_path / "z", "--width", 4, "--n-steps", 30, "--decades", 0.9, "--json", *options]
    axes = ["--x", "lr_in:0.1:1e4:12:log", "--y", "lr_out:0.1:1e4:12:log"]
    answer = json.loads(run(*words, *axes).stdout)
    assert answer["frames"] == 4
    assert answer["decades"] == pytest.approx(0.90309)
    assert answer["decades_left"] > 11
    assert Image.open(answer["sheet"]).size[0] > 100
    assert (answer["film"] is None) == bool(options)
    if not options:
        assert Image.open(answer["film"]).n_frames == 24 * 3 + 1
    before = contents(tmp_path / "z")
    again = json.loads(run(*words, *axes).stdout)
    assert again == answer
    stores = [name for name in before if ".zarr" in name]
    assert all(contents(tmp_path / "z")[name] == before[name] for name in stores)
    given = [*words, *axes, "--at", ",".join(f"{k}={v!r}" for k, v in answer["point"].items())]
    assert json.loads(run(*given).stdout) == answer
    with pytest.raises(ValueError, match="write name=value,name=value"):
        run(*words, *axes, "--at", "lr_in")


def test_a_film_that_cannot_be_written_is_refused_before_training(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"zoom\.avi must end in \.mp4 or \.gif"):
        run("zoom", tmp_path / "z", "--width", 3, "--film", "zoom.avi")
    monkeypatch.setattr("trainability.pictures.find_spec", lambda name: None)
    with pytest.raises(ImportError, match="an MP4 needs imageio-ffmpeg: pip install"):
        run("zoom", tmp_path / "z", "--width", 3, "--film", "zoom.mp4")
    assert not list(tmp_path.iterdir())
