"""The torch linear transformer against a plain model, a hand gradient, and the exact reduction."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import trainability as tr
from trainability.trainers import LinearTransformer

PROMPT = tr.random_prompt(12, 4, seed=13)
TRAINER = LinearTransformer(PROMPT, seed=1, init_scale=2.0, n_steps=40)


class PlainAttention(nn.Module):
    """f(E) = E + W_PV E (Eᵀ W_KQ E) / n on the whole prompt matrix, one model at a time."""

    def __init__(self, U, v):
        super().__init__()
        d = len(U) + 1
        W_KQ, W_PV = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
        W_KQ[:-1, :-1], W_PV[-1, -1] = torch.tensor(U), float(v)
        self.W_KQ, self.W_PV = nn.Parameter(W_KQ), nn.Parameter(W_PV)

    def forward(self, E):
        return E + self.W_PV @ E @ (E.T @ self.W_KQ @ E) / (E.shape[1] - 1)


def plain_training(mode, U, v, lr, n_steps):
    """Losses before each step and after the last, by torch.optim.SGD."""
    model, d = PlainAttention(U, v), len(U) + 1
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    prompts = [PROMPT, PROMPT.flipped()] if mode == "pair" else [PROMPT]
    losses = []
    for _ in range(n_steps + 1):
        errors = [model(torch.tensor(p.matrix))[-1, -1] - p.y_query for p in prompts]
        loss = sum(e**2 / 2 for e in errors) / len(errors)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        if mode == "blocks":
            model.W_KQ.grad[-1, :] = model.W_KQ.grad[:, -1] = 0
            model.W_PV.grad[: d - 1, :] = model.W_PV.grad[:, : d - 1] = 0
        optimizer.step()
    return np.array(losses)


@pytest.mark.parametrize("mode", ["blocks", "pair", "all"])
def test_ensemble_is_the_plain_model_trained_alone(mode):
    """Losses along stable runs agree to rounding: 40 steps of 1e-16, amplified little where training converges."""
    trainer = replace(TRAINER, mode=mode)
    pixels = {"lr": np.array([0.02, 0.05, 0.08]), "imbalance": np.array([0.5, 0.2, 0.7])}
    found = trainer(pixels)
    U, v = trainer.initial_weights(pixels)
    for i in range(3):
        losses = plain_training(mode, U[i], v[i], pixels["lr"][i], trainer.n_steps)
        for name, expected in (
            ("first_loss", losses[0]),
            ("final_loss", losses[-1]),
            ("min_loss", losses.min()),
            ("max_loss", losses.max()),
        ):
            np.testing.assert_allclose(found[name][i], expected, rtol=1e-9, atol=1e-13, err_msg=name)
        assert found["rises"][i] == (np.diff(losses) > 1e-9 * losses[0]).sum()


@pytest.mark.parametrize("mode", ["blocks", "pair"])
def test_reducible_modes_follow_the_product_map_step_by_step(mode):
    """loss = (e / (lr γ))² / 2 at every length of run, on stable, 2-cycle and chaotic runs."""
    lr = np.array([0.15, 0.23, 0.3, 0.35])  # mu from 0.72 to 1.68
    n_steps = 20 if mode == "blocks" else 12
    trainer = replace(TRAINER, mode=mode, n_steps=n_steps, imbalance=0.6)
    found = trainer({"lr": lr})
    a, b = tr.reduced_start(PROMPT, lr, *trainer.initial_weights({"lr": lr}))
    for i, mu in enumerate(tr.effective_step(PROMPT, lr)):
        orbit = tr.orbit(tr.product_map(mu), [a[i], b[i]], n=n_steps)
        loss = ((orbit[:, 0] * orbit[:, 1] - mu) / (lr[i] * tr.gain(PROMPT))) ** 2 / 2
        # chaos multiplies rounding by up to 3 a step: 3^20 · 1e-16 = 4e-7
        np.testing.assert_allclose(found["final_loss"][i], loss[-1], rtol=1e-5)
        np.testing.assert_allclose(found["max_loss"][i], loss.max(), rtol=1e-5)


def test_training_all_weights_on_one_prompt_leaves_the_reduction():
    lr = np.array([0.1])
    runs = {
        m: replace(TRAINER, mode=m, imbalance=0.6, n_steps=10)({"lr": lr})["final_loss"][0]
        for m in ("blocks", "all")
    }
    assert abs(runs["all"] / runs["blocks"] - 1) > 0.1


def test_divergence_is_dated_and_frozen():
    found = replace(TRAINER, n_steps=300)({"lr": np.array([0.5, 5.0, 0.05])})
    assert (found["diverged_step"][:2] >= 0).all()
    assert found["diverged_step"][1] < found["diverged_step"][0]
    assert np.isinf(found["final_loss"][:2]).all()
    assert np.isfinite(found["min_loss"]).all()
    assert found["diverged_step"][2] == -1
    assert TRAINER.status(found).tolist() == [2, 2, 1]


def test_period_of_the_loss():
    """On the slice the loss of a balanced 2-cycle has period 2, of the next cycle 4 (theory/02)."""
    lr = np.array([0.9, 1.1, 1.25]) / tr.effective_step(PROMPT, 1.0)
    found = replace(TRAINER, init_scale=0.3, n_steps=6000)({"lr": lr})
    assert found["loss_period"].tolist() == [1, 2, 4]


def test_observables_do_not_depend_on_how_long_the_others_run():
    """A member that finishes first has the same bits alone and beside one that runs to the end."""
    trainer = replace(TRAINER, init_scale=0.5, n_steps=600)
    alone = trainer({"lr": np.array([0.1])})
    beside = trainer({"lr": np.array([0.1, 0.23])})
    assert alone["final_loss"][0] < 1e-28
    for name in trainer.observables:
        assert alone[name][0] == beside[name][0], name


def test_weights_follow_scale_imbalance_and_seed():
    pixels = {
        "init_scale": np.array([1.0, 1.0, 3.0]),
        "imbalance": np.array([0.5, -1.0, 0.5]),
        "seed": np.array([1, 1, 2]),
    }
    U, v = TRAINER.initial_weights(pixels)
    size = np.linalg.norm(U, axis=(1, 2)) ** 2
    np.testing.assert_allclose(size + v**2, 2 * pixels["init_scale"] ** 2)
    np.testing.assert_allclose(size - v**2, 2 * pixels["init_scale"] ** 2 * pixels["imbalance"], atol=1e-12)
    assert not np.allclose(U[0] / 1.0, U[2] / 3.0)


def test_zero_weights_stay_untrained_but_not_masked():
    """At imbalance 1 the value v starts at zero and must still learn."""
    found = replace(TRAINER, imbalance=1.0, n_steps=200)({"lr": np.array([0.02])})
    assert found["final_loss"][0] < 1e-6 * found["first_loss"][0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(TRAINER, mode="most"), "mode='most' is unknown; use blocks, pair, all"),
        (lambda: replace(TRAINER, n_steps=0), "n_steps=0"),
        (lambda: replace(TRAINER, lr=np.nan), "lr must be finite"),
        (lambda: replace(TRAINER, imbalance=1.5), r"imbalance=1.5 is outside \[-1, 1\]"),
        (lambda: replace(TRAINER, prompt=np.eye(3)), "is not a Prompt"),
        (lambda: TRAINER({"lr": np.array([np.inf])}), "lr must be finite"),
        (lambda: tr.Prompt(np.ones(3), np.ones(3), np.ones(1), 1.0), r"x has shape \(3,\)"),
        (
            lambda: tr.Prompt(np.ones((3, 2)), np.ones(2), np.ones(2), 1.0),
            r"prompt y has shape \(2,\); .* needs \(3,\)",
        ),
        (lambda: tr.Prompt(np.ones((3, 2)), np.ones(3), np.ones(2), np.nan), "y_query must be finite"),
        (lambda: tr.random_prompt(0, 2, seed=0), "n_examples=0"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({}, "pass at least one hyperparameter"),
        ({"learning_rate": np.ones(2)}, "'learning_rate' is not a hyperparameter; known are lr"),
        ({"lr": np.ones(2), "seed": np.zeros(3)}, r"shapes \{'lr': \(2,\), 'seed': \(3,\)\}"),
    ],
)
def test_pixels_that_are_no_runs_are_refused(pixels, message):
    with pytest.raises(ValueError, match=message):
        TRAINER(pixels)
