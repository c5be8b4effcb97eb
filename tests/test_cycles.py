import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainability.cycles import NotFound, find_cycle, find_cycles
from trainability.maps import Map, cubic_map, error_map, gradient_descent, product_map
from trainability.superstable import superstable_cycles


def henon(a=1.4, b=0.3):
    return Map(
        lambda u, p: (1 - p[0] * u[0] * u[0] + u[1], p[1] * u[0]),
        lambda u, p: ((-2 * p[0] * u[0], 1.0), (p[1], 0.0)),
        variables=("x", "y"),
        parameters={"a": a, "b": b},
        name="Hénon map",
    )


@given(st.floats(1.02, 1.9))
@settings(max_examples=25, deadline=None)
def test_balanced_two_cycle(mu):
    """Exact: xy = 1, x² + y² = 1 + mu, multipliers 9 - 2(1+mu)² and 3 - 2mu. Tolerance: rounding over 1/(1 - m)."""
    x = math.sqrt((1 + mu - math.sqrt((1 + mu) ** 2 - 4)) / 2)
    cycle = find_cycle(product_map(mu), [[x + 0.01, x], [1 / x, 1 / x - 0.01]])
    np.testing.assert_allclose(cycle.states, [[x, x], [1 / x, 1 / x]], atol=1e-11)
    exact = [9 - 2 * (1 + mu) ** 2, 3 - 2 * mu]
    np.testing.assert_allclose(np.sort(cycle.multipliers.real), np.sort(exact), atol=1e-9)


def test_all_cycles_of_the_full_shift():
    """For mu > 2 every itinerary of three symbols is one orbit, so f^n has 3^n fixed points."""
    found = find_cycles(cubic_map(2.2), max_period=5, box=[(-2.2, 2.2)])
    assert found.complete
    points = {n: sum(c.period for c in found if n % c.period == 0) for n in range(1, 6)}
    assert points == {n: 3**n for n in range(1, 6)}
    assert all(c.certified and c.error < 1e-10 and not c.stable for c in found)


def test_henon_cycles():
    """Counts at a = 1.4, b = 0.3: Biham and Wenzel, Phys. Rev. Lett. 63, 819 (1989), and both fixed points."""
    found = find_cycles(henon(), max_period=7, box=[(-2, 2), (-2, 2)])
    assert found.complete
    assert [sum(c.period == n for c in found) for n in range(1, 8)] == [2, 1, 0, 1, 0, 2, 4]
    for cycle in found:  # the Jacobian's determinant is -b everywhere
        assert np.prod(cycle.multipliers).real == pytest.approx((-0.3) ** cycle.period, rel=1e-6)


def test_search_without_proof_finds_the_same():
    proved = find_cycles(henon(), max_period=4, box=[(-2, 2), (-2, 2)])
    searched = find_cycles(henon(), max_period=4, box=[(-2, 2), (-2, 2)], prove=False)
    assert not searched.complete
    assert "not proved complete" in repr(searched)
    assert [c.period for c in searched] == [c.period for c in proved]
    for a, b in zip(searched, proved, strict=True):
        np.testing.assert_allclose(a.states[0], b.states[0], atol=1e-10)


def test_cycles_around_zero_and_on_cell_faces():
    """The fixed point 0 is a corner of the first cells, where a naive test never ends."""
    found = find_cycles(product_map(0.5), max_period=1, box=[(-0.5, 0.5), (-0.5, 0.5)], max_cells=500)
    assert found.complete
    np.testing.assert_allclose(found[0].multipliers, [1.5, 0.5], atol=1e-15)


def test_continuum_of_minima_is_reported_as_such():
    """The minima ab = mu are a curve of fixed points; the isolated ones are still certified."""
    found = find_cycles(product_map(1.1), max_period=2, box=[(-2, 2), (-2, 2)])
    assert not found.complete
    assert len(found.undecided) > 0
    assert len(found) == 5  # the origin and four 2-cycles
    assert all(cycle.certified for cycle in found)
    assert found.continua
    for fixed in found.continua:
        assert np.prod(fixed.states[0]) == pytest.approx(1.1, abs=1e-9)
        assert not fixed.isolated
        assert "not isolated" in repr(fixed)


