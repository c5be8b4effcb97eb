"""`trainability map transformer …`: one transformer for each pixel of a grid of two hyperparameters."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from math import log2
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_map import AsJson, DryRun, Store, Workers, counts, fail_unless_done, grid_of, read_axis, summary
from .cli_picture import Draw, Picture, losses_beside, train_map

# Where each preset has a boundary, on the text it is given by default.
AXES = {
    "tiny": ("lr_attn:0.01:1:32:log", "lr_rest:0.003:0.6:32:log"),
    "torkamandi": ("lr_attn:1e-4:1:32:log", "lr_rest:1e-4:1:32:log"),
    "geometry": ("alpha_attn:0.05:0.95:32", "sigma_mlp:0.5:10:32:log"),
}

# What the presets learn, and their windows in characters.
TASKS = {"tiny": "sonnets", "torkamandi": "sonnets", "geometry": "synthetic"}
WINDOWS = {"tiny": 16, "torkamandi": 64, "geometry": 8}

# The `geometry` preset besides its axes: deep enough that exponents matter, and the width, text and learning rate of
# the study of the two exponents. Of 32 random points of its axes, half learn more than frequencies in 300 steps.
GEOMETRY = {
    "d_model": 24,
    "n_layers": 12,
    "n_steps": 300,
    "lr": 0.01,
    "alpha_attn": 0.3,
    "alpha_mlp": 0.7,
    "sigma_attn": 1.0,
    "sigma_mlp": 1.0,
}

# Runs so short are timed to say what whole ones take.
TIMED = (2, 20)

Number = int | None


def transformer(
    store: Store,
    preset: Annotated[str, typer.Option(help="tiny, torkamandi or geometry.")] = "tiny",
    x: Annotated[str | None, typer.Option(help="First axis, as name:low:high:pixels[:log].")] = None,
    y: Annotated[str | None, typer.Option(help="Second axis.")] = None,
    task: Annotated[
        str | None, typer.Option(help="sonnets, synthetic, copy, modular, regression, or a file of text.")
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", help="A hyperparameter that is no axis, as lr=0.003; may be repeated."),
    ] = None,
    causal: Annotated[
        bool,
        typer.Option(
            "--causal/--full", help="Attend to earlier tokens only; or to all, and predict the last."
        ),
    ] = True,
    window: Annotated[Number, typer.Option(help="Characters that the model sees.")] = None,
    d_model: Annotated[Number, typer.Option(help="Width.")] = None,
    n_layers: Annotated[Number, typer.Option(help="Blocks.")] = None,
    n_heads: Annotated[Number, typer.Option(help="Heads.")] = None,
    batch_size: Annotated[Number, typer.Option(help="Windows in a batch.")] = None,
    n_steps: Annotated[Number, typer.Option(help="Steps of each run.")] = None,
    optimizer: Annotated[str | None, typer.Option(help="adam, adamw, momentum or sgd.")] = None,
    seed: Annotated[int, typer.Option(help="Of the weights.")] = 0,
    order_seed: Annotated[int, typer.Option(help="Of the order of the data, one for the whole map.")] = 0,
    n_records: Annotated[int, typer.Option(help="Losses of each run that are kept.")] = 0,
    converged_below: Annotated[
        float | None, typer.Option(help="A run has converged if its last losses over the first are below.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float32",
    refine: Annotated[bool, typer.Option("--refine", help="Train along the boundary only.")] = False,
    horizon: Annotated[
        bool,
        typer.Option(
            "--horizon", help="Measure what step of the first axis such runs resolve: 144 runs more."
        ),
    ] = False,
    dry_run: DryRun = False,
    picture: Picture = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Train a decoder-only transformer for each pixel of a grid of two hyperparameters.

    Presets: `tiny` (16 wide, two blocks, Adam), `torkamandi` (the architecture of arXiv:2501.04286, minutes of a core
    for each pixel), `geometry` (twelve blocks over strengths and scales of the initialization, set beside what
    their exponents predict). Left out, axes and sizes are the preset's. Interrupt and run the same command again: it
    goes on.

    In Python: `trainability.trainability_map` with `trainability.trainers.Transformer`, `trainability.estimate_cost`,
    `trainability.compare_exponents`.
    """
    from .cost import estimate_cost

    chosen = {
        "d_model": d_model,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "batch_size": batch_size,
        "n_steps": n_steps,
        "optimizer": optimizer,
        "converged_below": converged_below,
    }
    options = {name: value for name, value in chosen.items() if value is not None}
    options |= {"seed": seed, "order_seed": order_seed, "n_records": n_records, "dtype": dtype}
    trainer = preset_trainer(preset, task, window, causal=causal, **options | hyperparameters(fixed or ()))
    # A power of two, as tiles are, so that no ensemble is filled up with pixels that are thrown away.
    trainer = replace(trainer, members=2 ** int(log2(trainer.ensemble)))
    default_x, default_y = AXES[preset]
    grid = grid_of(read_axis(x or default_x), read_axis(y or default_y))
    tile = None  # a store keeps its own
    if dry_run or not store.exists():
        grid.check_resolution(dtype)
        cost = estimate_cost(grid, trainer, workers=workers, steps=TIMED)
        if dry_run:
            print(json.dumps(asdict(cost)) if as_json else cost)
            return
        tile = cost.tile
        if not as_json:
            print(f"about {cost}")

    draw = losses_drawn(grid, trainer) if picture and preset == "geometry" else None
    bar = not as_json
    runs = train_map(
        grid, trainer, store, picture=picture, bar=bar, draw=draw, tile=tile, workers=workers, refine=refine
    )
    print(json.dumps(counts(runs)) if as_json else summary(runs))
    if not as_json:
        if preset == "geometry":
            print(beside_exponents(runs, trainer))
        for line in cautions(grid, trainer, runs, horizon=horizon):
            print(line)
    fail_unless_done(runs)


