"""What trivial rules, fitted to the observed map itself, would have agreed on."""

from collections.abc import Callable

import numpy as np
import xarray as xr
from scipy import optimize

from ._question import BLOCK, POWER_80, ask, resampled_counts, share

# A side of the map is cut into this many pieces. Whole blocks are held out, so that no rule is asked about a pixel
# whose neighbours it was fitted to; fewer pieces would leave too few blocks to draw an interval from.
PIECES = 8

# Folds of the cross-validation: each rule sees four fifths of the blocks.
FOLDS = 5

# Ridge of the logistic fits, on coefficients of standardised axes: separable maps would send them to infinity.
_RIDGE = 1e-3


def compare_baselines(predicted: xr.Dataset, observed: xr.Dataset, *, outcome: str) -> xr.Dataset:
    """Set a prediction beside rules that know nothing but the observed map and its axes.

    The rules are fitted to the observed map, by cross-validation over blocks of it; the prediction has seen none
    of it. They are "majority" (the commoner answer, counted on the whole map), "threshold" (the best cut along one
    axis, either way), "logistic" (logistic regression on the axes, in decades where they are logarithmic) and
    "logistic, squares" (with squares and products too).

    Parameters
    ----------
    predicted, observed, outcome
        As in `compare`.

    Returns
    -------
    Dataset, dim `rule` ("prediction" first)
        `agreement` with `low` and `high` (95 %); `lead`, agreement of the prediction minus that of the rule, with
        `lead_low` and `lead_high` by bootstrap over blocks; and `smallest_lead`, the lead that a 5 % test on this
        grid finds with a power of 80 %.

    Raises
    ------
    ValueError
        As `compare`.

    Examples
    --------
    >>> from trainability import Grid, linear_axis
    >>> grid = Grid(x=linear_axis(-1, 1, 32), y=linear_axis(-1, 1, 32))
    >>> flags = {"flag_values": [1, 2], "flag_meanings": "converged diverged"}
    >>> x, y = np.meshgrid(grid["x"], grid["y"], indexing="ij")
    >>> disc = xr.Dataset({"status": (("x", "y"), np.where(np.hypot(x, y) > 0.8, 2, 1), flags)}, coords=grid.coords())
    >>> found = compare_baselines(disc, disc, outcome="diverged")
    >>> found["agreement"].sel(rule=["prediction", "majority", "logistic, squares"]).values.round(2)
    array([1.  , 0.51, 0.99])
    """
    asked = ask(predicted, observed, outcome)
    mesh = np.stack(np.meshgrid(*map(_standardised, asked.coords.values()), indexing="ij"))
    blocks = _blocks(asked.seen.shape)
    # Cross-validated, a majority near one half is wrong more often than right: fold by fold it misses what it lacks.
    commoner = asked.seen[asked.known].mean() > 0.5
    answers = {"prediction": asked.said, "majority": np.full(asked.seen.shape, commoner)}
    for name, fit in RULES.items():
        answers[name] = _cross_validated(fit, mesh, asked.seen, asked.known, blocks)
    rows = []
    for answer in answers.values():
        right = answer == asked.seen
        agreement, (low, high), _ = share(right, asked.known)
        lead = _lead(asked.right.astype(float) - right, asked.known, blocks)
        rows.append((agreement, low, high, *lead))
    names = ("agreement", "low", "high", "lead", "lead_low", "lead_high", "smallest_lead")
    columns = np.array(rows).T
    return xr.Dataset(
        {name: ("rule", values) for name, values in zip(names, columns, strict=True)},
        coords={"rule": list(answers)},
        attrs={"outcome": outcome, "folds": FOLDS, "pieces": PIECES},
    )


def _standardised(coord: xr.DataArray) -> np.ndarray:
    x = np.log10(coord.values) if coord.attrs.get("scale") == "log" else coord.values.astype(float)
    return (x - x.mean()) / (x.std() or 1.0)


def _blocks(shape: tuple[int, ...]) -> np.ndarray:
    """Number of the block of each pixel: about `PIECES` a side, none narrower than `BLOCK` unless the map is."""
    number = np.zeros(shape, dtype=int)
    for axis, n in enumerate(shape):
        pieces = min(PIECES, max(n // BLOCK, 2), n)
        piece = np.arange(n) * pieces // n
        number = number * pieces + piece.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    return number


def _cross_validated(fit: Callable, mesh, seen, known, blocks) -> np.ndarray:
    """Answers of a rule to each pixel, fitted without the pixel's block."""
    order = np.random.default_rng(0).permutation(blocks.max() + 1)
    fold = (order % FOLDS)[blocks]
    answer = np.zeros(seen.shape, bool)
    for k in range(FOLDS):
        train, held_out = known & (fold != k), fold == k
        if train.any():
            answer[held_out] = fit(mesh[:, train], seen[train])(mesh[:, held_out])
    return answer


def _threshold(x: np.ndarray, seen: np.ndarray) -> Callable:
    """The cut along one axis, and the way round, with most pixels right."""
    best = (-1.0, 0, 0.0, True)
    for axis, values in enumerate(x):
        cuts, place = np.unique(values, return_inverse=True)
        n_at = np.bincount(place)
        seen_at = np.bincount(place, weights=seen)
        # "Seen above the cut": what was not seen up to it and what was seen beyond.
        right = np.cumsum(n_at - seen_at) + seen_at.sum() - np.cumsum(seen_at)
        for above, count in ((True, right), (False, n_at.sum() - right)):
            i = int(count.argmax())
            if count[i] > best[0]:
                best = (float(count[i]), axis, float(cuts[i]), above)
    _, axis, cut, above = best
    return lambda new: (new[axis] > cut) == above


def _logistic(features: Callable) -> Callable:
    def fit(x: np.ndarray, seen: np.ndarray) -> Callable:
        A, sign = features(x), np.where(seen, 1.0, -1.0)

        def loss(w):
            margin = sign * (w @ A)
            slope = -sign / (1 + np.exp(np.clip(margin, -500, 500))) / len(sign)
            value = np.logaddexp(0, -margin).mean() + _RIDGE / 2 * w[1:] @ w[1:]
            return value, A @ slope + _RIDGE * np.append(0.0, w[1:])

        w = optimize.minimize(loss, np.zeros(len(A)), jac=True, method="L-BFGS-B").x
        return lambda new: w @ features(new) > 0

    return fit


def _linear(x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.ones((1, x.shape[1])), x])


def _squares(x: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(len(x))
    return np.concatenate([_linear(x), x[i] * x[j]])


RULES = {
    "threshold": _threshold,
    "logistic": _logistic(_linear),
    "logistic, squares": _logistic(_squares),
}


def _lead(difference: np.ndarray, known: np.ndarray, blocks: np.ndarray) -> tuple[float, float, float, float]:
    """Mean difference over known pixels, its 95 % interval over blocks, and the least that would be found."""
    n = np.bincount(blocks[known])
    total = np.bincount(blocks[known], weights=difference[known])
    n, total = n[n > 0], total[n > 0]
    counts = resampled_counts(len(n), np.random.default_rng(0))
    means = (counts @ total) / (counts @ n)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(total.sum() / n.sum()), float(low), float(high), float(POWER_80 * means.std(ddof=1))
