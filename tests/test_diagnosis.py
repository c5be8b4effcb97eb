"""The printed diagnosis: what it says must be what was measured."""

import math
import re

import pytest
import torch
from torch import nn

from trainability.diagnosis import diagnose
from trainability.reinitialize import apply_initialization

from .models import NanoGPT, encoder, ids, vectors


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_text_says_what_was_measured():
    """Both exponents, their errors and depth scales, read back from the text, are those of the measurement."""
    found = diagnose(encoder(n_layers=12, norm_first=True, copies=True), vectors())
    measured, text = found.measured, str(found)
    assert text.startswith("TransformerEncoder, 12 blocks: ordered, exploding\n")
    for name in ("angle", "gradient"):
        value, stderr, scale, depths = map(
            float,
            re.search(
                rf"{name} +(\S+) ± (\S+) nats per block; .* by a factor e in (\S+) blocks, (\S+) x", text
            ).groups(),
        )
        assert value == pytest.approx(getattr(measured, name), abs=5e-5)
        assert stderr == pytest.approx(getattr(measured, f"{name}_stderr"), abs=5e-5)
        assert scale == pytest.approx(1 / abs(value), rel=0.01)  # three digits of a rounded value
        assert depths == pytest.approx(scale / 12, rel=0.05)  # two digits
    assert "similar tokens merge" in text
    assert "gradients grow towards the input" in text
    assert "the blocks hold equal weights" in text
    assert f"angle {measured.predicted.angle:+.4f}, gradient {measured.predicted.gradient:+.4f}" in text
    last = measured.profile.similarity.mean("draw").values[-1]
    assert f"{last:.2f} after the last" in text


def test_the_proposed_change_makes_the_model_critical():
    model = encoder(n_layers=24, d_model=128, norm_first=True)
    tokens = vectors(d_model=128)
    before = diagnose(model, tokens)
    assert not before.is_critical
    assert re.search(r"critical +sigma_mlp \S+ -> \S+, alpha_attn \S+ -> \S+, alpha_mlp", str(before))
    apply_initialization(model, before.critical.initialization, tokens=tokens)
    after = diagnose(model, tokens)
    assert after.is_critical
    assert "already: both depth scales exceed 2 x the depth" in str(after)
    assert max(abs(after.measured.angle), abs(after.measured.gradient)) * 24 <= 0.5


def test_a_draw_that_is_off_by_chance_is_not_sent_in_circles():
    """At width 16 a draw scatters: where the scales are critical as they are, no change is proposed."""
    for seed in range(20):
        model, tokens = encoder(n_layers=32, d_model=16), vectors(d_model=16)
        scales = diagnose(model, tokens).critical.initialization.with_values(alpha_attn=0.01, alpha_mlp=0.5)
        apply_initialization(model, scales, seed=seed)
        found = diagnose(model, tokens)
        if not found.is_critical:
            break
    assert "none: these scales are critical at infinite width" in str(found)


def test_an_unknown_architecture_is_still_measured():
    stack = nn.Sequential(*[nn.Linear(8, 8, bias=False) for _ in range(60)]).double()
    for layer in stack:
        nn.init.orthogonal_(layer.weight, 2.0)
    found = diagnose(stack, vectors(d_model=8).double())
    assert found.critical is None
    text = str(found)
    assert "theory    none: Linear has not the layers of" in text
    assert "only the theory's architectures can be tuned" in text
    assert "gradient norm x 1e+18" in text  # 2^60 = 1.15e18
    assert found.measured.gradient == pytest.approx(math.log(4), abs=1e-12)


def test_vary_chooses_what_may_change():
    found = diagnose(NanoGPT(n_layers=4), ids(), vary=("alpha_attn", "alpha_mlp"))
    assert found.critical.vary == ("alpha_attn", "alpha_mlp")
    assert found.critical.initialization.sigma_mlp == found.measured.theory.sigma_mlp
