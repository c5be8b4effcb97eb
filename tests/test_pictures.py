"""Pictures and films of maps: colours against ranks counted by hand, windows against the maps they show."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.colors import to_rgb
from PIL import Image, ImageSequence
from scipy.stats import rankdata

from trainability import Grid, Status, linear_axis, trainability_map
from trainability._contract import is_trained
from trainability.frames import zoom
from trainability.pictures import (
    COLORMAP,
    GAP,
    PLAIN,
    _in_between,
    contact_sheet,
    equalise_ranks,
    film,
    plain_picture,
    published_picture,
)

sys.path.insert(0, str(Path(__file__).parent))
from toy_trainer import ToyTrainer

WINDOW = Grid(lr=linear_axis(0.5, 3.5, 32), curvature=linear_axis(0.5, 2.5, 32))
POINT = {"lr": 2.0, "curvature": 1.0}


@given(arrays(float, st.integers(2, 40), elements=st.floats(-1e6, 1e6).filter(bool), unique=True))
def test_ranks_are_equalised_on_each_sign(score):
    """Counted by another routine: evenly spaced from 1/4 to 1, the least of each sign first."""
    found = equalise_ranks(score)
    for sign, level in ((-1, -found), (1, -found)):
        of = np.sign(score) == sign
        if of.sum() > 1:
            share = (rankdata(score[of]) - 1) / (of.sum() - 1)
            low = -1 if sign < 0 else GAP
            np.testing.assert_allclose(level[of], low + (1 - GAP) * share, atol=1e-12)
    assert (np.sign(found) == -np.sign(score)).all()


def test_ranks_among_a_reference():
    reference = [-4.0, -3.0, -2.0, -1.0, 1.0, 2.0]
    np.testing.assert_allclose(equalise_ranks([-2.5, 1.5, -9.0], reference=reference), [0.625, -0.625, 1.0])
    with pytest.raises(ValueError, match="no value to rank"):
        equalise_ranks([np.nan])


def test_pictures_stand_upright_and_mark_what_was_not_trained():
    """First dim to the right, second upwards."""
    status = np.array([[1, 2, 5], [0, 4, 3]], np.int8)
    runs = xr.Dataset({"status": (("x", "y"), status)})
    plain = plain_picture(runs)
    assert plain.shape == (3, 2, 3)
    for (x, y), code in np.ndenumerate(status):
        if code != Status.INFERRED:
            np.testing.assert_array_equal(plain[2 - y, x], np.round(255 * np.array(to_rgb(PLAIN[code]))))
    inferred = np.array(to_rgb(PLAIN[Status.CONVERGED]))  # of the pixel at its lattice's corner
    np.testing.assert_array_equal(plain[0, 0], np.round(255 * (1 + inferred) / 2))
    score = xr.DataArray(
        np.where(is_trained(status), np.where(status == 1, -1.0, 1.0), np.nan), dims=("x", "y")
    )
    published = published_picture(runs, score=score)
    assert (published[2, 1] == 255).all()  # pending
    assert published[2, 0, 2] > published[2, 0, 0]  # converged: blue
    assert published[1, 0, 0] > published[1, 0, 2]  # diverged: red
    with pytest.raises(ValueError, match="runs has 1 dims; a picture needs 2"):
        plain_picture(runs.isel(x=0))
    assert COLORMAP == "Spectral"


def test_refined_and_dense_maps_look_alike():
    """Trained pixels have the colours of the dense map, the others paler ones of the same status."""
    dense, refined = (
        plain_picture(trainability_map(WINDOW, ToyTrainer(), refine=r)).astype(int) for r in (False, 8)
    )
    same = (dense == refined).all(axis=-1)
    np.testing.assert_allclose(refined[~same], (dense[~same] + 255) / 2, atol=0.51)
    assert 0.1 < same.mean() < 0.9


def test_the_point_of_a_film_stays_while_the_window_shrinks():
    """The boundary lr * curvature = 2 passes through the point: its colours stay apart there in every image."""
    frames = list(zoom(WINDOW, ToyTrainer(), POINT, decades=1.2))
    images = list(_in_between(iter(frames), plain_picture, 64, 4))
    assert len(images) == 4 * (len(frames) - 1) + 1
    dark, light = (np.round(255 * np.array(to_rgb(PLAIN[s]))) for s in (Status.DIVERGED, Status.CONVERGED))
    # Where the point lies in the window, from its middle (2.0, 1.5) and width (3, 2): left column share, height.
    x, y = 0.5 * 64, (1 - 0.25) * 64
    for image in images:
        # Between frames a pixel of the outer one grows to four of the film's, and the boundary may cut it.
        right, left = image[int(y), int(x) + 6], image[int(y), int(x) - 6]
        np.testing.assert_array_equal(right, dark)
        np.testing.assert_array_equal(left, light)
    np.testing.assert_array_equal(images[0], plain_picture(frames[0]).repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(images[-1], plain_picture(frames[-1]).repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("ending", [".gif", ".mp4"])
def test_films_can_be_read_back(tmp_path, ending):
    frames = list(zoom(WINDOW, ToyTrainer(), POINT, decades=0.6))
    path = tmp_path / f"zoom{ending}"
    if ending == ".mp4":
        reader = pytest.importorskip("imageio_ffmpeg")
    found = film(frames, path, picture=plain_picture, pixels=64, fps=10, seconds_per_halving=0.5)
    assert found == path
    expected = 5 * (len(frames) - 1) + 1
    if ending == ".gif":
        pictures = [np.array(i.convert("RGB")).astype(int) for i in ImageSequence.Iterator(Image.open(path))]
        assert len(pictures) == expected
        assert (
            np.abs(pictures[-1] - plain_picture(frames[-1]).repeat(2, 0).repeat(2, 1)).max() < 40
        )  # a palette
    else:
        assert reader.count_frames_and_secs(str(path))[0] == expected


def test_a_contact_sheet_names_the_decades():
    frames = list(zoom(WINDOW, ToyTrainer(), POINT, decades=1.2))
    sheet = contact_sheet(frames, picture=plain_picture, columns=3)
    assert [ax.get_title() for ax in sheet.axes] == [f"{0.30103 * i:.1f} decades" for i in range(5)]
    assert all(ax.images for ax in sheet.axes)


def test_bad_films_are_named(tmp_path):
    runs = trainability_map(WINDOW, ToyTrainer())
    for options, message in (
        ({"path": tmp_path / "zoom.avi"}, "must end in .mp4 or .gif"),
        ({"pixels": 0}, "pixels=0 must be positive"),
        ({"pixels": 31}, "pixels=31 must be even"),
        ({"fps": -1}, "fps=-1 must be positive"),
        ({"frames": [runs]}, "not of a zoom"),
    ):
        with pytest.raises(ValueError, match=message):
            film(**{"frames": [runs], "path": tmp_path / "zoom.gif", "picture": plain_picture, **options})
    with pytest.raises(ValueError, match="frames is empty"):
        contact_sheet([])
    for ending in ("gif", "mp4"):
        with pytest.raises(ValueError, match="frames is empty; a film needs at least one"):
            film([], tmp_path / f"zoom.{ending}")
    with pytest.raises(ValueError, match="columns=0 must be a whole number, at least 1"):
        contact_sheet([runs], columns=0)
    assert "zoom" not in runs.attrs
    assert json.loads(next(zoom(WINDOW, ToyTrainer(), POINT, decades=0)).attrs["zoom"])["frame"] == 0
