"""The transformer that is trained: its parameters in one row of numbers, how they are drawn, and its loss.

A member's parameters are one row; an ensemble is a matrix (member, parameter), and each tensor of the model a view
of it with the member as leading axis. Products are explicit batched ones: one matrix product for each member.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from .._rng import stream

ACTIVATIONS: dict[str, Any] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "identity": lambda x: x,
    "silu": functional.silu,
    "erf": torch.erf,
    "leaky_relu": functional.leaky_relu,
}
NORMS = ("pre", "post", "none")
RESIDUALS = ("one", "sqrt", "normed")

# Added to a token's variance before its root is taken, as in flax; torch's own default is ten times larger.
NORM_EPS = 1e-6

# Parameter groups that share a learning rate, by the way they are grouped: for each the kinds of parameter.
_EVERY = ("embed", "norm1", "qkv", "attn_out", "norm2", "mlp", "norm_final", "head")
GROUPINGS: dict[str, dict[str, tuple[str, ...]]] = {
    "kind": {
        "attn": ("qkv", "attn_out"),
        "mlp": ("mlp",),
        "embed": ("embed",),
        "norm": ("norm1", "norm2", "norm_final"),
        "head": ("head",),
    },
    "attention": {
        "attn": ("norm1", "qkv", "attn_out"),
        "rest": ("embed", "norm2", "mlp", "norm_final", "head"),
    },
}


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One tensor of the model: where it stands in a member's row, and how it is drawn."""

    name: str
    kind: str
    shape: tuple[int, ...]
    start: int
    std: float  # of its entries at the start; 0 for those that begin at `constant`
    sigma: str = ""  # the hyperparameter that scales them
    constant: float = 0.0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def stop(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes and form of a model; everything that fixes its parameters and its forward pass."""

    d_model: int
    n_layers: int
    n_heads: int
    d_mlp: int
    window: int
    n_inputs: int
    n_outputs: int
    discrete: bool
    causal: bool
    norm: str
    final_norm: bool
    residual: str
    activation: str
    positions: bool
    embed_std: float

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Tensors in the order of a member's row."""
        d, m = self.d_model, self.d_mlp
        found: list[Parameter] = []

        def add(name: str, kind: str, shape: tuple[int, ...], std=0.0, sigma="", constant=0.0) -> None:
            start = found[-1].stop if found else 0
            found.append(
                Parameter(
                    name=name, kind=kind, shape=shape, start=start, std=std, sigma=sigma, constant=constant
                )
            )

        def add_norm(name: str, kind: str) -> None:
            add(f"{name}.gain", kind, (d,), constant=1.0)
            add(f"{name}.shift", kind, (d,))

        add("embed", "embed", (self.n_inputs, d), std=self.embed_std)
        for layer in range(self.n_layers):
            at = f"blocks.{layer}."
            if self.norm != "none":
                add_norm(f"{at}norm1", "norm1")
            for name, sigma in (("query", "root_attn"), ("key", "root_attn"), ("value", "sigma_value")):
                add(f"{at}{name}", "qkv", (d, d), std=d**-0.5, sigma=sigma)
            add(f"{at}attn_out", "attn_out", (d, d), std=d**-0.5)
            if self.norm != "none":
                add_norm(f"{at}norm2", "norm2")
            add(f"{at}mlp_in", "mlp", (d, m), std=d**-0.5, sigma="sigma_mlp")
            add(f"{at}mlp_in_bias", "mlp", (m,), std=1.0, sigma="sigma_bias")
            add(f"{at}mlp_out", "mlp", (m, d), std=m**-0.5, sigma="sigma_out")
            add(f"{at}mlp_out_bias", "mlp", (d,))
        if self.final_norm:
            add_norm("norm_final", "norm_final")
        add("head", "head", (d, self.n_outputs), std=d**-0.5)
        add("head_bias", "head", (self.n_outputs,))
        return tuple(found)

    @property
    def n_parameters(self) -> int:
        return self.parameters[-1].stop

    @cached_property
    def position_table(self) -> np.ndarray:
        """Sinusoids added to the embeddings, shape (window, d_model): sines on even places, cosines on odd ones."""
        table = np.zeros((self.window, self.d_model))
        if self.positions:
            place = np.arange(self.d_model) // 2 * 2 / self.d_model
            angle = np.arange(self.window)[:, None] * 1e4**-place
            table = np.where(np.arange(self.d_model) % 2, np.cos(angle), np.sin(angle))
        return table

    def group_index(self, groups: Mapping[str, tuple[str, ...]]) -> np.ndarray:
        """Number of the group of each parameter, shape (n_parameters,)."""
        index = np.empty(self.n_parameters, np.int64)
        for number, kinds in enumerate(groups.values()):
            for p in self.parameters:
                if p.kind in kinds:
                    index[p.start : p.stop] = number
        return index

    def draw(self, seed: int) -> np.ndarray:
        """Standard deviations times standard normals, with every sigma at 1: one row, in double precision.

        Each tensor has a stream of its own: the draw of one depends on no other's shape.
        """
        row = np.empty(self.n_parameters)
        for p in self.parameters:
            numbers = stream(seed, f"weights {p.name}").standard_normal(p.size) if p.std else np.zeros(p.size)
            row[p.start : p.stop] = p.constant + p.std * numbers
        return row

    def initial(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Initial parameters of n members, (n, n_parameters), at hyperparameters (n,) each.

        Matrices are scaled by their sigma and by `init_scale`; biases by their sigma alone.
        """
        rows = {int(seed): self.draw(int(seed)) for seed in np.unique(values["seed"])}
        W = np.stack([rows[int(seed)] for seed in values["seed"]])
        scales = {**values, "root_attn": np.sqrt(values["sigma_attn"])}
        for p in self.parameters:
            if p.std:
                scale = scales[p.sigma] if p.sigma else np.ones(len(W))
                if len(p.shape) == 2:
                    scale = scale * values["init_scale"]
                W[:, p.start : p.stop] *= scale[:, None]
        return W

    def views(self, W: torch.Tensor) -> dict[str, torch.Tensor]:
        """Tensors of an ensemble (member, parameter), as views (member, *shape)."""
        return {p.name: W[:, p.start : p.stop].unflatten(1, p.shape) for p in self.parameters}


def losses(
    model: Architecture,
    W: Mapping[str, torch.Tensor],
    inputs: torch.Tensor,
    targets: torch.Tensor,
    scored: torch.Tensor | None,
    strengths: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Mean loss of each member over the scored positions of a batch, shape (member,).

    Parameters
    ----------
    W : tensors (member, *shape), as `Architecture.views` gives them
    inputs : (member, example, window) symbols, or (member, example, window, n_inputs)
    targets : (member, example, window)
    scored : (window,) of bool, or None for all
    strengths : alpha_attn and alpha_mlp, (member, 1, 1) each
    """
    output = outputs(model, W, inputs, strengths)  # (member, example, position, n_outputs)
    if scored is not None:  # taking all by their indices would be slow
        output, targets = output[:, :, scored], targets[:, :, scored]
    output = output.to(W["head"].dtype)  # under autocast products are rougher than losses may be
    if model.discrete:
        lost = functional.cross_entropy(output.flatten(0, 2), targets.flatten(), reduction="none")
    else:
        lost = (output[..., 0] - targets).square()
    return lost.view(len(output), -1).mean(1)


def outputs(
    model: Architecture,
    W: Mapping[str, torch.Tensor],
    inputs: torch.Tensor,
    strengths: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    """Logits or values at every position, (member, example, window, n_outputs); arguments as for `losses`."""
    members, examples, window = inputs.shape[:3]
    x = embedded(model, W, inputs)
    for layer in range(model.n_layers):
        w = {name: W[f"blocks.{layer}.{name}"] for name in block_names(model)}
        x = block(model, w, x, strengths, (members, examples, window))
    if model.final_norm:
        x = _normalised(W, "norm_final", x)
    x = torch.baddbmm(W["head_bias"][:, None], x, W["head"])
    return x.view(members, examples, window, model.n_outputs)


def embedded(model: Architecture, W: Mapping[str, torch.Tensor], inputs: torch.Tensor) -> torch.Tensor:
    """The stream that enters the first block, (member, example · window, d_model)."""
    members, examples = inputs.shape[:2]
    embed = W["embed"]
    if model.discrete:
        offsets = torch.arange(members, device=embed.device)[:, None] * model.n_inputs
        x = functional.embedding(inputs.flatten(1) + offsets, embed.reshape(-1, model.d_model))
    else:
        x = torch.bmm(inputs.flatten(1, 2), embed)
    return x + torch.from_numpy(model.position_table).to(x).repeat(examples, 1)


def block(
    model: Architecture,
    w: Mapping[str, torch.Tensor],
    x: torch.Tensor,
    strengths: tuple[torch.Tensor, torch.Tensor],
    sizes: tuple[int, int, int],
) -> torch.Tensor:
    """The stream after one block: (member, example · window, d_model) in and out; `w` by `block_names`."""
    for branch, norm, alpha in ((_attention, "norm1", strengths[0]), (_mlp, "norm2", strengths[1])):
        y = _normalised(w, norm, x) if model.norm == "pre" else x
        skip = y if model.residual == "normed" else x
        if model.residual != "one":
            skip = torch.sqrt(1 - alpha * alpha) * skip
        x = skip + alpha * branch(model, w, y, sizes)
        if model.norm == "post":
            x = _normalised(w, norm, x)
    return x


def block_names(model: Architecture) -> list[str]:
    """Names of the tensors of one block."""
    at = "blocks.0."
    return [p.name.removeprefix(at) for p in model.parameters if p.name.startswith(at)]


def _normalised(w: Mapping[str, torch.Tensor], name: str, x: torch.Tensor) -> torch.Tensor:
    unit = functional.layer_norm(x, x.shape[-1:], eps=NORM_EPS)
    return unit * w[f"{name}.gain"][:, None] + w[f"{name}.shift"][:, None]


def _attention(model: Architecture, w: Mapping[str, torch.Tensor], y: torch.Tensor, sizes) -> torch.Tensor:
    members, examples, window = sizes
    width = model.d_model // model.n_heads

    def heads(name: str) -> torch.Tensor:  # (member · example · head, token, width)
        projected = torch.bmm(y, w[name]).view(members * examples, window, model.n_heads, width)
        return projected.transpose(1, 2).reshape(-1, window, width)

    query, key, value = heads("query"), heads("key"), heads("value")
    logits = torch.bmm(query, key.transpose(1, 2)) * width**-0.5
    if model.causal:
        mask = torch.ones(window, window, dtype=torch.bool, device=y.device).tril()
        logits = logits.masked_fill(~mask, -torch.inf)
    mixed = torch.bmm(logits.softmax(-1), value).view(members * examples, model.n_heads, window, width)
    return torch.bmm(mixed.transpose(1, 2).reshape(y.shape), w["attn_out"])


def _mlp(model: Architecture, w: Mapping[str, torch.Tensor], y: torch.Tensor, sizes) -> torch.Tensor:
    hidden = ACTIVATIONS[model.activation](torch.baddbmm(w["mlp_in_bias"][:, None], y, w["mlp_in"]))
    return torch.baddbmm(w["mlp_out_bias"][:, None], hidden, w["mlp_out"])
