"""Outcomes and boundaries of maps, pictures and arrays."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from trainability import Status
from trainability._contract import STATUS_ATTRS
from trainability.boundaries import boundary, outcome_codes


def test_statuses_that_say_nothing_are_unknown():
    status = np.array([[Status.CONVERGED, Status.DIVERGED], [Status.PENDING, Status.FAILED]], np.int8)
    runs = xr.Dataset({"status": (("x", "y"), status, STATUS_ATTRS)})
    assert outcome_codes(runs).tolist() == [[0, 1], [-1, -1]]
    assert outcome_codes(runs["status"]).tolist() == [[0, 1], [-1, -1]]


def test_inferred_pixels_ask_for_infer_status():
    runs = xr.Dataset({"status": (("x", "y"), np.array([[1, 5], [2, 5]], np.int8), STATUS_ATTRS)})
    with pytest.raises(ValueError, match="infer_status"):
        outcome_codes(runs)


def test_colours_are_outcomes_and_transparent_pixels_unknown():
    picture = np.zeros((2, 2, 4), np.uint8)
    picture[..., 3] = 255
    picture[0, 0] = (255, 0, 0, 255)
    picture[1, 1, 3] = 0
    found = outcome_codes(picture)
    assert found[1, 1] == -1
    assert found[0, 0] != found[0, 1] == found[1, 0]


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (np.zeros(5), "two dimensions"),
        (np.zeros((3, 3, 2)), "two dimensions"),
        (np.arange(100.0).reshape(10, 10), "100 distinct values"),
    ],
)
def test_what_is_no_labelled_picture_is_refused(runs, message):
    with pytest.raises(ValueError, match=message):
        outcome_codes(runs)


@given(arrays(np.int8, st.tuples(st.integers(2, 7), st.integers(2, 7)), elements=st.integers(0, 3)))
def test_a_cell_is_boundary_exactly_if_its_corners_differ(labels):
    """Oracle: the definition, one cell at a time. Code 0 stands for NaN."""
    values = np.where(labels == 0, np.nan, labels)
    found = boundary(values)
    for i, j in np.ndindex(found.shape):
        corners = values[i : i + 2, j : j + 2]
        assert found[i, j] == (len(np.unique(corners[np.isfinite(corners)])) > 1)


def test_the_frame_is_no_boundary():
    assert not boundary(np.ones((8, 9), bool)).any()
