"""Random batches and noise: against adversarial orders, sampling, special functions and simulation."""

from itertools import pairwise

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from scipy.special import expi

from trainability.classification import ellipse_function
from trainability.label_noise import escape_action, escape_hazard
from trainability.minibatch import (
    Zone,
    almost_sure_limit,
    batch_ellipse_function,
    batch_means,
    batch_zone,
    expected_ellipse_function,
    gaussian_almost_sure_limit,
    gaussian_minimum_exponent,
    mean_square_limit,
    minimum_exponent,
)
from trainability.random_orbits import (
    SliceEscaped,
    divergence_probability,
    slice_escape_time,
    slice_exponents,
)


@njit
def adversary(mu, a, b, low, high, policy, n_steps, rng):
    """Run in place: policy 0 random, 1 two-valued, 2 greedy outwards, 3 greedy inwards, 4 ramp."""
    for i in range(mu.size):
        x, y = a[i], b[i]
        for n in range(n_steps):
            e = x * y - mu[i]
            if policy == 0:
                k = low + (high - low) * rng.random()
            elif policy == 1:
                k = low if rng.random() < 0.5 else high
            elif policy == 4:
                k = low + (high - low) * n / n_steps
            else:
                outcome = np.empty(2)
                for j in range(2):
                    r = (low if j == 0 else high) * e
                    p, q = x - r * y, y - r * x
                    outcome[j] = p * p + q * q - mu[i] * p * q
                outwards = outcome[1] > outcome[0]
                k = high if outwards == (policy == 2) else low
            r = k * e
            x, y = x - r * y, y - r * x
            if not abs(x) + abs(y) < 1e8:
                x = y = np.inf
                break
        a[i], b[i] = x, y


@pytest.mark.parametrize("policy", range(5))
def test_zones_hold_for_every_order(policy):
    """20 000 starts for each policy, 10⁵ in all: SAFE never escapes, LOST always does."""
    rng = np.random.default_rng(policy)
    n, low, high = 20_000, 0.4, 1.7
    mu = rng.uniform(0.05, 1.15, n)
    a, b = rng.uniform(-2.5, 2.5, (2, n))
    zones = batch_zone(mu, a, b, curvature_range=(low, high))
    # Runs near the LOST boundary escape slowly where the growth of H per step is small.
    margin = np.abs(batch_ellipse_function(mu, a, b, curvature=low)) > 1e-6
    adversary(mu, a, b, low, high, policy, 3000, rng)
    bounded = np.isfinite(a)
    assert bounded[zones == Zone.SAFE].all()
    assert not bounded[(zones == Zone.LOST) & margin].any()


def test_grey_zone_goes_both_ways():
    kappa = batch_means(np.array([0.36, 0.64, 1.0, 1.44]) / 0.86, 1)
    for start in ((0.6, 1.9, 0.9), (0.6, 2.0, -0.3)):
        assert batch_zone(*start, curvature_range=(kappa.min(), kappa.max())) is Zone.GREY
        found = divergence_probability(*start, curvatures=kappa, n=4000)
        assert 0 < found.interval[0] < found.value < found.interval[1] < 1


def test_divergence_probability_is_certain_in_the_zones():
    kappa = [0.8, 1.2]
    assert divergence_probability(0.5, 0.5, 0.5, curvatures=kappa, n=100).value == 0
    assert divergence_probability(0.5, 3.0, 0.5, curvatures=kappa, n=100).value == 1


@given(st.floats(-1.1, 1.1), st.floats(-2, 2), st.floats(-2, 2), st.floats(0.2, 1.7))
def test_batch_ellipse_is_the_batchs_own(mu, a, b, kappa):
    """Invariant under the batch: H_κ' = H_κ (1 + κ mu r + r²) with r = κ e."""
    r = kappa * (a * b - mu)
    new = a - r * b, b - r * a
    before, after = (batch_ellipse_function(mu, *u, curvature=kappa) for u in ((a, b), new))
    assert after == pytest.approx(
        before * (1 + kappa * mu * r + r * r), rel=1e-9, abs=1e-9 * (1 + abs(r)) ** 4
    )
    assert batch_ellipse_function(mu, a, b, curvature=1.0) == pytest.approx(
        ellipse_function(mu, a, b), abs=1e-12
    )


