"""Schedules, weight decay and momentum: what stays exact when gradient descent is varied.

Boundedness inside the invariant ellipse survives any step sizes below the peak and any clipping of the
residual; weight decay keeps a smaller ellipse; momentum keeps the balanced slice and its first
thresholds (theory/07).
"""

import numpy as np

from ._checks import finite, positive
from .classification import critical_lr, ellipse_function
from .minibatch import Zone
from .reduction import Data


def schedule_zone(data: Data, U, v, *, lr_min, lr_max):
    """Classify starts under every learning-rate schedule with values in [lr_min, lr_max].

    SAFE below the critical learning rate of the start: bounded whatever the order of step sizes, and either
    the loss or the imbalance of the factors goes to zero (the sum of squared lr times error is finite, or
    a - b → 0). With any clipping of the residual, Huber and log-cosh losses too. LOST above it: every
    schedule diverges, but for starts that land exactly on zero loss.

    Parameters
    ----------
    data : Prompt, sequence of Prompt, or Reduction
    U : array_like, shape (..., D, D)
        Weights from which the schedule goes on; after a warm-up, those that the warm-up left.
    v : array_like, shape (...)
    lr_min, lr_max : array_like
        Positive, lr_min ≤ lr_max.

    Returns
    -------
    Zone, or ndarray of int8 with its values

    Notes
    -----
    Warm-up therefore helps exactly those starts that lie outside the ellipse of the peak, and must bring
    them inside by the time of the peak. Next to a minimum that means: sharpness below 4 / lr_max.

    References
    ----------
    theory/07 (eq:schedule).

    Examples
    --------
    >>> from trainability import Prompt
    >>> prompt = Prompt(x=[[1.0]], y=[1.0], x_query=[1.0], y_query=1.0)
    >>> schedule_zone(prompt, [[2.0]], 0.5, lr_min=0.1, lr_max=[0.9, 1.0])  # critical: 0.9412
    array([1, 2], dtype=int8)
    """
    lr_min, lr_max = positive("lr_min", lr_min), positive("lr_max", lr_max)
    if not (lr_min <= lr_max).all():
        raise ValueError(f"lr_min={lr_min} must not exceed lr_max={lr_max}")
    limit, lr_min, lr_max = np.broadcast_arrays(critical_lr(data, U, v), lr_min, lr_max)
    zones = np.where(lr_max < limit, Zone.SAFE, np.where(lr_min > limit, Zone.LOST, Zone.GREY)).astype(
        np.int8
    )
    return zones if zones.ndim else Zone(int(zones))


def decayed_ellipse_function(mu, a, b, *, decay):
    """H of the smaller ellipse that gradient descent with weight decay maps into itself.

    a' = (1 - ω) a - (ab - mu) b is (1 - ω) Φ at mu/(1 - ω) in units of √(1 - ω). Negative: bounded for ever.
    Sufficient, not necessary: positive values are undecided.

    On the balanced slice the map is exactly the one without decay at mu - ω, so every threshold in mu moves
    up by ω, and at its minima x² = mu - ω imbalance falls by 1 - 2ω per step.

    Parameters
    ----------
    mu, a, b : array_like
    decay : array_like
        ω = learning rate times weight decay, 0 ≤ ω < 1 with |mu| < 2 (1 - ω).

    References
    ----------
    theory/07 (eq:decay).

    Examples
    --------
    >>> decayed_ellipse_function(0.5, 1.0, 1.0, decay=[0.0, 0.36]).round(4)
    array([-2.25  , -1.4854])
    """
    mu, omega = finite("mu", mu), finite("decay", decay)
    if not ((omega >= 0) & (omega < 1)).all():
        raise ValueError(f"decay={omega} must lie in [0, 1); it is learning rate times weight decay")
    keep = 1 - omega
    if not (np.abs(mu) < 2 * keep).all():
        raise ValueError(f"mu={mu} with decay={omega}: the ellipse needs |mu| < 2 (1 - decay)")
    root = np.sqrt(keep)
    return ellipse_function(mu / keep, finite("a", a) / root, finite("b", b) / root)


def heavy_ball_thresholds(momentum=0.0, *, exact: bool = False) -> dict:
    """Thresholds of the balanced slice under heavy-ball momentum β.

    The slice is the cubic Hénon map x_(t+1) = (1 + mu + β) x_t - x_t³ - β x_(t-1).

    Parameters
    ----------
    momentum : array_like or sympy expression, optional
        0 ≤ β < 1. A sympy expression with `exact=True`.
    exact : bool, optional

    Returns
    -------
    dict
        `two_cycle` 1 + β: above, no minimum attracts;
        `four_cycle` √((9(1 + β)² + (1 - β)²)/2) - 1 - β: the balanced 2-cycle flips along the slice;
        `transverse_flip` 1 + β + (1 + β²)/(1 + β): it flips across, later than along it for every β.

    Notes
    -----
    No invariant ellipse is known with momentum, and no closed form for the boundary of divergence.

    References
    ----------
    Polyak, USSR Comput. Math. Math. Phys. 4, 1-17 (1964), for the method; theory/07 (eq:heavy-ball).

    Examples
    --------
    >>> {name: round(float(value), 6) for name, value in heavy_ball_thresholds(0.9).items()}
    {'two_cycle': 1.9, 'four_cycle': 2.131129, 'transverse_flip': 2.852632}
    """
    if exact:
        import sympy as sp

        beta, root = sp.sympify(momentum), sp.sqrt
    else:
        beta, root = finite("momentum", momentum), np.sqrt
        if not ((beta >= 0) & (beta < 1)).all():
            raise ValueError(f"momentum={beta} must lie in [0, 1)")
        beta = beta[()]
    return {
        "two_cycle": 1 + beta,
        "four_cycle": root((9 * (1 + beta) ** 2 + (1 - beta) ** 2) / 2) - 1 - beta,
        "transverse_flip": 1 + beta + (1 + beta**2) / (1 + beta),
    }
