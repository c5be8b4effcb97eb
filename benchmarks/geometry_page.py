"""The page on the geometry map: its tables, its words. Written by `geometry_map.py`."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import pages
import trainability as tr
from trainability._question import share
from trainability._ranking import auc, rank_correlation
from trainability._study_tables import (
    baseline_table,
    best_trivial,
    difference_table,
    distance_table,
    with_interval,
)
from trainability._threshold_maps import best_threshold
from trainability.transformer_predictions import (
    EFOLDS,
    MARGIN,
    ExponentComparison,
    block_side,
    learned_status,
)

# Other margins of the rule, in nats, and other limits of the prediction, to see what hangs on them.
MARGINS, LIMITS = (0.02, 0.2, 0.6), (3.0, 12.0)

# Rules read off the map of 12 blocks: the best cut of the gradient less the angle exponent, times the depth, and that
# of alpha_attn. Fixed here before networks of other depths were trained.
SMOOTHED, STRENGTH = 2.2, 0.49

# The control in which exponents are compared once more.
SLOW = "a learning rate of 0.003"


def text(
    found: ExponentComparison,
    slow: ExponentComparison,
    maps: dict[str, xr.Dataset],
    measured: xr.Dataset,
    trainer: Any,
) -> str:
    """The page."""
    by, loss = found.by["both exponents"], found.observed["test_loss"].values
    tables = {
        "by": _by(found),
        "distances": distance_table(found.by),
        "rules": baseline_table(found.rules),
        "orders": _orders(found, trainer),
        "slow_orders": _orders(slow, trainer),
        "luck": _luck(found, maps, trainer),
        "depths": _depths(maps, trainer),
        "sensitivity": _sensitivity(maps["map"], trainer),
        "measured": _measured(found, measured),
    }
    return TEXT.format(
        **{name: _markdown(table) for name, table in tables.items()},
        pixels=loss.size,
        parameters=trainer.n_parameters,
        n_steps=trainer.n_steps,
        efolds=EFOLDS,
        margin=MARGIN,
        blind=trainer.task.blind_loss,
        learned=learns(found.observed).mean(),
        predicted=learns(found.predicted).mean(),
        agreement=with_interval((by.agreement, by.agreement_interval), ".1%"),
        best_trivial=best_trivial(found.rules),
        null=repr(found.null),
        best=_best(found, trainer),
        slow_pixels=slow.observed["status"].size,
        slow_learned=learns(slow.observed).mean(),
        slow_lower=(slow.observed["test_loss"] < found.observed["test_loss"]).mean().item(),
        slow_agreement=with_interval(
            (slow.by["both exponents"].agreement, slow.by["both exponents"].agreement_interval), ".1%"
        ),
        slow_trivial=best_trivial(slow.rules),
        slow_null=repr(slow.null),
        slow_best=_best(slow, trainer),
        n_measured=measured["angle"].size,
        smallest=by.smallest_disagreement,
    )


def _markdown(table: pd.DataFrame) -> str:
    return pages.table(table.columns, table.astype(str).values)


def learns(runs: xr.Dataset) -> np.ndarray:
    """Where runs learn from their input, or are said to."""
    return runs["status"].values == tr.Status.CONVERGED


def _by(found: ExponentComparison) -> pd.DataFrame:
    rows = []
    for name, one in found.by.items():
        (both, only_said), (only_seen, neither) = one.confusion.values
        rows.append(
            {
                "predicted from": name,
                "both learn": both,
                "neither": neither,
                "predicted only": only_said,
                "seen only": only_seen,
                "agreement": with_interval((one.agreement, one.agreement_interval), ".1%"),
                "balanced accuracy": with_interval(
                    (one.balanced_accuracy, one.balanced_accuracy_interval), ".1%"
                ),
            }
        )
    return pd.DataFrame(rows)


def _orders(found: ExponentComparison, trainer: Any) -> pd.DataFrame:
    """How well each number orders the losses, and tells runs that did not learn."""
    loss, lost = found.observed["test_loss"].values, ~learns(found.observed)
    side = block_side(loss.shape)
    rows = []
    for name, values in numbers(found, trainer).items():
        rank, told = rank_correlation(values, loss, side), auc(values, lost, side)
        # A number that is small where nothing is learned orders as well the other way round.
        sign = -1 if told[0] < 0.5 else 1
        cut, agreement = best_threshold(sign * values, lost)
        rows.append(
            {
                "number": name,
                "rank correlation with the loss": with_interval(rank, "+.2f"),
                "area under the ROC curve": with_interval(told),
                "best cut, fitted": f"learns {'below' if sign > 0 else 'above'} {sign * cut:+.2f}",
                "agrees on": f"{agreement:.1%}",
            }
        )
    return pd.DataFrame(rows)


def numbers(found: ExponentComparison, trainer: Any) -> dict[str, np.ndarray]:
    """What might order runs; exponents times the depth."""
    angle, gradient = (trainer.n_layers * found.predicted[n].values for n in ("angle", "gradient"))
    alpha = found.predicted["alpha_attn"].values
    return {
        "size of the angle exponent": abs(angle),
        "size of the gradient exponent": abs(gradient),
        "larger of both sizes": np.maximum(abs(angle), abs(gradient)),
        "angle exponent, signed": angle,
        "gradient exponent, signed": gradient,
        "gradient less angle exponent": gradient - angle,
        "alpha_attn alone": np.broadcast_to(alpha[:, None], angle.shape),
    }


def _luck(found: ExponentComparison, maps: dict[str, xr.Dataset], trainer: Any) -> pd.DataFrame:
    """Runs with one thing changed against the map, on the pixels that they have."""
    rows = []
    for name, twin in maps.items():
        if name == "map" or name.endswith(" blocks"):
            continue
        here = {dim: twin[dim] for dim in twin["status"].dims}
        seen = learns(found.observed.sel(here))
        again = learned_status(twin, trainer.task).values == tr.Status.CONVERGED
        everywhere = np.ones(seen.shape, bool)
        loss = found.observed["test_loss"].sel(here).values
        rows.append(
            {
                "runs with": name,
                "pixels": seen.size,
                "learned in the map": f"{seen.mean():.0%}",
                "learned here": f"{again.mean():.0%}",
                "learned here alone": f"{(again & ~seen).mean():.0%}",
                "end alike": with_interval(share(again == seen, everywhere)[:2], ".1%"),
                "rank correlation of losses": with_interval(
                    rank_correlation(loss, twin["test_loss"].values, block_side(loss.shape))
                ),
            }
        )
    return pd.DataFrame(rows)


def _depths(maps: dict[str, xr.Dataset], trainer: Any) -> pd.DataFrame:
    """The rules read off the map, at other depths; and the best cuts there, fitted."""
    rows = []
    for name, runs in maps.items():
        if not name.endswith(" blocks"):
            continue
        deep = replace(trainer, n_layers=int(name.split()[0]))
        found = tr.compare_exponents(runs, deep)
        order = numbers(found, deep)
        seen, everywhere = learns(found.observed), np.ones(found.observed["status"].shape, bool)
        smoothed, strength = order["gradient less angle exponent"], order["alpha_attn alone"]
        rules = {
            f"attention smooths less than {SMOOTHED:g} e-folds": smoothed < SMOOTHED,
            f"alpha_attn below {STRENGTH:g}": strength < STRENGTH,
            f"neither exponent beyond {EFOLDS:g} e-folds": learns(found.predicted),
            "all learn": everywhere,
        }
        rows += [
            {
                "depth": name,
                "pixels": seen.size,
                "learned": f"{seen.mean():.0%}",
                "rule": rule,
                "agreement": with_interval(share(says == seen, everywhere)[:2], ".1%"),
            }
            for rule, says in rules.items()
        ]
        rows[-4]["best cut there"] = f"{best_threshold(smoothed, ~seen)[0]:.2f}"
        rows[-3]["best cut there"] = f"{best_threshold(strength, ~seen)[0]:.2f}"
    return pd.DataFrame(rows).fillna("–")


def _best(found: ExponentComparison, trainer: Any) -> str:
    """Where the tenth of the runs with the least loss lies."""
    loss = found.observed["test_loss"].values
    best = loss <= np.quantile(loss, 0.1)
    parts = []
    for name in ("angle", "gradient"):
        low, middle, high = np.quantile(trainer.n_layers * found.predicted[name].values[best], (0, 0.5, 1))
        parts.append(f"{name} exponents × depth from {low:+.1f} to {high:+.1f} (median {middle:+.1f})")
    return " and ".join(parts)


def _sensitivity(runs: xr.Dataset, trainer: Any) -> pd.DataFrame:
    rows = []
    for margin, efolds in (
        (MARGIN, EFOLDS),
        *((m, EFOLDS) for m in MARGINS),
        *((MARGIN, e) for e in LIMITS),
    ):
        found = tr.compare_exponents(runs, trainer, margin=margin, efolds=efolds).by["both exponents"]
        rows.append(
            {
                "margin (nats)": f"{margin:g}",
                "limit (e-folds)": f"{efolds:g}",
                "learned": int(found.confusion.sel(observed="converged").sum()),
                "predicted to learn": int(found.confusion.sel(predicted="converged").sum()),
                "agreement": with_interval((found.agreement, found.agreement_interval), ".1%"),
                "balanced accuracy": f"{found.balanced_accuracy:.1%}",
            }
        )
    return pd.DataFrame(rows)


def _measured(found: ExponentComparison, measured: xr.Dataset) -> pd.DataFrame:
    here = found.predicted.sel({dim: measured[dim] for dim in measured["angle"].dims})
    predicted = {name: here[name].values for name in ("angle", "gradient")}
    return difference_table(measured, predicted, unit=", nats per block")


TEXT = """# Do two exponents at initialization say where a deep transformer trains?

