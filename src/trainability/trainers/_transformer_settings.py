"""What a transformer that is trained is set to: its fields, their checks, and the values of its pixels."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch

from .._checks import device_is_there, finite, whole
from .._rng import stream
from ._optimizers import OPTIMIZERS
from ._transformer_ensembles import lacks
from ._transformer_model import ACTIVATIONS, GROUPINGS, NORMS, RESIDUALS, Architecture
from ._transformer_torch import Run
from .tasks import Task, text_task

DTYPES = ("float32", "float64")
ENGINES = ("auto", "vector", "torch")

_COMMON = ("weight_decay", "warmup", "clip", "batch_size", "seed", "order_seed", "rounding_seed")
SCALES = (
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


@dataclass(frozen=True, eq=False, kw_only=True)
class TransformerSettings:
    """Fields of `Transformer`, which says what they mean; what every run of it shares, and what a pixel changes."""

    task: Task = field(default_factory=lambda: text_task(window=16))
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
    engine: str = "auto"
    members: int | None = None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("activation", self.activation, ACTIVATIONS),
            ("norm", self.norm, NORMS),
            ("residual", self.residual, RESIDUALS),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("grouping", self.grouping, GROUPINGS),
            ("dtype", self.dtype, DTYPES),
            ("engine", self.engine, ENGINES),
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
        if self.engine == "vector" and (missing := lacks(self._run())):
            raise ValueError(f"engine='vector' has no {missing}; use engine='torch'")

    def _check_device(self) -> None:
        device_is_there(self.device)
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
        return (*rates, *OPTIMIZERS[self.optimizer], *_COMMON, *SCALES)

    @property
    def n_parameters(self) -> int:
        """Numbers that one member trains."""
        return self.architecture.n_parameters

    @property
    def ensemble(self) -> int:
        """Runs trained together: `members`, or the number that its sizes and the free memory give."""
        return self._run().members(self.members, self.batch_size)

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

    def batches(self, *, order_seed: int, batch_size: int, rounding_seed: int = -1) -> np.ndarray:
        """Starts of the windows of each step, shape (n_steps, batch_size).

        Every window comes once before any comes again.

        Examples
        --------
        >>> from trainability.trainers import Transformer
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
        >>> from trainability.trainers import Transformer
        >>> Transformer.tiny().initial_weights({"seed": np.arange(3)}).shape
        (3, 5837)
        """
        return self.architecture.initial(self._complete(pixels))

    def _complete(self, pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Fill in the trainer's own values for hyperparameters that are not axes; check all of them."""
        for name in pixels:
            if name not in self.hyperparameters:
                raise ValueError(
                    f"{name!r} is not a hyperparameter of this transformer; with optimizer={self.optimizer!r} and "
                    f"grouping={self.grouping!r} it has {', '.join(self.hyperparameters)}"
                )
        if not pixels:
            raise ValueError(
                'pixels={} has no hyperparameter, and so no runs; pass at least one, as {"lr": [0.01]}'
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

    def _orders(self, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The batches of each pixel; pixels that share them share the array."""
        names = ("order_seed", "batch_size", "rounding_seed")
        keys = list(zip(*(values[name].astype(int).tolist() for name in names), strict=True))
        drawn = {key: self.batches(**dict(zip(names, key, strict=True))) for key in set(keys)}
        return [drawn[key] for key in keys]

    def _run(self) -> Run:
        run = Run(
            model=self.architecture,
            task=self.task,
            optimizer=self.optimizer,
            groups=GROUPINGS[self.grouping],
            n_steps=self.n_steps,
            dtype=self.dtype,
            device=self.device,
            autocast=self.autocast,
            engine=self.engine,
        )
        if self.engine == "auto":
            run = replace(run, engine="torch" if lacks(run) else "vector")
        return run
