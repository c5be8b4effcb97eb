"""Decoder-only transformers, one a pixel, trained on sequences in ensembles."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ._transformer_ensembles import train_ensembles
from ._transformer_probes import TransformerProbes
from ._transformer_settings import SCALES
from .tasks import Task, synthetic_text, text_task

# Share of a run, at its end, that `tail_ratio` is the mean over: a twentieth, as in the reference.
TAIL = 0.05

_OBSERVABLES = {
    "first_loss": ("float64", "loss of the first batch, before the first step"),
    "final_loss": ("float64", "loss of the last batch, before the last step; inf if diverged"),
    "min_loss": ("float64", "least loss of the run, inf if none was finite"),
    "tail_ratio": ("float64", "mean of the last twentieth of the losses over the first, inf if diverged"),
    "diverged_step": ("int32", "first step with a loss that is not finite or above 1e6 x first, -1 if none"),
    "test_loss": ("float64", "mean loss over held-out windows after the last step, inf if not finite"),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Transformer(TransformerProbes):
    """Trainer of a transformer on sequences: one member of an ensemble for each pixel.

    A block is x' = k x + alpha_attn · attention(y), x'' = k' x' + alpha_mlp · MLP(y'), with y the stream after layer
    normalisation (norm="pre"), or the normalisation after each sum ("post"). Attention has no biases; the MLP, the
    layer norms and the output have. Weights are independent Gaussians as in `Initialization`: queries and
    keys of variance sigma_attn / d_model, values of sigma_value² / d_model, the MLP's of sigma_mlp² / d_model
    and sigma_out² / d_mlp, its first bias of sigma_bias²; the attention's output and the head of 1 / d_model;
    biases else 0.

    Parameters
    ----------
    task : Task
        From `text_task`, `copy_task`, `modular_task` or `regression_task`; by default the Sonnets, 16
        characters at a time.
    d_model, n_layers, n_heads, d_mlp : int
        `d_mlp` is 2 d_model by default.
    causal : bool
    norm : {"pre", "post", "none"}
    final_norm : bool, optional
        Normalise before the head; by default where norm="pre".
    residual : {"one", "sqrt", "normed"}
        The skip k: 1; √(1 - alpha²); √(1 - alpha²) on the normalised stream.
    activation : str
        One of relu, gelu, tanh, identity, silu, erf, leaky_relu.
    positions : bool
        Add sinusoids to the embeddings.
    embed_std : float, optional
        Of the embedding's entries; 1/√d_model by default.
    optimizer : {"adam", "adamw", "momentum", "sgd"}
        As `torch.optim` has them.
    grouping : {"kind", "attention"}
        Which parameters share a learning rate. "kind": attn, mlp, embed, norm, head. "attention": attn, which
        has the layer norm before the attention too, and rest.
    lr, lr_attn, … : float
        Learning rates: `lr`, and that of each group, which is `lr` where it is None.
    beta1, beta2, eps, momentum, weight_decay : float
    warmup : float
        Steps over which the learning rate grows linearly to its value; 0 for none.
    clip : float
        Norm that the gradient of all parameters is clipped to; 0 for none.
    batch_size : int
    seed : int
        Of the weights.
    order_seed : int
        Of the order in which windows are drawn: all of them once, without repetition, then again.
    rounding_seed : int
        If not -1, the examples within each batch are permuted: the same mathematics, summed in another order.
    alpha_attn, alpha_mlp, sigma_attn, sigma_mlp, sigma_value, sigma_out, sigma_bias : float
    init_scale : float
        Multiplies all initial matrices.
    n_steps : int
    n_records : int
        Losses of the run kept in the observable `trace`, evenly spread; 0 for no such observable.
    converged_below : float
        `status` takes a run for converged if its `tail_ratio` is below this.
    dtype : {"float32", "float64"}
    autocast : bool
        Take matrix products in bfloat16; parameters and the optimizer keep `dtype`.
    device : str
    engine : {"auto", "vector", "torch"}
        "vector" is compiled code for one processor core, with forward and backward written out; "torch" is batched
        matrix products and autograd, for every device and form, and slower. "auto" takes the first that works here.
        They round differently, and `settings` says which it was.
    members : int, optional
        Runs trained together; chosen from the sizes and the free memory by default. Changes no bit on a CPU.

    Raises
    ------
    ValueError
        If a name is unknown, a number not finite or out of its range, d_model is not a multiple of n_heads, the
        task cannot be asked of a model without causal mask, the device is absent or does not do bfloat16,
        or an ensemble does not fit into memory.

    Notes
    -----
    Hyperparameters, which may be axes of a grid, are those from `lr` to `init_scale` that the optimizer and
    the grouping have. A run whose loss is not finite, or above 1e6 times the first, has diverged and is frozen.

    Training forgets the last digits of its hyperparameters where it is chaotic: see the rounding twins.

    References
    ----------
    The architecture of `torkamandi`: arXiv:2501.04286. Scales and residual strengths: arXiv:2403.02579.

    Examples
    --------
    >>> trainer = Transformer.tiny(n_steps=20)
    >>> runs = trainer({"lr_attn": np.array([0.01, 0.1]), "lr_rest": np.array([0.01, 0.01])})
    >>> bool((runs["final_loss"] < runs["first_loss"]).all())
    True
    """

    PRESETS: ClassVar[tuple[str, ...]] = ("torkamandi", "tiny", "geometry")

    @classmethod
    def torkamandi(cls, task: Task | None = None, **options: Any) -> "Transformer":
        """The architecture and optimizer of arXiv:2501.04286: 129 V + 66,560 parameters for V symbols.

        Two learning rates, `lr_attn` for the attention with the layer norms before it and `lr_rest`. The text is
        the Sonnets unless another task is given, where the reference has a fifth of Shakespeare's works, and one
        epoch of it is about 4200 steps. Weights are Gaussian, not truncated Gaussian.

        Examples
        --------
        >>> trainer = Transformer.torkamandi()
        >>> trainer.n_parameters == 129 * trainer.task.n_inputs + 66_560
        True
        """
        preset = {"d_model": 64, "d_mlp": 128, "grouping": "attention", "batch_size": 256, "n_steps": 4200}
        task = text_task(window=64) if task is None else task
        return cls(**{**preset, "converged_below": 0.4, "task": task, **options})

    @classmethod
    def tiny(cls, task: Task | None = None, **options: Any) -> "Transformer":
        """A model of about 6000 parameters that learns a synthetic text in 300 steps.

        Examples
        --------
        >>> Transformer.tiny().groups
        ('attn', 'rest')
        """
        task = text_task(synthetic_text(), window=16) if task is None else task
        return cls(**{"task": task, "grouping": "attention", **options})

    @classmethod
    def geometry(cls, init: Any, task: Task | None = None, **options: Any) -> "Transformer":
        """The network whose exponents `predict_exponents` predicts from an `Initialization`.

        Parameters
        ----------
        init : Initialization
            Its strengths, scales, activation, heads, mask, residual and norm are taken over; its widths where it
            has any. n_tokens must be the window of the task.
        task : Task, optional
            By default the Sonnets, with as many characters as the initialization has tokens; only the last one is
            predicted where attention is not causal.
        **options
            Any other field.

        Raises
        ------
        ValueError
            If the MLP is gated, or the task's window is not n_tokens.

        Notes
        -----
        Tokens enter with mean square 1: embeddings of variance 1/2 plus sinusoids. Layer normalisation also
        removes the mean, which changes exponents by O(1/d_model).

        Examples
        --------
        >>> from trainability import Initialization
        >>> init = Initialization(n_tokens=16, alpha_attn=0.3, alpha_mlp=0.6, sigma_attn=1.0, sigma_mlp=2.0)
        >>> trainer = Transformer.geometry(init, d_model=32, n_layers=6)
        >>> trainer.sigma_mlp, trainer.residual, trainer.causal
        (2.0, 'sqrt', False)
        """
        if task is None:
            task = text_task(window=init.n_tokens, predict="all" if init.causal else "last")
        if task.window != init.n_tokens:
            raise ValueError(f"init has n_tokens={init.n_tokens}, but the task's window is {task.window}")
        names = (*SCALES[:-1], "activation", "n_heads", "causal", "residual", "norm")
        preset = {name: getattr(init, name) for name in names}
        preset |= {name: getattr(init, name) for name in ("d_model", "d_mlp") if getattr(init, name)}
        positions = options.get("positions", True)
        return cls(**{"task": task, **preset, "embed_std": 0.5**0.5 if positions else 1.0, **options})

    @property
    def observables(self) -> dict[str, Any]:
        """Name of each observable -> its dtype and what it is; of `trace` also its dimension and length."""
        if not self.n_records:
            return dict(_OBSERVABLES)
        size = len(self.record_steps)
        return {**_OBSERVABLES, "trace": ("float32", "loss over the first loss", ("record", size))}

    @property
    def record_steps(self) -> np.ndarray:
        """Steps whose losses `trace` keeps, evenly spread from the first to the last."""
        return np.unique(
            np.linspace(0, self.n_steps - 1, min(self.n_records, self.n_steps)).round().astype(int)
        )

    def settings(self) -> dict[str, Any]:
        """Everything a pixel depends on besides its hyperparameters, as JSON values; task and order by digests."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("task", "members") if self.device == "cpu" else ("task",):
            del own[name]
        order = self.batches(order_seed=self.order_seed, batch_size=self.batch_size)
        return {
            **own,
            "engine": self._run().engine,
            "task": {"name": self.task.name, "window": self.task.window, "sha256": self.task.digest},
            "order_sha256": hashlib.sha256(order.tobytes()).hexdigest(),
        }

    def __call__(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Train n pixels: hyperparameters (n,) in, observables (n,) out, `trace` (n, records)."""
        losses, test = self._train(pixels)
        return self._observe(losses, test)

    def trace(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Losses before every step of n pixels, shape (n, n_steps); inf from divergence on.

        Examples
        --------
        >>> losses = Transformer.tiny(n_steps=5).trace({"lr": np.array([0.01, 1e30])})
        >>> losses.shape, np.isfinite(losses[:, -1])
        ((2, 5), array([ True, False]))
        """
        return self._train(pixels)[0]

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Converged where `tail_ratio` is below `converged_below`; diverged; else undecided."""
        converged = np.asarray(observables["tail_ratio"]) < self.converged_below
        diverged = np.asarray(observables["diverged_step"]) >= 0
        return np.where(diverged, 2, np.where(converged, 1, 3)).astype(np.int8)

    def _train(self, pixels: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Losses before each step, (n, n_steps), and test losses, (n,)."""
        full = self._complete(pixels)
        n = len(full["lr"])
        losses, test = np.empty((n, self.n_steps)), np.empty(n)
        run = self._run()
        for batch_size in np.unique(full["batch_size"]).astype(int):
            mine = np.flatnonzero(full["batch_size"] == batch_size)
            values = {name: value[mine] for name, value in full.items()}
            losses[mine], test[mine] = train_ensembles(
                run, values, self._orders(values), members=run.members(self.members, batch_size)
            )
        return losses, test

    def _observe(self, losses: np.ndarray, test: np.ndarray) -> dict[str, np.ndarray]:
        lost = ~np.isfinite(losses)
        tail = losses[:, -max(1, round(TAIL * self.n_steps)) :]
        first = np.where(lost[:, 0], np.inf, losses[:, 0])
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(lost[:, :1], np.inf, losses / first[:, None])
            tail_ratio = np.where(lost[:, -1], np.inf, tail.mean(axis=1) / first)
        found = {
            "first_loss": first,
            "final_loss": losses[:, -1],
            "min_loss": losses.min(axis=1),
            "tail_ratio": tail_ratio,
            "diverged_step": np.where(lost.any(axis=1), lost.argmax(axis=1), -1).astype(np.int32),
            "test_loss": test,
        }
        if self.n_records:
            with np.errstate(over="ignore"):
                found["trace"] = ratio[:, self.record_steps].astype(np.float32)
        return found
