"""Agreement, its interval, and boundary distances against known answers."""

import sys
from pathlib import Path

import numpy as np
import pytest

from trainability import Grid, Status, compare, linear_axis, log_axis
from trainability.distances import zero_lines

sys.path.insert(0, str(Path(__file__).parent))
from maps_with_status import GRID, N, X, Y, as_map


def test_zero_lines_of_a_circle_have_its_radius():
    """Bilinear contours of a quadratic miss by about 1/(8 r) of a pixel."""
    field = (X - 32) ** 2 + (Y - 32) ** 2 - 20.0**2
    (line,) = zero_lines(field)
    points = line + 0.5
    np.testing.assert_allclose(np.hypot(*(points - 32).T), 20, atol=0.02)
    gaps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    assert gaps.max() < 0.06


def test_shifted_circles_are_as_far_apart_as_their_centres():
    """Along the shift the distance is 3, across it 0; labels alone know the line to half a pixel."""
    field = np.hypot(X - 32, Y - 32) - 20
    shifted = np.hypot(X - 35, Y - 32) - 20
    found = compare(as_map(field > 0, score=field), as_map(shifted > 0), outcome="diverged", score="score")
    assert found.boundary.max == pytest.approx(3, abs=0.6)
    assert found.boundary.pixels.min() < 0.3
    assert np.abs(found.boundary.offsets["x"]).max() == pytest.approx(3, abs=0.6)
    exact = compare(as_map(field > 0, score=field), as_map(field > 0), outcome="diverged", score="score")
    assert exact.agreement == 1
    assert exact.boundary.max < 0.75


def test_distances_count_both_ways():
    """An island that was not predicted and one that was not seen are both far from the other's lines."""
    plane, island = X > 40, np.hypot(X - 10, Y - 32) < 4
    unseen = compare(as_map(plane | island), as_map(plane), outcome="diverged")
    surprise = compare(as_map(plane), as_map(plane | island), outcome="diverged")
    assert unseen.boundary.max == pytest.approx(34, abs=1)
    assert unseen.boundary.q95 == pytest.approx(0, abs=1e-9)
    assert surprise.boundary.max == pytest.approx(34, abs=1)
    assert surprise.boundary.q95 > 25


def test_offsets_are_in_decades_on_logarithmic_axes():
    grid = Grid(lr=log_axis(1e-3, 1e5, N), b=linear_axis(0, 1, N))
    lr = np.broadcast_to(grid["lr"][:, None], (N, N))
    found = compare(as_map(lr > 1.0, grid), as_map(lr > 10.0, grid), outcome="diverged")
    assert found.boundary.units == {"lr": "decades", "b": ""}
    np.testing.assert_allclose(found.boundary.offsets["lr"], 1.0, atol=0.13)  # a pixel is 1/8 decade
    np.testing.assert_allclose(found.boundary.offsets["b"], 0.0, atol=1e-9)


def test_counts_and_balanced_accuracy():
    said, seen = X < 16, X < 20
    found = compare(as_map(said), as_map(seen), outcome="diverged")
    assert found.confusion.sel(predicted="diverged", observed="diverged") == 16 * N
    assert found.confusion.sel(predicted="not diverged", observed="diverged") == 4 * N
    assert found.agreement == 60 / 64
    assert found.balanced_accuracy == pytest.approx((16 / 20 + 1) / 2)
    np.testing.assert_array_equal(found.wrong, said != seen)
    other = compare(as_map(said), as_map(seen), outcome="converged")
    assert other.agreement == found.agreement


def test_pending_and_failed_pixels_count_nowhere():
    observed = as_map(X < 20)
    observed["status"][:, :8] = Status.PENDING
    observed["status"][:, 8:10] = Status.FAILED
    found = compare(as_map(X < 20), observed, outcome="diverged")
    assert found.n_unknown == 10 * N
    assert int(found.confusion.sum()) == 54 * N
    assert found.agreement == 1
    assert "unknown" in repr(found)


