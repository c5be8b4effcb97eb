"""The tables and the figures of the six published conditions, from their measured numbers and maps."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import pages
from condition_maps import WINDOWS
from trainability import infer_status
from trainability.pictures import plain_picture, published_picture

# Windows that were not chosen for their dimension: those in the picture of all maps.
PICTURED = ("full", "zoom", "typical")

# Windows whose dimensions are next to the published one.
CHOSEN = ("below", "above")


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


def recall(numbers: dict) -> str:
    """Exact where every pixel was trained, with an interval where blocks were."""
    low, high = numbers["recall_interval"]
    return f"{numbers['recall']:.1%}" + ("" if numbers["dense"] else f" ({low:.1%} to {high:.1%})")


def refinement(found: dict) -> str:
    """What refinement trains and finds."""
    rows = [
        ("condition, window", "trained", "recall of edges", "growth of edges", "growth of trained pixels"),
    ]
    for name, window, m in windows(found):
        rows.append(
            (
                f"{name}, {window}",
                f"{m['trained']:.1%}",
                recall(m),
                "{exponent:.2f} ({least:.2f} to {most:.2f})".format(**m["edge_growth"]),
                "{exponent:.2f} ({least:.2f} to {most:.2f})".format(**m["trained_growth"]),
            )
        )
    return pages.table(rows[0], rows[1:])


def places(found: dict) -> str:
    """How rough the boundary is along its course, and refinement at the places next to the published number."""
    head = (
        "condition", "published", "places", "their dimension: 5, 50, 95 %", "next place", "pixels", "its dimension",
        "trained", "recall of edges",
    )  # fmt: skip
    rows = []
    for name, condition in found.items():
        values = [d for d in condition["places"]["dimension"] if d is not None]
        begin = [
            name,
            f"{condition['published']:.2f}",
            str(len(values)),
            ", ".join(f"{q:.2f}" for q in np.quantile(values, (0.05, 0.5, 0.95))),
        ]
        for window in CHOSEN:
            if m := condition.get(window):
                rows.append(
                    [
                        *begin,
                        window,
                        f"{m['pixels']}²",
                        with_interval(m["dimension"], m["interval"]),
                        f"{m['trained']:.1%}",
                        recall(m),
                    ]
                )
                begin = [""] * len(begin)
        if any(begin):
            rows.append(begin + [""] * (len(head) - len(begin)))
    return pages.table(head, rows)


def reasons(found: dict) -> str:
    """Where each condition differs from the published number, and the size of each reason."""
    head = (
        "condition", "published", "outside our interval", "region: local dimension over the full window, 5, 50, 95 %",
        "published procedure, our place (95 %)", "estimator: theirs less ours, same map",
        "resolution: growth of edges, first and last octave of the zoom",
    )  # fmt: skip
    rows = [head]
    for name, condition in found.items():
        mine = [(window, condition[window]) for window in PICTURED if window in condition]
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


TABLES = {"dimensions": dimensions, "refinement": refinement, "places": places, "reasons": reasons}


def write(found: dict, maps: dict[tuple[str, str], xr.Dataset], docs: Path) -> None:
    """Put the tables into the page, and beside it the figures whose maps are all there."""
    page = docs / "measured-dimensions.md"
    for name, make in TABLES.items():
        pages.fill(page, name, make(found), script="measure_conditions.py")
    drawn = {"six-scalings": draw_scaling(found), "six-paths": draw_paths(found)}
    measured = {(name, window) for name, window, _ in windows(found)}
    for name, draw, shown in (
        ("six-conditions", draw_maps, PICTURED),
        ("six-places", draw_places, CHOSEN),
    ):
        missing = sorted({key for key in measured if key[1] in shown} - set(maps))
        if missing:
            print(f"left {name}.png as it is: no maps of {missing}")
        else:
            drawn[name] = draw(found, maps)
    for name, figure in drawn.items():
        figure.savefig(docs / f"figures/{name}.png", dpi=130)
        plt.close(figure)


def draw_maps(found: dict, maps: dict[tuple[str, str], xr.Dataset]):
    """A row for each window: published colours where every pixel is trained, two colours elsewhere."""
    figure, axes = plt.subplots(
        len(PICTURED), len(found), figsize=(2.5 * len(found), 2.8 * len(PICTURED)), layout="constrained"
    )  # fmt: skip
    for column, name in enumerate(found):
        for row, window in enumerate(PICTURED):
            draw_map(axes[row, column], maps[name, window], found[name][window], f"{name}, {window}")
    return figure


def draw_map(ax, runs: xr.Dataset, numbers: dict, title: str) -> None:
    if numbers["dense"]:
        ax.imshow(published_picture(runs), interpolation="nearest")
    else:
        ax.imshow(plain_picture(runs.assign(status=infer_status(runs))), interpolation="nearest")
    x, y = runs["status"].dims
    ax.set_xlabel(x, fontsize=8)
    ax.set_ylabel(y, fontsize=8)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(f"{title}\ndimension {decimal(numbers['dimension'])}, {numbers['verdict']}", fontsize=9)


def draw_places(found: dict, maps: dict[tuple[str, str], xr.Dataset]):
    """Dimensions of the places along each boundary, least first, and maps of those next to the published one."""
    figure, axes = plt.subplots(
        3, len(found), figsize=(2.5 * len(found), 8.5), layout="constrained", height_ratios=(1.1, 1, 1)
    )  # fmt: skip
    for ax, (name, condition) in zip(axes.T, found.items(), strict=True):
        places = condition["places"]
        known = sorted(
            (d, *interval)
            for d, interval in zip(places["dimension"], places["interval"], strict=True)
            if d is not None
        )
        value, low, high = np.array(known).T
        rank = (np.arange(len(value)) + 0.5) / len(value)
        ax[0].errorbar(value, rank, xerr=[value - low, high - value], fmt="o", ms=3, lw=0.7)
        ax[0].axvline(condition["published"], color="grey", ls="--", lw=1, label="published number")
        ax[0].set(title=name, xlim=(0.7, 2.3), ylim=(0, 1), xlabel="dimension at 64²")
        for below, window in zip(ax[1:], CHOSEN, strict=True):
            if window in condition:
                draw_map(below, maps[name, window], condition[window], window)
            else:
                below.set_axis_off()
    axes[0, 0].set_ylabel("share of places below")
    axes[0, 0].legend(fontsize=7, loc="lower right")
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
