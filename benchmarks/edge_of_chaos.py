"""Real models on both sides of the edge of chaos, and deep ones before and after they are made critical.

    python benchmarks/edge_of_chaos.py edge       # token similarity along the depth, theory and measurement
    python benchmarks/edge_of_chaos.py profiles   # tokens and gradients of three architectures, before and after
    python benchmarks/edge_of_chaos.py training   # learning curves of 64 layers, before and after

Prints the numbers and writes both-sides-of-the-edge.png and edge-of-chaos.png (the same models on the phase
diagram), critical-for-64-blocks.png and training-TransformerEncoder.png to --out (docs/figures). Minutes each on a
free core.
"""

import argparse
import math
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.models import encoder, hugging_face, ids

import trainability as tr
from trainability import plot

N_TOKENS, WORDS = 12, 16
LEARNING_RATES = {1e-3: "-", 1e-4: ":"}
COLORS = {"as built": "#d7301f", "critical": "#08519c"}


class Reader(nn.Module):
    """Answers every position of a sequence of words with logits."""

    def __init__(self, name, *, layers, width):
        super().__init__()
        self.head = nn.Linear(width, WORDS)
        if name == "TransformerEncoder":
            self.body = encoder(d_model=width, n_layers=layers, copies=True)
            self.words, self.positions = nn.Embedding(WORDS, width), nn.Embedding(N_TOKENS, width)
        else:  # HuggingFace draws weights of standard deviation 0.02 at any width; this keeps the gains of width 768
            std = 0.02 * math.sqrt(768 / width)
            self.body = hugging_face(name, d_model=width, n_layers=layers, initializer_range=std)
        for module in self.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def forward(self, words):
        if hasattr(self, "words"):
            return self.head(self.body(self.words(words) + self.positions.weight))
        return self.head(self.body(words, use_cache=False).last_hidden_state)


def edge(options):
    """Token similarity of an encoder with tanh below, at and above the edge, from two entering similarities."""
    width, layers = 256, 48
    init = tr.Initialization(
        n_tokens=N_TOKENS,
        alpha_attn=0.4,
        alpha_mlp=0.9,
        sigma_attn=1.0,
        sigma_mlp=1.0,
        residual="one",
        norm="post",
    )
    at_edge = float(tr.critical_line(init, "sigma_mlp").sigma_mlp)
    model = encoder(d_model=width, n_layers=layers, activation=torch.tanh)
    noise = torch.randn(4, width, N_TOKENS + 1, generator=torch.Generator().manual_seed(1))
    common, own = (math.sqrt(width) * torch.linalg.qr(noise).Q.mT).split([1, N_TOKENS], dim=1)
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, layout="constrained")
    models = {}
    for ax, ratio in zip(axes, (0.5, 1.0, 2.0), strict=True):
        there = init.with_values(sigma_mlp=ratio * at_edge)

        def draw(m, there=there):
            tr.apply_initialization(m, there, seed=torch.initial_seed())

        measured = {}
        for rho in (0.0, 0.95):
            tokens = math.sqrt(rho) * common + math.sqrt(1 - rho) * own
            measured[f"enters at {rho:g}"] = tr.measure_exponents(
                model, tokens, n_seeds=options.draws, reinit=draw
            )
        models[f"{ratio:g} x edge"] = measured["enters at 0"]
        predicted = {label: tr.predict_profile(found) for label, found in measured.items()}
        plot.token_similarity(measured, predicted=predicted, ax=ax)
        angle = measured["enters at 0"].predicted.angle
        ax.set_title(rf"$\sigma_\mathrm{{mlp}}$ = {ratio:g} x edge: angle exponent {angle:+.3f}", fontsize=10)
        print(f"sigma_mlp = {ratio:g} x {at_edge:.3f}: theory {measured['enters at 0'].predicted}")
        for label, found in measured.items():
            similarity = found.profile.similarity
            gap = abs(similarity.mean("draw") - predicted[label].similarity)
            error = similarity.std("draw", ddof=1) / math.sqrt(options.draws)
            at = int(gap.values.argmax())
            print(
                f"  {label}: {found}; similarity off by at most {gap[at]:.3f} ± {error[at]:.3f}", flush=True
            )
    for ax in axes[1:]:
        ax.set_ylabel("")
        ax.get_legend().remove()
    plot.save(figure, options.out / "both-sides-of-the-edge.png")
    wide = {"sigma_mlp": np.linspace(0.5, 5, 200), "alpha_attn": np.linspace(0.02, 0.8, 200)}
    figure, ax = plt.subplots(figsize=(6, 4.8), layout="constrained")
    plot.phase_diagram(tr.phase_diagram(init, **wide), models=models, ax=ax)
    plot.save(figure, options.out / "edge-of-chaos.png")


