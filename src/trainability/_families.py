"""Where the weights of known transformer families are, and which initialization they amount to.

A family is known by the names of its layers, so that a model written in the style of GPT-2, Llama or
BERT is recognised whatever its class is called.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .initialization import Initialization

# Layers of a block: query, key and value (or one layer that holds all three), attention output, the MLP's
# input (gate first, if gated) and output; and whether normalisation comes before the branches.
_LAYERS: dict[str, tuple[tuple[str, ...], str, tuple[str, ...], str, bool]] = {
    "GPT-2": (("attn.c_attn",), "attn.c_proj", ("mlp.c_fc",), "mlp.c_proj", True),
    "Llama": (
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.o_proj",
        ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.down_proj",
        True,
    ),
    "BERT": (
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.output.dense",
        ("intermediate.dense",),
        "output.dense",
        False,
    ),
    "TransformerEncoder": (("self_attn",), "self_attn.out_proj", ("linear1",), "linear2", False),
}
_ACTIVATION_AT = ("mlp.act", "mlp.gelu", "mlp.act_fn", "intermediate.intermediate_act_fn", "activation")
_HEADS_AT = ("n_head", "num_heads", "num_attention_heads")
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "erf": torch.erf,
    "relu": nn.functional.relu,
    "leaky_relu": nn.functional.leaky_relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "identity": nn.Identity(),
}
_GATED = {"silu": "swiglu", "gelu": "geglu"}
# The tanh formula of GELU is off by up to 5e-4; any two of the activations above differ by 0.01 or more.
_SAME_ACTIVATION = 2e-3
# A normalisation layer as initialised gives vectors of unit mean square, up to its epsilon.
_UNIT_GAIN = 0.02


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """The matrices of one block, as views (out, in) on its parameters: writing to them writes to the model."""

    family: str
    query: Tensor
    key: Tensor
    value: Tensor
    attn_out: Tensor
    mlp_in: tuple[Tensor, ...]
    mlp_out: Tensor
    mlp_bias: tuple[Tensor, ...]  # of mlp_in
    other_biases: tuple[Tensor, ...]
    activation: str
    n_heads: int
    pre_norm: bool


def block_weights(block: nn.Module) -> BlockWeights | str:
    """Return the weights of a block of a known family, or in words why it is none.

    Examples
    --------
    >>> weights = block_weights(nn.TransformerEncoderLayer(8, nhead=2, dim_feedforward=32))
    >>> weights.family, weights.activation, tuple(weights.query.shape), tuple(weights.mlp_out.shape)
    ('TransformerEncoder', 'relu', (8, 8), (8, 32))
    >>> block_weights(nn.Linear(8, 8))
    'Linear has not the layers of GPT-2, Llama, BERT or TransformerEncoder'
    """
    name = type(block).__name__
    modules = dict(block.named_modules())
    for family, (attn_in, attn_out, mlp_in, mlp_out, pre_norm) in _LAYERS.items():  # noqa: B007
        if {*attn_in, attn_out, *mlp_in, mlp_out} <= modules.keys():
            break
    else:
        *first, last = _LAYERS
        return f"{name} has not the layers of {', '.join(first)} or {last}"
    holders = [modules[n] for n in (*attn_in, attn_out, *mlp_in, mlp_out)]
    norms = []
    for module in modules.values():
        own = list(module.parameters(recurse=False))
        if own and module not in holders:
            if any(p.ndim != 1 for p in own):
                return f"{name} has a {type(module).__name__} besides the layers of {family}"
            norms.append(module)
    if len(norms) != 2:
        return f"{name} has {len(norms)} normalisation layers; {family} has 2"
    if not all(_is_unit_norm(norm) for norm in norms):
        return f"{name} has normalisation layers with gains other than 1"
    activation = _name_activation(next((a for a in _walk(block, _ACTIVATION_AT)), None), len(mlp_in))
    if activation is None:
        return f"{name} has an MLP activation other than {', '.join((*_ACTIVATIONS, *_GATED.values()))}"
    attention = [_matrix(modules[n]) for n in attn_in]
    if len(attention) == 1:
        attention = list(attention[0].chunk(3))
    n_heads = next(_walk(block, [f"{at}{h}" for at in _parents(attn_in[0]) for h in _HEADS_AT]), None)
    if n_heads is None:  # Llama's attention knows the width of a head
        n_heads = attention[0].shape[0] // next(_walk(block, ("self_attn.head_dim",)), attention[0].shape[0])
    mlp_bias = tuple(b for n in mlp_in if (b := getattr(modules[n], "bias", None)) is not None)
    in_mlp = {id(b) for b in mlp_bias}
    others = (p for holder in holders for n, p in holder.named_parameters(recurse=False) if "bias" in n)
    return BlockWeights(
        family=family,
        query=attention[0],
        key=attention[1],
        value=attention[2],
        attn_out=_matrix(modules[attn_out]),
        mlp_in=tuple(_matrix(modules[n]) for n in mlp_in),
        mlp_out=_matrix(modules[mlp_out]),
        mlp_bias=mlp_bias,
        other_biases=tuple(b for b in others if id(b) not in in_mlp),
        activation=activation,
        n_heads=int(n_heads),
        pre_norm=bool(getattr(block, "norm_first", pre_norm)),
    )


def read_initialization(
    blocks: Sequence[nn.Module], *, n_tokens: int, causal: bool, stream_variance: float
) -> Initialization | str:
    """Return the initialization that the weights of a model amount to, or in words why there is none.

    Root mean squares over all blocks. With normalisation before the branches their strengths are relative
    to the stream that enters the first block, which has mean square `stream_variance`.
    """
    weights = []
    for block in blocks:
        found = block_weights(block)
        if isinstance(found, str):
            return found
        weights.append(found)
    one = weights[0]
    d_model, d_mlp = one.mlp_in[0].shape[1], one.mlp_out.shape[1]
    entering = math.sqrt(stream_variance) if one.pre_norm else 1.0
    # d_model x value x attn_out stands for the gain of the value path, whatever the width between the two.
    between = math.sqrt(one.attn_out.shape[1] / d_model)
    return Initialization.from_std(
        n_tokens=n_tokens,
        d_model=d_model,
        d_mlp=d_mlp,
        query=_rms(w.query for w in weights),
        key=_rms(w.key for w in weights),
        value=_rms(w.value for w in weights),
        attn_out=_rms(w.attn_out for w in weights) * between / entering,
        mlp_in=_rms(m for w in weights for m in w.mlp_in),
        mlp_out=_rms(w.mlp_out for w in weights) / entering,
        sigma_bias=_rms(b for w in weights for b in w.mlp_bias),
        activation=one.activation,
        n_heads=one.n_heads if d_model % one.n_heads == 0 else 1,
        causal=causal,
        norm="pre" if one.pre_norm else "post",
    )


def are_copies(blocks: Sequence[nn.Module]) -> bool:
    """Whether two successive blocks have equal matrices, as copies of one layer do."""
    first, second = (
        [p for p in block.parameters() if p.ndim > 1 and p.any()]
        for block in (blocks[0], blocks[min(1, len(blocks) - 1)])
    )
    pairs = zip(first, second, strict=False)
    return len(blocks) > 1 and bool(first) and all(p.shape == q.shape and torch.equal(p, q) for p, q in pairs)


def _matrix(layer: Any) -> Tensor:
    """The weight of a layer as (out, in); GPT-2's Conv1D holds it transposed."""
    if isinstance(layer, nn.MultiheadAttention):
        return layer.in_proj_weight
    return layer.weight.T if type(layer).__name__ == "Conv1D" else layer.weight


