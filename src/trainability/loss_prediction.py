"""How well a few numbers of each run predict its loss: cross-validated, with intervals and a shuffled null."""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.spatial import cKDTree

from ._question import POWER_80

FOLDS, RESAMPLES = 10, 1000
NEIGHBOURS = 10  # runs that the second form averages over


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """Losses predicted for runs that were held out of the fit.

    Attributes
    ----------
    observed, predicted : ndarray, shape (n,)
    r2 : float
        1 - squared error of the prediction / squared error of the mean; below 0 if worse than the mean.
    r2_interval : tuple of float
        95 %, by bootstrap over runs.
    rank : float
        Spearman's correlation of observed and predicted.
    rank_interval : tuple of float
    null_r2 : float
        95th percentile of r2 where losses are dealt to the runs at random.
    """

    observed: np.ndarray
    predicted: np.ndarray
    r2: float
    r2_interval: tuple[float, float]
    rank: float
    rank_interval: tuple[float, float]
    null_r2: float

    def __repr__(self) -> str:
        low, high = self.r2_interval
        return f"R² {self.r2:.3f} ({low:.3f} to {high:.3f}), rank {self.rank:.3f}, {len(self.observed)} runs"


@dataclass(frozen=True, kw_only=True)
class Lead:
    """Difference of two predictions' R² on the same runs, its 95 % interval, and the least that would be seen.

    `smallest` is the difference that a two-sided 5 % test on these runs finds with a power of 80 %.
    """

    value: float
    interval: tuple[float, float]
    smallest: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SurfaceMinimum:
    """Place of the least loss on a fitted surface, (d,), with 95 % intervals (d, 2) by bootstrap over runs."""

    place: np.ndarray
    interval: np.ndarray


def cross_validate(
    x: np.ndarray, losses: np.ndarray, *, form: str = "quadratic", seed: int = 0, n_null: int = 100
) -> Prediction:
    """Predict each run's loss from its numbers, by a fit to the other runs.

    Parameters
    ----------
    x : array (n,) or (n, d)
    losses : array (n,)
        Finite.
    form : {"quadratic", "neighbours"}, optional
        Least squares on 1, x_i and x_i x_j: the least form that has a minimum in the plane, of a place, two widths
        and an orientation. Or the mean over the 10 nearest runs in standardised numbers, which assumes no form.
    seed : int, optional
        Of the folds, the bootstrap and the null.
    n_null : int, optional
        Shuffles of the null.

    Returns
    -------
    Prediction
        From 10 folds.

    Raises
    ------
    ValueError
        If the form is unknown, a number is not finite, or there are fewer than 20 runs.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    >>> cross_validate(x, (x**2).sum(1)).r2 > 0.999
    True
    """
    x, losses = np.asarray(x, float).reshape(len(losses), -1), np.asarray(losses, float)
    if form not in _FORMS:
        raise ValueError(f"form={form!r} is unknown; use {', '.join(_FORMS)}")
    if not (np.isfinite(x).all() and np.isfinite(losses).all()):
        raise ValueError("x and losses must be finite; cap the loss of diverged runs first")
    if len(losses) < 2 * FOLDS:
        raise ValueError(f"losses of {len(losses)} runs are too few; train at least {2 * FOLDS}")
    rng = np.random.default_rng(seed)
    fold = rng.permutation(len(losses)) % FOLDS
    predicted = _held_out(form, x, losses, fold)
    draws = rng.integers(len(losses), size=(RESAMPLES, len(losses)))
    dealt = np.stack([rng.permutation(losses) for _ in range(n_null)], axis=1)
    nulls = _r2(dealt.T, _held_out(form, x, dealt, fold).T)
    return Prediction(
        observed=losses,
        predicted=predicted,
        r2=float(_r2(losses, predicted)),
        r2_interval=_interval(_r2(losses[draws], predicted[draws])),
        rank=float(_rank(losses, predicted)),
        rank_interval=_interval(_rank(losses[draws], predicted[draws])),
        null_r2=float(np.quantile(nulls, 0.95)) if n_null else np.nan,
    )


def lead(first: Prediction, second: Prediction, *, seed: int = 0) -> Lead:
    """How much more of the variance the first prediction explains, by a bootstrap that keeps runs paired."""
    n = len(first.observed)
    draws = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
    found = _r2(first.observed[draws], first.predicted[draws]) - _r2(
        second.observed[draws], second.predicted[draws]
    )
    return Lead(
        value=first.r2 - second.r2,
        interval=_interval(found),
        smallest=float(POWER_80 * np.std(found)),
    )


def surface_minimum(x: np.ndarray, losses: np.ndarray, *, seed: int = 0) -> SurfaceMinimum:
    """Find where the quadratic surface fitted to runs is least, among the runs' own places.

    Parameters
    ----------
    x : array (n, d)
    losses : array (n,)
    seed : int, optional
        Of the bootstrap.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    >>> found = surface_minimum(x, ((x - [0.5, 0]) ** 2).sum(1))
    >>> bool(np.abs(found.place - [0.5, 0]).max() < 0.1)
    True
    """
    n, terms = len(losses), _terms(x)
    draws = np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))

    def least(i: np.ndarray) -> np.ndarray:
        return x[np.argmin(terms @ np.linalg.lstsq(terms[i], losses[i])[0])]

    places = [least(i) for i in draws]
    return SurfaceMinimum(place=least(np.arange(n)), interval=np.quantile(places, [0.025, 0.975], axis=0).T)


def _terms(x: np.ndarray) -> np.ndarray:
    """1, x_i and x_i x_j of each run."""
    i, j = np.triu_indices(x.shape[1])
    return np.column_stack([np.ones(len(x)), x, x[:, i] * x[:, j]])


def _quadratic(x: np.ndarray, losses: np.ndarray, at: np.ndarray) -> np.ndarray:
    return _terms(at) @ np.linalg.lstsq(_terms(x), losses)[0]


def _neighbours(x: np.ndarray, losses: np.ndarray, at: np.ndarray) -> np.ndarray:
    scale = x.std(axis=0)
    _, nearest = cKDTree(x / scale).query(at / scale, k=NEIGHBOURS)
    return losses[nearest].mean(axis=1)


_FORMS = {"quadratic": _quadratic, "neighbours": _neighbours}


def _held_out(form: str, x: np.ndarray, losses: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Predictions of losses (n,), or of m sets of them, (n, m), each run by the fit to the other folds."""
    found = np.empty(losses.shape)
    for k in range(FOLDS):
        out = fold == k
        found[out] = _FORMS[form](x[~out], losses[~out], x[out])
    # No prediction beyond the losses that were seen: a polynomial has no bounds, a loss has.
    return np.clip(found, losses.min(), losses.max())


def _r2(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Along the last axis; NaN where all losses are equal."""
    spread = ((observed - observed.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, 1 - ((observed - predicted) ** 2).sum(axis=-1) / spread, np.nan)


def _rank(observed: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Spearman's correlation along the last axis; 0 where all values are equal."""
    a, b = (stats.zscore(stats.rankdata(v, axis=-1), axis=-1) for v in (observed, predicted))
    return np.nan_to_num((a * b).mean(axis=-1))


def _interval(values) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)
