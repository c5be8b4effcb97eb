"""The audit of a cut-off against histograms of one and of two kinds."""

import warnings

import numpy as np
import pytest
import xarray as xr

from trainability import threshold_audit


def a_map(tail):
    status = np.where(np.isfinite(tail), np.where(tail < 0.5, 1, 3), 2)
    return xr.Dataset({"tail_ratio": ("lr", tail), "status": ("lr", status)})


def audit(tail, cut):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return threshold_audit(a_map(tail), cut=cut)


def test_a_cut_between_two_kinds_is_in_a_valley_and_one_on_a_flank_is_not():
    rng = np.random.default_rng(0)
    for _ in range(20):
        tail = np.concatenate([rng.normal(0.4, 0.04, 500), rng.normal(0.7, 0.04, 500)])
        assert audit(tail, 0.55).in_valley
        flank = audit(tail, 0.43)
        assert not flank.in_valley
        assert 0.48 < flank.valley < 0.62


@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_one_kind_has_no_valley(draw):
    """400 draws of 1000 runs: a rate of 2 % would leave at least 17 with chance 1e-3 only."""
    rng = np.random.default_rng(1)
    draws = [rng.uniform(0, 1, 1000) if draw == "uniform" else rng.normal(0.5, 0.2, 1000) for _ in range(400)]
    wrong = sum(audit(tail, rng.uniform(0.2, 0.8)).in_valley for tail in draws)
    assert wrong < 17


def test_a_weak_second_kind_is_found_and_the_rest_warned_of():
    rng = np.random.default_rng(2)
    tail = np.concatenate([rng.normal(0.4, 0.04, 900), rng.normal(0.7, 0.04, 100)])
    assert audit(tail, 0.55).in_valley
    with pytest.warns(
        UserWarning, match=r"0.42 of 'tail' is not in a valley: .* the deepest valley is at 0.5"
    ):
        threshold_audit(a_map(tail), cut=0.42)
    with pytest.warns(UserWarning, match="there is no valley: the boundary is a level of a slope"):
        threshold_audit(a_map(rng.uniform(0, 1, 1000)), cut=0.5)


def test_the_histogram_counts_finite_outcomes_with_the_cut_in_the_middle_of_a_bin():
    rng = np.random.default_rng(3)
    tail = np.append(rng.uniform(0.2, 0.8, 500), np.full(50, np.inf))
    found = audit(tail, 0.5)
    i = int(np.searchsorted(found.edges, 0.5)) - 1
    assert (found.edges[i] + found.edges[i + 1]) / 2 == pytest.approx(0.5)
    assert 460 <= found.counts.sum() <= 500  # between the 2nd and 98th percentile, and what shares their bins
    assert found.near == found.counts[i] / 500


def test_bad_input_is_named():
    tail = np.linspace(0, 1, 100)
    with pytest.raises(ValueError, match="histogram needs 50"):
        threshold_audit(a_map(tail[:20]))
    with pytest.raises(ValueError, match="rule 'luck' is unknown"):
        threshold_audit(a_map(tail), rule="luck")
    with pytest.raises(ValueError, match="needs final_loss, first_loss"):
        threshold_audit(a_map(tail), rule="final")
    runs = a_map(tail).assign(trace=(("lr", "record"), np.ones((100, 20))))
    with pytest.raises(ValueError, match="rule 'transformer' has no cut-off"):
        threshold_audit(runs, rule="transformer")
