"""Training of transformers: this package beside a plain torch loop, torch.func, JAX and the machine's products.

    python benchmarks/transformer.py [--only d16,paper] [--repeats 3] [--seconds 1] [--page docs/speed.md]

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
from trainability.trainers._vector import lanes

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import pages
import plain_transformer
from mlp import multiply_add_rate

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
LOOP, OURS, PRODUCT = "torch, plain loop", "ours", "product"

# Least times the plain loop, and least share of the rate of products.
GOALS = {"d16": (4.5, 0.40), "d32": (1.8, None), "paper": (None, 0.55)}


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
    """Kind of contestant -> its steps, with each number of members."""
    trainer, members = trainer_of(size), SIZES[size][-1]
    torch_trainer = trainer_of(size, engine="torch")
    found = {
        PRODUCT: [product_steps()],
        LOOP: [plain_loop(trainer)],
        OURS: [our_steps(trainer, k) for k in members],
        "our torch engine": [our_steps(torch_trainer, k) for k in members],
        "torch.func": [vmap_steps(trainer, k) for k in members],
    }
    if jax:
        found["JAX"] = [jax_steps(trainer, k) for k in sorted({1, *members})]
    return trainer, found


def rates(size, repeats, seconds):
    """Pixel-steps a second of each kind, at its best number of members; of the product, steps of its operations."""
    trainer, contestants = contestants_of(size)
    first = {name: [next(steps)[1] for steps in kind] for name, kind in contestants.items()}  # compiles, too
    known = [loss for kind in first.values() for loss in kind if loss is not None]
    assert np.ptp(known) < 1e-4, first
    best = dict.fromkeys(contestants, 0.0)
    for _ in range(repeats):
        for name, kind in contestants.items():
            best[name] = max(best[name], *(rate(steps, seconds) for steps in kind))
    return best | {PRODUCT: best[PRODUCT] / operations(trainer)}


def rates_table(found):
    names = dict.fromkeys(name for best in found.values() for name in best if name != PRODUCT)
    rows = [
        [
            name,
            *(
                f"{best[name]:,.0f} ({best[name] / best[LOOP]:.1f} ×, {best[name] / best[PRODUCT]:.0%})"
                for best in found.values()
            ),
        ]
        for name in names
    ]
    return pages.table(["steps a second (times the loop, share of products)", *found], rows)


def goals_table(found):
    rows = []
    for size, best in found.items():
        times, share = GOALS.get(size, (None, None))
        others = max(value for name, value in best.items() if name not in (PRODUCT, OURS))
        rows.append([size, "ours / best of the others", "1 ×", f"{best[OURS] / others:.1f} ×"])
        if times:
            rows.append([size, f"ours / {LOOP}", f"{times} ×", f"{best[OURS] / best[LOOP]:.1f} ×"])
        if share:
            rows.append([size, "share of products", f"{share:.0%}", f"{best[OURS] / best[PRODUCT]:.0%}"])
    return pages.table(["size", "ratio", "goal", "measured"], rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(SIZES))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--page", type=Path, help="page of the documentation to write the tables into")
    options = parser.parse_args()
    found = {}
    with one_thread():
        for size in options.only.split(","):
            found[size] = rates(size, options.repeats, options.seconds)
            print(f"\n{rates_table({size: found[size]})}", flush=True)
        product = max(rate(product_steps(), options.seconds) for _ in range(options.repeats))
    peak = multiply_add_rate() * 2 * lanes("float32")
    text = f"{goals_table(found)}\n\n{rates_table(found)}\n\n"
    text += f"The product itself runs at {product / peak:.0%} of the core's multiply-adds."
    print(f"\n{text}")
    if options.page:
        pages.fill(options.page, "transformer", text, script="transformer.py")


if __name__ == "__main__":
    main()
