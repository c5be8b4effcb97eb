"""Phase diagrams of random transformers: both exponents over a grid of hyperparameters."""

import numpy as np
from numba import njit, prange

from ._gaussian import CLOSED, kernel_table, mlp_kernel
from ._provenance import provenance
from .critical import checked_axis
from .initialization import Initialization, check_name
from .recursion import Gains, collapsed_exponents, gains, resting_norm, stack_exponents
from .softmax import distinct_pairs, overlap_rows

# Tables in √ε for the search of stable states: cubic interpolation on 513 nodes is good to 1e-9 for
# sigma_mlp up to 5 (compared with `fixed_points`).
_TABLE = np.linspace(0.0, 1.0, 513)
# Where the search looks for a change of sign, from orthogonal tokens down; roots below ε = 1e-8 count as collapse.
_DESCENT = np.concatenate([np.linspace(1.0, 0.02, 80), np.geomspace(0.02, 1e-4, 16)[1:]])
_STEP = 1e-4  # relative, of the differences behind the relaxation rate
_LABELS = {
    "angle": {"long_name": "angle exponent", "units": "nats per block"},
    "gradient": {"long_name": "gradient exponent", "units": "nats per block"},
    "angle_collapsed": {"long_name": "angle exponent at collapse", "units": "nats per block"},
    "epsilon": {"long_name": "1 - cosine between tokens"},
    "q": {"long_name": "norm² per dimension"},
}
_PHASES = {-1: "dies_out", 0: "ordered", 1: "chaotic", 2: "coexistence"}


def phase_diagram(
    init: Initialization,
    *,
    at: str = "collapsed",
    depth: int | None = None,
    q: float | None = None,
    **axes,
):
    """Both exponents over a grid of hyperparameters, in the limit of infinite width.

    Parameters
    ----------
    init : Initialization
        Supplies the hyperparameters that are not axes.
    at : {"collapsed", "stable"}, optional
        "collapsed": at nearly equal tokens, in closed form. "stable": at the state that orthogonal tokens reach,
        found pixel by pixel; needs full attention and a resting norm.
    depth, q : optional
        As in `predict_exponents`: mean over a stack, needed where the stream's norm grows.
    **axes : array_like, shape (m,)
        Values of alpha_attn, alpha_mlp, sigma_attn, sigma_mlp, sigma_value, sigma_out, sigma_bias or n_tokens.

    Returns
    -------
    xarray.Dataset
        Dims in the order of `axes`: angle and gradient (nats per block) and phase, int8: 0 ordered, 1 chaotic,
        2 coexistence of an uncollapsed and a collapsed stable state, -1 where the stream dies out and exponents
        are NaN. With at="stable" angle is the relaxation rate of the state, angle_collapsed the exponent at
        collapse, and epsilon and q are the state; epsilon is 0 where tokens collapse. Agrees with
        `predict_exponents` to 1e-6, at="collapsed" to rounding.

    Raises
    ------
    ValueError
        If a name is no hyperparameter, a value is out of range, or the stream has no resting norm and no depth
        is given.

    Notes
    -----
    A pixel takes about 0.1 µs at collapse and 10 µs at the stable state. Activations without a closed form add
    some 0.1 s for every distinct (sigma_mlp, sigma_bias), and strong attention seconds for every sigma_attn.

    Examples
    --------
    >>> init = Initialization(n_tokens=64, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.5)
    >>> diagram = phase_diagram(init, sigma_mlp=[1.0, 3.0, 5.0], alpha_attn=[0.2, 0.5])
    >>> diagram.phase.values
    array([[0, 0],
           [1, 0],
           [1, 1]], dtype=int8)
    """
    import xarray as xr

    check_name("at", at, ("collapsed", "stable"))
    if not axes:
        raise ValueError("phase_diagram needs at least one axis, as in sigma_mlp=np.linspace(1, 4, 200)")
    axes = {name: checked_axis(init, name, values) for name, values in axes.items()}
    mesh = dict(zip(axes, np.ix_(*axes.values()), strict=True))
    shape = tuple(len(values) for values in axes.values())
    g = gains(init, **mesh)
    if at == "stable":
        fields = _stable_fields(init, g, mesh, shape)
        collapsed = fields["angle_collapsed"]
    else:
        start = resting_norm(init, g, depth=depth, q=q)
        angle, gradient = (
            collapsed_exponents(g, start)[:2] if depth is None else stack_exponents(g, depth, start)
        )
        fields = {"angle": angle, "gradient": gradient}
        collapsed = angle
    phase = np.where(np.isnan(collapsed), -1, collapsed > 0)
    if at == "stable":
        phase = np.where((fields["epsilon"] > 0) & (collapsed <= 0), 2, phase)
    return xr.Dataset(
        {
            **{
                name: (tuple(axes), np.array(np.broadcast_to(values, shape)), _LABELS[name])
                for name, values in fields.items()
            },
            "phase": (
                tuple(axes),
                np.broadcast_to(phase, shape).astype(np.int8),
                {
                    "flag_values": np.array(list(_PHASES), np.int8),
                    "flag_meanings": " ".join(_PHASES.values()),
                },
            ),
        },
        coords=axes,
        attrs={"initialization": repr(init), "at": at, **provenance()},
    )


