"""Outcomes of orbits against the exact classification of the product map."""

import numpy as np
import pytest

import trainability as tr
from trainability import Fate, Outcome


def test_outcomes_follow_the_phases_on_the_balanced_slice():
    mu = np.array([0.5, 0.82, 1.1, 1.25, 1.9, 2.3])
    found = tr.classify(tr.product_map(), [0.3, 0.3], mu=mu)
    assert found.outcome.tolist() == [1, 1, 3, 3, 4, 5]
    assert found.period.tolist() == [1, 1, 2, 4, 0, 0]


def test_catapult_starts_where_the_loss_can_rise():
    """Between 2√2 - 2 and 1 some starts converge after a rise; below, on the slice, none does (theory/02)."""
    x = np.linspace(0.05, 1.6, 200)
    starts = np.column_stack([x, x])
    below = tr.classify(tr.product_map(0.82), starts)
    above = tr.classify(tr.product_map(0.9), starts)
    assert set(below.outcome) == {Outcome.CONVERGED}
    assert set(above.outcome) == {Outcome.CONVERGED, Outcome.CATAPULT}
    orbits = tr.orbit(tr.product_map(0.9), starts, n=400)
    loss = (orbits[..., 0] * orbits[..., 1] - 0.9) ** 2 / 2
    rose = (np.diff(loss, axis=1) > 1e-12 * loss[:, :1]).any(axis=1)
    np.testing.assert_array_equal(rose, above.outcome == Outcome.CATAPULT)


def test_basins_of_the_product_map_match_its_exact_fate():
    """2000 random starts; those whose finite run cannot tell are near |mu| = 1 or the ellipse and few."""
    rng = np.random.default_rng(3)
    mu, a, b = rng.uniform(0.05, 2.5, 2000), *rng.uniform(-2.5, 2.5, (2, 2000))
    found = tr.classify(tr.product_map(), np.column_stack([a, b]), mu=mu)
    exact = tr.fate(mu, a, b)
    np.testing.assert_array_equal(found.outcome == Outcome.DIVERGED, exact == Fate.DIVERGES)
    settled = np.isin(found.outcome, (Outcome.CONVERGED, Outcome.CATAPULT))
    decided = found.outcome != Outcome.UNDECIDED
    np.testing.assert_array_equal(settled[decided], (exact == Fate.CONVERGES)[decided])
    assert (~decided).sum() <= 20


def test_time_to_reach_a_loss_is_the_first_step_below_it():
    m, u0 = tr.product_map(0.6), [0.2, 0.5]
    orbit = tr.orbit(m, u0, n=500)
    loss = (orbit[:, 0] * orbit[:, 1] - 0.6) ** 2 / 2
    assert tr.classify(m, u0, loss_tol=1e-6).step == np.argmax(loss <= 1e-6)


def test_growth_rate_is_the_largest_exponent():
    found = tr.classify(tr.product_map(1.9), [0.3, 0.31], n=40_000)
    exact = tr.lyapunov_spectrum(tr.product_map(1.9), [0.3, 0.31], n=400_000, transient=1000, n_exponents=1)
    assert found.rate == pytest.approx(exact.exponents[0], abs=0.02)  # spread of 20,000 chaotic steps


def test_maps_without_a_loss_converge_by_distance():
    halving = tr.Map(lambda u, p: (u[0] / 2,), lambda u, p: ((0.5,),), ("x",), {})
    found = tr.classify(halving, [1.0], loss_tol=1e-3)
    assert found.outcome == Outcome.CONVERGED
    assert found.step == 10  # it last moved by 2⁻¹⁰, the first distance below 1e-3


def test_basins_lay_axes_out_in_order():
    ds = tr.basins(tr.product_map, {"mu": [0.5, 1.1], "b": [-0.2, 0.3, 2.9]}, u0=[0.4, 0.0])
    assert ds["outcome"].dims == ("mu", "b")
    assert ds["outcome"].sel(mu=1.1, b=0.3) == Outcome.CYCLE
    assert ds["period"].sel(mu=1.1, b=0.3) == 2
    assert ds["outcome"].sel(mu=0.5, b=2.9) == Outcome.DIVERGED
    assert ds["outcome"].attrs["flag_meanings"].split()[Outcome.CHAOTIC] == "chaotic"


def test_repr_answers():
    assert repr(tr.classify(tr.product_map(1.1), [0.3, 0.3])) == "cycle, period 2"
    assert "converged 1" in repr(tr.classify(tr.product_map(), [0.3, 0.3], mu=[0.5, 3.0]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: tr.classify(m, [0.3, 0.3], mu=np.nan), "mu must be finite"),
        (lambda m: tr.classify(m, [0.3, 0.3], nu=1.0), "'nu' is not a parameter"),
        (lambda m: tr.basins(m, {"a": [1.0, 0.0], "b": [0.0]}), "a: axis must increase"),
        (lambda m: tr.basins(m, {"c": [1.0]}), "axis 'c' is neither"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make(tr.product_map(1.1))
