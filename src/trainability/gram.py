"""The general recursion: every token its own norm, every pair its own angle.

Causal decoders and real token statistics leave the symmetric class that `geometry` iterates. Conditional on the
attention weights w, the n × n matrix of dot products obeys an exact recursion at infinite width; w itself is drawn
from its exact Gaussian law, given the dot products. One run is one draw per layer; runs are averaged by the caller.

States are norms q (n,) and E = 1 - cos (n, n) rather than the dot products, whose differences would round off near
collapse.  theory/25 (eq:gram).
"""

from dataclasses import dataclass

import numpy as np

from ._gaussian import kernel_table
from .initialization import Initialization, check_name
from .recursion import Gains, check_start, gains


def simplex_gram(n_tokens: int, *, q: float = 1.0, rho: float = 0.0) -> np.ndarray:
    """Dot products, shape (n_tokens, n_tokens), of equal tokens at equal angles: q on the diagonal, q rho off it.

    Examples
    --------
    >>> simplex_gram(2, q=2.0, rho=0.5)
    array([[2., 1.],
           [1., 2.]])
    """
    check_start(1, q, rho)
    return q * (rho + (1 - rho) * np.eye(n_tokens))


def propagate_gram(
    init: Initialization,
    gram,
    depth: int,
    *,
    n_runs: int = 16,
    seed: int = 0,
    attention: str = "drawn",
    gradients: str = "mean",
):
    """Dot products of tokens and of their gradients, block by block, for any tokens and causal attention.

    Parameters
    ----------
    init : Initialization
        Its n_tokens must be that of `gram`. With d_model, queries and keys have d_model / n_heads dimensions;
        the width is infinite in all else.
    gram : array_like, shape (n, n)
        Dot products x_i·x_j / d of the tokens that enter: symmetric, positive semidefinite, no zero norm.
    depth : int
        Blocks.
    n_runs : int, optional
        Independent draws of the attention weights of all layers.
    seed : int, optional
    attention : {"drawn", "averaged"}, optional
        "drawn": each run keeps its own weights and tokens, which is what random networks do. "averaged": every
        layer replaces the dot products by their mean over the runs, a deterministic recursion as n_runs → ∞.
    gradients : {"mean", "drawn"}, optional
        "mean" averages the softmax's back-signal in closed form, for E Q; "drawn" samples it, for E log Q, which
        differs at strong attention.

    Returns
    -------
    xarray.Dataset
        Along `layer` = 0 … depth: gram and gradient_gram (layer, token, other), means over runs; and per run
        (run, layer): q and gradient_q (means over tokens), epsilon (mean over pairs of 1 - cosine). At the output,
        each token's gradient is an independent random vector. Gradients beyond the range of floats are inf.

    Raises
    ------
    ValueError
        If `gram` is not a matrix of dot products of init.n_tokens nonzero tokens, or depth or n_runs is below 1.

    Examples
    --------
    >>> init = Initialization(n_tokens=8, alpha_attn=0.9, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=2.0, causal=True)
    >>> layers = propagate_gram(init, simplex_gram(8, rho=0.99), depth=3)
    >>> gradient = layers.gradient_gram[0].values.diagonal()
    >>> bool(gradient[0] > 3 * gradient[-1])  # the first token is read by all
    True
    """
    import xarray as xr

    gram = _checked_gram(gram, init.n_tokens)
    check_start(depth, gram[0, 0], 0.0)
    if n_runs < 1:
        raise ValueError(f"n_runs={n_runs} must be at least 1")
    check_name("attention", attention, ("drawn", "averaged"))
    check_name("gradients", gradients, ("mean", "drawn"))
    rng = np.random.default_rng(seed)
    block = _Block(init)
    norm = np.sqrt(gram.diagonal())
    state = _State(
        np.broadcast_to(gram.diagonal(), (n_runs, len(gram))),
        np.broadcast_to(_angular(gram / np.outer(norm, norm)), (n_runs, *gram.shape)),
    )
    layers, middles, weights = _forward(block, state, depth, rng, averaged=attention == "averaged")
    back = _backward(block, layers, middles, weights, rng if gradients == "drawn" else None)
    pairs = ~np.eye(len(gram), dtype=bool)
    run_layer, per_layer = ("run", "layer"), ("layer", "token", "other")
    return xr.Dataset(
        {
            "gram": (per_layer, np.array([s.gram.mean(0) for s in layers])),
            "gradient_gram": (per_layer, np.array([g.mean(0) for g in back])),
            "q": (run_layer, np.stack([s.q.mean(-1) for s in layers], axis=1)),
            "epsilon": (run_layer, np.stack([s.epsilon[:, pairs].mean(-1) for s in layers], axis=1)),
            "gradient_q": (run_layer, np.stack([np.einsum("rii->r", g) for g in back], axis=1) / len(gram)),
        },
        coords={"layer": np.arange(depth + 1), "run": np.arange(n_runs)},
        attrs={"initialization": repr(init), "seed": seed, "attention": attention, "gradients": gradients},
    )