def losses_drawn(grid, trainer) -> Draw | None:
    """Draw the losses of a map with the lines of its exponents; None where they are not predicted."""
    from .transformer_predictions import predict_transformer

    try:
        predicted = predict_transformer(grid, trainer)
    except ValueError:  # `beside_exponents` says why
        return None
    return losses_beside(predicted, trainer.task.blind_loss)


def beside_exponents(runs, trainer) -> str:
    """How the map compares with what its exponents predict, or why they predict nothing."""
    from .transformer_predictions import compare_exponents

    try:
        return repr(compare_exponents(runs, trainer))
    except ValueError as error:
        return f"not set beside predicted exponents: {error}"


def cautions(grid, trainer, runs, *, horizon: bool) -> list[str]:
    """What a reader of the map should know: where its cut-off stands, and how fine its pixels are."""
    import warnings

    from .cutoffs import threshold_audit
    from .horizon import axis_resolution, predictability_horizon

    lines, horizons = [], {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the lines say it
        try:
            lines.append(repr(threshold_audit(runs, cut=trainer.converged_below)))
        except ValueError as error:  # a map too small for a histogram
            lines.append(f"no audit of the cut-off: {error}")
        first = next(iter(grid))
        if horizon and (point := boundary_pixel(runs)):
            horizons = {first: predictability_horizon(trainer, point, axis=first)}
        lines += [repr(found) for found in axis_resolution(grid, trainer.dtype, horizons=horizons).values()]
    return lines


def boundary_pixel(runs) -> dict[str, float] | None:
    """Hyperparameters of the pixel at the boundary along the first axis, on the middle row that has one."""
    import numpy as np

    from ._contract import is_trained

    status = runs["status"].values
    trained = is_trained(status)
    changes = np.argwhere((status[1:] != status[:-1]) & trained[1:] & trained[:-1])
    if not len(changes):
        return None
    middle = np.median(changes[:, 1])
    place = changes[np.abs(changes[:, 1] - middle).argmin()]
    return {str(d): float(runs[d][i]) for d, i in zip(runs["status"].dims, place, strict=True)}


def hyperparameters(texts: Iterable[str]) -> dict[str, float]:
    """Read name=value.

    Raises
    ------
    ValueError
        If a text is no such thing.
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise ValueError(f"--set {text!r}: write name=number, as alpha_mlp=0.5") from None
    return found


def preset_trainer(
    preset: str, task: str | None = None, window: int | None = None, *, causal: bool = True, **options: Any
):
    """A `Transformer` of a preset on a named task, its own by default; options are fields of the trainer.

    Raises
    ------
    ValueError
        If the preset, the task or an option is unknown.
    """
    from dataclasses import fields

    from .initialization import Initialization
    from .trainers import Transformer

    if preset not in AXES:
        raise ValueError(f"preset={preset!r} is unknown; use {', '.join(AXES)}")
    known = [f.name for f in fields(Transformer)]
    for name in options:
        if name not in known:
            raise ValueError(f"{name!r} is no option of a transformer; it has {', '.join(known)}")
    data = named_task(task or TASKS[preset], window or WINDOWS[preset], last=not causal)
    if preset != "geometry":
        return getattr(Transformer, preset)(data, **{"causal": causal, **options})
    options = {**GEOMETRY, **options}
    of_init = {name: options.pop(name) for name in GEOMETRY if name.startswith(("alpha", "sigma"))}
    init = Initialization(n_tokens=data.window, activation="tanh", causal=causal, **of_init)
    return Transformer.geometry(init, data, **options)


def named_task(name: str, window: int, *, last: bool = False):
    """The task of a name, or the text of a file; `last` scores the last position alone, for models that see all.

    Raises
    ------
    ValueError
        If there is neither a task nor a file of that name.
    """
    from .trainers import copy_task, modular_task, regression_task, synthetic_text, text_task

    tasks: dict[str, Any] = {"copy": copy_task, "modular": modular_task, "regression": regression_task}
    if name in tasks:
        return tasks[name]()
    path = Path(name)
    if name not in ("sonnets", "synthetic") and not path.is_file():
        raise ValueError(
            f"task={name!r} is unknown; use sonnets, synthetic, {', '.join(tasks)}, or the path of a text"
        )
    text = synthetic_text() if name == "synthetic" else None if name == "sonnets" else path
    return text_task(text, window=window, predict="last" if last else "all")
