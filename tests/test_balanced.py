"""Cycles, windows and densities of the balanced slice, and the ellipse: against iteration and exact cases."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainability import _chebyshev, product_map
from trainability.balanced import balanced_cycle, known_cycles, slice_jet
from trainability.ellipse import (
    basin_uncertainty_exponent,
    ellipse_cycles,
    transverse_pressure,
    weight_exponent,
)
from trainability.invariant_density import (
    band_merging,
    chebyshev_density,
    misiurewicz_measure,
    misiurewicz_parameter,
)
from trainability.windows import count_superstable, cycle_window, superstable_parameters


@given(st.floats(-2.9, 2.9))
def test_known_cycles_are_cycles_with_those_multipliers(mu):
    assume(min(abs(abs(mu) - bad) for bad in (1, 2, 2 * np.sqrt(2) - 1)) > 1e-6)
    m = product_map(mu)
    for cycle in known_cycles(mu):
        np.testing.assert_allclose(m(cycle.points), np.roll(cycle.points, -1, axis=0), atol=1e-12)
        J = np.eye(2)
        half = "4-cycle" in cycle.name
        for u in cycle.points[: len(cycle.points) // 2] if half else cycle.points:
            J = m.jacobian_at(u) @ J
        # Half a turn of the 4-cycle ends at the mirror image; the multiplier along its line bears that sign.
        s, d = (J @ [1, 1])[0], (J @ [1, -1])[0]
        if half:
            s, d = (-s, d) if mu > 0 else (s, -d)
        np.testing.assert_allclose([cycle.multiplier_s, cycle.multiplier_d], [s, d], rtol=1e-9, atol=1e-9)


def test_known_cycles_appear_where_theory_says():
    def names(mu):
        return [cycle.name for cycle in known_cycles(mu)]

    assert "balanced 2-cycle" not in names(1.0)
    assert "balanced 2-cycle" in names(1.01)
    assert "symmetric 4-cycle" not in names(1.82)
    assert "symmetric 4-cycle" in names(1.83)
    assert [name.replace("= -b", "= b") for name in names(-1.9)] == [
        name.replace("= -b", "= b") for name in names(1.9)
    ]


@pytest.mark.parametrize("mu", [0.3, 0.9, 1.1, 1.25, 1.2955, 1.455, 1.7, 1.833])
def test_balanced_cycle_is_where_orbits_go(mu):
    cycle = balanced_cycle(mu)
    x = np.random.default_rng(0).uniform(0.1, 1.0, 20)
    for _ in range(30_000):
        x = x * (1 + mu - x * x)
    gaps = np.abs(np.abs(x)[:, None] - np.abs(cycle.points)).min(axis=1)
    assert gaps.max() < 1e-9
    turned = slice_jet(cycle.points[0], 1 + mu, cycle.period)[0]
    assert turned == pytest.approx((1 if cycle.kind == "asym" else -1) * cycle.points[0], rel=1e-13)


@pytest.mark.parametrize("mu", [1.4, 1.9, 2.0])
def test_no_cycle_on_chaotic_parameters(mu):
    assert balanced_cycle(mu) is None


def test_fixed_point_is_a_cycle_of_period_one():
    cycle = balanced_cycle(0.5)
    assert (cycle.period, cycle.kind) == (1, "asym")
    assert cycle.exponent_along < -30  # superstable: log|1 - 2 mu|, but for rounding
    assert cycle.exponent_across == pytest.approx(0, abs=1e-15)


@given(st.floats(0.1, 1.5), st.floats(1.1, 2.9), st.integers(1, 4))
def test_jet_against_differences(x, r, period):
    h = 1e-5
    value, by_x, by_mu, by_xx, by_xmu = slice_jet(x, r, period)

    def f(x, r):
        return slice_jet(x, r, period)[0]

    # Central differences err by h² times third derivatives, which grow like 9³ for each step.
    scale = h * h * 9.0 ** (3 * period) * 10 + 1e-8
    assert abs((f(x + h, r) - f(x - h, r)) / (2 * h) - by_x) < scale
    assert abs((f(x, r + h) - f(x, r - h)) / (2 * h) - by_mu) < scale
    assert (
        abs((slice_jet(x + h, r, period)[1] - slice_jet(x - h, r, period)[1]) / (2 * h) - by_xx) < scale * 9
    )
    assert (
        abs((slice_jet(x, r + h, period)[1] - slice_jet(x, r - h, period)[1]) / (2 * h) - by_xmu) < scale * 9
    )
    assert value == f(x, r)


@pytest.mark.parametrize("period", [2, 3, 4, 5])
def test_every_window_opens_before_it_ends(period):
    doubled = 0
    for mu in superstable_parameters(period):
        try:
            window = cycle_window(period, mu)
        except ValueError:
            doubled += 1
            continue
        assert window.opens < window.superstable < window.doubles < window.ends < 2
        for inside in (window.opens, window.doubles):
            towards = window.superstable + 0.9 * (inside - window.superstable)
            cycle = balanced_cycle(towards)
            assert (cycle.period, cycle.kind) == (period, window.kind)
            # Ninety percent of the way to multiplier ±1, and nearly linear in mu towards -1.
            assert abs(cycle.multiplier_along) > 0.5
    # Period doublings of the one period below that has the right kind: 1 of period 2, 2 of period 4.
    assert doubled == {2: 1, 4: 2}.get(period, 0)


def test_superstable_counts():
    assert [len(superstable_parameters(p)) for p in range(1, 8)] == [
        count_superstable(p) for p in range(1, 8)
    ]


# Densities.


@pytest.mark.parametrize("n", [5, 16, 33])
def test_chebyshev_pieces_are_exact_on_polynomials(n):
    rng = np.random.default_rng(n)
    p = np.polynomial.Polynomial(rng.standard_normal(n))
    nodes = _chebyshev.nodes(n, 0.5, 2.0)
    x = rng.uniform(0.5, 2.0, 7)
    scale = np.abs(p(nodes)).max()
    np.testing.assert_allclose(
        _chebyshev.interpolation(x, n, 0.5, 2.0) @ p(nodes), p(x), atol=1e-13 * scale * n
    )
    integral = p.integ()(2.0) - p.integ()(0.5)
    assert _chebyshev.weights(n, 0.5, 2.0) @ p(nodes) == pytest.approx(integral, rel=1e-12, abs=1e-13 * scale)
    np.testing.assert_allclose(_chebyshev.interpolation(nodes, n, 0.5, 2.0), np.eye(n), atol=1e-14)


def test_graded_quadrature_of_logarithms():
    t, w = _chebyshev.graded_quadrature()
    assert w @ np.log(t) == pytest.approx(-1, abs=1e-14)
    assert w @ (np.cos(t) * np.log(t)) == pytest.approx(-0.9460830703671830, abs=1e-14)  # -Si(1)


def test_density_at_two_is_chebyshevs():
    measure = misiurewicz_measure(2.0)
    assert measure.exponent_along == pytest.approx(np.log(3), abs=1e-13)
    assert measure.exponent_across == pytest.approx(0, abs=1e-13)
    # x = 1 - cos φ on (0, 2): density 2/(π √(4 - x²)) sin φ.
    phi = _chebyshev.nodes(measure.values.shape[1], 0.0, np.pi)
    x = 2 * np.sin(phi / 2) ** 2
    np.testing.assert_allclose(measure.values[0], 2 * chebyshev_density(x) * np.sin(phi), atol=1e-13)


@pytest.mark.parametrize(("steps", "cycle", "between"), [(3, 1, (1.35, 1.37)), (3, 0, (1.955, 1.96))])
def test_density_against_a_histogram(steps, cycle, between):
    """Means by iterating with kicks; four standard errors over independent orbits."""
    mu = misiurewicz_parameter(steps, cycle, between)
    measure = misiurewicz_measure(mu)
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 1.0, 2000)
    sums = np.zeros((3, 2000))
    for step in range(1200):
        x *= (1 + mu - x * x) * (1 + 2e-15 * rng.uniform(-1, 1, 2000))
        if step >= 200:
            sums += [x * x, np.cos(x), np.log(np.abs(1 + mu - 3 * x * x))]
    means = sums / 1000
    expected = [measure.mean(lambda x: x * x), measure.mean(np.cos), measure.exponent_along]
    error = means.std(axis=1, ddof=1) / np.sqrt(2000)
    assert (np.abs(means.mean(axis=1) - expected) < 4 * error).all()
    assert measure.mean(np.ones_like) == pytest.approx(1, abs=1e-13)
    assert abs(measure.defect) < 1e-12
    assert "defect" in repr(measure)


def test_more_digits_agree_with_float():
    for n in (1, 2):
        assert float(band_merging(n, digits=30)) == pytest.approx(band_merging(n), rel=1e-15)


# The ellipse.


@given(st.floats(-1.95, 1.95), st.integers(1, 6))
def test_ellipse_cycles_return(mu, period):
    cycles = ellipse_cycles(mu, period)
    u = cycles.points
    for _ in range(period):
        u = product_map(mu)(u)
    # Rounding grows by 3 along and at most 5 + 2|mu| across in each step.
    np.testing.assert_allclose(u, cycles.points, atol=1e-14 * 9.0**period)


def test_every_ellipse_cycle_repels_but_for_the_minima():
    for mu in (-1.2, 0.0, 1.7):
        across = ellipse_cycles(mu, 6).multipliers_across
        neutral = np.isclose(across, 1, atol=1e-10)
        assert neutral.sum() == 4  # e = 0 four times
        assert (across[~neutral] > 1).all()


def test_pressure_from_cycles():
    """Leading zero of the operator's Fredholm determinant, from traces over all cycles up to length 10."""
    mu, n_max = 0.8, 10
    trace, determinant = np.zeros(n_max + 1), np.zeros(n_max + 1)
    for n in range(1, n_max + 1):
        cycles = ellipse_cycles(mu, n)
        trace[n] = np.sum(1 / cycles.multipliers_across) / 3.0**n / (1 - 1 / cycles.multiplier_along)
    determinant[0] = 1
    for n in range(1, n_max + 1):
        determinant[n] = -sum(trace[k] * determinant[n - k] for k in range(1, n + 1)) / n
    zeros = np.roots(determinant[::-1])
    leading = np.abs(zeros[np.isreal(zeros)]).min()
    # Coefficients fall faster than exponentially; ten of them leave 1e-7.
    assert 1 / leading == pytest.approx(transverse_pressure(mu), abs=1e-6)
    assert basin_uncertainty_exponent(mu) == pytest.approx(np.log(leading) / np.log(3), abs=3e-6)


