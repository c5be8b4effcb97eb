"""What refinement trains and finds on boundaries of known dimension, beside the maps of small networks.

    python benchmarks/refine_known_sets.py [--pixels 1024] [--draws 3] [--page docs/measured-dimensions.md]

Replays refinement on pictures whose boundary has a known dimension, so that nothing is trained. With a page, writes
its table and draws docs/figures/refinement-cost.png, with the windows of as many pixels that
src/trainability/data/measured_dimensions.json holds.
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullFormatter, PercentFormatter

import pages
from condition_maps import WINDOWS, edge_cells, inferred_from, trace
from draw_conditions import percent
from trainability.known_sets import KNOWN_SETS, KnownSet

DATA = Path(__file__).parents[1] / "src/trainability/data/measured_dimensions.json"


class Replayed(NamedTuple):
    """Of one known set: its dimension, and over draws the mean share of pixels trained and the least recall."""

    dimension: float
    trained: float
    recall: float


def replay(sets: Iterable[KnownSet], pixels: int, draws: int) -> dict[str, Replayed]:
    """By the name of the set, the lowest dimension first."""
    found = {}
    for known in sets:
        shares, recalls = [], []
        for seed in range(draws):
            status = known.draw(pixels, seed).astype(np.int8) + 1
            traced = trace(status)
            true, traced_edges = edge_cells(status), edge_cells(inferred_from(status, traced))
            shares.append(traced.mean())
            recalls.append((true & traced_edges).sum() / true.sum())
        found[known.name] = Replayed(known.dimension, float(np.mean(shares)), float(np.min(recalls)))
    return dict(sorted(found.items(), key=lambda item: item[1].dimension))


def table(found: dict[str, Replayed]) -> str:
    rows = [[name, f"{r.dimension:.2f}", percent(r.trained), f"{r.recall:.1%}"] for name, r in found.items()]
    return pages.table(("boundary", "dimension", "trained", "recall of edges, least of the draws"), rows)


def draw(found: dict[str, Replayed], measured: dict, pixels: int):
    """Share of pixels trained against dimension."""
    figure, ax = plt.subplots(figsize=(7, 4.4), layout="constrained")
    dimension, trained, _ = zip(*found.values(), strict=True)
    ax.plot(dimension, trained, "o", color="0.5", label="known sets")
    for k, (name, condition) in enumerate(measured.items()):
        held = [condition[w] for w in WINDOWS if w in condition and condition[w]["pixels"] == pixels]
        held = [m for m in held if m["dimension"] is not None]
        if held:
            value, low, high = np.array([(m["dimension"], *m["interval"]) for m in held]).T
            ax.errorbar(
                value, [m["trained"] for m in held], xerr=[value - low, high - value],
                fmt="s", ms=4, lw=0.8, color=f"C{k}", label=name,
            )  # fmt: skip
    ax.axhline(1 / 3, color="0.7", ls="--", lw=1)
    ax.set(
        xlabel="dimension of the boundary", ylabel="share of pixels trained", yscale="log",
        title=f"Refinement of maps of {pixels}²",
    )  # fmt: skip
    ax.set_yticks([0.02, 0.05, 0.1, 0.2, 0.5, 1])
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.legend(fontsize=8, loc="upper left")
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--page", type=Path, help="page of the documentation to write the table into")
    options = parser.parse_args()
    sets = [known for known in KNOWN_SETS if not np.isnan(known.dimension)]
    found = replay(sets, options.pixels, options.draws)
    print(table(found))
    if options.page:
        pages.fill(options.page, "known", table(found), script="refine_known_sets.py")
        figure = draw(found, json.loads(DATA.read_text(encoding="utf8")), options.pixels)
        figure.savefig(options.page.parent / "figures/refinement-cost.png", dpi=130)


if __name__ == "__main__":
    main()
