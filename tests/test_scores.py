"""Convergence rules against traces worked out by hand, infinite ones among them."""

import numpy as np
import pytest
import xarray as xr

from trainability import Status
from trainability.scores import beside_boundary, converged_by, published_convergence, rule_sensitivity

# 40 records: windows of two, and 1 + 0.4 · 39 = 16.6 at the level of the cut.
N, LEVEL, WORST = 40, 16.6, 1 + 39 * 9.6


def trace(*parts):
    """(value, records) after one another."""
    return np.concatenate([np.full(n, value) for value, n in parts])


BY_HAND = {  # trace, converged, score as published, in total
    # Σv = 4 + 36 · 0.2 = 11.2
    "early": (trace((1.0, 4), (0.2, 36)), True, np.sqrt(5.4 / 15.6), np.sqrt(5.4 / 15.6)),
    # Σv = 30 + 10 · 0.2 = 32: the mean is above the level, the end below it
    "late": (trace((1.0, 30), (0.2, 10)), True, np.nan, 0.0),
    # Σv = 40 · 0.9 + 0.1
    "level": (trace((1.0, 1), (0.9, 39)), False, -np.sqrt(19.5 / WORST), -np.sqrt(19.5 / WORST)),
    # Σv = 2 + 36 · 0.1 + 2 · 3: low for long, lost at the end
    "relapse": (trace((1.0, 2), (0.1, 36), (3.0, 2)), False, np.nan, 0.0),
    # Σv = 10 + 30 · 10
    "inf": (trace((1.0, 10), (np.inf, 30)), False, -np.sqrt(293.4 / WORST), -np.sqrt(293.4 / WORST)),
    "nan": (trace((1.0, 10), (np.nan, 30)), False, -np.sqrt(293.4 / WORST), -np.sqrt(293.4 / WORST)),
    # Σv = 2 + 10 + 37 · 0.1 with one record at the cap
    "spike": (trace((1.0, 2), (50.0, 1), (0.1, 37)), True, np.sqrt(0.9 / 15.6), np.sqrt(0.9 / 15.6)),
    # the window's mean is 0.3 and its variance 0.04
    "shaky": (trace((1.0, 2), (0.2, 36), (0.1, 1), (0.5, 1)), False, np.nan, 0.0),
    # the fall is over before the first window ends: 0.15 to 0.1
    "at once": (trace((1.0, 1), (0.1, 39)), True, np.sqrt(11.7 / 15.6), np.sqrt(11.7 / 15.6)),
}


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_published_convergence_is_what_hands_compute(name, scale):
    losses, converged, published, total = BY_HAND[name]
    if scale != 1 and name in ("inf", "nan"):
        # As released, a loss that is not finite is 10 before the division: Σv = 10 + 30 · 10 / 4.
        published = -np.sqrt((85 - LEVEL) / WORST)
    for form, value in ((False, published), (True, total)):
        found = published_convergence(scale * losses[None], total=form)
        assert found.converged[0] == converged
        np.testing.assert_allclose(found.value[0], value, rtol=1e-12)


def test_a_first_loss_that_is_not_finite_looks_converged_as_published_and_not_in_total():
    losses = trace((np.nan, 1), (3.0, 1), (1.0, 38))
    # 10 stands for the NaN: v = 1, 0.3, 0.1, ...; Σv = 5.1
    as_published = published_convergence(losses[None], total=False)
    assert as_published.converged[0]
    np.testing.assert_allclose(as_published.value[0], np.sqrt(11.5 / 15.6), rtol=1e-12)
    in_total = published_convergence(losses[None])
    assert not in_total.converged[0]
    np.testing.assert_allclose(in_total.value[0], -np.sqrt((391 - LEVEL) / WORST), rtol=1e-12)


def test_total_form_is_finite_and_keeps_the_sign_apart_from_the_verdict():
    rng = np.random.default_rng(0)
    losses = np.exp(rng.normal(0, 4, (400, 30)))
    losses[rng.random(losses.shape) < 0.05] = np.nan
    losses[rng.random(losses.shape) < 0.05] = np.inf
    losses[:5, 0] = 0, -1, np.inf, np.nan, 1e-320
    losses[5:200, -3:] *= 1e-6
    found = published_convergence(losses)
    assert np.isfinite(found.value).all()
    assert (found.value[found.converged] >= 0).all()
    assert (found.value[~found.converged] <= 0).all()
    assert np.abs(found.value).max() <= 1
    assert found.converged.any()
    assert np.isnan(published_convergence(losses, total=False).value).any()


