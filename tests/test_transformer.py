"""Transformers in ensembles against one plain loop, and against themselves under every cut into tiles."""

import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from trainability import Grid, Initialization, log_axis, trainability_map
from trainability.trainers import (
    Transformer,
    copy_task,
    modular_task,
    regression_task,
    synthetic_text,
    text_task,
)

sys.path.insert(0, str(Path(__file__).parent))
import plain_transformer

SMALL = text_task(synthetic_text(4000), window=8)
# Learning rates that move the loss by a few percent in 50 steps without chaos, by optimizer.
RATES = {"sgd": 0.3, "momentum": 0.03, "adam": 3e-3, "adamw": 3e-3}


def small(**options):
    preset = {"d_model": 8, "batch_size": 4, "n_steps": 50, "dtype": "float64", "task": SMALL, "members": 4}
    return Transformer(**{**preset, **options})


def one(pixel):
    return {name: np.array([value], dtype=float) for name, value in pixel.items()}


def compare(trainer, pixel):
    """Rounding grows along a run; 1e-10 is what 50 steps at the rates of this file leave of 1e-16."""
    expected, test = plain_transformer.train(trainer, pixel)
    pixels = one(pixel) or {"lr": np.array([trainer.lr])}
    np.testing.assert_allclose(trainer.trace(pixels)[0], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(trainer(pixels)["test_loss"][0], test, rtol=0, atol=1e-9)
    assert min(expected) < 0.99 * expected[0]


@pytest.mark.parametrize("norm", ["pre", "post", "none"])
@pytest.mark.parametrize("optimizer", RATES)
def test_losses_are_those_of_a_plain_loop(optimizer, norm):
    trainer = small(optimizer=optimizer, norm=norm)
    compare(trainer, {"lr": RATES[optimizer], "weight_decay": 0.01, "warmup": 7.0, "clip": 1.5})


@pytest.mark.parametrize(
    ("options", "pixel"),
    [
        ({"grouping": "attention"}, {"lr_attn": 0.01, "lr_rest": 0.002}),
        ({}, {"lr": 1e-3, "lr_mlp": 0.01, "lr_embed": 0.0, "lr_head": 4e-3, "beta1": 0.8, "beta2": 0.99}),
        ({"activation": "gelu", "residual": "sqrt"}, {"alpha_attn": 0.3, "alpha_mlp": 0.6, "sigma_mlp": 2.0}),
        ({"activation": "tanh", "residual": "normed"}, {"alpha_attn": 0.3, "alpha_mlp": 0.6, "sigma_attn": 4.0}),
        ({"activation": "identity", "n_layers": 3, "d_mlp": 12}, {"sigma_bias": 0.5, "init_scale": 0.7}),
        ({"task": copy_task(length=3, n_symbols=5)}, {"rounding_seed": 3, "order_seed": 2, "seed": 5}),
        ({"task": modular_task(modulus=7), "causal": False}, {"batch_size": 6}),
        ({"task": regression_task(n_examples=4, dim=2), "causal": False, "norm": "post"}, {"lr": 0.01}),
    ],
)  # fmt: skip
def test_other_forms_are_those_of_a_plain_loop(options, pixel):
    compare(small(**options), pixel)


PIXELS = {
    "lr_attn": np.geomspace(1e-3, 3e3, 11),
    "lr_rest": np.geomspace(1e-2, 1e-1, 11),
    "order_seed": np.arange(11.0) % 3,
    "seed": np.arange(11.0) % 2,
    "alpha_mlp": np.linspace(0.1, 1.0, 11),
    "weight_decay": np.linspace(0, 1e-3, 11),
}


@pytest.mark.parametrize(
    ("dtype", "optimizer", "norm"), [("float32", "adam", "pre"), ("float64", "momentum", "none")]
)
def test_an_ensemble_is_its_members_bit_for_bit(dtype, optimizer, norm):
    """Other neighbours, other places, other numbers of members: a pixel does not change by one bit."""
    trainer = small(
        grouping="attention",
        dtype=dtype,
        n_steps=40,
        batch_size=5,
        optimizer=optimizer,
        norm=norm,
    )
    whole = trainer.trace(PIXELS)
    assert len(np.unique(whole[:, -1])) > 3
    assert np.isinf(whole).any() == (optimizer == "momentum")
    for i in range(11):
        alone = trainer.trace({name: values[i : i + 1] for name, values in PIXELS.items()})
        np.testing.assert_array_equal(alone[0], whole[i])
    order = np.random.default_rng(0).permutation(11)
    shuffled = trainer.trace({name: values[order] for name, values in PIXELS.items()})
    np.testing.assert_array_equal(shuffled, whole[order])
    for members in (1, 3, 16, None):
        np.testing.assert_array_equal(replace(trainer, members=members).trace(PIXELS), whole)


def test_maps_do_not_depend_on_tiles(tmp_path):
    trainer = Transformer.tiny(SMALL, n_steps=15)
    grid = Grid(lr_attn=log_axis(0.01, 1, 5), lr_rest=log_axis(0.01, 100, 4))
    whole = trainability_map(grid, trainer)
    assert len(np.unique(whole["final_loss"])) == 20
    stored = trainability_map(grid, trainer, tile=(2, 3), store=tmp_path / "map.zarr")
    for name in whole:
        np.testing.assert_array_equal(whole[name], stored[name])


def test_rounding_twins_part_slowly_and_orders_at_once():
    trainer = small(dtype="float32", lr=0.01, n_steps=20)
    base, twin, other = trainer.trace({"rounding_seed": [-1, 0, -1], "order_seed": [0, 0, 1]})
    assert (base != twin).any()
    np.testing.assert_allclose(base, twin, rtol=1e-4)  # twenty steps let float32's 1e-7 grow less than that
    assert abs(base - other).max() > 1e-2


def test_a_lost_member_is_frozen_and_harms_nobody():
    trainer = small(n_steps=30, optimizer="sgd", norm="none")
    runs = trainer({"lr": np.array([0.1, 1e6, 0.1])})
    assert runs["diverged_step"][1] > 0
    assert np.isinf(runs["final_loss"][1])
    assert np.isinf(runs["test_loss"][1])
    assert np.isfinite(runs["min_loss"][1])
    np.testing.assert_array_equal(trainer.status(runs)[1], 2)
    for values in runs.values():
        assert values[0] == values[2]
    assert np.isfinite([runs[name][0] for name in ("final_loss", "tail_ratio", "test_loss")]).all()


def test_observables_are_those_of_the_losses():
    trainer = small(n_steps=40, n_records=9, dtype="float32")
    pixels = {"lr": np.array([1e-3, 3e-2])}
    losses, runs = trainer.trace(pixels), trainer(pixels)
    np.testing.assert_array_equal(runs["first_loss"], losses[:, 0])
    np.testing.assert_array_equal(runs["min_loss"], losses.min(1))
    np.testing.assert_allclose(runs["tail_ratio"], losses[:, -2:].mean(1) / losses[:, 0], rtol=1e-12)
    np.testing.assert_array_equal(trainer.record_steps, [0, 5, 10, 15, 20, 24, 29, 34, 39])
    expected = (losses / losses[:, :1])[:, trainer.record_steps].astype(np.float32)
    np.testing.assert_array_equal(runs["trace"], expected)


def test_presets():
    paper = Transformer.torkamandi()
    assert paper.n_parameters == 129 * paper.task.n_inputs + 66_560
    assert paper.groups == ("attn", "rest")
    known = {p.name: p.kind for p in paper.architecture.parameters}
    attention = {name for name, kind in known.items() if kind in ("norm1", "qkv", "attn_out")}
    assert {name.rpartition("blocks.")[2][2:].split(".")[0] for name in attention} == {
        "norm1", "query", "key", "value", "attn_out",
    }  # fmt: skip
    assert Transformer.tiny().n_parameters == 5837


def test_order_is_without_repetition_and_recorded():
    trainer = small(batch_size=100, n_steps=71)
    order = trainer.batches(order_seed=0, batch_size=100)
    starts = trainer.task.starts
    epoch = order.ravel()[: len(starts)]
    np.testing.assert_array_equal(np.sort(epoch), starts)
    assert order.size > len(starts)
    hashes = {replace(trainer, order_seed=s).settings()["order_sha256"] for s in (0, 0, 1)}
    assert len(hashes) == 2
    twin = trainer.batches(order_seed=0, batch_size=100, rounding_seed=4)
    np.testing.assert_array_equal(np.sort(twin), np.sort(order))
    assert (twin != order).any()


def test_pickles():
    trainer = small(n_steps=5)
    copy = pickle.loads(pickle.dumps(trainer))
    assert copy.settings() == trainer.settings()
    np.testing.assert_array_equal(copy.trace({"lr": [0.01]}), trainer.trace({"lr": [0.01]}))


def test_autocast_takes_products_in_bfloat16():
    trainer = small(dtype="float32", n_steps=10)
    exact, rough = (replace(trainer, autocast=a).trace({"lr": [0.01]}) for a in (False, True))
    assert 1e-5 < abs(exact - rough).max() < 0.1


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"d_model": 10, "n_heads": 4}, "d_model=10 is not a multiple of n_heads=4"),
        ({"lr_rest": 0.1}, "grouping='kind' has no group 'rest'; it has attn, mlp, embed, norm, head"),
        ({"optimizer": "lion"}, "optimizer='lion' is unknown; use sgd, momentum, adam, adamw"),
        ({"device": "cuda:7"}, "device='cuda:7' is not there"),
        ({"device": "nowhere"}, "device='nowhere' is not there"),
        ({"lr": np.nan}, "lr must be finite"),
        ({"beta1": 1.0}, "beta1=1 must lie in"),
        ({"batch_size": 10**7}, r"batch_size=1e\+07 must lie in"),
        ({"batch_size": 2.5}, "batch_size=2.5 must be a whole number"),
        ({"causal": False}, "causal=False can see"),
        ({"autocast": True}, "autocast=True needs dtype='float32'"),
        ({"residual": "sqrt", "alpha_mlp": 1.2}, "alpha_mlp=1.2 must lie in"),
        ({"n_steps": 0}, "n_steps=0 must be a whole number"),
        ({"task": "text"}, "is not a Task"),
    ],
)
def test_bad_settings_are_named(options, match):
    with pytest.raises(ValueError, match=match):
        small(**options)


