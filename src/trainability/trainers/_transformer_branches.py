"""Attention and MLP, forward and backward, over a chunk of examples in the scratch array."""

from numba import njit

from ._products import INNER, column, product, turn
from ._rows import ROWS
from ._transformer_layout import SCALE, UNIT
from ._transformer_vector import (
    RELU,
    TANH,
    add_rows,
    relu_backward,
    relu_forward,
    softmax,
    softmax_backward,
    tanh_backward,
    tanh_forward,
)


@njit(**INNER)
def _seen(at, j):
    """Rows of keys that the queries of lane vector j may see."""
    if not at.causal:
        return at.rows
    last = (j + 1) * at.lanes
    return min(at.rows, (last + at.unit - 1) // at.unit * at.unit)


@njit(**INNER, forceinline=True)
def _heads_product(s, lanes, c, c_row, start, start_row, a, a_row, a_k, b, b_k, rows, columns, size):
    if columns == 1:
        column(s, c, c_row, start, start_row, a, a_row, a_k, b, b_k, rows, size)
    else:
        product(s, lanes, c, c_row, start, start_row, a, a_row, a_k, b, b_k, rows, columns, size)


@njit(**INNER)
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
                column(s, c, queries, at.zeros, 0, k, head, 1, b + j * lanes, queries, keys, at.width)
                softmax(s, c, queries, at.window, keys // ROWS, j * lanes, at.causal)
                c_o, keys = ot + h * at.width * queries + j * lanes, min(keys, at.window)
                column(s, c_o, queries, at.zeros, 0, v, 1, head, c, queries, wide, keys)


@njit(**INNER)
def _attend_backward(s, at, n, kept):
    """Gradients of queries, keys and values, given that of the mixed values at `do`."""
    lanes, queries, head = at.lanes, at.queries, at.head
    block = 2 * ROWS if at.causal else at.unit  # small ones have less behind the mask
    columns, across = queries // lanes, (at.width + lanes - 1) // lanes
    scale = at.numbers + SCALE
    for e in range(n):
        source, one = at.do + e * at.rows * head, at.numbers + UNIT
        turn(s, lanes, source, head, at.window, at.d, at.dot, queries, one)
        for h in range(at.heads):
            first = e * at.rows * head + h * at.width
            q, k, v = kept + at.q + first, kept + at.k + first, kept + at.v + first
            dq, dk, dv, do = at.dq + first, at.dk + first, at.dv + first, at.do + first
            p = kept + at.p + (e * at.heads + h) * at.rows * queries
            b = at.dot + h * at.width * queries
            for j in range(columns):
                c, keys = at.dp + j * lanes, _seen(at, j)
                column(s, c, queries, at.zeros, 0, v, head, 1, b + j * lanes, queries, keys, at.width)
                softmax_backward(s, p + j * lanes, c, queries, keys // ROWS, scale)
            for i in range(0, at.rows, block):  # of keys, and of queries
                rows = min(block, at.rows - i)
                begin = i if at.causal else 0
                size = at.window - begin
                a = i * queries + begin
                _heads_product(
                    s, lanes, dv + i * head, head, at.zeros, 0, p + a, queries, 1, do + begin * head, head,
                    rows, across, size,
                )  # fmt: skip
                _heads_product(
                    s, lanes, dk + i * head, head, at.zeros, 0, at.dp + a, queries, 1, q + begin * head, head,
                    rows, across, size,
                )  # fmt: skip
                size = min(at.window, i + block) if at.causal else at.window
                _heads_product(
                    s, lanes, dq + i * head, head, at.zeros, 0, at.dp + i, 1, queries, k, head,
                    rows, across, size,
                )  # fmt: skip


@njit(**INNER)
def weights_gradient(s, at, c, length, a, a_row, b, b_row, rows, columns, size):
    """Add Σ a bᵀ over `size` rows of features to a weight's gradient, whose rows are `length` apart."""
    c += at.gradient
    padded = (rows + ROWS - 1) // ROWS * ROWS
    product(s, at.lanes, c, length, c, length, a, 1, a_row, b, b_row, padded, columns, size)


@njit(**INNER)
def attention(s, at, n, w, kept, y, out):
    rows, stream, head = n * at.rows, at.stream, at.head
    across = stream // at.lanes
    for weight, target in ((at.query, at.q), (at.key, at.k), (at.value, at.v)):
        product(
            s,
            at.lanes,
            kept + target,
            head,
            at.zeros,
            0,
            y,
            stream,
            1,
            w + weight,
            stream,
            rows,
            across,
            at.d,
        )
    for e in range(n):
        source, target = kept + at.q + e * at.rows * head, kept + at.qt + e * (at.d + ROWS) * at.queries
        turn(s, at.lanes, source, head, at.window, at.d, target, at.queries, at.numbers + SCALE)
    _attend(s, at, n, kept)
    for e in range(n):
        c, a = out + e * at.rows * stream, kept + at.ot + e * (at.d + ROWS) * at.queries
        product(
            s,
            at.lanes,
            c,
            stream,
            at.zeros,
            0,
            a,
            1,
            at.queries,
            w + at.attn_out,
            stream,
            at.rows,
            across,
            at.d,
        )


@njit(**INNER)
def attention_backward(s, at, n, w, w_t, kept, y):
    """From the gradient of the branch at `db` to that of its input at `dy`."""
    rows, stream, head = n * at.rows, at.stream, at.head
    across = stream // at.lanes
    for e in range(n):
        a, b = kept + at.ot + e * (at.d + ROWS) * at.queries, at.db + e * at.rows * stream
        c = at.gradient + w + at.attn_out
        tall = (at.d + ROWS - 1) // ROWS * ROWS
        product(s, at.lanes, c, stream, c, stream, a, at.queries, 1, b, stream, tall, across, at.window)
    product(
        s,
        at.lanes,
        at.do,
        head,
        at.zeros,
        0,
        at.db,
        stream,
        1,
        w_t + at.attn_out_t,
        stream,
        rows,
        across,
        at.d,
    )
    _attend_backward(s, at, n, kept)
    start, length = at.zeros, 0
    for weight, turned, source in (
        (at.query, at.query_t, at.dq),
        (at.key, at.key_t, at.dk),
        (at.value, at.value_t, at.dv),
    ):
        weights_gradient(s, at, w + weight, stream, y, stream, source, head, at.d, across, rows)
        product(
            s,
            at.lanes,
            at.dy,
            stream,
            start,
            length,
            source,
            head,
            1,
            w_t + turned,
            stream,
            rows,
            across,
            at.d,
        )
        start, length = at.dy, stream


@njit(**INNER)
def mlp(s, at, n, w, kept, y, out):
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


@njit(**INNER)
def mlp_backward(s, at, n, w, w_t, kept, y):
    """From the gradient of the branch at `db` to that of its input at `dy`."""
    rows, stream, hidden, h = n * at.rows, at.stream, at.hidden, kept + at.h
    across, wide = stream // at.lanes, hidden // at.lanes
    weights_gradient(s, at, w + at.mlp_out, stream, h, hidden, at.db, stream, at.m, across, rows)
    add_rows(s, at.gradient + w + at.mlp_out_bias, at.db, stream, rows, across)
    product(
        s,
        at.lanes,
        at.dh,
        hidden,
        at.zeros,
        0,
        at.db,
        stream,
        1,
        w_t + at.mlp_out_t,
        hidden,
        rows,
        wide,
        at.d,
    )
    if at.activation == RELU:
        relu_backward(s, h, at.dh, rows * wide // ROWS)
    elif at.activation == TANH:
        tanh_backward(s, h, at.dh, rows * wide // ROWS)
    weights_gradient(s, at, w + at.mlp_in, hidden, y, stream, at.dh, hidden, at.d, wide, rows)
    add_rows(s, at.gradient + w + at.mlp_in_bias, at.dh, hidden, rows, wide)
    product(
        s,
        at.lanes,
        at.dy,
        stream,
        at.zeros,
        0,
        at.dh,
        hidden,
        1,
        w_t + at.mlp_in_t,
        stream,
        rows,
        across,
        at.m,
    )
