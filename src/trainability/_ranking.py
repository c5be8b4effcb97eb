"""How well a number orders runs: area under the ROC curve and rank correlation, with intervals over blocks."""

import numpy as np

from ._question import resampled_counts

ENDS = (0.025, 0.975)  # of a 95 % interval

Estimate = tuple[float, tuple[float, float]]


def auc(score: np.ndarray, seen: np.ndarray, side: int) -> Estimate:
    """Chance that a pixel that is `seen` has a higher score than one that is not, ties counted half.

    `score` and `seen` of one shape; the 95 % interval resamples blocks of `side` pixels a side. NaN and (0, 1) where
    all pixels are alike.
    """
    if seen.all() or not seen.any():
        return np.nan, (0.0, 1.0)
    weights = _weights(score.shape, side)
    positive = weights * seen.ravel()
    negative = weights - positive
    _, group = np.unique(score, return_inverse=True)
    below, here = _groups(negative, group.ravel())
    with np.errstate(invalid="ignore"):
        found = (positive * (below + here / 2)).sum(axis=1)
        found = found / (positive.sum(axis=1) * negative.sum(axis=1))
    low, high = np.nanquantile(found[1:], ENDS)
    return float(found[0]), (float(low), float(high))


def rank_correlation(x: np.ndarray, y: np.ndarray, side: int) -> Estimate:
    """Spearman's correlation of two arrays of one shape, with the 95 % interval as in `auc`.

    NaN and (-1, 1) where one of them has a single value.
    """
    if (x == x.flat[0]).all() or (y == y.flat[0]).all():
        return np.nan, (-1.0, 1.0)
    weights = _weights(x.shape, side)
    one, other = (_ranks(values, weights) for values in (x, y))
    total = weights.sum(axis=1, keepdims=True)

    def centred(ranks: np.ndarray) -> np.ndarray:
        return ranks - (weights * ranks).sum(axis=1, keepdims=True) / total

    one, other = centred(one), centred(other)
    spread = np.sqrt((weights * one**2).sum(axis=1) * (weights * other**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        found = (weights * one * other).sum(axis=1) / spread
    low, high = np.nanquantile(found[1:], ENDS)
    return float(found[0]), (float(low), float(high))


def _weights(shape: tuple[int, ...], side: int) -> np.ndarray:
    """How often each pixel counts, (1 + resamples, pixels): as it is, then with blocks resampled."""
    number = np.zeros(shape, dtype=int)
    for axis, n in enumerate(shape):
        piece = np.arange(n) // side
        number = number * (piece[-1] + 1) + np.expand_dims(piece, [a for a in range(len(shape)) if a != axis])
    counts = resampled_counts(number.max() + 1, np.random.default_rng(0))
    return np.concatenate([np.ones((1, number.size)), counts[:, number.ravel()]])


def _groups(weights: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel the weight of all pixels with smaller values, and of those with the same; `group` by value."""
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    here = np.add.reduceat(weights[:, order], starts, axis=1)
    below = np.cumsum(here, axis=1) - here
    return below[:, group], here[:, group]


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    _, group = np.unique(values, return_inverse=True)
    below, here = _groups(weights, group.ravel())
    return below + here / 2