In short: **which networks learn** is not told by a limit on both exponents, at either of two learning rates; how much attention
averages away through the stack tells it best. **How well they learn** agrees better with the theory, at the lower of the rates:
the loss is least where both exponents nearly vanish, and rises with the larger of them. At the higher rate it does not.

Both exponents are growth rates per block of a network as it is drawn. The **angle exponent** is that of 1 - cos
between nearly equal tokens on their way up: negative, tokens merge (*ordered*); positive, they are driven apart (*chaotic*).
The **gradient exponent** is that of the gradient's squared norm on its way down. A change by *n* e-folds is one by a factor of
eⁿ. Closed forms are in [theory/22](../theory/22-angle-exponent.md) and [theory/23](../theory/23-gradient-exponent.md).

A causal decoder of 12 blocks and 24 dimensions ({parameters} parameters) learns a synthetic text with Adam, once for each of
{pixels} pixels: {n_steps} steps at a learning rate of 0.01, batches of 16 windows of 8 characters. Axes are the residual strength
of attention (`alpha_attn`) and the gain of the MLP's first layer (`sigma_mlp`); the other scales are those of
`Initialization(n_tokens=8, alpha_mlp=0.7, sigma_attn=1, causal=True, activation="tanh")`. Weights come from one seed and one
order of the data serves the whole map.

