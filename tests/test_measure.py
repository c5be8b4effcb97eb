"""Exponents of torch models against closed forms, an independent measurement, and theory."""

import copy
import math
import random
import re
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import trainability
from trainability.geometry import predict_exponents, propagate
from trainability.measure import measure_exponents, predict_profile

from .models import NanoGPT, draw_default, draw_unit_gain, encoder, hugging_face, ids, vectors

FAMILIES = ["NanoGPT", "TransformerEncoder", "GPT2Model", "LlamaModel", "BertModel"]


@pytest.fixture(autouse=True)
def _fresh_torch():
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(True)


def build(name, **options):
    """A model of one of the five families and tokens for it."""
    if name == "NanoGPT":
        return NanoGPT(**options), ids()
    if name == "TransformerEncoder":
        return encoder(**options), vectors(d_model=options.get("d_model", 64))
    pytest.importorskip("transformers")
    return hugging_face(name, **options), ids()


def orthogonal_stack(gain, *, n_layers, d=16, dtype=torch.float64):
    layers = [nn.Linear(d, d, bias=False, dtype=dtype) for _ in range(n_layers)]
    for layer in layers:
        nn.init.orthogonal_(layer.weight, gain)
    return nn.Sequential(*layers)


# ------------------------------------------------------------------------------------------- exact


@settings(max_examples=15, deadline=None)
@given(gain=st.floats(1e-3, 1e3), n_layers=st.integers(2, 40))
def test_scaled_orthogonal_stack(gain, n_layers):
    """Angles stay, gradients grow by gain² per layer: exact, so only rounding is allowed for.

    A thousandfold gain over 40 layers changes a gradient by 1e±120: no float32 could hold its square.
    """
    found = measure_exponents(orthogonal_stack(gain, n_layers=n_layers), vectors(d_model=16).double())
    assert abs(found.angle) < 1e-12
    assert found.gradient == pytest.approx(2 * math.log(gain), abs=1e-12)
    assert abs(found.at_tokens.angle) < 1e-12
    assert found.at_tokens.gradient == pytest.approx(2 * math.log(gain), abs=1e-12)


def test_float32_holds_any_depth():
    """100 layers of gain 30 in single precision: the stream itself would overflow, so the gain shrinks instead."""
    found = measure_exponents(orthogonal_stack(0.5, n_layers=100, dtype=torch.float32), vectors(d_model=16))
    assert found.gradient == pytest.approx(2 * math.log(0.5), abs=1e-6)  # float32 rounding, averaged
    assert found.profile.log_gradient[0, 0] == pytest.approx(200 * math.log(0.5), abs=1e-4)


class Averaging(nn.Module):
    """x_i + a × the mean of the tokens that i sees: what attention does to nearly equal tokens."""

    def __init__(self, a, causal):
        super().__init__()
        self.a, self.causal = nn.Parameter(torch.tensor(a, dtype=torch.float64)), causal

    def forward(self, x):
        n = x.shape[1]
        seen = torch.ones(n, n, dtype=x.dtype)
        seen = seen.tril() if self.causal else seen
        return x + self.a * (seen / seen.sum(1, keepdim=True)) @ x


@pytest.mark.parametrize(("causal", "survival"), [(False, 0.0), (True, 0.5)])
@pytest.mark.parametrize("a", [0.3, 2.0, -0.4])
def test_averaging_stack(a, causal, survival):
    """The common vector grows by 1 + a and differences by 1 + a r, r the mask's second eigenvalue (0 or 1/2)."""
    found = measure_exponents(nn.Sequential(*[Averaging(a, causal) for _ in range(5)]), vectors().double())
    assert found.gradient == pytest.approx(2 * math.log(abs(1 + a)), abs=1e-12)
    assert found.angle == pytest.approx(2 * math.log(abs(1 + a * survival) / abs(1 + a)), abs=1e-12)


def test_radial_differences_are_no_angles():
    """Scaling every token by its own length changes lengths, so that only what is across a token may count."""

    class Radial(nn.Linear):
        def forward(self, x):
            return super().forward(x) * x.norm(dim=2, keepdim=True)

    model = nn.Sequential(*[Radial(3, 3, bias=False) for _ in range(4)]).double()
    for layer in model:
        nn.init.orthogonal_(layer.weight)
    assert abs(measure_exponents(model, vectors(d_model=3).double()).angle) < 1e-12


# ------------------------------------------------------------------------ an independent measurement


