"""The slice beyond mu = 2: against cycle sums, direct counting and simulated escapes."""

import numpy as np
import pytest
from scipy.integrate import quad

from trainability.repeller import (
    escape_rate,
    escape_survival,
    mean_escape_time,
    repeller_dimension,
    repeller_exponent,
)


def cycle_determinant(mu, s, n_max):
    """Fredholm determinant at 1 of the weighted operator, from all cycles up to n_max: no operator involved."""
    r, A = 1 + mu, 2 * ((1 + mu) / 3) ** 1.5
    trace, determinant = np.zeros(n_max + 1), np.zeros(n_max + 1)
    for n in range(1, n_max + 1):
        words = np.array(np.meshgrid(*[range(3)] * n)).reshape(n, -1)
        x = np.zeros(words.shape[1])
        for letters in list(words) * 20:  # inverse branches contract onto the cycle
            x = 2 * np.sqrt(r / 3) * np.cos((np.arccos(-x / A) + 2 * np.pi * letters) / 3)
        multiplier = np.ones_like(x)
        for _ in range(n):
            multiplier *= r - 3 * x * x
            x = x * (r - x * x)
        trace[n] = np.sum(np.abs(multiplier) ** -s / (1 - 1 / multiplier))
    determinant[0] = 1
    for n in range(1, n_max + 1):
        determinant[n] = -sum(trace[k] * determinant[n - k] for k in range(1, n + 1)) / n
    return determinant


@pytest.mark.parametrize("mu", [2.5, 4.0])
def test_operator_against_cycles(mu):
    zeros = np.roots(cycle_determinant(mu, 1.0, 8)[::-1])
    leading = np.abs(zeros[np.isreal(zeros)]).min()
    # Coefficients fall faster than exponentially; eight leave less than 1e-8 at these mu.
    assert np.log(leading) == pytest.approx(escape_rate(mu), abs=1e-8)
    assert cycle_determinant(mu, repeller_dimension(mu), 8).sum() == pytest.approx(0, abs=1e-8)


def test_escape_rate_by_counting():
    mu, n = 2.5, 4_000_000
    x = np.random.default_rng(0).uniform(-1, 1, n) * np.sqrt(2 + mu)
    for _ in range(4):  # forget the start
        x = x * (1 + mu - x * x)
        x = x[np.abs(x) <= np.sqrt(2 + mu)]
    before, steps = x.size, 8
    for _ in range(steps):
        x = x * (1 + mu - x * x)
        x = x[np.abs(x) <= np.sqrt(2 + mu)]
    rate = -np.log(x.size / before) / steps
    # Binomial error of the survivors, and the second eigenvalue's part, below e^-4.
    assert abs(rate - escape_rate(mu)) < 4 / steps / np.sqrt(x.size) + 2e-3


def test_exponent_exceeds_escape_rate_by_an_entropy():
    mu = np.array([2.02, 2.1, 3.0, 10.0])
    entropy = repeller_exponent(mu) - escape_rate(mu)
    assert ((entropy > 0) & (entropy < np.log(3))).all()
    # Near 2 all is as for the Chebyshev map; far away the three pieces are almost affine.
    assert repeller_exponent(2.02) == pytest.approx(np.log(3), abs=0.08)
    assert (np.diff(repeller_dimension(mu)) < 0).all()


def test_mean_escape_time_is_the_integral_of_survival():
    d0, e0 = 1e-3, 0.7
    mean = quad(lambda n: escape_survival(n, d0, e0), 0, np.inf, limit=200, points=None)[0]
    assert mean == pytest.approx(mean_escape_time(d0, e0), rel=1e-8)


def test_escape_law_against_simulation():
    """A limit law: at d0 = 1e-3 its bias is below one percent."""
    rng, runs, d0 = np.random.default_rng(0), 3000, 1e-3
    s, d = 4 * np.cos(np.pi * rng.random(runs)), np.full(runs, d0)
    expected = mean_escape_time(d0, s * s / 4 - 2)
    time = np.zeros(runs)
    alive = np.arange(runs)
    for n in range(1, 400_000):
        e = (s * s - d * d) / 4 - 2
        s, d = s * (1 - e), d * (1 + e)
        gone = np.abs(s) > 10
        if gone.any():
            time[alive[gone]] = n
            alive, s, d = alive[~gone], s[~gone], d[~gone]
            if not alive.size:
                break
    scaled = time / expected
    assert abs(scaled.mean() - 1) < 4 * scaled.std() / np.sqrt(runs) + 0.01
    later = (scaled > 1).mean()  # erfc(1/√π)
    assert abs(later - 0.4249) < 4 * np.sqrt(later * (1 - later) / runs) + 0.01


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: escape_rate(2.0), "mu=2.0: balanced orbits escape for mu > 2 only"),
        (lambda: repeller_dimension([3.0, np.nan]), "mu must be finite"),
        (lambda: escape_survival(10, 1e-3, 2.0), "e0=2.0 must be below 2"),
        (lambda: mean_escape_time(0.0, 0.0), "d0=0 lies on the slice"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
