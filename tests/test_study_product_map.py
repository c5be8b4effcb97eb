"""The first study: predictions made without training, and what training says to them."""

import json

import numpy as np
import pytest

import trainability as tr
from trainability import Status
from trainability.study_product_map import WEIGHT_SEED


@pytest.fixture(scope="module")
def panels():
    return tr.linear_transformer_study(pixels=32, n_steps=1000)


def test_prediction_uses_only_prompt_learning_rate_and_initial_weights(panels):
    """The classification restated: H < 0 and |mu| < 2 is bounded, |mu| ≤ 1 besides converges."""
    predicted = panels["imbalance"].predicted
    mu, a, b = (predicted[k].values for k in ("mu", "a", "b"))
    bounded = (a * a + b * b - mu * a * b + mu * mu < 4) & (np.abs(mu) < 2)
    expected = np.where(
        ~bounded, Status.DIVERGED, np.where(np.abs(mu) <= 1, Status.CONVERGED, Status.UNDECIDED)
    )
    np.testing.assert_array_equal(predicted["status"], expected)
    assert set(np.unique(expected)) == {1, 2, 3}
    np.testing.assert_array_equal(predicted["boundary"].values < 0, bounded)


@pytest.mark.parametrize("name", ["imbalance", "scale", "pair"])
def test_exact_reductions_agree_on_99_percent_and_within_a_pixel(panels, name):
    panel = panels[name]
    assert panel.diverged.agreement >= 0.99
    assert panel.converged.agreement >= 0.99
    assert panel.diverged.boundary.max <= 1.0
    assert panel.resolved <= int(panel.converged.wrong.sum())


def test_training_every_weight_on_one_prompt_does_not_agree(panels):
    assert panels["all"].diverged.agreement < 0.9
    assert panels["all"].resolved is None


def test_phases_of_the_trained_loss(panels):
    """Where the start is balanced enough, bounded non-converging runs just above mu = 1 are 2-cycles."""
    panel = panels["scale"]
    mu, period = panel.predicted["mu"].values, panel.observed["loss_period"].values
    cycle = (mu > 1.05) & (mu < 1.2) & (panel.predicted["status"].values == Status.UNDECIDED)
    assert cycle.sum() > 10
    assert (period[cycle] == 2).mean() > 0.9


@pytest.mark.slow
def test_full_size_maps_agree_on_99_percent_and_within_a_pixel():
    for panel in list(tr.linear_transformer_study(pixels=128, n_steps=2000).values())[:3]:
        assert panel.diverged.agreement >= 0.99
        assert panel.converged.agreement >= 0.99
        assert panel.diverged.boundary.max <= 1.0


def test_longer_runs_resolve_slow_convergence():
    """A run of 60 steps misses slow convergence; eight times as many find most of it."""
    panel = tr.linear_transformer_study(pixels=16, n_steps=60)["imbalance"]
    wrong = int(panel.converged.wrong.sum())
    assert wrong > 0
    assert 0 < panel.resolved <= wrong


def test_demo_leaves_a_report_and_continues_from_its_stores(tmp_path):
    answer = tr.demo(tmp_path, pixels=16, n_steps=200, workers=1)
    assert answer.startswith("Predicted from the prompt")
    assert "agree" in answer
    html = (tmp_path / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 4
    assert 'src="http' not in html
    assert "<table>" in html
    text = (tmp_path / "report.md").read_text()
    for name in ("orbit-diagram", "phase-portraits", "predicted-and-trained", "where-the-reduction-ends"):
        assert (tmp_path / f"{name}.png").stat().st_size > 10_000
        assert f"]({name}.png)" in text
    settings = json.loads((tmp_path / "maps" / "scale.zarr" / "zarr.json").read_text())["attributes"][
        "settings"
    ]
    assert json.loads(settings)["seed"] == WEIGHT_SEED


def test_demo_names_a_folder_it_cannot_write(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot be written"):
        tr.demo(tmp_path / "file" / "demo", pixels=16, n_steps=20)
