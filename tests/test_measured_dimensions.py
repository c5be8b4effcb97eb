"""The page of measured dimensions is made from its data, and the command that measures runs."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from trainability import fractal_dimension
from trainability._contract import STATUS_ATTRS
from trainability.conditions import CONDITIONS
from trainability.known_sets import KNOWN_SETS

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import boundary_places  # noqa: E402
import condition_maps  # noqa: E402
import draw_conditions  # noqa: E402
import measure_conditions  # noqa: E402
import refine_known_sets  # noqa: E402


def test_page_is_made_from_its_data():
    found = json.loads((ROOT / "src/trainability/data/measured_dimensions.json").read_text(encoding="utf8"))
    page = (ROOT / "docs/measured-dimensions.md").read_text(encoding="utf8")
    assert len(found) == 6
    for make in draw_conditions.TABLES.values():
        assert make(found) in page


def test_page_says_what_refinement_finds_on_a_known_set():
    known = next(known for known in KNOWN_SETS if known.name == "Weierstrass graph, 1.5")
    row = refine_known_sets.table(refine_known_sets.replay([known], pixels=1024, draws=3)).splitlines()[-1]
    assert row in (ROOT / "docs/measured-dimensions.md").read_text(encoding="utf8")


def test_places_follow_the_boundary_and_enclose_the_published_number(tmp_path):
    """Each place is on the boundary, and they are spread; the two next to a number lie on either side of it."""
    pytest.importorskip("jax")
    boundary_places.train_places("one point", tmp_path)
    maps = list(boundary_places.place_maps("one point", tmp_path))
    assert 2 < len(maps) <= boundary_places.PLACES
    assert all(len(np.unique(runs["status"])) == 2 for runs in maps)
    centres = np.array(
        [[np.sqrt(v[0] * v[-1]) for v in (runs["lr_in"].values, runs["lr_out"].values)] for runs in maps]
    )
    patches = np.log10(centres / 1e-3) / 9 * (boundary_places.COARSE - 1) // boundary_places.PATCH
    _, places = np.unique(patches, axis=0, return_counts=True)
    assert places.max() <= 2  # a pair of pixels reaches into the patch beside its own
    dimensions = [fractal_dimension(runs).value for runs in maps]
    published = CONDITIONS["one point"].dimension
    for find, gap in (
        (boundary_places.below_point, [published - d for d in dimensions if d <= published]),
        (boundary_places.above_point, [d - published for d in dimensions if d > published]),
    ):
        point = find("one point", tmp_path)
        chosen = int(
            np.argmin([abs(c[0] / point["lr_in"] - 1) + abs(c[1] / point["lr_out"] - 1) for c in centres])
        )
        assert abs(dimensions[chosen] - published) == min(gap)


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
