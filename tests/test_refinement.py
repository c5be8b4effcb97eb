"""Tracing boundaries: what is found of curves known in closed form, islands included, and what it costs."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from trainability import Status, fate
from trainability.refinement import _near_change, infer_status, trace_boundary


def trace(truth, *, step=8):
    """Mask of trained pixels, status that a reader infers, and how many passes it took."""
    passes = []

    def train(wanted):
        assert not (passes and (passes[-1] & ~wanted).any())  # what was asked for stays asked for
        passes.append(wanted.copy())
        return truth  # more than was asked for: the tracer must not look at it

    asked = trace_boundary(truth.shape, train, step=step)
    dims = [f"x{i}" for i in range(truth.ndim)]
    status = xr.Dataset({"status": (dims, np.where(asked, truth, Status.INFERRED).astype(np.int8))})
    return asked, infer_status(status).values, len(passes)


def edge_cells(status):
    """Cells of four neighbouring pixels that do not agree."""
    corner = status[:-1, :-1]
    return (status[1:, :-1] != corner) | (status[:-1, 1:] != corner) | (status[1:, 1:] != corner)


def recall(truth, found):
    true = edge_cells(truth)
    return (true & edge_cells(found)).sum() / true.sum()


def weierstrass(n, *, islands, smallest, seed=0):
    """Above or below a Weierstrass function (a graph of dimension 2 + log 0.55 / log 3 = 1.46), with islands."""
    x = (np.arange(n) + 0.5) / n
    height = 0.5 + 0.2 * sum(0.55**k * np.cos(3**k * 2 * np.pi * x) for k in range(9))
    above = x[None, :] > height[:, None]
    numbers = np.random.default_rng(seed)
    for _ in range(islands):
        radius = smallest * (1 + 3 * numbers.random())
        above ^= np.hypot(*np.meshgrid(*(x - numbers.random() for _ in range(2)), indexing="ij")) < radius
    return np.where(above, Status.DIVERGED, Status.CONVERGED).astype(np.int8)


@pytest.mark.parametrize("n", [256, 512, 1024])
def test_a_rough_boundary_with_islands_is_found(n):
    """Islands of 6 pixels and more in radius hold an exploring pixel; at least 97 % of the edges are found.

    The band is six pixels wide, and all coarser levels together cost about as much as the last: on a straight
    line 6 + 6 / 2 + 6 / 4 + 6 / 8 pixels for each edge cell, less where a rough line shares its bands.
    """
    truth = weierstrass(n, islands=30, smallest=6 / n)
    asked, found, _ = trace(truth)
    assert recall(truth, found) >= 0.97
    assert asked.sum() < n**2 / 64 + 11.25 * edge_cells(truth).sum()
    assert (found != truth).mean() < 1e-3
    np.testing.assert_array_equal(found[asked], truth[asked])


def rough_with_specks(n, *, seed=0):
    """A rough line among specks of a pixel that thin out with the distance."""
    truth = weierstrass(n, islands=0, smallest=1, seed=seed)
    distance = ndimage.distance_transform_cdt(~np.pad(edge_cells(truth), (0, 1)), "chessboard")
    specks = np.random.default_rng(seed).random((n, n)) < 0.1 * np.exp(-distance / 4)
    return np.where(specks, 3 - truth, truth).astype(np.int8)


def test_specks_around_a_rough_boundary_are_found_by_widening():
    """Widening finds nine tenths of the edges that the band alone loses, and a smooth line costs no more with it."""
    truth = rough_with_specks(512)
    plain = trace_boundary(truth.shape, lambda wanted: truth, step=8, widen=False)
    wide = trace(truth)[0]
    assert (plain & ~wide).sum() == 0
    found = {}
    for name, asked in (("plain", plain), ("wide", wide)):
        status = xr.Dataset({"status": (("x", "y"), np.where(asked, truth, Status.INFERRED).astype(np.int8))})
        found[name] = recall(truth, infer_status(status).values)
    assert found["plain"] < 0.97
    assert 1 - found["wide"] < (1 - found["plain"]) / 10
    x, y = np.indices((512, 512))
    smooth = np.where(x + 0.8 * y < 400, 1, 2).astype(np.int8)
    plain = trace_boundary(smooth.shape, lambda wanted: smooth, step=8, widen=False)
    np.testing.assert_array_equal(trace(smooth)[0], plain)


@pytest.mark.parametrize(("slope", "length", "gap"), [(0.02, 24, 27), (0.3, 5, 14)])
def test_a_filament_thinner_than_a_pixel_is_followed(slope, length, gap):
    """Of its specks the exploring lattice meets one in three or less; those found lead to the others."""
    x, y = np.indices((1024, 1024))
    filament = (np.rint(300 + slope * x) == y) & (x % (length + gap) < length)
    truth = np.where(filament ^ (y > 700 + slope * x), 1, 2).astype(np.int8)
    plain = trace_boundary(truth.shape, lambda wanted: truth, step=8, widen=False)
    status = xr.Dataset({"status": (("x", "y"), np.where(plain, truth, Status.INFERRED).astype(np.int8))})
    assert recall(truth, infer_status(status).values) < 0.8
    asked, found, _ = trace(truth)
    assert recall(truth, found) >= 0.97
    assert asked.mean() < 0.1


def test_a_quadtree_misses_what_tracing_finds():
    """The control: refining only cells whose corners differ, from the same lattice."""
    truth = weierstrass(512, islands=0, smallest=1)
    known = np.zeros(truth.shape, bool)
    known[::8, ::8] = True
    step = 8
    while step > 1:
        corners = np.where(known, truth, 0)[::step, ::step]
        for i, j in np.argwhere(edge_cells(corners)):
            half = step // 2
            known[i * step : (i + 1) * step + 1 : half, j * step : (j + 1) * step + 1 : half] = True
        step //= 2
    status = xr.Dataset({"status": (("x", "y"), np.where(known, truth, Status.INFERRED).astype(np.int8))})
    quadtree = recall(truth, infer_status(status).values)
    assert quadtree < 0.9
    assert recall(truth, trace(truth)[1]) > quadtree + 0.1


def test_islands_between_exploring_pixels_are_missed_and_a_finer_step_finds_them():
    """What is stated as the limit: an island of 5 pixels across that no pixel of the lattice hits."""
    truth = np.full((64, 64), Status.CONVERGED, np.int8)
    truth[26:31, 33:38] = Status.DIVERGED
    asked, found, _ = trace(truth)
    assert asked.sum() == 64
    assert (found == Status.CONVERGED).all()
    assert (trace(truth, step=4)[1] == truth).all()


@pytest.mark.parametrize("n", [128, 512])
def test_a_smooth_boundary_costs_a_band(n):
    """The exact curve of the product map: the edge of the bounded region at start (a, b) and mu = 1.2."""
    a = np.linspace(-3, 3, n)
    truth = (fate(*np.meshgrid(a, a, indexing="ij"), 1.2) == fate(9.0, 9.0, 1.2)) + 1
    asked, found, _ = trace(truth.astype(np.int8))
    np.testing.assert_array_equal(found, truth)
    assert asked.sum() < n**2 / 64 + 11.25 * edge_cells(truth).sum()


def test_noise_is_trained_whole():
    truth = np.random.default_rng(0).integers(1, 3, (64, 64)).astype(np.int8)
    asked, found, _ = trace(truth)
    assert asked.mean() > 0.99
    assert recall(truth, found) > 0.99


@given(
    shape=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    step=st.sampled_from([2, 4, 8]),
    seed=st.integers(0, 99),
)
def test_any_shape_is_traced_and_depends_on_nothing_else(shape, step, seed):
    """In one to three dimensions: the lattice is trained, what is trained is kept, a second trace is the same."""
    numbers = np.random.default_rng(seed)
    place = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    truth = np.where(sum(numbers.normal() * p for p in place) > numbers.normal(), 1, 2).astype(np.int8)
    asked, found, _ = trace(truth, step=step)
    assert asked[(slice(None, None, step),) * len(shape)].all()
    np.testing.assert_array_equal(found[asked], truth[asked])
    np.testing.assert_array_equal(trace(truth, step=step)[0], asked)


def test_pixels_that_fail_are_asked_for_once():
    truth = weierstrass(128, islands=0, smallest=1)
    broken = np.random.default_rng(1).random(truth.shape) < 0.1
    asked, _, passes = trace(np.where(broken, 0, truth).astype(np.int8))
    assert passes < 40
    assert 0.1 < asked.mean() < 0.6


def test_the_band_around_a_change():
    """By hand: three pixels to each side of a change, and the corners of the box around them."""
    outcome = np.ones((1, 12), np.int8)
    outcome[0, 6:] = 2
    np.testing.assert_array_equal(np.flatnonzero(_near_change(outcome)[0]), [3, 4, 5, 6, 7, 8])
    speck = np.ones((11, 11), np.int8)
    speck[5, 5] = 2
    near = np.zeros((11, 11), bool)
    near[2:9, 3:8] = near[3:8, 2:9] = True
    np.testing.assert_array_equal(_near_change(speck), near)


def test_nothing_trained_means_nothing_inferred():
    with pytest.raises(ValueError, match="no pixel is trained"):
        infer_status(xr.Dataset({"status": ("lr", np.array([0, 4, 5], np.int8))}))
