"""Loss and gradient of transformers, one member after another, forward and backward written out.

The examples of a batch are taken a chunk at a time from the embedding to the gradient, so that what lies between
stays in the cache. A member is computed from its own numbers alone, in one order.
"""

import numpy as np
from numba import njit

from ._optimizer_kernels import update
from ._products import INNER, product, turn
from ._rows import ROWS
from ._transformer_branches import attention, attention_backward, mlp, mlp_backward, weights_gradient
from ._transformer_layout import (
    ALPHA_ATTN,
    ALPHA_MLP,
    NORMED,
    ONE,
    POST,
    PRE,
    SHARE,
    SKIP_ATTN,
    SKIP_MLP,
    UNIT,
    ZERO,
)
from ._transformer_vector import (
    add_rows,
    combine,
    exponentials,
    normalise,
    normalise_backward,
    read_rows,
    write_rows,
    zero,
)


@njit(**INNER)
def _pack(s, at, table, row):
    """Write a member's weights, and the transposed ones, into the scratch."""
    for start, rows, columns, offset, length, turned, length_t in table:
        read_rows(s, offset, length, row, start, rows, columns)
        if turned >= 0:
            turn(s, at.lanes, offset, length, rows, columns, turned, length_t, at.numbers + UNIT)


@njit(**INNER)
def _unpack(s, at, table, row):
    """Read the gradient out of the scratch."""
    for start, rows, columns, offset, length, _, _ in table:
        write_rows(s, at.gradient + offset, length, row, start, rows, columns)


@njit(**INNER)
def _norm(s, at, n, x, y, unit, root, gain, shift):
    normalise(
        s, x, y, unit, gain, shift, root, at.mask, at.numbers + SHARE, at.stream, n * at.rows // ROWS,
        at.stream // at.lanes,
    )  # fmt: skip


@njit(**INNER)
def _norm_backward(s, at, n, dx, dy, unit, root, gain, shift):
    normalise_backward(
        s, dx, dy, unit, gain, at.gradient + gain, at.gradient + shift, root, at.mask, at.numbers + SHARE,
        at.stream, n * at.rows // ROWS, at.stream // at.lanes,
    )  # fmt: skip


@njit(**INNER)
def _branches(at, w, kept, after):
    """Offsets of the attention's branch and of the MLP's, in the order that `_forward` unpacks."""
    return (
        (
            kept + at.x1,
            kept + at.x2,
            kept + at.y1,
            kept + at.unit1,
            kept + at.root1,
            w + at.gain1,
            w + at.shift1,
        ),
        (kept + at.x2, after, kept + at.y2, kept + at.unit2, kept + at.root2, w + at.gain2, w + at.shift2),
    )


@njit(**INNER)
def _forward(s, at, n):
    """From the stream in the first block to the logits."""
    count = n * at.rows * at.stream // at.lanes
    numbers = at.numbers
    for layer in range(at.layers):
        w = at.blocks + layer * at.block_size
        kept = at.kept + layer * at.kept_size
        last = layer + 1 == at.layers
        after = at.x if last else kept + at.kept_size + at.x1
        for branch, (x, following, y, unit, root, gain, shift) in enumerate(_branches(at, w, kept, after)):
            if at.norm == PRE:
                _norm(s, at, n, x, y, unit, root, gain, shift)
            else:
                y = x
            target = at.z if at.norm == POST else following
            if branch == 0:
                attention(s, at, n, w, kept, y, at.db)
            else:
                mlp(s, at, n, w, kept, y, at.db)
            skip = y if at.residual == NORMED else x
            alpha, keep = (ALPHA_ATTN, SKIP_ATTN) if branch == 0 else (ALPHA_MLP, SKIP_MLP)
            combine(s, target, skip, numbers + keep, at.db, numbers + alpha, count)
            if at.norm == POST:
                _norm(s, at, n, target, following, unit, root, gain, shift)
    y = at.x
    if at.final_norm:
        y = at.y
        _norm(s, at, n, at.x, y, at.unit_final, at.root, at.gain, at.shift)
    product(
        s, at.lanes, at.dlogits, at.logits, at.head_bias, 0, y, at.stream, 1, at.head_weight, at.logits,
        n * at.rows, at.logits // at.lanes, at.d,
    )  # fmt: skip


