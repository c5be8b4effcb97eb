"""The page of measured dimensions is made from its data, and the command that measures runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from trainability import fractal_dimension
from trainability._contract import STATUS_ATTRS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import condition_maps  # noqa: E402
import draw_conditions  # noqa: E402
import measure_conditions  # noqa: E402


def test_page_is_made_from_its_data():
    found = json.loads((ROOT / "src/trainability/data/measured_dimensions.json").read_text(encoding="utf8"))
    page = (ROOT / "docs/measured-dimensions.md").read_text(encoding="utf8")
    assert len(found) == 6
    for make in draw_conditions.TABLES.values():
        assert make(found) in page


def test_small_measurement_runs(tmp_path, monkeypatch):
    pytest.importorskip("jax")
    monkeypatch.setattr(condition_maps, "DECADES", 1)
    data = tmp_path / "found.json"
    options = f"--out {tmp_path}/maps --data {data} --pixels 64 --stage train,measure --only"
    measure_conditions.main([*options.split(), "one point"])
    found = json.loads(data.read_text(encoding="utf8"))["one point"]
    for window in draw_conditions.WINDOWS:
        assert found[window]["pixels"] == 64
        assert found[window]["replicates"]["rounding"]["pixels"] == 64**2
    assert 0 < found["full"]["trained"] < 1
    assert len(found["path"]) == 5  # a decade of halvings and the window before
    widths = [frame["half_widths"][0] for frame in found["path"]]
    assert np.allclose(np.diff(np.log2(widths)), -1, atol=0.01)


def test_a_lattice_of_a_replicate_is_compared_at_its_own_pixels(tmp_path):
    """Of the pixels trained again, 1 of 16 ends otherwise; the others are unknown, not alike."""
    job = condition_maps.Job("relu", "zoom", 64, twins=4)
    status = np.random.default_rng(0).integers(1, 3, (64, 64))
    runs = xr.Dataset({"status": (("lr_in", "lr_out"), status.astype(np.int8), STATUS_ATTRS)})
    lattice = runs.isel(lr_in=slice(None, None, 16), lr_out=slice(None, None, 16)).copy(deep=True)
    lattice["status"][1, 2] = 3 - lattice["status"][1, 2]
    lattice.to_zarr(job.replicate_store("rounding", tmp_path), consolidated=False)
    other = measure_conditions.replicate(job, "rounding", runs, tmp_path)
    found = measure_conditions.flips(runs, other)
    assert (found["rate"], found["pixels"]) == (1 / 16, 16)
    assert found["interval"][0] < 1 / 16 < found["interval"][1]
    assert fractal_dimension(runs, replicate=other).flip_rate == 1 / 16
