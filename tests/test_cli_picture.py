"""The picture that fills in while a map of the command line is trained."""

import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from typer.testing import CliRunner

import trainability as tr
from trainability import cli, cli_picture, sweep
from trainability.cli_picture import draw_status, watched
from trainability.plot import STATUS_COLORS

sys.path.insert(0, str(Path(__file__).parent))
from toy_trainer import ToyTrainer


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(cli_picture, "EVERY", 0.0)
    monkeypatch.setattr(cli_picture, "PATIENCE", 0.0)


def colors(path):
    return {
        tuple(c) for c in np.round(255 * matplotlib.image.imread(path)[..., :3]).astype(int).reshape(-1, 3)
    }


def color(status):
    return tuple(int(STATUS_COLORS[status][i : i + 2], 16) for i in (1, 3, 5))


def test_the_picture_fills_in_from_the_store(tmp_path):
    """After the first tile it shows trained pixels and white ones; it is never half written."""
    store, picture = tmp_path / "m.zarr", tmp_path / "m.png"
    grid = tr.Grid(lr=tr.linear_axis(0.5, 1.5, 8), curvature=tr.linear_axis(0.5, 1, 8))
    seen = []
    with watched(store, picture, draw_status, bar=False) as report:

        def looking(done, total):
            report(done, total)
            if picture.exists():
                seen.append(colors(picture))

        tr.trainability_map(grid, ToyTrainer(), store=store, tile=(4, 8), progress=looking)
    assert color(tr.Status.CONVERGED) in seen[0]
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".png"] == ["m.png"]


@pytest.mark.parametrize(
    "words",
    [
        ("linear", "--x", "lr:0.03:0.6:8:log", "--y", "imbalance:-1:1:8", "--n-steps", 50),
        ("mlp", "--pixels", 8, "--width", 4, "--n-steps", 30, "--json"),
        ("transformer", "--x", "lr_attn:0.01:1:4:log", "--y", "lr_rest:0.003:0.6:4:log", "--d-model", 8,
         "--n-layers", 1, "--n-steps", 4, "--json"),
        ("transformer", "--preset", "geometry", "--x", "alpha_attn:0.1:0.9:4", "--y", "sigma_mlp:0.5:9:4:log",
         "--d-model", 8, "--n-layers", 1, "--n-steps", 4, "--json"),
    ],
    ids=["linear", "mlp", "transformer", "geometry"],
)  # fmt: skip
def test_every_map_is_drawn_while_it_is_trained(tmp_path, monkeypatch, words):
    """Of a map of several tiles, pictures are put in place with some pixels pending, then with none."""
    pending, put = [], cli_picture.put

    def counting(runs, picture, draw):
        put(runs, picture, draw)
        pending.append(int((runs["status"] == tr.Status.PENDING).sum()))

    monkeypatch.setattr(cli_picture, "put", counting)
    monkeypatch.setattr(sweep, "TILE_PIXELS", 16)
    if words[0] != "linear":  # tiles by measured cost
        monkeypatch.setattr("trainability.cost.TILE_RANGE", (4, 4))
    picture, (network, *rest) = tmp_path / "m.png", words
    options = [str(word) for word in (tmp_path / "m.zarr", *rest, "--picture", picture)]
    CliRunner().invoke(cli.app, ["map", network, *options], catch_exceptions=False)
    assert len(pending) > 2
    assert pending == sorted(pending, reverse=True)
    assert pending[0] > 0 == pending[-1]
    assert picture.stat().st_size > 5_000
