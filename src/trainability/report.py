"""The report of the studies: figures, Markdown, and one HTML file that needs nothing else."""

import base64
import html
import re
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from . import plot
from ._provenance import provenance
from .classification import thresholds, transverse_exponent
from .dynamics import orbit_diagram
from .grid import Grid, linear_axis
from .lyapunov import lyapunov_map
from .maps import product_map
from .outcomes import Outcome, basins
from .plot import save
from .study_product_map import LONGER, Panel, linear_transformer_study

# Effective steps of the phase portraits: one that converges, one with a 2-cycle, one chaotic.
PORTRAITS = (0.7, 1.15, 1.8)

_STYLE = """
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; color: #1c1c28; }
img { max-width: 100%; display: block; margin: 1rem auto; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: 0.3rem 0.8rem; border-bottom: 1px solid #ccc; text-align: left; }
code { background: #f2f2f5; padding: 0 0.2rem; }
"""


def demo(
    out: str | Path = "out/demo",
    *,
    pixels: int = 128,
    n_steps: int = 2000,
    workers: int = 2,
    progress: bool | Callable[[int, int], None] = False,
) -> str:
    """Run the main job: predict phase boundaries, train the maps, compare, and write a report.

    Parameters
    ----------
    out : path, optional
        Folder for figures, `report.md`, `report.html` and the stores, from which a second call continues.
    pixels, n_steps, workers, progress
        As in `linear_transformer_study`.

    Returns
    -------
    str
        The answer in a few lines.

    Raises
    ------
    OSError
        If `out` cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> print(demo(folder, pixels=8, n_steps=100, workers=1))  # doctest: +ELLIPSIS
    Predicted from the prompt and the initial weights alone, nothing fitted:
    ...
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"out={str(out)!r} cannot be written ({error}); choose another folder") from error
    panels = linear_transformer_study(
        pixels=pixels, n_steps=n_steps, stores=out / "maps", workers=workers, progress=progress
    )
    draw_diagram(out / "orbit-diagram.png")
    _draw_portraits(out / "phase-portraits.png")
    _draw_maps(panels, out / "predicted-and-trained.png")
    _draw_reduction(panels, out / "where-the-reduction-ends.png")
    answer = _answer(panels)
    text = _markdown(panels, answer)
    (out / "report.md").write_text(text, encoding="utf-8")
    (out / "report.html").write_text(_html(text, out), encoding="utf-8")
    return answer


def draw_diagram(path: str | Path, *, low: float = 0.2, high: float = 2.02, columns: int = 1800) -> None:
    """Draw the product map's orbit diagram over mu, with thresholds, and both exponents under it.

    Parameters
    ----------
    path : path
        Picture to write.
    low, high : float, optional
        Range of mu.
    columns : int, optional
        Values of mu.

    Examples
    --------
    >>> import tempfile
    >>> draw_diagram(tempfile.mkdtemp() + "/diagram.png", columns=60)
    """
    mu = linear_axis(low, high, columns).values
    start = [0.3, 0.31]
    diagram = orbit_diagram(product_map, "mu", mu, u0=start, n=3000, transient=4000)
    spectrum = lyapunov_map(product_map, {"mu": mu}, u0=start, n=12_800, transient=4000)
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(9, 6.5), height_ratios=(2, 1), sharex=True, layout="constrained"
    )
    plot.orbit_diagram(diagram, "a", bounds=(-2.1, 2.1), ax=top)
    plot.mark_thresholds(top)
    top.set_xlabel("")
    plot.exponents(spectrum, labels=(r"largest, $\lambda_1$", r"second, $\lambda_2$"), ax=bottom)
    bottom.set_ylim(-2.5, 1.25)
    bottom.axhline(np.log(3), color="grey", lw=0.7, ls=":")
    bottom.annotate(
        r"$\log 3$", (mu[0], np.log(3)), (3, -2), textcoords="offset points", va="top", color="grey"
    )
    plot.mark_thresholds(bottom, labels=False)
    save(figure, path)


def _draw_portraits(path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(11, 4.2), layout="constrained", sharey=True)
    # One pixel more along b, so that no centre lies on the saddle's line a = -b, which orbits never meet.
    plane = Grid(a=linear_axis(-3, 3, 360), b=linear_axis(-3, 3, 361))
    for mu, ax in zip(PORTRAITS, axes, strict=True):
        plot.phase_portrait(basins(product_map(mu), plane), mu, ax=ax)
        ax.label_outer()
    shown = (Outcome.CONVERGED, Outcome.CATAPULT, Outcome.CYCLE, Outcome.CHAOTIC, Outcome.DIVERGED)
    lines, _ = axes[0].get_legend_handles_labels()
    figure.legend(
        handles=[*plot.outcome_legend(shown), *lines], loc="outside lower center", ncols=4, frameon=False
    )
    save(figure, path)


def _draw_maps(panels: dict[str, Panel], path: Path) -> None:
    figure, axes = plt.subplots(2, 2, figsize=(9, 7.6), layout="constrained", sharex=True)
    for row, key in zip(axes, ("imbalance", "scale"), strict=True):
        panel = panels[key]
        plot.trainability(panel.predicted, predicted=panel.predicted, ax=row[0])
        plot.trainability(panel.observed, predicted=panel.predicted, ax=row[1])
        row[0].set_title("predicted" if key == "imbalance" else "")
        row[1].set_title("trained, predicted lines on top" if key == "imbalance" else "")
        for ax in row:
            ax.label_outer()
    figure.legend(handles=plot.status_legend(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


def _draw_reduction(panels: dict[str, Panel], path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(11, 4), layout="constrained", sharey=True)
    for ax, key in zip(axes, ("imbalance", "pair", "all"), strict=True):
        panel = panels[key]
        plot.trainability(panel.observed, predicted=panel.predicted, ax=ax)
        ax.set_title(f"{panel.title}\n{panel.diverged.agreement:.1%} as predicted", fontsize="medium")
        ax.label_outer()
    figure.legend(handles=plot.status_legend(), loc="outside lower center", ncols=5, frameon=False)
    save(figure, path)


def _answer(panels: dict[str, Panel]) -> str:
    lines = ["Predicted from the prompt and the initial weights alone, nothing fitted:"]
    for key, panel in panels.items():
        y = list(panel.predicted["status"].dims)[1]
        note = "" if key != "all" else "  (the reduction is not exact here)"
        lines.append(f"  {panel.title}, lr x {y}, {panel.predicted['status'].size} runs{note}")
        for question, found in (
            ("bounded or diverged", panel.diverged),
            ("converged or not", panel.converged),
        ):
            low, high = found.agreement_interval
            lines.append(
                f"    {question:20s} {found.agreement:8.2%} agree   95 % interval {low:.2%} to {high:.2%}"
            )
        if panel.diverged.boundary is not None:
            line = panel.diverged.boundary
            lines.append(
                f"    boundary             off by {line.median:.2f} px (median), {line.max:.2f} px (largest)"
            )
    return "\n".join(lines)


def _markdown(panels: dict[str, Panel], answer: str) -> str:
    rows = []
    for key, panel in panels.items():
        for question, found in (("diverged", panel.diverged), ("converged", panel.converged)):
            low, high = found.agreement_interval
            (both, only_predicted), (only_seen, neither) = found.confusion.values
            shares = f"{found.agreement:.2%}", f"{low:.2%} – {high:.2%}", f"{found.balanced_accuracy:.2%}"
            rows.append(_row([key, question, both, neither, only_predicted, only_seen, *shares]))
    distances = []
    for key, panel in panels.items():
        if (line := panel.diverged.boundary) is not None:
            largest = ", ".join(
                f"{plot.name(n)} {np.abs(off).max():.2g} {line.units[n]}".rstrip()
                for n, off in line.offsets.items()
            )
            quantiles = [f"{d:.2f}" for d in (line.median, line.q95, line.max)]
            distances.append(_row([key, *quantiles, largest]))
    first = next(iter(panels.values()))
    origin = provenance()
    header = ["map", "question", "both yes", "both no", "predicted yes, seen no", "predicted no, seen yes"]
    header += ["agreement", "95 % interval", "balanced accuracy"]
    return f"""# Does theory predict where a linear transformer trains?

