"""The study of Adam at a small size: its maps, its runs followed, its claims and its figures."""

import numpy as np
import pytest

from trainability import Status, adam_threshold, study_adam
from trainability._study_tables import with_interval
from trainability.claims import Verdict
from trainability.plot_studies import adam_pictures
from trainability.trainers import Transformer


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    plans = study_adam.PLANS
    tiny = study_adam.Plan(pixels=6, n_steps=20, every=3, followed=2, times=2, ratios=11, windows=4)
    study_adam.PLANS = {**plans, "quick": tiny}
    stores = tmp_path_factory.mktemp("stores")
    yield study_adam.adam_study(size="quick", stores=stores)
    study_adam.PLANS = plans


def test_prediction_is_where_the_sharpness_of_each_state_says(study):
    """Each state once more at two pixels, by the trainer itself."""
    runs, trainer = study.runs["map"], Transformer.tiny(n_steps=20)
    at = {"lr_attn": runs["lr_attn"].values[[1, 5]], "lr_rest": runs["lr_rest"].values[[2, 0]]}
    for state, rate, step in (
        ("first batch", 0.0, 1),
        ("initialization", 0.0, 20),
        ("small rates", 0.003, 20),
    ):
        still = {name: np.full(2, rate) for name in at}
        alone = trainer.sharpness(still, steps=[step], preconditioned=True, rates=at, n_windows=4)
        found = runs[study_adam.STATES[state]].values[[1, 5], [2, 0]]
        np.testing.assert_allclose(found, alone.value[:, 0], rtol=2e-3)  # twice that of Lanczos


def test_outcomes_are_those_of_the_rule(study):
    runs = study.runs["map"]
    converged = runs["status"].values == Status.CONVERGED
    np.testing.assert_array_equal(converged, runs["tail_ratio"] < 0.5)
    table = study.tables["Outcome by sharpness at initialization"]
    assert table["runs"].sum() == converged.size
    assert (runs["largest_ratio"] >= 1).all()


def test_exponents_are_of_runs_of_the_map(study):
    chaos, runs = study.runs["chaos"], study.runs["map"]
    assert chaos["exponent"].shape == (2, 2)
    np.testing.assert_array_equal(chaos["tail_ratio"], runs["tail_ratio"][::3, ::3])
    pixel = {name: [float(chaos[name][0])] for name in ("lr_attn", "lr_rest")}
    alone = Transformer.tiny(n_steps=20).lyapunov_exponents(pixel)
    np.testing.assert_allclose(chaos["exponent"][0, 0], alone[0], rtol=1e-9)


def test_runs_followed_are_pixels_near_the_threshold(study):
    followed, runs = study.runs["training"], study.runs["map"]
    start = runs["sharpness"] / adam_threshold()
    for pixel in range(followed.sizes["run"]):
        at = {name: float(followed[name][pixel]) for name in ("lr_attn", "lr_rest")}
        assert 0.1 < start.sel(at) < 10
        assert followed["status"][pixel] == runs["status"].sel(at)
    assert followed["step"].values.tolist() == [1, 20]
    assert (followed["ratio"] > 0).all()


def test_claims_and_figures(study, tmp_path):
    verdicts = {claim.name: claim.verdict for claim in study.claims}
    assert len(verdicts) == 5
    assert all(isinstance(verdict, Verdict) for verdict in verdicts.values())
    for picture in adam_pictures(study):
        picture.figure.savefig(tmp_path / f"{picture.name}.png")


def test_what_no_pixel_shows_is_said_in_words(tmp_path):
    """A plane on which nothing converges has no chaotic runs that converge, and no ROC curve."""
    plans = study_adam.PLANS
    least = study_adam.Plan(pixels=3, n_steps=2, every=3, followed=1, times=2, ratios=5, windows=2)
    study_adam.PLANS = {**plans, "quick": least}
    try:
        study = study_adam.adam_study(size="quick")
    finally:
        study_adam.PLANS = plans
    tables = "\n".join(table.to_string() for table in study.tables.values())
    claims = "\n".join(claim.measured for claim in study.claims)
    for text in (study.answer, study.notes, tables, claims):
        assert "nan" not in text.lower()
    assert "No run whose Lyapunov exponent was taken converges." in study.answer
    assert study_adam.ALIKE in tables
    assert with_interval((np.nan, (0.0, 1.0))) == "no such pixel"
