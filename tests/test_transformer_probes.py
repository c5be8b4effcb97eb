"""Norms, curvature and exponents along training runs, against dense Hessians, finite differences and twins."""

import numpy as np
import pytest
import torch

from trainability._threads import one_thread
from trainability.trainers import Transformer, synthetic_text, text_task
from trainability.trainers._curvature import hessian_product, largest_eigenvalues
from trainability.trainers._transformer_torch import Ensemble

TASK = text_task("abcabacb" * 20, window=4, stride=16)


def small(**options):
    preset = {
        "d_model": 4,
        "n_layers": 1,
        "batch_size": 4,
        "dtype": "float64",
        "task": TASK,
        "activation": "tanh",
    }
    return Transformer(**{**preset, "n_steps": 12, **options})


def ensemble_of(trainer, pixels):
    full = trainer._complete(pixels)
    return Ensemble(trainer._run(), full, trainer._orders(full))


def state_after(trainer, pixels, steps):
    ensemble = ensemble_of(trainer, pixels)
    with torch.no_grad():
        for taken, _ in ensemble.states(until=steps):
            if taken == steps:
                return ensemble
    raise AssertionError("the run ended before")


def dense_hessian(ensemble, member, starts):
    batch = ensemble.windows(np.tile(starts, (len(ensemble.orders), 1)))

    def loss(row):
        W = ensemble.W.clone()
        W[member] = row
        return ensemble.loss(W, *batch)[member]

    with one_thread():
        return torch.autograd.functional.hessian(loss, ensemble.W[member].clone()).numpy()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("norm", ["pre", "none"])
def test_sharpness_is_the_largest_eigenvalue_of_the_dense_hessian(norm, preconditioned, weighted):
    trainer = small(norm=norm, grouping="attention")
    pixels = {"lr": np.array([0.003, 0.03]), "seed": np.array([0, 1])}
    rates = {"lr_attn": np.array([0.1, 2.0]), "lr_rest": np.array([0.5, 0.3])} if weighted else None
    found = trainer.sharpness(pixels, steps=[9], preconditioned=preconditioned, rates=rates, n_windows=10**6)
    for at, step in enumerate((9,)):
        ensemble = state_after(trainer, pixels, step)
        for member in range(2):
            H = dense_hessian(ensemble, member, TASK.starts)
            if preconditioned:
                scale = ensemble.optimizer.scale(step, ensemble.memory[1])[member].numpy()
                H = H / np.sqrt(np.outer(scale, scale))
            if weighted:
                D = np.empty(len(H))
                for p in trainer.architecture.parameters:
                    group = "attn" if p.kind in ("norm1", "qkv", "attn_out") else "rest"
                    D[p.start : p.stop] = rates[f"lr_{group}"][member]
                H = H * np.sqrt(np.outer(D, D))
            exact = np.linalg.eigvalsh(H)
            assert abs(exact - found.value[member, at]).min() <= found.error[member, at] + 1e-9 * exact[-1]
            # The residual bounds the distance to some eigenvalue; Lanczos stops at 1e-3 of the largest.
            assert found.value[member, at] == pytest.approx(exact[-1], rel=1e-3)
            assert found.error[member, at] <= 1e-3 * exact[-1]


def test_lanczos_on_known_matrices():
    numbers = np.random.default_rng(0)
    Q = np.linalg.qr(numbers.standard_normal((3, 40, 40)))[0]
    values = np.stack([np.linspace(-5, 1, 40), np.r_[np.zeros(39), 2.0], np.geomspace(1e-6, 1e3, 40)])
    A = torch.from_numpy(np.einsum("mij,mj,mkj->mik", Q, values, Q))
    start = torch.from_numpy(numbers.standard_normal((3, 40)))
    for iterations, tolerance in ((40, 1e-12), (40, 1e-3), (6, 0.0)):
        found, error = largest_eigenvalues(
            lambda v: torch.einsum("mij,mj->mi", A, v), start, iterations=iterations, tolerance=tolerance
        )
        gap = abs(values - found.numpy()[:, None]).min(axis=1)
        assert (gap <= error.numpy() + 1e-10).all()
        if iterations == 40:
            np.testing.assert_allclose(found, values[:, -1], rtol=max(tolerance, 1e-10))


