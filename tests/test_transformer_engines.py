"""The vector code of transformers against autograd, and its steps against those of `Optimizer`."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from trainability.trainers import (
    Transformer,
    _transformer_ensembles,
    copy_task,
    modular_task,
    regression_task,
    synthetic_text,
    text_task,
)
from trainability.trainers._optimizer_kernels import descend
from trainability.trainers._optimizers import OPTIMIZERS, Optimizer
from trainability.trainers._transformer_ensembles import VectorEnsemble
from trainability.trainers._transformer_torch import Ensemble

SYNTHETIC = synthetic_text(4000)


def ensemble(trainer, kind, pixels):
    full = trainer._complete(pixels)
    made = kind(trainer._run(), full, trainer._orders(full))
    # Gains, shifts and biases away from 1 and 0, where mistakes would hide.
    made.W = made.W + 0.1 * torch.randn(made.W.shape, generator=torch.Generator().manual_seed(0)).to(made.W)
    return made


FORMS = [
    {},
    {"norm": "post", "activation": "tanh"},
    {"norm": "none", "activation": "identity"},
    {"residual": "sqrt", "alpha_attn": 0.3, "alpha_mlp": 0.6},
    {"residual": "normed", "alpha_attn": 0.3, "alpha_mlp": 0.6},
    {"final_norm": False, "n_layers": 1, "positions": False},
    {"d_model": 12, "n_heads": 3, "d_mlp": 20, "task": text_task(SYNTHETIC, window=17)},
    {"d_model": 6, "n_heads": 6, "d_mlp": 5, "task": modular_task(modulus=5), "causal": False},
    {"d_model": 32, "batch_size": 3, "task": text_task(SYNTHETIC, window=37)},
    {"d_model": 40, "n_heads": 2, "batch_size": 7, "task": text_task(SYNTHETIC, window=19, predict="last")},
    {"task": text_task(SYNTHETIC, window=19, predict="last"), "causal": False},
    {"task": copy_task(length=9, n_symbols=70), "batch_size": 33},
]


# Of the largest gradient; sums of some thousand terms in two orders leave 1e-14, and 1e-5 in single precision.
@pytest.mark.parametrize(("dtype", "within"), [("float64", 1e-12), ("float32", 1e-5)])
@pytest.mark.parametrize("options", FORMS, ids=lambda options: ",".join(options) or "plain")
def test_losses_and_gradients_are_those_of_autograd(options, dtype, within):
    trainer = Transformer(**{"task": text_task(SYNTHETIC, window=16), "dtype": dtype, **options})
    pixels = {"seed": np.arange(3), "order_seed": np.arange(3)}
    with torch.no_grad():
        ours, plain = (ensemble(trainer, kind, pixels) for kind in (VectorEnsemble, Ensemble))
        loss, gradient = ours.loss_and_gradient(*ours.batch(0))
        expected, slope = plain.loss_and_gradient(*plain.batch(0))
        np.testing.assert_allclose(loss, expected, rtol=within)
        np.testing.assert_allclose(gradient, slope, rtol=0, atol=within * float(slope.abs().max()))
        np.testing.assert_array_equal(ours.losses(*ours.batch(0)), loss)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "warmup": 3.0, "clip": 0.5}])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_steps_in_place_are_those_of_the_optimizer(kind, options):
    numbers = np.random.default_rng(0)
    trainer = Transformer(optimizer=kind)
    values = trainer._complete(
        {"lr": np.array([0.1, 0.2, 0.3]), **{k: np.full(3, v) for k, v in options.items()}}
    )
    shape = (3, 50)
    rates = torch.from_numpy(numbers.uniform(0.01, 0.1, shape))
    optimizer = Optimizer(kind, values, rates)
    W = torch.from_numpy(numbers.standard_normal(shape))
    ours, memory, ours_memory = W.clone(), optimizer.memory(), optimizer.memory()
    running = torch.tensor([True, False, True])
    for t in range(1, 6):
        gradient = torch.from_numpy(numbers.standard_normal(shape))
        W, memory = optimizer.step(t, W, gradient, memory)
        before = ours[1].clone()
        descend(optimizer, t, ours, gradient.clone(), ours_memory, running)
        np.testing.assert_array_equal(ours[1], before)
        # Weights near 0 are what terms of order 1 leave, which are rounded to 1e-16.
        np.testing.assert_allclose(ours[running], W[running], rtol=1e-13, atol=1e-15)
    for mine, theirs in zip(ours_memory, memory, strict=True):
        np.testing.assert_allclose(mine[running], theirs[running], rtol=1e-12, atol=1e-15)


def test_engines_agree_and_are_recorded():
    """Runs part at the rate of training's own chaos; ten gentle steps leave 1e-12 of 1e-16."""
    trainer = Transformer.tiny(n_steps=10, dtype="float64")
    other = replace(trainer, engine="torch")
    pixels = {"lr": np.array([1e-3, 3e-3])}
    np.testing.assert_allclose(trainer.trace(pixels), other.trace(pixels), rtol=1e-12)
    np.testing.assert_allclose(trainer(pixels)["test_loss"], other(pixels)["test_loss"], rtol=1e-12)
    assert (trainer.settings()["engine"], other.settings()["engine"]) == ("vector", "torch")


