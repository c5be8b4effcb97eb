"""Gaussian averages of activations: the kernel of a wide MLP and its slope.

For jointly Gaussian h, h' of variance v and covariance c = v - δ, the kernel is κ = E φ(h) φ(h') and its
slope is dκ/dc = E φ'(h) φ'(h').  Everything is written in the *deficit* κ(v, v) - κ(v, v - δ), which keeps
its relative accuracy down to δ ~ 1e-300 where a difference of kernels would be rounding; theory/20 (eq:kernel).

erf: Williams, Neural Computation 10, 1203 (1998). relu: Cho & Saul, NIPS 2009. gelu: Tsuchida et al.,
arXiv:2002.08517. The rest by the trapezoid rule, whose error for analytic functions falls exponentially
(Trefethen & Weideman, SIAM Review 56, 385 (2014)).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import expit

LEAKY_SLOPE = 0.01  # torch.nn.LeakyReLU's default
_REACH = 8.6  # standard deviations; the Gaussian weight beyond is 1e-16
# Step of the trapezoid rule in units of (1 / standard deviation), from the poles of tanh at ±iπ/2 (those of the
# logistic function lie farther off): the error exp(-2π (π/2) / 0.3) is 5e-15.
_STEP = 0.3
_WIDEST = 128.0  # largest standard deviation of h that quadrature takes: 3e7 evaluations there
_TOLERANCE = 1e-11  # largest relative error of a quadrature that passes without refinement
CLOSED = ("erf", "relu", "leaky_relu", "gelu", "identity", "geglu")  # kernels that need no quadrature
_NODES, _NODES_MOST, _NODES_TOLERANCE = 48, 384, 1e-10  # of a Chebyshev table
_GELU_SHORT = 0.5  # below this δ gelu's deficit is the integral of its slope, above it a difference


def second_moment(activation, v):
    """E φ(h)² for h ~ N(0, v), shape of `v`."""
    v = np.asarray(v, dtype=float)
    match activation:
        case "identity":
            return v
        case "erf":
            return 2 / np.pi * np.arcsin(2 * v / (1 + 2 * v))
        case "relu":
            return v / 2
        case "leaky_relu":
            return (1 + LEAKY_SLOPE**2) * v / 2
        case "gelu":
            return _gelu_kernel(v, v)
    return _each(lambda v: (_mean_square(activation, v),), v)[0]


def deficit_and_slope(activation, v, delta):
    """κ(v, v) - κ(v, v - δ) and dκ/dc at c = v - δ, both of the broadcast shape of `v` and `delta`.

    Parameters
    ----------
    activation : {"tanh", "erf", "relu", "leaky_relu", "gelu", "silu", "identity"}
    v : array_like
        Variance, ≥ 0.
    delta : array_like
        Variance minus covariance, in [0, 2 v].

    Raises
    ------
    ValueError
        If quadrature is needed and v exceeds 128².
    ArithmeticError
        If two refinements of the quadrature do not agree to 1e-11.
    """
    v, delta = np.broadcast_arrays(np.asarray(v, dtype=float), np.asarray(delta, dtype=float))
    match activation:
        case "identity":
            return delta.copy(), np.ones_like(v)
        case "erf":
            root = np.sqrt((1 + 2 * delta) * (1 + 4 * v - 2 * delta))  # of (1 + 2v)² - 4c²
            return 4 / np.pi * np.arctan(2 * delta / (np.sqrt(1 + 4 * v) + root)), 4 / np.pi / root
        case "relu":
            return _relu(v, delta)
        case "leaky_relu":
            deficit, slope = _relu(v, delta)
            kink = (1 - LEAKY_SLOPE) ** 2
            return LEAKY_SLOPE * delta + kink * deficit, LEAKY_SLOPE + kink * slope
        case "gelu":
            return _gelu(v, delta)
    return _each(lambda v, delta: _pair(activation, v, delta), v, delta)


def gaussian_mean(f, *, scale=1.0, tolerance=_TOLERANCE):
    """E f(x), x ~ N(0, 1), with an estimate of its error.

    The trapezoid rule, its step halved until two values agree. As the error falls exponentially in
    1/step, that of the finer value is about the square of their relative difference.

    Parameters
    ----------
    f : callable
        Takes and gives an array of shape (m,); analytic near the real line.
    scale : float, optional
        How fast f varies: its poles lie no nearer than (π/2) / scale.

    Returns
    -------
    value, error : float

    Examples
    --------
    >>> value, error = gaussian_mean(np.cos)
    >>> bool(abs(value - np.exp(-0.5)) < 1e-14), error < 1e-11
    (True, True)
    """
    for halving in range(3):
        x, w = _nodes(scale * 2**halving)
        terms = w * f(x)
        value, error = _with_error(terms.sum(), 2 * terms[::2].sum())
        if error <= tolerance:
            return value, error
    raise ArithmeticError(f"a Gaussian average reached only {error:.1e}; the integrand is not smooth enough")


def _nodes(scale):
    """Nodes (2m + 1,) and weights of the trapezoid rule for N(0, 1); every second node is a rule as well."""
    m = 2 * int(np.ceil(_REACH / min(0.35, _STEP / scale) / 2)) if scale > 0 else 50
    x = np.linspace(-_REACH, _REACH, 2 * m + 1)
    w = np.exp(-(x**2) / 2)
    return x, w / w.sum()


def _with_error(fine, coarse):
    """Value of a rule and its estimated relative error, given the same rule with twice the step."""
    scale = max(abs(fine), np.finfo(float).tiny)
    return float(fine), float(((fine - coarse) / scale) ** 2)


def _each(function, *arrays):
    """Apply a scalar function that returns a tuple to every element; each distinct element once."""
    stacked = np.stack([a.ravel() for a in arrays], axis=1)
    distinct, where = np.unique(stacked, axis=0, return_inverse=True)
    out = np.array([function(*row) for row in distinct]).reshape(len(distinct), -1)
    return tuple(column[where.ravel()].reshape(arrays[0].shape) for column in out.T)


def _mean_square(activation, v):
    """E φ(h)² by quadrature."""
    if v == 0:
        return float(_phi(activation, np.zeros(1))[0][0] ** 2)
    scale = _checked_scale(v, activation)
    return gaussian_mean(lambda x: _phi(activation, scale * x)[0] ** 2, scale=scale)[0]


def _pair(activation, v, delta):
    """Deficit and slope at one (v, δ) by a rule in the half sum s and the half difference d of h and h'.

    With them the deficit is ½ E (φ(s + d) - φ(s - d))², a mean of squares that nothing cancels in.
    """
    scale = _checked_scale(v, activation)
    if delta == 0:
        return 0.0, gaussian_mean(lambda x: _phi(activation, scale * x)[1] ** 2, scale=scale)[0]
    s_scale, d_scale = np.sqrt(max(v - delta / 2, 0.0)), np.sqrt(delta / 2)
    worst = np.inf
    for halving in range(3):
        (s, ws), (d, wd) = _nodes(s_scale * 2**halving), _nodes(d_scale * 2**halving)
        s, d = s_scale * s[:, None], d_scale * d
        (up, up_slope), (down, down_slope) = _phi(activation, s + d), _phi(activation, s - d)
        results = []
        for terms in ((up - down) ** 2 / 2, up_slope * down_slope):
            fine = ws @ terms @ wd
            coarse = 4 * ws[::2] @ terms[::2, ::2] @ wd[::2]
            results.append(_with_error(fine, coarse))
        (deficit, deficit_error), (slope, slope_error) = results
        worst = max(deficit_error, slope_error * abs(slope))  # a slope of 0 is legitimate
        if worst <= _TOLERANCE:
            return deficit, slope
    raise ArithmeticError(f"the kernel of {activation} at v={v}, δ={delta} reached only {worst:.1e}")


def _checked_scale(v, activation):
    scale = np.sqrt(v)
    if scale > _WIDEST:
        raise ValueError(
            f"the preactivation of {activation} has standard deviation {scale:.4g}; quadrature goes up to "
            f"{_WIDEST:.0f}: lower sigma_mlp or sigma_bias, or take erf or relu, known in closed form"
        )
    return scale


def _phi(activation, x):
    """φ(x) and φ'(x) of the activations that are averaged by quadrature."""
    if activation == "tanh":
        t = np.tanh(x)
        return t, (1 - t) * (1 + t)
    if activation == "silu":
        p = expit(x)
        return x * p, p * (1 + x * (1 - p))
    raise ValueError(f"{activation!r} has no quadrature")