def test_plain_rules_and_their_cut_offs():
    runs = {
        "first_loss": np.array([4.0, 4.0, np.inf]),
        "final_loss": np.array([1.0, 3.0, np.inf]),
        "min_loss": np.array([1.0, 1.9, np.inf]),
        "test_loss": np.array([2.1, 1.0, np.inf]),
        "tail_ratio": np.array([0.3, 0.7, np.inf]),
        "trace": np.stack([BY_HAND["early"][0], BY_HAND["level"][0], np.full(N, np.inf)]),
    }
    assert converged_by(runs, "final").tolist() == [True, False, False]
    assert converged_by(runs, "minimum").tolist() == [True, True, False]
    assert converged_by(runs, "held out").tolist() == [False, True, False]
    assert converged_by(runs, "tail").tolist() == [True, False, False]
    assert converged_by(runs, "tail", 0.2).tolist() == [False, False, False]
    assert converged_by(runs, "mlp").tolist() == [True, True, False]
    assert converged_by(runs, "transformer").tolist() == [True, False, False]


def test_rules_refuse_what_they_cannot_judge():
    with pytest.raises(ValueError, match="'best' is unknown; known are tail, final"):
        converged_by({}, "best")
    with pytest.raises(ValueError, match="have no trace"):
        converged_by({}, "transformer")
    with pytest.raises(ValueError, match="has none; leave it out"):
        converged_by({"trace": np.ones((2, 20))}, "transformer", 0.3)
    with pytest.raises(ValueError, match="at least 20 records"):
        published_convergence(np.ones((2, 19)))
    with pytest.raises(ValueError, match="no trained pixel"):
        rule_sensitivity(xr.Dataset({"tail_ratio": ("lr", [0.1]), "status": ("lr", [0])}))


def test_sensitivity_counts_what_a_cut_off_moves():
    """On a ramp of tail ratios from 0 to 1 along one axis, a cut-off c puts the boundary at the share c."""
    tail = np.broadcast_to((np.arange(100) + 0.5) / 100, (20, 100))
    runs = xr.Dataset(
        {"tail_ratio": (("y", "x"), tail), "status": (("y", "x"), np.ones(tail.shape, np.int8))}
    )
    found = rule_sensitivity(
        runs,
        rules={"stricter": lambda r: converged_by(r, "tail", 0.4), "same": lambda r: r["tail_ratio"] < 0.5},
    )
    np.testing.assert_allclose(found.moved["stricter"], 0.10)
    np.testing.assert_allclose(found.boundary_moved["stricter"], 0.5)  # the pixels on the inner side
    assert found.moved["same"] == found.boundary_moved["same"] == 0
    inside = found.cuts < 0.99
    np.testing.assert_allclose(found.converged_share[inside], found.cuts[inside], atol=0.0101)
    np.testing.assert_allclose(found.cut_moved[inside][1:-1], 0.01, atol=0.0051)
    assert "stricter moves 10.0% of all pixels" in repr(found)


def test_edges_of_what_is_not_trained_are_no_boundary():
    """The ramp again, with the rows that hold no boundary inferred: neither their edges nor a hole count."""
    tail = np.broadcast_to((np.arange(100) + 0.5) / 100, (20, 100)).copy()
    status = np.ones(tail.shape, np.int8)
    status[:, :40] = status[:, 60:] = Status.INFERRED
    status[10, 49] = Status.FAILED
    tail[status != 1] = np.nan
    runs = xr.Dataset({"tail_ratio": (("y", "x"), tail), "status": (("y", "x"), status)})
    found = rule_sensitivity(runs, rules={"stricter": lambda r: converged_by(r, "tail", 0.485)})
    # At 0.5 the columns 49 and 50 meet, 19 and 20 pixels of them trained; the stricter rule moves all of column 49.
    np.testing.assert_allclose(found.boundary_moved["stricter"], 19 / 39)


def test_pixels_beside_a_boundary():
    labels = np.zeros((5, 6), bool)
    labels[:, 3:] = True
    np.testing.assert_array_equal(np.flatnonzero(beside_boundary(labels)[0]), [2, 3])
    np.testing.assert_array_equal(np.flatnonzero(beside_boundary(labels, reach=2)[0]), [1, 2, 3, 4])
    known = np.ones(labels.shape, bool)
    known[:, 3] = False
    assert not beside_boundary(labels, known=known).any()
    np.testing.assert_array_equal(np.flatnonzero(beside_boundary(labels, reach=2, known=known)[0]), [2, 4])
