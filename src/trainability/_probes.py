"""Small disturbances sent through the blocks of a torch model, forwards and backwards."""

import contextlib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ._blocks import Visit, run


def backpropagate(
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
        size, spread = size_and_spread(exact)
        growth[k] = log(size, f"the gradient before block {k + 1}")
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
    return stack([growth[k] for k in layers[:-1]]), stack([similarity[k] for k in layers])


def push_forward(
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
            growth.append(log(_squared_angle(point, tangent), f"the angle after block {k}"))
        point = at_mean(point).contiguous()
        if k >= len(blocks):
            return point
        tangent = tangent - tangent.mean(1, keepdim=True)
        tangent = tangent / _squared_angle(point, tangent).sqrt()[:, None, None]
        return forward_ad.make_dual(point, tangent.to(stream.dtype))

    with torch.no_grad(), _derivatives_exist(), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
        run(model, tokens, blocks, visit)
    return stack(growth)


def is_causal(model: nn.Module, tokens: Tensor, blocks: Sequence[nn.Module]) -> bool:
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
        missing = re.search(r"forward.AD with (\S+)|derivative for (\S+)|jvp", str(error))
        if missing is None:
            raise
        kernel = next((name for name in missing.groups() if name), "a custom autograd function")
        raise ValueError(
            f"{kernel} has no derivative of the kind needed; use plain tensor operations in its place, and for "
            "attention torch's scaled_dot_product_attention, whose math path has all derivatives "
            "(in HuggingFace models attn_implementation='sdpa' or 'eager', experts_implementation='eager')"
        ) from error


def size_and_spread(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean square q of vectors (batch, n, d), and q - p from their differences, without cancellation; (batch,)."""
    spread = (x - x.mean(1, keepdim=True)).square().mean(2).sum(1) / (x.shape[1] - 1)
    return x.square().mean((1, 2)), spread


def _squared_angle(point: Tensor, tangent: Tensor) -> Tensor:
    """Mean of 1 - cos between tokens at `point` that are moved along `tangent`, to leading order; (batch,)."""
    point = point[:, :1].double()
    length = point.square().sum(2, keepdim=True)
    across = tangent - (tangent * point).sum(2, keepdim=True) / length * point
    return size_and_spread(across / length.sqrt())[1] * point.shape[2]


def at_mean(stream: Tensor) -> Tensor:
    """Put tokens that agree up to rounding exactly at one point; sums of gradients pass unchanged."""
    return stream.mean(1, keepdim=True).expand_as(stream)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like)


def log(size: Tensor, what: str) -> Tensor:
    """Log of a squared size, (batch,); a `ValueError` where there is none."""
    if not bool(size.isfinite().all()):
        raise ValueError(
            f"{what} is not finite; measure in a wider dtype, or look for weights that are not finite"
        )
    if not bool((size > 0).all()):
        raise ValueError(f"{what} is exactly 0, so that nothing can be said of its growth")
    return size.log()


def stack(layers: list[Tensor]) -> np.ndarray:
    return torch.stack(layers, dim=1).cpu().numpy()
