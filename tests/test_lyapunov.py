"""Lyapunov exponents against exact values, with honest standard errors."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import trainability as tr

SKEW = 0.3  # the tent map's left branch has slope 1/0.3


def skew_tent():
    """Tent with unequal slopes: log-slopes along an orbit are independent, so the truth is known exactly."""

    def step(u, p):
        x = u[0]
        return (x / p[0],) if x < p[0] else ((1.0 - x) / (1.0 - p[0]),)

    def jacobian(u, p):
        return ((1.0 / p[0],),) if u[0] < p[0] else ((-1.0 / (1.0 - p[0]),),)

    return tr.Map(step, jacobian, ("x",), {"c": SKEW}, name="skew tent")


def cat_map():
    """Linear and hyperbolic on the torus."""

    def step(u, p):
        return ((u[0] + u[1]) % 1.0, (u[0] + 2.0 * u[1]) % 1.0)

    def jacobian(u, p):
        return ((1.0, 1.0), (1.0, 2.0))

    return tr.Map(step, jacobian, ("x", "y"), {}, name="cat map")


def within(spectrum, exact, floor):
    """Four standard errors, or the O(1/n) start-up of the frame where the statistical error vanishes."""
    np.testing.assert_array_less(np.abs(spectrum.exponents - exact), 4 * spectrum.stderr + floor)


def test_full_chaos_on_the_balanced_slice():
    """At mu = 2 the slice is the Chebyshev cubic: exponents log 3 along it and 0 across."""
    spectrum = tr.lyapunov_spectrum(tr.product_map(2.0), [0.3, 0.3], n=10**6, transient=1000)
    within(spectrum, [math.log(3), 0.0], 0)
    assert spectrum.stderr.max() < 1e-4


def test_chebyshev_maps_on_the_interval():
    T2 = tr.Map(lambda u, p: (2 * u[0] ** 2 - 1,), lambda u, p: ((4 * u[0],),), ("x",), {})
    T3 = tr.Map(lambda u, p: (4 * u[0] ** 3 - 3 * u[0],), lambda u, p: ((12 * u[0] ** 2 - 3,),), ("x",), {})
    for m, exact in ((T2, math.log(2)), (T3, math.log(3))):
        within(tr.lyapunov_spectrum(m, [0.123], n=400_000), [exact], 0)


def test_cat_map_and_skew_tent():
    golden = 2 * math.log((1 + math.sqrt(5)) / 2)
    within(tr.lyapunov_spectrum(cat_map(), [0.1, 0.2], n=20_000), [golden, -golden], 1e-4)
    exact = -SKEW * math.log(SKEW) - (1 - SKEW) * math.log(1 - SKEW)
    within(tr.lyapunov_spectrum(skew_tent(), [0.1234], n=400_000), [exact], 0)


@pytest.mark.parametrize("mu", [1.05, 1.1, 1.2])
def test_balanced_two_cycle(mu):
    """Exact: log|9 - 2(1+mu)²|/2 along and log|3 - 2mu|/2 across; the frame's start-up is O(1/n)."""
    exact = np.sort([math.log(abs(9 - 2 * (1 + mu) ** 2)) / 2, math.log(abs(3 - 2 * mu)) / 2])[::-1]
    found = tr.lyapunov_spectrum(tr.product_map(mu), [0.3, 0.3], n=20_000, transient=5_000)
    np.testing.assert_allclose(found.exponents, exact, atol=1e-3)


def test_contraction_and_superstable_cycle():
    linear = tr.Map(
        lambda u, p: (u[0] / 2, u[1] / 3), lambda u, p: ((0.5, 0.0), (0.0, 1 / 3)), ("x", "y"), {}
    )
    within(tr.lyapunov_spectrum(linear, [1.0, 1.0], n=1280), [math.log(0.5), math.log(1 / 3)], 1e-12)
    superstable = tr.lyapunov_spectrum(tr.cubic_map(0.5), [math.sqrt(0.5)], n=1280)
    assert -800 < superstable.exponents[0] < -20


def test_exponents_on_the_ellipse_by_its_invariant_measure():
    """The ellipse repels, so average over θ: tangential log 3, transverse by the determinant; spectral accuracy."""
    for mu in (0.0, 0.7, 1.5):
        points = tr.invariant_ellipse(mu, n=4096)
        logdet = np.array([math.log(abs(np.linalg.det(tr.product_map(mu).jacobian_at(u)))) for u in points])
        np.testing.assert_allclose(
            logdet.mean() - tr.tangential_exponent(), tr.transverse_exponent(mu), atol=1e-10
        )


