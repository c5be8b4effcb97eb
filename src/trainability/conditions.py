"""The six published conditions in which the boundary of trainability was called fractal (arXiv:2402.06184)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .grid import Grid, log_axis
from .trainers.mlp import MLP

# Half the width of a zoom, in decades, where none is asked for: wide enough for 512 pixels in double precision.
ZOOM = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class PublishedMLP(MLP):
    """An `MLP` judged as published: a run has converged, or it has diverged.

    Converged where the mean of the last 20 v is below 1. All others, those that `MLP` leaves undecided too, have the
    status diverged, so that the boundary on a map is the published one.
    """

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Converged where the mean of the last 20 v is below 1, diverged elsewhere."""
        return np.where(np.asarray(observables["tail_ratio"]) < 1, 1, 2).astype(np.int8)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One published experiment: a trainer, two axes with the full window, and the dimension found.

    Attributes
    ----------
    name : str
    trainer : trainers.MLP
        As published, with weights, data and batches of our own.
    window : dict of str to (float, float)
        Range of each axis of the full window; both are logarithmic.
    dimension : float
        Published: the median of the local box-counting slopes of all frames of a zoom at 4096².
    zoom_point : dict of str to float
        A rough place on the boundary of the reference's own draw (`reference_draw`), where `zoom` looks by itself.
    zoom_steps : int
        Training steps that the published zoom needs to show a boundary; the full window is the same for more.
    """

    name: str
    trainer: MLP
    window: Mapping[str, tuple[float, float]]
    dimension: float
    zoom_point: Mapping[str, float]
    zoom_steps: int = 500

    def full(self, pixels: int = 512) -> tuple[Grid, MLP]:
        """Grid and trainer of the full window, `pixels` along each axis.

        Examples
        --------
        >>> grid, trainer = published_condition("relu").full(64)
        >>> grid
        Grid(lr_in: 64 in [0.00118, 8.51e+05] log, lr_out: 64 in [0.00118, 8.51e+05] log)
        """
        return Grid(**{name: log_axis(*ends, pixels) for name, ends in self.window.items()}), self.trainer

    def zoom(
        self, point: Mapping[str, float] | None = None, *, pixels: int = 512, half_width: float = ZOOM
    ) -> tuple[Grid, MLP]:
        """Grid and trainer of a window of 2 `half_width` decades each way around a point.

        Parameters
        ----------
        point : mapping of str to float, optional
            A value for each axis. Weights of your own need a point of their own, from `boundary_point` or
            `roughest_point`. By default `zoom_point`, with the reference's own draw, to which it belongs.
        pixels : int, optional
            Along each axis.
        half_width : float, optional
            In decades.

        Raises
        ------
        ValueError
            If the point lacks an axis, or the half-width is not positive. `trainability_map` raises where double
            precision does not tell neighbouring pixels apart.
        ImportError
            Without a point, if JAX is not installed.

        Examples
        --------
        >>> grid, trainer = published_condition("mini-batch").zoom({"lr_in": 1.0, "lr_out": 200.0}, pixels=8)
        >>> grid.shape, trainer.n_steps
        ((8, 8), 1000)
        """
        trainer = replace(self.trainer, n_steps=self.zoom_steps)
        if point is None:
            point, trainer = self.zoom_point, reference_draw(trainer)
        if set(point) != set(self.window):
            raise ValueError(
                f"point has {', '.join(point)}; it needs a value for each axis, {', '.join(self.window)}"
            )
        if not half_width > 0:
            raise ValueError(f"half_width={half_width} must be positive, in decades")
        axes = {
            name: log_axis(point[name] * 10**-half_width, point[name] * 10**half_width, pixels)
            for name in self.window
        }
        return Grid(**axes), trainer


_RATES = {"lr_in": (1e-3, 1e6), "lr_out": (1e-3, 1e6)}

CONDITIONS = {
    condition.name: condition
    for condition in (
        Condition(
            name="tanh",
            trainer=PublishedMLP(),
            window=_RATES,
            dimension=1.66,
            zoom_point={"lr_in": 232909.6592460546, "lr_out": 89.21208434943901},
        ),
        Condition(
            name="relu",
            trainer=PublishedMLP(activation="relu"),
            window=_RATES,
            dimension=1.20,
            zoom_point={"lr_in": 164.61488956995626, "lr_out": 7.36525012271228},
        ),
        Condition(
            name="identity",
            trainer=PublishedMLP(activation="identity"),
            window=_RATES,
            dimension=1.17,
            zoom_point={"lr_in": 171.97089830809188, "lr_out": 10.181517217181819},
        ),
        Condition(
            name="mini-batch",
            trainer=PublishedMLP(batch_size=16),
            window=_RATES,
            dimension=1.55,
            zoom_point={"lr_in": 46143.77836727916, "lr_out": 19.456400615886356},
            zoom_steps=1000,
        ),
        Condition(
            name="one point",
            trainer=PublishedMLP(n_data=1),
            window=_RATES,
            dimension=1.41,
            zoom_point={"lr_in": 381.6569912080744, "lr_out": 16.0533770516474},
        ),
        Condition(
            name="offset",
            trainer=PublishedMLP(offset_mode="per_step"),
            window={"offset": (10**-3.5, 10**2.5), "lr": (10**-1.5, 10**4.5)},
            dimension=1.98,
            zoom_point={"offset": 0.196, "lr": 39.03},
        ),
    )
}
"""Every condition by its name.

