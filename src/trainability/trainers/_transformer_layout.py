"""Where the numbers of one member's step stand in the scratch array of the vector code."""

import math
from typing import NamedTuple

import numpy as np

from ._rows import ROWS
from ._transformer_model import Architecture
from ._transformer_vector import IDENTITY, MASKED, RELU, TANH
from ._vector import VECTOR_BYTES

NO_NORM, PRE, POST = range(3)
ONE, SQRT, NORMED = range(3)

_NORMS = {"none": NO_NORM, "pre": PRE, "post": POST}
_RESIDUALS = {"one": ONE, "sqrt": SQRT, "normed": NORMED}
ACTIVATIONS = {"relu": RELU, "tanh": TANH, "identity": IDENTITY}

# Numbers kept at `Layout.numbers`, in this order: the strength of a branch and of its skip, …
ZERO, UNIT, ALPHA_ATTN, SKIP_ATTN, ALPHA_MLP, SKIP_MLP, SHARE, SCALE = range(8)

# Activations of the examples that are taken together, in numbers; they pass several times through the second cache.
_CHUNK = 100_000


class Layout(NamedTuple):
    """Sizes, and offsets in elements. Token-major buffers have `rows` rows an example, feature-major ones `queries`
    columns a feature. Offsets of a block count from the start of its region.
    """

    lanes: int
    unit: int  # rows and columns are padded to multiples of this
    examples: int  # at most, in one chunk
    window: int
    rows: int
    queries: int
    d: int
    stream: int  # length of a row of features
    head: int  # the same where heads are read or written by whole lane vectors, from any of them on
    heads: int
    width: int
    m: int
    hidden: int
    inputs: int
    outputs: int
    logits: int
    layers: int
    norm: int
    final_norm: int
    residual: int
    activation: int
    causal: int
    # Weights, and as far behind as `gradient` says their gradients.
    embed: int
    blocks: int
    block_size: int
    gain1: int
    shift1: int
    query: int
    key: int
    value: int
    attn_out: int
    gain2: int
    shift2: int
    mlp_in: int
    mlp_in_bias: int
    mlp_out: int
    mlp_out_bias: int
    gain: int
    shift: int
    head_weight: int
    head_bias: int
    gradient: int
    # Transposed weights.
    blocks_t: int
    block_size_t: int
    query_t: int
    key_t: int
    value_t: int
    attn_out_t: int
    mlp_in_t: int
    mlp_out_t: int
    head_t: int
    # What the forward pass leaves to the backward pass, block by block.
    kept: int
    kept_size: int
    x1: int
    y1: int
    unit1: int
    root1: int
    q: int
    k: int
    v: int
    qt: int
    p: int
    ot: int
    x2: int
    y2: int
    unit2: int
    root2: int
    h: int
    x: int
    y: int
    unit_final: int
    root: int
    # For the moment.
    z: int
    dx: int
    dy: int
    db: int
    dh: int
    dq: int
    dk: int
    dv: int
    do: int
    dot: int
    dp: int
    dlogits: int
    zeros: int
    mask: int
    positions: int
    numbers: int
    tops: int
    sums: int
    size: int

    def record(self) -> np.record:
        """The same for compiled code, which takes it as one pointer."""
        kind = [(name, np.int64) for name in self._fields]
        return np.rec.array([tuple(self)], dtype=kind)[0]