@given(
    st.floats(-1.9, 1.9), st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(0.01, 0.9), st.floats(0, 1)
)
def test_drift_is_the_mean_over_two_points(mu, a, b, sigma, tau):
    """κ = 1 ± σ and ξ = ±τ: four equally likely residuals, summed exactly."""
    total = 0.0
    for k in (1 - sigma, 1 + sigma):
        for xi in (-tau, tau):
            r = k * (a * b - mu) + xi
            total += ellipse_function(mu, a - r * b, b - r * a) / 4
    found = expected_ellipse_function(mu, a, b, curvature_variance=sigma**2, label_noise=tau)
    assert found == pytest.approx(total, rel=1e-9, abs=1e-9)


@given(st.floats(0.01, 0.999))
def test_two_point_limit(sigma):
    """First P with |(P - 1)² - σ²P²| = 1: from the quadratics."""
    limits = [2 / (1 - sigma**2)]  # = +1
    if 2 * sigma**2 > 1:  # = -1 has real roots
        limits.append((1 - np.sqrt(2 * sigma**2 - 1)) / (1 - sigma**2))
    assert almost_sure_limit([1 - sigma, 1 + sigma]) == pytest.approx(min(limits), rel=1e-9)


@given(st.lists(st.floats(0.1, 3), min_size=1, max_size=8), st.integers(0, 2**32 - 1))
def test_almost_sure_limit_is_a_first_crossing(kappa, seed):
    kappa = np.array(kappa) / np.mean(kappa)
    limit = almost_sure_limit(kappa)
    assert limit >= mean_square_limit(np.var(kappa)) * (1 - 1e-9)
    P = np.random.default_rng(seed).uniform(1e-3, limit * (1 - 1e-6), 200)
    below = minimum_exponent(P, kappa)
    # Stretches of instability shorter than 1e-6 may be passed over; random points miss those.
    assert (below < 1e-9).all()
    assert minimum_exponent(limit * (1 + 1e-7), kappa) > -1e-9


def test_exponential_and_chi_square_limits():
    for P in (0.2, 1.0, 2.5, 30.0):
        assert gaussian_minimum_exponent(P, 2) == pytest.approx(-np.exp(-1 / P) * expi(1 / P), abs=1e-12)
        hyper = mpmath.hyp2f2(1, 1, 1.5, 2, -1 / (2 * P)) / P
        one = float(mpmath.log(P / 2) - mpmath.euler + hyper)
        assert gaussian_minimum_exponent(P, 1) == pytest.approx(one, abs=1e-12)
    assert expi(1 / gaussian_almost_sure_limit(2)) == pytest.approx(0, abs=1e-9)
    rng = np.random.default_rng(0)
    for size in (1, 3, 5, 40):
        P = gaussian_almost_sure_limit(size)
        logs = np.log(np.abs(1 - P * rng.chisquare(size, 400_000) / size))
        assert abs(logs.mean()) < 4 * logs.std() / np.sqrt(logs.size)


def test_minimum_attracts_up_to_the_limit():
    """The map itself from next to a minimum, random batches: below the limit most runs come back."""
    kappa = np.array([0.5, 1.5])
    limit = almost_sure_limit(kappa)
    assert limit == pytest.approx(8 / 3)
    rng = np.random.default_rng(0)
    for P, attracts in ((0.93 * limit, True), (1.1 * limit, False)):
        mu = P / 2
        a = np.full(500, np.sqrt(mu))
        b = a + 1e-6
        for _ in range(400):
            r = rng.choice(kappa, 500) * (a * b - mu)
            a, b = a - r * b, b - r * a
            a, b = np.clip(a, -3, 3), np.clip(b, -3, 3)
        error = np.abs(a * b - mu)
        assert (np.mean(error < 1e-9) > 0.5) == attracts


def test_full_batch_exponents_against_the_ellipse_of_cycles():
    found = slice_exponents(1.7, n=64 * 30_000)  # whole turns of the 3-cycle
    assert found.along == pytest.approx(-0.435106088474, abs=1e-9)
    assert found.across == pytest.approx(-0.473147123071, abs=1e-9)


def test_random_slice_against_the_random_jacobians():
    """Exponents from products of 2 x 2 Jacobians of the batches, on one long orbit."""
    kappa, nu, mu = np.array([0.8, 1.2]), np.array([0.7, 1.3]), 1.2
    found = slice_exponents(mu, curvatures=kappa, couplings=nu, n=4_000_000)
    rng = np.random.default_rng(1)
    x, tangent, growth = 1.0, np.eye(2), []
    for n in range(60_000):
        j = rng.integers(2)
        k, m = kappa[j], nu[j] * mu
        J = np.array([[1 - k * x * x, m - 2 * k * x * x], [m - 2 * k * x * x, 1 - k * x * x]])
        tangent, R = np.linalg.qr(J @ tangent)
        if n >= 500:
            growth.append(np.log(np.abs(np.diag(R))))
        x *= 1 + m - k * x * x
    windows = np.mean(np.reshape(growth[: 70 * 850], (70, 850, 2)), axis=1)
    error = windows.std(axis=0, ddof=1) / np.sqrt(70)
    along, across = sorted([found.along, found.across], reverse=True)
    assert abs(windows[:, 0].mean() - along) < 4 * np.hypot(error[0], found.along_stderr)
    assert abs(windows[:, 1].mean() - across) < 4 * np.hypot(error[1], found.across_stderr)


