"""Every number of tests/data/product_map.csv, by the public function that claims it."""

import csv
from decimal import Decimal
from functools import cache
from pathlib import Path

import mpmath
import numpy as np
import pytest

from trainability import (
    balanced,
    ellipse,
    invariant_density,
    label_noise,
    minibatch,
    random_orbits,
    repeller,
    windows,
)
from trainability.classification import thresholds
from trainability.ellipse import transverse_exponent

SQUARES = np.array([0.6, 0.8, 1.0, 1.2]) ** 2  # gains of the example data
CURVATURES, COUPLINGS = [0.8, 0.9, 1.1, 1.2], [0.7, 1.1, 0.9, 1.3]


@cache
def cycle(mu):
    return balanced.balanced_cycle(mu)


@cache
def window(period, superstable):
    return windows.cycle_window(int(period), superstable)


@cache
def superstable(period):
    return windows.superstable_parameters(int(period))


@cache
def misiurewicz(steps, landing, near):
    mu = invariant_density.misiurewicz_parameter(int(steps), int(landing), (near - 1e-6, near + 1e-6))
    return invariant_density.misiurewicz_measure(mu)


def batches(size):
    return minibatch.batch_means(SQUARES / SQUARES.mean(), int(size))


@cache
def noisy(mu):
    return random_orbits.slice_exponents(mu, n=20_000_000)


@cache
def batched_slice(mu, size):
    kappa, nu = minibatch.batch_means(CURVATURES, int(size)), minibatch.batch_means(COUPLINGS, int(size))
    return random_orbits.slice_exponents(mu, curvatures=kappa, couplings=nu, n=20_000_000)


def escape_time(mu, size):
    kappa, nu = minibatch.batch_means(CURVATURES, int(size)), minibatch.batch_means(COUPLINGS, int(size))
    return random_orbits.slice_escape_time(mu, curvatures=kappa, couplings=nu)


EXACT = {
    "transverse_exponent": transverse_exponent,
    "transverse_pressure": ellipse.transverse_pressure,
    "basin_uncertainty_exponent": ellipse.basin_uncertainty_exponent,
    "cycle_period": lambda mu: cycle(mu).period,
    "cycle_sign": lambda mu: {"asym": 1, "sym": -1}[cycle(mu).kind],
    "cycle_multiplier_along": lambda mu: cycle(mu).multiplier_along,
    "cycle_multiplier_across": lambda mu: cycle(mu).multiplier_across,
    "cycle_exponent_along": lambda mu: cycle(mu).exponent_along,
    "cycle_exponent_across": lambda mu: cycle(mu).exponent_across,
    "window_opens": lambda p, near: window(p, near).opens,
    "window_superstable": lambda p, near: window(p, near).superstable,
    "window_doubles": lambda p, near: window(p, near).doubles,
    "window_ends": lambda p, near: window(p, near).ends,
    "superstable": lambda p, near: min(superstable(p), key=lambda mu: abs(mu - near)),
    "superstable_count": lambda p: len(superstable(p)),
    "misiurewicz_parameter": lambda n, landing, near: misiurewicz(n, landing, near).mu,
    "misiurewicz_along": lambda *a: misiurewicz(*a).exponent_along,
    "misiurewicz_across": lambda *a: misiurewicz(*a).exponent_across,
    "misiurewicz_mean_e": lambda *a: misiurewicz(*a).mean(lambda x: x * x - misiurewicz(*a).mu),
    "misiurewicz_mean_e2": lambda *a: misiurewicz(*a).mean(lambda x: (x * x - misiurewicz(*a).mu) ** 2),
    "escape_rate": repeller.escape_rate,
    "repeller_dimension": repeller.repeller_dimension,
    "repeller_exponent": repeller.repeller_exponent,
    "gaussian_almost_sure_limit": lambda size: minibatch.gaussian_almost_sure_limit(int(size)),
    "finite_almost_sure_limit": lambda size: minibatch.almost_sure_limit(batches(size)),
    "finite_minimum_exponent": lambda size: minibatch.minimum_exponent(1.0, batches(size)),
}

# Mean, and its standard error: from many independent runs here and in the table.
SIMULATED = {
    "noisy_along": lambda mu: (noisy(mu).along, noisy(mu).along_stderr),
    "noisy_across": lambda mu: (noisy(mu).across, noisy(mu).across_stderr),
    "slice_along": lambda *a: (batched_slice(*a).along, batched_slice(*a).along_stderr),
    "slice_across": lambda *a: (batched_slice(*a).across, batched_slice(*a).across_stderr),
    "slice_escape_time": lambda *a: (escape_time(*a).value, escape_time(*a).stderr),
}

