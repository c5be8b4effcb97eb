"""The study of the product map: predictions made without training, and what training says to them."""

import numpy as np
import pytest

import trainability as tr
from trainability import Grid, Prompt, Status, linear_axis, log_axis, random_prompt, trainability_map
from trainability.claims import Verdict, claim_tests
from trainability.linear_planes import minibatch_trainer, planes, schedule
from trainability.linear_predictions import (
    escape_probability,
    predict_driven,
    predict_run_exponents,
    relative_curvatures,
)
from trainability.plot_studies import product_map_pictures
from trainability.trainers import LinearTransformer, LinearTransformerTangent


def sweep(name, grid, trainer, tile=None):
    return trainability_map(grid, trainer, tile=tile)


@pytest.fixture(scope="module")
def panels():
    return planes(sweep, pixels=32, n_steps=600)


def test_prediction_uses_only_prompt_learning_rate_and_initial_weights(panels):
    """The classification restated: H < 0 and |mu| < 2 is bounded, |mu| ≤ 1 besides converges."""
    predicted = panels["imbalance"].predicted
    mu, a, b = (predicted[k].values for k in ("mu", "a", "b"))
    bounded = (a * a + b * b - mu * a * b + mu * mu < 4) & (np.abs(mu) < 2)
    expected = np.where(
        ~bounded, Status.DIVERGED, np.where(np.abs(mu) <= 1, Status.CONVERGED, Status.UNDECIDED)
    )
    np.testing.assert_array_equal(predicted["status"], expected)
    assert set(np.unique(expected)) == {1, 2, 3}
    np.testing.assert_array_equal(predicted["boundary"].values < 0, bounded)


@pytest.mark.parametrize("name", ["imbalance", "scale", "pair"])
def test_exact_reductions_agree_on_99_percent_and_within_a_pixel(panels, name):
    panel = panels[name]
    assert panel.diverged.agreement >= 0.99
    assert panel.converged.agreement >= 0.99
    assert panel.diverged.boundary.max <= 1.0
    assert panel.resolved <= int(panel.converged.wrong.sum())


def test_training_every_weight_on_one_prompt_does_not_agree(panels):
    assert panels["all"].diverged.agreement < 0.9
    assert panels["all"].resolved is None


def test_minibatches_follow_the_map_driven_by_them_and_keep_to_their_zones(panels):
    panel = panels["mini-batch"]
    assert panel.diverged.agreement >= 0.99
    zone, lost = panel.predicted["zone"].values, panel.observed["status"].values == Status.DIVERGED
    assert {1, 2, 3} <= set(np.unique(zone))
    assert not lost[zone == tr.Zone.SAFE].any()
    assert lost[zone == tr.Zone.LOST].all()


def test_a_schedule_is_followed_where_rounding_does_not_decide(panels):
    panel = panels["schedule"]
    delicate = panel.predicted["delicate"].values
    assert 0 < delicate.mean() < 0.5
    assert panel.diverged.wrong.values[~delicate].mean() < 0.01
    inside = panel.predicted["boundary"].values < 0
    lost = panel.observed["status"].values == Status.DIVERGED
    assert not lost[inside].any()
    assert (~lost[~inside]).sum() > 0  # the warm-up saves some of those outside


def test_driven_prediction_is_the_driven_map_in_many_digits():
    """Starts that come far below rounding and leave again among them, iterated with 400 digits."""
    mpmath = pytest.importorskip("mpmath")
    trainer = LinearTransformer(
        random_prompt(12, 4, seed=13), seed=1, imbalance=-0.3, n_steps=1000, schedule=schedule(1000)
    )
    grid = Grid(lr=[0.036177, 0.111256, 0.207677], init_scale=[0.5, 1.6156, 2.37137, 4.21697, 8])
    predicted = predict_driven(grid, trainer)
    lost, least = [], []
    with mpmath.workdps(400):
        for mu, a, b in zip(*(predicted[k].values.ravel() for k in ("mu", "a", "b")), strict=True):
            mu, a, b, low = mpmath.mpf(mu), mpmath.mpf(a), mpmath.mpf(b), mpmath.mpf(1)
            for f in trainer.schedule:
                e = a * b - mu
                low = min(low, abs(e / mu))
                if a * a + b * b > 1e16:
                    break
                a, b = a - f * e * b, b - f * e * a
            lost.append(a * a + b * b > 1e16)
            least.append(low < 1e-15)
    assert predicted["status"].values.ravel().tolist() == [2 if gone else 1 for gone in lost]
    np.testing.assert_array_equal(
        predicted["delicate"].values.ravel() & np.array(lost), np.array(least) & np.array(lost)
    )
    assert (np.array(least) & np.array(lost)).any()


def test_schedule_rises_holds_and_falls():
    factors = np.array(schedule(100))
    assert len(factors) == 100
    assert factors[:10].tolist() == pytest.approx(np.arange(1, 11) / 10)
    assert (factors[10:50] == 1).all()
    assert factors[-1] == factors[-30] == 0.3


def test_driven_prediction_without_drive_is_the_closed_form():
    trainer = LinearTransformer(random_prompt(12, 4, seed=13), seed=1, init_scale=2.0, n_steps=2000)
    grid = Grid(lr=log_axis(0.03, 0.6, 12), imbalance=linear_axis(-1, 1, 12))
    closed, driven = tr.predict_linear_transformer(grid, trainer), predict_driven(grid, trainer)
    np.testing.assert_array_equal(driven["status"], closed["status"])
    np.testing.assert_allclose(driven["boundary"], closed["boundary"], rtol=1e-12)