def _relu(v, delta):
    safe = np.where(v > 0, v, 1.0)
    angle = 2 * np.arcsin(np.sqrt(np.clip(delta / (2 * safe), 0.0, 1.0)))
    square = angle**2
    lens = np.where(  # sin θ - θ cos θ, by its series where the difference would cancel
        angle < 0.05,
        angle * square * (1 / 3 - square * (1 / 30 - square * (1 / 840 - square / 45360))),
        np.sin(angle) - angle * np.cos(angle),
    )
    return (np.pi * delta - v * lens) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


def _gelu_kernel(v, c):
    root = np.sqrt((1 + v - c) * (1 + v + c))
    ratio = (1 - v) / (1 + v)
    return c / 4 + (c * np.arcsin(c / (1 + v)) + (v**2 + ratio * c**2) / root) / (2 * np.pi)


def _gelu_slope(v, c):
    root = np.sqrt((1 + v - c) * (1 + v + c))
    ratio = (1 - v) / (1 + v)
    bracket = np.arcsin(c / (1 + v)) + c * (1 + 2 * ratio) / root + c * (v**2 + ratio * c**2) / root**3
    return 0.25 + bracket / (2 * np.pi)


def _gelu(v, delta):
    x, w = np.polynomial.legendre.leggauss(12)  # on δ ≤ 0.5 the slope's singularity c = 1 + v lies far off
    inside = v[..., None] - delta[..., None] * (x + 1) / 2
    short = delta / 2 * (_gelu_slope(v[..., None], inside) @ w)
    difference = _gelu_kernel(v, v) - _gelu_kernel(v, v - delta)
    return np.where(delta < _GELU_SHORT, short, difference), _gelu_slope(v, v - delta)


