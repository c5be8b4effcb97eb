"""Training of transformers: our ensembles beside a plain torch loop, torch.func and the machine's matrix products.

    python benchmarks/transformer.py [--only d16,d32] [--repeats 3] [--seconds 1]

One run, one thread, contestants interleaved, the best of the repeats each. Rates are pixel-steps per second of
processor time, forward, backward and Adam included. Shares are of the rate of a large matrix product in single
precision, measured beside the rest; the operations counted are the multiplications and additions of the model's
products, forward once and backward twice.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from trainability._threads import one_thread
from trainability.trainers import Transformer, text_task
from trainability.trainers._transformer_model import losses
from trainability.trainers._transformer_torch import Ensemble

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import plain_transformer

# Width, window, batch size, and members of the ensembles that are tried.
SIZES = {"d16": (16, 16, 16, (8, 32)), "d32": (32, 32, 16, (4, 8)), "d64": (64, 64, 16, (1, 4))}


def trainer_of(size):
    d_model, window, batch_size, _ = SIZES[size]
    return Transformer(
        d_model=d_model, task=text_task(window=window), batch_size=batch_size, lr=1e-3, n_steps=10**4
    )


def operations(trainer):
    """Multiplications and additions of the products of one step."""
    m = trainer.architecture
    weights = sum(np.prod(p.shape) for p in m.parameters if len(p.shape) == 2 and p.kind != "embed")
    tokens = trainer.batch_size * m.window
    return 3 * tokens * (2 * weights + 4 * m.n_layers * m.window * m.d_model)


def plain_loop(trainer):
    """Steps of one model by torch.nn and torch.optim, with scaled_dot_product_attention."""
    model = plain_transformer.PlainTransformer(trainer)
    optimizer = torch.optim.Adam(model.parameters(), lr=trainer.lr)
    for starts in trainer.batches(order_seed=0, batch_size=trainer.batch_size):
        inputs, targets = (torch.from_numpy(a) for a in trainer.task.windows(starts))
        loss = plain_transformer.task_loss(model(inputs, (1.0, 1.0)), targets, trainer.task)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield 1


def ensemble(trainer, members):
    full = trainer._complete({"lr": np.full(members, trainer.lr)})
    return Ensemble(trainer._run(), full, trainer._orders(full))


def our_steps(trainer, members):
    made = ensemble(trainer, members).steps()
    while True:
        with torch.no_grad():
            next(made)
        yield members


def vmap_steps(trainer, members):
    """The same model and optimizer, one member at a time mapped over members by torch.func."""
    made = ensemble(trainer, members)
    model = trainer.architecture

    def loss(row, inputs, targets):
        strengths = (row.new_ones(1, 1, 1),) * 2
        return losses(model, model.views(row[None]), inputs[None], targets[None], made.scored, strengths)[0]

    gradient = torch.func.vmap(torch.func.grad(loss), in_dims=(0, None, None))
    W, memory, t = made.W, made.memory, 0
    while True:
        inputs, targets = made.batch(t)
        t += 1
        with torch.no_grad():
            W, memory = made.optimizer.step(t, W, gradient(W, inputs[0], targets[0]), memory)
        yield members


def product_steps():
    a, b = torch.randn(2, 1024, 1024)
    while True:
        torch.mm(a, b)
        yield 2 * 1024**3


def rate(steps, seconds):
    """What `steps` yields, per second of processor time, after one step to warm up."""
    next(steps)
    done, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        done += next(steps)
    return done / spent


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
            trainer, members = trainer_of(size), SIZES[size][-1]
            contestants = {"product": product_steps(), "plain loop": plain_loop(trainer)}
            contestants |= {f"ours, {k} members": our_steps(trainer, k) for k in members}
            contestants |= {f"torch.func, {k} members": vmap_steps(trainer, k) for k in members}
            best = dict.fromkeys(contestants, 0.0)
            for _ in range(args.repeats):
                for name, steps in contestants.items():
                    best[name] = max(best[name], rate(steps, args.seconds))
            peak = best.pop("product")
            print(f"{size}: {trainer.n_parameters} parameters, product {peak / 1e9:.0f} GFLOP/s")
            for name, found in best.items():
                share = found * operations(trainer) / peak
                print(
                    f"  {name:24s} {found:8.1f} steps/s  x {found / best['plain loop']:.2f}  {share:.0%} of peak"
                )


if __name__ == "__main__":
    main()
