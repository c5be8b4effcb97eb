"""The steps of `Optimizer` in place, member after member, each parameter read and written once."""

import numpy as np
import torch
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._optimizers import CLIP_EPS, OPTIMIZERS, Optimizer
from ._products import INNER
from ._rows import constant
from ._vector import emitters

_KINDS = {kind: number for number, kind in enumerate(OPTIMIZERS)}
_SGD, _MOMENTUM, _ADAM, _ADAMW = _KINDS.values()

# Numbers of one member's step, in this order; those that its optimizer lacks are 0.
_CLIP, _DECAY, _FACTOR, _MOMENTUM_KEPT, _UNBIAS, _ROOT, _KEEP1, _FRESH1, _KEEP2, _FRESH2, _EPS = range(11)
_N_NUMBERS = 11


def numbers_of(optimizer: Optimizer, steps: range) -> np.ndarray:
    """What `update` is told of each step and member, (step, member, number), in the precision of the parameters."""
    values, n = optimizer.values, len(optimizer.rates)
    t = np.array(steps)[:, None]
    found = np.zeros((len(steps), n, _N_NUMBERS))
    found[..., _CLIP] = np.where(values["clip"] > 0, values["clip"], np.inf)
    found[..., _DECAY] = values["weight_decay"]
    found[..., _FACTOR] = optimizer.warmed(t)
    if optimizer.kind == "momentum":
        found[..., _MOMENTUM_KEPT] = values["momentum"]
    elif optimizer.kind != "sgd":
        beta1, beta2 = values["beta1"], values["beta2"]
        found[..., _UNBIAS] = found[..., _FACTOR] / (1 - beta1**t)
        found[..., _ROOT] = 1 / np.sqrt(1 - beta2**t)
        found[..., _KEEP1], found[..., _FRESH1] = beta1, 1 - beta1
        found[..., _KEEP2], found[..., _FRESH2] = beta2, 1 - beta2
        found[..., _EPS] = values["eps"]
    return found.astype(optimizer.rates.numpy().dtype)


def arrays_of(
    optimizer: Optimizer, W: torch.Tensor, gradient: torch.Tensor, memory: tuple[torch.Tensor, ...]
) -> tuple[int, bool, bool, tuple[np.ndarray, ...]]:
    """The optimizer's number, whether it clips and decays, and the arrays that `update` takes rows of."""
    filled = (*memory, W, W)[:2]  # what an optimizer does not remember is never touched
    arrays = tuple(x.numpy() for x in (W, gradient, optimizer.rates, *filled))
    return _KINDS[optimizer.kind], optimizer.clips, optimizer.decays, arrays


def descend(
    optimizer: Optimizer,
    t: int,
    W: torch.Tensor,
    gradient: torch.Tensor,
    memory: tuple[torch.Tensor, ...],
    running: torch.Tensor,
) -> None:
    """Step number t, the first being 1, of the members that run; W, gradient and memory are overwritten."""
    numbers = numbers_of(optimizer, range(t, t + 1))[0]
    kind, clips, decays, arrays = arrays_of(optimizer, W, gradient, memory)
    _descend(kind, clips, decays, arrays, numbers, running.numpy())


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(kind, clips, decays, arrays, numbers, running):
    for member in range(len(running)):
        if running[member]:
            update(kind, clips, decays, arrays, member, numbers[member])


@njit(**INNER)
def update(kind, clips, decays, arrays, member, numbers):
    """One member's step."""
    W, G, rates, firsts, seconds = arrays
    w, g, rate, first, second = W[member], G[member], rates[member], firsts[member], seconds[member]
    if clips:
        _clip(g, numbers[_CLIP])
    if decays:
        _decay(w, g, rate, numbers, kind == _ADAMW)
    if kind == _SGD:
        _sgd(w, g, rate, first, second, numbers)
    elif kind == _MOMENTUM:
        _momentum(w, g, rate, first, second, numbers)
    else:
        _adam(w, g, rate, first, second, numbers)


@njit(**INNER)
def _clip(g, most):
    total = 0.0
    for i in range(len(g)):
        total += np.float64(g[i]) * g[i]
    factor = most / (np.sqrt(total) + CLIP_EPS)
    if factor < 1:
        for i in range(len(g)):
            g[i] *= factor


@njit(**INNER)
def _decay(w, g, rate, numbers, decoupled):
    factor, decay = numbers[_FACTOR], numbers[_DECAY]
    if decoupled:
        for i in range(len(w)):
            w[i] -= rate[i] * factor * decay * w[i]
    else:
        for i in range(len(w)):
            g[i] += decay * w[i]


def _in_place(formula):
    """Make an intrinsic that applies `formula` to all parameters: whole lane vectors, and the rest one by one.

    The formula gets an emitter, the member's numbers in all lanes, and w, g, rate and what is remembered; it
    returns the new w and memory.
    """

    @intrinsic
    def apply(typing, w, g, rate, first, second, numbers):
        if any(array.layout != "C" for array in (w, g, rate, first, second, numbers)):
            raise TypeError("parameters must stand side by side")

        def generate(context, builder, signature, arguments):
            count = context.make_array(w)(context, builder, arguments[0]).nitems

            def loop(start, stop, width):
                *parameters, table = emitters(context, builder, signature, arguments, width)
                emit, targets = parameters[0], (parameters[0], *parameters[3:])
                known = [
                    emit.splat(builder.load(builder.gep(table.data, [constant(i)])))
                    for i in range(_N_NUMBERS)
                ]
                with cgutils.for_range_slice(builder, start, stop, constant(width)) as (i, _):
                    values = [each.load(i) for each in parameters]
                    new = formula(emit, known, *values)
                    for target, value in zip(targets, new, strict=False):
                        target.store(value, i)

            width = emitters(context, builder, signature, arguments)[0].width
            whole = builder.and_(count, constant(-width))
            loop(constant(0), whole, width)
            loop(whole, count, 1)
            return context.get_dummy_value()

        return types.void(w, g, rate, first, second, numbers), generate

    return apply


@_in_place
def _sgd(emit, numbers, w, g, rate, first, second):
    return (emit.fma(emit.negated(emit.builder.fmul(rate, numbers[_FACTOR])), g, w),)


@_in_place
def _momentum(emit, numbers, w, g, rate, first, second):
    total = emit.fma(numbers[_MOMENTUM_KEPT], first, g)
    return emit.fma(emit.negated(emit.builder.fmul(rate, numbers[_FACTOR])), total, w), total


@_in_place
def _adam(emit, numbers, w, g, rate, first, second):
    b = emit.builder
    mean = emit.fma(numbers[_KEEP1], first, b.fmul(numbers[_FRESH1], g))
    square = emit.fma(numbers[_KEEP2], second, b.fmul(numbers[_FRESH2], b.fmul(g, g)))
    scale = emit.fma(emit.root(square), numbers[_ROOT], numbers[_EPS])
    change = b.fdiv(b.fmul(b.fmul(rate, numbers[_UNBIAS]), mean), scale)
    return b.fsub(w, change), mean, square