def _forward(block, state, depth, rng, *, averaged):
    """States before each block and at the end, between sub-blocks, and the weights of every head."""
    layers, middles, weights = [state], [], []
    for _ in range(depth):
        weights.append(block.draw_attention(layers[-1].epsilon, rng))
        middle = block.attend(layers[-1], weights[-1])
        middles.append(_averaged(middle) if averaged else middle)
        layers.append(block.think(middles[-1]))
    return layers, middles, weights


def _backward(block, layers, middles, weights, rng):
    """Dot products of gradients at every layer, from independent ones at the output; inf once they overflow."""
    runs, n = layers[0].q.shape
    back = [np.broadcast_to(np.eye(n), (runs, n, n))]
    for before, middle, w in zip(reversed(layers[:-1]), reversed(middles), reversed(weights), strict=True):
        finite = np.isfinite(back[-1]).all(axis=(1, 2), keepdims=True)
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = block.think_back(middle, np.where(finite, back[-1], 0.0))
            gradient = block.attend_back(before, w, gradient, rng)
        finite &= np.isfinite(gradient).all(axis=(1, 2), keepdims=True)
        back.append(np.where(finite, gradient, np.inf))
    return back[::-1]


def draw_attention(
    epsilon, sigma_attn: float, *, causal: bool, rng: np.random.Generator, head_dim: int | None = None
) -> np.ndarray:
    """Draw attention weights of one head.

    Parameters
    ----------
    epsilon : ndarray, shape (runs, n, n)
        1 - cosine between tokens.
    sigma_attn : float
    causal : bool
    rng : numpy.random.Generator
    head_dim : int, optional
        Dimension of queries and keys, whose product has heavier tails than a Gaussian; left out, infinite.

    Returns
    -------
    ndarray, shape (runs, n, n)
        Row i holds the weights that token i gives to all.

    Examples
    --------
    >>> epsilon = np.broadcast_to(1 - np.eye(3), (2, 3, 3))  # orthogonal tokens
    >>> draw_attention(epsilon, 0.0, causal=True, rng=np.random.default_rng(0))[0].round(2)
    array([[1.  , 0.  , 0.  ],
           [0.5 , 0.5 , 0.  ],
           [0.33, 0.33, 0.33]])
    """
    n = epsilon.shape[-1]
    rows = _root(1 - epsilon)
    # What all keys share shifts a row's logits by a constant, which softmax ignores: keys count from their mean.
    centre = np.eye(n) - 1 / n
    columns = _root(-centre @ epsilon @ centre)
    if head_dim is None:
        form = rng.standard_normal(epsilon.shape)
    else:
        query, key = (rng.standard_normal((len(epsilon), n, head_dim)) for _ in range(2))
        form = query @ _t(key) / np.sqrt(head_dim)
    logits = sigma_attn * rows @ form @ _t(columns)
    if causal:
        logits = np.where(np.tri(n, dtype=bool), logits, -np.inf)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class _State:
    """Norms (runs, n) and 1 - cosines (runs, n, n)."""

    q: np.ndarray
    epsilon: np.ndarray

    @property
    def gram(self):
        return np.sqrt(self.outer) * (1 - self.epsilon)

    @property
    def outer(self):
        return self.q[:, :, None] * self.q[:, None, :]


class _Block:
    """One block's maps, forward and backward, on states and gradients of many runs."""

    def __init__(self, init: Initialization) -> None:
        self.init = init
        self.gains: Gains = gains(init)
        self.kernel = kernel_table(init.activation, init.sigma_mlp, init.sigma_bias, init.sigma_out)

    def draw_attention(self, epsilon, rng):
        """Weights of every head, a list of arrays (runs, n, n)."""
        init = self.init
        head_dim = None if init.d_model is None else init.d_model // init.n_heads
        return [
            draw_attention(epsilon, init.sigma_attn, causal=init.causal, rng=rng, head_dim=head_dim)
            for _ in range(init.n_heads)
        ]

    def attend(self, state, heads):
        """State after attention with given weights."""
        g = self.gains
        mixed = np.mean([w @ state.epsilon @ _t(w) for w in heads], axis=0)  # (run, token, token)
        own = np.einsum("rii->ri", mixed)
        distance = mixed - (own[:, :, None] + own[:, None, :]) / 2
        return self._residual(state, g.skip_attn, g.branch_attn, 1 - own, distance)

    def think(self, state):
        """State after the MLP."""
        g = self.gains
        deficit, _ = self.kernel(state.epsilon)
        return self._residual(state, g.skip_mlp, g.branch_mlp, np.full_like(state.q, g.norm), deficit)

    def _residual(self, state, skip, branch, branch_norm, branch_distance):
        """Add a branch, given its norms and half squared distances, to the skip."""
        if self.gains.normed:
            state = _State(np.ones_like(state.q), state.epsilon)
        distance = (
            skip * (np.sqrt(state.outer) * state.epsilon + _half_square_gap(state.q))
            + branch * branch_distance
        )
        q = skip * state.q + branch * branch_norm
        after = _State(q, state.epsilon)
        return _State(q, _angular((distance - _half_square_gap(q)) / np.sqrt(after.outer), deficit=True))

    def think_back(self, state, gradient):
        """Gradients' dot products at the MLP's input."""
        g = self.gains
        scale = 1 / np.sqrt(state.outer)
        _, slope = self.kernel(state.epsilon)
        return gradient * ((scale if g.normed else 1) * g.skip_mlp + g.branch_mlp * slope * scale)

    def attend_back(self, state, heads, gradient, rng):
        """Gradients' dot products at the attention sub-block's input; the back-signal drawn if `rng` is given."""
        g = self.gains
        scale = 1 / np.sqrt(state.outer)
        paths = _mean_paths if rng is None else _drawn_paths
        branch = np.mean(
            [
                _t(w) @ gradient @ w + self.init.sigma_attn**2 * paths(w, gradient, state.epsilon, rng)
                for w in heads
            ],
            axis=0,
        )
        return gradient * ((scale if g.normed else 1) * g.skip_attn) + g.branch_attn * scale * branch