def _parents(name: str) -> tuple[str, ...]:
    parent = name.rpartition(".")[0]
    return (f"{name}.", f"{parent}." if parent else "")


def _walk(block: nn.Module, paths: Iterable[str]):
    """Yield what stands at those of the dotted `paths` that exist."""
    for path in paths:
        here: Any = block
        for part in path.split("."):
            here = getattr(here, part, None)
        if here is not None:
            yield here


def _is_unit_norm(norm: nn.Module) -> bool:
    weight = next(norm.parameters())
    probe = torch.linspace(-1, 1, weight.numel(), device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        found = norm(probe).double()
    expected = probe.double() / probe.double().square().mean().sqrt()
    return bool((found - expected).square().mean() < _UNIT_GAIN**2)


def _name_activation(function: Any, n_inputs: int) -> str | None:
    """Name an activation by its values, so that every spelling of it is recognised."""
    if not callable(function):
        return None
    x = torch.linspace(-4, 4, 81)
    with torch.no_grad():
        values = function(x)
    for name, known in _ACTIVATIONS.items():
        if (values - known(x)).abs().max() < _SAME_ACTIVATION:
            return name if n_inputs == 1 else _GATED.get(name)
    return None


def _rms(tensors: Iterable[Tensor]) -> float:
    squares = [float(t.detach().double().square().mean()) for t in tensors]
    return math.sqrt(sum(squares) / len(squares)) if squares else 0.0
