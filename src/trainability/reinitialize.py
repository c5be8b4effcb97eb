"""Draw a torch model's weights at the scales of an initialization."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ._blocks import as_tokens, find_blocks, left_as_found, run
from ._families import BlockWeights, block_weights
from .initialization import Initialization

__all__ = ["apply_initialization"]


def apply_initialization(
    model: nn.Module,
    init: Initialization,
    *,
    tokens: Any = None,
    blocks: str | Sequence[nn.Module] | None = None,
    seed: int = 0,
) -> None:
    """Draw the weights of a model's blocks anew, in place, at the scales of `init`.

    Every matrix of every block becomes Gaussian with the standard deviation of `Initialization.weight_std`;
    biases become 0, but for those of the MLP's input, which are drawn with `sigma_bias`. Embeddings, heads and
    normalisation layers stay as they are. Where normalisation comes before the branches, their strengths
    are relative to the stream that enters the first block, so that small embeddings need no change.

    Parameters
    ----------
    model : torch.nn.Module
        In the style of GPT-2, Llama or BERT, or built of `nn.TransformerEncoderLayer`.
    init : Initialization
        With residual="one", the skip of all these models, and the model's own activation and place of
        normalisation. Its n_tokens, n_heads and causal describe the model and are not applied; the widths are
        the model's.
    tokens : array_like, optional
        A batch as for `measure_exponents`, on which the entering stream is measured. Left out, its mean square
        is that of the embeddings outside the blocks, summed, or 1 where there are none.
    blocks : str or sequence of modules, optional
    seed : int, optional
        Of the draw; torch's global random state is not touched.

    Raises
    ------
    ValueError
        If the family is not known, or its activation, skip or normalisation is not that of `init`.

    Examples
    --------
    >>> layer = nn.TransformerEncoderLayer(64, nhead=4, dim_feedforward=256, norm_first=True)
    >>> model = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)
    >>> init = Initialization(n_tokens=16, alpha_attn=0.1, alpha_mlp=0.2, sigma_attn=1.0, sigma_mlp=1.5,
    ...                       activation="relu", residual="one")
    >>> apply_initialization(model, init)
    >>> round(float(model.layers[0].linear1.weight.std()), 2)  # 1.5 / sqrt(64)
    0.19
    """
    found = find_blocks(model, blocks)
    weights = [_checked(block, init) for block in found]
    entering = 1.0
    if weights[0].pre_norm:
        variance = (
            _embedding_variance(model, found) if tokens is None else _stream_variance(model, tokens, found)
        )
        entering = math.sqrt(variance)
    generator = torch.Generator().manual_seed(seed)
    for w in weights:
        d_model, d_mlp, between = w.mlp_in[0].shape[1], w.mlp_out.shape[1], w.attn_out.shape[1]
        std = init.weight_std(d_model=d_model, d_mlp=d_mlp)
        _draw(w.query, std["query"], generator)
        _draw(w.key, std["key"], generator)
        _draw(w.value, std["value"], generator)
        _draw(w.attn_out, std["attn_out"] * math.sqrt(d_model / between) * entering, generator)
        for matrix in w.mlp_in:
            _draw(matrix, std["mlp_in"], generator)
        _draw(w.mlp_out, std["mlp_out"] * entering, generator)
        for bias in w.mlp_bias:
            _draw(bias, std["mlp_bias"], generator)
        for bias in w.other_biases:
            _draw(bias, 0.0, generator)


def _checked(block: nn.Module, init: Initialization) -> BlockWeights:
    found = block_weights(block)
    if isinstance(found, str):
        raise ValueError(f"the weights cannot be drawn at given scales: {found}")
    norm = "pre" if found.pre_norm else "post"
    for name, have, want in (
        ("residual", "one", init.residual),
        ("norm", norm, init.norm),
        ("activation", found.activation, init.activation),
    ):
        if have != want:
            raise ValueError(f"init has {name}={want!r}, but {type(block).__name__} has {name}={have!r}")
    return found


def _draw(weight: Tensor, std: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) * std)


def _embedding_variance(model: nn.Module, blocks: Iterable[nn.Module]) -> float:
    """Mean square of a token's entries where embeddings of independent kinds are added."""
    inside = {module for block in blocks for module in block.modules()}
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding) and m not in inside]
    variance = sum(float(table.weight.detach().double().square().mean()) for table in tables)
    return variance or 1.0


def _stream_variance(model: nn.Module, tokens: Any, blocks: Sequence[nn.Module]) -> float:
    variance = 1.0

    def look(k: int, stream: Tensor) -> Tensor:
        nonlocal variance
        if k == 0:
            variance = float(stream.double().square().mean())
        return stream

    with left_as_found(model), torch.no_grad():
        run(model, as_tokens(model, tokens), blocks, look)
    return variance
