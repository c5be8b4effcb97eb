"""Where transformers train, predicted from two exponents: against theory, torch, and maps with a known answer."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import trainability as tr
from trainability import Status, plot
from trainability.cli_transformer import preset_trainer
from trainability.trainers import Transformer, text_task
from trainability.transformer_predictions import EFOLDS, MARGIN, learned_status

TEXT = "so long lives this, and this gives life to thee; " * 40
INIT = tr.Initialization(
    n_tokens=4, alpha_attn=0.3, alpha_mlp=0.7, sigma_attn=1.0, sigma_mlp=2.0, causal=True, d_model=8
)


def trainer_of(**options):
    return Transformer.geometry(INIT, text_task(TEXT, window=4), **{"n_layers": 12, "n_steps": 30, **options})


def grid_of(n=16):
    return tr.Grid(alpha_attn=tr.linear_axis(0.05, 0.95, n), sigma_mlp=tr.log_axis(0.5, 10, n))


def test_exponents_are_those_of_the_phase_diagram_and_of_each_initialization():
    grid, trainer = grid_of(), trainer_of()
    found = tr.predict_transformer(grid, trainer)
    diagram = tr.phase_diagram(INIT, depth=12, q=1.0, **{name: grid[name] for name in grid})
    for name in ("angle", "gradient", "phase"):
        np.testing.assert_allclose(found[name], diagram[name], rtol=1e-13)  # one formula: rounding of q
    for i, j in ((0, 0), (3, 12), (15, 8)):
        init = INIT.with_values(alpha_attn=grid["alpha_attn"][i], sigma_mlp=grid["sigma_mlp"][j])
        alone = tr.predict_exponents(init, depth=12, q=1.0)
        assert (alone.angle, alone.gradient) == pytest.approx(
            (found["angle"].values[i, j], found["gradient"].values[i, j]), rel=1e-12
        )
        small = max(abs(alone.angle), abs(alone.gradient)) * 12 <= EFOLDS
        assert (found["status"].values[i, j] == Status.CONVERGED) == small
    assert set(np.unique(found["status"])) == {Status.CONVERGED, Status.UNDECIDED}


def test_tokens_enter_at_the_norm_that_the_prediction_starts_from():
    trainer = trainer_of(d_model=64, embed_std=1.3)
    model = trainer.architecture
    import torch

    from trainability.trainers._transformer_model import embedded

    weights = model.views(torch.from_numpy(trainer.initial_weights({"seed": np.arange(1)})))
    inputs, _ = trainer.task.windows(trainer.task.test_starts[None])
    square = float(embedded(model, weights, torch.from_numpy(inputs)).square().mean())
    # 20 symbols of 64 Gaussian entries each: a relative error of √(2 / 1280) = 4 % of the embedding's part.
    assert square == pytest.approx(1.3**2 + 0.5, rel=0.12)
    grid = grid_of(2)
    start = tr.phase_diagram(INIT, depth=12, q=1.3**2 + 0.5, **{name: grid[name] for name in grid})
    np.testing.assert_allclose(tr.predict_transformer(grid, trainer)["angle"], start["angle"], rtol=1e-13)


def test_a_small_map_is_that_of_plain_torch():
    """Deep networks of both phases: compiled code and autograd take the same steps, as far as rounding lets them.

    At sigma_mlp = 8 training forgets all of double precision within eight steps. How fast is seen on plain torch
    alone, where the examples of each batch change places; the engines part no faster than that.
    """
    grid = tr.Grid(alpha_attn=[0.1, 0.8], sigma_mlp=[1.0, 8.0])
    plain = trainer_of(dtype="float64", n_steps=8, engine="torch")
    pixels = grid.pixels()
    compiled, torch, twin = (
        replace(plain, **options).trace(pixels)
        for options in ({"engine": "vector"}, {}, {"rounding_seed": 0})
    )
    parted = np.maximum.accumulate(abs(twin / torch - 1), axis=1)
    # Two draws of rounding differ in where they point, by a factor of ten here.
    assert (abs(compiled / torch - 1) <= 1e-12 + 100 * parted).all()
    assert parted[0].max() < 1e-12  # so that there the engines agree to 1e-10
    assert np.ptp(torch[:, -1]) > 0.01


def runs_with(loss, predicted):
    status = np.full(loss.shape, Status.UNDECIDED, np.int8)
    return predicted[["status"]].assign(
        status=(loss.dims, status, predicted["status"].attrs), test_loss=(loss.dims, loss.values)
    )


def test_a_map_that_obeys_the_prediction_is_found_to():
    trainer, grid = trainer_of(), grid_of(24)
    predicted = tr.predict_transformer(grid, trainer)
    loss = trainer.task.blind_loss - MARGIN + 0.02 * predicted["boundary"]
    found = tr.compare_exponents(runs_with(loss, predicted), trainer)
    assert found.by["both exponents"].agreement == 1
    assert found.by["angle exponent"].agreement < 1
    assert found.ranks["larger of both"][0] == pytest.approx(1)
    assert found.null.p_value < 0.01
    assert repr(found).startswith("learned from its input, predicted from both exponents: 100.0%")


def test_intervals_of_small_maps_are_no_points():
    trainer, grid = trainer_of(), grid_of(8)
    predicted = tr.predict_transformer(grid, trainer)
    noise = np.random.default_rng(0).normal(size=grid.shape)
    found = tr.compare_exponents(
        runs_with(2 + 0.02 * predicted["boundary"] + 0.1 * noise, predicted), trainer
    )
    for value, (low, high) in found.ranks.values():
        assert low < value < high


def test_a_map_that_contradicts_it_is_found_to():
    trainer, grid = trainer_of(), grid_of(24)
    predicted = tr.predict_transformer(grid, trainer)
    loss = trainer.task.blind_loss - MARGIN - 0.02 * predicted["boundary"] + 1e-9
    found = tr.compare_exponents(runs_with(loss, predicted), trainer)
    assert found.by["both exponents"].agreement == 0
    assert found.ranks["larger of both"][0] == pytest.approx(-1)
    low, high = found.ranks["larger of both"][1]
    assert low <= high < 0


def test_only_what_ended_is_judged_by_its_loss():
    task = text_task(TEXT, window=4)
    below, above = task.blind_loss - 2 * MARGIN, task.blind_loss
    codes = [
        Status.PENDING,
        Status.DIVERGED,
        Status.INFERRED,
        Status.CONVERGED,
        Status.UNDECIDED,
        Status.UNDECIDED,
    ]
    losses = [np.nan, np.inf, np.nan, above, below, np.nan]
    runs = xr.Dataset(
        {"status": ("lr", np.array(codes, np.int8), tr.predict_transformer(grid_of(2), trainer_of()).status.attrs),
         "test_loss": ("lr", losses)}
    )  # fmt: skip
    wanted = [*codes[:3], Status.UNDECIDED, Status.CONVERGED, Status.UNDECIDED]
    assert learned_status(runs, task).values.tolist() == wanted


def test_a_block_that_removes_all_differences_does_not_train():
    trainer = Transformer.geometry(replace(INIT, causal=False), n_layers=2)
    found = tr.predict_transformer(tr.Grid(alpha_attn=[0.5, 1.0]), trainer)
    assert found["angle"].values[1] == -np.inf
    assert found["status"].values.tolist() == [Status.CONVERGED, Status.UNDECIDED]


def test_errors_teach():
    trainer = trainer_of()
    with pytest.raises(ValueError, match="axis 'lr': exponents are predicted over alpha_attn, alpha_mlp"):
        tr.predict_transformer(tr.Grid(lr=[0.1, 0.2]), trainer)
    with pytest.raises(ValueError, match="init_scale=2: the exponents are those of init_scale=1"):
        tr.predict_transformer(grid_of(2), replace(trainer, init_scale=2.0))
    with pytest.raises(ValueError, match="efolds=0 must be positive"):
        tr.predict_transformer(grid_of(2), trainer, efolds=0)


def test_the_preset_of_the_command_line_is_what_theory_covers():
    trainer = preset_trainer("geometry")
    assert (trainer.n_layers, trainer.causal, trainer.residual) == (12, True, "sqrt")
    assert trainer.embed_std**2 + 0.5 == pytest.approx(1)
    predicted = tr.predict_transformer(grid_of(), trainer)
    for name in ("angle", "gradient"):  # both zero lines cross the default axes
        assert predicted[name].min() < 0 < predicted[name].max()


def test_losses_are_drawn_with_both_zero_lines():
    trainer, grid = trainer_of(), grid_of(12)
    predicted = tr.predict_transformer(grid, trainer)
    loss = trainer.task.blind_loss + 0.02 * predicted["boundary"]
    ax = plot.loss_map(runs_with(loss, predicted), predicted=predicted, blind=trainer.task.blind_loss)
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["angle exponent = 0", "gradient exponent = 0", "predicted limit of training"]
    assert ax.get_yscale() == "log"
