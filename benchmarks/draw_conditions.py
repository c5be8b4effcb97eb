"""The tables and the figures of the six published conditions, from their measured numbers and maps."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import pages
from trainability import infer_status
from trainability.pictures import plain_picture, published_picture

WINDOWS = ("full", "zoom", "typical")


def windows(found: dict):
    """Name, window and numbers of every map."""
    for name, condition in found.items():
        for window in WINDOWS:
            if window in condition:
                yield name, window, condition[window]


def decimal(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def with_interval(value: float | None, interval: list) -> str:
    return "" if value is None else f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})"


def percent(value: float) -> str:
    """Two figures, as rates go from hundredths of a percent to all."""
    return f"{100 * value:.2g}%" if value < 0.1 else f"{value:.1%}"


def dimensions(found: dict) -> str:
    """Dimension and verdict of each map, with what its replicates say."""
    head = (
        "condition, window", "pixels", "dimension (95 %)", "verdict", "neighbours differ", "rounding flips (95 %)",
        "rounding over neighbours", "dimension from the pixel to the last digit",
        "published estimator, same map", "published",
    )  # fmt: skip
    rows = [head]
    for name, window, m in windows(found):
        twin = m["replicates"].get("rounding")
        rows.append(
            (
                f"{name}, {window}",
                f"{m['pixels']}²" + (", dense" if m["dense"] else ", refined"),
                with_interval(m["dimension"], m["interval"]),
                m["verdict"],
                percent(m["neighbour_rate"]),
                flip_rate(twin),
                ratio(twin, m["neighbour_rate"]),
                ""
                if window == "full"
                else below_pixel(twin, m),  # smooth and rough places follow no one power
                decimal(m["published_estimator"]),
                f"{found[name]['published']:.2f}",
            )
        )
    return pages.table(rows[0], rows[1:])


def flip_rate(replicate: dict | None) -> str:
    if replicate is None:
        return "not trained"
    low, high = replicate["interval"]
    return f"{percent(replicate['rate'])} ({percent(low)} to {percent(high)})"


def ratio(replicate: dict | None, neighbours: float) -> str:
    """Flips over the rate at which neighbours differ, which is exact on a map: the interval is that of the flips."""
    if replicate is None:
        return ""
    low, high = (end / neighbours for end in replicate["interval"])
    return f"{replicate['rate'] / neighbours:.2f} ({low:.2f} to {high:.2f})"


def below_pixel(replicate: dict | None, numbers: dict) -> str:
    """Dimension 2 - α, where outcomes that differ fall like distance^α from the pixel to a rounding of the weights.

    The pixel is the relative step of a learning rate; a rounding is 2⁻⁵³. Ten times that would move the dimension
    of a zoom by an eighth of its distance from 2.
    """
    if replicate is None:
        return ""
    pixel = np.sqrt(np.prod(numbers["half_widths"])) * 2 * np.log(10) / (numbers["pixels"] - 1)
    rates = np.array([*replicate["interval"], replicate["rate"]])
    with np.errstate(divide="ignore"):
        low, high, value = 2 - np.log(numbers["neighbour_rate"] / rates) / np.log(pixel / 2.0**-53)
    return f"below {high:.2f}" if not replicate["rate"] else with_interval(value, [low, high])


def refinement(found: dict) -> str:
    """What refinement trains and finds."""
    rows = [
        ("condition, window", "trained", "recall of edges", "growth of edges", "growth of trained pixels"),
    ]
    for name, window, m in windows(found):
        low, high = m["recall_interval"]
        rows.append(
            (
                f"{name}, {window}",
                f"{m['trained']:.1%}",
                f"{m['recall']:.1%}" + ("" if m["dense"] else f" ({low:.1%} to {high:.1%})"),
                "{exponent:.2f} ({least:.2f} to {most:.2f})".format(**m["edge_growth"]),
                "{exponent:.2f} ({least:.2f} to {most:.2f})".format(**m["trained_growth"]),
            )
        )
    return pages.table(rows[0], rows[1:])


def reasons(found: dict) -> str:
    """Where each condition differs from the published number, and the size of each reason."""
    head = (
        "condition", "published", "outside our interval", "region: local dimension over the full window, 5, 50, 95 %",
        "published procedure, our place (95 %)", "estimator: theirs less ours, same map",
        "resolution: growth of edges, first and last octave of the zoom",
    )  # fmt: skip
    rows = [head]
    for name, condition in found.items():
        mine = [(window, condition[window]) for window in WINDOWS if window in condition]
        outside = [w for w, m in mine if differs(m, condition["published"])]
        local = condition["full"]["local"]
        procedure = condition["published_procedure"]
        apart = [
            f"{m['published_estimator'] - m['dimension']:+.2f} ({w})"
            for w, m in mine
            if m["dimension"] is not None and m["published_estimator"] is not None
        ]
        counts = condition["zoom"]["scaling"]
        octaves = np.diff(np.log2(counts["edges"])) / np.diff(np.log2(counts["pixels"]))
        rows.append(
            (
                name,
                f"{condition['published']:.2f}",
                ", ".join(outside) or "none",
                ", ".join(f"{local[q]:.2f}" for q in ("5%", "50%", "95%")),
                with_interval(procedure["value"], procedure["interval"]) if procedure else "not trained",
                ", ".join(apart),
                f"{octaves[0]:.2f}, {octaves[-1]:.2f}",
            )
        )
    return pages.table(rows[0], rows[1:])


def differs(numbers: dict, published: float) -> bool:
    """Whether the published number lies outside the interval."""
    low, high = numbers["interval"]
    return low is not None and not low <= published <= high


def along(condition: dict) -> list[dict]:
    """Windows around the place of the zoom, from wide to narrow."""
    held = [condition["full"], *condition["path"], condition["zoom"]]
    return sorted(held, key=lambda m: -m["half_widths"][0])


TABLES = {"dimensions": dimensions, "refinement": refinement, "reasons": reasons}


def write(found: dict, maps: dict[tuple[str, str], xr.Dataset], docs: Path) -> None:
    """Put the tables into the page, and the figures beside it."""
    page = docs / "measured-dimensions.md"
    for name, make in TABLES.items():
        pages.fill(page, name, make(found), script="measure_conditions.py")
    drawn = {
        "six-conditions": draw_maps(found, maps),
        "six-scalings": draw_scaling(found),
        "six-paths": draw_paths(found),
    }
    for name, figure in drawn.items():
        figure.savefig(docs / f"figures/{name}.png", dpi=130)
        plt.close(figure)


def draw_maps(found: dict, maps: dict[tuple[str, str], xr.Dataset]):
    """A row for each window: published colours where every pixel is trained, two colours elsewhere."""
    shown = [window for window in WINDOWS if any(w == window for _, w in maps)]
    figure, axes = plt.subplots(
        len(shown), len(found), figsize=(2.5 * len(found), 2.8 * len(shown)), layout="constrained", squeeze=False
    )  # fmt: skip
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    for column, name in enumerate(found):
        for row, window in enumerate(shown):
            if (name, window) not in maps:
                continue
            runs, ax, m = maps[name, window], axes[row, column], found[name][window]
            if m["dense"]:
                ax.imshow(published_picture(runs), interpolation="nearest")
            else:
                ax.imshow(plain_picture(runs.assign(status=infer_status(runs))), interpolation="nearest")
            x, y = runs["status"].dims
            ax.set_xlabel(x, fontsize=8)
            ax.set_ylabel(y, fontsize=8)
            ax.set_title(f"{name}, {window}\ndimension {decimal(m['dimension'])}, {m['verdict']}", fontsize=9)
    return figure


def draw_scaling(found: dict):
    """Pixels that refinement trains against resolution, with their exponents."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained", sharey=True)
    for ax, window in zip(axes, ("full", "zoom"), strict=True):
        for name, condition in found.items():
            if window in condition:
                m = condition[window]
                label = f"{name}: {m['trained_growth']['exponent']:.2f}"
                ax.plot(m["scaling"]["pixels"], m["scaling"]["trained"], "o-", ms=4, label=label)
        pixels = np.array([64, 1024])
        ax.plot(pixels, pixels**2.0, "--", color="0.5", label="every pixel: 2")
        ax.set(xscale="log", yscale="log", xlabel="pixels along a side", title=f"{window} windows")
        ax.set_xticks([64, 128, 256, 512, 1024], labels=["64", "128", "256", "512", "1024"])
        ax.minorticks_off()
        ax.legend(title="exponent of trained pixels", fontsize=8, title_fontsize=8)
    axes[0].set_ylabel("pixels trained by refinement")
    return figure