def test_escaping_slice_says_so():
    with pytest.raises(SliceEscaped) as caught:
        slice_exponents(1.6, curvatures=[0.8, 1.2], couplings=[0.7, 1.3])
    assert caught.value.escapes >= 1
    time = slice_escape_time(1.6, curvatures=[0.8, 1.2], couplings=[0.7, 1.3], n=3000)
    assert time.value > 1
    assert 0 < time.stderr < 0.1 * time.value


@pytest.mark.parametrize(("mu", "tau"), [(1.2, 0.4), (1.8, 0.25)])
def test_hazard_against_simulation(mu, tau):
    rng, orbits = np.random.default_rng(0), 40_000
    x, left, exposed = np.full(orbits, np.sqrt(mu)), 0, 0
    for n in range(150):
        x = x * (1 + mu - x * x + tau * rng.standard_normal(orbits))
        out = np.abs(x) > np.sqrt(2 + mu)
        if n >= 30:
            left, exposed = left + out.sum(), exposed + orbits
        x[out] = rng.choice(x[~out], out.sum())
    rate = left / exposed
    # Resampling correlates survivors a little: five binomial errors.
    assert abs(-np.log1p(-rate) - escape_hazard(mu, tau)) < 5 * np.sqrt(rate / exposed)


def test_hazard_does_not_depend_on_resolution(monkeypatch):
    from trainability import label_noise

    coarse = escape_hazard(1.5, 0.3)
    monkeypatch.setattr(label_noise, "_PANEL", 0.5)
    monkeypatch.setattr(label_noise, "_DEPTH", 32.0)
    assert escape_hazard(1.5, 0.3) == pytest.approx(coarse, rel=1e-9)


def test_action_needs_no_less_with_more_kicks():
    values = [escape_action(0.8, max_kicks=n).value for n in (1, 2, 4, 6)]
    assert all(later <= earlier for earlier, later in pairwise(values))
    # One kick of size z from the minimum: √mu (1 + z) = √(2 + mu).
    assert values[0] == pytest.approx((np.sqrt(2.8 / 0.8) - 1) ** 2 / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: batch_means([1.0, 2.0], 3), "batch_size=3"),
        (lambda: batch_means(np.ones(60), 30), "list at most"),
        (lambda: batch_zone(1.5, 0.0, 0.0, curvature_range=(0.5, 1.5)), r"curvature · \|mu\| < 2"),
        (lambda: batch_zone(0.5, 0.0, 0.0, curvature_range=(1.1, 1.5)), "must contain 1"),
        (lambda: batch_zone(0.5, np.nan, 0.0, curvature_range=(0.5, 1.5)), "a must be finite"),
        (lambda: batch_ellipse_function(0.5, 0.0, 0.0, curvature=0.0), "curvature must be positive"),
        (lambda: expected_ellipse_function(0.5, 0.0, 0.0, curvature_variance=-1.0), "must not be negative"),
        (lambda: mean_square_limit(-0.1), "must not be negative"),
        (lambda: minimum_exponent(1.0, [[1.0]]), "one dimension"),
        (lambda: minimum_exponent(1.0, [0.5, 1.5], [0.5, 0.6]), "sum 1"),
        (lambda: gaussian_minimum_exponent(1.0, 0), "batch_size=0"),
        (lambda: escape_hazard(2.5, 0.2), "mu=2.5"),
        (lambda: escape_hazard(1.5, 0.01), "tau=0.01 is below"),
        (lambda: escape_action(1.5), "mu=1.5"),
        (lambda: escape_action(0.5, max_kicks=0), "max_kicks=0"),
        (lambda: slice_exponents(1.2, curvatures=[1.0, 2.0]), "one and the same length"),
        (
            lambda: slice_escape_time(0.5, curvatures=[1.0], couplings=[1.0], n=2, max_steps=50),
            "stayed bounded",
        ),
        (lambda: divergence_probability(1.5, 0.1, 0.1, curvatures=[0.5, 1.5]), "no zone is safe"),
        (lambda: divergence_probability(0.6, 1.9, 0.9, curvatures=[0.42, 1.67], max_steps=1), "undecided"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
