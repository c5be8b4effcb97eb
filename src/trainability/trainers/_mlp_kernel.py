"""Gradient descent of many small networks at once, one in each lane of the vector registers.

Weights are kept times the scale s of their layer, W' = s W, so that every layer is a bare product, and the
factor 2 / n_rows of the mean squared error goes into the learning rates: with G' the gradient of half the
sum of squares with respect to W', a step is W' -= (2 lr s² / n_rows) G'. Rows of data are taken ROW_TILE at
a time from the first product to the gradient, so that nothing longer than that is stored.

Ending a run early. It ends once no later loss can be below the cap, which is known when an output weight is
not finite: it stays so (inf or NaN minus anything is inf or NaN), and makes every later output not finite
(a product with it is inf or NaN, 0 · inf too, and so is a sum with such a term), hence every later loss.
This holds for every activation, mini-batch, offset, momentum and decay. A finite loss, however large, is no
proof: runs that converge have been seen to pass 1e22 times their first loss.
"""

import numpy as np
from numba import njit

from ._readout import CAPPED, LAST, SLOTS, START, STEP, TAIL, TAIL_CAPPED, take_in
from ._vector import (
    COLUMNS,
    OUTPUT_ROWS,
    RELU,
    ROWS,
    TANH,
    VECTOR_BYTES,
    data_product,
    data_product_add,
    data_product_beside_tanh,
    descend,
    descend_with_memory,
    hidden_backward_identity,
    hidden_backward_relu,
    hidden_backward_tanh,
    lane_product,
    lane_product_add,
    output_backward_identity,
    output_backward_relu,
    output_backward_tanh,
    relu_in_place,
    residuals,
    tanh_in_place,
    tanh_tile,
)

# Data rows carried together from the inputs to the gradient; the data are padded to a multiple.
ROW_TILE = 16

# Hyperparameters of a pixel, in this order.
LR_IN, LR_HIDDEN, LR_OUT, OFFSET, WEIGHT_SCALE, MOMENTUM, WEIGHT_DECAY = range(7)


@njit(cache=True)
def padded(n):
    """Round a number of units up to whole tiles; ROWS is a multiple of COLUMNS."""
    return (n + ROWS - 1) // ROWS * ROWS


@njit(cache=True, nogil=True, error_model="numpy")
def _first_layer(s, h, X, row, n_in, n, activation, lanes):
    """Hidden values of the first layer for ROW_TILE rows of X from `row` on."""
    h_row = n * lanes
    before = -1
    for j in range(0, n, COLUMNS):
        for i in range(0, ROW_TILE, ROWS):
            c = h + i * h_row + j * lanes
            a, a_row, b = (row + i) * X.shape[1], X.shape[1], j * lanes
            if activation == TANH and before >= 0:
                data_product_beside_tanh(s, c, h_row, X, a, a_row, b, h_row, n_in, before)
            else:
                data_product(s, c, h_row, X, a, a_row, 1, b, lanes, h_row, n_in)
            before = c
    if activation == TANH:
        tanh_tile(s, before, h_row)
    elif activation == RELU:
        relu_in_place(s, h, ROW_TILE * n)


@njit(cache=True, nogil=True, error_model="numpy")
def _forward(s, hidden, X, row, n_in, width, depth, activation, lanes):
    """Hidden values of all layers for ROW_TILE rows of X from `row` on."""
    n = padded(width)
    h_row = n * lanes
    _first_layer(s, hidden, X, row, n_in, n, activation, lanes)
    weights = padded(n_in) * h_row
    for layer in range(1, depth):
        h = hidden + layer * ROW_TILE * h_row
        for j in range(0, n, COLUMNS):
            for i in range(0, ROW_TILE, ROWS):
                c = h + i * h_row + j * lanes
                a = h - ROW_TILE * h_row + i * h_row
                lane_product(s, c, h_row, X, a, h_row, lanes, weights + j * lanes, lanes, h_row, width)
        weights += n * h_row
        if activation == TANH:
            tanh_in_place(s, h, ROW_TILE * n)
        elif activation == RELU:
            relu_in_place(s, h, ROW_TILE * n)