def _stable_fields(init, g: Gains, mesh, shape):
    """State and exponents that orthogonal tokens reach, for every pixel."""
    if init.causal:
        raise ValueError(
            'at="stable" needs full attention (causal=False); use propagate_gram for a causal mask'
        )
    rest = resting_norm(init, g, depth=None, q=None)
    angle_collapsed, gradient_collapsed, _ = collapsed_exponents(g, rest)

    def pixels(value, dtype=float):
        return np.broadcast_to(np.asarray(value, dtype=dtype), shape).ravel()

    def values(name):
        return np.asarray(mesh.get(name, getattr(init, name)), dtype=float)

    attention, attention_row = overlap_rows(values("sigma_attn"), values("n_tokens"), _TABLE)
    mlp, mlp_row = _kernel_rows(init.activation, values("sigma_mlp"), values("sigma_bias"))
    columns = (g.skip_attn, g.branch_attn, g.skip_mlp, g.branch_mlp, g.norm, g.slope)
    others = (np.square(values("sigma_out")), values("n_tokens"))
    scalars = np.stack([pixels(column) for column in (*columns, *others)], axis=1)
    epsilon, q, angle, gradient = _search(
        scalars, attention, pixels(attention_row, int), mlp, pixels(mlp_row, int), _DESCENT, g.normed
    ).T
    collapsed = epsilon == 0
    return {
        "angle": np.where(collapsed, pixels(angle_collapsed), angle).reshape(shape),
        "gradient": np.where(collapsed, pixels(gradient_collapsed), gradient).reshape(shape),
        "angle_collapsed": np.broadcast_to(angle_collapsed, shape),
        "epsilon": epsilon.reshape(shape),
        "q": np.where(collapsed, pixels(rest), q).reshape(shape),
    }


def _kernel_rows(activation, sigma_mlp, sigma_bias):
    """Tables (rows, nodes, 2) of deficit/ε and slope, with unit sigma_out, and whose row is which."""
    pairs, row = distinct_pairs(sigma_mlp, sigma_bias)
    epsilon = _TABLE[1:] ** 2
    if activation in CLOSED:
        _, deficit, slope = mlp_kernel(activation, epsilon, sigma_mlp=pairs[:, :1], sigma_bias=pairs[:, 1:])
    else:
        deficit, slope = np.swapaxes(
            [kernel_table(activation, float(s), float(b), 1.0)(epsilon) for s, b in pairs], 0, 1
        )
    start = mlp_kernel(activation, 0.0, sigma_mlp=pairs[:, :1], sigma_bias=pairs[:, 1:])[2]
    ratio = np.concatenate([start, deficit / epsilon], axis=1)
    return np.stack([ratio, np.concatenate([start, slope], axis=1)], axis=2), row


@njit(cache=True, error_model="numpy")
def _weights(t, nodes):
    """First node and the four weights of cubic interpolation at t on a uniform grid of [0, 1]."""
    x = t * (nodes - 1)
    i = min(max(int(x) - 1, 0), nodes - 4)
    u = x - i
    a, b, c, d = u, u - 1, u - 2, u - 3
    return i, (-b * c * d / 6, a * c * d / 2, -a * b * d / 2, a * b * c / 6)


@njit(cache=True, error_model="numpy")
def _read(table, column, i, w):
    return (
        w[0] * table[i, column]
        + w[1] * table[i + 1, column]
        + w[2] * table[i + 2, column]
        + w[3] * table[i + 3, column]
    )


@njit(cache=True, error_model="numpy")
def _block(q, epsilon, s, attention, mlp, normed):
    """(q, ε) after a block, and between its sub-blocks."""
    i, w = _weights(np.sqrt(epsilon), len(attention))
    stream = 1.0 if normed else q
    q1 = s[0] * stream + s[1] * (1 - epsilon + epsilon * _read(attention, 0, i, w))
    epsilon1 = (s[0] * stream + s[1] * _read(attention, 4, i, w)) * epsilon / q1
    i, w = _weights(np.sqrt(epsilon1), len(mlp))
    stream = 1.0 if normed else q1
    q2 = s[2] * stream + s[3] * s[4]
    epsilon2 = (s[2] * stream + s[3] * s[6] * _read(mlp, 0, i, w)) * epsilon1 / q2
    return q1, epsilon1, q2, epsilon2