def profiles(options):
    """Tokens and gradients of three architectures, as built and drawn at their critical initialization."""
    names = ("TransformerEncoder", "GPT2Model", "LlamaModel")
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharex=True, layout="constrained")
    for column, name in zip(axes.T, names, strict=True):
        tokens = ids(4, N_TOKENS, WORDS)
        model, target, built = _built(name, tokens, layers=options.layers, width=64)

        def draw(m, target=target, tokens=tokens):
            tr.apply_initialization(m, target.initialization, tokens=tokens, seed=torch.initial_seed())

        tuned = tr.measure_exponents(model, tokens, n_seeds=options.draws, reinit=draw)
        models = dict(zip(COLORS, (built, tuned), strict=True))
        print(f"{name}, {options.layers} blocks: {target}")
        for label, found in models.items():
            angle, gradient = (
                f"{options.layers * value:+.2f} ± {options.layers * stderr:.2f}"
                for value, stderr in (
                    (found.angle, found.angle_stderr),
                    (found.gradient, found.gradient_stderr),
                )
            )
            print(
                f"  {label}: angle x {options.layers} = {angle}, gradient x {options.layers} = {gradient}",
                flush=True,
            )
        predicted = {label: tr.predict_profile(found) for label, found in models.items()}
        plot.token_similarity(models, predicted=predicted, ax=column[0])
        plot.gradient_norms(models, predicted=predicted, ax=column[1])
        copied = " (copies of one layer)" if built.remarks else ""
        column[0].set(title=f"{name}{copied}", xlabel="")
    for ax in axes.flat[1:]:
        ax.get_legend().remove()
    plot.save(figure, options.out / f"critical-for-{options.layers}-blocks.png")


def training(options):
    """Learning curves of an architecture as built and at its critical initialization, at two learning rates."""
    tokens = ids(4, N_TOKENS, WORDS)
    figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    for label, color in COLORS.items():
        for rate, style in LEARNING_RATES.items():
            model, target, _ = _built(options.architecture, tokens, layers=options.layers, width=32)
            if label == "critical":
                tr.apply_initialization(model, target.initialization, tokens=tokens)
            losses = _train(model, rate=rate, steps=options.steps)
            first, last = np.mean(losses[:10]), np.mean(losses[-10:])
            print(
                f"{options.architecture}, {label}, rate {rate:g}: loss {first:.2f} -> {last:.3f}", flush=True
            )
            smooth = np.convolve(losses, np.full(10, 0.1), mode="valid")
            ax.plot(np.arange(len(smooth)) + 10, smooth, style, color=color, label=f"{label}, rate {rate:g}")
    ax.axhline(math.log(WORDS), color="grey", lw=0.8)
    ax.set(xlabel="step of Adam", ylabel="loss, mean of 10 steps (grey: chance)", ylim=(0, 3.2))
    ax.set_title(f"{options.architecture}, {options.layers} blocks", fontsize=10)
    ax.legend(frameon=False)
    plot.save(figure, options.out / f"training-{options.architecture}.png")


def _built(name, tokens, *, layers, width):
    """A model as its library builds it, what would make it critical, and its exponents."""
    torch.manual_seed(0)
    model = Reader(name, layers=layers, width=width)
    built = tr.measure_exponents(model, tokens)
    return model, tr.critical_initialization(built.theory, depth=layers), built


def _train(model, *, rate, steps):
    """Losses of Adam on naming, at each position, a fixed function of the word that stands there."""
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    losses = []
    for step in range(steps):
        words = ids(16, N_TOKENS, WORDS, seed=step)
        loss = nn.functional.cross_entropy(model(words).flatten(0, 1), (5 * words.flatten() + 3) % WORDS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("edge", "profiles", "training"))
    parser.add_argument("--out", type=Path, default=Path("docs/figures"))
    parser.add_argument("--layers", type=int, default=64, help="blocks of the models that are made critical")
    parser.add_argument("--draws", type=int, default=8, help="weight draws behind means and standard errors")
    parser.add_argument("--steps", type=int, default=300, help="steps of training")
    parser.add_argument("--architecture", default="TransformerEncoder", help="or GPT2Model, LlamaModel")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    {"edge": edge, "profiles": profiles, "training": training}[options.what](options)


if __name__ == "__main__":
    main()