@settings(max_examples=20, deadline=None)
@given(mu=st.floats(0.3, 1.9), a=st.floats(0.1, 0.8), b=st.floats(0.1, 0.8))
def test_exponents_sum_to_the_mean_log_determinant(mu, a, b):
    m = tr.product_map(mu)
    n = 640
    orbit = tr.orbit(m, [a, b], n=n - 1)
    dets = np.abs(np.linalg.det(np.array([m.jacobian_at(u) for u in orbit])))
    if dets.min() < 1e-3:  # rounding of a nearly singular Jacobian, not of the method
        return
    found = tr.lyapunov_spectrum(m, [a, b], n=n)
    np.testing.assert_allclose(found.exponents.sum(), np.log(dets).mean(), atol=1e-9)


def test_standard_errors_are_honest():
    """95 % intervals of 200 independent runs cover the truth between 90 and 99 % of the time."""
    exact = -SKEW * math.log(SKEW) - (1 - SKEW) * math.log(1 - SKEW)
    m, starts = skew_tent(), np.random.default_rng(5).uniform(0.05, 0.95, 200)
    runs = [tr.lyapunov_spectrum(m, [x], n=12_800, transient=100).intervals[0] for x in starts]
    covered = np.mean([low <= exact <= high for low, high in runs])
    assert 0.90 <= covered <= 0.99


def test_resume_continues_the_same_average():
    m = tr.product_map(1.9)
    whole = tr.lyapunov_spectrum(m, [0.3, 0.31], n=25_600, transient=100)
    first = tr.lyapunov_spectrum(m, [0.3, 0.31], n=12_800, transient=100)
    both = tr.lyapunov_spectrum(m, n=12_800, resume=first)
    assert both.n == whole.n
    np.testing.assert_allclose(both.exponents, whole.exponents, atol=1e-12)  # summed in another grouping
    np.testing.assert_array_equal(both.state, whole.state)
    assert len(both.history) == 128
    np.testing.assert_allclose(both.history[-1], both.exponents)


def test_stopping_rule_stops_early_and_keeps_its_promise():
    found = tr.lyapunov_spectrum(tr.product_map(1.9), [0.3, 0.31], n=10**6, target_stderr=2e-3, n_exponents=1)
    assert found.n < 10**6
    assert found.stderr.max() <= 2e-3


def test_escape_raises_with_the_step_and_what_was_found():
    with pytest.raises(tr.Escaped, match="step") as caught:
        tr.lyapunov_spectrum(tr.product_map(2.5), [0.3, 0.3], n=1000)
    assert caught.value.step < 100
    slow = tr.Map(lambda u, p: (1.001 * u[0],), lambda u, p: ((1.001,),), ("x",), {})
    with pytest.raises(tr.Escaped) as caught:
        tr.lyapunov_spectrum(slow, [1.0], n=64_000, escape=1e8)
    assert caught.value.step == pytest.approx(8 * math.log(10) / math.log(1.001), abs=2)
    np.testing.assert_allclose(caught.value.found.exponents, math.log(1.001), atol=1e-12)


def test_map_over_a_grid_agrees_with_single_orbits():
    """Same orbits, other renormalisation: the difference is the O(1/n) end of the frame."""
    mu = np.array([0.7, 1.1, 1.45, 1.9])
    ds = tr.lyapunov_map(tr.product_map, {"mu": mu}, u0=[0.3, 0.31], n=64_000, transient=500)
    assert ds["exponent"].dims == ("mu", "index")
    for i, value in enumerate(mu):
        single = tr.lyapunov_spectrum(tr.product_map(value), [0.3, 0.31], n=64_000, transient=500)
        np.testing.assert_allclose(ds["exponent"].values[i], single.exponents, atol=2e-4)


def test_map_over_two_axes_of_parameters_and_starts():
    ds = tr.lyapunov_map(
        tr.product_map, {"a": [0.2, 0.3, 2.9], "mu": [0.5, 1.1]}, u0=[0.0, 0.31], n=1280, n_exponents=1
    )
    assert ds["exponent"].shape == (3, 2, 1)
    assert np.isnan(ds["exponent"].values[2]).all()
    assert (ds["escape_step"].values[2] >= 0).all()
    assert (ds["escape_step"].values[:2] == -1).all()


