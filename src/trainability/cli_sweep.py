"""Commands on stored sweeps, `trainability sweep …`, and zooms of small networks, `trainability zoom …`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from .cli_map import Condition, NSteps, OwnX, OwnY, Seed, Width, fail_unless_done, network_of

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look after sweeps: how far they are, go on, what they cost.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]
Workers = Annotated[int, typer.Option(help="Processes that train.")]
Store = Annotated[Path, typer.Argument(help="Zarr folder of the sweep.")]


@app.command()
def status(store: Store, as_json: AsJson = False) -> None:
    """Say how far a sweep is: pixels done, failed and pending, rate, time left, and why tiles failed.

    Reads only; ask at any time, from any process.

    In Python: `trainability.sweep_status`.
    """
    from .progress import sweep_status

    found = sweep_status(store)
    print(json.dumps(asdict(found)) if as_json else found)


@app.command()
def resume(store: Store, workers: Workers = 1) -> None:
    """Go on with an unfinished sweep, with the trainer that began it.

    Several `resume` may run at once, on several machines. The trainer is unpickled from the folder beside the
    store: resume only what you began yourself.

    In Python: `trainability.resume_sweep`.
    """
    from .progress import sweep_status
    from .sweep import resume_sweep

    runs = resume_sweep(store, workers=workers, progress=True)
    print(sweep_status(store))
    fail_unless_done(runs)


def zoom(
    out: Annotated[Path, typer.Argument(help="Folder for the stores, the contact sheet and the film.")],
    condition: Condition = "tanh",
    pixels: Annotated[int, typer.Option(help="Along each axis of a frame.")] = 128,
    x: OwnX = None,
    y: OwnY = None,
    at: Annotated[
        str,
        typer.Option(help="The point, as lr_in=2.5,lr_out=31; the roughest place of the window by default."),
    ] = "",
    decades: Annotated[float, typer.Option(help="How far to zoom.")] = 10.0,
    width: Width = 16,
    n_steps: NSteps = None,
    seed: Seed = 0,
    refine: Annotated[
        bool, typer.Option("--refine", help="Train along the boundary only, and draw by status.")
    ] = False,
    film: Annotated[
        str, typer.Option(help="Name of the film, ending in .mp4 or .gif; empty for none.")
    ] = "zoom.gif",
    workers: Workers = 1,
    as_json: AsJson = False,
) -> None:
    """Zoom into the boundary of trainability of a small network, and draw it.

    The first frame is the full window of a condition of arXiv:2402.06184. Each frame halves the pixel, takes what
    it shares with the one before, and is stored: run the command again and it goes on where it stopped. The zoom
    ends early, and says so, where floating point does.

    In Python: `trainability.zoom`, `trainability.film`, `trainability.contact_sheet`.
    """
    from . import plot
    from .frames import roughest_point
    from .frames import zoom as train_frames
    from .pictures import contact_sheet, film_writer, plain_picture, published_picture
    from .pictures import film as write_film
    from .sweep import trainability_map

    if film:
        film_writer(Path(film))  # says what is wrong before hours of training, not after
    grid, trainer = network_of(condition, (x, y), pixels, width=width, n_steps=n_steps, seed=seed)
    if at:
        point = _point(at)
    else:
        overview = trainability_map(
            grid, trainer, store=out / "overview.zarr", workers=workers, refine=refine
        )
        point = roughest_point(overview, trainer)
    frames = list(
        train_frames(
            grid,
            trainer,
            point,
            decades=decades,
            store=out,
            workers=workers,
            refine=refine,
            progress=not as_json,
        )
    )
    picture = plain_picture if refine else published_picture
    plot.save(contact_sheet(frames, picture=picture), out / "sheet.png")
    if film:
        write_film(frames, out / film, picture=picture)
    last = json.loads(frames[-1].attrs["zoom"])
    answer = {
        "point": point,
        "frames": len(frames),
        "decades": last["decades"],
        "decades_left": last["decades_left"],
        "sheet": str(out / "sheet.png"),
        "film": str(out / film) if film else None,
    }
    text = (
        f"{answer['frames']} frames, {answer['decades']:.1f} decades around "
        f"{', '.join(f'{name}={value!r}' for name, value in point.items())}; "
        f"{answer['decades_left']:.1f} more until floating point ends\n{answer['sheet']}"
    )
    print(json.dumps(answer) if as_json else text + (f"\n{answer['film']}" if film else ""))
    fail_unless_done(*frames)


def _point(text: str) -> dict[str, float]:
    """Read name=value,name=value."""
    try:
        return {name: float(value) for name, value in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise ValueError(
            f"point {text!r}: write name=value,name=value, as lr_in=2.5,lr_out=31 ({error})"
        ) from error