def test_angle_agrees_with_finite_differences():
    """Push pairs of nearly equal tokens through the blocks by hand: no hooks, no derivatives, no rescaling.

    The finite step 1e-5 errs by 1e-5 relative; what remains is the scatter of both averages.
    """
    model = encoder(norm_first=True, n_layers=4, d_model=32, activation="gelu").double().eval()
    tokens = vectors(d_model=32, batch=8).double()
    found = measure_exponents(model, tokens, n_seeds=8)
    samples = []
    with torch.no_grad():
        for k in range(64):
            g = torch.Generator().manual_seed(1000 + k)
            base = tokens[k % 8, k % 12].expand(1, 12, 32)
            signs = torch.randn(1, 12, 1, generator=g, dtype=torch.float64)
            x = base + 1e-5 * signs * torch.randn(1, 1, 32, generator=g, dtype=torch.float64)
            angles = []
            for layer in [nn.Identity(), *model.layers]:
                x = layer(x)
                unit = nn.functional.normalize(x[0], dim=1)
                angles.append((unit - unit.mean(0)).square().sum().item())
            samples.append(math.log(angles[-1] / angles[0]) / 4)
    stderr = np.std(samples, ddof=1) / 8
    assert abs(found.angle - np.mean(samples)) < 4 * math.hypot(stderr, found.angle_stderr)
    assert found.angle < -0.05  # so that the comparison is not between zeros


def test_gradient_agrees_with_the_jacobian_of_one_token():
    """At collapse the summed gradient sees the model's Jacobian at a single token: E|Jᵀr|² = ‖J‖²."""
    model = encoder(n_layers=3, d_model=16, activation="gelu").double().eval()
    tokens = vectors(batch=1, d_model=16).double()
    found = measure_exponents(model, tokens, n_seeds=200)
    logs = []
    for token in tokens[0]:
        jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None, None])[0, 0], token)
        r = torch.randn(400, 16, dtype=torch.float64)
        logs.append(((r @ jacobian).square().sum(1) / r.square().sum(1)).log().mean().item() / 3)
    # Draws pick among the 12 tokens with replacement; 200 of them know the mean over tokens to found.gradient_stderr.
    assert abs(found.gradient - np.mean(logs)) < 4 * found.gradient_stderr


def test_backward_differences_grow_as_forward_ones():
    """Transposition: the angle exponent is also that of gradients that cancel between tokens (theory/23)."""
    model = encoder(norm_first=True, n_layers=4, d_model=64).double().eval()
    tokens = vectors(batch=1).double()
    found = measure_exponents(model, tokens, n_seeds=40)
    logs = []
    for k in range(40):
        x = tokens[:, k % 12 : k % 12 + 1].expand(1, 12, 64).clone().requires_grad_()
        y = model(x)
        r = torch.randn(y.shape, dtype=torch.float64)
        (g,) = torch.autograd.grad(y, x, r - r.mean(1, keepdim=True))
        backward = (
            (g - g.mean(1, keepdim=True)).square().sum() / (r - r.mean(1, keepdim=True)).square().sum()
        ).log()
        logs.append((backward + (x[0, 0].square().sum() / y[0, 0].square().sum()).log()).item() / 4)
    stderr = np.std(logs, ddof=1) / math.sqrt(len(logs))
    # Directions along the token differ between the two by 1 part in d_model = 64 over the 4 blocks.
    assert abs(found.angle - np.mean(logs)) < 4 * math.hypot(stderr, found.angle_stderr) + 1 / 64 / 4


