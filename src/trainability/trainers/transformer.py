"""Decoder-only transformers, one a pixel, trained on sequences in ensembles."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from .._checks import finite, whole
from .._rng import stream
from ._curvature import Sharpness
from ._optimizers import OPTIMIZERS
from ._transformer_model import ACTIVATIONS, GROUPINGS, NORMS, RESIDUALS, Architecture
from ._transformer_probes import norms, sharpness, tangent_growth
from ._transformer_torch import Run, train_ensembles
from .tasks import Task, synthetic_text, text_task

DTYPES = ("float32", "float64")

# Share of a run, at its end, that `tail_ratio` is the mean over: a twentieth, as in the reference.
TAIL = 0.05

_COMMON = ("weight_decay", "warmup", "clip", "batch_size", "seed", "order_seed", "rounding_seed")
_SCALES = (
    "alpha_attn",
    "alpha_mlp",
    "sigma_attn",
    "sigma_mlp",
    "sigma_value",
    "sigma_out",
    "sigma_bias",
    "init_scale",
)
_WHOLE = {"batch_size": 1, "seed": 0, "order_seed": 0, "rounding_seed": -1}  # with the least value of each
_OBSERVABLES = {
    "first_loss": ("float64", "loss of the first batch, before the first step"),
    "final_loss": ("float64", "loss of the last batch, before the last step; inf if diverged"),
    "min_loss": ("float64", "least loss of the run, inf if none was finite"),
    "tail_ratio": ("float64", "mean of the last twentieth of the losses over the first, inf if diverged"),
    "diverged_step": ("int32", "first step with a loss that is not finite or above 1e6 x first, -1 if none"),
    "test_loss": ("float64", "mean loss over held-out windows after the last step, inf if not finite"),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Transformer:
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

    task: Task = dataclasses.field(default_factory=lambda: text_task(window=16))
    d_model: int = 16
    n_layers: int = 2
    n_heads: int = 2
    d_mlp: int | None = None
    causal: bool = True
    norm: str = "pre"
    final_norm: bool | None = None
    residual: str = "one"
    activation: str = "relu"
    positions: bool = True
    embed_std: float | None = None
    optimizer: str = "adam"
    grouping: str = "kind"
    lr: float = 0.01
    lr_attn: float | None = None
    lr_mlp: float | None = None
    lr_embed: float | None = None
    lr_norm: float | None = None
    lr_head: float | None = None
    lr_rest: float | None = None
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.0
    clip: float = 0.0
    batch_size: int = 16
    seed: int = 0
    order_seed: int = 0
    rounding_seed: int = -1
    alpha_attn: float = 1.0
    alpha_mlp: float = 1.0
    sigma_attn: float = 1.0
    sigma_mlp: float = 1.0
    sigma_value: float = 1.0
    sigma_out: float = 1.0
    sigma_bias: float = 0.0
    init_scale: float = 1.0
    n_steps: int = 300
    n_records: int = 0
    converged_below: float = 0.5
    dtype: str = "float32"
    autocast: bool = False
    device: str = "cpu"
    members: int | None = None

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
        names = (*_SCALES[:-1], "activation", "n_heads", "causal", "residual", "norm")
        preset = {name: getattr(init, name) for name in names}
        preset |= {name: getattr(init, name) for name in ("d_model", "d_mlp") if getattr(init, name)}
        positions = options.get("positions", True)
        return cls(**{"task": task, **preset, "embed_std": 0.5**0.5 if positions else 1.0, **options})

    def __post_init__(self) -> None:
        for name, value, known in (
            ("activation", self.activation, ACTIVATIONS),
            ("norm", self.norm, NORMS),
            ("residual", self.residual, RESIDUALS),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("grouping", self.grouping, GROUPINGS),
            ("dtype", self.dtype, DTYPES),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is unknown; use {', '.join(known)}")
        sizes = {name: getattr(self, name) for name in ("d_model", "n_layers", "n_heads", "n_steps")}
        chosen = {name: getattr(self, name) for name in ("d_mlp", "members")}
        whole(1, **sizes, **{name: value for name, value in chosen.items() if value is not None})
        whole(0, n_records=self.n_records)
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} is not a multiple of n_heads={self.n_heads}")
        if not isinstance(self.task, Task):
            raise ValueError(f"task={self.task!r} is not a Task; make one with text_task or copy_task")
        if not self.causal and self.task.next_token:
            raise ValueError(
                f"task {self.task.name!r} asks for tokens that causal=False can see; use causal=True or a task "
                'that scores the last position alone, as text_task(..., predict="last")'
            )
        if self.residual == "normed" and self.norm != "pre":
            raise ValueError(f"residual='normed' needs norm='pre', not {self.norm!r}")
        for name in GROUPINGS["kind"] | GROUPINGS["attention"]:
            if getattr(self, f"lr_{name}") is not None and name not in self.groups:
                raise ValueError(
                    f"lr_{name}: grouping={self.grouping!r} has no group {name!r}; it has {', '.join(self.groups)}"
                )
        if self.embed_std is not None and not (np.isfinite(self.embed_std) and self.embed_std >= 0):
            raise ValueError(f"embed_std={self.embed_std} must be finite and not negative")
        if not np.isfinite(self.converged_below):
            raise ValueError(f"converged_below={self.converged_below} must be finite")
        self._check_device()
        self._complete({"lr": np.array([self.lr])})

    def _check_device(self) -> None:
        try:
            torch.empty(0, device=self.device)
        except (RuntimeError, AssertionError) as error:  # what torch raises depends on how it was built
            raise ValueError(
                f"device={self.device!r} is not there ({str(error).splitlines()[0]}); use 'cpu'"
            ) from None
        if not self.autocast:
            return
        if self.dtype != "float32":
            raise ValueError(f"autocast=True needs dtype='float32', not {self.dtype!r}")
        kind = torch.device(self.device).type
        if not (kind == "cpu" or (kind == "cuda" and torch.cuda.is_bf16_supported())):
            raise ValueError(f"autocast=True: device={self.device!r} does not do bfloat16")

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the parameter groups, each with a learning rate lr_<group>."""
        return tuple(GROUPINGS[self.grouping])

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """Names that can be axes."""
        rates = ("lr", *(f"lr_{group}" for group in self.groups))
        return (*rates, *OPTIMIZERS[self.optimizer], *_COMMON, *_SCALES)

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

    @property
    def n_parameters(self) -> int:
        """Numbers that one member trains."""
        return self.architecture.n_parameters

    @cached_property
    def architecture(self) -> Architecture:
        """Sizes and form of the model."""
        task = self.task
        return Architecture(
            d_model=self.d_model,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            d_mlp=2 * self.d_model if self.d_mlp is None else self.d_mlp,
            window=task.window,
            n_inputs=task.n_inputs,
            n_outputs=task.n_outputs,
            discrete=task.discrete,
            causal=self.causal,
            norm=self.norm,
            final_norm=self.norm == "pre" if self.final_norm is None else self.final_norm,
            residual=self.residual,
            activation=self.activation,
            positions=self.positions,
            embed_std=self.d_model**-0.5 if self.embed_std is None else self.embed_std,
        )

    def settings(self) -> dict[str, Any]:
        """Everything a pixel depends on besides its hyperparameters, as JSON values; task and order by digests."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("task", "members") if self.device == "cpu" else ("task",):
            del own[name]
        order = self.batches(order_seed=self.order_seed, batch_size=self.batch_size)
        return {
            **own,
            "task": {"name": self.task.name, "window": self.task.window, "sha256": self.task.digest},
            "order_sha256": hashlib.sha256(order.tobytes()).hexdigest(),
        }

    def batches(self, *, order_seed: int, batch_size: int, rounding_seed: int = -1) -> np.ndarray:
        """Starts of the windows of each step, shape (n_steps, batch_size).

        Every window comes once before any comes again.

        Examples
        --------
        >>> Transformer(n_steps=10).batches(order_seed=0, batch_size=8).shape
        (10, 8)
        """
        starts, numbers = self.task.starts, stream(order_seed, "batches")
        wanted = self.n_steps * batch_size
        epochs = [numbers.permutation(starts) for _ in range(-(-wanted // len(starts)))]
        order = np.concatenate(epochs)[:wanted].reshape(self.n_steps, batch_size).astype(np.int64)
        if rounding_seed >= 0:
            order = stream(rounding_seed, "rounding").permuted(order, axis=1)
        return order

    def initial_weights(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Parameters of n pixels before training, shape (n, n_parameters), in double precision.

        Examples
        --------
        >>> Transformer.tiny().initial_weights({"seed": np.arange(3)}).shape
        (3, 5837)
        """
        return self.architecture.initial(self._complete(pixels))

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

    def norms(self, pixels: Mapping[str, np.ndarray], *, steps: Sequence[int]) -> dict[str, np.ndarray]:
        """Norms along n runs: `parameter_norm` and `gradient_norm`, (n, len(steps)) each; NaN once diverged.

        Parameters
        ----------
        pixels : mapping of (n,)
        steps : sequence of int
            Steps taken before the measurement, from 0 to n_steps. The gradient is that of the next batch (at the
            end, of the last one).

        Examples
        --------
        >>> found = Transformer.tiny(n_steps=5).norms({"seed": np.arange(2)}, steps=[0, 5])
        >>> found["gradient_norm"].shape
        (2, 2)
        """
        return norms(**self._probed(pixels), steps=self._checked_steps(steps))

    def sharpness(
        self,
        pixels: Mapping[str, np.ndarray],
        *,
        steps: Sequence[int],
        preconditioned: bool = False,
        n_windows: int = 64,
    ) -> Sharpness:
        """Largest eigenvalue of the Hessian of the training loss along n runs.

        By Lanczos' method, without forming the matrix, in double precision at the parameters of the run.

        Parameters
        ----------
        pixels : mapping of (n,)
        steps : sequence of int
            Steps taken before the measurement, from 0 to n_steps.
        preconditioned : bool, optional
            Of P^(-1/2) H P^(-1/2) instead, with P what Adam divides its steps by: √(unbiased mean of g²) + eps. Adam
            with learning rate lr is stable on a quadratic while this is below 2 (1 + beta1) / ((1 - beta1) lr).
        n_windows : int, optional
            Training windows that the loss is the mean over, the same for every run.

        Returns
        -------
        Sharpness
            `value` and `error`, (n, len(steps)): an eigenvalue lies within the error, at most about one part in
            a thousand unless 60 products do not suffice.

        Raises
        ------
        ValueError
            If a step is outside the run, or `preconditioned` is asked for without Adam or before its first step.

        References
        ----------
        Cohen et al., arXiv:2103.00065 and, preconditioned, arXiv:2207.14484.

        Examples
        --------
        >>> trainer = Transformer.tiny(n_steps=5)
        >>> found = trainer.sharpness({"lr": np.array([0.01])}, steps=[0, 5], n_windows=4)
        >>> found.value.shape, bool((found.error < 0.01 * found.value).all())
        ((1, 2), True)
        """
        at = self._checked_steps(steps)
        whole(1, n_windows=n_windows)
        if preconditioned and self.optimizer not in ("adam", "adamw"):
            raise ValueError(f"preconditioned=True needs optimizer='adam' or 'adamw', not {self.optimizer!r}")
        if preconditioned and at.min() < 1:
            raise ValueError(
                "preconditioned=True needs steps of at least 1: before it Adam has no mean square"
            )
        return sharpness(**self._probed(pixels), steps=at, preconditioned=preconditioned, n_windows=n_windows)

    def lyapunov_exponents(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Finite-time Lyapunov exponents of n training runs, shape (n,), in nats per step.

        Mean growth of a small random change of all initial weights over the n_steps steps, or over those before the
        run diverges: positive where a change of a last digit decides the outcome. Carried along by the derivative
        of the step itself (a Hessian-vector product, and the derivative of the optimizer's formula with that of its
        memory), in double precision. NaN for a run that diverges at once. About four times a training run.

        Examples
        --------
        >>> exponents = Transformer.tiny(n_steps=20).lyapunov_exponents({"lr": np.array([1e-4, 0.3])})
        >>> bool(exponents[0] < 0.05 < exponents[1])
        True
        """
        grown = self.tangent_growth(pixels)
        taken = np.isfinite(grown).sum(axis=1)
        last = grown[np.arange(len(grown)), np.maximum(taken, 1) - 1]
        return last / np.maximum(taken, 1)

    def tangent_growth(self, pixels: Mapping[str, np.ndarray]) -> np.ndarray:
        """Log growth of a small change of the weights after each step, shape (n, n_steps), in nats.

        As for `lyapunov_exponents`; NaN from divergence on.

        Examples
        --------
        >>> Transformer.tiny(n_steps=3).tangent_growth({"lr": np.array([0.01])}).shape
        (1, 3)
        """
        return tangent_growth(**self._probed(pixels))

    def status(self, observables: Mapping[str, Any]) -> np.ndarray:
        """Converged where `tail_ratio` is below `converged_below`; diverged; else undecided."""
        converged = np.asarray(observables["tail_ratio"]) < self.converged_below
        diverged = np.asarray(observables["diverged_step"]) >= 0
        return np.where(diverged, 2, np.where(converged, 1, 3)).astype(np.int8)

    def _run(self) -> Run:
        return Run(
            model=self.architecture,
            task=self.task,
            optimizer=self.optimizer,
            groups=GROUPINGS[self.grouping],
            n_steps=self.n_steps,
            dtype=self.dtype,
            device=self.device,
            autocast=self.autocast,
        )

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

    def _probed(self, pixels: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """What the probes of a run take; all pixels must share a batch size."""
        full = self._complete(pixels)
        sizes = np.unique(full["batch_size"]).astype(int)
        if len(sizes) > 1:
            raise ValueError(f"batch_size={sizes.tolist()}: measure runs of one batch size at a time")
        run = self._run()
        # Twice the precision and a graph of the gradient: about eight times the memory of training.
        members = run.members(self.members, 8 * int(sizes[0])) if self.members is None else self.members
        return {
            "run": run,
            "values": full,
            "orders": self._orders(full),
            "members": min(members, len(full["lr"])),
        }

    def _checked_steps(self, steps: Sequence[int]) -> np.ndarray:
        found = np.asarray(steps)
        listed = found.dtype.kind in "iu" and found.ndim == 1 and found.size > 0
        if not (listed and found.min() >= 0 and found.max() <= self.n_steps):
            raise ValueError(f"steps={steps!r} must be whole numbers from 0 to n_steps={self.n_steps}")
        return found

    def _orders(self, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The batches of each pixel; pixels that share them share the array."""
        names = ("order_seed", "batch_size", "rounding_seed")
        keys = list(zip(*(values[name].astype(int).tolist() for name in names), strict=True))
        drawn = {key: self.batches(**dict(zip(names, key, strict=True))) for key in set(keys)}
        return [drawn[key] for key in keys]

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

    def _complete(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fill in the trainer's own values for hyperparameters that are not axes; check all of them."""
        for name in pixels:
            if name not in self.hyperparameters:
                raise ValueError(
                    f"{name!r} is not a hyperparameter of this transformer; with optimizer={self.optimizer!r} and "
                    f"grouping={self.grouping!r} it has {', '.join(self.hyperparameters)}"
                )
        n = len(next(iter(pixels.values())))
        full: dict[str, np.ndarray] = {}
        for name in self.hyperparameters:
            value = pixels.get(name, getattr(self, name))
            value = full["lr"] if value is None else finite(name, value)
            full[name] = np.broadcast_to(value, n)
        for name, (least, most) in self._ranges().items():
            outside = ~((full[name] >= least) & (full[name] <= most))
            if outside.any():
                raise ValueError(f"{name}={full[name][outside][0]:g} must lie in [{least:g}, {most:g}]")
        for name in _WHOLE:
            fraction = full[name] != np.floor(full[name])
            if fraction.any():
                raise ValueError(f"{name}={full[name][fraction][0]:g} must be a whole number")
        return full

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Least and greatest value of each hyperparameter."""
        ranges = dict.fromkeys(self.hyperparameters, (0.0, np.inf))
        ranges |= {name: (float(least), np.inf) for name, least in _WHOLE.items()}
        ranges["batch_size"] = (1.0, float(len(self.task.starts)))
        for name in {"beta1", "beta2", "momentum"} & set(ranges):
            ranges[name] = (0.0, float(np.nextafter(1, 0)))
        if self.residual != "one":
            ranges |= {"alpha_attn": (0.0, 1.0), "alpha_mlp": (0.0, 1.0)}
        return ranges
