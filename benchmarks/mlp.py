"""Maps of small networks: our kernels beside JAX, torch, NumPy and the multiply-adds the machine can do.

    python benchmarks/mlp.py [--pixels 256] [--repeats 5] [--only tanh,relu] [--threads 2]

One run, contestants interleaved, the best of the repeats each. Times are processor time, of all threads a
contestant keeps busy, for a pixel-step of the full window of learning rates, 10^-3 to 10^6 squared; only what is
said of threads is by the wall clock. Cycles are the machine's own: one
512-bit multiply-add takes half of one on a core that does two a cycle, and their rate is measured beside the rest.
JAX (pip install jax) is left out where it is not installed. Its three forms are our restatement of one training
step: called step by step for all pixels at once, step by step in the best of several batches, and a scan over all
steps in the best batch.
"""

import argparse
import time

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from trainability import Grid, linear_axis, log_axis
from trainability.trainers import MLP
from trainability.trainers._vector import emitter_and_indices, lanes

try:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
except ImportError:
    jax = None

# Multiply-adds and multiplications of one pixel-step, 272 rows and width 16: two products of 69,632, the output
# layer with its slopes 26,400, and 15 for each of 4352 tanh.
BOUND = {"tanh": 231_000, "relu": 165_700, "identity": 165_700}

CONDITIONS = {
    "tanh": {},
    "relu": {"activation": "relu"},
    "identity": {"activation": "identity"},
    "one row": {"n_data": 1},
    "mini-batch": {"batch_size": 16},
    "offset": {"offset_mode": "per_step"},
}
CHEAP = ("identity", "one row")  # timed on sixteen times the pixels
BATCHES = (8, 16, 32, 64, 256, 1024)
STEPS = {"ours": 500, "numpy": 10, "torch": 10}  # enough to time; ours trains whole, for the early exit


@intrinsic
def multiply_adds(typing, s, rounds):
    """Sixteen independent multiply-adds a round, in registers."""

    def generate(context, builder, signature, arguments):
        emit, (rounds,) = emitter_and_indices(context, builder, signature, arguments)
        places = [ir.Constant(ir.IntType(64), k * emit.width) for k in range(16)]
        sums = emit.variables([emit.load(place) for place in places])
        factor = emit.load(places[0])
        with cgutils.for_range(builder, rounds):
            for slot in sums:
                emit.add_product(slot, factor, factor)
        for place, slot in zip(places, sums, strict=True):
            emit.store(builder.load(slot), place)
        return context.get_dummy_value()

    return types.void(s, rounds), generate


@njit
def _multiply_adds(s, rounds):
    multiply_adds(s, rounds)


def multiply_add_rate():
    """Vector multiply-adds a second, the best of a few short bursts."""
    s, best, rounds = np.zeros(16 * lanes("float64")), 0.0, 20_000
    for _ in range(5):
        start = time.process_time()
        _multiply_adds(s, rounds)
        best = max(best, 16 * rounds / (time.process_time() - start))
    return best


def pixels_of(condition, n):
    side = round(np.sqrt(n))
    rates = log_axis(1e-3, 1e6, side)
    if condition == "offset":
        return Grid(offset=linear_axis(-3, 3, side), lr=rates).pixels()
    return Grid(lr_in=rates, lr_out=rates).pixels()


def ours(pixels, condition, **options):
    trainer = MLP(**CONDITIONS[condition], **options)
    return lambda: trainer(pixels), len(next(iter(pixels.values()))) * trainer.n_steps