# Results that are known less well than the table's digits say, with the reason.
LOOSER = {
    # A multiplier changes by up to 1e4 per unit of mu in the narrowest windows, and mu = 1.925 is no double.
    "cycle_exponent_along": 2e-11,
    # Known to 1e-9 of themselves, by the resolution of the operator.
    "escape_hazard": 1e-9,
}


def table(*quantities):
    path = Path(__file__).parent / "data" / "product_map.csv"
    with path.open(newline="", encoding="utf8") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] in quantities]
    assert rows
    return [pytest.param(row, id=f"{row['quantity']}-{row['arguments']}") for row in rows]


def arguments(row):
    return tuple(float(x) for x in row["arguments"].split(";"))


def half_unit(value: str) -> float:
    """Half a unit in the last digit that the table gives."""
    return 0.5 * float(Decimal(1).scaleb(Decimal(value).as_tuple().exponent))


def check(row, found, *, looser=0.0):
    expected = float(row["value"])
    rounding = 8 * np.finfo(float).eps * max(1.0, abs(expected))
    assert abs(found - expected) <= half_unit(row["value"]) * 1.001 + looser + rounding


def test_every_row_is_tested():
    path = Path(__file__).parent / "data" / "product_map.csv"
    with path.open(newline="", encoding="utf8") as file:
        found = {row["quantity"] for row in csv.DictReader(file)}
    others = {
        "threshold",
        "band_merging",
        "escape_hazard",
        "escape_action",
        "divergence_probability",
        "slice_extra",
    }
    assert found == set(EXACT) | set(SIMULATED) | others


@pytest.mark.parametrize("row", table(*EXACT))
def test_exact_number(row):
    check(row, EXACT[row["quantity"]](*arguments(row)), looser=LOOSER.get(row["quantity"], 0.0))


@pytest.mark.parametrize("row", table("threshold"))
def test_threshold(row):
    check(row, thresholds()[row["arguments"]])
    assert abs(thresholds(exact=True)[row["arguments"]] - Decimal(row["value"])) < 1e-14


@pytest.mark.parametrize("row", table("band_merging"))
def test_band_merging_to_all_digits(row):
    n = int(row["arguments"])
    check(row, invariant_density.band_merging(n))
    found = invariant_density.band_merging(n, digits=21)
    # Digits beyond the table's are unknown; its last one may be truncated.
    assert abs(Decimal(mpmath.nstr(found, 21)) - Decimal(row["value"])) < Decimal("1.1e-20")


@pytest.mark.parametrize("row", table("escape_hazard"))
def test_escape_hazard(row):
    check(row, label_noise.escape_hazard(*arguments(row)), looser=1e-9 * float(row["value"]))


@pytest.mark.parametrize("row", table("escape_action"))
def test_escape_action(row):
    (mu,) = arguments(row)
    # Given to three digits after a search over the same number of kicks.
    assert abs(label_noise.escape_action(mu).value - float(row["value"])) < 1e-3


@pytest.mark.parametrize("row", table("divergence_probability"))
def test_divergence_probability(row):
    mu, a, b, size = arguments(row)
    found = random_orbits.divergence_probability(mu, a, b, curvatures=batches(size))
    # Four standard errors of our runs, plus the table's own and its rounding.
    assert abs(found.value - float(row["value"])) <= 4 * np.hypot(found.stderr, float(row["stderr"])) + 5e-5


@pytest.mark.parametrize("row", table("slice_extra"))
def test_exponent_of_extra_weights(row):
    mu, ratio = arguments(row)
    found = random_orbits.slice_exponents(mu, ratio=ratio)
    assert abs(found.extra - float(row["value"])) <= 4 * found.extra_stderr + half_unit(row["value"])


@pytest.mark.slow
@pytest.mark.parametrize("row", table(*SIMULATED))
def test_simulated_number(row):
    value, stderr = SIMULATED[row["quantity"]](*arguments(row))
    # Four standard errors of both; cycles that attract leave only the rounding of the table.
    assert abs(value - float(row["value"])) <= 4 * np.hypot(stderr, float(row["stderr"])) + half_unit(
        row["value"]
    )