One layer of linear self-attention is trained by gradient descent, with autograd on full weight matrices, once for
every pixel of four maps. The prediction uses the prompt, the learning rate and the initial weights, and no training:
the exact reduction gives the effective step μ and the start (a, b) of the product map; the run is bounded if
a² + b² − μab + μ² < 4 and |μ| < 2, and it converges if besides |μ| ≤ 1.

```
{answer}
```

![Predicted and trained maps](predicted-and-trained.png)

*Left: predicted. Right: trained, {first.trainer.n_steps} steps a run, with the predicted lines drawn on top.*

## Agreement

{_row(header)}
{_row(["---"] * len(header))}
{chr(10).join(rows)}

Intervals are Wilson's, with the number of pixels divided by a design effect, because neighbouring pixels err
together. Nothing is excluded.

Distance of the observed boundary between bounded and divergent runs from the predicted one, in pixels, and the
largest offset along each axis:

| map | median | 95 % | largest | largest offset along |
|---|---|---|---|---|
{chr(10).join(distances)}

An observed boundary is itself known to half a pixel.

## What disagrees, and why

{_disagreements(panels)}

## Where the reduction ends

![Three ways to train](where-the-reduction-ends.png)

*The reduction is exact for two factors on one prompt and for every weight on a sign-symmetrised pair of prompts.
With every weight trained on one prompt more channels are active and the prediction fails, as theory says it must.*

