"""A vector in each pixel: trained, stored, interrupted, damaged, copied and refined as any observable."""

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from trainability import Grid, estimate_cost, linear_axis, trainability_map

sys.path.insert(0, str(Path(__file__).parent))
from test_store import contents
from toy_failures import ctrl_c_after
from toy_traces import ToyTraces

GRID = Grid(lr=linear_axis(0, 3, 12), curvature=linear_axis(0.5, 2, 9))
EXPECTED = (1 - GRID["lr"][:, None, None] * GRID["curvature"][:, None]) ** (2 * np.arange(5))


def test_vector_has_a_dimension_of_its_own_last(tmp_path):
    runs = trainability_map(GRID, ToyTraces(), tile=(5, 4))
    assert runs["trace"].dims == ("lr", "curvature", "record")
    np.testing.assert_array_equal(runs["trace"], EXPECTED.astype(np.float32))
    stored = trainability_map(GRID, ToyTraces(), tile=(5, 4), store=tmp_path / "m.zarr", workers=2)
    xr.testing.assert_identical(stored, runs)
    on_disk = xr.open_zarr(tmp_path / "m.zarr", consolidated=False)
    np.testing.assert_array_equal(on_disk["trace"], runs["trace"])
    assert on_disk["trace"].dims == runs["trace"].dims


def test_interrupted_and_damaged_stores_end_as_whole_ones(tmp_path):
    broken, whole = tmp_path / "broken.zarr", tmp_path / "whole.zarr"
    with pytest.raises(KeyboardInterrupt):
        trainability_map(GRID, ToyTraces(), store=broken, tile=(5, 4), progress=ctrl_c_after(3))
    assert np.isnan(xr.open_zarr(broken, consolidated=False)["trace"]).any()
    trainability_map(GRID, ToyTraces(), store=broken, tile=(5, 4))
    trainability_map(GRID, ToyTraces(), store=whole, tile=(5, 4))
    assert contents(broken) == contents(whole)
    chunk = broken / "trace" / "c" / "1" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[3] ^= 1
    chunk.write_bytes(content)
    with pytest.warns(UserWarning, match=r"1 of 9 tiles were corrupted .* \[5:10, 0:4\]"):
        trainability_map(GRID, ToyTraces(), store=broken, tile=(5, 4))
    assert contents(broken) == contents(whole)


def test_vectors_are_copied_from_known_maps_and_left_empty_where_inferred(tmp_path):
    whole = trainability_map(GRID, ToyTraces())
    part = Grid(lr=GRID["lr"][2:7], curvature=GRID["curvature"])
    copied = trainability_map(part, ToyTraces(folder=str(tmp_path)), known=whole)
    np.testing.assert_array_equal(copied["trace"], whole["trace"][2:7])
    assert not list(tmp_path.iterdir())  # nothing was trained
    refined = trainability_map(GRID, ToyTraces(), refine=2)
    inferred = (refined["status"] == 5).values
    assert 0 < inferred.sum() < inferred.size
    np.testing.assert_array_equal(np.isnan(refined["trace"]).all("record"), inferred)


def test_vectors_of_the_wrong_shape_and_names_are_refused():
    with pytest.raises(ValueError, match="another name than the axes lr, curvature"):
        trainability_map(GRID, ToyTraces(dim="lr"))
    assert estimate_cost(GRID, ToyTraces()).bytes == 108 * (8 + 4 + 5 * 4 + 1) + 8 * 21
