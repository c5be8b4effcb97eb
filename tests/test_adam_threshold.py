"""Adam's stability on a quadratic with a frozen scale, against the threshold of the preconditioned sharpness."""

import numpy as np
import pytest
import torch

from trainability import Grid, adam_sharpness, adam_threshold, log_axis
from trainability.trainers import Transformer
from trainability.trainers._optimizers import Optimizer


def _distance_after(share: float, *, beta1: float, n_steps: int = 4000) -> float:
    """Norm of the weights after Adam on a coupled quadratic of two parameter groups, begun at norm 1.

    `share` is the largest eigenvalue of D^(1/2) P^(-1/2) H P^(-1/2) D^(1/2), D the groups' learning rates and P
    Adam's scale, over the threshold. P is frozen: the mean of g² is given, and beta2 is almost 1.
    """
    hessian = torch.tensor([[3.0, 1.0, 0.5], [1.0, 2.0, -0.4], [0.5, -0.4, 1.0]], dtype=torch.float64)
    scale = torch.tensor([0.5, 2.0, 1.0], dtype=torch.float64)
    rates = torch.tensor([1.0, 0.3, 0.3], dtype=torch.float64)
    root = (rates / scale).sqrt()
    largest = torch.linalg.eigvalsh(root[:, None] * hessian * root)[-1]
    rates = rates * share * adam_threshold(beta1) / largest
    values = {"weight_decay": 0.0, "warmup": 0.0, "clip": 0.0, "beta1": beta1, "beta2": 1 - 1e-15, "eps": 0.0}
    late = 10**18  # the means are unbiased
    optimizer = Optimizer("adam", {name: np.array([v]) for name, v in values.items()}, rates[None])
    W = torch.full((1, 3), 3**-0.5, dtype=torch.float64)
    memory = (torch.zeros_like(W), scale[None] ** 2)
    for _ in range(n_steps):
        W, (mean, _) = optimizer.step(late, W, W @ hessian, memory)
        memory = (mean, scale[None] ** 2)
    return float(W.norm())


@pytest.mark.parametrize("beta1", [0.0, 0.5, 0.9])
def test_the_weighted_preconditioned_sharpness_has_the_threshold_of_heavy_ball(beta1):
    """By hand, along an eigenvector of value s the roots are those of z² - (1 + beta1 - (1 - beta1) s) z + beta1.

    The first to leave the unit circle does so at z = -1, where s = 2 (1 + beta1) / (1 - beta1) and dz/ds = -1: half a
    percent beside the threshold it is at least 0.01 off the circle, and 4000 steps decide by e^40.
    """
    assert _distance_after(0.995, beta1=beta1) < 0.5
    assert _distance_after(1.005, beta1=beta1) > 10


def test_sharpness_is_linear_in_the_rates_and_grows_with_each():
    trainer = Transformer.tiny(n_steps=3, members=4)
    grid = Grid(lr_attn=[0.01, 0.1, 1.0], lr_rest=[0.01, 0.1, 1.0])
    found = adam_sharpness(grid, trainer, n_windows=4).values
    np.testing.assert_allclose(found[1:, 1:], 10 * found[:-1, :-1], rtol=1e-9)
    assert (np.diff(found, axis=0) > -1e-3 * found[:-1]).all()  # Weyl; the tolerance is Lanczos'
    assert (np.diff(found, axis=1) > -1e-3 * found[:, :-1]).all()


def test_interpolation_between_ratios_is_off_by_a_quarter_of_their_spacing_at_most():
    trainer = Transformer.tiny(n_steps=6, members=8)
    grid = Grid(lr_attn=log_axis(0.01, 1, 6), lr_rest=log_axis(0.01, 1, 6))
    exact, between = (adam_sharpness(grid, trainer, n_ratios=n, n_windows=4).values for n in (None, 8))
    spacing = 2 * np.log(grid["lr_attn"][-1] / grid["lr_attn"][0]) / 7
    off = np.abs(np.log(between / exact))
    assert off.max() <= spacing / 4 + 1e-3  # Lanczos'
    assert off.max() > 0.01
    np.testing.assert_allclose(between[[0, -1], [-1, 0]], exact[[0, -1], [-1, 0]], rtol=1e-6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"beta1=1 must lie in"):
        adam_threshold(1)
    with pytest.raises(ValueError, match="axis 'lr_mlp' is not the rate of a group; use lr_attn, lr_rest"):
        adam_sharpness(Grid(lr_mlp=[0.1]), Transformer.tiny(n_steps=3))
    with pytest.raises(ValueError, match="needs optimizer='adam'"):
        adam_sharpness(Grid(lr_attn=[0.1]), Transformer.tiny(n_steps=3, optimizer="sgd"))
    with pytest.raises(ValueError, match="n_ratios=1 must be at least 2, for a trainer of 2 groups"):
        adam_sharpness(Grid(lr_attn=[0.1]), Transformer.tiny(n_steps=3), n_ratios=1)
