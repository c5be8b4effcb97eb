"""Where linear stability ends for Adam with learning rates of its own for each group of parameters."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from .grid import Grid
from .sharpness import distinct_ratios
from .trainers import Transformer


def adam_threshold(beta1: float = 0.9) -> float:
    """Preconditioned sharpness up to which Adam is stable on a quadratic: 2 (1 + beta1) / (1 - beta1).

    Adam takes the steps -D P⁻¹ m, m the running mean of gradients, D the learning rates, P the root of the mean
    square. With P frozen and the gradient H w, the change of variables w = (D/P)^½ y leaves y the steps -m of the
    symmetric matrix S = (D/P)^½ H (D/P)^½. Along an eigenvector of S of value s

        z² - (1 + beta1 - (1 - beta1) s) z + beta1 = 0,

    whose first root to leave the unit circle does so at z = -1. With beta1 = 0.9 that is at s = 38.

    Parameters
    ----------
    beta1 : float, optional
        In [0, 1).

    Raises
    ------
    ValueError
        If beta1 is outside.

    References
    ----------
    Cohen et al., arXiv:2207.14484, for one learning rate.

    Examples
    --------
    >>> round(adam_threshold(0.9), 12), adam_threshold(0.0)
    (38.0, 2.0)
    """
    if not 0 <= beta1 < 1:
        raise ValueError(f"beta1={beta1} must lie in [0, 1)")
    return 2 * (1 + beta1) / (1 - beta1)


def adam_sharpness(
    grid: Grid,
    trainer: Transformer,
    *,
    lr: float = 0.0,
    step: int | None = None,
    n_ratios: int | None = None,
    n_windows: int = 256,
) -> xr.DataArray:
    """Largest eigenvalue of (D/P)^½ H (D/P)^½ at each pixel, D its learning rates, at one state that all share.

    The Hessian H and Adam's P are those of one run at a small common rate: at 0, the default, the weights are
    still those of the initialization and P is the root of the mean square of its gradients over the batches so far.

    Parameters
    ----------
    grid : Grid
        Axes among the learning rates of the trainer's groups.
    trainer : Transformer
        With Adam.
    lr : float, optional
        Rate of the run whose state is taken.
    step : int, optional
        Steps of that run, at least 1; all by default.
    n_ratios : int, optional
        With two groups, take the eigenvalue at so many ratios of their rates, at least 2, evenly spread in their
        logarithm, and interpolate linearly in logarithms. By default it is taken at each ratio that occurs.
    n_windows : int, optional
        Training windows that the Hessian is the mean over. Of few windows the largest eigenvalue is too large.

    Returns
    -------
    DataArray, dims the grid's axes
        Stable below `adam_threshold`. Accurate to about one part in a thousand.

    Raises
    ------
    ValueError
        If an axis is not the rate of a group, the optimizer is not Adam, the step is outside the run, or
        `n_ratios` is below 2 or asked of other than two groups.

    Notes
    -----
    The eigenvalue is proportional to a common factor of the rates, so it is computed once for each ratio. Along a
    ratio its logarithm climbs by at most that of either rate; interpolation over a spacing h of the logarithms is
    therefore off by h / 4 at most, and by much less where one group does not take over from the other.

    References
    ----------
    Cohen et al., arXiv:2207.14484, for one learning rate.

    Examples
    --------
    >>> from trainability.trainers import Transformer
    >>> trainer = Transformer.tiny(n_steps=3)
    >>> found = adam_sharpness(Grid(lr_attn=[0.1, 1.0], lr_rest=[0.1, 1.0]), trainer, n_windows=4)
    >>> bool(np.isclose(found[1, 1], 10 * found[0, 0]))
    True
    """
    names = [f"lr_{group}" for group in trainer.groups]
    for name in grid:
        if name not in names:
            raise ValueError(f"axis {name!r} is not the rate of a group; use {', '.join(names)}")
    pixels = grid.pixels()
    n = len(next(iter(pixels.values())))
    own = {name: trainer.lr if getattr(trainer, name) is None else getattr(trainer, name) for name in names}
    if n_ratios is not None and (n_ratios < 2 or len(names) != 2):
        raise ValueError(
            f"n_ratios={n_ratios} must be at least 2, for a trainer of 2 groups, not {len(names)}"
        )
    rates = np.stack([np.broadcast_to(pixels.get(name, own[name]), n) for name in names], axis=1)
    ratios, place, scale = distinct_ratios(rates)

    def largest(ratios: np.ndarray) -> np.ndarray:
        return trainer.sharpness(
            {name: np.full(len(ratios), lr) for name in names},
            steps=[trainer.n_steps if step is None else step],
            preconditioned=True,
            rates=dict(zip(names, ratios.T, strict=True)),
            n_windows=n_windows,
        ).value[:, 0]

    value = largest(ratios) if n_ratios is None else _interpolated(largest, ratios, n_ratios)
    return xr.DataArray(
        (value[place] * scale).reshape(grid.shape),
        coords=grid.coords(),
        dims=tuple(grid),
        attrs={"long_name": "largest eigenvalue of (D/P)^½ H (D/P)^½"},
        name="sharpness",
    )


def _interpolated(largest: Callable[[np.ndarray], np.ndarray], ratios: np.ndarray, n: int) -> np.ndarray:
    """Values of `largest` at ratios of two rates to the larger one, (m, 2), from its values at `n` of them."""
    wanted = np.log(ratios[:, 0] / ratios[:, 1])
    knots = np.linspace(wanted.min(), wanted.max(), n)
    at = np.exp(np.column_stack([np.minimum(knots, 0), np.minimum(-knots, 0)]))
    # In the metric (√ratio, 1/√ratio), which treats both alike, the slope of the logarithm is at most ½ either way.
    even = np.interp(wanted, knots, np.log(largest(at)) + abs(knots) / 2)
    return np.exp(even - abs(wanted) / 2)