@pytest.mark.parametrize("options", [{}, {"optimizer": "momentum", "weight_decay": 0.1, "clip": 0.5}])
def test_steps_taken_together_are_those_taken_one_by_one(options, monkeypatch):
    """Blocks of 3 steps, the last shorter, with a member that diverges on the way: not one bit differs."""
    trainer = Transformer(
        task=text_task(SYNTHETIC, window=8), batch_size=4, n_steps=10, norm="none", **options
    )
    monkeypatch.setattr(_transformer_ensembles, "_BLOCK", 3 * 4 * 8)
    pixels = {"lr": np.array([1e-3, 1e2, 3e-3]), "order_seed": np.array([0, 1, 1])}
    with torch.no_grad():
        one_by_one, together = (ensemble(trainer, VectorEnsemble, pixels) for _ in range(2))
        losses = torch.stack(list(one_by_one.steps()), dim=1)
        blocks = list(together.blocks())
    assert [start for start, _ in blocks] == [0, 3, 6, 9]
    np.testing.assert_array_equal(torch.cat([block for _, block in blocks], dim=1), losses)
    np.testing.assert_array_equal(together.W, one_by_one.W)
    assert np.isinf(losses.numpy()).any(1).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activation": "gelu"}, "engine='vector' has no activation='gelu'; use engine='torch'"),
        ({"autocast": True}, "engine='vector' has no autocast=True"),
        ({"task": regression_task(), "causal": False}, "has no task 'regression', whose tokens are vectors"),
        ({"engine": "numba"}, "engine='numba' is unknown; use auto, vector, torch"),
    ],
)
def test_what_the_vector_code_cannot_do_is_named(options, match):
    with pytest.raises(ValueError, match=match):
        Transformer(**{"engine": "vector", **options})
    if "engine" not in options:
        assert Transformer(**options).settings()["engine"] == "torch"


def test_exponentials_are_exact_to_a_few_units_and_end_in_zero():
    from numba import njit

    from trainability.trainers._transformer_vector import exponentials

    @njit
    def call(s, row, columns, largest, sums):
        exponentials(s, 0, row, columns, largest, sums)

    for dtype, least in (("float32", -75.0), ("float64", -690.0)):
        x = np.zeros((4, 64), dtype)
        x[:, 1:-2] = np.linspace(0, least, 61).astype(dtype) * np.array([[1.0], [0.1], [0.01], [1.0]], dtype)
        x[:, -2:] = 1.5 * least, -1e30
        s = np.concatenate([x.ravel(), np.zeros(32, dtype)])
        call(s, 64, 64 * s.itemsize // _vector_bytes(), 256, 260)
        found, eps = s[:256].reshape(4, 64), np.finfo(dtype).eps
        np.testing.assert_allclose(found[:, :-2], np.exp(x[:, :-2].astype(float)), rtol=4 * eps)
        np.testing.assert_array_equal(found[:, -2:], 0)
        np.testing.assert_allclose(s[260:264], found.astype(float).sum(1), rtol=4 * eps)


def _vector_bytes():
    from trainability.trainers._vector import VECTOR_BYTES

    return VECTOR_BYTES
