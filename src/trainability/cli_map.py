"""Commands that train a network for each pixel of a grid: `trainability map linear …`, `trainability map mlp …`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Train a network for each pixel of a grid of two hyperparameters; stop and go on at any time.",
)

Store = Annotated[Path, typer.Argument(help="Zarr folder to write, or to continue.")]
X = Annotated[str, typer.Option(help="First axis, as name:low:high:pixels[:log].")]
Y = Annotated[str, typer.Option(help="Second axis.")]
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
    picture: Annotated[
        Path | None, typer.Option(help="Draw the map, with the predicted lines, to this file.")
    ] = None,
    workers: Workers = 1,
) -> None:
    """Train a linear transformer for each pixel of a grid of two hyperparameters.

    Axes are among lr, init_scale, imbalance and seed. The store can be interrupted and continued at any time.

    In Python: `trainability.trainability_map` with `trainability.trainers.LinearTransformer`.
    """
    from .grid import Grid
    from .prompt import random_prompt
    from .sweep import trainability_map
    from .trainers import LinearTransformer

    prompt = random_prompt(examples, dim, seed=prompt_seed)
    trainer = LinearTransformer(prompt, mode=mode, n_steps=n_steps, init_scale=init_scale, seed=seed)
    grid = Grid(**dict([read_axis(x), read_axis(y)]))
    runs = trainability_map(grid, trainer, store=store, workers=workers, progress=True)
    if picture:
        from . import plot
        from .linear_predictions import predict_linear_transformer

        ax = plot.trainability(runs, predicted=predict_linear_transformer(grid, trainer))
        plot.save(ax.figure, picture)
    print(summary(runs))


@app.command()
def mlp(
    store: Store,
    x: X = "lr_in:1e-3:1e6:64:log",
    y: Y = "lr_out:1e-3:1e6:64:log",
    activation: Annotated[str, typer.Option(help="tanh, relu or identity.")] = "tanh",
    width: Annotated[int, typer.Option(help="Hidden units.")] = 16,
    depth: Annotated[int, typer.Option(help="Hidden layers.")] = 1,
    n_data: Annotated[
        int | None, typer.Option(help="Rows of data; by default as many as weights (identity: as inputs).")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows of a mini-batch; all data by default.")] = None,
    offset_mode: Annotated[
        str, typer.Option(help="once or per_step: when the axis `offset` is added to the first layer.")
    ] = "once",
    n_steps: Annotated[int, typer.Option(help="Steps of gradient descent for each pixel.")] = 500,
    seed: Annotated[int, typer.Option(help="Of weights, data and batches.")] = 0,
    dtype: Annotated[str, typer.Option(help="float64, or float32 for previews of wide windows.")] = "float64",
    engine: Annotated[str, typer.Option(help="auto, vector, numpy or torch.")] = "auto",
    refine: Annotated[bool, typer.Option("--refine", help="Train along the boundary only.")] = False,
    dry_run: DryRun = False,
    picture: Annotated[Path | None, typer.Option(help="Draw the map to this file.")] = None,
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Train a small fully connected network for each pixel of a grid of two hyperparameters.

    The default is the full window of learning rates of arXiv:2402.06184 for tanh. Its other conditions are
    `--activation relu`, `--activation identity`, `--batch-size 16`, `--n-data 1`, and
    `--offset-mode per_step --x offset:3.16e-4:316:64:log --y lr:0.0316:31600:64:log`. Other axes are lr, lr_hidden,
    weight_scale, momentum, weight_decay, batch_size and seed.

    In Python: `trainability.trainability_map` with `trainability.trainers.MLP`, `trainability.estimate_cost`.
    """
    from .grid import Grid
    from .trainers import MLP

    trainer = MLP(
        activation=activation,
        width=width,
        depth=depth,
        n_data=n_data,
        batch_size=batch_size,
        offset_mode=offset_mode,
        n_steps=n_steps,
        seed=seed,
        dtype=dtype,
        engine=engine,
    )
    grid = Grid(**dict([read_axis(x), read_axis(y)]))
    if dry_run:
        from .cost import estimate_cost

        cost = estimate_cost(grid, trainer, workers=workers)
        print(json.dumps(asdict(cost)) if as_json else cost)
        return
    from .sweep import trainability_map

    runs = trainability_map(grid, trainer, store=store, workers=workers, refine=refine, progress=not as_json)
    if picture:
        from . import plot
        from .refinement import infer_status

        ax = plot.trainability(runs.assign(status=infer_status(runs)))
        plot.save(ax.figure, picture)
    print(json.dumps(counts(runs)) if as_json else summary(runs))


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


def counts(runs) -> dict[str, int]:
    """Pixels of each status that there are."""
    from ._contract import Status

    found = {s.name.lower(): int((runs["status"] == s).sum()) for s in Status}
    return {name: count for name, count in found.items() if count}


def summary(runs) -> str:
    """Words for `counts`."""
    return ", ".join(f"{count} {name}" for name, count in counts(runs).items())
