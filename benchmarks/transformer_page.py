"""The page on the transformer map: its numbers, its figures, its words. Run by `transformer_controls.py page`."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

import trainability as tr
from trainability import plot

TEXT = """# Where does a small transformer train, and which pixels are chance?

A decoder of 16 dimensions and two blocks (6398 parameters) learns characters of Shakespeare's Sonnets with Adam, once for
each of 32 × 32 pixels: 150 steps, batches of 16, one order of the data for the whole map. Axes are the learning rate of
attention with the layer norms before it (`lr_attn`) and that of the rest (`lr_rest`). A run has converged if the mean of its
last losses, a twentieth of the run, is below {cut} of the first loss (the rule `tail`); {converged:.0%} of the runs have.

In short: the boundary is sharp on this map because all its pixels see the data in one order. With an order of its own at each
pixel it is frayed, and pixels finer than some 10 % of a learning rate show rounding.

```
trainability map transformer map.zarr --n-steps 150 --n-records 50 --converged-below {cut} \\
    --workers 2 --picture map.png
```

The map takes {budget} and can be interrupted at any time: the same command goes on. The
picture fills in meanwhile. `python benchmarks/transformer_controls.py` makes the map, all controls below, and this page; it
goes on too.

![The map, the unseeded map, and four controls](figures/transformer-controls.png)

*Above: the map; the same with an order of the data of its own at each pixel; how often two runs of one pixel end unlike.
Below: the finest step of the learning rate that runs resolve, over their length; disagreement of rounding twins and of
neighbours in windows that shrink around a point of the boundary; the histogram that the cut-off cuts.*

## The cut-off

{audit}.
{rules} It was chosen on this map, where `threshold_audit` puts the deepest
valley, after a first choice of 0.64 that the audit refused. The valley is shallow, with a shoulder to its left and not a second
peak. It belongs to this order of the data: runs that learn nothing but frequencies end on a plateau, the peak to its right, which
moves with the order, as the replicates away from the boundary show.

## Replicates

Chance that two runs of one pixel end unlike, the map's own among them, {replicates} replicates of each kind; 95 % intervals
count each pixel as one observation. Near means beside a pixel of the other outcome.

| what is changed | near the boundary | away from it |
|---|---|---|
{flips}

A float64 twin starts from the same weights and sees the same batches as the map; rounding twins permute the examples within
each batch. Both are the same mathematics.

With an order of its own at each pixel, {unseeded_changed:.1%} of the pixels change their outcome, and {unseeded_islands} have an
outcome that none of their four neighbours shares, against {seeded_islands} with one order for all.

## The predictability horizon

The horizon is the finest relative step of a learning rate that moves the outcome by more than rounding does; runs whose
rates are closer end as chance has it. It is measured at lr_attn = {point[lr_attn]:.4f}, lr_rest = {point[lr_rest]:g}, on the boundary.
Twins are runs that differ in rounding alone; the last columns say how fast their losses part.

| precision | finest step of lr_attn that {n_steps} steps resolve | 95 % interval | twins part by | apart by 1e-3 at step |
|---|---|---|---|---|
{horizons}

Pixels of the map are {pixel:.0%} apart, {verdict_pixel}.
Runs of up to about {resolved:.0f} training steps resolve less than 0.01 % of the rate in float32. When twins have parted, the
horizon jumps to percents, in either precision. More digits move the jump to later; they do not lower what comes after it.

## The zoom ladder

Windows of 10 × 10 pixels around that point, two rounding twins each. The pixel is given as a share of the rate.

| pixel | twins disagree | neighbours disagree | converged | share between blocks, over chance | p |
|---|---|---|---|---|---|
{ladder}

