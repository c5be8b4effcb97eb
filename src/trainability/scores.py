"""Convergence rules and scores, as functions of the observables that maps store: another rule, no retraining.

A trace is the losses of a run over its first loss, kept in the observable `trace` as far as it was recorded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from ._contract import is_trained

# The rule of arXiv:2501.04286: cap of v, least drop between the windows, largest variance and largest mean of the
# last window.
CAP, DROP, VARIANCE, BELOW = 10.0, 0.1, 0.01, 0.4

# A window is a trace over this number, so a trace of fewer records has none.
WINDOWS = 20


@dataclass(frozen=True, kw_only=True, eq=False)
class Convergence:
    """A verdict and a score for each run, kept apart.

    Attributes
    ----------
    converged : ndarray of bool, shape (n,)
    value : ndarray, shape (n,)
        In [0, 1] where a run converged, in [-1, 0] where it did not; NaN where the published form is.
    """

    converged: np.ndarray
    value: np.ndarray

    def __repr__(self) -> str:
        undefined = int(np.isnan(self.value).sum())
        return (
            f"{int(self.converged.sum())} of {self.converged.size} converged, {undefined} scores not a number"
        )


def published_convergence(traces, *, total: bool = True) -> Convergence:
    """Judge traces as the maps of transformers in arXiv:2501.04286 are, as published or in a total form.

    With v the trace over its first value, capped at 10, N records and windows of N / 20 records at both ends: a
    run has converged if the mean of the last window is at least 0.1 below that of the first and below 0.4, and
    the variance of the last window is below 0.01. With S = 1 + 0.4 (N - 1) - Σv the score is √(S / (0.4 (N - 1)))
    if it converged and -√(-S / (1 + 9.6 (N - 1))) if not.

    Parameters
    ----------
    traces : array_like, shape (n, N)
        Losses, or losses over the first; N at least 20.
    total : bool, optional
        Score every trace. The published form (False) is NaN where the sign of S is not that of the verdict, and
        a loss that is not finite counts as 10 before the division by the first loss, so that a run whose first loss
        is not finite looks like one that converged at once. The total form counts such a loss as the cap after the
        division, takes a run with a first loss that is not finite or not positive for one at the cap from the second
        record on, and sets S to zero where it has the wrong sign.

    Returns
    -------
    Convergence
        The windows of the verdict are means over ⌊N / 20⌋ records; the variance is that of the population.

    Raises
    ------
    ValueError
        If traces are not two-dimensional or have fewer than 20 records.

    References
    ----------
    Torkamandi, arXiv:2501.04286, and its released code.

    Examples
    --------
    >>> falling, level = np.full((2, 100), 0.2), np.full((2, 100), 0.9)
    >>> falling[:, :10] = 1.0
    >>> published_convergence(falling).converged, published_convergence(level).converged
    (array([ True,  True]), array([False, False]))
    """
    losses = np.asarray(traces, dtype=float)
    if losses.ndim != 2 or losses.shape[1] < WINDOWS:
        raise ValueError(
            f"traces have shape {losses.shape}; the rule needs (n, N) with at least {WINDOWS} records"
        )
    v = _ratios(losses) if total else _published_ratios(losses)
    n = v.shape[1]
    k = n // WINDOWS
    early, recent = v[:, :k], v[:, -k:]
    converged = (
        (recent.mean(axis=1) <= early.mean(axis=1) - DROP)
        & (recent.var(axis=1) < VARIANCE)
        & (recent.mean(axis=1) < BELOW)
    )
    surplus = 1 + (n - 1) * BELOW - v.sum(axis=1)
    with np.errstate(invalid="ignore"):  # the published form is NaN there
        up = np.maximum(surplus, 0) if total else surplus
        down = np.maximum(-surplus, 0) if total else -surplus
        value = np.where(
            converged, np.sqrt(up / ((n - 1) * BELOW)), -np.sqrt(down / (1 + (n - 1) * (CAP - BELOW)))
        )
    return Convergence(converged=converged, value=value)


def _ratios(losses: np.ndarray) -> np.ndarray:
    """Losses over the first, which gives 1, at most the cap; the cap where a loss, or the first, is not finite."""
    first = losses[:, :1]
    usable = np.isfinite(first) & (first > 0)
    with np.errstate(invalid="ignore", over="ignore"):
        v = losses / np.where(usable, first, 1.0)
    v = np.where(usable & np.isfinite(v), np.minimum(v, CAP), CAP)
    v[:, 0] = 1.0
    return v


def _published_ratios(losses: np.ndarray) -> np.ndarray:
    """As released: losses that are not finite count as the cap before the division."""
    counted = np.where(np.isfinite(losses), losses, CAP)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return np.minimum(counted / counted[:, :1], CAP)


def converged_by(runs: xr.Dataset | Mapping[str, Any], rule: str, cut: float | None = None) -> np.ndarray:
    """Judge runs by a rule on what was stored: True where a run converged.

    Parameters
    ----------
    runs : Dataset or mapping of arrays
    rule : str
        "tail": `tail_ratio` below the cut-off (0.5 by default). "final": `final_loss` / `first_loss` below
        it (0.5). "minimum": `min_loss` / `first_loss` below it (0.5). "held out": `test_loss` / `first_loss` below it
        (0.5). "transformer": `published_convergence` of `trace`. "mlp": the mean of the last losses below the first
        (arXiv:2402.06184), `tail_ratio` below 1.
    cut : float, optional
        Not for "transformer".

    Returns
    -------
    ndarray of bool, of the pixels' shape
        False where what the rule looks at is not finite.

    Raises
    ------
    ValueError
        If the rule is unknown, takes no cut-off, or needs an observable that the runs do not have.

    Examples
    --------
    >>> converged_by({"tail_ratio": [0.2, 0.7, np.inf]}, "tail")
    array([ True, False, False])
    """
    if rule == "transformer":
        if cut is not None:
            raise ValueError(f"cut={cut}: the rule 'transformer' has none; leave it out")
        (trace,) = _needed(runs, rule)
        return published_convergence(trace.reshape(-1, trace.shape[-1])).converged.reshape(trace.shape[:-1])
    value, default = ruled_quantity(runs, rule)
    return value < (default if cut is None else cut)


def ruled_quantity(runs: xr.Dataset | Mapping[str, Any], rule: str) -> tuple[np.ndarray, float]:
    """What a rule cuts, of the pixels' shape, and where; a `ValueError` if it cuts nothing or lacks observables.

    Examples
    --------
    >>> ruled_quantity({"final_loss": [1.0, 3.0], "first_loss": [4.0, 4.0]}, "final")
    (array([0.25, 0.75]), 0.5)
    """
    arrays = _needed(runs, rule)
    default = RULES[rule][1]
    if default is None:
        raise ValueError(f"rule {rule!r} has no cut-off; use tail, final or minimum")
    with np.errstate(invalid="ignore", divide="ignore"):
        return (arrays[0] / arrays[1] if len(arrays) == 2 else arrays[0]), default


def _needed(runs: xr.Dataset | Mapping[str, Any], rule: str) -> list[np.ndarray]:
    """The observables that a rule looks at."""
    if rule not in RULES:
        raise ValueError(f"rule {rule!r} is unknown; known are {', '.join(RULES)}")
    names = RULES[rule][0]
    missing = [name for name in names if name not in runs]
    if missing:
        raise ValueError(f"runs have no {', '.join(missing)}; the rule {rule!r} needs {', '.join(names)}")
    return [np.asarray(runs[name], dtype=float) for name in names]


# Rule -> observables it needs, and its cut-off.
RULES: dict[str, tuple[tuple[str, ...], float | None]] = {
    "tail": (("tail_ratio",), 0.5),
    "final": (("final_loss", "first_loss"), 0.5),
    "minimum": (("min_loss", "first_loss"), 0.5),
    "held out": (("test_loss", "first_loss"), 0.5),
    "transformer": (("trace",), None),
    "mlp": (("tail_ratio",), 1.0),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class RuleSensitivity:
    """How much of a boundary moves with the rule that draws it.

    Attributes
    ----------
    reference : str
    moved : dict of str to float
        Rule -> share of all known pixels that it labels otherwise than the reference.
    boundary_moved : dict of str to float
        The same among the known pixels beside the reference's boundary; NaN without a boundary.
    cuts : ndarray, shape (k,)
        Cut-offs on the reference's quantity, and beneath each `converged_share` and `cut_moved`: the share of pixels
        that converge, and the share that changes for each 0.01 of the cut-off.
    converged_share, cut_moved : ndarray, shape (k,)
    """

    reference: str
    moved: dict[str, float]
    boundary_moved: dict[str, float]
    cuts: np.ndarray
    converged_share: np.ndarray
    cut_moved: np.ndarray

    def __repr__(self) -> str:
        parts = [
            f"{rule} moves {share:.1%} of all pixels and {self.boundary_moved[rule]:.1%} of those at the boundary"
            for rule, share in self.moved.items()
        ]
        return f"against {self.reference!r}: {'; '.join(parts) or 'no other rule can be asked'}"


def rule_sensitivity(
    runs: xr.Dataset, *, reference: str = "tail", rules: Mapping[str, Callable] | None = None, cuts=None
) -> RuleSensitivity:
    """Ask how much of the boundary of a map moves with the convergence rule and with its cut-off.

    Parameters
    ----------
    runs : Dataset
        A map; pending, failed and inferred pixels are left out.
    reference : str, optional
        As in `converged_by`, one with a cut-off.
    rules : mapping of str to callable, optional
        Rules of your own: a function of the runs that returns bool, of the pixels' shape. By default all rules
        of `converged_by` whose observables are stored.
    cuts : array_like, optional
        By default 0.05, 0.06, …, 1.2.

    Returns
    -------
    RuleSensitivity

    Raises
    ------
    ValueError
        If the reference is unknown, has no cut-off, or cannot be asked of these runs.

    Examples
    --------
    >>> tail = np.linspace(0, 1, 101)
    >>> runs = xr.Dataset({"tail_ratio": ("lr", tail), "status": ("lr", np.where(tail < 0.5, 1, 3))})
    >>> rule_sensitivity(runs)
    against 'tail': mlp moves 49.5% of all pixels and 50.0% of those at the boundary
    """
    base = converged_by(runs, reference)
    if RULES[reference][1] is None:
        raise ValueError(f"reference={reference!r} has no cut-off; use tail, final or minimum")
    known = is_trained(runs["status"])
    if not known.any():
        raise ValueError("runs have no trained pixel")
    edge = beside_boundary(base, known=known)
    if rules is None:
        stored = [r for r, (needed, _) in RULES.items() if r != reference and all(n in runs for n in needed)]
        others = {rule: converged_by(runs, rule) for rule in stored}
    else:
        others = {rule: np.asarray(judge(runs), dtype=bool) for rule, judge in rules.items()}
    cuts = np.arange(5, 121) / 100 if cuts is None else np.asarray(cuts, dtype=float)
    share = np.array([converged_by(runs, reference, cut)[known].mean() for cut in cuts])
    slope = np.gradient(share, cuts) * 0.01 if len(cuts) > 1 else np.full(len(cuts), np.nan)
    return RuleSensitivity(
        reference=reference,
        moved={rule: float((other != base)[known].mean()) for rule, other in others.items()},
        boundary_moved={
            rule: float((other != base)[edge].mean()) if edge.any() else np.nan
            for rule, other in others.items()
        },
        cuts=cuts,
        converged_share=share,
        cut_moved=slope,
    )


def beside_boundary(labels: np.ndarray, *, reach: int = 1, known: np.ndarray | None = None) -> np.ndarray:
    """Known pixels, all by default, with a known one of another label at most `reach` away along every axis.

    Examples
    --------
    >>> beside_boundary(np.array([0, 0, 0, 1, 1]))
    array([False, False,  True,  True, False])
    """
    from scipy import ndimage

    size, codes = 2 * reach + 1, np.asarray(labels).astype(int)
    known = np.ones(codes.shape, bool) if known is None else known
    # What is unknown is given a label that leaves the maximum, and the minimum, to those that are known.
    most = ndimage.maximum_filter(np.where(known, codes, codes.min()), size, mode="nearest")
    least = ndimage.minimum_filter(np.where(known, codes, codes.max()), size, mode="nearest")
    return known & (most != least)


def published_score(runs: xr.Dataset | Mapping[str, Any]):
    """Score of a run as in the published maps: minus the sum of v if it converged, the sum of 1 / v if not.

    v = loss / first loss, capped at 1e6; a run has converged if the mean of its last 20 v is below 1. The sign
    is the phase, the size the speed: a run that converges fast scores near 0 from below, one that diverges
    fast near 0 from above.

    Parameters
    ----------
    runs : Dataset or mapping of arrays
        Observables `sum_ratio`, `sum_inverse_ratio` and `tail_ratio`, as `trainers.MLP` leaves them.

    Returns
    -------
    DataArray or ndarray
        Of the observables' shape; a DataArray if they are in a Dataset. NaN where a pixel is pending or failed,
        as the observables are.

    Raises
    ------
    ValueError
        If an observable is missing.

    Notes
    -----
    The released code counts a loss that is not finite as 1e6 before dividing by the first loss, so as
    1e6 / first loss after; here it counts as the cap. The difference is at most first loss · 1e-6 a step in the
    score of runs that diverge, and changes no sign while the first loss is below 5e4.

    References
    ----------
    Sohl-Dickstein, arXiv:2402.06184, section 2.

    Examples
    --------
    >>> published_score({"sum_ratio": [40.0, 1e8], "sum_inverse_ratio": [900.0, 3.0], "tail_ratio": [0.1, 1e6]})
    array([-40.,   3.])
    """
    names = ("sum_ratio", "sum_inverse_ratio", "tail_ratio")
    missing = [name for name in names if name not in runs]
    if missing:
        raise ValueError(f"runs have no {', '.join(missing)}; the score needs {', '.join(names)}")
    total, inverse, tail = (runs[name] for name in names)
    if isinstance(tail, xr.DataArray):
        score = xr.where(tail < 1, -total, inverse).rename("published_score")
        return score.assign_attrs(long_name="published score: -Σv if converged, Σ1/v if not")
    return np.where(np.asarray(tail) < 1, -np.asarray(total), np.asarray(inverse))
