"""The horizon against a line with noise, whose horizon is exact, and against a chaotic map of known exponent."""

from dataclasses import dataclass

import numpy as np
import pytest

from trainability import Grid, axis_resolution, log_axis, predictability_horizon


@dataclass(frozen=True)
class Line:
    """Outcome slope · log(lr), with Gaussian noise for each rounding seed and rate; the horizon is noise / slope."""

    lr: float = 0.1
    seed: int = 0
    slope: float = 1.0
    noise: float = 0.02
    n_steps: int = 20
    hyperparameters = ("lr", "rounding_seed")
    dtype = "float64"

    def settings(self):
        return {"seed": self.seed}

    def trace(self, pixels):
        lr = pixels["lr"]
        keys = np.stack([lr, pixels["rounding_seed"] + 0.5], axis=1).view(np.uint64)
        draws = np.array(
            [np.random.default_rng([self.seed, *map(int, key)]).standard_normal() for key in keys]
        )
        losses = np.ones((len(lr), self.n_steps))
        losses[:, -1] = 2.0 + self.slope * np.log(lr / 0.1) + self.noise * draws
        return losses


@dataclass(frozen=True)
class Chaos:
    """Gradient descent at rate 1 on (a² - 2)² / 4 from a = 2 cos θ: θ -> 3θ + π, so each gap grows threefold a step.

    θ is the logarithm of the rate plus a twin's own change of it, of standard deviation `jitter`: a step of the rate
    below `jitter` changes less than rounding does, for as long as twins have not parted.
    """

    lr: float = 2.0
    jitter: float = 1e-9
    n_steps: int = 60
    hyperparameters = ("lr", "rounding_seed")
    dtype = "float64"

    def settings(self):
        return {}

    def trace(self, pixels):
        own = np.array([np.random.default_rng(int(s)).standard_normal() for s in pixels["rounding_seed"]])
        theta = np.log(pixels["lr"]) + self.jitter * own
        a, kept = 2 * np.cos(theta), []
        for _ in range(self.n_steps):
            kept.append(1 + (a**2 - 2) ** 2 / 4)
            a = a - (a**2 - 2) * a
        return np.stack(kept, axis=1)


STEPS = 0.64 / 4.0 ** np.arange(8)[::-1]


def test_the_horizon_of_a_line_is_noise_over_slope_and_its_interval_covers():
    """40 draws: 95 % intervals that cover at least 85 % are not refuted at two standard errors only above 0.88."""
    found = [predictability_horizon(Line(seed=s), {"lr": 0.1}, axis="lr", steps=STEPS) for s in range(40)]
    steps = np.array([f.step for f in found])
    covered = np.mean([f.interval[0] <= 0.02 <= f.interval[1] for f in found])
    assert 0.017 < np.median(steps) < 0.024
    assert covered >= 0.85
    assert np.mean([f.noise for f in found]) == pytest.approx(0.02, rel=0.05)
    np.testing.assert_allclose(np.mean([f.signal for f in found], axis=0)[-3:], STEPS[-3:], rtol=0.05)


def test_more_twins_and_points_tell_it_better():
    few, many = (
        predictability_horizon(Line(), {"lr": np.linspace(0.05, 0.2, n)}, axis="lr", twins=k, steps=STEPS)
        for n, k in ((1, 4), (6, 16))
    )
    width = [np.log(f.interval[1] / f.interval[0]) for f in (few, many)]
    assert width[1] < 0.6 * width[0]
    assert many.step == pytest.approx(0.02, rel=0.2)


def test_without_slope_nothing_is_resolved():
    found = predictability_horizon(Line(slope=0.0), {"lr": 0.1}, axis="lr", steps=STEPS)
    assert found.step == np.inf
    assert "no step of lr up to 64 % is told from rounding after 20 steps" in repr(found)


def test_chaos_keeps_the_finest_step_until_twins_part_and_none_after():
    """While gaps are small the horizon is the twins' own change; they pass 1e-3 at log(1e6) / log 3 = 12.6 steps."""
    trainer = Chaos()
    points = {"lr": np.exp(np.random.default_rng(0).uniform(0.3, 1.3, 12))}
    found = predictability_horizon(trainer, points, axis="lr", twins=12, steps=np.geomspace(1e-12, 0.01, 21))
    short = found.by_length[found.lengths <= 12]
    assert len(short) >= 4
    np.testing.assert_allclose(short, 1e-9, rtol=0.5)  # of 12 twins' standard deviation and 12 points' slopes
    parting = np.log(1e9) / np.log(3)
    assert np.isinf(found.by_length[found.lengths > parting + 6]).all()
    assert found.step == np.inf
    np.testing.assert_allclose(found.growth.rate, np.log(3), atol=0.05)
    np.testing.assert_allclose(found.growth.parted, np.log(1e6) / np.log(3), atol=2)


def test_axes_are_set_beside_the_horizon_and_the_numbers_of_the_dtype():
    found = predictability_horizon(Line(), {"lr": 0.1}, axis="lr", twins=16, steps=STEPS)
    coarse = axis_resolution(Grid(lr=log_axis(0.01, 1, 32)), "float64", horizons={"lr": found})["lr"]
    assert coarse.pixel == pytest.approx(np.log(100) / 32)
    assert not coarse.below_horizon
    with pytest.warns(UserWarning, match="finer than runs can resolve, show probabilities"):
        fine = axis_resolution(Grid(lr=log_axis(0.099, 0.101, 32)), "float64", horizons={"lr": found})["lr"]
    assert fine.below_horizon
    # float32 near 0.102 is spaced by 7.45e-9: 20 values 1e-11 apart are one number, or two.
    with pytest.warns(UserWarning, match="20 pixels, [12] distinct in float32"):
        axis_resolution(Grid(lr=0.102 + 1e-11 * np.arange(20)), "float32")


def test_bad_input_is_named():
    for options, message in (
        ({"axis": "mu"}, "axis='mu' is no hyperparameter; the trainer has lr"),
        ({"axis": "lr", "twin": "luck"}, "twin='luck' is no hyperparameter"),
        ({"axis": "lr", "twins": 2}, "twins=2 must be a whole number, at least 3"),
        ({"axis": "lr", "steps": [0.1]}, "must be at least two and increase"),
        ({"axis": "lr", "steps": [1e-18, 0.1]}, "increase from above"),
    ):
        with pytest.raises(ValueError, match=message):
            predictability_horizon(Line(), {"lr": 0.1}, **options)
    with pytest.raises(ValueError, match="axis 'lr' is missing"):
        predictability_horizon(Line(), {"rounding_seed": 0}, axis="lr")
    with pytest.raises(ValueError, match="lr must be positive"):
        predictability_horizon(Line(), {"lr": -0.1}, axis="lr")
