"""Angle and gradient exponent of a torch model, measured on the user's own weights and tokens."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
import xarray as xr
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._blocks import Visit, as_tokens, find_blocks, left_as_found, run
from ._families import are_copies, read_initialization
from .geometry import Exponents, Initialization, predict_exponents

__all__ = ["MeasuredExponents", "measure_exponents"]

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
    a state that every transformer preserves, whatever its mask. Each is averaged over all blocks, so that
    exponent x n_blocks is the change through the whole model.

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
    of the parameters. Sums are
    taken in float64 and perturbations rescaled at every block: a bfloat16 model can be measured, and any
    depth. A collapse of the given tokens deeper than rounding, 1 - p/q < eps², counts as eps².

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
        causal = _is_causal(model, ids, found)
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
        size, spread = _size_and_spread(stream.detach().double())
        _log(size, f"the stream after block {k}" if k else "the stream before the first block")
        q.append(size)
        epsilon.append((spread / size).clamp(min=torch.finfo(stream.dtype).eps ** 2))
        return stream

    pick = torch.rand((), generator=generator)

    def collapse(stream: Tensor) -> Tensor:
        token = int(pick * stream.shape[1])
        return stream[:, token : token + 1].expand_as(stream)

    growth, overlap = _backpropagate(
        model, tokens, blocks, enter=lambda x: x, share=look, independent=True, generator=generator
    )
    collapsed_growth, _ = _backpropagate(
        model,
        tokens,
        blocks,
        enter=collapse,
        share=lambda k, x: _at_mean(x),
        independent=False,
        generator=generator,
    )
    towards_input = np.cumsum(growth[:, ::-1], axis=1)[:, ::-1]
    return _Draw(
        n_tokens=n_tokens,
        q=_stack(q),
        epsilon=_stack(epsilon),
        log_gradient=np.pad(towards_input, ((0, 0), (0, 1))),
        gradient_similarity=overlap,
        angle_growth=_push_forward(model, tokens, blocks, enter=collapse, generator=generator),
        gradient_growth=collapsed_growth,
    )


def _backpropagate(
    model: nn.Module,
    tokens: Tensor,
    blocks: Sequence[nn.Module],
    *,
    enter: Callable[[Tensor], Tensor],
    share: Visit,
    independent: bool,
    generator: torch.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Send a random cotangent from the last block's output back to the first block's input.

    Returns the log growth of its mean square through every block, (batch, n_blocks), and the similarity of
    its vectors at every layer, (batch, n_blocks + 1).
    """
    growth: dict[int, Tensor] = {}
    similarity: dict[int, Tensor] = {}
    ends: dict[int, Tensor] = {}

    def unit(k: int, gradient: Tensor) -> Tensor:
        exact = gradient.double()
        size, spread = _size_and_spread(exact)
        growth[k] = _log(size, f"the gradient before block {k + 1}")
        similarity[k] = 1 - spread / size
        return (exact / size.sqrt()[:, None, None]).to(gradient.dtype)

    def visit(k: int, stream: Tensor) -> Tensor:
        if k == 0:
            stream = enter(stream).detach().clone().requires_grad_()
        elif not stream.requires_grad:
            raise ValueError(
                f"block {k} ({type(blocks[k - 1]).__name__}) gives an output that cannot be differentiated with "
                "respect to its input; look for no_grad, inference_mode, detach or integer arithmetic in it"
            )
        if k in (0, len(blocks)):
            ends[k] = stream
        if k < len(blocks):
            stream.register_hook(partial(unit, k))
            return share(k, stream)
        return share(k, stream).detach()

    with torch.enable_grad(), _derivatives_exist():
        run(model, tokens, blocks, visit)
        end = ends[len(blocks)]
        cotangent = _normal(end if independent else end[:, :1], generator).expand_as(end)
        cotangent = unit(len(blocks), cotangent)
        torch.autograd.grad(end, ends[0], cotangent)
    layers = range(len(blocks) + 1)
    return _stack([growth[k] for k in layers[:-1]]), _stack([similarity[k] for k in layers])