def _mean_paths(w, gradient, epsilon, _):
    """Key and query paths, averaged over the value matrix.

    With Γ the dot products of keys about the attention's means, which only differences of tokens enter, so
    that 1 - cos can stand for -cos.  theory/25 (eq:paths).
    """
    y = epsilon @ _t(w)
    x = w @ y
    h = gradient * (1 - epsilon)
    cross = ((_t(w) @ h) * y) @ w
    key = -epsilon * (_t(w) @ h @ w) + cross + _t(cross) - _t(w) @ (h * x) @ w
    spread = w @ y**2
    query = gradient * (w @ epsilon**2 @ _t(w) - spread - _t(spread) + x**2)
    return key + query


def _drawn_paths(w, gradient, epsilon, rng):
    """Key and query paths with one draw of g_i · V y_j."""
    signal = _root(gradient) @ rng.standard_normal(gradient.shape) @ _t(_root(1 - epsilon))
    back = w * (signal - (w * signal).sum(-1, keepdims=True))
    return _t(back) @ (1 - epsilon) @ back + back @ (1 - epsilon) @ _t(back)


def _t(a):
    return np.swapaxes(a, -1, -2)


def _root(a):
    """R with R Rᵀ = a for a symmetric positive semidefinite stack; rounding below zero is cut."""
    values, vectors = np.linalg.eigh(a)
    return vectors * np.sqrt(np.maximum(values, 0))[..., None, :]


def _half_square_gap(q):
    """(√q_i - √q_j)² / 2."""
    root = np.sqrt(q)
    return (root[:, :, None] - root[:, None, :]) ** 2 / 2


def _angular(a, *, deficit=False):
    """1 - cosine in [0, 2] with a zero diagonal, from cosines or from a rounded 1 - cosine."""
    epsilon = np.clip(a if deficit else 1 - a, 0, 2)
    i = np.arange(epsilon.shape[-1])
    epsilon[..., i, i] = 0
    return epsilon


def _averaged(state):
    """Replace every run's dot products by their mean."""
    gram = state.gram.mean(0)
    q = np.broadcast_to(gram.diagonal(), state.q.shape)
    distance = (np.sqrt(state.outer) * state.epsilon + _half_square_gap(state.q)).mean(0)
    norm = np.sqrt(np.outer(gram.diagonal(), gram.diagonal()))
    epsilon = _angular((distance - _half_square_gap(q[:1])[0]) / norm, deficit=True)
    return _State(q, np.broadcast_to(epsilon, state.epsilon.shape))


def _checked_gram(gram, n_tokens):
    gram = np.asarray(gram, dtype=float)
    if gram.shape != (n_tokens, n_tokens):
        raise ValueError(
            f"gram has shape {gram.shape}; with n_tokens={n_tokens} it needs ({n_tokens}, {n_tokens})"
        )
    if not np.isfinite(gram).all():
        raise ValueError("gram must be finite")
    largest = np.abs(gram).max()
    if not np.allclose(gram, gram.T, rtol=0, atol=1e-9 * largest):
        raise ValueError("gram must be symmetric: it holds the dot products x_i·x_j / d")
    if gram.diagonal().min() <= 0:
        raise ValueError(
            f"token {gram.diagonal().argmin()} has norm {gram.diagonal().min()}; every token needs one"
        )
    if np.linalg.eigvalsh(gram)[0] < -1e-9 * largest:
        raise ValueError("gram is not positive semidefinite: no tokens have these dot products")
    return gram