@njit(**INNER)
def _backward(s, at, n):
    """From the gradient of the logits to that of the stream that enters the first block, at `dx`."""
    rows, stream = n * at.rows, at.stream
    count, numbers = rows * stream // at.lanes, at.numbers
    across, wide = stream // at.lanes, at.logits // at.lanes
    y = at.y if at.final_norm else at.x
    weights_gradient(s, at, at.head_weight, at.logits, y, stream, at.dlogits, at.logits, at.d, wide, rows)
    add_rows(s, at.gradient + at.head_bias, at.dlogits, at.logits, rows, wide)
    target = at.dy if at.final_norm else at.dx
    product(
        s, at.lanes, target, stream, at.zeros, 0, at.dlogits, at.logits, 1, at.head_t, stream, rows, across,
        at.outputs,
    )  # fmt: skip
    if at.final_norm:
        zero(s, at.dx, rows * stream)
        _norm_backward(s, at, n, at.dx, at.dy, at.unit_final, at.root, at.gain, at.shift)
    for layer in range(at.layers - 1, -1, -1):
        w, w_t = at.blocks + layer * at.block_size, at.blocks_t + layer * at.block_size_t
        kept = at.kept + layer * at.kept_size
        places = _branches(at, w, kept, 0)
        for branch in (1, 0):
            x, _, y, unit, root, gain, shift = places[branch]
            y = y if at.norm == PRE else x
            alpha, keep = (ALPHA_ATTN, SKIP_ATTN) if branch == 0 else (ALPHA_MLP, SKIP_MLP)
            if at.norm == POST:
                zero(s, at.z, rows * stream)
                _norm_backward(s, at, n, at.z, at.dx, unit, root, gain, shift)
                combine(s, at.dx, at.z, numbers + UNIT, at.z, numbers + ZERO, count)
            combine(s, at.db, at.dx, numbers + alpha, at.dx, numbers + ZERO, count)
            if branch == 0:
                attention_backward(s, at, n, w, w_t, kept, y)
            else:
                mlp_backward(s, at, n, w, w_t, kept, y)
            if at.residual == NORMED:
                combine(s, at.dy, at.dy, numbers + UNIT, at.dx, numbers + keep, count)
                zero(s, at.dx, rows * stream)
            elif at.residual != ONE:
                combine(s, at.dx, at.dx, numbers + keep, at.dx, numbers + ZERO, count)
            if at.norm == PRE:
                _norm_backward(s, at, n, at.dx, at.dy, unit, root, gain, shift)
            else:
                combine(s, at.dx, at.dx, numbers + UNIT, at.dy, numbers + UNIT, count)


@njit(**INNER)
def _embed(s, at, inputs, n):
    """Embeddings and positions of `n` examples, in the stream of the first block; padded rows are 0."""
    one, columns = at.numbers + UNIT, at.stream // at.lanes
    for e in range(n):
        place = at.kept + at.x1 + e * at.rows * at.stream
        for t in range(at.window):
            row = t * at.stream
            combine(
                s, place + row, at.embed + inputs[e, t] * at.stream, one, at.positions + row, one, columns
            )
        zero(s, place + at.window * at.stream, (at.rows - at.window) * at.stream)


@njit(**INNER)
def _embed_backward(s, at, inputs, n):
    one, columns = at.numbers + UNIT, at.stream // at.lanes
    for e in range(n):
        for t in range(at.window):
            place = at.dx + (e * at.rows + t) * at.stream
            target = at.gradient + at.embed + inputs[e, t] * at.stream
            combine(s, target, target, one, place, one, columns)


