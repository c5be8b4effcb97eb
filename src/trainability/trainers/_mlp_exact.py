"""Two networks whose training is smaller than it looks: no activation, and one row of data.

Both are exact; only the rounding differs from the general kernel's.

*No activation.* With X = U S Vᵀ the outputs are U (S u), u = (Vᵀ W0) w. Rows of W' = Vᵀ W0 move by
W'_i -= lr S_i r_i w with r = S u - Uᵀ y, whatever the number of rows of X, and the part of y outside the
span of U adds a constant to the loss.

*One row x.* W0 only ever moves along x, so the pre-activations z = x W0 are all there is to know of it:
z -= lr |x|² dz.
"""

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from ._mlp_kernel import LR_IN, LR_OUT, OFFSET, add_offset, aligned, keep, lost, padded, start_lane
from ._readout import SLOTS, TAIL, take_in
from ._vector import (
    IDENTITY,
    IN_STEP,
    RELU,
    ROWS,
    TANH,
    VECTOR_BYTES,
    descend,
    emit_slope,
    emitter_and_indices,
    relu_in_place,
    tanh_in_place,
)


@intrinsic
def _linear_rows(typing, s, weights, row_stride, out, gradient, size, rate, singular, targets, row, loss):
    """Take ROWS rows of W' one step, and add what they give to the output layer's gradient and to the loss."""

    def generate(context, builder, signature, arguments):
        emit, (weights, row_stride, out, gradient, size, rate, singular, targets, row, loss) = (
            emitter_and_indices(context, builder, signature, arguments)
        )
        singular, targets = (
            context.make_array(signature.args[k])(context, builder, array).data
            for k, array in ((7, singular), (8, targets))
        )
        u = emit.variables([emit.number(0)] * ROWS)
        with cgutils.for_range(builder, size) as loop:
            w = emit.load(emit.at(out, (loop.index, emit.stride)))
            for i in range(ROWS):
                place = emit.at(weights, (i, row_stride), (loop.index, emit.stride))
                emit.add_product(u[i], emit.load(place), w)
        total, back, step = emit.load(loss), [], emit.negated(emit.load(rate))
        for i in range(ROWS):
            here = builder.add(row, ir.Constant(row.type, i))
            d, t = (emit.splat(builder.load(builder.gep(x, [here]))) for x in (singular, targets))
            r = emit.fma(d, builder.load(u[i]), emit.negated(t))
            total = emit.fma(r, r, total)
            back.append(builder.fmul(d, r))
        emit.store(total, loss)
        steps = [builder.fmul(step, g) for g in back]
        with cgutils.for_range(builder, size) as loop:
            w = emit.load(emit.at(out, (loop.index, emit.stride)))
            at_gradient = emit.at(gradient, (loop.index, emit.stride))
            sum_ = emit.load(at_gradient)
            for i in range(ROWS):
                place = emit.at(weights, (i, row_stride), (loop.index, emit.stride))
                weight = emit.load(place)
                sum_ = emit.fma(back[i], weight, sum_)
                emit.store(emit.fma(steps[i], w, weight), place)
            emit.store(sum_, at_gradient)
        return context.get_dummy_value()

    return types.void(
        s, weights, row_stride, out, gradient, size, rate, singular, targets, row, loss
    ), generate


