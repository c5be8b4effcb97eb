"""Angle and gradient exponent of a torch model, measured on the user's own weights and tokens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from ._blocks import as_tokens, find_blocks, left_as_found
from ._families import are_copies, block_weights, read_initialization
from ._probes import at_mean, backpropagate, is_causal, log, push_forward, size_and_spread, stack
from .geometry import Exponents, Initialization, predict_exponents, propagate
from .gram import propagate_gram, simplex_gram

__all__ = ["MeasuredExponents", "measure_exponents", "predict_profile"]

_COPIES = (
    "the blocks hold equal weights (nn.TransformerEncoder copies its layer); theory takes them independent"
)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class MeasuredExponents(Exponents):
    """Exponents of a model where its tokens coincide, with what its own tokens do and what theory says.

    Parameters
    ----------
    at_tokens : Exponents
        The same two rates on the tokens as given: mean change per block of log(1 - p/q), and of the squared
        gradient under a cotangent that is independent between tokens.
    profile : xarray.Dataset
        Dims `draw` (n_seeds), `layer` (n_blocks + 1: the stream that enters, then that after each block) and
        `block` (n_blocks). On the tokens: q, p, similarity p/q, log_gradient (log of the mean squared entry of
        ∂L/∂x, relative to the last layer), gradient_similarity. At the collapsed state: angle_growth,
        gradient_growth, in nats.
    theory : Initialization or str
        The theory's point that the weights amount to, or in words why there is none.
    predicted : Exponents or None
        What theory predicts at that point, at collapse and for this depth.
    remarks : tuple of str
        Where the model departs from the theory's assumptions.
    """

    at_tokens: Exponents
    profile: xr.Dataset
    theory: Initialization | str
    predicted: Exponents | None = None
    remarks: tuple[str, ...] = ()

    @property
    def n_blocks(self) -> int:
        """Blocks that the exponents are averaged over."""
        return self.profile.sizes["block"]


def measure_exponents(
    model: nn.Module,
    tokens: Any,
    *,
    blocks: str | Sequence[nn.Module] | None = None,
    n_seeds: int = 4,
    reinit: Callable[[nn.Module], Any] | None = None,
    seed: int = 0,
) -> MeasuredExponents:
    """Measure the angle and the gradient exponent of a torch model.

    Both are growth rates per block at the collapsed state, where all tokens of a sequence are one vector:
    a state that every transformer preserves, whatever its mask. The vector is one that enters the first block
    (of unit mean square where normalisation follows the sum, as it is before every later block). Each rate
    is averaged over all blocks, so that exponent x n_blocks is the change through the whole model.

    - Angle: growth of ε = 1 - cos between tokens that differ infinitesimally, by forward derivatives, for
      tokens that drift along the sequence. Under full attention every pattern of differences has the same
      rate; under causal attention the drift is the slowest one to contract.
    - Gradient: growth, from output to input, of |Σ_i ∂L/∂x_i|² for a loss L with random cotangent. At the
      collapsed state this sum obeys a recursion of its own, and it outlives every other part of the gradient.

    Parameters
    ----------
    model : torch.nn.Module
        Left bit for bit as found, also when an exception is raised. It is measured in evaluation mode,
        without dropout.
    tokens : array_like
        Integer ids, shape (batch, n_tokens), or the vectors that the model takes instead.
    blocks : str or sequence of modules, optional
        The residual blocks, or the dotted name of the list that holds them. Left out, the largest list of
        modules of one class.
    n_seeds : int, optional
        Random draws of cotangents and directions, and of the weights where `reinit` is given.
    reinit : callable, optional
        ``reinit(model)`` draws the weights anew, in place, from torch's global random state, which is seeded
        before each call. Left out, the model's own weights are measured.
    seed : int, optional

    Returns
    -------
    MeasuredExponents
        Standard errors are over weight draws with `reinit`; without, they are over random probes and sequences,
        and tell how well the exponents of these very weights are known.

    Raises
    ------
    ValueError
        If there are no blocks, a token is outside the vocabulary, there are too few draws for a standard
        error, a block has no derivative, or the stream or its gradient becomes infinite or exactly 0.

    Notes
    -----
    Torch's scaled dot-product attention has forward derivatives on its math path alone, which is taken for
    them, one block at a time; gradients use the model's own kernels. No gradients of parameters are formed:
    memory stays below one forward-backward pass (0.7 measured), or, with `reinit`, below one pass and a copy
    of the parameters. Sums are taken in float64 and perturbations rescaled at every block: a bfloat16 model can
    be measured, and any depth. A collapse of the given tokens deeper than rounding, 1 - p/q < eps², counts as eps².

    References
    ----------
    Cowsik, Nebabu, Qi and Ganguli, arXiv:2403.02579.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> layer = nn.TransformerEncoderLayer(64, nhead=4, dim_feedforward=256, norm_first=True)
    >>> model = nn.TransformerEncoder(layer, num_layers=6, enable_nested_tensor=False)
    >>> measured = measure_exponents(model, torch.randn(16, 4, 64))
    >>> measured.phase, measured.n_blocks
    ('ordered, exploding', 6)
    """
    found = find_blocks(model, blocks)
    ids = as_tokens(model, tokens)
    if n_seeds < 2:
        raise ValueError(f"n_seeds={n_seeds} leaves no standard error; use at least 2")
    draws = []
    with left_as_found(model, weights=reinit is not None):
        for k in range(seed, seed + n_seeds):
            if reinit is not None:
                torch.manual_seed(k)
                reinit(model)
            draws.append(_draw(model, ids, found, torch.Generator().manual_seed(k)))
        causal = is_causal(model, ids, found)
        theory = read_initialization(
            found,
            n_tokens=draws[0].n_tokens,
            causal=causal,
            stream_variance=float(np.mean([draw.q[:, 0] for draw in draws])),
        )
        remarks = (_COPIES,) if are_copies(found) else ()

    def mean(growths: list[np.ndarray], *, probed: bool) -> tuple[float, float]:
        """Mean over draws and sequences; independent of each other are weight draws, or else probes or sequences."""
        samples = np.mean(growths, axis=2)  # (draw, sequence)
        if reinit is not None:
            samples = samples.mean(axis=1)
        elif not probed:
            samples = samples.mean(axis=0) if samples.shape[1] > 1 else samples[:, 0]
        return _mean_and_stderr(samples.ravel())

    angle, angle_stderr = mean([draw.angle_growth for draw in draws], probed=True)
    gradient, gradient_stderr = mean([draw.gradient_growth for draw in draws], probed=True)
    tokens_angle = mean([np.diff(np.log(draw.epsilon), axis=1) for draw in draws], probed=False)
    tokens_gradient = mean([-np.diff(draw.log_gradient, axis=1) for draw in draws], probed=False)
    return MeasuredExponents(
        angle,
        gradient,
        angle_stderr,
        gradient_stderr,
        at_tokens=Exponents(tokens_angle[0], tokens_gradient[0], tokens_angle[1], tokens_gradient[1]),
        profile=_profile(draws),
        theory=theory,
        predicted=None if isinstance(theory, str) else _predict(theory, depth=len(found)),
        remarks=remarks,
    )


def _predict(init: Initialization, *, depth: int) -> Exponents:
    """The collapsed exponents of a stack whose strengths are relative to the stream that enters it."""
    return predict_exponents(init, depth=depth, q=1.0 if init.norm == "pre" else None)


def predict_profile(measured: MeasuredExponents, *, n_runs: int = 16) -> xr.Dataset:
    """What theory predicts for the profile of a measured model, layer by layer.

    Starts from tokens of the measured mean similarity before the first block, all pairs alike, and from independent
    gradients after the last.

    Parameters
    ----------
    measured : MeasuredExponents
        Of an architecture that theory knows.
    n_runs : int, optional
        Draws of the attention weights under a causal mask, where profiles are means over draws; each takes
        n_blocks x n_heads x n_tokens³ operations. Full attention is averaged exactly.

    Returns
    -------
    xarray.Dataset
        Along `layer` = 0 … n_blocks, similarity and log_gradient as in `measured.profile`.

    Raises
    ------
    ValueError
        If theory has no point for the model, or n_runs < 1.

    Notes
    -----
    Within four standard errors of 6 weight draws, plus 2/d per block for the finite width, of TransformerEncoder
    with either norm and of nanoGPT at width d = 128. Where normalisation follows the sum, tokens are taken to enter
    with unit mean square, as they enter every later block; the first block of other embeddings is off.

    Examples
    --------
    >>> _ = torch.manual_seed(0)
    >>> layer = nn.TransformerEncoderLayer(64, nhead=4, dim_feedforward=256, norm_first=True)
    >>> model = nn.TransformerEncoder(layer, num_layers=6, enable_nested_tensor=False)
    >>> measured = measure_exponents(model, torch.randn(16, 4, 64))
    >>> predicted = predict_profile(measured)
    >>> predicted.sizes["layer"], bool(predicted.similarity[-1] > predicted.similarity[0])  # tokens merge
    (7, True)
    """
    init, depth = measured.theory, measured.n_blocks
    if isinstance(init, str):
        raise ValueError(f"theory has no profile for this model: {init}")
    rho = float(np.clip(measured.profile.similarity[:, 0].mean(), 0.0, 1 - np.finfo(float).eps))
    if init.causal:
        layers = propagate_gram(init, simplex_gram(init.n_tokens, rho=rho), depth, n_runs=n_runs)
    else:
        layers = propagate(init, depth, rho=rho).expand_dims(run=1)
    # Theory's gradient is that of the sum; where normalisation follows, the stream is the sum divided by its norm.
    squared = layers.gradient_q * layers.q if init.norm == "post" else layers.gradient_q
    log_gradient = np.log(squared).mean("run")
    return xr.Dataset(
        {
            "similarity": 1 - layers.epsilon.mean("run"),
            "log_gradient": log_gradient - log_gradient.isel(layer=-1),
        },
        attrs=layers.attrs,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Draw:
    """What one draw of weights and probes shows, for every sequence."""

    n_tokens: int
    q: np.ndarray  # (batch, n_blocks + 1), like epsilon = 1 - p/q and the two lines that follow it
    epsilon: np.ndarray
    log_gradient: np.ndarray
    gradient_similarity: np.ndarray
    angle_growth: np.ndarray  # (batch, n_blocks)
    gradient_growth: np.ndarray

    @property
    def p(self) -> np.ndarray:
        return self.q * (1 - self.epsilon)


def _draw(model: nn.Module, tokens: Tensor, blocks: Sequence[nn.Module], generator: torch.Generator) -> _Draw:
    q, epsilon = [], []
    n_tokens = 0

    def look(k: int, stream: Tensor) -> Tensor:
        nonlocal n_tokens
        n_tokens = stream.shape[1]
        size, spread = size_and_spread(stream.detach().double())
        log(size, f"the stream after block {k}" if k else "the stream before the first block")
        q.append(size)
        epsilon.append((spread / size).clamp(min=torch.finfo(stream.dtype).eps ** 2))
        return stream

    pick = torch.rand((), generator=generator)
    weights = block_weights(blocks[0])
    normed = not isinstance(weights, str) and not weights.pre_norm

    def collapse(stream: Tensor) -> Tensor:
        token = int(pick * stream.shape[1])
        vector = stream[:, token : token + 1]
        return (vector / vector.square().mean(2, keepdim=True).sqrt() if normed else vector).expand_as(stream)

    growth, overlap = backpropagate(
        model, tokens, blocks, enter=lambda x: x, share=look, independent=True, generator=generator
    )
    collapsed_growth, _ = backpropagate(
        model,
        tokens,
        blocks,
        enter=collapse,
        share=lambda k, x: at_mean(x),
        independent=False,
        generator=generator,
    )
    towards_input = np.cumsum(growth[:, ::-1], axis=1)[:, ::-1]
    return _Draw(
        n_tokens=n_tokens,
        q=stack(q),
        epsilon=stack(epsilon),
        log_gradient=np.pad(towards_input, ((0, 0), (0, 1))),
        gradient_similarity=overlap,
        angle_growth=push_forward(model, tokens, blocks, enter=collapse, generator=generator),
        gradient_growth=collapsed_growth,
    )


def _mean_and_stderr(samples: np.ndarray) -> tuple[float, float]:
    return float(samples.mean()), float(samples.std(ddof=1) / math.sqrt(samples.size))


def _profile(draws: Sequence[_Draw]) -> xr.Dataset:
    def over(dim: str, name: str, what: str) -> tuple:
        values = np.array([np.mean(getattr(draw, name), axis=0) for draw in draws])
        return ("draw", dim), values, {"long_name": what}

    profile = xr.Dataset(
        {
            "q": over("layer", "q", "mean square of a token's entries"),
            "p": over("layer", "p", "mean overlap of two tokens"),
            "log_gradient": over("layer", "log_gradient", "log of the mean squared gradient, last layer 0"),
            "gradient_similarity": over(
                "layer", "gradient_similarity", "overlap of two tokens' gradients / square"
            ),
            "angle_growth": over("block", "angle_growth", "growth of 1 - cos near collapse [nats]"),
            "gradient_growth": over("block", "gradient_growth", "growth of the gradient at collapse [nats]"),
        }
    )
    return profile.assign(similarity=(profile.p / profile.q).assign_attrs(long_name="p / q"))