def test_bad_pixels_are_named_before_training():
    trainer = small(grouping="attention")
    with pytest.raises(ValueError, match=r"'lr_mlp' is not a hyperparameter .* lr_attn, lr_rest"):
        trainer({"lr_mlp": np.ones(2)})
    with pytest.raises(ValueError, match=r"pixels=\{\} has no hyperparameter"):
        trainer({})
    with pytest.raises(ValueError, match="lr_attn must be finite; found inf"):
        trainer({"lr_attn": np.array([0.1, np.inf])})
    with pytest.raises(ValueError, match=r"members=100000000: the ensemble needs about .* GiB"):
        replace(trainer, members=10**8)({"lr": np.ones(1)})


def test_geometry_takes_an_initialization():
    init = Initialization(n_tokens=8, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=2.0)
    trainer = Transformer.geometry(init, d_model=8, n_layers=2, n_steps=3)
    grid = Grid(alpha_mlp=np.array([0.2, 0.8]), sigma_mlp=np.array([1.0, 2.0, 4.0]))
    runs = trainability_map(grid, trainer)
    assert runs["final_loss"].shape == (2, 3)
    assert len(np.unique(runs["final_loss"])) == 6
    with pytest.raises(ValueError, match="n_tokens=8, but the task's window is 16"):
        Transformer.geometry(init, text_task(window=16, predict="last"))


def test_threads_are_left_as_found():
    before = torch.get_num_threads()
    small(n_steps=2)({"lr": np.array([0.01])})
    assert torch.get_num_threads() == before
