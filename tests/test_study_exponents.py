"""The study of two exponents: its design, its networks, and what it says of made-up losses."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

import trainability.study_exponents as module
from trainability import (
    Grid,
    Initialization,
    initialization_runs,
    measure_exponents,
    predict_exponents,
    trainability_map,
)
from trainability.initialization_sample import RANGES, InitializationSample
from trainability.plot_studies import DRAWINGS
from trainability.studies import STUDIES
from trainability.trainers import Transformer
from trainability.trainers._transformer_module import initial_blocks


def test_a_sample_trains_the_network_of_its_number():
    trainer = Transformer.tiny(n_steps=3)
    sample = InitializationSample(trainer=trainer, size=8)
    found = trainability_map(Grid(initialization=np.arange(8.0)), sample, tile=(3,))
    alone = trainer({name: values[5:6] for name, values in sample.values.items()})
    assert found["test_loss"].values[5] == alone["test_loss"][0]
    assert len(np.unique(found["test_loss"])) == 8


def test_the_design_covers_its_ranges_and_longer_ones_begin_alike():
    short, long = (InitializationSample(trainer=Transformer.tiny(), size=n) for n in (64, 256))
    for name, (low, high) in RANGES.items():
        values = long.values[name]
        np.testing.assert_array_equal(values[:64], short.values[name])
        share = (
            np.log(values / low) / np.log(high / low) if "sigma" in name else (values - low) / (high - low)
        )
        # 256 points of a Sobol' sequence have one in each 256th of each axis.
        assert sorted(np.floor(256 * share).astype(int)) == list(range(256))


def test_a_number_that_is_no_point_is_refused():
    sample = InitializationSample(trainer=Transformer.tiny(n_steps=1), size=4)
    with pytest.raises(ValueError, match="0 to 3"):
        sample({"initialization": np.array([4.0])})


def test_blocks_as_modules_pass_on_what_the_trainer_does():
    """The measured network is the trained one: its loss, by hand from its blocks, is the trainer's first."""
    init = Initialization(
        n_tokens=8, alpha_attn=0.4, alpha_mlp=0.7, sigma_attn=2.0, sigma_mlp=2.0, causal=True
    )
    trainer = Transformer.geometry(init, d_model=16, n_layers=3, n_steps=1, dtype="float64", lr=0.0)
    blocks, stream = initial_blocks(trainer, {"sigma_mlp": 3.0}, n_windows=256)
    model = trainer.architecture
    W = model.views(torch.from_numpy(trainer.initial_weights({"sigma_mlp": [3.0]})))
    with torch.no_grad():
        last = torch.nn.functional.layer_norm(blocks(stream), (16,), eps=1e-6)
        logits = last @ W["head"][0] + W["head_bias"][0]
    _, targets = trainer.task.windows(trainer.task.test_starts)
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.from_numpy(targets).flatten())
    assert float(loss) == pytest.approx(trainer({"sigma_mlp": np.array([3.0])})["test_loss"][0], rel=1e-12)


def test_measured_exponents_of_a_wide_network_are_the_predicted_ones():
    init = Initialization(
        n_tokens=8, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=4.0, causal=True
    )
    blocks, stream = initial_blocks(
        Transformer.geometry(init, d_model=128, n_layers=12), {"seed": 0}, n_windows=2
    )
    measured = measure_exponents(blocks, stream, blocks=list(blocks))
    predicted = predict_exponents(init, depth=12, q=1.0)
    # 2/d a block for the finite width, and a spread of about 1/√(d x depth) between draws of the weights.
    allowed = 2 / 128 + 4 / np.sqrt(128 * 12)
    assert measured.angle == pytest.approx(predicted.angle, abs=allowed)
    assert measured.gradient == pytest.approx(predicted.gradient, abs=allowed)


def test_the_ceiling_is_the_share_of_the_variance_that_weights_do_not_make():
    """A signal of variance 1 and luck of variance 0.25: R² of 0.8 at best, within the interval of 4000 pairs."""
    numbers = np.random.default_rng(0)
    signal = numbers.standard_normal(4000)
    value, (low, high) = module._ceiling(*(signal + 0.5 * numbers.standard_normal((2, 4000))))
    assert low < 0.8 < high
    assert low < value < high < low + 0.05


@pytest.mark.parametrize(
    ("place", "verdicts"), [((0, 0), ["supported"] * 2), ((1.5, 1.7), ["contradicted"] * 2)]
)
def test_claims_follow_made_up_losses(place, verdicts):
    """Losses that are a bowl in the study's coordinates: predicted, and least where they were put."""
    plan = replace(initialization_runs.PLANS["standard"], points=128)
    sample = initialization_runs.sample_of(plan, 12)
    empty = module.xr.Dataset(coords={"initialization": np.arange(float(plan.points))})
    joined = initialization_runs.join_runs(plan, 12, empty)
    x = module.loss_coordinates(joined, 12)
    loss = 1 + 0.05 * ((x - place) ** 2).sum(1)
    made = joined.assign(test_loss=("initialization", loss))
    twin = made.isel(initialization=slice(0, plan.replicates))
    maps = {"seed-1": twin, **{f"lr-{lr}": made for lr in module.OTHER_LRS}}
    found = module._find(plan, {"depth-4": made, "depth-12": made}, maps)
    assert sample.size == plan.points
    assert found.ceiling == 1
    claims = {claim.name: claim for claim in module._claims("standard", plan, found)}
    assert claims["exponents-predict-loss"].verdict == "supported"
    assert claims["both-exponents-are-needed"].verdict == "supported"
    assert [
        claims[f"loss-least-at-vanishing-{name}-exponent"].verdict for name in ("angle", "gradient")
    ] == verdicts


def test_quick_study_continues_from_its_stores_and_is_drawn(tmp_path, monkeypatch):
    tiny = initialization_runs.Plan(
        points=32, depths=(2, 3), d_model=8, window=4, n_steps=20, replicates=20, measured=2
    )
    monkeypatch.setitem(initialization_runs.PLANS, "quick", tiny)
    study = STUDIES["exponents"](size="quick", stores=tmp_path)
    again = STUDIES["exponents"](size="quick", stores=tmp_path)
    assert again.answer == study.answer
    assert {claim.paper for claim in study.claims} == {"arXiv:2403.02579"}
    for picture in DRAWINGS["exponents"](study):
        assert picture.figure.axes
        plt.close(picture.figure)
