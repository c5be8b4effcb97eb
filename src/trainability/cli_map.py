"""Commands that train a network for each pixel of a grid: `trainability map linear …`, `trainability map mlp …`."""

import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from .cli_picture import Picture, draw_status, train_map

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Train a network for each pixel of a grid of two hyperparameters; stop and go on at any time.",
)

# Operations of a run from which on whole ones take too long to be timed (64 such runs, the first sample, take some
# two seconds), and the numbers of steps that are timed instead.
LONG, TIMED = 1e9, (2, 20)

Store = Annotated[Path, typer.Argument(help="Zarr folder to write, or to continue.")]
X = Annotated[str, typer.Option(help="First axis, as name:low:high:pixels[:log].")]
Y = Annotated[str, typer.Option(help="Second axis.")]
Condition = Annotated[str, typer.Option(help="tanh, relu, identity, 'mini-batch', 'one point' or offset.")]
OwnX = Annotated[
    str | None, typer.Option(help="First axis, as name:low:high:pixels[:log]; by default as published.")
]
OwnY = Annotated[str | None, typer.Option(help="Second axis.")]
Width = Annotated[int, typer.Option(help="Hidden units.")]
NSteps = Annotated[int | None, typer.Option(help="Steps of gradient descent for each pixel; as published.")]
Seed = Annotated[int, typer.Option(help="Of weights, data and batches.")]
Workers = Annotated[int, typer.Option(help="Processes that train.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what it would cost, from a few pixels; write nothing.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


@app.command()
def linear(
    store: Store,
    x: X = "lr:0.03:0.6:64:log",
    y: Y = "imbalance:-1:1:64",
    mode: Annotated[str, typer.Option(help="blocks, pair or all: what is trained.")] = "blocks",
    n_steps: Annotated[int, typer.Option(help="Steps of gradient descent for each pixel.")] = 1000,
    init_scale: Annotated[float, typer.Option(help="Size of the initial weights.")] = 2.0,
    prompt_seed: Annotated[int, typer.Option(help="Seed of the prompt.")] = 13,
    examples: Annotated[int, typer.Option(help="Examples in the prompt.")] = 12,
    dim: Annotated[int, typer.Option(help="Dimension of an example.")] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights.")] = 1,
    picture: Picture = None,
    workers: Workers = 1,
) -> None:
    """Train a linear transformer for each pixel of a grid of two hyperparameters.

    Axes are among lr, init_scale, imbalance and seed. The store can be interrupted and continued at any time. The
    picture shows the predicted lines, too.

    In Python: `trainability.trainability_map` with `trainability.trainers.LinearTransformer`.
    """
    from .linear_predictions import predict_linear_transformer
    from .prompt import random_prompt
    from .trainers import LinearTransformer

    prompt = random_prompt(examples, dim, seed=prompt_seed)
    trainer = LinearTransformer(prompt, mode=mode, n_steps=n_steps, init_scale=init_scale, seed=seed)
    grid = grid_of(read_axis(x), read_axis(y))
    lines = partial(draw_status, predicted=predict_linear_transformer(grid, trainer)) if picture else None
    runs = train_map(grid, trainer, store, picture=picture, bar=True, draw=lines, workers=workers)
    print(summary(runs))
    fail_unless_done(runs)


@app.command()
def mlp(
    store: Store,
    condition: Condition = "tanh",
    pixels: Annotated[int, typer.Option(help="Along each axis of the published window.")] = 64,
    x: OwnX = None,
    y: OwnY = None,
    width: Width = 16,
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 1,
    n_data: Annotated[
        int | None, typer.Option(help="Rows of data; by default as many as weights (identity: as inputs).")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of a mini-batch.")] = None,
    offset_mode: Annotated[
        str | None, typer.Option(help="per_step or once: when the condition `offset` adds the offset.")
    ] = None,
    n_steps: NSteps = None,
    seed: Seed = 0,
    dtype: Annotated[str, typer.Option(help="float64, or float32 for previews of wide windows.")] = "float64",
    engine: Annotated[str, typer.Option(help="auto, vector, numpy or torch.")] = "auto",
    refine: Annotated[bool, typer.Option("--refine", help="Train along the boundary only.")] = False,
    dry_run: DryRun = False,
    picture: Picture = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Train a small fully connected network for each pixel of a grid of two hyperparameters.

    The default is the full window of a condition of arXiv:2402.06184, named by `--condition`; the other options
    change it. Axes are lr_in, lr_out, lr_hidden, lr (all layers), offset, weight_scale, momentum, weight_decay,
    batch_size and seed; pixels are named by the ends of their range, so whole numbers begin a half below:
    seed:-0.5:7.5:8 are the seeds 0 to 7.

    In Python: `trainability.trainability_map` with `trainability.conditions.published_condition` or
    `trainability.trainers.MLP`, `trainability.estimate_cost`.
    """
    grid, trainer = network_of(
        condition,
        (x, y),
        pixels,
        offset_mode=offset_mode,
        width=width,
        depth=depth,
        n_data=n_data,
        batch_size=batch_size,
        n_steps=n_steps,
        seed=seed,
        dtype=dtype,
        engine=engine,
    )
    tile = None  # a store keeps its own
    if dry_run or not store.exists():
        from .cost import estimate_cost

        cost = estimate_cost(
            grid, trainer, workers=workers, steps=TIMED if trainer.flops_per_run() > LONG else None
        )
        if dry_run:
            print(json.dumps(asdict(cost)) if as_json else cost)
            return
        tile = cost.tile
    bar = not as_json
    runs = train_map(
        grid, trainer, store, picture=picture, bar=bar, tile=tile, workers=workers, refine=refine
    )
    print(json.dumps(counts(runs)) if as_json else summary(runs))
    fail_unless_done(runs)


def network_of(
    condition: str,
    axes: tuple[str | None, str | None],
    pixels: int,
    *,
    offset_mode: str | None = None,
    **settings: Any,
) -> tuple[Any, Any]:
    """Grid and trainer of a published condition, with axes and settings of one's own where they are not None."""
    from .conditions import published_condition

    found = published_condition(condition, offset_mode=offset_mode)
    window, trainer = found.full(pixels)
    own = [read_axis(text) if text else axis for text, axis in zip(axes, window.axes.items(), strict=True)]
    # Sizes of the data follow from the others; one row is what "one point" is about.
    sizes = {"n_inputs": None, "n_data": 1 if trainer.n_data == 1 else None}
    given = {name: value for name, value in settings.items() if value is not None}
    return grid_of(*own), replace(trainer, **{**sizes, **given})


def read_axis(text: str):
    """Read name:low:high:pixels[:log]."""
    from .grid import linear_axis, log_axis

    name, *numbers = text.split(":")
    log = numbers[-1:] == ["log"]
    try:
        low, high, n = numbers[:-1] if log else numbers
        return name, (log_axis if log else linear_axis)(float(low), float(high), int(n))
    except ValueError as error:
        raise ValueError(
            f"axis {text!r}: write name:low:high:pixels[:log], as lr:0.01:1:64:log ({error})"
        ) from error


def grid_of(x: tuple[str, Any], y: tuple[str, Any]):
    """Grid of two axes, each (name, axis)."""
    from .grid import Grid

    if x[0] == y[0]:
        raise ValueError(f"both axes are {x[0]!r}; give --x and --y two hyperparameters")
    return Grid(**dict([x, y]))


def counts(runs) -> dict[str, int]:
    """Pixels of each status that there are."""
    from ._contract import Status

    found = {s.name.lower(): int((runs["status"] == s).sum()) for s in Status}
    return {name: count for name, count in found.items() if count}


def fail_unless_done(*maps) -> None:
    """Exit with code 1 if tiles have failed, so that a script does not go on with what is not there."""
    if any({"failed", "pending"} & counts(runs).keys() for runs in maps):
        raise typer.Exit(1)


def summary(runs) -> str:
    """Words for `counts`."""
    return ", ".join(f"{count} {name}" for name, count in counts(runs).items())
