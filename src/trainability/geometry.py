"""Token geometry of randomly initialised transformers: how angles and gradients travel through the blocks.

Tokens of equal norm and equal overlap stay so, on average over the weights: n·d numbers per layer reduce to two,
q = |x|²/d and ε = 1 - cos(angle), and the gradients' n × n dot products to Q = |g|²/d and P = g·g'/d. This module
iterates them, finds where they rest and reads off the two exponents. The general n × n recursion lives in `gram`.

Cowsik, Nebabu, Qi & Ganguli, arXiv:2403.02579, Phys. Rev. E 112, 055301; derivations in theory/20 to theory/24.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from ._gaussian import kernel_table
from .gram import propagate_gram, simplex_gram
from .initialization import Exponents, Initialization, check_name
from .recursion import (
    attention_step,
    attention_transfer,
    check_start,
    collapsed_exponents,
    gains,
    mlp_step,
    mlp_transfer,
    resting_norm,
    slaved_norm,
    stack_exponents,
)
from .softmax import overlap_table

__all__ = [
    "Exponents",
    "FixedPoint",
    "Initialization",
    "fixed_points",
    "predict_exponents",
    "propagate",
]

# Where fixed points are looked for: √ε, dense towards collapse. Roots closer than two neighbours (1%) are one.
_SCAN = np.concatenate([np.geomspace(1e-6, 0.02, 200), np.linspace(0.02, 1.0, 401)[1:]])
_ROUNDING = 1e-12
_RUNS = 64  # draws of the attention weights of a causal run: a relative error of some percent
_STEP = 1e-5  # relative step of the central differences that give a fixed point's multipliers


def _tables(init: Initialization):
    kernel = kernel_table(init.activation, init.sigma_mlp, init.sigma_bias, init.sigma_out)
    return overlap_table(float(init.sigma_attn), int(init.n_tokens)), kernel


def propagate(init: Initialization, depth: int, *, q: float = 1.0, rho: float = 0.0):
    """Token and gradient geometry, block by block, in the limit of infinite width.

    Starts from n tokens of norm² q·d and pairwise cosine rho; at the output each token's gradient is an independent
    random vector (Q = 1, P = 0).

    Parameters
    ----------
    init : Initialization
        With full attention; for a causal mask or unequal tokens use `propagate_gram`.
    depth : int
        Blocks.
    q : float, optional
        Norm² per dimension of the tokens that enter.
    rho : float, optional
        Cosine between them, in [0, 1).

    Returns
    -------
    xarray.Dataset
        Along `layer` = 0 … depth (the stream before block layer + 1): q, p, rho = p/q, epsilon = 1 - rho,
        gradient_q (Q) and gradient_p (P), inf beyond the range of floats. Along `block` = 1 … depth (between
        its two sub-blocks): q_mid, p_mid, epsilon_mid.

    Raises
    ------
    ValueError
        If the initialization is causal, depth < 1, q ≤ 0 or rho is outside [0, 1).

    Notes
    -----
    Exact in expectation for one block. Over blocks two closures enter: all tokens share one norm (error of
    relative size cv², theory/25 (eq:closure)), and gradients are independent of the block's weights.

    Examples
    --------
    >>> init = Initialization(n_tokens=16, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=4.0)
    >>> layers = propagate(init, depth=60, rho=0.9)
    >>> float(layers.rho[-1].round(2))
    0.33
    """
    import xarray as xr

    if init.causal:
        raise ValueError(
            "propagate needs full attention (causal=False); use propagate_gram for a causal mask"
        )
    check_start(depth, q, rho)
    g, (table, kernel) = gains(init), _tables(init)
    stream, middle = [(q, 1.0 - rho)], []
    for _ in range(depth):
        middle.append(attention_step(g, table, *stream[-1]))
        stream.append(mlp_step(g, kernel, *middle[-1]))
    gradients = [np.array([1.0, 0.0])]
    for before, between in zip(reversed(stream[:-1]), reversed(middle), strict=True):
        block = attention_transfer(g, table, *before, init.n_tokens) @ mlp_transfer(g, kernel, *between)
        with np.errstate(over="ignore", invalid="ignore"):
            gradient = block @ gradients[-1]
        gradients.append(gradient if np.isfinite(gradient).all() else np.full(2, np.inf))
    (qs, epsilon), (q_mid, epsilon_mid) = np.array(stream, float).T, np.array(middle, float).T
    gradient_q, gradient_p = np.array(gradients[::-1]).T
    along = {
        "q": qs,
        "p": qs * (1 - epsilon),
        "rho": 1 - epsilon,
        "epsilon": epsilon,
        "gradient_q": gradient_q,
        "gradient_p": gradient_p,
    }
    between_blocks = {"q_mid": q_mid, "p_mid": q_mid * (1 - epsilon_mid), "epsilon_mid": epsilon_mid}
    return xr.Dataset(
        {name: ("layer", values) for name, values in along.items()}
        | {name: ("block", values) for name, values in between_blocks.items()},
        coords={"layer": np.arange(depth + 1), "block": np.arange(1, depth + 1)},
        attrs={"initialization": repr(init)},
    )


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """A state that a block maps to itself.

    Parameters
    ----------
    q, epsilon : float
        Norm² per dimension, and 1 - cosine between tokens; epsilon = 0 is collapse.
    angle : float
        Growth per block, in nats, of a small deviation of the angle from it (of ε itself at collapse).
    gradient : float
        Growth per block of the leading gradient mode.
    """

    q: float
    epsilon: float
    angle: float
    gradient: float

    @property
    def rho(self) -> float:
        """Cosine between tokens."""
        return 1 - self.epsilon

    @property
    def stable(self) -> bool:
        """Whether small deviations of the angle shrink."""
        return self.angle < 0


def fixed_points(init: Initialization) -> list[FixedPoint]:
    """All states in which the token geometry rests, from collapse (epsilon = 0) upwards.

    At fixed ε the norm obeys a linear equation, so that all fixed points are roots of one function of ε, which is
    scanned over √ε in (1e-6, 1) and bracketed. Two roots within 1 % of each other in √ε can be missed.

    Raises
    ------
    ValueError
        If the stream has no resting norm (residual="one" with norm="pre"), dies out, or attention is causal.

    Examples
    --------
    >>> init = Initialization(n_tokens=64, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=4.0)
    >>> [round(point.rho, 4) for point in fixed_points(init)]
    [1.0, 0.2319]
    """
    g = gains(init)
    q = float(resting_norm(init, g))
    if init.causal:
        raise ValueError(
            "fixed points need full attention (causal=False): under a causal mask tokens rest at unequal angles; "
            "use propagate_gram"
        )
    angle, gradient, _ = collapsed_exponents(g, q)
    points = [FixedPoint(q=q, epsilon=0.0, angle=float(angle), gradient=float(gradient))]
    if not (init.alpha_attn or init.alpha_mlp):
        return points  # nothing moves: every state rests
    table, kernel = _tables(init)

    def growth(t):
        epsilon = t * t
        q0 = slaved_norm(g, table, epsilon)
        after = mlp_step(g, kernel, *attention_step(g, table, q0, epsilon))[1]
        with np.errstate(divide="ignore"):
            return np.log(after / epsilon)

    values = growth(_SCAN)
    for i in np.flatnonzero(np.sign(values[:-1]) * np.sign(values[1:]) < 0):
        epsilon = brentq(growth, _SCAN[i], _SCAN[i + 1], xtol=1e-14, rtol=1e-14) ** 2
        points.append(_rest_at(init, g, table, kernel, epsilon))
    if abs(values[-1]) < _ROUNDING:  # an odd activation without attention leaves orthogonal tokens orthogonal
        points.append(_rest_at(init, g, table, kernel, 1.0))
    return points


def _rest_at(init, g, table, kernel, epsilon) -> FixedPoint:
    """The fixed point at ε with its two exponents."""
    q = float(slaved_norm(g, table, epsilon))

    def step(q, epsilon):
        return np.array(mlp_step(g, kernel, *attention_step(g, table, q, epsilon)), float)

    h_q, h = _STEP * q, _STEP * epsilon
    jacobian = np.column_stack(
        [
            (step(q + h_q, epsilon) - step(q - h_q, epsilon)) / (2 * h_q),
            (step(q, epsilon + h) - step(q, epsilon - h)) / (2 * h),
        ]
    )
    multiplier = np.abs(np.linalg.eigvals(jacobian)).max()
    middle = attention_step(g, table, q, epsilon)
    transfer = attention_transfer(g, table, q, epsilon, init.n_tokens) @ mlp_transfer(g, kernel, *middle)
    gradient = np.log(np.abs(np.linalg.eigvals(transfer)).max())
    return FixedPoint(q=q, epsilon=epsilon, angle=float(np.log(multiplier)), gradient=float(gradient))


def predict_exponents(
    init: Initialization,
    *,
    at: str = "collapsed",
    depth: int | None = None,
    q: float | None = None,
    rho: float = 0.0,
) -> Exponents:
    """Angle and gradient exponent of an initialization, in the limit of infinite width.

    Parameters
    ----------
    init : Initialization
    at : {"collapsed", "stable", "run"}, optional
        "collapsed": at nearly equal tokens, in closed form; the sign of `angle` is the phase.
        "stable": at the state that orthogonal tokens reach. There `angle` is the rate at which the angle relaxes,
        and `gradient` that of the leading gradient mode.
        "run": means over a run of `depth` blocks from norm q and cosine rho; `angle` is log(ε_L/ε_0)/L and
        `gradient` is log(Q_0/Q_L)/L for independent random gradients at the output. Under a causal mask the
        run is sampled (64 draws of the attention weights), and the exponents bear standard errors.
    depth : int, optional
        Needed for "run". With "collapsed", the exponents are means over that many blocks, which makes them
        defined for a stream whose norm grows (residual="one" with norm="pre").
    q : float, optional
        Norm² per dimension of the tokens that enter; by default the resting norm, or 1 where there is none.
    rho : float, optional
        Cosine between the tokens that enter a "run".

    Returns
    -------
    Exponents
        In nats per block. An angle exponent of -inf means that one block removes every difference (alpha_attn = 1).

    Raises
    ------
    ValueError
        If the stream has no resting norm and no depth is given, if it dies out, if depth < 1, q ≤ 0 or rho is
        outside [0, 1), or if at="stable" with a causal mask.

    Notes
    -----
    64 initializations of random transformers of width d agree within four standard errors (about 1 %) plus 2/d
    per block, 6/d with gated MLPs. Where attention is strong and tokens few (sigma_attn √ε above about 4), a typical
    network's gradients grow up to 0.06 per block slower than predicted at uncollapsed states; at collapse both
    exponents are free of sigma_attn.

    References
    ----------
    theory/22 (eq:angle), theory/23 (eq:gradient); arXiv:2403.02579.

    Examples
    --------
    >>> init = Initialization(n_tokens=16, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=4.0)
    >>> predict_exponents(init)
    Exponents(angle=+0.33, gradient=+0.45): chaotic, exploding
    >>> predict_exponents(init, at="stable")
    Exponents(angle=-0.048, gradient=+0.47): chaotic, exploding
    """
    check_name("at", at, ("collapsed", "stable", "run"))
    g = gains(init)
    if at == "run":
        if depth is None:
            raise ValueError('at="run" averages over a run of blocks: pass depth=...')
        start = float(resting_norm(init, g, depth=depth, q=q))
        return _run_exponents(init, depth, start, rho)
    if at == "stable":
        return _stable_exponents(init)
    start = resting_norm(init, g, depth=depth, q=q)
    if depth is None:
        angle, gradient, _ = collapsed_exponents(g, start)
    else:
        angle, gradient = stack_exponents(g, depth, start)
    return Exponents(float(angle), float(gradient))


def _run_exponents(init: Initialization, depth: int, q: float, rho: float) -> Exponents:
    """Exponents of a run through `depth` blocks, the growth of means."""
    if init.causal:
        layers = propagate_gram(init, simplex_gram(init.n_tokens, q=q, rho=rho), depth, n_runs=_RUNS)
        epsilon, gradient = layers.epsilon.values[:, -1] / (1 - rho), layers.gradient_q.values[:, 0]
    else:
        layers = propagate(init, depth, q=q, rho=rho)
        epsilon, gradient = layers.epsilon.values[-1:] / (1 - rho), layers.gradient_q.values[:1]
    angle, angle_stderr = _rate(
        "ε", epsilon, depth, may_vanish=init.alpha_attn == 1 and init.residual != "one"
    )
    growth, growth_stderr = _rate("the gradient", gradient, depth)
    return Exponents(angle, growth, angle_stderr, growth_stderr)


def _rate(what: str, gains: np.ndarray, depth: int, *, may_vanish: bool = False) -> tuple[float, float]:
    """Log of the mean gain over `depth` blocks, per block, with its standard error."""
    mean = float(gains.mean())
    if mean == 0 and may_vanish:
        return -math.inf, 0.0
    if not np.finfo(float).tiny <= mean < math.inf:  # below, rounding stops the decay
        raise ValueError(
            f'depth={depth}: {what} leaves the range of floats; take fewer blocks, or at="collapsed"'
        )
    return math.log(mean) / depth, float(gains.std()) / mean / math.sqrt(len(gains)) / depth


def _stable_exponents(init: Initialization) -> Exponents:
    """Exponents at the state that orthogonal tokens reach: the fixed point of largest ε, which is stable."""
    points = fixed_points(init)
    state = points[-1]
    if not state.epsilon:
        return Exponents(state.angle, state.gradient)
    growth = "exploding" if state.gradient > 0 else "vanishing"
    kind = "chaotic" if points[0].angle > 0 else "uncollapsed beside a stable collapse"
    return Exponents(state.angle, state.gradient, phase=f"{kind}, {growth}")