@njit(cache=True, nogil=True, error_model="numpy")
def _backward(s, hidden, spare, gradient, X, row, n_in, width, depth, activation, lanes):
    """Add the gradients of the hidden layers; the last layer's hidden values have become its gradient."""
    n = padded(width)
    h_row = n * lanes
    first = padded(n_in) * h_row
    for layer in range(depth - 1, 0, -1):
        h = hidden + layer * ROW_TILE * h_row
        below = h - ROW_TILE * h_row
        weights = first + (layer - 1) * n * h_row
        for j in range(0, n, COLUMNS):
            for i in range(0, n, ROWS):
                c = gradient + weights + i * h_row + j * lanes
                a = below + i * lanes
                lane_product_add(s, c, h_row, X, a, lanes, h_row, h + j * lanes, lanes, h_row, ROW_TILE)
        for j in range(0, n, COLUMNS):
            for i in range(0, ROW_TILE, ROWS):
                c = spare + i * h_row + j * lanes
                b = weights + j * h_row
                lane_product(s, c, h_row, X, h + i * h_row, h_row, lanes, b, h_row, lanes, width)
        if activation == TANH:
            hidden_backward_tanh(s, below, spare, ROW_TILE * n)
        elif activation == RELU:
            hidden_backward_relu(s, below, spare, ROW_TILE * n)
        else:
            hidden_backward_identity(s, below, spare, ROW_TILE * n)
    for j in range(0, n, COLUMNS):
        for i in range(0, padded(n_in), ROWS):
            c = gradient + i * h_row + j * lanes
            a = row * X.shape[1] + i
            data_product_add(s, c, h_row, X, a, 1, X.shape[1], hidden + j * lanes, lanes, h_row, ROW_TILE)


@njit(cache=True, nogil=True, error_model="numpy")
def _pass(s, at, X, Y, n_rows, n_in, width, depth, activation, lanes, learn):
    """Sum of squares over all rows, left at `loss`; with `learn`, also the gradients."""
    gradient, hidden, spare, r, loss = at
    n = padded(width)
    h_row = n * lanes
    out = (padded(n_in) + (depth - 1) * n) * h_row
    last = hidden + (depth - 1) * ROW_TILE * h_row
    for lane in range(lanes):
        s[loss + lane] = 0
    for row in range(0, n_rows, ROW_TILE):
        _forward(s, hidden, X, row, n_in, width, depth, activation, lanes)
        for i in range(0, ROW_TILE, OUTPUT_ROWS):
            h = last + i * h_row
            residuals(s, r, h, h_row, out, width, Y, row + i, n_rows, loss)
            if learn:
                if activation == TANH:
                    output_backward_tanh(s, r, h, h_row, out, gradient + out, n)
                elif activation == RELU:
                    output_backward_relu(s, r, h, h_row, out, gradient + out, n)
                else:
                    output_backward_identity(s, r, h, h_row, out, gradient + out, n)
        if learn:
            _backward(s, hidden, spare, gradient, X, row, n_in, width, depth, activation, lanes)


