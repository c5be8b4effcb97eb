"""Phase diagrams of random transformers: the theory beside Monte Carlo and beside the machine's limit.

    python benchmarks/geometry.py [--size 512] [--networks 64] [--width 128]

Monte Carlo is the test suite's plain transformer, the cheapest honest way to the same two numbers: collapsed tokens
forwards, a shared random gradient backwards. Its time for one pixel is scaled to a standard error of 0.01 nats.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import trainability
from random_transformer import run
from trainability.geometry import Initialization
from trainability.phase_diagrams import phase_diagram
from trainability.recursion import collapsed_norm, gains

TARGET = 0.01  # nats per block: what tells neighbouring contours of a diagram apart
DEPTH = 4
INIT = Initialization(n_tokens=16, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.5, sigma_mlp=2.0)


def fastest(function, repeats=5):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def monte_carlo(init, *, networks, width):
    """Seconds for one pixel at a standard error of TARGET on both exponents, and that error as measured."""
    q = float(collapsed_norm(gains(init)))
    start = time.perf_counter()
    rates = []
    for seed in range(networks):
        out = run(init, d=width, depth=DEPTH, q=q, epsilon=1e-6, seed=seed, cotangent="common")
        total = out["backward"][0] @ [1, init.n_tokens - 1] / init.n_tokens
        rates.append([np.log(out["forward"][-1, 2] / 1e-6) / DEPTH, np.log(total) / DEPTH])
    seconds = time.perf_counter() - start
    error = np.std(rates, axis=0, ddof=1).max() / np.sqrt(networks)
    return seconds * (error / TARGET) ** 2, error


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--networks", type=int, default=64)
    parser.add_argument("--width", type=int, default=128)
    options = parser.parse_args()
    size = options.size
    axes = {"sigma_mlp": np.linspace(0.5, 6, size), "alpha_attn": np.linspace(0.05, 0.95, size)}
    print(
        f"trainability {trainability.__version__}, {os.cpu_count()} cores, torch on {torch.get_num_threads()} threads"
    )
    print(f"{size} x {size} pixels of both exponents; seconds, best of 5\n")
    values = np.random.default_rng(0).random((size, size)) + 0.5
    floor = fastest(lambda: [np.log(values) for _ in range(4)])
    print(f"{'four logarithms of a grid, the least there is to do':54s}{floor:9.4f}")
    per_pixel = {}
    for activation in ("relu", "erf", "gelu", "tanh"):
        init = INIT.with_values(activation=activation)
        seconds = fastest(lambda init=init: phase_diagram(init, **axes))
        per_pixel[activation] = seconds / size**2
        print(f"{'theory at collapse, ' + activation:54s}{seconds:9.4f}")
    for activation in ("relu", "erf", "gelu"):
        init = INIT.with_values(activation=activation)
        phase_diagram(init, at="stable", sigma_mlp=[1.0])  # compiles, and tabulates the softmax
        seconds = fastest(lambda init=init: phase_diagram(init, at="stable", **axes), repeats=3)
        print(f"{'theory at the stable state, ' + activation:54s}{seconds:9.4f}")
    print(f"\none pixel at a standard error of {TARGET} nats, width {options.width}, {DEPTH} blocks; seconds")
    for activation in ("relu", "erf"):
        init = INIT.with_values(activation=activation)
        seconds, error = monte_carlo(init, networks=options.networks, width=options.width)
        ratio = seconds / per_pixel[activation]
        print(
            f"{f'Monte Carlo, {activation} (measured error {error:.4f})':54s}{seconds:9.4f}"
            f"   {ratio:.1e} x the theory's {per_pixel[activation]:.1e}"
        )


if __name__ == "__main__":
    main()