def draw_paths(found: dict):
    """Dimension in windows around one place, from the full window to the zoom, by two estimators."""
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained", sharex=True, sharey=True)
    for ax, (name, condition) in zip(axes.flat, found.items(), strict=False):
        held = [m for m in along(condition) if m["dimension"] is not None]
        widths, low, high = np.array([(m["half_widths"][0], *m["interval"]) for m in held]).T
        ax.errorbar(
            widths, [m["dimension"] for m in held], [(high - low) / 2] * 2, fmt="o", ms=4, lw=0.8, label="ours, 95 %"
        )  # fmt: skip
        theirs = [(m["half_widths"][0], m["published_estimator"]) for m in held if m["published_estimator"]]
        ax.plot(*np.array(theirs).T, "x", color="#d7301f", ms=5, label="published estimator, same map")
        if m := condition.get("typical"):
            half = (m["interval"][1] - m["interval"][0]) / 2
            ax.errorbar(
                m["half_widths"][0] / 2, m["dimension"], half, fmt="s", mfc="white", color="black", ms=5, lw=0.8,
                label="a place drawn by chance",
            )  # fmt: skip
        ax.axhline(condition["published"], color="grey", ls="--", lw=1, label="published number")
        ax.set(xscale="log", title=name, ylim=(0.8, 2.2))
    axes[0, 0].invert_xaxis()
    axes[0, 0].legend(fontsize=7, loc="lower right")
    for ax in axes[-1]:
        ax.set_xlabel("half the width of the window, decades")
    for ax in axes[:, 0]:
        ax.set_ylabel("dimension")
    return figure
