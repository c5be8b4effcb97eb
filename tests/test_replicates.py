"""Flips between replicates against draws of known probability; growth of twins against known exponents."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from trainability import Grid, Scattered, Status, linear_axis, replicate_flips, trainability_map, twin_growth


@dataclass(frozen=True)
class Coin:
    """Converges with a probability that depends on x alone: 0, then `p` between -width and width, then 1."""

    seed: int = 0
    p: float = 0.5
    width: float = 0.3
    hyperparameters = ("x", "y")
    observables = {"final_loss": ("float64", "0 or 1")}  # noqa: RUF012
    dtype = "float64"

    def settings(self):
        return {"seed": self.seed}

    def __call__(self, pixels):
        keys = np.stack([pixels["x"], pixels["y"]], axis=1).view(np.uint64)
        draws = np.array([np.random.default_rng([self.seed, *key]).random() for key in keys])
        chance = np.where(np.abs(pixels["x"]) < self.width, self.p, pixels["x"] > 0)
        return {"final_loss": (draws >= chance).astype(float)}

    def status(self, observables):
        return np.where(observables["final_loss"] < 0.5, 1, 2).astype(np.int8)


GRID = Grid(x=linear_axis(-1, 1, 20), y=linear_axis(0, 1, 40))


@pytest.mark.parametrize("p", [0.5, 0.2])
def test_flips_near_the_boundary_are_those_of_independent_draws(p):
    """Two draws differ with chance 2p(1 - p); away from the band nothing flips."""
    coin = Coin(p=p)
    runs = trainability_map(GRID, coin)
    found = replicate_flips(runs, [replace(coin, seed=s) for s in range(1, 40)], n_pixels=200)
    inside = np.abs(found.pixels["x"]) < coin.width
    status = found.status[inside, 1:]  # the map's own labels chose the pixels
    k = status.shape[1]
    converged = (status == 1).sum(axis=1)
    rate = (2 * converged * (k - converged) / (k * (k - 1))).mean()
    assert abs(rate - 2 * p * (1 - p)) < 0.02  # about 120 pixels of 39 draws: standard error below 0.005
    # Pixels of the band whose neighbours all fell alike count as away from the boundary; outside nothing flips.
    assert (found.status[~inside] == found.status[~inside][:, :1]).all()
    assert found.away < found.near_interval[0] < found.near < found.near_interval[1]
    assert found.status.shape == (len(found.at_boundary), 40)


def test_same_trainer_flips_nothing_and_the_interval_says_how_little_is_known():
    runs = trainability_map(GRID, Coin())
    found = replicate_flips(runs, [Coin()] * 8, n_pixels=30)
    assert found.near == 0
    assert found.away == 0
    np.testing.assert_allclose(
        found.near_interval, (0, 1.96**2 / (30 + 1.96**2)), atol=1e-4
    )  # Wilson's at 0 of 30
    assert "replicates flip 0.0% near the boundary (95 % interval 0.0% to 11.4%)" in repr(found)


def test_edges_of_inferred_regions_are_no_boundary():
    """A refined map of a straight boundary: the trained band around it, and lattice pixels in what is inferred."""
    coin = Coin(width=0.0)
    runs = trainability_map(GRID, coin)
    status = runs["status"].copy()
    status[{"x": np.abs(GRID["x"]) > 0.4}] = Status.INFERRED
    status[::8, ::8] = runs["status"][::8, ::8].values
    found = replicate_flips(runs.assign(status=status), [coin], n_pixels=400)
    assert found.at_boundary.sum() == 80  # two columns of 40 pixels
    assert (np.abs(found.pixels["x"][found.at_boundary]) < 0.1).all()
    assert len(found.status) == (status < Status.INFERRED).sum()  # the others count as away


def test_maps_without_boundary_have_pixels_away_only():
    runs = trainability_map(Grid(x=linear_axis(0.5, 1, 4), y=linear_axis(0, 1, 4)), Coin())
    found = replicate_flips(runs, [Coin(seed=1)])
    assert np.isnan(found.near)
    assert found.away == 0
    assert len(found.status) == 16


def losses(a, n_steps):
    """Loss of each step of gradient descent on (a² - 2)² / 4 with learning rate 1, from each start."""
    kept = []
    for _ in range(n_steps):
        kept.append((a**2 - 2) ** 2 / 4)
        a = a - (a**2 - 2) * a
    return np.stack(kept, axis=1)


def test_twins_part_at_the_exact_exponent():
    """a -> 3a - a³ is θ -> 3θ + π for a = 2 cos θ: every gap grows by 3 a step, the exponent is log 3."""
    starts = 2 * np.cos(np.random.default_rng(3).uniform(0.1, 3.0, 300))
    found = twin_growth(losses(starts, 40), losses(starts * (1 + 1e-13), 40), floor=1e-11)
    # The median gap is 3^t times a factor that fluctuates by some percent, over about 18 steps.
    np.testing.assert_allclose(found.rate, np.log(3), atol=0.02)
    assert 0 < found.stderr < 0.02
    np.testing.assert_allclose(
        found.parted, np.log(1e-3 / 1e-13) / np.log(3), atol=3
    )  # gaps start within 20-fold of 1e-13


def test_growth_has_an_error_bar_that_covers():
    rng = np.random.default_rng(1)
    t = np.arange(0, 100, 5)
    covered = 0
    for _ in range(20):
        rates = 0.2 + 0.02 * rng.standard_normal(15)
        gap = 1e-7 * np.exp(rates[:, None] * t) * np.exp(0.3 * rng.standard_normal((15, len(t))))
        found = twin_growth(np.ones_like(gap), 1 + gap, steps=t)
        covered += abs(found.rate - 0.2) < 3 * found.stderr
    assert covered >= 17


def test_twins_that_never_part_have_no_rate():
    found = twin_growth(np.ones((4, 30)), np.ones((4, 30)))
    assert np.isnan(found.rate)
    assert found.parted == np.inf


def test_a_scattered_seed_is_a_fresh_draw_at_each_pixel_and_the_same_again():
    """A coin that one seed decides for the whole map, scattered: neighbours agree no more than independent draws."""

    @dataclass(frozen=True)
    class OneToss(Coin):
        hyperparameters = ("x", "y", "seed")

        def __call__(self, pixels):
            seeds = np.broadcast_to(pixels.get("seed", self.seed), len(pixels["x"]))
            return {"final_loss": np.array([np.random.default_rng(int(s)).integers(2) for s in seeds], float)}

    whole, scattered = (
        trainability_map(GRID, t)["status"].values for t in (OneToss(), Scattered(OneToss(), "seed"))
    )
    assert len(np.unique(whole)) == 1
    assert abs((scattered == 1).mean() - 0.5) < 0.08  # four standard errors of 800 tosses
    unlike = (scattered[1:] != scattered[:-1]).mean()
    assert abs(unlike - 0.5) < 0.08
    again = Scattered(OneToss(), "seed")(GRID.pixels((slice(3, 4), slice(None))))["final_loss"]
    np.testing.assert_array_equal(again == 0, scattered[3] == 1)
    assert "seed" not in Scattered(OneToss(), "seed").hyperparameters
    assert Scattered(OneToss(), "seed").settings()["seed"] == "scattered by seed 0"


def test_bad_input_is_named():
    runs = trainability_map(GRID, Coin())
    with pytest.raises(ValueError, match="replicates is empty"):
        replicate_flips(runs, [])
    with pytest.raises(ValueError, match="n_pixels=0 must be at least 1"):
        replicate_flips(runs, [Coin()], n_pixels=0)
    with pytest.raises(ValueError, match=r"shapes \(2, 3\) and \(2, 4\)"):
        twin_growth(np.ones((2, 3)), np.ones((2, 4)))
    with pytest.raises(ValueError, match="must increase"):
        twin_growth(np.ones((2, 3)), np.ones((2, 3)), steps=[0, 2, 1])
