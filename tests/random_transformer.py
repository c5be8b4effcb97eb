"""A plain random transformer, the oracle of token geometry: real weights, real softmax, gradients by autograd.

It knows nothing of the theory. Weights are drawn entry by entry, queries and keys separately, values and the
output projection separately; the only liberty is to draw a layer's weights when it is reached.
"""

import math

import numpy as np
import torch

from trainability.initialization import Initialization

ACTIVATIONS = {
    "tanh": torch.tanh,
    "erf": torch.erf,
    "relu": torch.relu,
    "leaky_relu": torch.nn.functional.leaky_relu,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "identity": lambda x: x,
    "swiglu": torch.nn.functional.silu,
    "geglu": torch.nn.functional.gelu,
}


def simplex(n, d, *, q, epsilon, generator):
    """n tokens (n, d) with |x|² = q d and 1 - cos = epsilon between any two, randomly rotated."""
    basis = torch.linalg.qr(torch.randn(d, n, generator=generator, dtype=torch.float64))[0].T  # (n, d)
    mean = basis.sum(0) / n
    spread = (basis - mean) * math.sqrt(epsilon)
    common = mean / mean.norm() * math.sqrt(1 - epsilon * (1 - 1 / n))
    return (spread + common) * math.sqrt(q * d)


def normalise(x, *, subtract_mean=False):
    if subtract_mean:
        x = x - x.mean(-1, keepdim=True)
    return x * (math.sqrt(x.shape[-1]) / x.norm(dim=-1, keepdim=True))


def block(x, init: Initialization, generator, *, subtract_mean=False):
    """The streams after the attention sub-block and after the MLP, both (n, d)."""
    d = x.shape[-1]
    width = init.d_mlp or 2 * d

    def weights(rows, columns, gain):
        scale = gain / math.sqrt(columns)
        return torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale

    def skip(x, y, alpha):
        factor = 1.0 if init.residual == "one" else math.sqrt(1 - alpha**2)
        return factor * (y if init.residual == "normed" or init.norm == "post" else x)

    y = normalise(x, subtract_mean=subtract_mean)
    gain = math.sqrt(init.sigma_attn)
    heads = (len(x), init.n_heads, d // init.n_heads)
    query, key, value = (
        (y @ weights(d, d, g).T).view(heads).transpose(0, 1) for g in (gain, gain, init.sigma_value)
    )  # (head, token, d / n_heads)
    logits = query @ key.transpose(1, 2) / math.sqrt(heads[2])
    if init.causal:
        logits = logits.masked_fill(~torch.ones(len(x), len(x), dtype=torch.bool).tril(), -math.inf)
    mixed = (logits.softmax(-1) @ value).transpose(0, 1).reshape(x.shape)
    middle = skip(x, y, init.alpha_attn) + init.alpha_attn * mixed @ weights(d, d, 1.0).T

    y = normalise(middle, subtract_mean=subtract_mean)
    bias = init.sigma_bias * torch.randn(width, generator=generator, dtype=torch.float64)
    hidden = ACTIVATIONS[init.activation](y @ weights(width, d, init.sigma_mlp).T + bias)
    if init.gated:
        hidden = hidden * (y @ weights(width, d, init.sigma_mlp).T)
    branch = hidden @ weights(d, width, init.sigma_out).T
    return middle, skip(middle, y, init.alpha_mlp) + init.alpha_mlp * branch


def geometry(x):
    """q, p and mean 1 - cos of tokens (n, d), the last from differences, so that it survives collapse."""
    x = x.detach()
    n, d = x.shape
    norms = x.norm(dim=-1)
    unit = x / norms[:, None]
    epsilon = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist").square().sum() / 2
    q = norms.square().mean() / d
    p = (x.sum(0).square().sum() / d - n * q) / (n * (n - 1))
    return float(q), float(p), float(epsilon) / (n * (n - 1))


def run(init, *, d, depth, q, epsilon, seed, cotangent="independent", subtract_mean=False, full=False):
    """One network: forward geometry after every sub-block, backward geometry at every block's input.

    Returns a dict: `forward` (2 depth + 1, 3) of (q, p, 1 - cos) and `backward` (depth + 1, 2) of (Q, P) per unit
    gradient at the output; with `full`, also the matrices `gram` and `gradient_gram` (depth + 1, n, n).
    """
    generator = torch.Generator().manual_seed(seed)
    x = simplex(init.n_tokens, d, q=q, epsilon=epsilon, generator=generator).requires_grad_()
    streams, middles = [x], []
    for _ in range(depth):
        middle, x = block(streams[-1], init, generator, subtract_mean=subtract_mean)
        middles.append(middle)
        streams.append(x)
    shape = x.shape if cotangent == "independent" else (1, d)
    g = torch.randn(shape, generator=generator, dtype=torch.float64).expand(x.shape)
    gradients = torch.autograd.grad(x, streams, g)
    unit = float(g.square().mean())
    forward = [geometry(streams[0])]
    for middle, stream in zip(middles, streams[1:], strict=True):
        forward += [geometry(middle), geometry(stream)]
    out = {
        "forward": np.array(forward),
        "backward": np.array([geometry(g)[:2] for g in gradients]) / unit,
    }
    if full:
        out["gram"] = np.array([(s @ s.T / d).detach().numpy() for s in streams])
        out["gradient_gram"] = np.array([(g @ g.T / d).numpy() for g in gradients]) / unit
    return out


def sample(init, *, n_networks, seed=0, **options):
    """`run` for many networks, every result stacked along a first axis."""
    runs = [run(init, seed=10_000 * seed + i, **options) for i in range(n_networks)]
    return {name: np.array([r[name] for r in runs]) for name in runs[0]}
