"""The pictures are what they claim to be: areas, areas of polygons, and dimensions computed another way."""

import numpy as np
import pytest
from matplotlib.path import Path

from trainability.known_sets import (
    KNOWN_SETS,
    _snowflake,
    julia_set,
    sierpinski_carpet,
    takagi_graph,
    weierstrass_graph,
)


def koch_polygon(levels):
    """Corners of the snowflake of circumradius 1, by replacing each side with four."""
    corners = np.exp(2j * np.pi * np.arange(3) / 3)
    for _ in range(levels):
        side = np.roll(corners, -1) - corners
        tip = corners + side / 3 + side / 3 * np.exp(-1j * np.pi / 3)
        corners = np.stack([corners, corners + side / 3, tip, corners + 2 * side / 3], axis=1).ravel()
    return corners


def test_snowflake_is_the_limit_of_its_polygons():
    """A polygon of level 5 misses area (4/9)^5 of the added third and pixels on its edge: 0.3 % of the frame."""
    n, angle = 200, 0.4
    found = _snowflake(n, 0.5, 0.5, 0.4, angle, 12)
    # Side k of the triangle faces `angle` + 2πk/3, so the corners lie half a turn of a side further.
    corners = koch_polygon(5) * 0.4 * np.exp(1j * (angle + np.pi / 3)) + 0.5 + 0.5j
    centre = (np.arange(n) + 0.5) / n
    x, y = np.meshgrid(centre, centre, indexing="ij")
    inside = Path(np.column_stack([corners.real, corners.imag])).contains_points(
        np.column_stack([x.flat, y.flat])
    )
    assert (found != inside.reshape(n, n)).mean() < 0.003


def test_snowflake_has_its_area():
    """2√3/5 side², to the pixels on the boundary."""
    found = _snowflake(1000, 0.5, 0.5, 0.4, 0.0, 16).mean()
    assert found == pytest.approx(2 * np.sqrt(3) / 5 * (0.4 * np.sqrt(3)) ** 2, rel=2e-3)


@pytest.mark.parametrize("known", KNOWN_SETS, ids=lambda known: known.name)
def test_draws_follow_the_seed(known):
    a, b, again = (known.draw(64, seed) for seed in (0, 1, 0))
    assert a.shape == (64, 64)
    np.testing.assert_array_equal(a, again)
    if "flat" not in known.name or "0.2" not in known.name:
        assert (a != b).any()
    assert 0.005 < a.mean() < 0.995


def test_julia_set_of_zero_is_a_disc():
    found = julia_set(401, 0, c=0)
    assert found.mean() * 16 > np.pi * 0.99  # the frame is at most 4 wide
    assert found.any(axis=0).sum() == pytest.approx(found.any(axis=1).sum(), abs=1)


def test_dimension_of_a_julia_set_by_periodic_points():
    """The zero of the Ruelle determinant of z² + i/4 over orbits up to period 10 is within 1e-6 of the known one."""
    from scipy.optimize import brentq

    c = 0.25j
    multipliers = []
    for n in range(1, 11):
        turns = np.arange(2**n - 1)
        z = 1e3 * np.exp(2j * np.pi * turns / (2**n - 1))
        for _ in range(30 * n):  # pull back along the external angle to where it lands
            turns = turns * 2 ** (n - 1) % (2**n - 1)
            root = np.sqrt(z - c)
            towards = np.exp(2j * np.pi * turns / (2**n - 1))
            z = np.where((root * towards.conj()).real < 0, -root, root)
        derivative = np.ones_like(z)
        for _ in range(n):
            derivative, z = 2 * z * derivative, z * z + c
        multipliers.append(derivative)

    def determinant(s):
        trace = [(np.abs(m) ** -s / np.abs(1 - 1 / m) ** 2).sum() for m in multipliers]
        a = [1.0]
        for n in range(1, 11):
            a.append(-sum(trace[k - 1] * a[n - k] for k in range(1, n + 1)) / n)
        return sum(a)

    (known,) = (k for k in KNOWN_SETS if "i/4" in k.name)
    assert brentq(determinant, 1.0, 1.1, xtol=1e-12) == pytest.approx(known.dimension, abs=1e-6)


@pytest.mark.parametrize("draw", [weierstrass_graph, takagi_graph])
@pytest.mark.parametrize("dimension", [1.2, 1.5, 1.8])
def test_graphs_have_the_hoelder_exponent_they_claim(draw, dimension):
    """Mean height differences grow like step^H over 1 to 32 columns; 0.06 is twice the scatter of one placement."""
    slopes = []
    for seed in range(8):
        height = draw(2049, seed, dimension=dimension).sum(axis=1).astype(float)
        steps = 2 ** np.arange(6)
        change = [np.abs(height[s:] - height[:-s]).mean() for s in steps]
        slopes.append(np.polyfit(np.log(steps), np.log(change), 1)[0])
    assert np.mean(slopes) == pytest.approx(2 - dimension, abs=0.06)


def test_carpet_leaves_no_pixel_out_of_a_hole():
    """Labels are fair coins of holes; the largest holes, of 1/9 and 1/81 of the carpet, dominate the share."""
    shares = [sierpinski_carpet(243, seed).mean() for seed in range(20)]
    assert 0.3 < np.mean(shares) < 0.7
