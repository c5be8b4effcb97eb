"""The Hessian of small networks and its largest eigenvalue in the metric of the learning rates."""

import numpy as np
import pytest
import torch

from trainability import Grid, log_axis, preconditioned_sharpness, sharpness_along_training, trainers
from trainability.sharpness import hessians


def autograd_hessian(problem, weights, activation):
    """The loss written anew, differentiated twice by autograd."""
    shapes = [w.shape for w in weights]
    x, y = torch.from_numpy(problem.x), torch.from_numpy(problem.y)

    def loss(flat):
        parts = torch.split(flat, [int(np.prod(s)) for s in shapes])
        h = x
        for part, shape, scale in zip(parts[:-1], shapes[:-1], problem.scales[:-1], strict=True):
            h = scale * h @ part.reshape(shape)
            h = torch.tanh(h) if activation == "tanh" else torch.relu(h) if activation == "relu" else h
        out = problem.scales[-1] * h @ parts[-1].reshape(shapes[-1])
        return ((out[:, 0] - y) ** 2).mean()

    flat = torch.from_numpy(np.concatenate([w.ravel() for w in weights]))
    return torch.autograd.functional.hessian(loss, flat).numpy()


@pytest.mark.parametrize("activation", ["tanh", "relu", "identity"])
@pytest.mark.parametrize("depth", [1, 2])
def test_hessian_is_that_of_autograd(activation, depth):
    trainer = trainers.MLP(width=4, depth=depth, activation=activation, seed=3)
    problem = trainer.draw(3)
    (found,) = hessians(problem, [w[None] for w in problem.weights], activation)
    expected = autograd_hessian(problem, problem.weights, activation)
    np.testing.assert_allclose(found, expected, atol=1e-12 * np.abs(expected).max())


def test_sharpness_of_a_map_is_the_eigenvalue_at_each_pixel():
    """Against the eigenvalues of D H, which are those of D^½ H D^½, pixel by pixel."""
    trainer = trainers.MLP(width=4, seed=1)
    grid = Grid(lr_in=log_axis(0.1, 100, 5), lr_out=log_axis(0.1, 100, 4))
    found = preconditioned_sharpness(grid, trainer)
    problem = trainer.draw(1)
    H = autograd_hessian(problem, problem.weights, "tanh")
    for i, lr_in in enumerate(grid["lr_in"]):
        for j, lr_out in enumerate(grid["lr_out"]):
            D = np.repeat([lr_in, lr_out], [16, 4])
            assert found.values[i, j] == pytest.approx(np.linalg.eigvals(D[:, None] * H).real.max(), rel=1e-8)


def test_training_near_a_minimum_is_stable_up_to_two():
    """From a trained minimum, steps scaled to a sharpness just below and above 2 fall back or leave."""
    x, y = np.array([[1.0, 0.5], [0.2, -1.0]]), np.array([0.3, -0.2])
    base = trainers.MLP(width=3, data=(x, y), lr=0.5, n_steps=4001)
    problem = base.draw(0)
    weights = [w.copy() for w in problem.weights]
    for _ in range(4000):
        h = np.tanh(problem.scales[0] * x @ weights[0])
        r = 2 / 2 * (problem.scales[1] * h @ weights[1] - y[:, None])
        g1 = problem.scales[1] * h.T @ r
        g0 = problem.scales[0] * x.T @ ((problem.scales[1] * r @ weights[1].T) * (1 - h * h))
        weights = [weights[0] - 0.5 * g0, weights[1] - 0.5 * g1]
    moved = [w + 1e-6 * np.random.default_rng(0).standard_normal(w.shape) for w in weights]
    one = trainers.MLP(width=3, data=(x, y), weights=weights, lr=1.0)
    (sharpness,) = sharpness_along_training(one, {"lr": [1.0]}, [0])[0]
    for factor, grows in ((0.95, False), (1.05, True)):
        run = trainers.MLP(width=3, data=(x, y), weights=moved, n_steps=200)
        losses = run.trace({"lr": np.array([factor * 2 / sharpness])})[0]
        assert (losses[100] > losses[0]) == grows


def test_sharpness_along_training_starts_at_initialization_and_ends_with_the_run():
    trainer = trainers.MLP(width=4)
    pixels = {"lr_in": np.array([1.0, 1e4]), "lr_out": np.array([1.0, 1e5])}
    found = sharpness_along_training(trainer, pixels, [0, 3, 200])
    start = preconditioned_sharpness(Grid(lr_in=[1.0, 1e4], lr_out=[1.0, 1e5]), trainer).values
    np.testing.assert_allclose(found[:, 0], [start[0, 0], start[1, 1]], rtol=1e-9)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1, -1])


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="axis 'offset' is no learning rate"):
        preconditioned_sharpness(Grid(offset=[0.0]), trainers.MLP(width=4))
    with pytest.raises(ValueError, match=r"momentum=0\.9: the threshold 2 is of plain"):
        preconditioned_sharpness(Grid(lr=[1.0]), trainers.MLP(width=4, momentum=0.9))