def test_hessian_products_are_differences_of_gradients():
    trainer = small()
    ensemble = ensemble_of(trainer, {"seed": np.arange(3)})
    batch = ensemble.batch(0)
    v = torch.from_numpy(np.random.default_rng(1).standard_normal(tuple(ensemble.W.shape)))
    step = 1e-5  # error of the difference: its square times the third derivative, and 1e-16 over it
    ahead, behind = (ensemble.loss_and_gradient(*batch, W=ensemble.W + s * v)[1] for s in (step, -step))
    found = hessian_product(lambda W: ensemble.loss(W, *batch), ensemble.W, v)
    np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


def test_norms():
    trainer = small(optimizer="sgd")
    pixels = {"lr": np.array([0.1, 0.2])}
    found = trainer.norms(pixels, steps=[0, 12])
    weights = trainer.initial_weights(pixels)
    np.testing.assert_allclose(found["parameter_norm"][:, 0], np.linalg.norm(weights, axis=1), rtol=1e-14)
    moved = state_after(trainer, pixels, 1).W.numpy() - weights
    np.testing.assert_allclose(
        np.linalg.norm(moved, axis=1) / pixels["lr"], found["gradient_norm"][:, 0], rtol=1e-12
    )
    np.testing.assert_allclose(found["parameter_norm"][:, 1], state_after(trainer, pixels, 12).W.norm(dim=1))


@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "adam"},
        {"optimizer": "adamw", "weight_decay": 0.1, "warmup": 5.0},
        {"optimizer": "momentum", "lr": 0.03, "clip": 0.5},
        {"optimizer": "sgd", "lr": 0.3, "weight_decay": 0.01, "norm": "post"},
    ],
)
def test_growth_is_that_of_a_twin_started_beside(options):
    trainer = small(**options)
    pixels = {"lr": np.array([trainer.lr, 3 * trainer.lr])}
    grown = trainer.tangent_growth(pixels)
    size = 1e-7  # small against the curvature of the flow over twelve steps, large against 1e-16
    base, twin = ensemble_of(trainer, pixels), ensemble_of(trainer, pixels)
    from trainability._rng import stream

    change = stream(0, "change").standard_normal(base.W.shape[1])
    twin.W = twin.W + size * torch.from_numpy(change / np.linalg.norm(change))
    with torch.no_grad():
        for (taken, _), _ in zip(base.states(until=12), twin.states(until=12), strict=True):
            if taken:
                apart = (twin.W - base.W).norm(dim=1) / size
                np.testing.assert_allclose(grown[:, taken - 1], apart.log(), atol=1e-4)
    np.testing.assert_allclose(trainer.lyapunov_exponents(pixels), grown[:, -1] / 12)


def test_exponents_of_a_lost_run_end_where_it_does():
    trainer = small(optimizer="sgd", norm="none")
    grown = trainer.tangent_growth({"lr": np.array([0.01, 1e5])})
    assert np.isfinite(grown[0]).all()
    assert np.isnan(grown[1, -1])
    assert np.isfinite(trainer.lyapunov_exponents({"lr": np.array([0.01, 1e5])})[0])


def test_probes_take_the_precision_of_the_run_and_leave_it_alone():
    trainer = Transformer.tiny(text_task(synthetic_text(4000), window=8), n_steps=6)
    pixels = {"lr": np.array([0.01])}
    before = trainer.trace(pixels)
    single = trainer.sharpness(pixels, steps=[6], n_windows=8)
    assert 0 < single.error[0, 0] < 0.01 * single.value[0, 0]
    np.testing.assert_array_equal(trainer.trace(pixels), before)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda t: t.sharpness({"lr": [0.1]}, steps=[13]), "whole numbers from 0 to n_steps=12"),
        (lambda t: t.norms({"lr": [0.1]}, steps=[0.5]), "whole numbers from 0"),
        (lambda t: t.sharpness({"lr": [0.1]}, steps=[0], preconditioned=True), "steps of at least 1"),
        (
            lambda t: t.sharpness({"lr": [0.1]}, steps=[1], rates={"lr_attn": [1.0]}),
            "rates has lr_attn; it needs",
        ),
        (
            lambda t: t.sharpness(
                {"lr": [0.1, 0.2]}, steps=[1], rates={f"lr_{group}": [1.0] for group in t.groups}
            ),
            "rates are of 1 runs and pixels of 2",
        ),
        (lambda t: t.norms({"batch_size": [2, 3]}, steps=[0]), "one batch size at a time"),
    ],
)
def test_bad_requests_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call(small())
