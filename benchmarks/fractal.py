"""Box counting of the boundary of a 4096² map, beside porespy's on the same cells in the same run.

    python benchmarks/fractal.py [--page docs/speed.md]

porespy is left out where it is not installed (pip install porespy). Seconds by the clock and, in brackets, of all
cores together: the best of three runs, contestants one after the other.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import pages
from trainability.boundaries import boundary
from trainability.box_counting import box_counts
from trainability.known_sets import iid_noise, koch_snowflake, weierstrass_graph

SIDE, REPEATS = 4097, 3


def best(function) -> str:
    """Shortest of a few runs, in seconds by the clock and, on a busy machine of more use, of all cores together."""
    walls, cores = [], []
    for _ in range(REPEATS):
        start = time.perf_counter(), time.process_time()
        function()
        walls.append(time.perf_counter() - start[0])
        cores.append(time.process_time() - start[1])
    return f"{min(walls):.2f} ({min(cores):.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--page", type=Path, help="page of the documentation to write the table into")
    options = parser.parse_args()
    try:
        from porespy.metrics import boxcount
    except ImportError:
        boxcount = None
    pictures = {
        "Koch snowflake": koch_snowflake(SIDE, 0),
        "Weierstrass graph, 1.8": weierstrass_graph(SIDE, 0, dimension=1.8),
        "independent noise": iid_noise(SIDE, 0),
    }
    dyadic = 2 ** np.arange(10)
    ten = np.unique(np.logspace(1, np.log10(SIDE - 1), 10).astype(int))  # porespy's sizes
    box_counts(np.ones((8, 8), bool), [1, 2])  # compile
    boundary(np.eye(8))
    head = ("seconds (of all cores)", "edge cells", "boundary", "64 grids", "1 grid", "1 grid, porespy")
    rows = []
    for name, labels in pictures.items():
        cells = boundary(labels)
        rows.append(
            [
                name,
                f"{cells.sum():,}",
                best(lambda labels=labels: boundary(labels)),
                best(lambda cells=cells: box_counts(cells, dyadic)),
                best(lambda cells=cells: box_counts(cells, ten, placements=1)),
                "not installed" if boxcount is None else best(lambda cells=cells: boxcount(cells, bins=ten)),
            ]
        )
    text = pages.table(head, rows)
    print(text)
    if options.page:
        pages.fill(options.page, "fractal", text, script="fractal.py")


if __name__ == "__main__":
    main()