def _point_step(activation: int):
    @intrinsic
    def point_step(typing, s, z, h, w, size, rates, target, loss):
        def generate(context, builder, signature, arguments):
            target = arguments[6]
            emit, (z, h, w, size, rates, loss) = emitter_and_indices(
                context,
                builder,
                signature.replace(args=(*signature.args[:6], signature.args[7])),
                (*arguments[:6], arguments[7]),
            )
            partial = emit.variables([emit.number(0)] * ROWS)
            per_round = ir.Constant(size.type, ROWS)
            with cgutils.for_range(builder, builder.sdiv(size, per_round)) as loop:
                for k in range(ROWS):
                    offset = builder.add(builder.mul(loop.index, per_round), ir.Constant(size.type, k))
                    hidden, weight = (emit.load(emit.at(x, (offset, emit.stride))) for x in (h, w))
                    emit.add_product(partial[k], hidden, weight)
            sums = [builder.load(p) for p in partial]
            while len(sums) > 1:
                sums = [builder.fadd(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
            r = builder.fsub(sums[0], emit.splat(target))
            emit.store(builder.fmul(r, r), loss)
            step_z = emit.load(rates)
            step_w = builder.fmul(emit.negated(emit.load(emit.at(rates, (1, emit.stride)))), r)
            with cgutils.for_range(builder, size) as loop:
                at_z, at_h, at_w = (emit.at(x, (loop.index, emit.stride)) for x in (z, h, w))
                hidden, weight = emit.load(at_h), emit.load(at_w)
                dz = emit_slope(emit, activation, hidden, builder.fmul(r, weight))
                emit.store(emit.fma(emit.negated(step_z), dz, emit.load(at_z)), at_z)
                emit.store(emit.fma(step_w, hidden, weight), at_w)
            return context.get_dummy_value()

        return types.void(s, z, h, w, size, rates, target, loss), generate

    return point_step


_point_step_tanh, _point_step_relu, _point_step_identity = map(_point_step, (TANH, RELU, IDENTITY))


@njit(cache=True, nogil=True, error_model="numpy")
def _all_lost(s, out, width, lanes):
    for lane in range(lanes):  # noqa: SIM110  (compiled code has no generators)
        if not lost(s, out, width, lane, lanes):
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _start_block(s, o, offset, lanes, first, start, hyper, per_step, width, rates, factors):
    """Start a block on the pixels from `first` on; where they end the last is repeated."""
    weights, offset_rows, scales, _ = start
    for lane in range(lanes):
        h = hyper[min(first + lane, len(hyper) - 1)]
        start_lane(s, o, lane, lanes, weights, offset_rows, scales, h, per_step, width, 1)
        offset[lane] = h[OFFSET]
        s[rates + lane] = h[LR_IN] * factors[0]
        s[rates + lanes + lane] = h[LR_OUT] * factors[1]


@njit(cache=True, nogil=True, error_model="numpy")
def train_linear(singular, targets, mean, start, hyper, width, flags, n_steps):
    """Train n pixels without activation; return what `_readout` keeps of them, shape (n, SLOTS).

    Parameters
    ----------
    singular, targets : (padded rank,)
        Singular values S of the data and Uᵀ y, in the type to train in, zeros up to a multiple of ROWS.
    mean : (n_rows, extra)
        Rows of the data, and what the rest of y adds to the loss.
    start : (weights, offset_rows, scales, factors)
        As in `train_pixels`; the weights are Vᵀ W0, then the output layer.
    hyper : (n, 7) float64
    flags : (per_step, early_exit)
    """
    per_step, early_exit = flags
    n_rows, extra = mean
    _, offset_rows, scales, factors = start
    lanes, rank, n = VECTOR_BYTES // singular.itemsize, len(offset_rows), padded(width)
    out = padded(rank) * n * lanes
    gradient = out + n * lanes
    loss = gradient + n * lanes
    rates = loss + lanes
    s = aligned(rates + 2 * lanes, singular)
    factors = factors / n_rows
    kept = np.empty((len(hyper), SLOTS))
    o, offset = np.zeros((SLOTS, lanes)), np.zeros(lanes)
    for first in range(0, len(hyper), lanes):
        for k in range(len(s)):
            s[k] = 0
        _start_block(s, o, offset, lanes, first, start, hyper, per_step, width, rates, factors)
        for _ in range(n_steps):
            if per_step:
                add_offset(s, offset, offset_rows, width, scales[0], lanes)
            for lane in range(lanes):
                s[loss + lane] = 0
            for row in range(0, rank, ROWS):
                place = row * n * lanes
                _linear_rows(s, place, n * lanes, out, gradient, width, rates, singular, targets, row, loss)
            below = take_in(s, loss, o, n_rows, extra, n_steps - TAIL)
            if below == 0 and early_exit and _all_lost(s, out, width, lanes):
                break
            descend(s, out, gradient, n, rates + lanes)
        for lane in range(min(lanes, len(hyper) - first)):
            keep(o, lane, n_steps, kept[first + lane])
    return kept


@njit(cache=True, nogil=True, error_model="numpy")
def train_point(x, y, start, hyper, width, activation, flags, n_steps):
    """Train n pixels on one row; return what `_readout` keeps of them, shape (n, SLOTS).

    Parameters
    ----------
    x, y : (1,)
        Length of the row and its target, in the type to train in.
    start : (weights, offset_rows, scales, factors)
        As in `train_pixels`; the weights are the first layer's projection on the row's direction, then the
        output layer.
    hyper : (n, 7) float64
    flags : (per_step, early_exit)
    """
    per_step, early_exit = flags
    _, offset_rows, scales, factors = start
    lanes, n = VECTOR_BYTES // x.itemsize, padded(width)
    # The first layer of `start_lane` has room for ROWS rows; those after the first hold the hidden values.
    h, out = n * lanes, padded(1) * n * lanes
    loss = out + n * lanes
    rates = loss + lanes
    s = aligned(rates + 2 * lanes, x)
    length, target = x[0], y[0]
    factors = factors * np.array([length**2, 1.0])
    kept = np.empty((len(hyper), SLOTS))
    o, offset = np.zeros((SLOTS, lanes)), np.zeros(lanes)
    for first in range(0, len(hyper), lanes):
        for k in range(len(s)):
            s[k] = 0
        _start_block(s, o, offset, lanes, first, start, hyper, per_step, width, rates, factors)
        for k in range(h):
            s[k] *= length
        for _ in range(n_steps):
            if per_step:
                add_offset(s, offset, offset_rows, width, scales[0] * length, lanes)
            for k in range(h):
                s[h + k] = s[k]
            if activation == TANH:
                tanh_in_place(s, h, (n + IN_STEP - 1) // IN_STEP * IN_STEP)
                _point_step_tanh(s, 0, h, out, n, rates, target, loss)
            elif activation == RELU:
                relu_in_place(s, h, n)
                _point_step_relu(s, 0, h, out, n, rates, target, loss)
            else:
                _point_step_identity(s, 0, h, out, n, rates, target, loss)
            below = take_in(s, loss, o, 1, 0.0, n_steps - TAIL)
            if below == 0 and early_exit and _all_lost(s, out, width, lanes):
                break
        for lane in range(min(lanes, len(hyper) - first)):
            keep(o, lane, n_steps, kept[first + lane])
    return kept