def test_multiplier_one_without_a_continuum_is_isolated():
    """x + x² at its fold: Newton loses half the digits, but there is no second fixed point beside it."""
    fold = Map(
        lambda u, p: (u[0] + u[0] * u[0],), lambda u, p: ((1 + 2 * u[0],),), variables=("x",), parameters={}
    )
    assert find_cycle(fold, [0.0]).isolated


def test_elementary_functions_are_proved_too():
    """x -> x - lr tanh(x): 0 is the only fixed point, and a 2-cycle ±x with 2x = lr tanh(x) exists for lr > 2."""
    descent = gradient_descent("log(cosh(x))", "x", lr=2.5)
    found = find_cycles(descent, max_period=2, box=[(-3, 3)])
    assert found.complete
    assert [c.period for c in found] == [1, 2]
    x = abs(found[1].states[0, 0])
    assert 2 * x == pytest.approx(2.5 * math.tanh(x), abs=1e-12)


def test_superstable_cycles_are_as_many_as_counted():
    """Σ over odd d | p of moebius(d) (3^(p/d) - 1) / 2p of them; those of period 1 and 2 in closed form."""
    found = superstable_cycles(error_map(), "mu", (0.01, 2), max_period=5, box=(-2, 0.99))
    assert found.complete
    assert [(found.period == n).sum() for n in range(1, 6)] == [1, 2, 4, 10, 24]
    t = math.sqrt((5 + 3 * math.sqrt(17)) / 8)
    exact = [(1, 0.5), (2, 3 / math.sqrt(2) - 1), (2, t + 2 / t - 1)]
    for period, mu in exact:
        distance = abs(found.parameter - mu)
        assert found.period[np.argmin(distance)] == period
        assert distance.min() < 1e-13
    assert found.error.max() < 1e-12


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: find_cycles(cubic_map(), max_period=0, box=[(0, 1)]), "max_period=0 must be a positive"),
        (lambda: find_cycles(cubic_map(), max_period=1.5, box=[(0, 1)]), "positive whole number"),
        (lambda: find_cycles(cubic_map(), max_period=1, box=[(0, 1), (0, 1)]), r"needs \(1, 2\)"),
        (lambda: find_cycles(cubic_map(), max_period=1, box=[(1, 0)]), "lower before upper"),
        (lambda: find_cycles(cubic_map(), max_period=1, box=[(0, np.inf)]), "finite ends"),
        (lambda: find_cycle(cubic_map(), [0.5], period=-1), "period=-1"),
        (lambda: find_cycle(cubic_map(), [[0.5], [0.6]], period=3), "2 states, but period=3"),
        (lambda: find_cycle(cubic_map(), [np.nan]), "finite"),
        (lambda: find_cycle(cubic_map(), [0.5, 0.5]), "needs"),
        (lambda: find_cycle(cubic_map(), [[[0.5]]]), "give one state"),
        (lambda: find_cycle(cubic_map(), [1e80], period=9), "escapes"),
        (lambda: superstable_cycles(product_map(), "mu", (0, 1), max_period=1, box=(0, 1)), "2 variables"),
        (lambda: superstable_cycles(cubic_map(), "eta", (0, 1), max_period=1, box=(0, 1)), "it has mu"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_cycle_near_the_guess():
    """x + 1 + x² has no fixed point."""
    none = Map(
        lambda u, p: (u[0] + 1 + u[0] * u[0],),
        lambda u, p: ((1 + 2 * u[0],),),
        variables=("x",),
        parameters={},
    )
    with pytest.raises(NotFound) as caught:
        find_cycle(none, [0.3])
    assert caught.value.residual >= 1
    assert caught.value.states.shape == (1, 1)


def test_map_without_symbols_is_searched():
    opaque = Map(
        lambda u, p: (2.5 * math.tanh(u[0]),),
        lambda u, p: ((2.5 * (1 - math.tanh(u[0]) ** 2),),),
        variables=("x",),
        parameters={},
    )
    found = find_cycles(opaque, max_period=1, box=[(-4, 4)])
    assert not found.complete
    assert len(found) == 3
    with pytest.raises(ValueError, match="no symbolic form"):
        find_cycles(opaque, max_period=1, box=[(-4, 4)], prove=True)


def test_functions_without_balls_are_searched():
    descent = gradient_descent("abs(x)**3 / 3", "x", lr=0.5)
    with pytest.raises(ValueError, match="ball arithmetic does not know"):
        find_cycles(descent, max_period=1, box=[(-1, 1)], prove=True)