def _padded(n: int, unit: int) -> int:
    return -(-n // unit) * unit


class _Region:
    """Offsets handed out one after another."""

    def __init__(self, start: int = 0):
        self.at: dict[str, int] = {}
        self.end = start

    def add(self, **sizes: int) -> None:
        for name, size in sizes.items():
            self.at[name] = self.end
            self.end += _padded(size, 16)


def layout_of(model: Architecture, dtype: str, batch_size: int) -> Layout:
    """The layout for batches of this size; the examples of a chunk are as many as fit a cache."""
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    unit = max(lanes, ROWS)
    d, m, window, heads = model.d_model, model.d_mlp, model.window, model.n_heads
    width, rows, queries = d // heads, _padded(window, ROWS), _padded(window, unit)
    stream, hidden, logits = (_padded(n, unit) for n in (d, m, model.n_outputs))
    head = stream if width % lanes == 0 else stream + unit
    each = model.n_layers * (
        rows * (6 * stream + 3 * head + hidden) + heads * rows * queries + 2 * d * queries
    )
    examples = int(np.clip(_CHUNK // each, 1, batch_size))
    examples = math.ceil(batch_size / math.ceil(batch_size / examples))  # chunks as even as can be
    n = examples * rows

    weights, block = _Region(), _Region()
    tall, high = _padded(d, ROWS), _padded(m, ROWS)
    block.add(gain1=stream, shift1=stream)
    block.add(**dict.fromkeys(("query", "key", "value", "attn_out"), tall * stream))
    block.add(gain2=stream, shift2=stream, mlp_in=tall * hidden, mlp_in_bias=hidden)
    block.add(mlp_out=high * stream, mlp_out_bias=stream)
    weights.add(embed=model.n_inputs * stream, blocks=model.n_layers * block.end, gain=stream, shift=stream)
    weights.add(head_weight=tall * logits, head_bias=logits)

    turned, block_t = _Region(2 * weights.end), _Region()
    block_t.add(**{f"{name}_t": tall * stream for name in ("query", "key", "value", "attn_out")})
    block_t.add(mlp_in_t=high * stream, mlp_out_t=tall * hidden)
    turned.add(blocks_t=model.n_layers * block_t.end, head_t=_padded(model.n_outputs, ROWS) * stream)

    kept = _Region()
    turned_size = examples * (d + ROWS) * queries
    kept.add(x1=n * stream, y1=n * stream, unit1=n * stream, root1=n, q=n * head, k=n * head, v=n * head)
    kept.add(qt=turned_size, p=examples * heads * rows * queries, ot=turned_size)
    kept.add(x2=n * stream, y2=n * stream, unit2=n * stream, root2=n, h=n * hidden)
    rest = _Region(turned.end)
    rest.add(kept=model.n_layers * kept.end, x=n * stream, y=n * stream, unit_final=n * stream, root=n)
    rest.add(z=n * stream, dx=n * stream, dy=n * stream, db=n * stream, dh=n * hidden)
    rest.add(dq=n * head, dk=n * head, dv=n * head, do=n * head, dot=(d + ROWS) * queries, dp=rows * queries)
    rest.add(
        dlogits=n * logits,
        zeros=max(stream, hidden, logits, queries) + 16,
        mask=stream,
        positions=window * stream,
    )
    rest.add(numbers=16, tops=16, sums=16)
    return Layout(
        lanes=lanes, unit=unit, examples=examples, window=window, rows=rows, queries=queries, d=d, stream=stream,
        head=head, heads=heads, width=width, m=m, hidden=hidden, inputs=model.n_inputs, outputs=model.n_outputs,
        logits=logits, layers=model.n_layers, norm=_NORMS[model.norm], final_norm=int(model.final_norm),
        residual=_RESIDUALS[model.residual], activation=ACTIVATIONS[model.activation], causal=int(model.causal),
        **weights.at, block_size=block.end, **block.at, gradient=weights.end,
        **turned.at, block_size_t=block_t.end, **block_t.at,
        kept_size=kept.end, **kept.at, **rest.at, size=rest.end,
    )  # fmt: skip


def table_of(model: Architecture, at: Layout) -> np.ndarray:
    """For each tensor: where it stands in a member's row, rows, columns, offset and row length here, and transposed.

    The offset of a transposed one is -1 where it is not needed.
    """
    short = {"norm_final.gain": "gain", "norm_final.shift": "shift", "head": "head_weight"}
    found = []
    for p in model.parameters:
        name, base, base_t = short.get(p.name, p.name), 0, 0
        if name.startswith("blocks."):
            _, layer, name = name.split(".", 2)
            base, base_t = at.blocks + int(layer) * at.block_size, at.blocks_t + int(layer) * at.block_size_t
        for number in "12":
            name = name.replace(f"norm{number}.gain", f"gain{number}")
            name = name.replace(f"norm{number}.shift", f"shift{number}")
        turned = "head_t" if name == "head_weight" else f"{name}_t"
        rows, columns = p.shape if len(p.shape) == 2 else (1, p.size)
        offset_t = base_t + getattr(at, turned) if turned in Layout._fields else -1
        found.append(
            (
                p.start,
                rows,
                columns,
                base + getattr(at, name),
                _padded(columns, at.unit),
                offset_t,
                _padded(rows, at.unit),
            )
        )
    return np.array(found, np.int64)


def scratch_of(at: Layout, dtype: str, positions: np.ndarray) -> np.ndarray:
    """The scratch array, aligned, with all that does not change from member to member; positions (window, d)."""
    item = np.dtype(dtype).itemsize
    raw = np.zeros(at.size + VECTOR_BYTES // item, dtype)
    s = raw[-raw.ctypes.data % VECTOR_BYTES // item :][: at.size]
    s[at.mask : at.mask + at.d] = 1
    rows = s[at.positions : at.positions + at.window * at.stream].reshape(at.window, at.stream)
    rows[:, : at.d] = positions
    s[at.numbers + UNIT], s[at.numbers + SHARE] = 1, 1 / at.d
    s[at.numbers + SCALE] = at.width**-0.5
    s[at.head_bias + at.outputs : at.head_bias + at.logits] = MASKED
    return s