def test_escape_probability_is_that_of_the_zones_and_of_known_odds():
    """0 in the safe zone and 1 in the lost one; between, the share of trained orders within four standard errors."""
    trainer = minibatch_trainer(200)
    grid = Grid(lr=[0.2, 0.9, 1.3], imbalance=[-0.95, 0.0])
    p = escape_probability(grid, trainer, n_orders=400).values
    assert (p[0] == 0).all()
    orders = Grid(batch_seed=np.arange(60), **grid.axes)
    seen = trainability_map(orders, trainer)["status"].values == Status.DIVERGED
    error = np.sqrt(p * (1 - p) * (1 / 400 + 1 / 60))
    assert ((p > 0.05) & (p < 0.95)).any()
    assert (np.abs(seen.mean(axis=0) - p) <= 4 * error + 1e-12).all()


def test_curvatures_of_prompts_in_many_dimensions_are_those_along_the_direction_that_learns():
    """Scaled copies of one prompt, each with the label that the same weights give: gains scale alike."""
    one, gains = random_prompt(12, 4, seed=13), np.array([0.5, 1.0, 2.0])
    prompts = [Prompt(x=one.x, y=one.y, x_query=g * one.x_query, y_query=g * one.y_query) for g in gains]
    found = relative_curvatures(LinearTransformer(prompts))
    np.testing.assert_allclose(found, gains**2 / np.mean(gains**2), rtol=1e-12)
    with pytest.raises(ValueError, match="no one pair of weights fits all"):
        relative_curvatures(
            LinearTransformer([*prompts, Prompt(x=one.x, y=one.y, x_query=one.x_query, y_query=0.0)])
        )


def test_orders_of_batches_as_an_axis_are_those_of_trainers_with_these_seeds():
    grid = Grid(lr=[0.9, 1.1], imbalance=[0.0, 0.3])
    both = trainability_map(Grid(batch_seed=[0, 3], **grid.axes), minibatch_trainer(50))
    for seed in (0, 3):
        one = trainability_map(grid, minibatch_trainer(50, batch_seed=seed))
        np.testing.assert_array_equal(both["final_loss"].sel(batch_seed=seed), one["final_loss"])


@pytest.fixture(scope="module")
def tangent():
    return LinearTransformerTangent(
        random_prompt(12, 4, seed=13), seed=1, init_scale=0.5, n_steps=456, transient=200
    )


def test_exponents_of_training_are_those_of_the_map(tangent):
    """Regular runs to rounding, grown over 256 steps; chaotic ones within four standard errors; lost ones NaN."""
    grid = Grid(lr=[0.05, 0.15, 0.22, 0.25, 0.36, 0.6], imbalance=[-0.5, 0.2])
    runs, predicted = trainability_map(grid, tangent), predict_run_exponents(grid, tangent)
    for i in (1, 2):
        found, expected = runs[f"exponent_{i}"].values, predicted[f"predicted_{i}"].values
        np.testing.assert_allclose(found[:4], expected[:4], atol=1e-9)
        error = np.hypot(runs[f"stderr_{i}"], predicted[f"predicted_stderr_{i}"]).values
        assert (np.abs(found[4] - expected[4]) < 4 * error[4]).all()
        assert np.isnan(found[5]).all()
        assert np.isnan(expected[5]).all()
    assert (runs["exponent_1"].values[4] > 0.2).all()


def test_tangent_trainer_trains_like_its_parent(tangent):
    pixels = {"lr": np.array([0.1, 0.24, 0.6])}
    plain = LinearTransformer(random_prompt(12, 4, seed=13), seed=1, init_scale=0.5, n_steps=456)
    assert tangent(pixels)["diverged_step"].tolist() == plain(pixels)["diverged_step"].tolist()
    np.testing.assert_array_equal(tangent.status(tangent(pixels)), plain.status(plain(pixels)))


def test_tangent_trainer_names_what_it_cannot_do():
    prompt = random_prompt(12, 4, seed=13)
    with pytest.raises(ValueError, match="leave 128 of n_steps=200"):
        LinearTransformerTangent(prompt, n_steps=200, transient=100)
    with pytest.raises(ValueError, match="mode='all' moves weights out of the plane"):
        LinearTransformerTangent(prompt, mode="all", n_steps=1000)


@pytest.mark.slow
def test_quick_study_supports_its_claims_and_draws(tmp_path):
    study = tr.product_map_study(size="quick", stores=tmp_path)
    verdicts = {claim.name: claim.verdict for claim in study.claims}
    assert len(verdicts) == 13
    assert not set(verdicts) & set(claim_tests())  # one name, one claim, in the table of all
    assert Verdict.CONTRADICTED not in verdicts.values()
    assert verdicts["ellipse-boundary"] == Verdict.SUPPORTED
    for picture in product_map_pictures(study):
        picture.figure.savefig(tmp_path / f"{picture.name}.png")


@pytest.mark.slow
def test_maps_of_256_pixels_a_side_agree_on_99_percent_and_within_a_pixel():
    found = planes(sweep, pixels=256, n_steps=2000)
    for name in ("imbalance", "scale", "pair", "mini-batch"):
        assert found[name].diverged.agreement >= 0.99
        assert found[name].converged.agreement >= 0.99
        assert found[name].diverged.boundary.max <= 1.0
