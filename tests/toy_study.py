"""A study of seconds, importable by child processes: two maps of the toy trainer, and one claim."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from trainability import Claim, Grid, Study, linear_axis, plot_studies, studies, trainability_map, validation
from trainability.plot_studies import Picture

sys.path.insert(0, str(Path(__file__).parent))
from toy_trainer import ToyTrainer

SECONDS = 0.05


def toy_study(*, size="quick", stores=None, workers=1, progress=False):
    """Leaves a file in the folder `calls` for every call of the trainer, and one for every whole run."""
    calls = Path(stores).parents[2] / "calls"
    calls.mkdir(exist_ok=True)
    grid = Grid(lr=linear_axis(0.1, 3.9, 12), curvature=linear_axis(0.5, 1.5, 8))
    runs = {
        name: trainability_map(
            grid,
            ToyTrainer(n_steps=n, seconds=SECONDS, folder=str(calls)),
            store=Path(stores) / f"{name}.zarr",
            tile=(4, 4),
            workers=workers,
            progress=progress,
        ).assign_attrs(title=name)
        for name, n in (("short", 20), ("long", 200))
    }
    (calls.parent / f"ran-{len(list(calls.parent.glob('ran-*')))}").touch()
    found = Claim(
        name="toy",
        paper="arXiv:2402.06184",
        text="Steps <above> 2/h diverge | always.",
        measured="2.0",
        interval=(1.9, 2.1),
        verdict="supported",
        command="trainability validate --study toy",
    )
    diverged = [int((r["status"] == 2).sum()) for r in runs.values()]
    table = pd.DataFrame({"steps": [20, 200], "diverged": diverged, "share": [0.25, 1 / 3]})
    return Study(
        name="toy",
        title="A toy",
        question="Does it diverge?",
        answer=f"**Yes**, at {diverged[0]} pixels.",
        runs=runs,
        tables={"Counts": table},
        claims=(found,),
        settings={"size": size, "axes": ["lr", "curvature"]},
        notes="| a | b |\n|---|---|\n| 1 | <script>2</script> |",
    )


def _pictures(study):
    figure, ax = plt.subplots(figsize=(2, 2))
    ax.imshow(study.runs["short"]["status"])
    return [Picture("map", "The toy's map.", figure)]


def register(patch=None):
    """Make it the only study there is."""
    names = {"toy": toy_study}
    (patch.setattr if patch else setattr)(validation, "STUDIES", names)
    (patch.setattr if patch else setattr)(studies, "STUDIES", names)
    (
        patch.setitem(plot_studies.DRAWINGS, "toy", _pictures)
        if patch
        else plot_studies.DRAWINGS.update(toy=_pictures)
    )


if __name__ == "__main__":
    register()
    validation.validate(studies=["toy"], out=sys.argv[1])
