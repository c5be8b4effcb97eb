"""Maps of small networks: our kernels beside JAX, torch, NumPy and the multiply-adds the machine can do.

    python benchmarks/mlp.py [--pixels 4096] [--repeats 3] [--only tanh,relu] [--page docs/speed.md]

One run, contestants interleaved, the best of the repeats each, on the full windows of the six published conditions.
Costs are of processor time, of all threads a contestant keeps busy, for a pixel-step; only what is said of two
threads is by the wall clock. Cycles are the machine's own: one 512-bit multiply-add takes half of one on a core that
does two a cycle, and their rate is measured beside every run. JAX (pip install '.[bench]') is left out where it is
not installed. Its three forms are our restatement of one training step: called step by step for all pixels at once,
step by step in the best of several batches, and a scan over all steps in the best batch.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

import pages
from trainability.conditions import CONDITIONS, Condition
from trainability.trainers._vector import emitter_and_indices, lanes

try:
    from jax_mlp import JaxMLP
except ImportError:
    JaxMLP = None

# Multiply-adds and multiplications of one pixel-step, 272 rows and width 16: two products of 69,632, the output
# layer with its slopes 26,400, and 15 for each of 4352 tanh.
BOUND = {"tanh": 231_000, "relu": 165_700}
CHEAP = ("identity", "one point")  # timed on sixteen times the pixels
BATCHES = (8, 16, 32, 64, 256, 1024)
STEPS = {"numpy": 10, "torch": 10, "step by step": 20, "scan": 60}  # enough to time; ours trains whole

OURS, EVERY, SINGLE = "ours", "ours, every step", "ours, single precision"
WALL, TWO = "ours, by the wall clock", "ours, two threads, by the wall clock"
GENERAL = "ours, every step, without the exact smaller form"
WHOLE, STEPWISE, SCAN = (
    "JAX, all pixels in one vmap",
    "JAX, released step, best batch",
    "JAX, scan, best batch",
)

# What is asked of each condition: a goal, and the costs whose ratio is held against it.
GOALS = {
    "tanh": [(5, SCAN, OURS), (15, WHOLE, OURS), (1.7, OURS, SINGLE), (1.8, WALL, TWO)],
    "relu": [(8, STEPWISE, OURS)],
    "identity": [(60, STEPWISE, OURS)],
    "one point": [(25, STEPWISE, OURS)],
    "mini-batch": [(5, STEPWISE, OURS)],
}
BOUND_GOAL = 0.85


class Contestant(NamedTuple):
    """A function that trains, and the pixel-steps that it stands for."""

    run: Callable[[], Any]
    pixel_steps: int


def multiply_adds(tile: bool):
    """Compiled rounds of sixteen independent multiply-adds; those of a tile load four rows and four columns each."""

    @intrinsic
    def rounds_of(typing, s, rounds):
        def generate(context, builder, signature, arguments):
            emit, (rounds,) = emitter_and_indices(context, builder, signature, arguments)
            whole = lambda value: ir.Constant(ir.IntType(64), value)  # noqa: E731
            places = [whole(k * emit.width) for k in range(16)]
            sums = emit.variables([emit.load(place) for place in places])
            factors = [emit.load(places[0])] * 8
            with cgutils.for_range(builder, rounds) as loop:
                if tile:  # another place each time, or the compiler would load them once
                    turn = builder.and_(loop.index, whole(3))
                    start = emit.at(whole(16 * emit.width), (turn, whole(8 * emit.width)))
                    factors = [emit.load(emit.at(start, (k, whole(emit.width)))) for k in range(8)]
                for k, slot in enumerate(sums):
                    emit.add_product(slot, factors[k % 4], factors[4 + k // 4])
            for place, slot in zip(places, sums, strict=True):
                emit.store(builder.load(slot), place)
            return context.get_dummy_value()

        return types.void(s, rounds), generate

    @njit
    def run(s, rounds):
        rounds_of(s, rounds)

    return run


FROM_REGISTERS, FROM_MEMORY = multiply_adds(tile=False), multiply_adds(tile=True)


def multiply_add_rate(run=FROM_REGISTERS) -> float:
    """Vector multiply-adds a second, the best of a few short bursts."""
    room, best, rounds = np.zeros(56 * lanes("float64")), 0.0, 20_000
    s = room[
        -room.ctypes.data % 64 // room.itemsize :
    ]  # a vector within a line of the cache, as in the kernels
    run(s, 1)  # compiles
    for _ in range(5):
        start = time.process_time()
        run(s, rounds)
        best = max(best, 16 * rounds / (time.process_time() - start))
    return best


def ours(condition: Condition, pixels: Mapping[str, np.ndarray], **options: Any) -> Contestant:
    trainer = replace(condition.trainer, **options)
    return Contestant(lambda: trainer(pixels), len(next(iter(pixels.values()))) * trainer.n_steps)


def contestants(condition: Condition, n: int) -> dict[str, Contestant]:
    more = 16 if condition.name in CHEAP else 1
    pixels = condition.full(round(np.sqrt(more * n)))[0].pixels()
    few, medium = (
        {name: values[:: max(len(values) // size, 1)][:size] for name, values in pixels.items()}
        for size in (64 * more, 1024)
    )
    entries = {
        OURS: ours(condition, pixels),
        EVERY: ours(condition, few, early_exit=False),
        SINGLE: ours(condition, pixels, dtype="float32"),
    }
    if condition.name == "tanh":
        entries |= {WALL: ours(condition, pixels), TWO: ours(condition, pixels, threads=2)}
    if condition.name in CHEAP:
        entries[GENERAL] = ours(condition, few, early_exit=False, reduce=False)
    for engine in ("numpy", "torch"):
        entries[engine] = ours(condition, few, engine=engine, n_steps=STEPS[engine], early_exit=False)
    if JaxMLP is not None:
        network, steps = JaxMLP(condition.trainer), STEPS["step by step"]
        entries[WHOLE] = network.contestant(pixels, size=more * n, scan=False, n_steps=steps)
        for size in BATCHES:
            entries[f"{STEPWISE} ({size})"] = network.contestant(medium, size=size, scan=False, n_steps=steps)
            entries[f"{SCAN} ({size})"] = network.contestant(
                medium, size=size, scan=True, n_steps=STEPS["scan"]
            )
    return {name: Contestant(*entry) for name, entry in entries.items()}


def cycles(condition: Condition, n: int, repeats: int) -> dict[str, float]:
    """Of a pixel-step of each contestant: seconds times half the rate of multiply-adds around them, the best."""
    entries = contestants(condition, n)
    best = dict.fromkeys(entries, np.inf)
    for entry in entries.values():
        entry.run()  # compiles
    for _ in range(repeats):
        for name, (run, pixel_steps) in entries.items():
            clock = time.perf_counter if "wall" in name else time.process_time
            before, start = multiply_add_rate(), clock()
            run()
            seconds = clock() - start
            rate = max(before, multiply_add_rate())
            best[name] = min(best[name], seconds * rate / 2 / pixel_steps)
    for form in (STEPWISE, SCAN):
        tried = {name: best.pop(name) for name in list(best) if name.startswith(form)}
        if tried:
            best[form] = min(tried.values())
    return best


def costs_table(found: Mapping[str, Mapping[str, float]]) -> str:
    """Cycles of a pixel-step, and how many times ours that is."""
    names = dict.fromkeys(name for costs in found.values() for name in costs)
    rows = [
        [name, *(f"{c[name]:,.0f} ({c[name] / c[OURS]:.2f})" if name in c else "" for c in found.values())]
        for name in names
    ]
    return pages.table(["cycles (times ours)", *found], rows)


def goals_table(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = []
    for condition, costs in found.items():
        for goal, above, below in GOALS.get(condition, []):
            if above in costs:
                rows.append(
                    [condition, f"{above} / {below}", f"{goal} ×", f"{costs[above] / costs[below]:.2f} ×"]
                )
        if condition in BOUND:
            bound = BOUND[condition] / lanes("float64") / 2
            goal = f"{BOUND_GOAL:.0%}" if condition == "tanh" else ""
            rows.append(
                [
                    condition,
                    f"multiply-adds alone ({bound:,.0f} cycles) / {EVERY}",
                    goal,
                    f"{bound / costs[EVERY]:.0%}",
                ]
            )
    return pages.table(["condition", "ratio", "goal", "measured"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pixels", type=int, default=4096, help="of the full window; 16 times as many where cheap"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(CONDITIONS))
    parser.add_argument("--page", type=Path, help="page of the documentation to write the tables into")
    options = parser.parse_args()
    torch.set_num_threads(1)
    fed = np.median([multiply_add_rate(FROM_MEMORY) / multiply_add_rate() for _ in range(9)])
    found = {}
    for name in options.only.split(","):
        found[name] = cycles(CONDITIONS[name], options.pixels, options.repeats)
        print(f"\n{costs_table({name: found[name]})}", flush=True)
    text = f"{goals_table(found)}\n\n{costs_table(found)}\n\n"
    text += (
        f"Multiply-adds of a tile of 4 × 4 vectors fed from the cache: {fed:.0%} of the rate from registers."
    )
    print(f"\n{text}")
    if options.page:
        pages.fill(options.page, "mlp", text, script="mlp.py")


if __name__ == "__main__":
    main()
