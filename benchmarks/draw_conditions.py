"""The table and the figures of the six published conditions, from their measured numbers and maps."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

from trainability import infer_status
from trainability.pictures import plain_picture, published_picture

START, END = "<!-- table: made by benchmarks/measure_conditions.py -->", "<!-- end of table -->"

HEAD = (
    "condition, window", "pixels", "trained", "recall of edges", "dimension (95 %)", "verdict",
    "published estimator, same map", "growth of edges", "growth of trained pixels", "published",
)  # fmt: skip


def table(found: dict) -> str:
    """Markdown, one row for each map."""
    rows = [HEAD, ("---",) * len(HEAD)]
    for name, condition in found.items():
        for window in ("full", "zoom"):
            if window not in condition:
                continue
            m = condition[window]
            low, high = m["recall_interval"]
            recall = f"{m['recall']:.1%}" + ("" if m["dense"] else f" ({low:.1%} to {high:.1%})")
            rows.append(
                (
                    f"{name}, {window}",
                    f"{m['pixels']}²" + (", dense" if m["dense"] else ", refined"),
                    f"{m['trained']:.1%}",
                    recall,
                    f"{m['dimension']:.2f} ({m['interval'][0]:.2f} to {m['interval'][1]:.2f})",
                    m["verdict"],
                    f"{m['published_estimator']:.2f}",
                    "{exponent:.2f} ({least:.2f} to {most:.2f})".format(**m["edge_growth"]),
                    "{exponent:.2f} ({least:.2f} to {most:.2f})".format(**m["trained_growth"]),
                    f"{condition['published']:.2f}",
                )
            )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def write(found: dict, maps: dict[tuple[str, str], xr.Dataset], docs: Path) -> None:
    """Put the table into the page, and the figures beside it."""
    page = docs / "measured-dimensions.md"
    before, rest = page.read_text(encoding="utf8").split(START)
    after = rest.split(END)[1]
    page.write_text(f"{before}{START}\n\n{table(found)}\n\n{END}{after}", encoding="utf8")
    for figure, name in ((draw_maps(found, maps), "six-conditions"), (draw_scaling(found), "six-scalings")):
        figure.savefig(docs / f"figures/{name}.png", dpi=130)
        plt.close(figure)


def draw_maps(found: dict, maps: dict[tuple[str, str], xr.Dataset]):
    """Full windows above, zooms below: published colours where every pixel is trained, two colours elsewhere."""
    figure, axes = plt.subplots(
        2, len(found), figsize=(2.5 * len(found), 5.6), layout="constrained", squeeze=False
    )
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
    for column, name in enumerate(found):
        for row, window in enumerate(("full", "zoom")):
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
            ax.set_title(f"{name}, {window}\ndimension {m['dimension']:.2f}, {m['verdict']}", fontsize=9)
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
