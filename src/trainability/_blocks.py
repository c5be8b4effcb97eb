"""The blocks of a torch model: finding them, looking at the stream between them, leaving the model as found."""

import contextlib
import inspect
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

# Two lists of blocks are told apart by size only if one has this many times the parameters of the other.
_CLEARLY_LARGER = 2.0

Visit = Callable[[int, Tensor], Tensor]


def find_blocks(model: nn.Module, blocks: str | Sequence[nn.Module] | None = None) -> list[nn.Module]:
    """Return the residual blocks of a model, in the order in which they are called.

    Parameters
    ----------
    model : torch.nn.Module
    blocks : str or sequence of modules, optional
        The dotted name of a module list, as in ``"transformer.h"``, or the blocks themselves. A block that
        the model calls several times is given as many times. Left out, the largest `nn.ModuleList` or
        `nn.Sequential` whose members are all of one class is taken.

    Raises
    ------
    ValueError
        If there is no such list, or two of similar size (an encoder and a decoder); the error lists them.

    Examples
    --------
    >>> model = nn.Sequential(nn.Embedding(10, 4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    >>> find_blocks(model)
    [Linear(in_features=4, out_features=4, bias=True), Linear(in_features=4, out_features=4, bias=True)]
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"model is a {type(model).__name__}; it must be a torch.nn.Module")
    if blocks is None:
        return _largest_list(model)
    if isinstance(blocks, str):
        modules = dict(model.named_modules())
        if blocks not in modules:
            raise ValueError(f"blocks={blocks!r}: the model has no module of that name")
        blocks = list(modules[blocks].children())
    found = list(blocks)
    inside = set(model.modules())
    if not found or not all(isinstance(block, nn.Module) for block in found):
        raise ValueError("blocks must be a module list with at least one block, or its dotted name")
    for k, block in enumerate(found):
        if block not in inside:
            raise ValueError(f"blocks[{k}] ({type(block).__name__}) is not a part of the model")
    return found


def _largest_list(model: nn.Module) -> list[nn.Module]:
    sizes: dict[str, int] = {}
    for name, module in model.named_modules():
        nested = any(name.startswith(f"{outer}.") or outer == "" for outer in sizes)
        if nested or not isinstance(module, nn.ModuleList | nn.Sequential):
            continue
        members = list(module.children())
        least = 1 if isinstance(module, nn.ModuleList) else 2
        size = sum(p.numel() for p in module.parameters())
        if len(members) >= least and len({_class_name(m) for m in members}) == 1 and size:
            sizes[name] = size
    if not sizes:
        raise ValueError(
            f"{type(model).__name__} has no residual blocks: no nn.ModuleList or nn.Sequential of modules of one "
            "class; pass blocks=[...], the modules between which the stream of tokens is to be looked at"
        )
    first, *others = sorted(sizes, key=sizes.__getitem__, reverse=True)
    if others and sizes[first] < _CLEARLY_LARGER * sizes[others[0]]:
        raise ValueError(
            f"{type(model).__name__} has several lists of blocks: {', '.join(map(repr, sizes))}; pass one of them "
            f"as blocks={first!r}"
        )
    return list(model.get_submodule(first).children())


def _class_name(module: nn.Module) -> str:
    """A parametrized module has a class of its own, so that classes are compared by name."""
    return f"{type(module).__module__}.{type(module).__qualname__}"


@contextlib.contextmanager
def left_as_found(model: nn.Module, *, weights: bool = False) -> Iterator[None]:
    """Switch a model to evaluation without parameter gradients, and leave it bit for bit as it was found.

    Restores training flags, `requires_grad`, gradients, buffers, the random states of torch, numpy and
    Python, and with `weights` the parameters as well, also when the body raises.
    """
    modules = list(model.modules())
    training = [module.training for module in modules]
    parameters = [
        (module, name, p) for module in modules for name, p in module._parameters.items() if p is not None
    ]
    unique = list(model.parameters())
    wanted = [(p, p.requires_grad, p.grad) for p in unique]
    held = [(module, name, b) for module in modules for name, b in module._buffers.items() if b is not None]
    copies = [(b, b.detach().clone()) for b in {id(b): b for *_, b in held}.values()]
    copies += [(p, p.detach().clone()) for p in unique] if weights else []
    devices = {p.device for p in unique if p.device.type == "cuda"}
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that a user's code may draw from
    fast_path = torch.backends.mha.get_fastpath_enabled()
    with torch.random.fork_rng(devices=sorted(devices, key=str)):
        try:
            model.eval()
            for p in unique:
                p.requires_grad_(False)
            # The fused encoder layer of torch has no derivatives and calls no hooks.
            torch.backends.mha.set_fastpath_enabled(False)
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast_path)
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002
            for module, flag in zip(modules, training, strict=True):
                module.training = flag
            for module, name, p in parameters:
                module._parameters[name] = p
            for module, name, b in held:
                module._buffers[name] = b
            with torch.no_grad():
                for tensor, copy in copies:
                    tensor.copy_(copy)
            for p, flag, grad in wanted:
                p.requires_grad_(flag)
                p.grad = grad


def as_tokens(model: nn.Module, tokens: Any) -> Tensor:
    """Return `tokens` as a tensor on the model's device, or raise a `ValueError` saying what is wrong."""
    tokens = torch.as_tensor(tokens)
    like = next((p for p in model.parameters() if p.is_floating_point()), None)
    if like is not None:
        tokens = tokens.to(like.device)
    if tokens.is_floating_point():
        if tokens.ndim < 2:
            raise ValueError(
                f"tokens has shape {tuple(tokens.shape)}; vectors need (batch, n_tokens, d_model)"
            )
        if not tokens.isfinite().all():
            raise ValueError("tokens must be finite")
        return tokens if like is None else tokens.to(like.dtype)
    if tokens.is_complex() or tokens.dtype == torch.bool:
        raise ValueError(f"tokens are {tokens.dtype}; they must be integer ids or floating-point vectors")
    tokens = tokens.long()
    if tokens.ndim not in (1, 2):
        raise ValueError(f"tokens has shape {tuple(tokens.shape)}; integer ids need (batch, n_tokens)")
    return tokens.reshape(-1, tokens.shape[-1])


