"""Measure every estimator of dimension on sets of known dimension, and write the table that the package ships.

python benchmarks/calibrate_dimension.py                       the full table: ten minutes on two cores
python benchmarks/calibrate_dimension.py --sizes 257 --draws 5 --out table.csv

What is measured is kept beside the table until it is written whole: a run that was stopped goes on where it was.
"""

import argparse
import csv
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from trainability.boundaries import boundary
from trainability.box_counting import box_counts
from trainability.known_sets import KNOWN_SETS, KnownSet
from trainability.published import PUBLISHED, published_dimension
from trainability.verdict import fractal_dimension

OUT = Path(__file__).parents[1] / "src/trainability/data/dimension_calibration.csv"
VERDICTS = ("fractal", "smooth", "noise", "unresolved")
COLUMNS = ("estimator", "set", "kind", "dimension", "pixels", "draws", "mean", "spread", "bias", "coverage",
           "half_width", *VERDICTS)  # fmt: skip


def box_fit(labels: np.ndarray) -> float:
    """Slope of shifted box counts over sizes from 4 cells to a sixteenth of the side."""
    cells = boundary(labels)
    sizes = 2 ** np.arange(2, int(np.log2(min(cells.shape) // 16)) + 1)
    counts = box_counts(cells, sizes)
    return float(-np.polyfit(np.log(sizes), np.log(counts), 1)[0]) if (counts > 0).all() else np.nan


def measure(job: tuple[int, int, int]) -> dict:
    """Everything about one draw."""
    which, pixels, seed = job
    labels = KNOWN_SETS[which].draw(pixels, seed)
    found = fractal_dimension(labels)
    values = {"fractal_dimension": found.value, "box_counts": box_fit(labels)}
    values |= {name: published_dimension(labels, estimator=name) for name in PUBLISHED}
    return {"values": values, "interval": found.interval, "verdict": found.verdict}


def rows_of(known: KnownSet, pixels: int, draws: list[dict]) -> list[dict]:
    """One row for each estimator on one set at one size."""
    low, high = np.array([draw["interval"] for draw in draws]).T
    verdicts = Counter(draw["verdict"] for draw in draws)
    rows = []
    for name in draws[0]["values"]:
        values = np.array([draw["values"][name] for draw in draws])
        row = {"estimator": name, "set": known.name, "kind": known.kind, "dimension": known.dimension,
               "pixels": pixels, "draws": len(draws), "mean": np.mean(values), "spread": np.std(values, ddof=1),
               "bias": np.mean(values) - known.dimension}  # fmt: skip
        if name == "fractal_dimension":
            if known.kind != "noise":
                row["coverage"] = np.mean((low <= known.dimension) & (known.dimension <= high))
                row["half_width"] = np.mean(high - low) / 2
            row |= {verdict: verdicts[verdict] / len(draws) for verdict in VERDICTS}
        rows.append({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
    return rows


def read_kept(file: Path) -> dict[tuple[int, int, int], dict]:
    """Draws of a run that was stopped, by (set, pixels, seed); a last line cut short is left out."""
    lines = file.read_text(encoding="utf8").splitlines(keepends=True) if file.exists() else []
    whole = [line for line in lines if line.endswith("\n")]
    file.write_text("".join(whole), encoding="utf8")
    return {tuple(job): draw for job, draw in map(json.loads, whole)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", default=[257, 513, 1025])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    kept = options.out.with_suffix(".partial.jsonl")
    measured = read_kept(kept)
    rows = []
    with ProcessPoolExecutor(options.workers) as pool, kept.open("a", encoding="utf8") as file:
        for pixels in options.sizes:
            for which, known in enumerate(KNOWN_SETS):
                jobs = [(which, pixels, seed) for seed in range(options.draws)]
                missing = [job for job in jobs if job not in measured]
                for job, draw in zip(missing, pool.map(measure, missing), strict=True):
                    measured[job] = draw
                    file.write(json.dumps([job, draw]) + "\n")
                file.flush()
                rows += rows_of(known, pixels, [measured[job] for job in jobs])
    with options.out.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    kept.unlink()


if __name__ == "__main__":
    main()
