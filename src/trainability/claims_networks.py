"""Claims on the boundary of small networks, arXiv:2402.06184, measured on maps of a few thousand runs."""

import json
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files

import numpy as np

from .calibration import calibration_table
from .claims import ClaimTest, Measured, Verdict, claim
from .conditions import CONDITIONS, Condition, published_condition
from .frames import roughest_point
from .sweep import trainability_map
from .verdict import fractal_dimension

PAPER = "arXiv:2402.06184"

# Half-widths of the frames of the zoom, in decades of both learning rates: ten decades from first to last.
FRAMES = (1e-1, 1e-3, 1e-5, 1e-7, 1e-9, 1e-11)

# Pixels along the side of a frame, and of the full window that the zoom starts from.
SIDE = 24

# Changes of outcome between neighbours for each pixel of the side: a line across a frame at any angle has up to 2.
LINE = 2.0

# Largest error of an estimate of dimension that still tells the six published dimensions from each other.
USEFUL = 0.05


def _converged(runs) -> np.ndarray:
    return np.asarray(runs["tail_ratio"]) < 1


def _changes(label: np.ndarray) -> int:
    return sum(int((np.diff(label.astype(int), axis=axis) != 0).sum()) for axis in (0, 1))


@cache
def _start(name: str, pixels: int) -> tuple[Condition, dict[str, float]]:
    """A condition, and the point of its full window around which most neighbours differ."""
    condition = published_condition(name)
    grid, trainer = condition.full(pixels)
    return condition, roughest_point(trainability_map(grid, trainer), trainer)


@claim(PAPER, "The boundary of a tanh network shows structure at every scale over ten decades.")
def structure_over_ten_decades() -> Measured:
    """Fewest changes of outcome, per pixel of the side, in any frame; the last is trained again summed otherwise.

    Structure of rounding would not survive data rows in another order, which is the same training but for the last
    bits; it is the run's own if fewer than half as many pixels flip as differ from a neighbour.
    """
    condition, point = _start("tanh", SIDE)
    fewest = np.inf
    for half_width in FRAMES:
        grid, trainer = condition.zoom(point, pixels=SIDE, half_width=half_width)
        label = _converged(trainability_map(grid, trainer))
        fewest = min(fewest, _changes(label) / SIDE)
    problem = trainer.draw(trainer.seed)
    x, y = np.asarray(problem.x), np.asarray(problem.y)
    order = np.random.default_rng(0).permutation(len(x))
    twin = _converged(trainability_map(grid, replace(trainer, data=(x[order], y[order]))))
    flips = float((label != twin).mean())
    neighbours = _changes(label) / (2 * SIDE * (SIDE - 1))
    own = flips < neighbours / 2
    verdict = Verdict.SUPPORTED if fewest > LINE else Verdict.CONTRADICTED
    return Measured(
        f"at least {fewest:.1f} changes per pixel of the side in {len(FRAMES)} frames of {SIDE} x {SIDE} (a line: at "
        f"most {LINE:.0f}); in the last, summing the data in another order flips {flips:.1%} of the pixels, where "
        f"{neighbours:.1%} of neighbours differ",
        None,
        verdict if own else Verdict.INCONCLUSIVE,
    )


@claim(PAPER, "A network without nonlinearity has a boundary that is not a smooth line.")
def linear_network_is_rough() -> Measured:
    """Dimension in a window of 0.02 decades around the roughest point of the full window; supported above 1.03."""
    condition, point = _start("identity", 256)
    grid, trainer = condition.zoom(point, pixels=512, half_width=1e-2)
    found = fractal_dimension(trainability_map(grid, trainer))
    return Measured(
        f"{found.verdict}, dimension {found.value:.2f} on 512 x 512 pixels",
        found.interval,
        Verdict.of(found.interval, (1.03, 2.0)) if found.verdict == "fractal" else Verdict.INCONCLUSIVE,
    )


@claim(PAPER, "The median of the local slopes of box counts is the dimension of the boundary.")
def median_slope_is_the_dimension() -> Measured:
    """Bias of that estimator on sets of known dimension at 1025² pixels; supported if at most 0.05 on all."""
    known = calibration_table()["bias"].sel(estimator="median_local_slope", pixels=1025).dropna("set")
    values = np.asarray(known)
    worst = int(np.abs(values).argmax())
    return Measured(
        f"off by {values[worst]:+.2f} on the {known['set'].values[worst]}; at most {USEFUL} on "
        f"{(np.abs(values) <= USEFUL).sum()} of {len(values)} sets of known dimension",
        None,
        Verdict.SUPPORTED if np.abs(values).max() <= USEFUL else Verdict.CONTRADICTED,
    )


def _dimension_in_two_windows(name: str) -> Measured:
    """Dimension of a condition on its full window and on a zoom into its roughest place, as stored.

    A verdict needs windows whose map has a dimension: noise and unresolved ones leave it open. It is supported where
    some interval holds the published number, and contradicted where every window has a dimension, and none holds it.
    """
    stored = json.loads((files(__package__) / "data/measured_dimensions.json").read_text(encoding="utf8"))[
        name
    ]
    windows = {window: stored[window] for window in ("full", "zoom")}
    settled = {w: found for w, found in windows.items() if found["verdict"] in ("fractal", "smooth")}
    low, high = windows["zoom"]["interval"]
    inside = [f["interval"][0] <= CONDITIONS[name].dimension <= f["interval"][1] for f in settled.values()]
    missed = len(settled) == len(windows) and not any(inside)
    text = ", ".join(
        f"{window} window {f['dimension']:.2f} ({f['interval'][0]:.2f} to {f['interval'][1]:.2f}, {f['verdict']})"
        for window, f in windows.items()
    )
    verdict = Verdict.CONTRADICTED if missed else Verdict.INCONCLUSIVE
    return Measured(text, (low, high), Verdict.SUPPORTED if any(inside) else verdict)


def _dimension_claim(name: str) -> ClaimTest:
    return ClaimTest(
        f"dimension-{name.replace(' ', '-')}",
        PAPER,
        f"The boundary of the condition {name!r} has the box dimension {CONDITIONS[name].dimension}.",
        partial(_dimension_in_two_windows, name),
        "python benchmarks/measure_conditions.py --out maps",
    )


tanh, relu, identity, mini_batch, one_point, offset = map(_dimension_claim, CONDITIONS)
