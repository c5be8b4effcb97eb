"""From linear self-attention to the product map: the exact reduction and where it applies.

A layer of linear self-attention answers a prompt with ŷ = v gᵀ U x_q, where g is the mean of y_i x_i
over the examples, U the key-query block (D, D) and v the projection-value weight. Gradient descent on
½(ŷ - y_q)² moves U only along M = g x_qᵀ, so with the unit direction M/|M| two numbers are left,
u = ⟨U, M⟩/|M| and v, and in units a = √(lr c) u, b = √(lr c) v they follow the product map with
mu = lr k (theory/01). `c` is the curvature and `k` the coupling of a `Reduction`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ._checks import finite, positive
from .prompt import Prompt

# How far C B may point away from B, relative to its length, and U out of the plane, relative to its own,
# before data are called irreducible: rounding in sums over prompts stays below it, real data do not.
_REDUCIBLE_TOL = 1e-9


@dataclass(frozen=True, eq=False)
class Reduction:
    """What gradient descent on the two-factor linear transformer sees of its data.

    On the plane spanned by `direction` and v the loss is
    ½ (curvature · u² v² - 2 coupling · u v) + const, with u = ⟨U, direction⟩.

    Parameters
    ----------
    curvature : float
        c > 0, so that the sharpness at zero loss is c (u² + v²).
    coupling : float
        k; the effective step is mu = lr k and the best product is u v = k/c.
    direction : ndarray, shape (D, D)
        Unit matrix along which U learns.
    floor : float
        Lowest loss that the plane contains; 0 for one prompt.
    transverse : ndarray, shape (n, D, D), or None
        Orthonormal directions of U, other than `direction`, that the data curve. None: all of them.
    transverse_ratios : ndarray, shape (n,)
        Their curvatures divided by `curvature` (`weight_exponent`).
    """

    curvature: float
    coupling: float
    direction: np.ndarray
    floor: float = 0.0
    transverse: np.ndarray | None = field(default=None, repr=False)
    transverse_ratios: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False)

    def __repr__(self) -> str:
        d = self.direction.shape[0]
        return (
            f"Reduction(curvature={self.curvature:.6g}, coupling={self.coupling:.6g}, floor={self.floor:.3g}): "
            f"{d} x {d} key-query weights, {len(self.transverse_ratios)} transverse directions"
        )


Data = Prompt | Sequence[Prompt] | Reduction


def reduce_prompts(prompts: Prompt | Sequence[Prompt]) -> Reduction:
    """Reduce the mean loss over prompts to two numbers, where that is exact.

    One prompt always reduces; so does a prompt with its `flipped` twin (then every weight of the layer
    may be trained, the blocks outside U and v stay zero by themselves), and so does any set in one
    dimension. In general write M_i = g_i x_qᵢᵀ, C[U] = mean of M_i ⟨M_i, U⟩ and B = mean of y_i M_i: the
    set reduces if and only if B is an eigenvector of C.

    Parameters
    ----------
    prompts : Prompt or sequence of Prompt
        All of one dimension; weighted equally.

    Returns
    -------
    Reduction
        The sign of `direction` is that of the first prompt's M, so that `coupling` of one prompt is γ y_q.

    Raises
    ------
    ValueError
        If the prompts differ in dimension, leave the output at zero whatever the weights, or do not reduce;
        the error then gives the angle between B and C B.

    References
    ----------
    theory/01 (eq:one-prompt), (eq:pair), (eq:many).

    Examples
    --------
    >>> prompt = Prompt(x=[[1.0], [2.0]], y=[1.0, 2.0], x_query=[2.0], y_query=2.0)
    >>> reduce_prompts(prompt)
    Reduction(curvature=25, coupling=10, floor=0): 1 x 1 key-query weights, 0 transverse directions
    """
    prompts = [prompts] if isinstance(prompts, Prompt) else list(prompts)
    if not prompts:
        raise ValueError("prompts is empty; give at least one Prompt")
    dims = sorted({prompt.dim for prompt in prompts})
    if len(dims) > 1:
        raise ValueError(f"prompts have dimensions {dims}; all must be equal")
    dim = dims[0]
    M = np.array([np.outer(prompt.moment, prompt.x_query).ravel() for prompt in prompts])
    y = np.array([prompt.y_query for prompt in prompts])
    lengths = np.linalg.norm(M, axis=1)
    if not lengths.any():
        raise ValueError(
            "the output is zero whatever the weights, because y @ x or x_query is zero in every prompt; "
            "there is nothing to train"
        )
    first = M[lengths.argmax() if lengths[0] == 0 else 0]
    B = y @ M / len(y)
    CB = (M @ B) @ M / len(y)
    if B.any():
        direction = B / np.linalg.norm(B) * (-1 if B @ first < 0 else 1)
    else:
        direction = first / np.linalg.norm(first)
        CB = (M @ direction) @ M / len(y)
    curvature = float(np.mean((M @ direction) ** 2))
    sine = np.linalg.norm(CB - (CB @ direction) * direction) / np.linalg.norm(CB)
    if sine > _REDUCIBLE_TOL:
        raise ValueError(
            f"these {len(prompts)} prompts do not reduce to the product map: the mean of y M is no eigenvector "
            f"of the mean of M⟨M, ·⟩ (they differ by {np.degrees(np.arcsin(np.minimum(sine, 1.0))):.3g} degrees); "
            "use one prompt, a prompt with its flipped twin, dimension 1, or `reduce_population`"
        )
    coupling = float(B @ direction)
    ratios, transverse = _curved_directions(M - np.outer(M @ direction, direction), curvature)
    return Reduction(
        curvature=curvature,
        coupling=coupling,
        direction=direction.reshape(dim, dim),
        floor=max(float(np.mean(y * y) - coupling**2 / curvature) / 2, 0.0),
        transverse=transverse.reshape(-1, dim, dim),
        transverse_ratios=ratios,
    )


def _curved_directions(M: np.ndarray, curvature: float) -> tuple[np.ndarray, np.ndarray]:
    """Curvature ratios and directions of C = MᵀM/n that rounding cannot explain."""
    _, singular, directions = np.linalg.svd(M / np.sqrt(len(M)), full_matrices=False)
    ratios = singular**2 / curvature
    curved = singular > _REDUCIBLE_TOL * np.sqrt(curvature)
    return ratios[curved], directions[curved]


def reduce_population(n_examples: int, dim: int, *, label_noise: float = 0.0) -> Reduction:
    """Reduce the mean loss over all prompts of `random_prompt`: isotropic inputs, query and task.

    The curvature is 1 + (D + 1 + σ²)/N and the coupling √D, so training converges up to lr = 1/√D for
    every number of examples and every noise. U must start at a multiple of the identity.

    Parameters
    ----------
    n_examples, dim : int
        N and D.
    label_noise : float, optional
        σ, the standard deviation of the noise on the examples' labels.

    References
    ----------
    theory/01 (eq:population).

    Examples
    --------
    >>> reduce_population(10, 4)
    Reduction(curvature=1.5, coupling=2, floor=0.667): 4 x 4 key-query weights, 15 transverse directions
    """
    for name, value in (("n_examples", n_examples), ("dim", dim)):
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")
    noise = float(finite("label_noise", label_noise))
    if noise < 0:
        raise ValueError(f"label_noise={noise} must not be negative; it is a standard deviation")
    curvature = 1 + (dim + 1 + noise**2) / n_examples
    return Reduction(
        curvature=curvature,
        coupling=float(np.sqrt(dim)),
        direction=np.eye(dim) / np.sqrt(dim),
        floor=dim * (1 - 1 / curvature) / 2,
        transverse=None,
        transverse_ratios=np.ones(dim * dim - 1),
    )


def as_reduction(data: Data) -> Reduction:
    """Return `data` if it is a `Reduction`, else `reduce_prompts(data)`."""
    return data if isinstance(data, Reduction) else reduce_prompts(data)


def gain(data: Data) -> float:
    """Gain γ of a prompt: output = γ u v, with u the entry of U along the direction that learns.

    For one prompt γ = |g| |x_q|; in general the root of the curvature.

    References
    ----------
    theory/01 (eq:one-prompt).

    Examples
    --------
    >>> gain(Prompt(x=[[1.0], [2.0]], y=[1.0, 2.0], x_query=[2.0], y_query=2.0))
    5.0
    """
    return float(np.sqrt(as_reduction(data).curvature))


def effective_step(data: Data, lr):
    """Effective step mu of the product map: learning rate times gain times target for one prompt.

    Parameters
    ----------
    data : Prompt, sequence of Prompt, or Reduction
    lr : array_like
        Learning rates, positive.

    Returns
    -------
    float or ndarray, shape of `lr`
        Negative where the target is.

    References
    ----------
    theory/01 (eq:one-prompt), (eq:many).

    Examples
    --------
    >>> prompt = Prompt(x=[[1.0], [2.0]], y=[1.0, 2.0], x_query=[2.0], y_query=2.0)
    >>> effective_step(prompt, [0.05, 0.11])
    array([0.5, 1.1])
    """
    return (positive("lr", lr) * as_reduction(data).coupling)[()]


def project_weights(data: Data, U, v) -> tuple[np.ndarray, np.ndarray]:
    """Project weights on the plane that learns: u = ⟨U, direction⟩ and v.

    Parameters
    ----------
    data : Prompt, sequence of Prompt, or Reduction
    U : array_like, shape (..., D, D)
    v : array_like, shape (...)

    Returns
    -------
    u, v : ndarray
        Broadcast against each other.

    Raises
    ------
    ValueError
        If U has the wrong shape or, with several prompts, a part outside the plane on which the loss
        depends: then training leaves the plane.

    Examples
    --------
    >>> prompt = Prompt(x=[[1.0, 0.0]], y=[1.0], x_query=[0.0, 2.0], y_query=2.0)
    >>> u, v = project_weights(prompt, [[5.0, 0.3], [7.0, 9.0]], 0.5)
    >>> float(u), float(v)
    (0.3, 0.5)
    """
    reduction = as_reduction(data)
    U, v = finite("U", U), finite("v", v)
    dim = reduction.direction.shape[0]
    if U.shape[-2:] != (dim, dim):
        raise ValueError(f"U has shape {U.shape}; prompts of dimension {dim} need (..., {dim}, {dim})")
    u = np.sum(U * reduction.direction, axis=(-2, -1))
    if reduction.transverse is None:
        outside = np.linalg.norm(U - u[..., None, None] * reduction.direction, axis=(-2, -1))
    else:
        outside = np.linalg.norm(np.einsum("...ij,kij->...k", U, reduction.transverse), axis=-1)
    allowed = _REDUCIBLE_TOL * np.linalg.norm(U, axis=(-2, -1))
    if (outside > allowed).any():
        raise ValueError(
            f"U has a part of length {outside.max():.3g} on which the loss depends outside the plane of the "
            "reduction; start at a multiple of `direction`, or project U on it"
        )
    u, v = np.broadcast_arrays(u, v)
    return u, v


def reduced_start(data: Data, lr, U, v) -> tuple[np.ndarray, np.ndarray]:
    """Starting point (a, b) of the product map that weights U, v stand for at learning rate `lr`.

    Parameters
    ----------
    data : Prompt, sequence of Prompt, or Reduction
    lr : array_like, shape (...)
        Positive.
    U : array_like, shape (..., D, D)
        Key-query block.
    v : array_like, shape (...)
        Projection-value weight.

    Returns
    -------
    a, b : ndarray
        Leading axes of the three arguments broadcast against each other. After n steps of training,
        (a, b) of the trained weights is the n-th iterate of `product_map(effective_step(data, lr))`.

    Raises
    ------
    ValueError
        As `project_weights`; or if `lr` is not positive.

    References
    ----------
    theory/01 (eq:one-prompt), (eq:pair), (eq:many), (eq:population).

    Examples
    --------
    >>> prompt = Prompt(x=[[1.0, 0.0]], y=[1.0], x_query=[0.0, 2.0], y_query=2.0)
    >>> a, b = reduced_start(prompt, 0.25, [[5.0, 0.3], [7.0, 9.0]], 0.5)
    >>> float(a), float(b)
    (0.3, 0.5)
    """
    reduction = as_reduction(data)
    scale = np.sqrt(positive("lr", lr) * reduction.curvature)
    u, v = project_weights(reduction, U, v)
    a, b = np.broadcast_arrays(scale * u, scale * v)
    return a, b


def reduce_width(u, v) -> tuple[np.ndarray, np.ndarray]:
    """Fold vectors u, v of width k with loss ½(u·v - mu)² to a start (a, b) of the product map.

    a = √S + √D and b = √S - √D with S = |u + v|²/4, D = |u - v|²/4. Under training (S, D) of the vectors
    and of (a, b) stay equal for ever: products, lengths and fates agree, while (a, b) itself may end at a
    mirror image under the map's symmetries.

    Parameters
    ----------
    u, v : array_like, shape (..., k)

    Returns
    -------
    a, b : ndarray, shape (...)

    References
    ----------
    theory/01 (eq:width).

    Examples
    --------
    >>> a, b = reduce_width([1.0, 1.0], [1.0, -1.0])  # orthogonal: the product is 0
    >>> float(a * b), float(a**2 + b**2)
    (0.0, 4.0)
    """
    u, v = finite("u", u), finite("v", v)
    if u.ndim == 0 or v.ndim == 0 or u.shape[-1] != v.shape[-1]:
        raise ValueError(f"u and v have shapes {u.shape} and {v.shape}; both need (..., k) with the same k")
    half_sum, half_difference = np.linalg.norm(u + v, axis=-1) / 2, np.linalg.norm(u - v, axis=-1) / 2
    return half_sum + half_difference, half_sum - half_difference