class Jax:
    """One training step for many pixels, in JAX's own way: grad of the loss, vmap over pixels."""

    def __init__(self, condition):
        trainer = MLP(**CONDITIONS[condition])
        drawn = trainer.draw(0, trainer.batch_size)
        x, y, self.weights = jnp.array(drawn.x), jnp.array(drawn.y), [jnp.array(w) for w in drawn.weights]
        width, size = len(self.weights[1]), drawn.batches.shape[1]
        phi = {
            "tanh": lambda z: jnp.tanh(jnp.sqrt(2.0) * z),
            "relu": lambda z: jnp.sqrt(2.0) * jax.nn.relu(z),
            "identity": lambda z: z,
        }[trainer.activation]
        drift = 1.0 if condition == "offset" else 0.0

        def loss(weights, rows):
            h = (
                phi(x[rows] @ weights[0] / jnp.sqrt(x.shape[1]))
                if size
                else phi(x @ weights[0] / jnp.sqrt(x.shape[1]))
            )
            target = y[rows] if size else y
            return jnp.mean((h @ weights[1][:, 0] / width - target) ** 2)

        def full_loss(weights):
            h = phi(x @ weights[0] / jnp.sqrt(x.shape[1]))
            return jnp.mean((h @ weights[1][:, 0] / width - y) ** 2)

        def step(weights, rates, rows):
            weights = [weights[0] + drift * rates[2], weights[1]]
            if size:
                value, gradients = full_loss(weights), jax.grad(loss)(weights, rows)
            else:
                value, gradients = jax.value_and_grad(loss)(weights, rows)
            return [w - r * g for w, r, g in zip(weights, rates, gradients, strict=False)], value

        self.batches = jnp.array(drawn.batches) if size else jnp.zeros((trainer.n_steps, 1), int)
        self.step = jax.jit(jax.vmap(step, in_axes=(0, 0, None)))
        self.scan = jax.jit(
            jax.vmap(
                lambda weights, rates, batches: jax.lax.scan(
                    lambda w, rows: step(w, rates, rows), weights, batches
                )[1],
                in_axes=(0, 0, None),
            )
        )

    def _start(self, pixels, i, size):
        get = lambda name: np.asarray(pixels.get(name, pixels.get("lr", 0.0)))[i : i + size]  # noqa: E731
        offset = np.asarray(pixels.get("offset", np.zeros(10**6)))[i : i + size]
        rates = jnp.stack([get("lr_in"), get("lr_out"), offset], axis=1)
        return [jnp.repeat(w[None], len(rates), axis=0) for w in self.weights], rates

    def contestant(self, pixels, *, size, scan, n_steps):
        n = len(next(iter(pixels.values())))

        def run():
            for i in range(0, n, size):
                weights, rates = self._start(pixels, i, size)
                if scan:
                    jax.block_until_ready(self.scan(weights, rates, self.batches[:n_steps]))
                    continue
                for k in range(n_steps):
                    weights, value = self.step(weights, rates, self.batches[k])
                jax.block_until_ready(value)

        return run, n * n_steps


def contestants(condition, n, threads):
    """Name -> (function that trains, pixel-steps that it stands for)."""
    more, steps = (16, 500) if condition in CHEAP else (1, 60)
    pixels = pixels_of(condition, more * n)
    size = 64 * more
    few = {name: values[:: max(len(values) // size, 1)][:size] for name, values in pixels.items()}
    entries = {
        "ours": ours(pixels, condition),
        "ours, every step": ours(few, condition, early_exit=False, n_steps=steps),
        "ours, single precision": ours(pixels, condition, dtype="float32"),
    }
    if threads > 1:
        entries["ours, wall clock"] = ours(pixels, condition)
        entries[f"ours, wall clock, {threads} threads"] = ours(pixels, condition, threads=threads)
    if condition in CHEAP:
        entries["ours, general kernel, every step"] = ours(
            few, condition, reduce=False, early_exit=False, n_steps=steps
        )
    for engine in ("numpy", "torch"):
        entries[engine] = ours(few, condition, engine=engine, n_steps=STEPS[engine], early_exit=False)
    if jax is not None:
        network, n_pixels = Jax(condition), len(pixels["lr" if condition == "offset" else "lr_in"])
        entries["jax, all pixels, step by step"] = network.contestant(
            pixels, size=n_pixels, scan=False, n_steps=20
        )
        for size in BATCHES:
            if size <= len(few[next(iter(few))]):
                entries[f"jax, step by step, {size}"] = network.contestant(
                    few, size=size, scan=False, n_steps=20
                )
                entries[f"jax, scan, {size}"] = network.contestant(few, size=size, scan=True, n_steps=60)
    return entries


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(CONDITIONS))
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    _multiply_adds(np.zeros(16 * lanes("float64")), 1)
    for condition in options.only.split(","):
        entries = contestants(condition, options.pixels, options.threads)
        best, rate = dict.fromkeys(entries, np.inf), 0.0
        for run, _ in entries.values():
            run()  # compiles
        for _ in range(options.repeats):
            for name, (run, pixel_steps) in entries.items():
                rate = max(rate, multiply_add_rate())
                clock = time.perf_counter if "wall" in name else time.process_time
                start = clock()
                run()
                best[name] = min(best[name], (clock() - start) / pixel_steps)
        report(condition, best, rate)


def report(condition, best, rate):
    for form in ("jax, step by step", "jax, scan"):
        tried = {name: best.pop(name) for name in list(best) if name.startswith(form + ", ")}
        if tried:
            winner = min(tried, key=tried.get)
            best[f"{form}, best batch ({winner.split(', ')[-1]})"] = tried[winner]
    print(f"\n{condition}: {rate / 1e9:.2f} G vector multiply-adds a second", flush=True)
    print(f"{'':46s}{'cycles/px-step':>15s}{'px/s at 500':>13s}{'times ours':>12s}")
    for name, seconds in best.items():
        print(
            f"{name:46s}{seconds * rate / 2:15,.0f}{1 / (500 * seconds):13,.0f}{seconds / best['ours']:12.2f}"
        )
    activation = CONDITIONS[condition].get("activation", "tanh")
    if condition in ("tanh", "relu"):
        bound = BOUND[activation] / lanes("float64") / 2
        share = bound / (best["ours, every step"] * rate / 2)
        print(f"{'bound of the multiply-adds':46s}{bound:15,.0f}{'':13s}{share:11.0%} of it reached")


if __name__ == "__main__":
    main()