@pytest.mark.parametrize("ratio", [0.05, 0.2, 0.25, 0.3, 1.0, 4.0])
def test_weight_exponent_by_sampling_the_ellipse(ratio):
    b = 2 * np.cos(2 * np.pi * np.random.default_rng(0).random(400_000))
    logs = np.log(np.abs(1 - ratio * b * b))
    assert abs(logs.mean() - weight_exponent(ratio)) < 4 * logs.std() / np.sqrt(logs.size)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: known_cycles(np.nan), "mu must be finite"),
        (lambda: balanced_cycle(2.5), r"mu=2.5 must lie in \(0, 2\]"),
        (lambda: balanced_cycle(1.1, max_period=0), "max_period=0"),
        (lambda: superstable_parameters(9), "period=9"),
        (lambda: count_superstable(0), "period=0"),
        (lambda: cycle_window(3, 1.5), "does not have S-period 3"),
        (lambda: cycle_window(1, 0.5), "period=1"),
        (lambda: cycle_window(2, 1.1213203435596424), "born by doubling"),
        (lambda: misiurewicz_parameter(0, 0, (1.0, 2.0)), "steps=0"),
        (lambda: misiurewicz_parameter(2, 0, (1.1, 1.2)), "does not cross"),
        (lambda: misiurewicz_parameter(3, 0, (1.5, 1.7)), "fewer than steps=3"),
        (lambda: misiurewicz_measure(1.4), "does not land"),
        (lambda: misiurewicz_measure(0.4), r"must lie in \(1, 2\]"),
        (lambda: band_merging(7), "n=7"),
        (lambda: ellipse_cycles(2.0, 1), "no invariant ellipse"),
        (lambda: ellipse_cycles(1.0, 15), "period=15"),
        (lambda: weight_exponent([1.0, 0.0]), "ratio must be positive; found 0.0"),
        (lambda: transverse_pressure(1.9999), "must lie between"),
        (lambda: chebyshev_density(np.inf), "x must be finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
