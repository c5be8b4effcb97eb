"""Token geometry on the command line: the answers are those of Python, and errors teach."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import trainability as tr

sys.path.insert(0, str(Path(__file__).parent))
from command_line import main, run

STRENGTHS = ("--alpha-attn", "0.5", "--alpha-mlp", "0.3")

FACTORIES = """
import torch
from torch import nn

def encoder():
    layer = nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, norm_first=True)
    return nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)

def build():
    return encoder(), torch.randn(8, 4, 32)

class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.encoder = nn.Embedding(20, 32), encoder()

    def forward(self, ids):
        return self.encoder(self.words(ids))

def number():
    return 3

def linear():
    return nn.Sequential(*[nn.Linear(8, 8) for _ in range(3)]), torch.randn(2, 5, 8)
"""


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A module of factories in the current folder, forgotten afterwards."""
    (tmp_path / "my_models.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_models"
    sys.modules.pop("my_models", None)


def test_exponents_are_those_of_python():
    options = {"sigma_mlp": 1.5, "sigma_attn": 2.0, "activation": "erf", "n_tokens": 16, "residual": "normed"}
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    init = tr.Initialization(alpha_attn=0.5, alpha_mlp=0.3, **options)
    found = tr.predict_exponents(init)
    answer = json.loads(run("exponents", *STRENGTHS, *words, "--json").stdout)
    assert (answer["angle"], answer["gradient"]) == (found.angle, found.gradient)
    assert answer["phase"] == found.phase
    assert answer["depth_scales"]["angle"] == pytest.approx(1 / abs(found.angle), rel=1e-15)
    assert tr.Initialization(**answer["initialization"]) == init
    assert answer["critical"] is None
    assert repr(found) in run("exponents", *STRENGTHS, *words).stdout


def test_depth_adds_the_critical_initialization():
    answer = json.loads(run("exponents", *STRENGTHS, "--depth", "24", "--json").stdout)
    change = answer["critical"]
    assert change["kind"] == "deep enough"
    init = tr.Initialization(**answer["initialization"]).with_values(
        **{name: change[name] for name in ("sigma_mlp", "alpha_attn", "alpha_mlp")}
    )
    exponents = tr.predict_exponents(init)
    assert max(abs(exponents.angle), abs(exponents.gradient)) * 24 <= 0.25
    assert "both depth scales exceed 4 x 24 blocks" in run("exponents", *STRENGTHS, "--depth", "24").stdout


def test_infinite_depth_scales_are_null_in_json():
    """JSON has no infinity: He-initialised relu neither explodes nor vanishes."""
    answer = json.loads(run("exponents", *STRENGTHS, "--activation", "relu", "--json").stdout)
    assert answer["gradient"] == pytest.approx(0, abs=1e-14)
    answer = json.loads(run("exponents", "--alpha-attn", "0", "--alpha-mlp", "0", "--json").stdout)
    assert answer["depth_scales"] == {"angle": None, "gradient": None}


def test_diagnose_measures_the_factory(models, tmp_path):
    words = ("diagnose", f"{models}:build", "--picture", str(tmp_path / "p.png"))
    answer = json.loads(run(*words, "--json").stdout)
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, nhead=4, dim_feedforward=64, norm_first=True)
    model = nn.TransformerEncoder(layer, num_layers=3, enable_nested_tensor=False)
    found = tr.diagnose(model, torch.randn(8, 4, 32))
    measured = found.measured
    assert (answer["angle"], answer["gradient_stderr"]) == (measured.angle, measured.gradient_stderr)
    assert answer["n_blocks"] == 3
    assert answer["is_critical"] is found.is_critical
    assert answer["theory"] == dataclasses.asdict(measured.theory)
    assert answer["critical"]["alpha_attn"] == found.critical.initialization.alpha_attn
    assert (tmp_path / "p.png").stat().st_size > 10_000
    assert repr(found) in run(*words).stdout


def test_a_model_alone_is_given_random_ids(models):
    words = ("diagnose", f"{models}:Embedded", "--n-tokens", "9", "--seed", "3", "--json")
    first, second = (run(*words).stdout for _ in range(2))
    assert first == second
    answer = json.loads(first)
    assert answer["theory"]["n_tokens"] == 9
    assert math.isfinite(answer["predicted"]["angle"])


def test_unknown_architectures_are_measured_and_drawn(models, tmp_path):
    answer = json.loads(run("diagnose", f"{models}:linear", "--picture", "linear.png", "--json").stdout)
    assert answer["predicted"] is None
    assert answer["critical"] is None
    assert "Linear has not the layers" in answer["theory"]
    assert (tmp_path / "linear.png").exists()


@pytest.mark.parametrize("command", ["exponents", "diagnose"])
def test_help_teaches_and_names_the_function(command):
    text = run(command, "--help").stdout
    assert "In Python" in text
    assert "trainability." in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("exponents", "--alpha-attn", "1.5", "--alpha-mlp", "0.3"), "alpha_attn=1.5 must lie in [0, 1]"),
        (("exponents", *STRENGTHS, "--activation", "swish"), "known are tanh, erf"),
        (("exponents", *STRENGTHS, "--residual", "one"), "depth"),
        (("exponents", *STRENGTHS, "--depth", "0"), "depth=0"),
        (("diagnose", "my_models"), "write package.module:function"),
        (("diagnose", "no_models:build"), "there is no module 'no_models' here or installed"),
        (("diagnose", "my_models:nothing"), "my_models has no function 'nothing'"),
        (("diagnose", "my_models:number"), "returned a int; it must return (model, tokens)"),
        (("diagnose", "my_models:encoder"), "no nn.Embedding to choose random ids from"),
        (
            ("diagnose", "my_models:build", "--blocks", "h"),
            "blocks='h': the model has no module of that name",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(models, monkeypatch, capsys, words, message):
    assert main(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