def _push_forward(
    model: nn.Module,
    tokens: Tensor,
    blocks: Sequence[nn.Module],
    *,
    enter: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> np.ndarray:
    """Log growth of ε through every block, (batch, n_blocks), for infinitesimal differences of collapsed tokens."""
    growth: list[Tensor] = []

    def visit(k: int, stream: Tensor) -> Tensor:
        if k == 0:
            point = enter(stream)
            drift = torch.arange(stream.shape[1], dtype=torch.float64, device=stream.device)
            tangent = drift[None, :, None] * _normal(stream[:, :1], generator).double()
        else:
            point, moved = forward_ad.unpack_dual(stream)
            if moved is None:
                raise ValueError(
                    f"block {k} ({type(blocks[k - 1]).__name__}) loses forward derivatives; look for detach, or a "
                    "kernel of its own in place of torch's attention"
                )
            tangent = moved.double()
            growth.append(_log(_squared_angle(point, tangent), f"the angle after block {k}"))
        point = _at_mean(point).contiguous()
        if k >= len(blocks):
            return point
        tangent = tangent - tangent.mean(1, keepdim=True)
        tangent = tangent / _squared_angle(point, tangent).sqrt()[:, None, None]
        return forward_ad.make_dual(point, tangent.to(stream.dtype))

    with torch.no_grad(), _derivatives_exist(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        run(model, tokens, blocks, visit)
    return _stack(growth)


def _is_causal(model: nn.Module, tokens: Tensor, blocks: Sequence[nn.Module]) -> bool:
    """Whether the first token is blind to the last one."""
    blind = False

    def visit(k: int, stream: Tensor) -> Tensor:
        nonlocal blind
        if k == 0:
            only_last = torch.zeros_like(stream)
            only_last[:, -1] = torch.linspace(-1, 1, stream.shape[-1]).to(stream)
            return forward_ad.make_dual(stream, only_last)
        point, moved = forward_ad.unpack_dual(stream)
        if k == 1:
            blind = moved is not None and not moved[:, 0].any()
        return point

    with torch.no_grad(), _derivatives_exist(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        run(model, tokens, blocks, visit)
    return blind


@contextlib.contextmanager
def _derivatives_exist() -> Iterator[None]:
    """Turn torch's complaint about a kernel without derivatives into advice."""
    try:
        yield
    except RuntimeError as error:  # NotImplementedError is one
        missing = re.search(r"forward.AD with (\S+)|derivative for (\S+)|(jvp)|(vmap)", str(error))
        if missing is None:
            raise
        kernel = next((name for name in missing.groups()[:2] if name), "a custom autograd function")
        raise ValueError(
            f"{kernel} has no derivative of the kind needed; use torch's scaled_dot_product_attention, whose math "
            "path has all of them, or plain tensor operations (attn_implementation='sdpa' or 'eager')"
        ) from error


def _size_and_spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean square q of vectors (batch, n, d), and q - p from their differences, without cancellation; (batch,)."""
    spread = (x - x.mean(1, keepdim=True)).square().mean(2).sum(1) / (x.shape[1] - 1)
    return x.square().mean((1, 2)), spread


def _squared_angle(point: Tensor, tangent: Tensor) -> Tensor:
    """Mean of 1 - cos between tokens at `point` that are moved along `tangent`, to leading order; (batch,)."""
    point = point[:, :1].double()
    length = point.square().sum(2, keepdim=True)
    across = tangent - (tangent * point).sum(2, keepdim=True) / length * point
    return _size_and_spread(across / length.sqrt())[1] * point.shape[2]


def _at_mean(stream: Tensor) -> Tensor:
    """Put tokens that agree up to rounding exactly at one point; sums of gradients pass unchanged."""
    return stream.mean(1, keepdim=True).expand_as(stream)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)


def _log(size: Tensor, what: str) -> Tensor:
    """Log of a squared size, (batch,); a `ValueError` where there is none."""
    if not bool(size.isfinite().all()):
        raise ValueError(
            f"{what} is not finite; measure in a wider dtype, or look for weights that are not finite"
        )
    if not bool((size > 0).all()):
        raise ValueError(f"{what} is exactly 0, so that nothing can be said of its growth")
    return size.log()


def _stack(layers: list[Tensor]) -> np.ndarray:
    return torch.stack(layers, dim=1).cpu().numpy()


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
