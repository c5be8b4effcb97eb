"""Commands of token geometry: `trainability exponents` and `trainability diagnose`."""

import dataclasses
import importlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .critical import CriticalInitialization
    from .diagnosis import Diagnosis
    from .initialization import Exponents

__all__ = ["diagnose", "exponents"]

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def exponents(
    alpha_attn: Annotated[float, typer.Option(help="Residual strength of attention.")],
    alpha_mlp: Annotated[float, typer.Option(help="Residual strength of the MLP.")],
    sigma_attn: Annotated[float, typer.Option(help="Standard deviation of the attention logits.")] = 1.0,
    sigma_mlp: Annotated[float, typer.Option(help="Gain of the MLP's first layer.")] = 1.0,
    activation: Annotated[
        str, typer.Option(help="tanh, erf, relu, leaky_relu, gelu, silu, identity, swiglu or geglu.")
    ] = "gelu",
    n_tokens: Annotated[int, typer.Option(help="Tokens that attend to each other.")] = 64,
    sigma_value: Annotated[float, typer.Option(help="Gain of the value path.")] = 1.0,
    sigma_out: Annotated[float, typer.Option(help="Gain of the MLP's second layer.")] = 1.0,
    sigma_bias: Annotated[float, typer.Option(help="Standard deviation of the MLP's first bias.")] = 0.0,
    causal: Annotated[bool, typer.Option(help="Tokens attend to earlier ones only.")] = False,
    residual: Annotated[
        str, typer.Option(help="The skip: sqrt (of 1 - alpha^2), normed (the same, normalised) or one.")
    ] = "sqrt",
    norm: Annotated[str, typer.Option(help="Layer normalisation pre (before branches) or post.")] = "pre",
    at: Annotated[str, typer.Option(help="collapsed, stable or run; run needs --depth.")] = "collapsed",
    depth: Annotated[
        int | None, typer.Option(help="Blocks: average over them, and say what would be critical for them.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Predict both exponents of a transformer's initialization, in nats per block.

    `trainability exponents --alpha-attn 0.5 --alpha-mlp 0.5 --sigma-mlp 1.5 --activation tanh` answers with the
    growth of angles between tokens, the growth of gradients towards the input, and the depths over which they
    change by a factor e. With `--depth 64` it adds the nearest initialization that is critical for 64 blocks.

    In Python: `trainability.predict_exponents`, `trainability.critical_initialization`.
    """
    from .critical import critical_initialization
    from .geometry import predict_exponents
    from .initialization import Initialization

    init = Initialization(
        n_tokens=n_tokens,
        alpha_attn=alpha_attn,
        alpha_mlp=alpha_mlp,
        sigma_attn=sigma_attn,
        sigma_mlp=sigma_mlp,
        activation=activation,
        sigma_value=sigma_value,
        sigma_out=sigma_out,
        sigma_bias=sigma_bias,
        causal=causal,
        residual=residual,
        norm=norm,
    )
    found = predict_exponents(init, at=at, depth=depth)
    critical = critical_initialization(init, depth=depth) if depth else None
    values = {
        **_exponents(found),
        "initialization": dataclasses.asdict(init),
        "critical": _critical(critical),
    }
    angle, gradient = found.depth_scales
    lines = [repr(found), f"  1/|exponent|: {angle:.3g} blocks (angle), {gradient:.3g} blocks (gradient)"]
    if critical:
        lines.append(f"  critical: {critical}")
    _answer(values, as_json, "\n".join(lines))


def diagnose(
    factory: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="A function of no arguments that returns (model, tokens), or a model.",
        ),
    ],
    blocks: Annotated[
        str | None, typer.Option(help="Dotted name of the list of residual blocks, if it is not found.")
    ] = None,
    n_tokens: Annotated[
        int, typer.Option(help="Length of random sequences, where the function returns a model alone.")
    ] = 64,
    n_seeds: Annotated[int, typer.Option(help="Draws of random probes.")] = 4,
    seed: Annotated[
        int, typer.Option(help="Seed of torch while the model is built, of tokens and probes.")
    ] = 0,
    picture: Annotated[
        Path | None, typer.Option(help="Draw token similarity and gradient norms per block to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure both exponents of a torch model, and say what would bring it to the edge of chaos.

    `trainability diagnose mypackage.models:build` imports mypackage.models, from the current folder if it is
    there, and calls build(). The function returns the model and a batch of tokens, as ids (batch, n_tokens) or as
    vectors; or a model alone, which is then given random ids of its largest embedding.

    In Python: `trainability.diagnose`, `trainability.measure_exponents`.
    """
    import torch

    from .diagnosis import diagnose

    torch.manual_seed(seed)
    made = _imported(factory)()
    model, tokens = made if isinstance(made, tuple | list) and len(made) == 2 else (made, None)
    if tokens is None:
        tokens = _random_ids(factory, model, n_tokens)
    found = diagnose(model, tokens, blocks=blocks, n_seeds=n_seeds, seed=seed)
    if picture:
        _draw_profiles(found, picture)
    _answer(_diagnosis(found), as_json, repr(found))


def _imported(name: str) -> Callable[[], Any]:
    """Find the function that `package.module:function` names."""
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        raise ValueError(f"factory {name!r}: write package.module:function, as in mypackage.models:build")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # something that the module itself needs
        raise ValueError(f"factory {name!r}: there is no module {error.name!r} here or installed") from error
    for part in path.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ValueError(f"factory {name!r}: {module_name} has no function {path!r}")
    return found


def _random_ids(factory: str, model: Any, n_tokens: int):
    """A batch of random ids from the vocabulary of the model's largest embedding."""
    import torch

    if not isinstance(model, torch.nn.Module):
        raise ValueError(
            f"factory {factory!r} returned a {type(model).__name__}; it must return (model, tokens) or a "
            "torch.nn.Module"
        )
    tables = [m.num_embeddings for m in model.modules() if isinstance(m, torch.nn.Embedding)]
    if not tables:
        raise ValueError(
            f"factory {factory!r}: the model has no nn.Embedding to choose random ids from; return (model, tokens)"
        )
    return torch.randint(0, max(tables), (4, n_tokens))


def _draw_profiles(found: "Diagnosis", picture: Path) -> None:
    import matplotlib.pyplot as plt

    from . import plot
    from .measure import predict_profile

    label, known = found.model, found.measured.predicted is not None
    predicted = {label: predict_profile(found.measured)} if known else None
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    plot.token_similarity({label: found.measured}, predicted=predicted, ax=left)
    plot.gradient_norms({label: found.measured}, predicted=predicted, ax=right)
    plot.save(figure, picture)


def _diagnosis(found: "Diagnosis") -> dict[str, Any]:
    m = found.measured
    return {
        "model": found.model,
        "n_blocks": m.n_blocks,
        **_exponents(m),
        "at_tokens": _exponents(m.at_tokens),
        "is_critical": found.is_critical,
        "theory": m.theory if isinstance(m.theory, str) else dataclasses.asdict(m.theory),
        "predicted": _exponents(m.predicted) if m.predicted else None,
        "remarks": list(m.remarks),
        "critical": _critical(found.critical),
    }


def _exponents(found: "Exponents") -> dict[str, Any]:
    angle, gradient = found.depth_scales
    return {
        "phase": found.phase,
        "angle": found.angle,
        "gradient": found.gradient,
        "angle_stderr": found.angle_stderr,
        "gradient_stderr": found.gradient_stderr,
        "depth_scales": {"angle": angle, "gradient": gradient},
    }


def _critical(found: "CriticalInitialization | None") -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "kind": found.kind,
        "depth": found.depth,
        **{name: getattr(found.initialization, name) for name in found.vary},
        "exponents": _exponents(found.exponents),
    }


def _finite(value: Any) -> Any:
    """Replace what JSON cannot say, an infinite depth scale, by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _answer(values: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(_finite(values), allow_nan=False) if as_json else text)
