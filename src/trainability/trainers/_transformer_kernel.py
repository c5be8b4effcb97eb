"""Loss and gradient of transformers, one member after another, forward and backward written out.

The examples of a batch are taken a chunk at a time from the embedding to the gradient, so that what lies between
stays in the cache. A member is computed from its own numbers alone, in one order.
"""

import numpy as np
from numba import njit

from ._transformer_layout import (
    ALPHA_ATTN,
    ALPHA_MLP,
    NORMED,
    ONE,
    POST,
    PRE,
    SCALE,
    SHARE,
    SKIP_ATTN,
    SKIP_MLP,
    UNIT,
    ZERO,
)
from ._transformer_vector import (
    RELU,
    ROWS,
    TANH,
    add_rows,
    combine,
    exponentials,
    normalise,
    normalise_backward,
    product,
    relu_backward,
    relu_forward,
    softmax,
    softmax_backward,
    tanh_backward,
    tanh_forward,
)

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy"}


@njit(**_OPTIONS)
def _pack(s, at, table, row):
    """Write a member's weights, and the transposed ones, into the scratch."""
    for start, rows, columns, offset, length, turned, length_t in table:
        for i in range(rows):
            for j in range(columns):
                s[offset + i * length + j] = row[start + i * columns + j]
        if turned >= 0:
            for j in range(columns):
                for i in range(rows):
                    s[turned + j * length_t + i] = row[start + i * columns + j]


@njit(**_OPTIONS)
def _unpack(s, at, table, row):
    """Read the gradient out of the scratch."""
    for start, rows, columns, offset, length, _, _ in table:
        place = at.gradient + offset
        for i in range(rows):
            for j in range(columns):
                row[start + i * columns + j] = s[place + i * length + j]


@njit(**_OPTIONS)
def _turn(s, at, n, source, target, factor):
    """Features of `n` examples, one token a row, to one feature a row, times a factor."""
    for e in range(n):
        a = source + e * at.rows * at.head
        b = target + e * (at.d + ROWS) * at.queries
        for t in range(at.window):
            for f in range(at.d):
                s[b + f * at.queries + t] = factor * s[a + t * at.head + f]