```
trainability map transformer out/geometry-map/map.zarr --preset geometry --picture map.png
```

The map takes some ten minutes of one core, can be interrupted at any time, and ends with the comparison below; the picture fills
in meanwhile. `python benchmarks/geometry_map.py` goes on with it, adds the controls, and writes this page and its figure.

![The map at two learning rates, the prediction, and the losses over both exponents](figures/geometry-map.png)

*Left: held-out loss at two learning rates; yellow: no better than a guess from the frequencies of the characters; red: where
theory says that an exponent vanishes. Right, above: prediction and outcome; black: where attention has smoothed by 2.2 e-folds
(see below), fitted to this map afterwards. Right, below: the runs at the lower rate over both exponents, times the depth, on
axes that are linear within an e-fold of zero and logarithmic beyond. Dotted: the prediction's limit.*

## What was fixed beforehand

- **Prediction** (`predict_transformer`): a network trains where neither exponent, times the depth, is beyond {efolds:g} e-folds,
  the limit found for random tanh networks without skips (arXiv:1611.01232). The exponents are those of `phase_diagram` on the
  same axes, means over the 12 blocks.
- **Outcome**: a run has learned from its input if its held-out loss is more than {margin:g} nats below {blind:.3f}, that of a
  guess from the frequencies of the characters. {learned:.0%} of the runs have; {predicted:.0%} were predicted to.

## The prediction fails

At the rate of 0.01 the prediction agrees on {agreement} of the pixels, no better than chance;
{best_trivial}.

