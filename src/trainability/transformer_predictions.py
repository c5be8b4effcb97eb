"""Where a transformer trains, predicted from both exponents of its initialization, beside what training found."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ._contract import STATUS_ATTRS, Status
from ._question import BLOCK
from ._ranking import Estimate, rank_correlation
from ._study_tables import best_trivial, with_interval
from .baselines import compare_baselines
from .comparison import Comparison, compare
from .grid import Axis, Grid
from .initialization import SCALES, Initialization
from .phase_diagrams import phase_diagram
from .significance import ShiftNull, shift_null
from .trainers import Transformer
from .trainers.tasks import Task

# Both were fixed before any map was set beside a prediction.

# How much a signal may change through the whole stack, in e-folds, in a network that still trains: random tanh
# networks train up to about six times their depth scale (Schoenholz et al., arXiv:1611.01232, section 5).
EFOLDS = 6.0

# Nats by which the held-out loss of a run that learned from its input lies below that of a blind guess. Runs that
# know frequencies alone scatter by one or two hundredths around it.
MARGIN = 0.05

# What an initialization has that a trainer has too, beside the scales.
_FORM = ("activation", "n_heads", "causal", "residual", "norm", "d_model", "d_mlp")


@dataclass(frozen=True, kw_only=True, eq=False)
class ExponentComparison:
    """A prediction from two exponents beside a map of trained transformers.

    Attributes
    ----------
    predicted : Dataset
        From `predict_transformer`.
    observed : Dataset
        The runs, `status` from their held-out loss: converged if they learned from their input.
    by : dict of str to Comparison
        "Does it learn from its input?", predicted from both exponents, from the angle exponent and from the
        gradient exponent.
    rules : Dataset
        Trivial rules beside the prediction from both, from `compare_baselines`.
    null : ShiftNull
    ranks : dict of str to (float, (float, float))
        Spearman's correlation of the held-out loss with |angle|, |gradient| and the larger of the two, with its
        95 % interval over blocks of 8 pixels a side (fewer, where the map would not hold four along each axis);
        positive where the loss is least at vanishing exponents.
    """

    predicted: xr.Dataset
    observed: xr.Dataset
    by: dict[str, Comparison]
    rules: xr.Dataset
    null: ShiftNull
    ranks: dict[str, Estimate]

    def __repr__(self) -> str:
        found = self.by["both exponents"]
        return "\n".join(
            [
                "learned from its input, predicted from both exponents: "
                + with_interval((found.agreement, found.agreement_interval), ".1%")
                + f" of {int(found.confusion.sum())} pixels agree, balanced accuracy "
                + with_interval((found.balanced_accuracy, found.balanced_accuracy_interval), ".1%"),
                best_trivial(self.rules),
                repr(self.null),
                "rank correlation of the loss with "
                + ", ".join(f"{name}: {with_interval(value)}" for name, value in self.ranks.items()),
            ]
        )


def predict_transformer(grid: Grid, trainer: Transformer, *, efolds: float = EFOLDS) -> xr.Dataset:
    """Predict where a transformer trains from the angle and the gradient exponent of its initialization.

    It trains where neither exponent, times the depth, is larger than `efolds`: where differences between tokens on
    their way up, and gradients on their way down, neither die out nor blow up. Nothing is trained.

    Parameters
    ----------
    grid : Grid
        Over alpha_attn, alpha_mlp, sigma_attn, sigma_mlp, sigma_value, sigma_out or sigma_bias.
    trainer : Transformer
        Of the `geometry` preset, or any with the skip √(1 - alpha²) or layer norms: it is asked for its form alone.
    efolds : float, optional

    Returns
    -------
    Dataset, dims the grid's axes
        `angle`, `gradient` and `phase` as in `phase_diagram`, means over the trainer's blocks from the norm at
        which its tokens enter; `status` (`Status`: converged or undecided); and `boundary`, the larger of both
        exponents' sizes times the depth, less `efolds`.

    Raises
    ------
    ValueError
        If an axis is none of those, theory does not cover the trainer (no norm, `init_scale` other than 1), or
        efolds is not positive.

    Notes
    -----
    Exponents are those of infinite width and nearly equal tokens. That six e-folds are the limit was observed for
    fully connected networks and is taken over; it is no theorem.

    References
    ----------
    arXiv:2403.02579; Schoenholz et al., arXiv:1611.01232; theory/22 (eq:angle), theory/23 (eq:gradient).

    Examples
    --------
    >>> from trainability import linear_axis
    >>> init = Initialization(n_tokens=8, alpha_attn=0.3, alpha_mlp=0.7, sigma_attn=1.0, sigma_mlp=2.0)
    >>> trainer = Transformer.geometry(init, n_layers=12)
    >>> predict_transformer(Grid(alpha_attn=linear_axis(0, 1, 4)), trainer)["status"].values
    array([1, 1, 1, 3], dtype=int8)
    """
    if not efolds > 0:
        raise ValueError(f"efolds={efolds} must be positive")
    init = _initialization(grid, trainer)
    model = trainer.architecture
    # Sinusoids have mean square 1/2.
    start = model.embed_std**2 + (0.5 if model.positions and model.discrete else 0.0)
    axes: Any = {name: grid[name] for name in grid}
    diagram = phase_diagram(init, depth=trainer.n_layers, q=start, **axes)
    sizes = abs(diagram[["angle", "gradient"]]).to_array().max("variable", skipna=False)
    return _said(diagram, sizes * trainer.n_layers - efolds).assign_coords(grid.coords())


def compare_exponents(
    runs: xr.Dataset, trainer: Transformer, *, efolds: float = EFOLDS, margin: float = MARGIN
) -> ExponentComparison:
    """Set a map of trained transformers beside what their two exponents predict.

    A run has learned from its input if its held-out loss is lower than that of the best guess that looks at no
    input (`Task.blind_loss`) by more than `margin`; the prediction is that of `predict_transformer`.

    Parameters
    ----------
    runs : Dataset
        From `trainability_map` of `trainer` over axes that `predict_transformer` takes.
    trainer : Transformer
    efolds, margin : float, optional
        The prediction's limit and the rule's margin in nats, each fixed before any comparison.

    Returns
    -------
    ExponentComparison

    Raises
    ------
    ValueError
        As `predict_transformer` and `compare`.

    Examples
    --------
    >>> from trainability import linear_axis, trainability_map
    >>> init = Initialization(n_tokens=8, alpha_attn=0.3, alpha_mlp=0.7, sigma_attn=1.0, sigma_mlp=2.0)
    >>> trainer = Transformer.geometry(init, n_layers=4, d_model=8, n_steps=5)
    >>> runs = trainability_map(Grid(alpha_attn=linear_axis(0, 1, 4)), trainer)
    >>> compare_exponents(runs, trainer).by["both exponents"].confusion.values
    array([[0, 4],
           [0, 0]])
    """
    dims = [str(name) for name in runs["status"].dims]
    grid = Grid(**{name: Axis(runs[name].values, runs[name].attrs["scale"]) for name in dims})
    predicted = predict_transformer(grid, trainer, efolds=efolds)
    observed = runs.assign(status=learned_status(runs, trainer.task, margin=margin))
    sizes = {
        "angle exponent": abs(predicted["angle"]),
        "gradient exponent": abs(predicted["gradient"]),
    }
    predictions = {"both exponents": predicted} | {
        name: _said(predicted, size * trainer.n_layers - efolds) for name, size in sizes.items()
    }
    sizes["larger of both"] = predicted["boundary"] + efolds
    loss = np.nan_to_num(observed["test_loss"].values, nan=np.inf)
    side = block_side(loss.shape)
    return ExponentComparison(
        predicted=predicted,
        observed=observed,
        by={
            name: compare(said, observed, outcome="converged", score="boundary")
            for name, said in predictions.items()
        },
        rules=compare_baselines(predicted, observed, outcome="converged"),
        null=shift_null(predicted, observed, outcome="converged"),
        ranks={name: rank_correlation(size.values, loss, side) for name, size in sizes.items()},
    )


def block_side(shape: tuple[int, ...]) -> int:
    """Pixels along the side of a block that is resampled as a whole: 8, fewer where a side would not hold four."""
    return max(min(BLOCK, min(shape) // 4), 1)


def learned_status(runs: xr.Dataset, task: Task, *, margin: float = MARGIN) -> xr.DataArray:
    """Status of each run by its held-out loss: converged if below a blind guess's by `margin`, else undecided.

    What diverged, failed or was not trained stays what it is.
    """
    status = runs["status"]
    learned = np.where(runs["test_loss"] < task.blind_loss - margin, Status.CONVERGED, Status.UNDECIDED)
    ended = status.isin([Status.CONVERGED, Status.UNDECIDED])
    return status.copy(data=np.where(ended, learned, status).astype(np.int8))


def _said(diagram: xr.Dataset, excess: xr.DataArray) -> xr.Dataset:
    """The diagram with status and boundary from an excess that is positive where a network does not train."""
    # Where the stream dies out exponents are NaN, and nothing trains.
    status = np.where(excess <= 0, Status.CONVERGED, Status.UNDECIDED).astype(np.int8)
    return diagram.assign(
        status=(excess.dims, status, STATUS_ATTRS), boundary=(excess.dims, excess.fillna(np.inf).values)
    )


def _initialization(grid: Grid, trainer: Transformer) -> Initialization:
    """What token geometry sees of a trainer; a `ValueError` where it does not see all that matters."""
    for name in grid:
        if name not in SCALES:
            raise ValueError(f"axis {name!r}: exponents are predicted over {', '.join(SCALES)} alone")
    if trainer.init_scale != 1:
        raise ValueError(
            f"init_scale={trainer.init_scale:g}: the exponents are those of init_scale=1; use sigma_… instead"
        )
    values = {name: getattr(trainer, name) for name in (*SCALES, *_FORM)}
    return Initialization(n_tokens=trainer.task.window, **values)
