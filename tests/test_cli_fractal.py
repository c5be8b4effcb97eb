"""`trainability dimension` on pictures and stores, and its figure."""

import json

import matplotlib
import numpy as np
import pytest
import typer
import xarray as xr
from matplotlib.image import imsave
from typer.testing import CliRunner

from trainability import plot_fractal
from trainability._contract import STATUS_ATTRS
from trainability.cli_fractal import dimension, read_outcomes
from trainability.known_sets import koch_snowflake, straight_line
from trainability.verdict import fractal_dimension

matplotlib.use("Agg")
app = typer.Typer()
app.command()(dimension)


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_picture_is_answered_as_in_python(tmp_path):
    labels = koch_snowflake(257, 0)
    imsave(tmp_path / "koch.png", labels.astype(float), cmap="gray")
    found = json.loads(run(tmp_path / "koch.png", "--json").stdout)
    expected = fractal_dimension(labels)
    assert found["verdict"] == "fractal"
    assert found["value"] == pytest.approx(expected.value, abs=1e-12)
    assert run(tmp_path / "koch.png").stdout.strip() == repr(expected)


def test_store_with_inferred_pixels_and_a_figure(tmp_path):
    status = np.where(straight_line(128, 0), 1, 2).astype(np.int8)
    status[:4, :4] = 5
    xr.Dataset({"status": (("x", "y"), status, STATUS_ATTRS)}).to_zarr(
        tmp_path / "runs.zarr", consolidated=False
    )
    answer = run(tmp_path / "runs.zarr", "--picture", tmp_path / "report.png")
    assert answer.exit_code == 0, answer.exception
    assert answer.stdout.startswith("smooth")
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_photographs_need_a_threshold(tmp_path):
    x, y = np.indices((128, 128))
    imsave(tmp_path / "grey.png", np.hypot(x - 60, y - 64), cmap="gray")
    with pytest.raises(ValueError, match="--threshold"):
        read_outcomes(tmp_path / "grey.png")
    assert run(tmp_path / "grey.png", "--threshold", 0.4).stdout.startswith("smooth")
    with pytest.raises(FileNotFoundError):
        read_outcomes(tmp_path / "nothing.png")


def test_curve_shows_every_offset_and_needs_one():
    found = fractal_dimension(koch_snowflake(257, 0))
    ax = plot_fractal.scaling_curve(found)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), found.fractions)
    with pytest.raises(ValueError, match="no scaling curve"):
        plot_fractal.scaling_curve(fractal_dimension(np.zeros((64, 64))))
