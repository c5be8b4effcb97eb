"""How likely a run is to train at each pixel: shares over replicates, and whether they vary from place to place."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from ._checks import whole
from ._contract import is_trained
from ._question import block_sums, outcome_code, wilson
from ._rng import stream


def probability_map(runs: xr.Dataset, *, over: str, outcome: str = "converged") -> xr.Dataset:
    """Share of replicates of each pixel with an outcome, with Wilson's 95 % interval.

    What to show where single outcomes are chance: below the predictability horizon a pixel has a probability and not
    a sign.

    Parameters
    ----------
    runs : Dataset
        A map with an axis of replicates, as `Grid(..., order_seed=np.arange(8))` gives.
    over : str
        That axis.
    outcome : str, optional

    Returns
    -------
    Dataset, dims the other axes
        `probability`, `low`, `high`; NaN, 0 and 1 where no replicate is trained; `n`, the replicates that are.

    Raises
    ------
    ValueError
        If there is no such axis, or the outcome is unknown.

    Examples
    --------
    >>> from trainability import Grid, log_axis, trainability_map, trainers
    >>> grid = Grid(lr=log_axis(1, 1e4, 3), seed=np.arange(4))
    >>> runs = trainability_map(grid, trainers.MLP(width=4, n_steps=30))
    >>> probability_map(runs, over="seed")["probability"].values
    array([1., 0., 0.])
    """
    if over not in runs["status"].dims:
        raise ValueError(
            f"over={over!r} is no axis of the map; it has {', '.join(map(str, runs['status'].dims))}"
        )
    status = runs["status"].transpose(..., over)
    known = is_trained(status.values)
    n = known.sum(axis=-1)
    hits = ((status.values == outcome_code(status, outcome)) & known).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        share = hits / n
    low, high = np.zeros(n.shape), np.ones(n.shape)
    for k, m in {(int(k), int(m)) for k, m in zip(hits.ravel(), n.ravel(), strict=True) if m}:
        mine = (hits == k) & (n == m)
        low[mine], high[mine] = wilson(k / m, m)
    dims = status.dims[:-1]
    return xr.Dataset(
        {"probability": (dims, share), "low": (dims, low), "high": (dims, high), "n": (dims, n)},
        coords={name: runs[name] for name in dims},
        attrs={"outcome": outcome, "over": over},
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ShareVariation:
    """Whether the share of an outcome varies from place to place more than independent draws do.

    Attributes
    ----------
    share : float
        Over the whole map.
    ratio : float
        Variance of the blocks' shares over that of binomial draws: 1 without structure.
    p_value : float
        Share of permutations of the pixels, the map itself among them, with at least this ratio.
    neighbours : float
        Correlation between neighbouring pixels: 0 for independent ones.
    neighbours_p_value : float
        As `p_value`, of the correlation.
    blocks : int
    """

    share: float
    ratio: float
    p_value: float
    neighbours: float
    neighbours_p_value: float
    blocks: int

    def __repr__(self) -> str:
        return (
            f"share {self.share:.1%} varies between {self.blocks} blocks {self.ratio:.2f} times as much as chance "
            f"(p = {self.p_value:.2g}); neighbours correlate by {self.neighbours:.2f} "
            f"(p = {self.neighbours_p_value:.2g})"
        )


def share_variation(
    runs: xr.Dataset, *, outcome: str = "converged", block: int = 4, permutations: int = 999, seed: int = 0
) -> ShareVariation:
    """Test a window for structure: do blocks of pixels differ in their share of an outcome beyond chance?

    The null is that every pixel is an independent draw with one probability, which the whole window shares: what a
    window far below the predictability horizon shows. Pixels are permuted, so the p-value is exact.

    Parameters
    ----------
    runs : Dataset
        With a `status` of two dims, all pixels trained.
    outcome : str, optional
    block : int, optional
        Pixels a side.
    permutations : int, optional
    seed : int, optional

    Returns
    -------
    ShareVariation
        NaN, and p-values of 1, where there is one outcome only.

    Raises
    ------
    ValueError
        If the map has not two dims, a pixel is not trained, or fewer than two blocks fit.

    Examples
    --------
    >>> status = np.where(np.indices((16, 16)).sum(0) < 16, 1, 3)
    >>> attrs = {"flag_values": [1, 3], "flag_meanings": "converged undecided"}
    >>> share_variation(xr.Dataset({"status": (("x", "y"), status, attrs)})).p_value
    0.001
    """
    whole(1, block=block, permutations=permutations)
    status = runs["status"]
    if status.ndim != 2 or min(status.shape) < block or max(status.shape) < 2 * block:
        raise ValueError(
            f"runs have the shape {status.shape}; two dims that hold two blocks of {block} are needed"
        )
    if not is_trained(status.values).all():
        raise ValueError("runs have pixels that are not trained; finish the map first")
    labels = status.values == outcome_code(status, outcome)
    sizes = block_sums(np.ones_like(labels), block)
    p = float(labels.mean())
    if p in (0.0, 1.0):
        return ShareVariation(
            share=p, ratio=np.nan, p_value=1.0, neighbours=np.nan, neighbours_p_value=1.0, blocks=len(sizes)
        )

    def measured(a: np.ndarray) -> tuple[float, float]:
        squares = (block_sums(a, block) - p * sizes) ** 2 / (sizes * p * (1 - p))
        d = a - p
        pairs = np.concatenate([(d[1:] * d[:-1]).ravel(), (d[:, 1:] * d[:, :-1]).ravel()])
        return float(squares.sum() / (len(sizes) - 1)), float(pairs.mean() / (p * (1 - p)))

    ratio, neighbours = measured(labels)
    rng = stream(seed, "share_variation")
    null = np.array(
        [measured(rng.permutation(labels.ravel()).reshape(labels.shape)) for _ in range(permutations)]
    )
    reached = (1 + (null >= np.array([ratio, neighbours]) - 1e-12).sum(axis=0)) / (1 + permutations)
    return ShareVariation(
        share=p,
        ratio=ratio,
        p_value=float(reached[0]),
        neighbours=neighbours,
        neighbours_p_value=float(reached[1]),
        blocks=len(sizes),
    )