Zoom points are the roughest places (`roughest_point`) of the full windows of the reference's draw at 64² pixels, with
`zoom_steps`; of 1024² for "one point", whose rough part is thinner than a pixel of 64². Only that of "offset" is
published: the others were in no public text, they belong to the data of the pictures.
"""


def published_condition(name: str, *, offset_mode: str | None = None) -> Condition:
    """Look up one of the six published conditions.

    Networks of one hidden layer of 16 units, 500 steps of gradient descent from one draw of weights and data,
    learning rates of both layers from 10⁻³ to 10⁶.

    Parameters
    ----------
    name : str
        "tanh", "relu" and "identity" (activations, full batch), "mini-batch" (tanh, 16 of 272 rows), "one point"
        (tanh, one row of data), "offset" (tanh, offset of the first layer's weights × one learning rate).
    offset_mode : {"per_step", "once"}, optional
        The released code adds the offset before every step, so that it accumulates ("per_step", the default);
        the paper describes an offset of the initial weights ("once").

    Returns
    -------
    Condition

    Raises
    ------
    ValueError
        For an unknown name, or an offset mode where there is no offset.

    Notes
    -----
    The full window of "offset" is six decades a side, about around the published zoom (offset 0.196, rate 39.03),
    which is how the reference zooms out; its code makes both axes logarithmic.

    References
    ----------
    Sohl-Dickstein, The boundary of neural network trainability is fractal, arXiv:2402.06184.

    Examples
    --------
    >>> published_condition("tanh").dimension
    1.66
    """
    if name not in CONDITIONS:
        raise ValueError(f"condition {name!r} is unknown; known are {', '.join(CONDITIONS)}")
    condition = CONDITIONS[name]
    if offset_mode is None:
        return condition
    if name != "offset":
        raise ValueError(f"offset_mode={offset_mode!r} is for the condition 'offset'; {name!r} has no offset")
    return replace(condition, trainer=replace(condition.trainer, offset_mode=offset_mode))


def reference_draw(trainer: MLP) -> MLP:
    """Give a trainer the weights, data and batches that the published code draws; needs JAX.

    Parameters
    ----------
    trainer : trainers.MLP
        Its sizes are used, its seed is not.

    Returns
    -------
    trainers.MLP
        Published zoom windows belong to this draw. It depends on the number of steps where there are batches.

    Raises
    ------
    ImportError
        If JAX is not installed; the error says how to.

    Notes
    -----
    Normal draws of the threefry generator in the layout that was the default before JAX 0.5; weights from a key split
    off the seed 0, then inputs and targets from the next two, batches from the seed 42 split into one key a step.

    References
    ----------
    The notebook published with arXiv:2402.06184.

    Examples
    --------
    >>> drawn = reference_draw(published_condition("tanh").trainer)  # doctest: +SKIP
    >>> print(drawn.weights[0][0, 0].round(6))  # doctest: +SKIP
    1.802035
    """
    try:
        import jax
    except ImportError as error:
        raise ImportError(
            "the reference's draw needs JAX's generator: pip install 'trainability[bench]'"
        ) from error

    shapes = [(trainer.n_inputs, trainer.width)]
    shapes += [(trainer.width, trainer.width)] * (trainer.depth - 1) + [(trainer.width, 1)]
    layout = jax.config.jax_threefry_partitionable
    double = jax.config.jax_enable_x64
    try:
        jax.config.update("jax_threefry_partitionable", False)
        jax.config.update("jax_enable_x64", True)
        drawn: dict[str, Any] = {}
        rest, key = jax.random.split(jax.random.PRNGKey(0))
        keys = jax.random.split(key, len(shapes))
        drawn["weights"] = tuple(
            np.asarray(jax.random.normal(k, shape)) for k, shape in zip(keys, shapes, strict=True)
        )
        rest, key = jax.random.split(rest)
        x = np.asarray(jax.random.normal(key, (trainer.n_data, trainer.n_inputs)))
        rest, key = jax.random.split(rest)
        drawn["data"] = x, np.asarray(jax.random.normal(key, (trainer.n_data, 1)))[:, 0]
        if trainer.batch_size is not None:
            keys = jax.random.split(jax.random.PRNGKey(42), trainer.n_steps)
            rows = [jax.random.randint(k, (trainer.batch_size,), 0, trainer.n_data) for k in keys]
            drawn["batches"] = np.array(rows, np.int64)
    finally:
        jax.config.update("jax_threefry_partitionable", layout)
        jax.config.update("jax_enable_x64", double)
    return replace(trainer, **drawn)
