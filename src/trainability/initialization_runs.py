"""Transformers trained over a design of initializations: plans, maps, losses, and the exponents of each network."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import xarray as xr

from .geometry import predict_exponents
from .grid import Grid
from .initialization import Initialization
from .initialization_sample import RANGES, InitializationSample
from .measure import measure_exponents
from .studies import store_of
from .sweep import trainability_map
from .trainers import Transformer
from .trainers._transformer_module import initial_blocks
from .trainers.tasks import Task, synthetic_text, text_task

# Fixed before the comparison. Of 0.003 and 0.01, the learning rate at which the best of 32 other random points
# came further in 40 steps (most of the others had learned nothing yet at either); their exponents were not looked
# at. The other two rates are a control.
LR, OTHER_LRS = 0.01, (0.003, 0.03)

TILE = 64  # initializations trained together, and lost when a run is killed


@dataclass(frozen=True)
class Plan:
    """Sizes of the study: how many points are trained, how deep, how wide and for how long."""

    points: int
    depths: tuple[int, ...]  # the last is the study's own, the others show how the agreement depends on depth
    d_model: int
    window: int
    n_steps: int
    replicates: int  # points trained again from other weights, to tell how much of the loss is luck
    measured: int  # points whose exponents are measured on their own weights


PLANS = {
    "quick": Plan(points=40, depths=(2, 4), d_model=16, window=8, n_steps=30, replicates=20, measured=4),
    "standard": Plan(
        points=320, depths=(4, 12), d_model=24, window=8, n_steps=150, replicates=64, measured=32
    ),
    "full": Plan(
        points=2048, depths=(4, 12, 24), d_model=128, window=64, n_steps=3000, replicates=512, measured=256
    ),
}


def shared_initialization(plan: Plan) -> Initialization:
    """What all points share: a causal decoder with the skip √(1 - alpha²) and tanh in its MLPs."""
    return Initialization(
        n_tokens=plan.window, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.0, causal=True
    )


@cache
def task_of(window: int) -> Task:
    """What all of them learn: a synthetic text."""
    return text_task(synthetic_text(), window=window)


def trainer_of(plan: Plan, depth: int, *, lr: float = LR, seed: int = 0) -> Transformer:
    """Trainer of networks of one depth; strengths and scales are those of a point."""
    return Transformer.geometry(
        shared_initialization(plan),
        task_of(plan.window),
        d_model=plan.d_model,
        n_layers=depth,
        n_steps=plan.n_steps,
        lr=lr,
        seed=seed,
    )


def sample_of(plan: Plan, depth: int, **options: Any) -> InitializationSample:
    """The design, as a trainer of its points."""
    return InitializationSample(trainer=trainer_of(plan, depth, **options), size=plan.points)


def _train(plan: Plan, sample: InitializationSample, name: str, points: int | None = None, **options: Any):
    """Train a sample's first points, in a store of its own."""
    grid = Grid(initialization=np.arange(points or plan.points, dtype=float))
    store = store_of(options.pop("stores"), name)
    return trainability_map(
        grid, sample, store=store, tile=(min(TILE, len(grid["initialization"])),), **options
    )


def train_all(plan: Plan, **options: Any) -> dict[str, xr.Dataset]:
    """Every map of the study: one for each depth, then the two controls at the study's own depth."""
    depth = plan.depths[-1]
    maps = {
        f"depth-{n}": _train(plan, sample_of(plan, n), f"depth-{n}", **options) for n in reversed(plan.depths)
    }
    maps["seed-1"] = _train(plan, sample_of(plan, depth, seed=1), "seed-1", plan.replicates, **options)
    for lr in OTHER_LRS:
        maps[f"lr-{lr}"] = _train(plan, sample_of(plan, depth, lr=lr), f"lr-{lr}", **options)
    return maps


def join_runs(plan: Plan, depth: int, observed: xr.Dataset) -> xr.Dataset:
    """Design, predicted exponents and trained losses of each point."""
    sample = sample_of(plan, depth)
    # Tokens enter with mean square 1; exponents are means over the blocks that the network has.
    predicted = [
        predict_exponents(init, depth=depth, q=1.0)
        for init in sample.initializations(shared_initialization(plan))
    ]
    found = {name: ("initialization", values) for name, values in sample.values.items()}
    found["angle"] = ("initialization", np.array([p.angle for p in predicted]))
    found["gradient"] = ("initialization", np.array([p.gradient for p in predicted]))
    title = f"{plan.points} initializations of {depth} blocks, predicted exponents and test loss"
    return observed.assign(found).assign_attrs(observed.attrs | {"title": title, "depth": depth})


def capped_losses(plan: Plan, observed: xr.Dataset) -> np.ndarray:
    """Test losses, capped at that of a guess, which is also what a diverged run gets."""
    guess = np.log(task_of(plan.window).n_outputs)
    return np.minimum(np.nan_to_num(observed["test_loss"].values, nan=np.inf), guess)


def measure_first(plan: Plan, main: xr.Dataset) -> xr.Dataset:
    """Exponents of the first points, measured on the weights that were trained, beside those predicted in `main`."""
    first = main.isel(initialization=slice(0, plan.measured))
    trainer = trainer_of(plan, plan.depths[-1])
    rows = []
    for i in range(plan.measured):
        pixel = {name: float(first[name][i]) for name in RANGES}
        blocks, stream = initial_blocks(trainer, pixel, n_windows=4)
        found = measure_exponents(blocks, stream, blocks=list(blocks))
        rows.append((found.angle, found.gradient, found.angle_stderr, found.gradient_stderr))
    names = ("angle", "gradient", "angle_stderr", "gradient_stderr")
    return xr.Dataset(
        {name: ("initialization", column) for name, column in zip(names, np.array(rows).T, strict=True)}
        | {f"predicted_{name}": ("initialization", first[name].values) for name in ("angle", "gradient")},
        attrs={"title": f"exponents of {plan.measured} networks as drawn, measured and predicted"},
    )
