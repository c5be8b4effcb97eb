"""Claims on the boundary of a transformer, arXiv:2501.04286, measured on small models and on its published grid."""

from functools import cache

import numpy as np

from ._question import wilson
from .claims import Measured, Verdict, claim
from .known_sets import iid_noise
from .published import published_dimension
from .replicates import twin_growth
from .scores import published_convergence
from .trainers import Transformer

PAPER = "arXiv:2501.04286"

# The published dimension; the share of runs in its deepest panel that diverged; cells of a figure have four pixels.
DIMENSION, DIVERGED, CELL = 1.9772, 0.25, 4

# Parameters as published.
PARAMETERS = 95_973

# Learning rates of the attention, at one rate of the rest: far below the boundary, beside it, and far above. Data
# orders for each, and sums in another order for each.
RATES = np.array([0.02, 0.045, 0.055, 0.065, 0.075, 0.15])
BELOW, BESIDE, ABOVE = 0, [1, 2, 3, 4], 5
ORDERS, TWINS = 6, 2


@cache
def _runs() -> dict[str, np.ndarray]:
    """Traces of small transformers, (rates, orders, steps) and (rates, twins, steps), and whether they converge.

    Twins share the first data order and sum each batch in another.
    """
    trainer = Transformer.tiny(n_records=300)
    rate, run = (axis.ravel() for axis in np.meshgrid(RATES, np.arange(ORDERS + TWINS), indexing="ij"))
    twin = run >= ORDERS
    found = trainer(
        {
            "lr_attn": rate,
            "lr_rest": np.full(len(rate), 0.02),
            "order_seed": np.where(twin, 0, run).astype(float),
            "rounding_seed": np.where(twin, run, -1).astype(float),
        }
    )["trace"]
    trace = found.reshape(len(RATES), ORDERS + TWINS, -1)
    converged = published_convergence(found).converged.reshape(trace.shape[:2])
    return {
        "trace": trace[:, :ORDERS],
        "converged": converged[:, :ORDERS],
        "twin_trace": trace[:, ORDERS:],
        "twin_converged": converged[:, ORDERS:],
    }


@claim(PAPER, "There is a learning rate of the attention above which training no longer converges.")
def transformer_has_a_boundary() -> Measured:
    """Share of data orders that converge at a low and at a high rate; supported if both are clear of one half."""
    converged = _runs()["converged"]
    low, high = float(converged[BELOW].mean()), float(converged[ABOVE].mean())
    below, above = wilson(low, ORDERS), wilson(high, ORDERS)
    return Measured(
        f"{low:.0%} of {ORDERS} runs converge at rate {RATES[BELOW]}, {high:.0%} of {ORDERS} at {RATES[ABOVE]}",
        None,
        Verdict.SUPPORTED if below[0] > 0.5 > above[1] else Verdict.INCONCLUSIVE,
    )


@claim(
    PAPER,
    "The two learning rates of a pixel decide whether its run converges; the data order may be drawn anew.",
)
def rates_decide_the_outcome() -> Measured:
    """Rates at which data orders disagree: one is enough to contradict, none among few is not enough to support."""
    share = _runs()["converged"].mean(axis=1)
    mixed = (share > 0) & (share < 1)
    at = int(np.abs(share - 0.5).argmin())
    pairs = 2 * share[at] * (1 - share[at]) * ORDERS / (ORDERS - 1)
    return Measured(
        f"{ORDERS} data orders disagree at {mixed.sum()} of {len(RATES)} rates; at {RATES[at]:.2g} "
        f"{share[at]:.0%} converge, so that two orders differ with chance {pairs:.2f}",
        None,
        Verdict.CONTRADICTED if mixed.any() else Verdict.INCONCLUSIVE,
    )


