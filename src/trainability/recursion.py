"""What one block does to equal tokens at equal angles: norms, angles and gradients, forwards and backwards.

The state is (q, ε): q = |x|²/d and ε = 1 - cos between any two of n tokens; that of the gradients is (Q, P),
Q = |g|²/d and P = g·g'/d. Everything is exact in expectation over one block's weights at infinite width, and works
on arrays over a grid of initializations as well as on numbers; theory/20 to theory/23.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._checks import positive
from ._gaussian import mlp_kernel
from .initialization import Initialization


@dataclass(frozen=True)
class Gains:
    """Squared gains of the two sub-blocks; numbers, or arrays over a grid of initializations.

    A sub-block maps norms by q' = skip·q̄ + branch·F, with q̄ = q, or 1 where the skip carries the normalised stream.
    """

    skip_attn: Any
    branch_attn: Any  # alpha_attn² sigma_value²
    skip_mlp: Any
    branch_mlp: Any  # alpha_mlp²
    survival: Any  # share of a token difference's norm² that uniform attention passes: 1/4 causal, 0 full
    normed: bool
    norm: Any  # K(0) of the MLP
    slope: Any  # χ(0)


def gains(init: Initialization, **values: Any) -> Gains:
    """Gains of an initialization, some of whose values are replaced by arrays of one broadcast shape."""
    get = {name: values.get(name, getattr(init, name)) for name in _GAIN_FIELDS}
    attn, mlp = np.square(get["alpha_attn"]), np.square(get["alpha_mlp"])
    one = init.residual == "one"
    norm, _, slope = mlp_kernel(
        init.activation,
        0.0,
        sigma_mlp=get["sigma_mlp"],
        sigma_bias=get["sigma_bias"],
        sigma_out=get["sigma_out"],
    )
    return Gains(
        skip_attn=np.ones_like(attn) if one else 1 - attn,
        branch_attn=attn * np.square(get["sigma_value"]),
        skip_mlp=np.ones_like(mlp) if one else 1 - mlp,
        branch_mlp=mlp,
        survival=0.25 if init.causal else 0.0,
        normed=init.normed_skip,
        norm=norm,
        slope=slope,
    )


_GAIN_FIELDS = (
    "alpha_attn",
    "alpha_mlp",
    "sigma_value",
    "sigma_mlp",
    "sigma_bias",
    "sigma_out",
)


def collapsed_norm(g: Gains):
    """Norm q at which a collapsed stream rests; infinite where the skips do not shrink it.  theory/22 (eq:norm)."""
    if g.normed:
        return g.skip_mlp + g.branch_mlp * g.norm
    gain = g.skip_mlp * g.branch_attn + g.branch_mlp * g.norm
    loss = 1 - g.skip_attn * g.skip_mlp
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gain + loss == 0, 1.0, gain / loss)  # without branches every norm rests


def collapsed_exponents(g: Gains, q):
    """Angle and gradient exponent of one block on nearly equal tokens of norm q; arrays welcome.

    Exact limits of the recursions as ε → 0. They do not depend on sigma_attn or n_tokens: attention between equal
    tokens is uniform.  theory/22 (eq:angle), theory/23 (eq:gradient).

    Returns
    -------
    angle, gradient, next_norm : ndarray
        Exponents in nats per block; angle is -inf where one block removes all differences.
    """
    stream = 1.0 if g.normed else q
    middle = g.skip_attn * stream + g.branch_attn
    stream_mlp = 1.0 if g.normed else middle
    with np.errstate(divide="ignore"):
        attn = np.log((g.skip_attn * stream + g.branch_attn * g.survival) / middle)
        slope = g.skip_mlp * stream_mlp + g.branch_mlp * g.slope
        after = g.skip_mlp * stream_mlp + g.branch_mlp * g.norm
        angle = attn + np.log(slope / after)
        gradient = np.log(middle / q) + np.log(slope / middle)
    return angle, gradient, after


def resting_norm(init: Initialization, g: Gains, *, depth: int | None = None, q: float | None = None):
    """Norm at which collapsed exponents are taken: `q` if given, else the stream's own; arrays welcome.

    Over a run of `depth` blocks a stream that never rests starts from 1; without a depth it is a `ValueError`.
    A stream that dies out has none: NaN on a grid, a `ValueError` where all of it dies.
    """
    if q is not None:
        return positive("q", q)
    rest = collapsed_norm(g)
    if not np.isfinite(rest).all() and depth is None:
        raise ValueError(
            f"with residual={init.residual!r} and norm={init.norm!r} the stream's norm grows with depth, and the "
            "exponents with it decay like 1/depth: pass depth=... (and q=... of the embedded tokens) to average "
            "them over a stack"
        )
    if (rest <= 0).all():
        raise ValueError(
            f"the stream dies out: both branches are silent (sigma_value={init.sigma_value}, "
            f"sigma_mlp={init.sigma_mlp}, sigma_out={init.sigma_out}) while the skips shrink it"
        )
    return np.where(rest > 0, np.where(np.isfinite(rest), rest, 1.0), np.nan)


def stack_exponents(g: Gains, depth: int, q):
    """Means of the collapsed exponents over `depth` blocks from norm q; arrays welcome."""
    check_start(depth, 1.0, 0.0)
    total_angle, total_gradient = 0.0, 0.0
    for _ in range(depth):
        angle, gradient, q = collapsed_exponents(g, q)
        total_angle, total_gradient = total_angle + angle, total_gradient + gradient
    return total_angle / depth, total_gradient / depth


def attention_step(g: Gains, table, q, epsilon):
    """Norm and ε after the attention sub-block.  theory/20 (eq:attention)."""
    s1, _, _, _, difference = table(epsilon)
    stream = 1.0 if g.normed else q
    q1 = g.skip_attn * stream + g.branch_attn * (1 - epsilon + epsilon * s1)
    return q1, (g.skip_attn * stream * epsilon + g.branch_attn * epsilon * difference) / q1


def mlp_step(g: Gains, kernel, q1, epsilon1):
    """Norm and ε after the MLP sub-block.  theory/20 (eq:mlp)."""
    deficit, _ = kernel(epsilon1)
    stream = 1.0 if g.normed else q1
    q2 = g.skip_mlp * stream + g.branch_mlp * g.norm
    return q2, (g.skip_mlp * stream * epsilon1 + g.branch_mlp * deficit) / q2


def attention_transfer(g: Gains, table, q, epsilon, n):
    """2 × 2 matrix that takes (Q, P) through the attention sub-block, backwards.  theory/23 (eq:attention-back)."""
    s1, slope1, s, slope, _ = table(epsilon)
    rho = 1 - epsilon
    branch = np.array(
        [
            [s1 + (1 + epsilon) * slope1, (n - 1) * (s + rho * slope)],
            [(1 - s1 - slope1) / (n - 1), 1 - s + (epsilon - rho) * slope],
        ]
    )
    skip = g.skip_attn / q if g.normed else g.skip_attn
    return skip * np.eye(2) + g.branch_attn / q * branch


def mlp_transfer(g: Gains, kernel, q1, epsilon1):
    """2 × 2 matrix that takes (Q, P) through the MLP sub-block, backwards.  theory/23 (eq:mlp-back)."""
    _, slope = kernel(epsilon1)
    skip = g.skip_mlp / q1 if g.normed else g.skip_mlp
    return np.diag([skip + g.branch_mlp * g.slope / q1, skip + g.branch_mlp * slope / q1])


def slaved_norm(g: Gains, table, epsilon):
    """Norm at which the stream would rest if ε stayed as it is.  theory/22 (eq:slaved)."""
    if g.normed:
        return g.skip_mlp + g.branch_mlp * g.norm
    attention = g.branch_attn * (1 - epsilon + epsilon * table(epsilon)[0])
    return (g.skip_mlp * attention + g.branch_mlp * g.norm) / (1 - g.skip_attn * g.skip_mlp)


def check_start(depth, q, rho) -> None:
    """Raise a `ValueError` unless a run of `depth` blocks can start from norm q and cosine rho."""
    if depth < 1 or depth != int(depth):
        raise ValueError(f"depth={depth} must be a whole number of blocks, at least 1")
    if not (math.isfinite(q) and q > 0):
        raise ValueError(f"q={q} must be finite and positive: layer normalisation needs a direction")
    if not 0 <= rho < 1:
        raise ValueError(f"rho={rho} must lie in [0, 1): equal tokens (rho = 1) have no angle to follow")