Twins of a pixel are the same experiment. Where they disagree as often as neighbours, the picture shows rounding, however
deep the zoom and however reproducible the picture. The last columns ask whether blocks of 2 × 2 pixels differ in their share
of converged runs by more than draws of one coin do (ratio of variances; permutation test of each window's first twin).

## Is the boundary fractal?

At {fine} × {fine} pixels, every one trained, with a rounding twin of the whole map as its replicate, the verdict is
**{dimension[verdict]}**: {dimension[reason]}.
{dimension_numbers} A map of 32 × 32 pixels is below the least size
(64) that `fractal_dimension` answers for, and {fine} pixels give it few octaves: the verdict says what this map can show, not
what finer maps of shorter runs would.
"""  # noqa: E501


def numbers(found: dict[str, Any], *, cut: float, point: dict[str, float]) -> dict[str, Any]:
    """What the page says, as JSON values."""
    import warnings

    runs, unseeded, ladder, verdict = (found[k] for k in ("map", "unseeded", "ladder", "dimension"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        audit = tr.threshold_audit(runs, cut=cut)
    labels = [m["status"].values == tr.Status.CONVERGED for m in (runs, unseeded)]
    resolution = tr.axis_resolution(_grid(runs), "float32", horizons={"lr_attn": found["horizon"]["float32"]})
    shares = tr.rule_sensitivity(runs, rules={}, cuts=[cut - 0.005, cut + 0.005]).converged_share
    return {
        "cut": cut,
        "point": point,
        "n_steps": found["horizon"]["float32"].n_steps,
        "converged": float(labels[0].mean()),
        "audit": repr(audit),
        "distinct": {name: found.distinct for name, found in resolution.items()},
        "replicates": found["flips"]["rounding"].status.shape[1] - 1,
        "flips": {
            kind: {
                "pixels": [int(f.at_boundary.sum()), int((~f.at_boundary).sum())],
                **{k: getattr(f, k) for k in ("near", "near_interval", "away", "away_interval")},
            }
            for kind, f in found["flips"].items()
        },
        "cut_moves": float(np.diff(shares)[0]),
        "unseeded_changed": float((labels[0] != labels[1]).mean()),
        "islands": [islands(a) for a in labels],
        "pixel": resolution["lr_attn"].pixel,
        "below_horizon": resolution["lr_attn"].below_horizon,
        "horizons": {
            dtype: {
                "step": h.step,
                "interval": list(h.interval),
                "rate": h.growth.rate,
                "rate_stderr": h.growth.stderr,
                "parted": h.growth.parted,
                "lengths": h.lengths.tolist(),
                "by_length": [None if np.isinf(s) else s for s in h.by_length],
            }
            for dtype, h in found["horizon"].items()
        },
        "ladder": [
            {name: float(ladder[name][i]) for name in ladder if name != "status"} | _structure(ladder, i)
            for i in range(ladder.sizes["width"])
        ],
        "dimension": {
            name: _plain(getattr(verdict, name))
            for name in ("verdict", "reason", "value", "interval", "flip_rate", "neighbour_rate", "finest")
        },
        "fine": found["fine"],
        "budget": found["budget"],
    }


def _structure(ladder, i: int) -> dict[str, float]:
    """Test of a window's first twin for structure."""
    status = ladder["status"].isel(width=i, rounding_seed=0)
    tested = tr.share_variation(status.to_dataset(name="status"), block=2)
    return {"block_ratio": _plain(tested.ratio), "block_p": tested.p_value}


def _plain(value):
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _grid(runs) -> tr.Grid:
    return tr.Grid(**{str(d): tr.Axis(runs[d].values, "log") for d in runs["status"].dims})


def islands(labels: np.ndarray) -> int:
    """Pixels inside the map that differ from all four neighbours."""
    inner = labels[1:-1, 1:-1]
    around = (labels[:-2, 1:-1], labels[2:, 1:-1], labels[1:-1, :-2], labels[1:-1, 2:])
    return int(np.all([inner != other for other in around], axis=0).sum())


def text(n: dict[str, Any]) -> str:
    """The page from the numbers."""

    def rate(share, interval):
        return f"{share:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"

    flips = [
        f"| {kind} | {rate(f['near'], f['near_interval'])} | {rate(f['away'], f['away_interval'])} |"
        for kind, f in n["flips"].items()
    ]
    horizons = [
        f"| {dtype} | {_percent(h['step'])} | {_percent(h['interval'][0])} to {_percent(h['interval'][1])} "
        f"| e^({h['rate']:.2f} ± {h['rate_stderr']:.2f}) a step | {h['parted']:.0f} |"
        for dtype, h in n["horizons"].items()
    ]
    ladder = [
        f"| {_percent(r['pixel'])} | {rate(r['flips'], (r['flips_low'], r['flips_high']))} "
        f"| {rate(r['neighbours'], (r['neighbours_low'], r['neighbours_high']))} | {r['converged']:.0%} "
        f"| {'–' if r['block_ratio'] is None else format(r['block_ratio'], '.1f')} | {r['block_p']:.3f} |"
        for r in n["ladder"]
    ]
    h = n["horizons"]["float32"]
    short = [t for t, s in zip(h["lengths"], h["by_length"], strict=True) if s is not None and s < 1e-4]
    d = n["dimension"]
    where = "finer than the horizon: single outcomes there are chance" if n["below_horizon"] else (
        "coarser than the horizon: away from the boundary, outcomes are those of the learning rates"
    )  # fmt: skip
    value = ""
    if d["value"] is not None:
        value = (
            f"The dimension reads {d['value']:.2f} (95 % interval {d['interval'][0]:.2f} to {d['interval'][1]:.2f}); "
            f"{d['neighbour_rate']:.2%} of neighbours differ."
        )
    return TEXT.format(
        **{k: v for k, v in n.items() if k not in ("flips", "horizons", "ladder", "audit")},
        audit=n["audit"][0].upper() + n["audit"][1:],
        rules=f"Moving it by 0.01 moves {n['cut_moves']:.1%} of all pixels over the boundary.",
        flips="\n".join(flips),
        horizons="\n".join(horizons),
        ladder="\n".join(ladder),
        unseeded_islands=n["islands"][1],
        seeded_islands=n["islands"][0],
        verdict_pixel=where,
        resolved=max(short, default=0),
        dimension_numbers=value,
    )


def _percent(share: float | None) -> str:
    return "none" if share is None else f"{100 * share:.2g} %"


def draw(found: dict[str, Any], *, cut: float, folder: Path) -> None:
    """The figure of the page, and the small one of the README."""
    import warnings

    runs, horizons = found["map"], found["horizon"]
    pixel = float(np.log(runs["lr_attn"][1] / runs["lr_attn"][0]))
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.6), layout="constrained")
    for ax, m, title in (
        (axes[0, 0], runs, "one order of the data for all pixels"),
        (axes[0, 1], found["unseeded"], "an order of its own at each pixel"),
    ):
        plot.trainability(m, ax=ax)
        ax.set_title(title)
    plot.flip_rates(found["flips"], ax=axes[0, 2])
    axes[0, 2].set_title(
        f"replicates of a pixel ({found['flips']['rounding'].status.shape[1] - 1} of each kind)"
    )
    plot.horizon_by_length(horizons, pixel=pixel, ax=axes[1, 0])
    axes[1, 0].set_title("the predictability horizon")
    plot.ladder(found["ladder"], horizon=horizons["float32"], ax=axes[1, 1])
    axes[1, 1].set_title("zooming in: pixels become tosses of a coin")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plot.cutoff(tr.threshold_audit(runs, cut=cut), ax=axes[1, 2])
    axes[1, 2].set_title("what the cut-off cuts")
    figure.legend(handles=plot.status_legend(lines=False)[:2], loc="outside lower center", ncols=2)
    plot.save(figure, folder / "transformer-controls.png", dpi=110)

    figure, ax = plt.subplots(figsize=(4.6, 4.0), layout="constrained")
    plot.trainability(runs, ax=ax)
    figure.legend(
        handles=plot.status_legend(lines=False)[:2], loc="outside lower center", ncols=2, fontsize=8
    )
    plot.save(figure, folder / "transformer-map.png", dpi=110)