@claim(
    PAPER, "Zooms show structure of the boundary down to differences of rates near the resolution of float32."
)
def structure_at_float32_resolution() -> Measured:
    """Step at which runs part that differ by the order of summation alone; contradicted if runs go on for longer.

    What happens to a difference of rates after that step is that of the last bits, so such a map shows rounding.
    """
    runs = _runs()
    same = np.repeat(runs["trace"][BESIDE, :1], TWINS, axis=1)
    found = twin_growth(*(t.reshape(-1, t.shape[-1]) for t in (same, runs["twin_trace"][BESIDE])))
    flips = (runs["twin_converged"] != runs["converged"][:, :1])[BESIDE]
    n_steps = len(found.steps)
    return Measured(
        f"beside the boundary {found!r} of {n_steps}; {flips.sum()} of {flips.size} twins end otherwise",
        None,
        Verdict.CONTRADICTED if found.parted < n_steps else Verdict.INCONCLUSIVE,
    )


@claim(PAPER, "Each pixel of the deepest zoom is a run of its own: rates 1e-11 apart near 0.025 and 0.102.")
def deepest_rates_are_distinct() -> Measured:
    """Most distinct pairs in float32 of a strip of 150 x 20 pixels, over where it starts between two floats."""
    most = [
        max(
            len(np.unique((rate + start + 1e-11 * np.arange(n)).astype(np.float32)))
            for start in np.linspace(0, float(np.spacing(np.float32(rate))), 1000)
        )
        for rate, n in ((0.025, 150), (0.102, 20))
    ]
    pairs = int(np.prod(most))
    return Measured(
        f"at most {pairs} distinct pairs among {150 * 20} pixels (float32 steps there: "
        f"{np.spacing(np.float32(0.025)):.2g} and {np.spacing(np.float32(0.102)):.2g})",
        None,
        Verdict.SUPPORTED if pairs == 150 * 20 else Verdict.CONTRADICTED,
    )


@claim(PAPER, "Every run has a score.")
def every_run_has_a_score() -> Measured:
    """Share of converged runs whose published score is not a number; supported if there is none."""
    traces = _runs()["trace"]
    scored = published_convergence(traces.reshape(-1, traces.shape[-1]), total=False)
    n = int(scored.converged.sum())
    undefined = int(np.isnan(scored.value[scored.converged]).sum())
    return Measured(
        f"{undefined} of {n} converged runs have none: those that converge late",
        wilson(undefined / n, n),
        Verdict.CONTRADICTED if undefined else Verdict.SUPPORTED,
    )


@claim(PAPER, "A box-counting dimension of 1.977 shows that the boundary is fractal, and not noise.")
def dimension_is_not_that_of_noise() -> Measured:
    """The same estimate on independent draws, with the published share and cells; contradicted if it is as large."""
    values = [
        published_dimension(
            np.kron(iid_noise(512, seed, share=DIVERGED), np.ones((CELL, CELL), bool)),
            estimator="dilation_edge_fit",
        )
        for seed in range(4)
    ]
    mean, half = float(np.mean(values)), 3.18 * float(np.std(values, ddof=1)) / 2  # Student's t, 3 degrees
    return Measured(
        f"white noise, {DIVERGED:.0%} diverged, {CELL} pixels a cell: {mean:.4f} (published: {DIMENSION})",
        (mean - half, mean + half),
        Verdict.CONTRADICTED if mean > DIMENSION - 0.01 else Verdict.SUPPORTED,
    )


@claim(PAPER, "The model has 95,973 parameters.")
def parameter_count() -> Measured:
    """The released architecture has 129 V + 66,560 for V symbols: is any V right?"""
    symbols = np.arange(1, 2000)
    trainer = Transformer.torkamandi()
    apart = 129 * symbols + trainer.n_parameters - 129 * trainer.task.n_inputs - PARAMETERS
    nearest = int(symbols[np.abs(apart).argmin()])
    return Measured(
        f"{PARAMETERS + apart[nearest - 1]:,} with {nearest} symbols is the nearest",
        None,
        Verdict.SUPPORTED if (apart == 0).any() else Verdict.CONTRADICTED,
    )