def mlp_kernel(activation, epsilon, *, sigma_mlp, sigma_bias=0.0, sigma_out=1.0):
    """Kernel of a wide MLP on normalised tokens, as a function of ε = 1 - cos(angle).

    Parameters
    ----------
    activation : str
        Any of `Initialization`; gated ones multiply by an independent linear layer of gain sigma_mlp.
    epsilon : array_like
        In [0, 2].
    sigma_mlp, sigma_bias, sigma_out : array_like, optional

    Returns
    -------
    norm, deficit, slope : ndarray
        K(0), K(0) - K(ε) and χ(ε) = -dK/dε, of the broadcast shape; K(ε) = E f(y)·f(y') / d.

    Examples
    --------
    >>> norm, deficit, slope = mlp_kernel("tanh", 0.5, sigma_mlp=2.0)
    >>> print(f"{norm:.10f} {norm - deficit:.10f} {slope:.10f}")
    0.6352612343 0.2746380156 0.5867804228
    """
    epsilon, weight, bias, out = np.broadcast_arrays(
        *(np.asarray(a, dtype=float) for a in (epsilon, sigma_mlp, sigma_bias, sigma_out))
    )
    weight, out = weight**2, out**2
    v = weight + bias**2
    if activation in ("swiglu", "geglu"):
        gate = {"swiglu": "silu", "geglu": "gelu"}[activation]
        norm = second_moment(gate, v)
        deficit, slope = deficit_and_slope(gate, v, weight * epsilon)
        gain = out * weight
        slope = gain * (weight * slope * (1 - epsilon) + norm - deficit)
        return gain * norm, gain * (norm * epsilon + deficit * (1 - epsilon)), slope
    deficit, slope = deficit_and_slope(activation, v, weight * epsilon)
    return out * second_moment(activation, v), out * deficit, out * weight * slope


@dataclass(frozen=True)
class KernelTable:
    """Deficit and slope of an MLP's kernel for ε in [0, 2], closed or as Chebyshev series in the angle.

    The series hold deficit/ε, so that the deficit keeps its relative accuracy (about 1e-10) as ε → 0.
    """

    activation: str
    sigma_mlp: float
    sigma_bias: float
    sigma_out: float

    def exact(self, epsilon):
        """Norm, deficit and slope without the table."""
        return mlp_kernel(
            self.activation,
            epsilon,
            sigma_mlp=self.sigma_mlp,
            sigma_bias=self.sigma_bias,
            sigma_out=self.sigma_out,
        )

    @cached_property
    def coefficients(self):
        """Chebyshev coefficients (nodes, 2); nodes are doubled until the last ones no longer matter."""
        chebyshev = np.polynomial.chebyshev
        nodes = _NODES
        while True:
            x = chebyshev.chebpts1(nodes)
            epsilon = 2 * np.sin(np.pi / 4 * (x + 1)) ** 2
            _, deficit, slope = self.exact(epsilon)
            c = chebyshev.chebvander(x, nodes - 1).T @ np.column_stack([deficit / epsilon, slope]) * 2 / nodes
            c[0] /= 2
            if np.abs(c[-4:]).max() <= _NODES_TOLERANCE * np.abs(c).max():
                return c
            if nodes >= _NODES_MOST:
                raise ArithmeticError(
                    f"the kernel of {self.activation} at sigma_mlp={self.sigma_mlp} is too steep near equal tokens"
                )
            nodes *= 2

    def __call__(self, epsilon):
        if self.activation in CLOSED:
            return self.exact(epsilon)[1:]
        angle = 2 * np.arcsin(np.sqrt(np.clip(epsilon, 0, 2) / 2))
        ratio, slope = np.polynomial.chebyshev.chebval(2 / np.pi * angle - 1, self.coefficients)
        return epsilon * ratio, slope


@lru_cache(maxsize=256)
def kernel_table(activation: str, sigma_mlp: float, sigma_bias: float, sigma_out: float) -> KernelTable:
    """The `KernelTable` of one MLP, kept for the next caller."""
    return KernelTable(activation, sigma_mlp, sigma_bias, sigma_out)