# ------------------------------------------------------------------------------------------- theory


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("draw", ["default", "unit gain"])
def test_theory_matches_measurement(name, draw):
    """Four standard errors over 12 weight draws, and 1/d_model for the finite width (at most 1.1/d)."""
    d_model = 128
    model, tokens = build(name, d_model=d_model, n_layers=4)
    default = draw_default if name in FAMILIES[:2] else lambda m: m.apply(m._init_weights)
    found = measure_exponents(
        model, tokens, n_seeds=12, reinit=default if draw == "default" else draw_unit_gain
    )
    assert found.predicted is not None, found.theory
    assert not found.remarks
    assert abs(found.angle - found.predicted.angle) < 4 * found.angle_stderr + 1.1 / d_model
    assert abs(found.gradient - found.predicted.gradient) < 4 * found.gradient_stderr + 1.1 / d_model


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_theory_matches_the_given_tokens(norm):
    """Layer by layer, from embedded tokens that are nearly orthogonal: norm, similarity and gradient.

    Independent vectors of width 128 and finite width leave 3 % after 6 blocks; draws scatter less.
    """
    model = encoder(norm_first=norm == "pre", d_model=128, activation="gelu")
    found = measure_exponents(model, vectors(d_model=128, batch=8), n_seeds=12, reinit=draw_unit_gain)
    profile = found.profile.mean("draw")
    run = propagate(found.theory, 6, q=1.0, rho=0.0)
    if norm == "pre":  # where normalisation follows the sum q is 1 and the recursion's q its divisor
        np.testing.assert_allclose(profile.q / profile.q[0], run.q, rtol=0.03)
    np.testing.assert_allclose(profile.similarity, 1 - run.epsilon, atol=0.03)
    predicted = predict_exponents(found.theory, at="run", depth=6, q=1.0)
    assert found.at_tokens.angle == pytest.approx(predicted.angle, abs=0.03)
    if norm == "pre":
        assert found.at_tokens.gradient == pytest.approx(predicted.gradient, abs=0.03)


@pytest.mark.parametrize("name", ["pre", "post", "causal"])
def test_predicted_profiles(name):
    """Layer by layer: four standard errors over 6 draws, and 2/d per block for the finite width."""
    d_model, n_layers = 128, 6
    if name == "causal":
        model, tokens = NanoGPT(d_model=d_model, n_layers=n_layers), ids()
    else:
        model = encoder(norm_first=name == "pre", d_model=d_model, n_layers=n_layers, activation="gelu")
        tokens = vectors(d_model=d_model)
    found = measure_exponents(model, tokens, n_seeds=6, reinit=draw_unit_gain)
    predicted = predict_profile(found)
    for field in ("similarity", "log_gradient"):
        values = found.profile[field]
        width = 2 / d_model * abs(np.arange(n_layers + 1) - (n_layers if field == "log_gradient" else 0))
        allowed = 4 * values.std("draw", ddof=1) / math.sqrt(6) + width + 1e-3
        assert (abs(values.mean("draw") - predicted[field]) < allowed).all()
    assert float(predicted.similarity[-1]) > 0.4  # so that the comparison is not between zeros


def test_no_profile_without_theory():
    found = measure_exponents(orthogonal_stack(1.0, n_layers=2), vectors(d_model=16).double())
    with pytest.raises(ValueError, match="theory has no profile for this model: Linear has not the layers"):
        predict_profile(found)


def test_stderr_is_the_scatter_of_repeated_measurements():
    """24 measurements of one model with other seeds: rms z must be near 1, within the chi-square's 4 sigma."""
    model = NanoGPT(d_model=32, n_layers=3)
    runs = [measure_exponents(model, ids(batch=2), n_seeds=4, seed=100 * k) for k in range(24)]
    for name in ("angle", "gradient"):
        values = np.array([getattr(r, name) for r in runs])
        stderr = np.array([getattr(r, f"{name}_stderr") for r in runs])
        z = (values - values.mean()) / np.sqrt(np.mean(stderr**2))
        assert 0.5 < np.sqrt(np.mean(z**2)) < 1.6


