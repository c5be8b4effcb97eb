"""Orbits and exponents of the product map, side by side: ours, vectorised numpy, peers, and the machine.

    python benchmarks/dynamics.py [--repeats 5]

All ways compute the same thing, in turn, several times over, and the medians of their ratios are printed: on a busy
machine seconds mean little, ratios within one run mean something. Peers are measured when they are installed
(`pip install '.[bench]'`). The bound is the processor time of the fused multiply-adds alone, at the rate that a loop
of nothing else reaches on one core here.
"""

import argparse
import importlib.util
import time

import numpy as np
from numba import get_num_threads, njit

import trainability as tr

PARAMETERS, TRANSIENT, N = 4000, 2000, 20_000
MU = np.linspace(0.2, 1.99, PARAMETERS)
START = [0.3, 0.31]

# Multiplications and additions of one step, fused where they can be: step 3; Jacobian 3; two tangent vectors 2·4.
STEP_FMAS, TANGENT_FMAS = 3, 11


def numpy_exponents(n: int) -> np.ndarray:
    """Vectorised over parameters: step, tangent vectors, Gram-Schmidt at every step."""
    a, b = np.full(PARAMETERS, START[0]), np.full(PARAMETERS, START[1])
    for _ in range(TRANSIENT * n // N):
        e = a * b - MU
        a, b = a - e * b, b - e * a
    (p, q), (r, s) = np.eye(2)[:, :, None] * np.ones(PARAMETERS)
    sums = np.zeros((2, PARAMETERS))
    for _ in range(n):
        k, aa, bb = MU - 2 * a * b, 1 - b * b, 1 - a * a
        p, q, r, s = aa * p + k * q, k * p + bb * q, aa * r + k * s, k * r + bb * s
        first = np.sqrt(p * p + q * q)
        p, q = p / first, q / first
        dot = p * r + q * s
        r, s = r - dot * p, s - dot * q
        second = np.sqrt(r * r + s * s)
        r, s = r / second, s / second
        sums += np.log(first), np.log(second)
        e = a * b - MU
        a, b = a - e * b, b - e * a
    return sums / n


def numpy_density(n: int, bins: int) -> np.ndarray:
    """Vectorised over parameters: iterate and count the pixels that are met."""
    a, b = np.full(PARAMETERS, START[0]), np.full(PARAMETERS, START[1])
    counts, columns = np.zeros((PARAMETERS, bins), np.int64), np.arange(PARAMETERS)
    for _ in range(n):
        e = a * b - MU
        a, b = a - e * b, b - e * a
        counts[columns, ((a + 2.1) * (bins / 4.2)).astype(int)] += 1
    return counts


@njit(fastmath={"contract"})
def multiply_adds(n, x):
    """Four chains of 32 fused multiply-adds on each of 32 lanes, `n` times over, in registers."""
    for _ in range(n):
        for lane in range(32):
            p, q, r, s = x[0, lane], x[1, lane], x[2, lane], x[3, lane]
            for _ in range(32):
                p = p * 0.999 + 0.001
                q = q * 0.998 + 0.002
                r = r * 0.997 + 0.003
                s = s * 0.996 + 0.004
            x[0, lane], x[1, lane], x[2, lane], x[3, lane] = p, q, r, s


def machine_rate() -> float:
    """Fused multiply-adds of one core in a second of its time, the best of several runs."""
    n, x = 20_000, np.full((4, 32), 0.5)
    multiply_adds(10, x)
    return n * 4 * 32 * 32 / min(timed(multiply_adds, n, x)[1] for _ in range(9))


def timed(function, *arguments) -> tuple[float, float]:
    """Seconds on the clock, and of processor time over all threads."""
    clock, processor = time.perf_counter(), time.process_time()
    function(*arguments)
    return time.perf_counter() - clock, time.process_time() - processor


def ours_exponents() -> None:
    tr.lyapunov_map(tr.product_map, {"mu": MU}, u0=START, n=N, transient=TRANSIENT)


def peer_pynamicalsys():
    """Exponents by pynamicalsys, one parameter after the other as its interface asks."""
    if importlib.util.find_spec("pynamicalsys") is None:
        return None
    from pynamicalsys import DiscreteDynamicalSystem

    @njit
    def step(u, p):
        e = u[0] * u[1] - p[0]
        return np.array([u[0] - e * u[1], u[1] - e * u[0]])

    @njit
    def jacobian(u, p, *args):
        k = p[0] - 2 * u[0] * u[1]
        return np.array([[1 - u[1] ** 2, k], [k, 1 - u[0] ** 2]])

    system = DiscreteDynamicalSystem(
        mapping=step, jacobian=jacobian, system_dimension=2, number_of_parameters=1
    )

    def run(parameters, n):
        for mu in parameters:
            system.lyapunov(START, n, parameters=[mu], transient_time=TRANSIENT)

    run(MU[:1], 2 * TRANSIENT)
    return run


def peer_pynamical():
    """Orbit diagram of the cubic map by pynamical, a table of iterates."""
    if importlib.util.find_spec("pynamical") is None:
        return None
    from pynamical import simulate

    @njit
    def cubic(x, mu):
        return x * (1 + mu - x * x)

    def run(parameters, n):
        simulate(
            model=cubic, num_gens=n, rate_min=0.2, rate_max=1.99, num_rates=parameters, num_discard=TRANSIENT,
            initial_pop=0.3,
        )  # fmt: skip

    run(2, 2)
    return run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rate = machine_rate()
    print(f"machine: {rate / 1e9:.0f} G fused multiply-adds/s a core; {get_num_threads()} threads\n")

    ours_exponents()
    numpy_part = 1000  # iterations of the slow ways; the rest is scaled
    peer = peer_pynamicalsys()
    ratios, peers, fractions = [], [], []
    for _ in range(repeats):
        ours, busy = timed(ours_exponents)
        ratios.append(timed(numpy_exponents, numpy_part)[0] * N / numpy_part / ours)
        fractions.append(PARAMETERS * (TRANSIENT * STEP_FMAS + N * (STEP_FMAS + TANGENT_FMAS)) / rate / busy)
        if peer:
            peers.append(timed(peer, MU[::200], N)[0] * 200 / ours)
    print(f"exponents over {PARAMETERS} parameters, {TRANSIENT} + {N} iterations")
    report("numpy, vectorised", ratios)
    report("pynamicalsys", peers)
    print(f"  share of the multiply-add bound: {np.median(fractions):.1%}\n")

    bins, n = 600, 25_000

    def ours_density():
        tr.orbit_density(
            tr.product_map, "mu", MU, "a", u0=START, n=n, transient=0, bins=bins, bounds=(-2.1, 2.1)
        )

    ours_density()
    ratios, fractions = [], []
    for _ in range(repeats):
        ours, busy = timed(ours_density)
        ratios.append(timed(numpy_density, numpy_part, bins)[0] * n / numpy_part / ours)
        fractions.append(PARAMETERS * n * STEP_FMAS / rate / busy)
    print(f"orbit density, {PARAMETERS} parameters x {n} iterates into {bins} rows")
    report("numpy, vectorised", ratios)
    print(f"  share of the multiply-add bound: {np.median(fractions):.1%}")
    print(
        "  (the rest is the count itself: one read, one increment and one write an iterate, not vectorised)\n"
    )

    parameters, kept = 1000, 1000
    mu = np.linspace(0.2, 1.99, parameters)

    def ours_diagram():
        tr.orbit_diagram(tr.cubic_map, "mu", mu, u0=[0.3], n=kept, transient=TRANSIENT)

    ours_diagram()
    peer = peer_pynamical()
    ratios = (
        [timed(peer, parameters, kept)[0] / timed(ours_diagram)[0] for _ in range(repeats)] if peer else []
    )
    print(
        f"orbit diagram of the cubic map, {parameters} parameters x {kept} iterates kept, {TRANSIENT} before"
    )
    report("pynamical", ratios)


def report(name: str, ratios: list[float]) -> None:
    if ratios:
        low, middle, high = np.quantile(ratios, [0, 0.5, 1])
        print(f"  {name}: ours is {middle:.1f} times as fast (from {low:.1f} to {high:.1f})")
    else:
        print(f"  {name}: not installed")


if __name__ == "__main__":
    main()