{by}

From the observed boundary to the predicted one:

{distances}

Trivial rules know the axes and this map: the commoner outcome; the best cut along one axis; logistic regression on the axes,
without and with their squares and products. All but the first are fitted to some blocks of the map and asked about others.

{rules}

Null of shifts, one map moved against the other in every way:
{null}.
Power: a disagreement on {smallest:.0%} of the pixels, clustered as here, would have shown with a probability of 95 %.

It fails in both directions. Networks far in the chaotic phase learn where attention is weak, up to the top of the map. Networks
between both zero lines, which are nearly critical by either exponent, learn nothing where attention is strong.

## What orders the losses

Exponents are times the depth; intervals resample blocks of 8 × 8 pixels; cuts are fitted to this map.

{orders}

Neither exponent's size orders the losses of this map; that the final loss is least where both vanish (arXiv:2403.02579) is not what
it shows. The best tenth of the runs has
{best}.
The angle exponent with its sign does order them, the more ordered the worse, and between sigma_mlp = 1 and 2 the boundary
follows its zero line.

Nearly all of the order is in the **difference** of the exponents. At nearly equal tokens the MLP adds the same to both, so that
gradient less angle exponent is what attention alone takes from the differences between tokens: a block leaves the share
e^-(gradient - angle) of their norm². This is meant by *smoothing*: over the depth, by so many e-folds. On this map learning ends
where attention has smoothed by about two e-folds, whether or not the MLPs blow the differences up again; that is little more
than a cut on alpha_attn, but says something of other depths. The rule was read off this map and fixed, and then asked of
networks of 6 and 24 blocks:

{depths}

It is **not confirmed**: as fixed it agrees no better than the commoner outcome does, at either depth. The boundary moves the way it
says, to stronger attention in shallower networks and to weaker in deeper ones, but farther (last column).

On one plane both exponents are coordinates, and every loss is some function of them. What this map can contradict is a statement
of where the loss is small, as the limit of {efolds:g} e-folds, not that both together predict it; the study of the exponents asks that
over four hyperparameters (`trainability validate --study exponents`).

## At a lower learning rate

The rate of 0.01 was that of the study of the exponents. After this map had been seen the plane was trained once more at 0.003,
on {slow_pixels} of its pixels. Then {slow_learned:.0%} of the runs learn from their input, and {slow_lower:.0%} of the losses are lower.
The prediction agrees on {slow_agreement};
{slow_trivial}.
Null of shifts: {slow_null}.

{slow_orders}

The order of the losses is now much more what arXiv:2403.02579 says: they rise with the larger of both exponents' sizes, and the
best tenth has
{slow_best}.
The difference orders them better still. Which runs learn at all is still told by the difference of the exponents, at a higher
level of it, and not by a limit on both: chaotic networks learn where attention is weak.

## What is luck, and what a network passes on

Runs were repeated with one thing changed, on every second or fourth pixel along each axis: with other weights; with the same
weights and the examples of each batch in another order, which is the same mathematics rounded otherwise; at the lower learning
rate; and with the head alone trained, over blocks and embeddings that stay as they were drawn. *Alone* means: not in the map.

{luck}

Other weights or another rounding change the outcome of one run in nine or fewer. A predictor that knows neither can hardly agree
on more than that, which the fitted cut of the difference does and the prediction does not.

The head alone learns from its input far into the chaotic phase, and as far in alpha_attn as the whole network does there. That is
why chaos does not hide the input: as long as tokens hardly mix, every character has a place of its own behind the blocks, however
random, which the head can learn; attention averages it away. At small gains, around alpha_attn = 0.4, the head alone learns and
the whole network at 0.01 does not; at 0.003 it does. There the first map shows a failure of training, not of what is passed on.

## What hangs on the rule and the limit

{sensitivity}

## Exponents of the networks themselves

Of {n_measured} of the networks, on every eighth pixel along each axis, both exponents were measured on the weights that were trained.

{measured}

Theory is of infinite width and nearly equal tokens; networks of 24 dimensions lie below it by what the table says, about an e-fold
over the whole stack, in nearly the same order.

One width, one text and one number of steps: what is compared is how far equal, short budgets lead.
"""  # noqa: E501