## The map behind it

![Orbit diagram](orbit-diagram.png)

*Last iterates of a against the effective step, and both Lyapunov exponents, from the start (0.3, 0.31). Dashed: the
exact thresholds {", ".join(f"{value:.4f}" for value in thresholds().values())}.*

![Phase portraits](phase-portraits.png)

*Every start by its outcome. Inside the invariant ellipse orbits stay bounded, outside they diverge; the ellipse
repels with exponents {", ".join(f"{transverse_exponent(mu):.4f} (μ = {mu})" for mu in PORTRAITS)} nats per step.*

## Provenance

trainability {origin["package_version"]}, commit {origin["commit"]}; prompt and weights from the seeds in
`trainability.studies`; double precision, CPU. Reproduce with `make demo`, or `trainability demo`.
"""


def _row(cells) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _disagreements(panels: dict[str, Panel]) -> str:
    lines = []
    for key, panel in panels.items():
        wrong = panel.converged.wrong
        count, lost = int(wrong.sum()), int(panel.diverged.wrong.sum())
        if panel.resolved is None:
            lines.append(
                f"- **{key}**: {lost} + {count} pixels; the reduction does not hold here (next section)."
            )
            continue
        text = f"- **{key}**: {lost} pixels on bounded or diverged, {count} on converged or not."
        if count:
            mu = panel.predicted["mu"].values[wrong.values]
            text += (
                f" Their effective steps lie between {mu.min():.3f} and {mu.max():.3f}. Near μ = 1, and wherever a "
                "run ends near a minimum of sharpness 2/η, convergence is slow, and a finite run does not show it. "
                f"With {LONGER} times as many steps {panel.resolved} of the {count} agree."
            )
        lines.append(text)
    return "\n".join(lines)


def _html(markdown: str, folder: Path) -> str:
    """Render Markdown to one self-contained page: pictures become data URIs."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark").enable("table").render(markdown)

    def inline(match: re.Match) -> str:
        data = base64.b64encode((folder / match[1]).read_bytes()).decode()
        return f'src="data:image/png;base64,{data}"'

    body = re.sub(r'src="([^":]+\.png)"', inline, body)
    title = html.escape(markdown.splitlines()[0].lstrip("# "))
    head = f'<meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}</body></html>\n'
