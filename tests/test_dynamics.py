"""Orbits and orbit diagrams against plain loops and exact cycles."""

import numpy as np
import pytest

import trainability as tr


def test_orbit_is_the_iterated_map_bit_for_bit():
    """No contraction into fused operations: compiled and plain Python round alike."""
    mu, u = 1.7, (0.3, 0.31)
    expected = [u]
    for _ in range(50):
        (a, b) = u
        e = a * b - mu
        u = (a - e * b, b - e * a)
        expected.append(u)
    np.testing.assert_array_equal(tr.orbit(tr.product_map(mu), [0.3, 0.31], n=50), expected)
    np.testing.assert_array_equal(
        tr.orbit(tr.product_map(mu), [0.3, 0.31], n=20, transient=30), expected[30:]
    )


def test_orbits_of_many_starts_do_not_depend_on_each_other():
    m, u0 = tr.product_map(1.9), np.random.default_rng(0).uniform(-1, 1, (5, 67, 2))
    together = tr.orbit(m, u0, n=9)
    assert together.shape == (5, 67, 10, 2)
    np.testing.assert_array_equal(together[3, 41], tr.orbit(m, u0[3, 41], n=9))


def test_rows_after_an_escape_are_nan_and_none_before():
    orbit = tr.orbit(tr.product_map(2.5), [1.0, 1.2], n=60)
    finite = np.isfinite(orbit).all(axis=1)
    assert finite[:3].all()
    assert not finite[-1]
    assert (np.diff(finite.astype(int)) <= 0).all()


@pytest.mark.parametrize("carry", [None, "forward", "backward"])
def test_orbit_diagram_finds_the_exact_two_cycle(carry):
    """xy = 1, x² + y² = 1 + mu; tolerance: contraction leaves only rounding after 4000 steps."""
    mu = np.array([1.05, 1.1, 1.2])
    diagram = tr.orbit_diagram(tr.product_map, "mu", mu, u0=[0.3, 0.3], n=2, transient=4000, carry=carry)
    x, y = diagram["a"].values.T
    np.testing.assert_allclose(x * y, 1, atol=1e-12)
    np.testing.assert_allclose(x**2 + y**2, 1 + mu, atol=1e-12)
    assert diagram["a"].dims == ("mu", "iterate")


def test_carried_diagrams_show_hysteresis_of_coexisting_attractors():
    """x → r x - x³ + h keeps the branch it is on until that folds, at |h| = 2 ((r - 1)/3)^(3/2) = 0.136."""
    m = tr.Map(
        lambda u, p: (p[0] * u[0] - u[0] ** 3 + p[1],),
        lambda u, p: ((p[0] - 3 * u[0] ** 2,),),
        ("x",),
        {"r": 1.5, "h": 0.0},
    )
    h = np.linspace(-0.2, 0.2, 41)
    both, beyond = np.abs(h) < 0.13, np.abs(h) > 0.14
    up, down = (
        tr.orbit_diagram(m, "h", h, u0=[0.0], n=1, carry=carry)["x"].values[:, 0]
        for carry in ("forward", "backward")
    )
    assert (up[both] < 0).all()
    assert (down[both] > 0).all()
    np.testing.assert_allclose(up[beyond], down[beyond], atol=1e-9)  # contraction over 2000 steps


def test_diagram_marks_escapes():
    diagram = tr.orbit_diagram(tr.product_map, "mu", [1.5, 2.5], u0=[0.3, 0.31], n=8)
    assert diagram["escape_step"].values[0] == -1
    assert 0 < diagram["escape_step"].values[1] < 2008
    assert np.isnan(diagram["a"].values[1]).all()


def density(variable, bounds, bins):
    return tr.orbit_density(tr.product_map, "mu", [1.0], variable, u0=[1, 1], bounds=bounds, bins=bins, n=9)


def test_density_counts_the_orbit_diagram():
    """Same iterates as `orbit_diagram`, binned by numpy; out of bounds counts nowhere."""
    mu = np.linspace(0.5, 1.95, 40)
    options = {"u0": [0.3, 0.31], "n": 5000, "transient": 100}
    counts = tr.orbit_density(tr.product_map, "mu", mu, "b", bins=50, bounds=(-0.5, 1.9), **options)["counts"]
    orbits = tr.orbit_diagram(tr.product_map, "mu", mu, **options)["b"].values
    expected = np.stack([np.histogram(row, 50, (-0.5, np.nextafter(1.9, 0)))[0] for row in orbits])
    np.testing.assert_array_equal(counts, expected)
    assert (counts.sum("b") < 5000).any()
    assert counts.dims == ("mu", "b")


def test_density_marks_escapes_and_follows_the_invariant_density():
    """At mu = 2 the slice has the arcsine density; 4 standard deviations of as many independent draws."""
    found = tr.orbit_density(
        tr.cubic_map, "mu", [2.0, 2.5], "x", u0=[0.3], bins=20, bounds=(-2, 2), n=200_000
    )
    assert found["escape_step"].values[0] == -1
    assert found["escape_step"].values[1] > 0
    edges = np.linspace(-2, 2, 21)
    share = np.diff(np.arcsin(edges / 2)) / np.pi
    np.testing.assert_allclose(found["counts"].values[0] / 200_000, share, atol=4 * np.sqrt(0.15 / 200_000))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tr.orbit(tr.product_map(1), [1, 1], n=-1), "n=-1 must not be negative"),
        (lambda: tr.orbit_diagram(tr.product_map, "mu", [], u0=[1, 1]), "mu: values of shape"),
        (lambda: tr.orbit_diagram(tr.product_map, "mu", [2, 1], u0=[1, 1]), "must increase strictly"),
        (lambda: tr.orbit_diagram(tr.product_map, "mu", [1, np.nan], u0=[1, 1]), "mu must be finite"),
        (lambda: tr.orbit_diagram(tr.product_map, "nu", [1, 2], u0=[1, 1]), "'nu' is not a parameter"),
        (lambda: tr.orbit_diagram(tr.product_map(1), "nu", [1, 2], u0=[1, 1]), "it has mu"),
        (lambda: tr.orbit_diagram(tr.product_map, "mu", [1, 2], u0=[1, 1], carry="up"), "carry='up'"),
        (lambda: density("x", (0, 1), 5), "'x' is not a variable of product map; it has a, b"),
        (lambda: density("a", (1, 0), 5), r"bounds=\(1, 0\) with bins=5 cut nothing"),
        (lambda: density("a", (0, 1), 0), "bins=0 cut nothing"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
