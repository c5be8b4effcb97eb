"""Where linear stability ends for Adam with learning rates of its own for each group of parameters."""

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
    grid: Grid, trainer: Transformer, *, lr: float = 0.0, step: int | None = None, n_windows: int = 64
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
    n_windows : int, optional
        Training windows that the Hessian is the mean over.

    Returns
    -------
    DataArray, dims the grid's axes
        Stable below `adam_threshold`. Accurate to about one part in a thousand.

    Raises
    ------
    ValueError
        If an axis is not the rate of a group, the optimizer is not Adam, or the step is outside the run.

    Notes
    -----
    The eigenvalue is proportional to a common factor of the rates, so it is computed once for each ratio.

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
    rates = np.stack([np.broadcast_to(pixels.get(name, own[name]), n) for name in names], axis=1)
    ratios, place, scale = distinct_ratios(rates)
    found = trainer.sharpness(
        {name: np.full(len(ratios), lr) for name in names},
        steps=[trainer.n_steps if step is None else step],
        preconditioned=True,
        rates=dict(zip(names, ratios.T, strict=True)),
        n_windows=n_windows,
    )
    return xr.DataArray(
        (found.value[place, 0] * scale).reshape(grid.shape),
        coords=grid.coords(),
        dims=tuple(grid),
        attrs={"long_name": "largest eigenvalue of (D/P)^½ H (D/P)^½"},
        name="sharpness",
    )