def test_interval_covers_the_truth_when_errors_cluster():
    """Errors come in 4 × 4 patches, half a block wide; 95 % intervals must cover in at least 90 % of draws."""
    rng = np.random.default_rng(0)
    truth, covered = as_map(np.zeros((N, N), bool)), []
    for _ in range(300):
        shift = rng.integers(0, 4, 2)
        patches = np.kron(rng.random((N // 4 + 1, N // 4 + 1)) < 0.05, np.ones((4, 4), bool))
        errors = patches[shift[0] : shift[0] + N, shift[1] : shift[1] + N]
        low, high = compare(truth, as_map(errors), outcome="diverged").agreement_interval
        covered.append(low <= 0.95 <= high)
    assert 0.9 <= np.mean(covered) < 1


def test_smallest_disagreement_is_seen_in_95_of_100_maps():
    """Errors in rows of eight, the least cluster assumed: a share as large as stated shows up 19 times in 20."""
    rng = np.random.default_rng(0)
    truth = as_map(np.zeros((N, N), bool))
    smallest = compare(truth, truth, outcome="diverged").smallest_disagreement
    shown = []
    for _ in range(400):
        rows = rng.random((N, N // 8)) < smallest
        shown.append(compare(truth, as_map(np.repeat(rows, 8, axis=1)), outcome="diverged").agreement < 1)
    assert np.mean(shown) == pytest.approx(0.95, abs=4 * np.sqrt(0.05 * 0.95 / 400))


def wavy(rng, length, amplitude):
    """A boundary across the grid with Gaussian offsets, smooth over `length` pixels and periodic."""
    k = np.fft.rfftfreq(N) * N
    filtered = np.fft.irfft(
        np.fft.rfft(rng.standard_normal(N)) * np.exp(-((k * length / N * np.pi) ** 2) / 2), N
    )
    return filtered / np.exp(-((k * length / N * np.pi) ** 2)).sum() ** 0.5 * np.sqrt(N / 2) * amplitude


def test_bootstrap_intervals_of_offsets_cover_the_truth():
    """Boundaries that wander about the predicted one with correlated offsets: their median offset is 0.

    A 95 % interval from about eight independent stretches is known to be somewhat short; 85 % must cover."""
    rng, covered, widths = np.random.default_rng(0), [], []
    for _ in range(150):
        edge = 32.0 + wavy(rng, length=6, amplitude=2.0)
        found = compare(
            as_map(X > 32, score=X - 32), as_map(edge[None, :] < X), outcome="diverged", score="score"
        ).boundary
        _, (low, high) = found.offset("x")
        covered.append(low <= 0.25 and high >= -0.25)  # labels know a line to half a pixel
        widths.append(high - low)
    assert np.mean(covered) >= 0.85
    assert np.median(widths) < 6  # and the interval says something: less than ± 1.5 amplitudes


def test_offsets_shares_and_power_of_a_known_shift():
    found = compare(as_map(X > 32), as_map(X > 35), outcome="diverged").boundary
    value, (low, high) = found.offset("x")
    assert (value, low, high) == (3.0, 3.0, 3.0)
    assert found.share_within(2.9)[0] == 0
    assert found.share_within(3.1, "x") == (1.0, (1.0, 1.0))
    assert found.smallest_shift("x") == 0  # nothing varies: any shift beyond the half pixel is seen
    half = compare(as_map(X > 32), as_map(np.where(Y < 32, 32, 42) < X), outcome="diverged").boundary
    share, (low, high) = half.share_within(0.5)
    assert low < share < high
    assert share == pytest.approx(0.45, abs=0.1)


def test_maps_without_boundary_or_of_one_dimension_have_no_distance():
    assert compare(as_map(X < 0), as_map(X < 0), outcome="diverged").boundary is None
    line = Grid(x=GRID["x"])
    found = compare(as_map(line["x"] > 3, line), as_map(line["x"] > 4, line), outcome="diverged")
    assert found.boundary is None
    assert found.agreement == 63 / 64
    row = Grid(x=GRID["x"], y=[0.5])
    split = as_map(row["x"][:, None] > 3, row)
    assert compare(split, split, outcome="diverged").boundary is None


def test_order_of_dims_does_not_matter():
    said, seen = as_map(X + 2 * Y < 64), as_map(X + 2 * Y < 70)
    assert repr(compare(said, seen, outcome="diverged")) == repr(
        compare(said, seen.transpose("y", "x"), outcome="diverged")
    )


@pytest.mark.parametrize(
    ("predicted", "observed", "outcome", "message"),
    [
        (as_map(X < 3), as_map(X < 3).isel(x=slice(5)), "diverged", "axis 'x' differs"),
        (as_map(X < 3), as_map(X < 3), "lost", "outcome 'lost' is unknown; the map has pending"),
        (
            as_map(X < 3),
            as_map(X < 3).assign(status=as_map(X < 3)["status"] * 0),
            "diverged",
            "no finished pixel",
        ),
    ],
)
def test_bad_input_is_named(predicted, observed, outcome, message):
    with pytest.raises(ValueError, match=message):
        compare(predicted, observed, outcome=outcome)