def run(model: nn.Module, tokens: Tensor, blocks: Sequence[nn.Module], visit: Visit) -> None:
    """Call the model and show the stream between its blocks to `visit`.

    ``visit(k, stream)`` sees the stream that enters the first block (k = 0) and the stream that leaves the
    k-th, shape (batch, n_tokens, d_model), and returns what takes its place.

    Raises
    ------
    ValueError
        If a token is outside its vocabulary, the stream is no such tensor, has fewer than two tokens or
        changes shape, or a block is not called as often as it stands in `blocks`.
    """
    seen = 0
    shape: tuple[int, ...] = ()
    turned = False

    def show(k: int, stream: Tensor) -> Tensor:
        nonlocal shape, turned
        if k == 0:
            turned = _is_sequence_first(blocks[0], tokens, stream)
        batched = stream[None] if stream.ndim == 2 else stream.transpose(0, 1) if turned else stream
        if k == 0:
            shape = tuple(batched.shape)
            if shape[1] < 2:
                raise ValueError(f"tokens: a sequence has {shape[1]} token; an angle needs at least 2")
        elif tuple(batched.shape) != shape:
            raise ValueError(
                f"the stream has shape {tuple(batched.shape)} after block {k} and {shape} before the first; "
                "pass as blocks=[...] those between which it keeps its shape"
            )
        new = visit(k, batched)
        return new[0] if stream.ndim == 2 else new.transpose(0, 1) if turned else new

    def before(block: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if seen:
            return None
        for i, value in enumerate(args):
            if _is_stream(value):
                return (*args[:i], show(0, value), *args[i + 1 :]), kwargs
        for name, value in kwargs.items():
            if _is_stream(value):
                return args, {**kwargs, name: show(0, value)}
        raise ValueError(f"{type(block).__name__} is given no tensor of shape (batch, n_tokens, d_model)")

    def after(block: nn.Module, args: tuple, output: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen > len(blocks):
            raise ValueError(
                f"the forward pass calls more blocks than the {len(blocks)} given; pass blocks=[...], one per call"
            )
        first = output[0] if isinstance(output, tuple | list) and output else output
        if not _is_stream(first):
            kind = getattr(first, "dtype", type(first).__name__)
            raise ValueError(
                f"block {seen} ({type(block).__name__}) returns {kind}; it must return the stream, a floating-point "
                "tensor (batch, n_tokens, d_model), alone or first in a tuple"
            )
        new = show(seen, first)
        return new if first is output else type(output)((new, *output[1:]))

    handles = [blocks[0].register_forward_pre_hook(before, with_kwargs=True)]
    handles += [block.register_forward_hook(after) for block in dict.fromkeys(blocks)]
    handles += _vocabulary_checks(model)
    try:
        _call(model, tokens)
    finally:
        for handle in handles:
            handle.remove()
    if seen != len(blocks):
        raise ValueError(
            f"the forward pass called the {len(blocks)} blocks only {seen} times; pass as blocks=[...] those it uses"
        )


def _is_stream(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim in (2, 3)


def _is_sequence_first(block: nn.Module, tokens: Tensor, stream: Tensor) -> bool:
    """Whether the stream is (n_tokens, batch, d_model); where shapes do not tell, ask torch's attention layer."""
    if stream.ndim == 2:
        return False
    if not tokens.is_floating_point() and tokens.shape[0] != tokens.shape[1]:
        return stream.shape[:2] == tokens.T.shape
    return any(isinstance(m, nn.MultiheadAttention) and not m.batch_first for m in block.modules())


def _vocabulary_checks(model: nn.Module) -> list[RemovableHandle]:
    """Hooks that name the embedding which an index lies outside of; on a GPU torch could only abort."""

    def check(name: str, embedding: nn.Embedding, ids: Tensor) -> None:
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= embedding.num_embeddings:
            wrong = low if low < 0 else high
            raise ValueError(
                f"tokens: {name!r} has {embedding.num_embeddings} entries, and {wrong} is asked for"
            )

    return [
        module.register_forward_pre_hook(lambda m, args, name=name: check(name, m, args[0]) if args else None)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    ]


def _call(model: nn.Module, tokens: Tensor) -> None:
    """Call a model with ids or with vectors, and without a cache where it could keep one."""
    known = inspect.signature(model.forward).parameters
    options = {"use_cache": False} if "use_cache" in known else {}
    if tokens.is_floating_point() and "inputs_embeds" in known:
        model(inputs_embeds=tokens, **options)
    else:
        model(tokens, **options)