@njit(**INNER)
def _cross_entropy(s, at, targets, scored, weight, n, learn):
    """Sum of the losses of scored positions; with `learn`, their gradient times `weight` in place of the logits."""
    total = 0.0
    for e in range(n):
        for t in range(0, at.rows, ROWS):
            row = at.dlogits + (e * at.rows + t) * at.logits
            any_scored = False
            for i in range(ROWS):
                any_scored = any_scored or (t + i < at.window and scored[t + i])
            if not any_scored:
                zero(s, row, ROWS * at.logits)
                continue
            of_targets = 0.0
            for i in range(ROWS):
                if t + i < at.window and scored[t + i]:
                    of_targets += s[row + i * at.logits + targets[e, t + i]]
            exponentials(s, row, at.logits, at.logits // at.lanes, at.tops, at.sums)
            sums = 1.0  # one logarithm for all; a sum is between 1 and the number of symbols
            for i in range(ROWS):
                counts = t + i < at.window and scored[t + i]
                if counts:
                    total += s[at.tops + i]
                    sums *= s[at.sums + i]
                if learn:
                    place = row + i * at.logits
                    s[at.sums + i] = weight / s[at.sums + i] if counts else 0
                    columns = at.logits // at.lanes
                    combine(s, place, place, at.sums + i, place, at.numbers + ZERO, columns)
                    if counts:
                        s[place + targets[e, t + i]] -= weight
            total += np.log(sums) - of_targets
    return total


@njit(**INNER, inline="always")
def _loss_and_gradient(s, at, table, w, numbers, inputs, targets, scored, g):
    """Mean loss of one member over the scored positions of its batch; its gradient to g, if g has any place."""
    learn = len(g) > 0
    n_examples = len(inputs)
    weight = 1.0 / (n_examples * scored.sum())
    _pack(s, at, table, w)
    for i in range(4):
        s[at.numbers + ALPHA_ATTN + i] = numbers[i]
    if learn:
        zero(s, at.gradient, at.gradient)
    total = 0.0
    for first in range(0, n_examples, at.examples):
        n = min(at.examples, n_examples - first)
        read, told = inputs[first : first + n], targets[first : first + n]
        _embed(s, at, read, n)
        _forward(s, at, n)
        total += _cross_entropy(s, at, told, scored, weight, n, learn)
        if learn:
            _backward(s, at, n)
            _embed_backward(s, at, read, n)
    if learn:
        _unpack(s, at, table, g)
    return total * weight


@njit(cache=True, nogil=True, error_model="numpy")
def train(
    s, at, table, numbers, inputs, targets, order_of, scored, method, arrays, schedule, most, running, losses
):
    """Some steps of each member, one member after another so that its numbers stay in the cache.

    Parameters
    ----------
    s : scratch array, as `scratch_of` makes it
    at : Layout
    table : as `table_of` makes it
    numbers : (member, 4) strengths of branch and skip, of the attention and of the MLP
    inputs, targets : (order, step, example, window) of int
    order_of : (member,) number of the order of its batches
    scored : (window,) of bool
    method : the optimizer's number, whether it clips and decays
    arrays : (member, parameter) each: parameters, gradients and what else `update` takes rows of; without a place
        for gradients, losses alone are computed
    schedule : (step, member, number) as `numbers_of` makes it; without steps, parameters stay as they are
    most : (member,) losses above which a member has diverged, where there is a schedule
    running : (member,) of bool; members that diverge stop and stay as they are
    losses : (member, step) float64, mean loss over scored positions before each step, inf from divergence on; filled
    """
    kind, clips, decays = method
    for member in range(len(running)):
        for step in range(losses.shape[1]):
            losses[member, step] = np.inf
            if not running[member]:
                continue
            read, told = inputs[order_of[member], step], targets[order_of[member], step]
            loss = _loss_and_gradient(
                s, at, table, arrays[0][member], numbers[member], read, told, scored, arrays[1][member]
            )
            if len(schedule) > 0:
                running[member] = loss <= most[member]  # False where it is not a number
                if running[member]:
                    update(kind, clips, decays, arrays, member, schedule[step, member])
                else:
                    loss = np.inf
            losses[member, step] = loss
