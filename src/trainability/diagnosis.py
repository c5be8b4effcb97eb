"""What a person needs to know of a model's initialization, in a few lines."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from .critical import CriticalInitialization, critical_initialization
from .measure import MeasuredExponents, measure_exponents

__all__ = ["Diagnosis", "diagnose"]

# Depth scales of twice the depth, a change by exp(1/2) through the model, count as critical. The proposed change
# aims at `critical_initialization`'s margin, twice that, because draws of finite width scatter about the prediction.
_CRITICAL = 2.0
# A proposal that leaves every scale within this of what it was is no change.
_UNCHANGED = 1e-9


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Diagnosis:
    """The answer of `diagnose`; printing it tells the story.

    Parameters
    ----------
    model : str
        Class of the model.
    measured : MeasuredExponents
    critical : CriticalInitialization or None
        The nearest initialization whose predicted depth scales are four times the depth; None where the
        architecture is not recognised. `apply_initialization(model, critical.initialization)` draws it.
    """

    model: str
    measured: MeasuredExponents
    critical: CriticalInitialization | None

    @property
    def is_critical(self) -> bool:
        """Whether both measured depth scales 1/|λ| are at least twice the depth."""
        return min(self.measured.depth_scales) >= _CRITICAL * self.measured.n_blocks

    def __repr__(self) -> str:
        m = self.measured
        fate = ("merge", "are driven apart")[m.angle > 0]
        growth = ("shrink", "grow")[m.gradient > 0]
        first, last = (m.profile.similarity.mean("draw").values[i] for i in (0, -1))
        gain = m.profile.log_gradient.mean("draw").values[0] / 2 / math.log(10)
        lines = [
            f"{self.model}, {m.n_blocks} blocks: {m.phase}",
            _line("angle", m.angle, m.angle_stderr, m, f"similar tokens {fate}"),
            _line("gradient", m.gradient, m.gradient_stderr, m, f"gradients {growth} towards the input"),
            f"  tokens    similarity {first:.2f} before the first block, {last:.2f} after the last; "
            f"gradient norm x {_power(gain)} from last to first",
        ]
        if m.predicted is None:
            lines.append(f"  theory    none: {m.theory}")
        else:
            lines.append(f"  theory    angle {m.predicted.angle:+.4f}, gradient {m.predicted.gradient:+.4f}")
        lines += [f"            {remark}" for remark in m.remarks]
        return "\n".join([*lines, f"  critical  {self._change()}"])

    def _change(self) -> str:
        if self.is_critical:
            return f"already: both depth scales exceed {_CRITICAL:g} x the depth"
        if self.critical is None or isinstance(self.measured.theory, str):
            return "weaker residual branches: only the theory's architectures can be tuned to a number"
        before, after = self.measured.theory, self.critical.initialization
        moved = max(abs(getattr(after, name) - getattr(before, name)) for name in self.critical.vary)
        if moved < _UNCHANGED:
            return "none: these scales are critical at infinite width, and this draw is off them by chance"
        change = ", ".join(
            f"{name} {getattr(before, name):.3g} -> {getattr(after, name):.3g}" for name in self.critical.vary
        )
        return f"{change}\n            (apply_initialization(model, diagnosis.critical.initialization))"


def diagnose(
    model: nn.Module,
    tokens: Any,
    *,
    blocks: str | Sequence[nn.Module] | None = None,
    n_seeds: int = 4,
    reinit: Callable[[nn.Module], Any] | None = None,
    seed: int = 0,
    vary: Sequence[str] = ("sigma_mlp", "alpha_attn", "alpha_mlp"),
) -> Diagnosis:
    """Tell whether a model's initialization is at the edge of chaos, and what would bring it there.

    Parameters
    ----------
    model, tokens, blocks, n_seeds, reinit, seed
        As for `measure_exponents`.
    vary : sequence of str, optional
        Hyperparameters that the proposed change may touch, as for `critical_initialization`.

    Returns
    -------
    Diagnosis
        Its text gives the phase, both exponents ± one standard error, their depth scales against the depth, what
        happens to the given tokens, the theory's prediction and the change that would make the model critical.

    Examples
    --------
    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> layer = nn.TransformerEncoderLayer(64, nhead=4, dim_feedforward=256, norm_first=True)
    >>> model = nn.TransformerEncoder(layer, num_layers=12, enable_nested_tensor=False)
    >>> diagnosis = diagnose(model, torch.randn(16, 4, 64))
    >>> print(diagnosis)  # doctest: +ELLIPSIS
    TransformerEncoder, 12 blocks: ordered, exploding
      angle     -0...
    """
    measured = measure_exponents(model, tokens, blocks=blocks, n_seeds=n_seeds, reinit=reinit, seed=seed)
    critical = None
    if not isinstance(measured.theory, str):
        critical = critical_initialization(
            measured.theory,
            vary=vary,
            depth=measured.n_blocks,
            q=1.0 if measured.theory.norm == "pre" else None,
        )
    return Diagnosis(model=type(model).__name__, measured=measured, critical=critical)


def _line(name: str, value: float, stderr: float, measured: MeasuredExponents, meaning: str) -> str:
    scale = 1 / abs(value) if value else math.inf
    return (
        f"  {name:<9} {value:+.4f} ± {stderr:.4f} nats per block; {meaning} by a factor e in {scale:.3g} blocks, "
        f"{scale / measured.n_blocks:.2g} x the depth"
    )


def _power(exponent: float) -> str:
    """Write 10**exponent, which may be beyond the floats."""
    return f"{10**exponent:.3g}" if abs(exponent) < 4 else f"1e{exponent:+.0f}"
