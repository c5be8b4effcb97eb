"""Claims on the two exponents of an initialization, arXiv:2403.02579, measured on the recursion of token geometry."""

import numpy as np

from .claims import Measured, Verdict, claim
from .critical import critical_initialization
from .geometry import predict_exponents, propagate
from .initialization import Initialization

PAPER = "arXiv:2403.02579"


def _random_initializations(n: int, *, alpha_mlp: tuple[float, float], seed: int) -> list[Initialization]:
    rng = np.random.default_rng(seed)
    return [
        Initialization(
            n_tokens=int(rng.choice([8, 32, 128])),
            alpha_attn=rng.uniform(0.2, 0.8),
            alpha_mlp=rng.uniform(*alpha_mlp),
            sigma_attn=rng.uniform(0.2, 2),
            sigma_mlp=rng.uniform(0.5, 4),
        )
        for _ in range(n)
    ]


@claim(PAPER, "Attention without an MLP collapses all tokens onto one direction.")
def collapse_without_mlp() -> Measured:
    """Largest 1 - cosine after 600 blocks from orthogonal tokens, over 8 random initializations."""
    inits = _random_initializations(8, alpha_mlp=(0.0, 0.0), seed=0)
    worst = max(float(propagate(init, 600)["epsilon"][-1]) for init in inits)
    return Measured(
        f"1 - cosine at most {worst:.1e} after 600 blocks, 8 initializations",
        None,
        Verdict.SUPPORTED if worst < 1e-6 else Verdict.CONTRADICTED,
    )


@claim(
    PAPER,
    "The sign of the angle exponent separates collapse of the tokens (order) from none (chaos).",
)
def order_chaos_transition() -> Measured:
    """Whether 1 - cosine grows or shrinks over 20 blocks from 1e-10, against the sign, 100 initializations."""
    same, ordered = 0, 0
    inits = _random_initializations(100, alpha_mlp=(0.1, 0.9), seed=1)
    for init in inits:
        shrinks = bool(propagate(init, 20, rho=1 - 1e-10)["epsilon"][-1] < 1e-10)
        same += shrinks == (predict_exponents(init).angle < 0)
        ordered += shrinks
    supported = same == len(inits) and 10 <= ordered <= 90
    return Measured(
        f"{same} of {len(inits)} by the sign, {ordered} of them ordered",
        None,
        Verdict.SUPPORTED if supported else Verdict.CONTRADICTED,
    )


@claim(PAPER, "There are initializations at which both exponents vanish for the depth at hand.")
def critical_initializations() -> Measured:
    """Both exponents times depth are at most a quarter, for 64 blocks, near a plain initialization."""
    init = Initialization(n_tokens=64, alpha_attn=0.5, alpha_mlp=0.5, sigma_attn=1.0, sigma_mlp=1.5)
    found = critical_initialization(init, depth=64).exponents
    largest = 64 * max(abs(found.angle), abs(found.gradient))
    return Measured(
        f"exponents {found.angle:+.2g} and {found.gradient:+.2g} per block: {largest:.2f} over 64 blocks",
        None,
        Verdict.SUPPORTED if largest <= 0.25 + 1e-6 else Verdict.CONTRADICTED,
    )
