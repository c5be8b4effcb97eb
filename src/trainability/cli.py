"""The command line: `trainability …`; every command mirrors a function, named in its help."""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from . import cli_fractal, cli_geometry, cli_map, cli_sweep, cli_transformer, cli_validate

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Predict where a neural network trains, then check the prediction against maps of real training runs.",
)

AsJson = Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")]


def main() -> None:
    """Run the command line: errors and warnings in one line each.

    Exit code 2 for bad input, 1 for files, missing extras and tiles that failed, 130 for Ctrl-C.
    """
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn  # type: ignore[assignment]  # it takes no notice of the place
            app()
    except KeyboardInterrupt as stop:
        _end("; ".join(getattr(stop, "__notes__", ["interrupted"])), 130)
    except ValueError as error:
        _end(str(error), 2)
    except (OSError, ImportError) as error:
        _end(str(error), 1)


def _warn(message: Warning | str, *_: Any) -> None:
    print(f"trainability: warning: {message}", file=sys.stderr)


def _end(message: str, code: int) -> None:
    print(f"trainability: {message}", file=sys.stderr)
    sys.exit(code)


def _answer(values: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(values) if as_json else text)


@app.command()
def phase(
    mu: Annotated[float, typer.Argument(help="Effective step: learning rate x gain x target.")],
    as_json: AsJson = False,
) -> None:
    """Name the phase of the product map at an effective step, and list the exact thresholds.

    `trainability phase 1.1` answers "2-cycle": gradient descent settles on two alternating points and the
    loss stays above zero. Negative steps need `--` before them.

    In Python: `trainability.phase`, `trainability.thresholds`.
    """
    from .classification import phase, thresholds

    found, limits = phase(mu), thresholds()
    lines = [
        f"mu = {mu:g}: {found}",
        *(f"  {value:.10f}  {name.replace('_', ' ')}" for name, value in limits.items()),
    ]
    _answer({"mu": mu, "phase": str(found), "thresholds": limits}, as_json, "\n".join(lines))


@app.command("critical-lr")
def critical_lr(
    gain: Annotated[float, typer.Option(help="Gain of the prompt: |mean of y x| times |x_query|.")],
    target: Annotated[float, typer.Option(help="Label of the query.")],
    u: Annotated[float, typer.Option(help="Initial key-query weight along the prompt's direction.")],
    v: Annotated[float, typer.Option(help="Initial projection-value weight.")],
    as_json: AsJson = False,
) -> None:
    """Give the exact learning rate at which training a linear transformer turns from bounded to divergent.

    The loss is (gain u v - target)² / 2. Below the safe rate it converges to zero loss, between the two it
    stays bounded without converging, above the critical rate it diverges; for almost every start.

    In Python: `trainability.critical_lr` (from a prompt and weights), `trainability.critical_lr_from`,
    `trainability.safe_lr`.
    """
    from .classification import critical_lr_from

    critical = float(critical_lr_from(gain**2, gain * target, u, v))
    safe = min(critical, 1 / abs(gain * target)) if gain * target else critical
    text = f"converges up to {safe:.10g}\nbounded up to   {critical:.10g}\ndiverges above"
    _answer({"critical_lr": critical, "safe_lr": safe}, as_json, text)


@app.command()
def diagram(
    out: Annotated[Path, typer.Option(help="Picture to write (PNG, PDF or SVG by its ending).")] = Path(
        "diagram.png"
    ),
    low: Annotated[float, typer.Option("--from", help="Least effective step.")] = 0.2,
    high: Annotated[float, typer.Option("--to", help="Greatest effective step.")] = 2.02,
    columns: Annotated[int, typer.Option(help="Values of mu.")] = 1800,
) -> None:
    """Draw the orbit diagram of the product map with its exact thresholds and Lyapunov exponents.

    In Python: `trainability.orbit_diagram`, `trainability.lyapunov_map`, `trainability.plot`.
    """
    from . import plot
    from .plot_studies import product_map_diagram

    plot.save(product_map_diagram(low, high, columns), out)
    print(out)


cli_map.app.command()(cli_transformer.transformer)
app.add_typer(cli_map.app, name="map")
app.add_typer(cli_sweep.app, name="sweep")
for command in (
    cli_validate.validate,
    cli_validate.claim,
    cli_geometry.exponents,
    cli_geometry.diagnose,
    cli_sweep.zoom,
    cli_fractal.dimension,
):
    app.command()(command)