def test_repr_leads_with_the_answer():
    text = repr(tr.lyapunov_spectrum(tr.product_map(1.9), [0.3, 0.31], n=12_800, transient=100))
    assert text.startswith("λ1 = 0.8")
    assert "±" in text
    assert "chaotic" in text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: tr.lyapunov_spectrum(m, [0.3, 0.3], n=10), "n=10 is too short"),
        (lambda m: tr.lyapunov_spectrum(m, [0.3, np.nan], n=1000), "u must be finite"),
        (lambda m: tr.lyapunov_spectrum(m, [[0.3, 0.3]], n=1000), "one orbit needs"),
        (lambda m: tr.lyapunov_spectrum(m, [0.3, 0.3], n=1000, n_exponents=3), "between 1 and 2"),
        (lambda m: tr.lyapunov_map(m, {"nu": [1.0]}, n=1000), "neither parameter nor variable"),
        (lambda m: tr.lyapunov_map(m, {"mu": [1.0]}, n=1000), "u0 is needed for a, b"),
        (lambda m: tr.lyapunov_map(m, {"mu": [1.0]}, u0=[1, 1], n=10), "n=10 is too short"),
        (lambda m: tr.lyapunov_map(m, {"mu": [1.0]}, u0=[1, 1], n=1000, renormalise=0), "renormalise=0"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(tr.product_map(1.1))


@pytest.mark.parametrize(("mu", "exact", "stderr"), [(1.5, -0.743497, 2e-6), (1.9, -0.212629, 8e-7)])
def test_transverse_exponent_of_the_balanced_slice(mu, exact, stderr):
    """Reference: 2.5e11 iterations of the slice (tests/data/product_map.csv)."""
    found = tr.lyapunov_spectrum(
        tr.product_map(mu), [0.3, 0.3], n=10**6, transient=1000, transverse_to=[[1, 1]]
    )
    assert found.exponents.shape == (1,)
    assert abs(found.exponents[0] - exact) < 4 * (found.stderr[0] + stderr)


def test_transverse_exponent_of_a_skew_product_in_three_dimensions():
    """The plane z = 0 is invariant; across it the factor is 1/2 + x, averaged over the cat map's uniform measure."""

    def step(u, p):
        return ((u[0] + u[1]) % 1.0, (u[0] + 2.0 * u[1]) % 1.0, (0.5 + u[0]) * u[2])

    def jacobian(u, p):
        return ((1.0, 1.0, 0.0), (1.0, 2.0, 0.0), (u[2], 0.0, 0.5 + u[0]))

    m = tr.Map(step, jacobian, ("x", "y", "z"), {})
    found = tr.lyapunov_spectrum(m, [0.1, 0.2, 0.0], n=200_000, transverse_to=[[1, 0, 0], [0, 1, 0]])
    exact = 1.5 * math.log(1.5) - 0.5 * math.log(0.5) - 1.0  # ∫ log over [1/2, 3/2]
    within(found, [exact], 0)


def test_finite_time_exponents_are_growth_over_exactly_n_steps():
    m = tr.cubic_map(1.8)
    starts = np.array([[0.3], [0.7], [2.5]])
    found = tr.finite_time_exponents(m, starts, n=15)
    for start, value in zip(starts[:2], found[:2, 0], strict=True):
        orbit = tr.orbit(m, start, n=14)[:, 0]
        np.testing.assert_allclose(value, np.log(np.abs(2.8 - 3 * orbit**2)).mean(), atol=1e-13)
    assert np.isnan(found[2, 0])


@pytest.mark.parametrize(
    ("u0", "basis", "message"),
    [
        ([0.3, 0.31], [[1, 1]], "is not in the subspace"),
        ([0.3, 0.3], [[1, 1], [1, 0]], "leaves nothing across"),
        ([0.3, 0.3], [[1, 1, 1]], "leaves nothing across"),
    ],
)
def test_bad_subspaces_are_named(u0, basis, message):
    with pytest.raises(ValueError, match=message):
        tr.lyapunov_spectrum(tr.product_map(1.1), u0, n=1000, transverse_to=basis)