def three_lines():
    """The examples of the notebook for each family, which its reader is to copy."""
    text = (Path(__file__).parents[1] / "notebooks" / "edge-of-chaos.md").read_text(encoding="utf8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("code", three_lines(), ids=lambda code: re.split(r"[(.]", code)[1][:20].strip())
def test_three_lines_of_the_notebook(code, capsys):
    names = {"torch": torch, "nn": nn, "tr": trainability}
    if "transformers" in code:
        names["transformers"] = pytest.importorskip("transformers")
    if "GPTConfig" in code and "transformers" not in code:  # nanoGPT is a file of its own; this is its model
        names["GPTConfig"] = lambda **options: types.SimpleNamespace(vocab_size=50, **options)
        names["GPT"] = nano_gpt
    assert len(code.strip().splitlines()) == 3
    exec(code, names)
    text = capsys.readouterr().out
    assert "6 blocks" in text
    assert "theory    angle" in text


def nano_gpt(config):
    model = NanoGPT(d_model=config.n_embd, n_layers=config.n_layer, n_heads=config.n_head)
    model.config = config
    return model


def test_three_lines_cover_the_families():
    assert len(three_lines()) == len(FAMILIES)


# ------------------------------------------------------------------------------------- state and dtypes


def state(model):
    """Everything of a model and of the process that a measurement could disturb."""
    return {
        "parameters": {n: (id(p), p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()},
        "gradients": {
            n: None if p.grad is None else (id(p.grad), p.grad.clone()) for n, p in model.named_parameters()
        },
        "buffers": {n: (id(b), b.clone()) for n, b in model.named_buffers()},
        "modes": [m.training for m in model.modules()],
        "hooks": [
            len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
            for m in model.modules()
        ],
        "attributes": [sorted(vars(m)) for m in model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state()[1],  # noqa: NPY002
        "python": random.getstate(),
        "flags": (
            torch.backends.mha.get_fastpath_enabled(),
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.is_grad_enabled(),
        ),
    }


def same(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(
            a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)
        )
    if isinstance(a, np.ndarray):
        return np.array_equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def disturbed(model):
    """A model in a state worth restoring: mixed modes, a frozen parameter, gradients, a NaN in a buffer."""
    model.train()
    next(model.children()).eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.randn_like(parameters[1])
    model.register_buffer("counter", torch.tensor([1.0, float("nan")]))
    return model


@pytest.mark.parametrize("reinit", [None, draw_unit_gain], ids=["as is", "reinit"])
@pytest.mark.parametrize("name", FAMILIES)
def test_model_is_left_bit_for_bit(name, reinit):
    model, tokens = build(name)
    model = disturbed(model)
    before = state(model)
    measure_exponents(model, tokens, n_seeds=2, reinit=reinit)
    assert same(before, state(model))


def test_state_check_would_notice():
    """The comparison itself fails when a single bit of a weight, a mode or a gradient changes."""
    model = disturbed(NanoGPT(n_layers=2))
    before = state(model)
    for disturb in (
        lambda: model.train(),
        lambda: torch.rand(1),
        lambda: model.h[0].ln_1.weight.data.view(torch.int32)[0].add_(1),
        lambda: model.h[0].ln_1.register_forward_hook(lambda *_: None),
        lambda: setattr(model.h[0].ln_1.weight, "grad", torch.zeros(64)),
    ):
        disturb()
        after = state(model)
        assert not same(before, after)
        before = after


@pytest.mark.parametrize("where", ["forward", "backward", "reinit"])
def test_model_is_left_bit_for_bit_when_something_raises(where):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise KeyError("on purpose")

    def fail(*_):
        raise KeyError("on purpose")

    model = disturbed(NanoGPT(n_layers=3))
    if where == "forward":
        model.h[2].mlp.gelu.forward = fail
    elif where == "backward":
        model.h[1].mlp.gelu.forward = Fails.apply
    reinit = None
    if where == "reinit":

        def reinit(m):
            draw_unit_gain(m)
            m.h[0].ln_1.weight = nn.Parameter(torch.zeros(64))
            m.counter = torch.zeros(2)
            m.zero_grad()
            fail()

    before = state(model)
    with pytest.raises(KeyError, match="on purpose"):
        measure_exponents(model, ids(), reinit=reinit)
    assert same(before, state(model))


@pytest.mark.parametrize("name", FAMILIES)
def test_single_and_bfloat16_beside_double(name):
    """Single precision agrees to its rounding; bfloat16, with 8 bits, to 2^-8 per block and its own scatter."""
    model, tokens = build(name)
    found = {
        d: measure_exponents(copy.deepcopy(model).to(d), tokens)
        for d in (torch.float64, torch.float32, torch.bfloat16)
    }
    double, single, half = found.values()
    for exponent in ("angle", "gradient"):
        exact = getattr(double, exponent)
        assert getattr(single, exponent) == pytest.approx(exact, abs=1e-5)
        # bfloat16 rounds the weights too: another point of the same initialization, half a standard error away
        scatter = math.hypot(getattr(double, f"{exponent}_stderr"), getattr(half, f"{exponent}_stderr"))
        assert abs(getattr(half, exponent) - exact) < 2**-8 + scatter


def peak_bytes(function):
    """Peak of the memory that torch's allocator hands out while `function` runs."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        function()
    changes = [
        (e.start_ns(), e.nbytes()) for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"
    ]
    assert changes
    return max(np.cumsum([nbytes for _, nbytes in sorted(changes, key=lambda c: c[0])]))


@pytest.mark.parametrize(("reinit", "passes"), [(None, 1.0), (draw_unit_gain, 2.0)], ids=["as is", "reinit"])
def test_memory_within_two_forward_backward_passes(reinit, passes):
    """Without gradients of parameters one pass is enough; a copy of the parameters comes on top with `reinit`."""
    model, tokens = NanoGPT(d_model=64, n_layers=8), ids(batch=8, n_tokens=32)

    def one_pass():
        model(tokens).square().mean().backward()
        model.zero_grad(set_to_none=True)

    one_pass()
    reference = peak_bytes(one_pass)
    assert peak_bytes(lambda: measure_exponents(model, tokens, n_seeds=2, reinit=reinit)) < passes * reference
    assert reference > 8 * 4 * 8 * 32 * 64 * 10  # ten activations per block at the least: the meter works


# ---------------------------------------------------------------------------------------- what it sees


@pytest.mark.parametrize("causal", [False, True])
def test_mask_is_seen(causal):
    found = measure_exponents(NanoGPT(causal=causal, n_layers=2), ids())
    assert found.theory.causal is causal


def test_copied_layers_are_remarked():
    """nn.TransformerEncoder deep-copies its layer: tokens then collapse more than twice as fast as they should."""
    copies = measure_exponents(encoder(copies=True), vectors())
    apart = measure_exponents(encoder(copies=False), vectors())
    assert "equal weights" in copies.remarks[0]
    assert copies.angle < 2 * apart.angle < 0
    assert not apart.remarks


def test_where_normalisation_follows_the_sum_the_size_of_the_input_is_no_matter():
    """The first normalisation divides gradients by the size of what enters: an effect of the input, not of depth."""
    model = encoder()
    found = [measure_exponents(model, scale * vectors()) for scale in (1.0, 50.0)]
    assert found[0].gradient == pytest.approx(found[1].gradient, abs=1e-5)
    assert found[1].at_tokens.gradient < found[0].at_tokens.gradient - 2 * math.log(50) / 6 + 0.3


def test_profile_is_that_of_the_tokens():
    """q and p/q of the embedded tokens by hand, and rates that add up to the profile's ends."""
    model = NanoGPT().eval()
    found = measure_exponents(model, ids())
    x = (model.wte(ids()) + model.wpe.weight[:12]).detach().double()
    gram = x @ x.transpose(1, 2) / 64
    q = gram.diagonal(dim1=1, dim2=2).mean().item()
    p = ((gram.sum((1, 2)) - gram.diagonal(dim1=1, dim2=2).sum(1)) / (12 * 11)).mean().item()
    profile = found.profile
    assert profile.sizes == {"draw": 4, "layer": 7, "block": 6}
    np.testing.assert_allclose(profile.q[:, 0], q, rtol=1e-6)
    np.testing.assert_allclose(profile.p[:, 0], p, atol=1e-7)
    assert profile.gradient_growth.mean().item() == pytest.approx(found.gradient, rel=1e-12)
    assert profile.angle_growth.mean().item() == pytest.approx(found.angle, rel=1e-12)
    assert profile.log_gradient[:, 0].mean().item() / 6 == pytest.approx(found.at_tokens.gradient, rel=1e-12)
    assert (profile.log_gradient[:, -1] == 0).all()


def test_sequence_first_batches_are_turned():
    """The same weights and tokens in torch's (n_tokens, batch, d_model) order give the same numbers."""
    batched = encoder(n_layers=2)
    turned = encoder(n_layers=2, batch_first=False)
    turned.load_state_dict(batched.state_dict())
    a = measure_exponents(batched, vectors())
    b = measure_exponents(turned, vectors().transpose(0, 1))
    assert (a.angle, a.gradient) == pytest.approx(
        (b.angle, b.gradient), rel=1e-5
    )  # float32 sums in another order


@pytest.mark.parametrize("name", ["GPT2Model", "LlamaModel", "BertModel"])
def test_embedded_inputs(name):
    """Vectors go in as inputs_embeds; those of the model's own table give what the ids give."""
    model, tokens = build(name)
    embedded = model.get_input_embeddings()(tokens).detach()
    assert measure_exponents(model, embedded).angle == pytest.approx(
        measure_exponents(model, tokens).angle, rel=1e-6
    )


def test_a_shared_block_is_measured_call_by_call():
    """A block called three times, as in ALBERT, is given three times."""

    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Linear(8, 8, bias=False)
            nn.init.orthogonal_(self.block.weight, 2.0)

        def forward(self, x):
            return self.block(self.block(self.block(x)))

    model = Shared()
    found = measure_exponents(model, vectors(d_model=8), blocks=[model.block] * 3)
    assert found.gradient == pytest.approx(math.log(4), abs=1e-6)
    assert found.n_blocks == 3
    with pytest.raises(ValueError, match="calls more blocks than the 1 given"):
        measure_exponents(model, vectors(d_model=8), blocks=[model.block])


def test_attention_runs_on_its_math_path_whatever_the_user_prefers():
    """The fused CPU kernel has no forward derivative; the measurement does not need the user to know."""
    block = NanoGPT().h[0]
    x = torch.randn(1, 4, 64)
    with torch.no_grad(), torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError):
        block(torch.autograd.forward_ad.make_dual(x, x))
    assert math.isfinite(measure_exponents(NanoGPT(), ids()).angle)


# ------------------------------------------------------------------------------------------ bad input


class OneBlock(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.linear = kind, nn.Linear(8, 8)

    def forward(self, x):
        if self.kind == "no_grad":
            with torch.no_grad():
                return self.linear(x)
        if self.kind == "kernel":
            y = self.linear(x)[:, None]
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
                return nn.functional.scaled_dot_product_attention(y, y, y)[:, 0]
        bad = {
            "detach": lambda x: x.detach(),
            "integers": lambda x: x.long(),
            "infinite": lambda x: x / 0,
            "zero": lambda x: x * 0,
            "longer": lambda x: torch.cat([x, x], 1),
            "custom": NoForwardDerivative.apply,
        }[self.kind]
        return bad(self.linear(x))


class NoForwardDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, g):
        return g * 2


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no_grad", "block 1 .OneBlock. gives an output that cannot be differentiated"),
        ("detach", "cannot be differentiated"),
        ("integers", "returns torch.int64; it must return the stream"),
        ("infinite", "the stream after block 1 is not finite"),
        ("zero", "exactly 0"),
        ("longer", r"shape \(4, 24, 8\) after block 1"),
        ("custom", "custom autograd function has no derivative .* use plain tensor operations in its place"),
        ("kernel", "_scaled_dot_product_flash_attention_for_cpu has no derivative .* math path"),
    ],
)
def test_blocks_that_cannot_be_measured(kind, message):
    model = nn.Sequential(OneBlock(kind), OneBlock(kind))
    with pytest.raises(ValueError, match=message):
        measure_exponents(model, vectors(d_model=8))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (ids() + 45, r"'wte' has 50 entries, and 9\d is asked for"),
        (ids() - 45, r"'wte' has 50 entries, and -4\d is asked for"),
        (ids(n_tokens=1), "has 1 token; an angle needs at least 2"),
        (torch.ones(2, 3, 4, dtype=torch.long), r"integer ids need \(batch, n_tokens\)"),
        (torch.ones(2, 3, dtype=torch.bool), "torch.bool"),
        (torch.full((2, 3, 4), torch.nan), "must be finite"),
        (torch.ones(3), r"vectors need \(batch, n_tokens, d_model\)"),
    ],
)
def test_tokens_that_cannot_be_measured(tokens, message):
    with pytest.raises(ValueError, match=message):
        measure_exponents(NanoGPT(n_layers=2), tokens)


