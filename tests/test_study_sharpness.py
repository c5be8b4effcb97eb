"""The study of sharpness at a small size: its map, its runs followed, its claims and its figures."""

import numpy as np
import pytest

from trainability import Status, study_sharpness
from trainability.claims import Verdict
from trainability.plot_studies import sharpness_pictures


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    sizes = study_sharpness._SIZES
    study_sharpness._SIZES = {**sizes, "quick": (24, 4, 3, 12)}
    stores = tmp_path_factory.mktemp("stores")
    yield study_sharpness.sharpness_study(size="quick", stores=stores)
    study_sharpness._SIZES = sizes


def test_prediction_is_the_sign_of_its_score_and_never_loses_a_stable_run(study):
    runs = study.runs["map"]
    predicted = runs["predicted_status"] == Status.DIVERGED
    np.testing.assert_array_equal(predicted, runs["sharpness"] > 2)
    np.testing.assert_array_equal(predicted, runs["boundary"] > 0)
    assert not (runs["status"] == Status.DIVERGED).where(runs["sharpness"] < 1, False).any()


def test_saturation_is_where_linear_stability_fails(study):
    """At the smallest output rate no input rate diverges, however large the sharpness; without saturation most do."""
    runs = study.runs["map"].isel(lr_out=0)
    assert float(runs["sharpness"].max()) > 1e3
    assert not (runs["status"] == Status.DIVERGED).any()
    for name in ("relu", "identity"):
        twin = study.runs[name].isel(lr_out=0)
        lost = (twin["status"] == Status.DIVERGED).where(twin["sharpness"] > 20, drop=True)
        assert lost.all()
    saturated = study.tables["Saturation of the units"].set_index(["runs that survive", "after steps"])
    shares = saturated["saturated units, median (quartiles)"].str.split("%").str[0].astype(int)
    assert shares["4, first layer unstable", 0] == shares["4, stable", 0] < 20
    assert shares["4, first layer unstable", 499] > 50 > shares["4, stable", 499]


def test_runs_followed_are_pixels_of_the_map(study):
    runs, followed = study.runs["map"], study.runs["training"]
    start = runs["sharpness"].sel(lr_in=followed["lr_in"], lr_out=followed["lr_out"])
    np.testing.assert_allclose(followed["sharpness"].isel(step=0), start, rtol=1e-9)
    assert followed["step"].values.tolist() == [0, 1, 499]


def test_claims_and_figures(study, tmp_path):
    verdicts = {claim.name: claim.verdict for claim in study.claims}
    assert len(verdicts) == 4
    assert verdicts["stable-below-two"] != Verdict.CONTRADICTED
    for picture in sharpness_pictures(study):
        picture.figure.savefig(tmp_path / f"{picture.name}.png")
