"""Training of transformers: this package beside a plain torch loop, torch.func, JAX and the machine's products.

    python benchmarks/transformer.py [--only d16,paper] [--repeats 3] [--seconds 1]

One run, one thread, contestants interleaved, the best of the repeats each; all start from the same weights and
must find the same first loss. Rates are pixel-steps per second of processor time: forward, backward and Adam,
without compilation. Shares are of the rate of a large matrix product in single precision, measured beside the
rest; the operations counted are the multiplications and additions of the model's products, forward once and
backward twice, those of the attention only where a query sees a key.
"""

import argparse
import os
import sys
import time
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
os.environ["NPROC"] = "1"

import numpy as np
import torch

from trainability._threads import one_thread
from trainability.trainers import Transformer, text_task
from trainability.trainers._transformer_ensembles import ensembles
from trainability.trainers._transformer_model import losses

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import plain_transformer

try:
    import jax

    import jax_transformer
except ImportError:
    jax = None

# Width, window, batch size, and members of the ensembles that are tried.
SIZES = {
    "d16": (16, 16, 16, (8, 32)),
    "d32": (32, 32, 16, (1, 8)),
    "d64": (64, 64, 16, (1, 4)),
    "paper": (64, 64, 256, (1,)),
}


def trainer_of(size, **options):
    d_model, window, batch_size, _ = SIZES[size]
    task = text_task(window=window)
    return Transformer(d_model=d_model, task=task, batch_size=batch_size, lr=1e-3, n_steps=10**4, **options)


def operations(trainer):
    """Multiplications and additions of the products of one step."""
    m = trainer.architecture
    weights = sum(np.prod(p.shape) for p in m.parameters if len(p.shape) == 2 and p.kind != "embed")
    tokens = trainer.batch_size * m.window
    keys = (m.window + 1) / 2 if m.causal else m.window  # that a query sees, in the mean
    return 3 * tokens * (2 * weights + 4 * m.n_layers * keys * m.d_model)


def plain_loop(trainer):
    """Steps of one model by torch.nn and torch.optim, with scaled_dot_product_attention."""
    model = plain_transformer.PlainTransformer(trainer)
    plain_transformer.load(model, trainer.initial_weights({"seed": [0]})[0], trainer.architecture)
    optimizer = torch.optim.Adam(model.parameters(), lr=trainer.lr)
    for starts in trainer.batches(order_seed=0, batch_size=trainer.batch_size):
        inputs, targets = (torch.from_numpy(a) for a in trainer.task.windows(starts))
        loss = plain_transformer.task_loss(model(inputs, (1.0, 1.0)), targets, trainer.task)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield 1, float(loss.detach())


def ensemble(trainer, members):
    full = trainer._complete({"lr": np.full(members, trainer.lr)})
    return next(ensembles(trainer._run(), full, trainer._orders(full), members))[1]


def our_steps(trainer, members):
    made = ensemble(trainer, members).blocks()
    while True:
        with torch.no_grad():  # left before the others take their turn
            _, losses = next(made)
        yield losses.numel(), float(losses[0, 0])


def vmap_steps(trainer, members):
    """The same model and optimizer, one member at a time mapped over members by torch.func."""
    made = ensemble(trainer, members)
    model = trainer.architecture

    def loss(row, inputs, targets):
        strengths = (row.new_ones(1, 1, 1),) * 2
        return losses(model, model.views(row[None]), inputs[None], targets[None], made.scored, strengths)[0]

    step_of = torch.func.vmap(torch.func.grad_and_value(loss), in_dims=(0, None, None))
    W, memory = made.W, made.memory
    for t in range(trainer.n_steps):
        inputs, targets = made.batch(t)
        with torch.no_grad():
            gradient, value = step_of(W, inputs[0], targets[0])
            W, memory = made.optimizer.step(t + 1, W, gradient, memory)
        yield members, float(value[0])


def jax_steps(trainer, members):
    """One model, or with several members the same mapped over them; compiled once."""
    model, mapped = trainer.architecture, members > 1
    step = jax_transformer.make_step(model, mapped=mapped)
    rows = trainer.initial_weights({"seed": np.zeros(members)}).astype(np.float32)
    lr = np.full(members, trainer.lr, np.float32)
    if not mapped:
        rows, lr = rows[0], lr[0]
    state = tuple(jax.numpy.asarray(x) for x in (rows, 0 * rows, 0 * rows))
    for t, starts in enumerate(trainer.batches(order_seed=0, batch_size=trainer.batch_size)):
        inputs, targets = (a.astype(np.int32) for a in trainer.task.windows(starts))
        *state, value = step(*state, np.float32(t + 1), lr, inputs, targets)
        yield members, float(np.ravel(value)[0])


def product_steps():
    a, b = torch.randn(2, 1024, 1024)
    while True:
        torch.mm(a, b)
        yield 2 * 1024**3, None


def rate(steps, seconds):
    """What `steps` yields, per second of processor time."""
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        done += next(steps)[0]
    return done / spent


def contestants_of(size):
    trainer, members = trainer_of(size), SIZES[size][-1]
    found = {"product": product_steps(), "plain loop": plain_loop(trainer)}
    for k in members:
        found[f"ours, {k} members"] = our_steps(trainer, k)
        found[f"our torch engine, {k} members"] = our_steps(trainer_of(size, engine="torch"), k)
        found[f"torch.func, {k} members"] = vmap_steps(trainer, k)
    if jax:
        found |= {f"JAX, {k} members": jax_steps(trainer, k) for k in sorted({1, *members})}
    return trainer, found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    args = parser.parse_args()
    with one_thread():
        for size in args.only.split(","):
            trainer, contestants = contestants_of(size)
            first = {name: next(steps)[1] for name, steps in contestants.items()}  # compiles, too
            known = [loss for loss in first.values() if loss is not None]
            assert np.ptp(known) < 1e-4, first
            best = dict.fromkeys(contestants, 0.0)
            for _ in range(args.repeats):
                for name, steps in contestants.items():
                    best[name] = max(best[name], rate(steps, args.seconds))
            peak = best.pop("product")
            print(f"{size}: {trainer.n_parameters} parameters, product {peak / 1e9:.0f} GFLOP/s")
            for name, found in best.items():
                share = found * operations(trainer) / peak
                times = found / best["plain loop"]
                print(f"  {name:28s} {found:8.1f} steps/s  x {times:.2f}  {share:.0%} of peak", flush=True)


if __name__ == "__main__":
    main()