@njit(cache=True, nogil=True, error_model="numpy")
def aligned(size, like):
    """Zeros in the type of `like`, starting where vectors do."""
    raw = np.zeros(size + VECTOR_BYTES, like.dtype)
    return raw[(-raw.ctypes.data % VECTOR_BYTES) // raw.itemsize :]


@njit(cache=True, nogil=True, error_model="numpy")
def lost(s, weights, width, lane, lanes):
    """Whether a lane has an output weight that is not finite."""
    for j in range(width):  # noqa: SIM110  (compiled code has no generators)
        if not np.isfinite(s[weights + j * lanes + lane]):
            return True
    return False


@njit(cache=True, nogil=True, error_model="numpy")
def keep(o, lane, n_steps, kept):
    """Write what was read out of a lane; steps that it has not taken count as capped."""
    for slot in range(SLOTS):
        kept[slot] = o[slot, lane]
    remaining = n_steps - o[STEP, lane]
    kept[CAPPED] += remaining
    kept[TAIL_CAPPED] += min(remaining, TAIL)


@njit(cache=True, nogil=True, error_model="numpy")
def add_offset(s, offset, offset_rows, width, scale, lanes):
    """Add the offsets, one a lane, to the scaled weights of the first layer."""
    n = padded(width)
    for i in range(len(offset_rows)):
        for j in range(width):
            for lane in range(lanes):
                s[(i * n + j) * lanes + lane] += scale * offset[lane] * offset_rows[i]


@njit(cache=True, nogil=True, error_model="numpy")
def start_lane(s, o, lane, lanes, weights, offset_rows, scales, hyper, per_step, width, depth):
    """Write the scaled initial weights of one pixel, hyperparameters (7,), into its lane, and clear its readout.

    Padding is left as it is, zero. An offset that is added at every step is left to the steps.
    """
    n, n_in = padded(width), len(offset_rows)
    offset = 0.0 if per_step else hyper[OFFSET]
    place = read = 0
    for layer in range(depth + 1):
        rows = n_in if layer == 0 else width if layer < depth else 1
        for i in range(rows):
            shift = offset * offset_rows[i] if layer == 0 else 0.0
            for j in range(width):
                value = hyper[WEIGHT_SCALE] * weights[read + i * width + j] + shift
                s[place + (i * n + j) * lanes + lane] = scales[layer] * value
        read += rows * width
        place += (padded(n_in) if layer == 0 else n) * n * lanes
    for slot in range(SLOTS):
        o[slot, lane] = START[slot]


@njit(cache=True, nogil=True, error_model="numpy")
def train_pixels(
    X, Y, rows, mean, weights, offset_rows, scales, factors, hyper, batches, shape, flags, n_steps, losses
):
    """Train n pixels; return what `_readout` keeps of them, shape (n, SLOTS).

    A lane whose run is over takes the next pixel, except under mini-batches, which all lanes share step by
    step: there a block waits for its last.

    Parameters
    ----------
    X : (rows, columns), Y : (rows,)
        Data in the type to train in. Columns beyond the n_in inputs are zeros, up to a multiple of ROWS; rows
        from `rows` on repeat the last, up to a multiple of ROW_TILE, and count for nothing.
    mean : (n_rows, extra)
        The loss is the sum of squares over `n_rows`, plus `extra`.
    weights : (n_in·width + (depth - 1)·width² + width,) float64
        Initial weights, layer after layer.
    offset_rows : (n_in,) float64
        What one unit of the offset adds to each row of the first layer.
    scales, factors : (depth + 1,) float64
        What a weight is multiplied by as it is kept, and what its learning rate is over the mean of the squares.
    hyper : (n, 7) float64
    batches : (n_steps, size) int64
        Rows of each step's gradient; size 0 for all of them.
    shape : (width, depth, activation)
    flags : (per_step, memory, early_exit)
        Add the offset at every step; use momentum and decay; end lost runs early.
    losses : (n, n_steps) float64, or (0, 0)
        Filled with the losses of every step taken.
    """
    width, depth, activation = shape
    per_step, memory, early_exit = flags
    n_rows, extra = mean
    lanes = VECTOR_BYTES // X.itemsize
    n_in, n = len(offset_rows), padded(width)
    size = batches.shape[1]
    batch_rows = (size + ROW_TILE - 1) // ROW_TILE * ROW_TILE
    XB, YB = np.zeros((batch_rows, X.shape[1]), X.dtype), np.zeros(batch_rows, X.dtype)

    # Lane vectors of the scratch: weights, gradients, memory if any, hidden values, then single ones.
    out = (padded(n_in) + (depth - 1) * n) * n * lanes
    total = out + n * lanes
    hidden = 3 * total if memory else 2 * total
    spare = hidden + depth * ROW_TILE * n * lanes
    r = spare + (ROW_TILE * n * lanes if depth > 1 else 0)
    loss = r + OUTPUT_ROWS * lanes
    rates = loss + lanes
    decays = rates + (depth + 1) * lanes
    momentum = decays + (depth + 1) * lanes
    s = aligned(momentum + lanes, X)
    at = (total, hidden, spare, r, loss)

    kept = np.empty((len(hyper), SLOTS))
    o, offset = np.zeros((SLOTS, lanes)), np.zeros(lanes)
    pixel, over = np.zeros(lanes, np.int64), np.ones(lanes, np.bool_)
    queue = running = 0
    whole = size == 0
    while True:
        vacant = whole or running == 0
        for lane in range(lanes):
            if over[lane] and vacant and queue < len(hyper):
                h = hyper[queue]
                start_lane(s, o, lane, lanes, weights, offset_rows, scales, h, per_step, width, depth)
                offset[lane] = h[OFFSET]
                for layer in range(depth + 1):
                    which = LR_IN if layer == 0 else LR_HIDDEN if layer < depth else LR_OUT
                    factor = factors[layer] / (size if size else n_rows)
                    s[rates + layer * lanes + lane] = h[which] * factor
                    s[decays + layer * lanes + lane] = h[WEIGHT_DECAY] / factor
                s[momentum + lane] = h[MOMENTUM]
                for k in range(total + lane, hidden, lanes):  # gradients, and the memory if there is one
                    s[k] = 0
                pixel[lane], over[lane] = queue, False
                queue += 1
                running += 1
        if running == 0:
            return kept

        if per_step:
            add_offset(s, offset, offset_rows, width, scales[0], lanes)
        _pass(s, at, X, Y, rows, n_in, width, depth, activation, lanes, whole)
        below = take_in(s, loss, o, n_rows, extra, n_steps - TAIL)
        step = -1
        for lane in range(lanes):
            if over[lane]:
                continue
            step = int(o[STEP, lane])
            if losses.size:
                losses[pixel[lane], step - 1] = o[LAST, lane]
            gone = early_exit and not (below >> lane) & 1 and lost(s, out, width, lane, lanes)
            if gone or step == n_steps:
                keep(o, lane, n_steps, kept[pixel[lane]])
                over[lane] = True
                running -= 1
        if running and not whole:
            for i in range(batch_rows):
                row = batches[step - 1, min(i, size - 1)]
                YB[i] = Y[row]
                for k in range(X.shape[1]):
                    XB[i, k] = X[row, k]
            _pass(s, at, XB, YB, size, n_in, width, depth, activation, lanes, not whole)
        place = 0
        for layer in range(depth + 1):
            count = (padded(n_in) if layer == 0 else n if layer < depth else 1) * n
            rate = rates + layer * lanes
            if memory:
                decay = decays + layer * lanes
                descend_with_memory(s, place, total + place, 2 * total + place, count, rate, momentum, decay)
            else:
                descend(s, place, total + place, count, rate)
            place += count * lanes