def test_other_bad_input():
    model = NanoGPT(n_layers=2)
    with pytest.raises(ValueError, match="n_seeds=1 leaves no standard error"):
        measure_exponents(model, ids(), n_seeds=1)
    with pytest.raises(ValueError, match=r"it must be a torch\.nn\.Module"):
        measure_exponents(lambda x: x, ids())
    with pytest.raises(ValueError, match="Linear has no residual blocks"):
        measure_exponents(nn.Linear(3, 3), vectors(d_model=3))
    with pytest.raises(ValueError, match="no module of that name"):
        measure_exponents(model, ids(), blocks="layers")
    with pytest.raises(ValueError, match=r"blocks\[1\] .Linear. is not a part of the model"):
        measure_exponents(model, ids(), blocks=[model.h[0], nn.Linear(3, 3)])
    with pytest.raises(ValueError, match="called the 3 blocks only 2 times"):
        measure_exponents(model, ids(), blocks=[*model.h, model.h[0]])
    two = nn.ModuleDict(
        {"a": nn.ModuleList([nn.Linear(3, 3)] * 2), "b": nn.ModuleList([nn.Linear(3, 3)] * 2)}
    )
    with pytest.raises(ValueError, match="several lists of blocks: 'a', 'b'"):
        measure_exponents(two, vectors(d_model=3))


def test_no_warning_is_left_behind():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measure_exponents(NanoGPT(n_layers=2), ids())
