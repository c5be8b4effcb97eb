"""Trivial rules on maps of which they can and cannot know the answer."""

import sys
from pathlib import Path

import numpy as np
import pytest

from trainability import compare_baselines

sys.path.insert(0, str(Path(__file__).parent))
from maps_with_status import N, X, Y, as_map


def agreements(predicted, observed):
    return compare_baselines(predicted, observed, outcome="diverged").to_dataframe()


def test_each_rule_knows_what_it_can_express():
    """A cut on one axis, a slanted line, a disc: each is out of reach of the rules before it."""
    cut, line = as_map(X > 20), as_map(2 * X + Y > 96)
    disc = as_map(np.hypot(X - 32, Y - 32) < 22)
    found = agreements(cut, cut)
    assert found.agreement["prediction"] == 1
    assert found.agreement["threshold"] > 0.98
    found = agreements(line, line)
    assert found.agreement["threshold"] < 0.9
    assert found.agreement["logistic"] > 0.97
    found = agreements(disc, disc)
    assert found.agreement["logistic"] < 0.7
    assert found.agreement["logistic, squares"] > 0.96
    assert (found.low <= found.agreement).all()
    assert (found.high >= found.agreement - 1e-12).all()  # rounding at 1


def test_rules_are_judged_where_they_have_not_looked():
    """On a map without structure no rule does better than a coin, however well it fits: four standard errors."""
    coin = as_map(np.random.default_rng(0).random((N, N)) < 0.5)
    found = agreements(coin, coin)
    assert found.agreement["prediction"] == 1
    assert (found.agreement.drop("prediction") < 0.5 + 4 * 0.5 / N).all()


def test_lead_is_the_difference_with_an_interval():
    """A prediction that is wrong on half of what is diverged against the majority, which misses all of it."""
    found = agreements(as_map(X < 8), as_map(X < 16))
    assert found.agreement["majority"] == 0.75
    assert found.lead["majority"] == pytest.approx(0.125)
    assert found.lead_low["majority"] < 0.125 < found.lead_high["majority"]
    assert found.lead["prediction"] == 0
    assert 0 < found.smallest_lead["majority"] < 0.25


def test_interval_of_the_lead_covers_the_truth():
    """A prediction that knows a quarter of the diverged blocks, which are a quarter of all: it leads the majority,
    which knows none, by 1/16 on average. Bootstraps over 64 blocks are slightly short: 85 % must cover."""
    rng, covered = np.random.default_rng(1), []
    for _ in range(80):
        lost, mine = (np.kron(rng.random((N // 8, N // 8)) < 1 / 4, np.ones((8, 8), bool)) for _ in range(2))
        row = compare_baselines(as_map(lost & mine), as_map(lost), outcome="diverged").sel(rule="majority")
        covered.append(bool(row["lead_low"] <= 1 / 16 <= row["lead_high"]))
    assert np.mean(covered) >= 0.85