@njit(**_OPTIONS)
def _seen(at, j):
    """Rows of keys that the queries of lane vector j may see."""
    if not at.causal:
        return at.rows
    last = (j + 1) * at.lanes
    return min(at.rows, (last + at.unit - 1) // at.unit * at.unit)


@njit(**_OPTIONS)
def _attend(s, at, n, kept):
    """Softmax of the scores of each head and example, and what it makes of the values, one feature a row."""
    lanes, queries, head = at.lanes, at.queries, at.head
    columns = queries // lanes
    wide = (at.width + ROWS - 1) // ROWS * ROWS
    for e in range(n):
        qt = kept + at.qt + e * (at.d + ROWS) * queries
        ot = kept + at.ot + e * (at.d + ROWS) * queries
        for h in range(at.heads):
            first = e * at.rows * head + h * at.width
            k, v = kept + at.k + first, kept + at.v + first
            p = kept + at.p + (e * at.heads + h) * at.rows * queries
            b = qt + h * at.width * queries
            for j in range(columns):
                c, keys = p + j * lanes, _seen(at, j)
                product(
                    s, lanes, c, queries, at.zeros, 0, k, head, 1, b + j * lanes, queries, keys, 1, at.width
                )
                softmax(s, c, queries, at.window, keys // ROWS, j * lanes, at.causal)
                c_o, keys = ot + h * at.width * queries + j * lanes, min(keys, at.window)
                product(s, lanes, c_o, queries, at.zeros, 0, v, 1, head, c, queries, wide, 1, keys)


@njit(**_OPTIONS)
def _attend_backward(s, at, n, kept):
    """Gradients of queries, keys and values, given that of the mixed values at `do`."""
    lanes, queries, head, unit = at.lanes, at.queries, at.head, at.unit
    columns, across = queries // lanes, (at.width + lanes - 1) // lanes
    scale = at.numbers + SCALE
    for e in range(n):
        _turn(s, at, 1, at.do + e * at.rows * head, at.dot, 1)
        for h in range(at.heads):
            first = e * at.rows * head + h * at.width
            q, k, v = kept + at.q + first, kept + at.k + first, kept + at.v + first
            dq, dk, dv, do = at.dq + first, at.dk + first, at.dv + first, at.do + first
            p = kept + at.p + (e * at.heads + h) * at.rows * queries
            b = at.dot + h * at.width * queries
            for j in range(columns):
                c, keys = at.dp + j * lanes, _seen(at, j)
                product(
                    s, lanes, c, queries, at.zeros, 0, v, head, 1, b + j * lanes, queries, keys, 1, at.width
                )
                softmax_backward(s, p + j * lanes, c, queries, keys // ROWS, scale)
            for i in range(0, at.rows, unit):  # of keys, and of queries
                rows = min(unit, at.rows - i)
                begin = i if at.causal else 0
                size = at.window - begin
                a = i * queries + begin
                product(
                    s, lanes, dv + i * head, head, at.zeros, 0, p + a, queries, 1, do + begin * head, head,
                    rows, across, size,
                )  # fmt: skip
                product(
                    s, lanes, dk + i * head, head, at.zeros, 0, at.dp + a, queries, 1, q + begin * head, head,
                    rows, across, size,
                )  # fmt: skip
                size = min(at.window, i + unit) if at.causal else at.window
                product(
                    s, lanes, dq + i * head, head, at.zeros, 0, at.dp + i, 1, queries, k, head,
                    rows, across, size,
                )  # fmt: skip


@njit(**_OPTIONS)
def _weights_gradient(s, at, c, length, a, a_row, b, b_row, rows, columns, size):
    """Add Σ a bᵀ over `size` rows of features to a weight's gradient, whose rows are `length` apart."""
    c += at.gradient
    padded = (rows + ROWS - 1) // ROWS * ROWS
    product(s, at.lanes, c, length, c, length, a, 1, a_row, b, b_row, padded, columns, size)


@njit(**_OPTIONS)
def _attention(s, at, n, w, kept, y, out):
    rows, stream, head = n * at.rows, at.stream, at.head
    across = stream // at.lanes
    for weight, target in ((at.query, at.q), (at.key, at.k), (at.value, at.v)):
        product(
            s, at.lanes, kept + target, head, at.zeros, 0, y, stream, 1, w + weight, stream, rows, across, at.d
        )
    _turn(s, at, n, kept + at.q, kept + at.qt, s[at.numbers + SCALE])
    _attend(s, at, n, kept)
    for e in range(n):
        c, a = out + e * at.rows * stream, kept + at.ot + e * (at.d + ROWS) * at.queries
        product(
            s, at.lanes, c, stream, at.zeros, 0, a, 1, at.queries, w + at.attn_out, stream, at.rows, across, at.d
        )


@njit(**_OPTIONS)
def _attention_backward(s, at, n, w, w_t, kept, y):
    """From the gradient of the branch at `db` to that of its input at `dy`."""
    rows, stream, head = n * at.rows, at.stream, at.head
    across = stream // at.lanes
    for e in range(n):
        a, b = kept + at.ot + e * (at.d + ROWS) * at.queries, at.db + e * at.rows * stream
        c = at.gradient + w + at.attn_out
        tall = (at.d + ROWS - 1) // ROWS * ROWS
        product(s, at.lanes, c, stream, c, stream, a, at.queries, 1, b, stream, tall, across, at.window)
    product(
        s, at.lanes, at.do, head, at.zeros, 0, at.db, stream, 1, w_t + at.attn_out_t, stream, rows, across, at.d
    )
    _attend_backward(s, at, n, kept)
    start, length = at.zeros, 0
    for weight, turned, source in (
        (at.query, at.query_t, at.dq),
        (at.key, at.key_t, at.dk),
        (at.value, at.value_t, at.dv),
    ):
        _weights_gradient(s, at, w + weight, stream, y, stream, source, head, at.d, across, rows)
        product(
            s, at.lanes, at.dy, stream, start, length, source, head, 1, w_t + turned, stream, rows, across, at.d
        )
        start, length = at.dy, stream


@njit(**_OPTIONS)
def _mlp(s, at, n, w, kept, y, out):
    rows, stream, hidden, h = n * at.rows, at.stream, at.hidden, kept + at.h
    product(
        s, at.lanes, h, hidden, w + at.mlp_in_bias, 0, y, stream, 1, w + at.mlp_in, hidden, rows,
        hidden // at.lanes, at.d,
    )  # fmt: skip
    if at.activation == RELU:
        relu_forward(s, h, rows * hidden // at.lanes // ROWS)
    elif at.activation == TANH:
        tanh_forward(s, h, rows * hidden // at.lanes // ROWS)
    product(
        s, at.lanes, out, stream, w + at.mlp_out_bias, 0, h, hidden, 1, w + at.mlp_out, stream, rows,
        stream // at.lanes, at.m,
    )  # fmt: skip


@njit(**_OPTIONS)
def _mlp_backward(s, at, n, w, w_t, kept, y):
    """From the gradient of the branch at `db` to that of its input at `dy`."""
    rows, stream, hidden, h = n * at.rows, at.stream, at.hidden, kept + at.h
    across, wide = stream // at.lanes, hidden // at.lanes
    _weights_gradient(s, at, w + at.mlp_out, stream, h, hidden, at.db, stream, at.m, across, rows)
    add_rows(s, at.gradient + w + at.mlp_out_bias, at.db, stream, rows, across)
    product(
        s, at.lanes, at.dh, hidden, at.zeros, 0, at.db, stream, 1, w_t + at.mlp_out_t, hidden, rows, wide, at.d
    )
    if at.activation == RELU:
        relu_backward(s, h, at.dh, rows * wide // ROWS)
    elif at.activation == TANH:
        tanh_backward(s, h, at.dh, rows * wide // ROWS)
    _weights_gradient(s, at, w + at.mlp_in, hidden, y, stream, at.dh, hidden, at.d, wide, rows)
    add_rows(s, at.gradient + w + at.mlp_in_bias, at.dh, hidden, rows, wide)
    product(
        s, at.lanes, at.dy, stream, at.zeros, 0, at.dh, hidden, 1, w_t + at.mlp_in_t, stream, rows, across, at.m
    )


@njit(**_OPTIONS)
def _norm(s, at, n, x, y, unit, root, gain, shift):
    normalise(
        s, x, y, unit, gain, shift, root, at.mask, at.numbers + SHARE, at.stream, n * at.rows // ROWS,
        at.stream // at.lanes,
    )  # fmt: skip


@njit(**_OPTIONS)
def _norm_backward(s, at, n, dx, dy, unit, root, gain, shift):
    normalise_backward(
        s, dx, dy, unit, gain, at.gradient + gain, at.gradient + shift, root, at.mask, at.numbers + SHARE,
        at.stream, n * at.rows // ROWS, at.stream // at.lanes,
    )  # fmt: skip


@njit(**_OPTIONS)
def _branches(at, w, kept, after):
    """Offsets of the attention's branch and of the MLP's, in the order that `_forward` unpacks."""
    return (
        (kept + at.x1, kept + at.x2, kept + at.y1, kept + at.unit1, kept + at.root1, w + at.gain1, w + at.shift1),
        (kept + at.x2, after, kept + at.y2, kept + at.unit2, kept + at.root2, w + at.gain2, w + at.shift2),
    )


@njit(**_OPTIONS)
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
                _attention(s, at, n, w, kept, y, at.db)
            else:
                _mlp(s, at, n, w, kept, y, at.db)
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


@njit(**_OPTIONS)
def _zero(s, start, size):
    for i in range(start, start + size):
        s[i] = 0


@njit(**_OPTIONS)
def _backward(s, at, n):
    """From the gradient of the logits to that of the stream that enters the first block, at `dx`."""
    rows, stream = n * at.rows, at.stream
    count, numbers = rows * stream // at.lanes, at.numbers
    across, wide = stream // at.lanes, at.logits // at.lanes
    y = at.y if at.final_norm else at.x
    _weights_gradient(s, at, at.head_weight, at.logits, y, stream, at.dlogits, at.logits, at.d, wide, rows)
    add_rows(s, at.gradient + at.head_bias, at.dlogits, at.logits, rows, wide)
    target = at.dy if at.final_norm else at.dx
    product(
        s, at.lanes, target, stream, at.zeros, 0, at.dlogits, at.logits, 1, at.head_t, stream, rows, across,
        at.outputs,
    )  # fmt: skip
    if at.final_norm:
        _zero(s, at.dx, rows * stream)
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
                _zero(s, at.z, rows * stream)
                _norm_backward(s, at, n, at.z, at.dx, unit, root, gain, shift)
                combine(s, at.dx, at.z, numbers + UNIT, at.z, numbers + ZERO, count)
            combine(s, at.db, at.dx, numbers + alpha, at.dx, numbers + ZERO, count)
            if branch == 0:
                _attention_backward(s, at, n, w, w_t, kept, y)
            else:
                _mlp_backward(s, at, n, w, w_t, kept, y)
            if at.residual == NORMED:
                combine(s, at.dy, at.dy, numbers + UNIT, at.dx, numbers + keep, count)
                _zero(s, at.dx, rows * stream)
            elif at.residual != ONE:
                combine(s, at.dx, at.dx, numbers + keep, at.dx, numbers + ZERO, count)
            if at.norm == PRE:
                _norm_backward(s, at, n, at.dx, at.dy, unit, root, gain, shift)
            else:
                combine(s, at.dx, at.dx, numbers + UNIT, at.dy, numbers + UNIT, count)


@njit(**_OPTIONS)
def _embed(s, at, table, inputs, n):
    """Embeddings and positions of `n` examples, in the stream of the first block; padded rows are 0."""
    x = at.kept + at.x1
    for e in range(n):
        for t in range(at.rows):
            place = x + (e * at.rows + t) * at.stream
            for f in range(at.d):
                s[place + f] = (
                    s[at.embed + inputs[e, t] * at.stream + f] + table[t, f] if t < at.window else 0
                )


@njit(**_OPTIONS)
def _embed_backward(s, at, inputs, n):
    for e in range(n):
        for t in range(at.window):
            place = at.dx + (e * at.rows + t) * at.stream
            target = at.gradient + at.embed + inputs[e, t] * at.stream
            for f in range(at.d):
                s[target + f] += s[place + f]


@njit(**_OPTIONS)
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
                _zero(s, row, ROWS * at.logits)
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


@njit(**_OPTIONS)
def losses_and_gradients(s, at, table, positions, W, numbers, inputs, targets, order_of, scored, losses, G):
    """Mean loss of each member over the scored positions of its batch, and its gradient.

    Parameters
    ----------
    s : scratch array, as `scratch_of` makes it
    at : Layout
    table : as `table_of` makes it
    positions : (window, d_model)
    W : (member, parameter)
    numbers : (member, 4) strengths of branch and skip, of the attention and of the MLP
    inputs, targets : (order, example, window) of int
    order_of : (member,) of int
    scored : (window,) of bool
    losses : (member,) filled
    G : (member, parameter) filled, or (0, 0)
    """
    learn = G.size > 0
    n_examples = inputs.shape[1]
    weight = 1.0 / (n_examples * scored.sum())
    for member in range(len(W)):
        _pack(s, at, table, W[member])
        for i in range(4):
            s[at.numbers + ALPHA_ATTN + i] = numbers[member, i]
        if learn:
            _zero(s, at.gradient, at.gradient)
        total = 0.0
        for first in range(0, n_examples, at.examples):
            n = min(at.examples, n_examples - first)
            chosen = slice(first, first + n)
            read, told = inputs[order_of[member], chosen], targets[order_of[member], chosen]
            _embed(s, at, positions, read, n)
            _forward(s, at, n)
            total += _cross_entropy(s, at, told, scored, weight, n, learn)
            if learn:
                _backward(s, at, n)
                _embed_backward(s, at, read, n)
        losses[member] = total * weight
        if learn:
            _unpack(s, at, table, G[member])