@njit(cache=True, error_model="numpy")
def _slaved(epsilon, s, attention, normed):
    """Norm at which the stream rests while ε is held."""
    if normed:
        return s[2] + s[3] * s[4]
    i, w = _weights(np.sqrt(epsilon), len(attention))
    branch = s[1] * (1 - epsilon + epsilon * _read(attention, 0, i, w))
    return (s[2] * branch + s[3] * s[4]) / (1 - s[0] * s[2])


@njit(cache=True, error_model="numpy")
def _excess(t, s, attention, mlp, normed):
    """ε'/ε - 1 at ε = t²."""
    epsilon = t * t
    return _block(_slaved(epsilon, s, attention, normed), epsilon, s, attention, mlp, normed)[3] / epsilon - 1


@njit(cache=True, error_model="numpy")
def _root(low, high, f_low, f_high, s, attention, mlp, normed):
    """Root of the excess in a bracket, by false position with halving of a stuck end (Illinois)."""
    for _ in range(60):
        middle = (low * f_high - high * f_low) / (f_high - f_low)
        f = _excess(middle, s, attention, mlp, normed)
        if f == 0 or high - low < 1e-13:
            return middle
        if (f > 0) == (f_low > 0):
            low, f_low, f_high = middle, f, f_high / 2
        else:
            high, f_high, f_low = middle, f, f_low / 2
    return middle


@njit(cache=True, error_model="numpy")
def _modulus(a, b, c, d):
    """Largest modulus of the eigenvalues of [[a, b], [c, d]]."""
    half, determinant = (a + d) / 2, a * d - b * c
    square = half * half - determinant
    if square < 0:
        return np.sqrt(determinant)
    return abs(half) + np.sqrt(square)


@njit(cache=True, error_model="numpy")
def _rates(epsilon, s, attention, mlp, normed):
    """Norm, relaxation rate and gradient exponent at a fixed point."""
    q = _slaved(epsilon, s, attention, normed)
    h_q, h = _STEP * q, _STEP * epsilon
    up = _block(q + h_q, epsilon, s, attention, mlp, normed)
    down = _block(q - h_q, epsilon, s, attention, mlp, normed)
    right = _block(q, epsilon + h, s, attention, mlp, normed)
    left = _block(q, epsilon - h, s, attention, mlp, normed)
    multiplier = _modulus(
        (up[2] - down[2]) / (2 * h_q),
        (right[2] - left[2]) / (2 * h),
        (up[3] - down[3]) / (2 * h_q),
        (right[3] - left[3]) / (2 * h),
    )
    q1, epsilon1, _, _ = _block(q, epsilon, s, attention, mlp, normed)
    i, w = _weights(np.sqrt(epsilon1), len(mlp))
    skip = s[2] / q1 if normed else s[2]
    own = skip + s[3] * s[5] / q1
    other = skip + s[3] * s[6] * _read(mlp, 1, i, w) / q1
    i, w = _weights(np.sqrt(epsilon), len(attention))
    s1, slope1 = _read(attention, 0, i, w), _read(attention, 1, i, w)
    s2, slope2 = _read(attention, 2, i, w), _read(attention, 3, i, w)
    rho, others, gain = 1 - epsilon, s[7] - 1, s[1] / q
    skip = s[0] / q if normed else s[0]
    gradient = _modulus(
        (skip + gain * (s1 + (1 + epsilon) * slope1)) * own,
        gain * others * (s2 + rho * slope2) * other,
        gain * (1 - s1 - slope1) / others * own,
        (skip + gain * (1 - s2 + (epsilon - rho) * slope2)) * other,
    )
    return q, np.log(multiplier), np.log(gradient)


@njit(parallel=True, cache=True, error_model="numpy")
def _search(scalars, attention, attention_row, mlp, mlp_row, descent, normed):
    """(ε, q, relaxation rate, gradient exponent) of the first fixed point below ε = 1; ε = 0 at collapse."""
    out = np.zeros((len(scalars), 4))
    for pixel in prange(len(scalars)):
        s, a, m = scalars[pixel], attention[attention_row[pixel]], mlp[mlp_row[pixel]]
        high, f_high = descent[0], _excess(descent[0], s, a, m, normed)
        epsilon = 1.0 if abs(f_high) < 1e-12 else 0.0
        if epsilon == 0.0:
            for low in descent[1:]:
                f_low = _excess(low, s, a, m, normed)
                if f_low > 0 and f_high <= 0:
                    epsilon = _root(low, high, f_low, f_high, s, a, m, normed) ** 2
                    break
                high, f_high = low, f_low
        if epsilon > 0:
            out[pixel, 0] = epsilon
            out[pixel, 1:] = _rates(epsilon, s, a, m, normed)
    return out
